"""The processes that one batch is spread over."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


@dataclass(frozen=True)
class BatchGroup:
    """The processes that share one batch."""

    ranks: int
    total: int  # samples over all ranks
    # samples on the fullest rank: sets the chunks, so that every rank makes the same number of
    # calls
    largest: int

    @staticmethod
    def of(n: int, device: torch.device) -> BatchGroup | None:
        """The group that the caller's `n` samples belong to; None where it is alone."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return None
        counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
        counts[dist.get_rank()] = n
        dist.all_reduce(counts)
        return BatchGroup(ranks=len(counts), total=int(counts.sum()), largest=int(counts.max()))


def covariance(points: Tensor) -> Tensor:
    """Covariance (..., D, D) of samples (..., N, D), over the samples of all processes; its backward sums over them."""
    n = points.shape[-2]
    group = BatchGroup.of(n, points.device)
    count = n if group is None else group.total
    total = (lambda x: x) if group is None else all_reduce
    centred = points - total(points.sum(dim=-2, keepdim=True)) / count
    return total(centred.transpose(-1, -2) @ centred) / (count - 1)
