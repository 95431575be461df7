"""One batch that is spread over several processes: its sizes, its errors, its sums.

A function with ``distributed = True`` returns on every rank the value of one process with the
concatenated batch. Its local gradient is multiplied by the number of ranks, so that the average
that DistributedDataParallel takes is the gradient of that one process.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

# Batches that one loss may compare; the report of every rank has one length, even of a failed one.
_BATCHES = 2


@dataclass(frozen=True)
class BatchGroup:
    """The ranks that share one batch, and how many of its samples each of them has."""

    rank: int
    counts: tuple[int, ...]

    @property
    def ranks(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def largest(self) -> int:
        """Samples on the fullest rank: sets the chunks, so that all ranks make as many calls."""
        return max(self.counts)

    @property
    def first(self) -> int:
        """Where the samples of this rank begin in the concatenated batch."""
        return sum(self.counts[: self.rank])


Checked = tuple[dict[str, Tensor], dict[str, object]]


_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Measure here what all ranks have: nothing inside is shared with the other processes."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def is_distributed() -> bool:
    """Whether there are other processes to share a batch with."""
    return (
        not _alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    )


def join(check: Callable[[int], Checked]) -> tuple[list[Tensor], list[BatchGroup | None]]:
    """Check what this rank was given, and raise what is wrong with any rank's part on all of them.

    Parameters
    ----------
    check : callable of int
        Gets the least number of samples that a batch must have here, and returns the batches
        (..., N, D) by name and the settings that all ranks must share, or raises.

    Returns
    -------
    list of Tensor, list of BatchGroup or None
        The batches, and the group of each: None where there is but one process.

    Raises
    ------
    TypeError, ValueError
        On every rank, if `check` raises on one of them, if shapes, dtypes or settings differ
        between ranks, or if a batch has fewer than two samples on all of them together.
    """
    if not is_distributed():
        batches, _ = check(2)
        return list(batches.values()), [None] * len(batches)
    rank, ranks = dist.get_rank(), dist.get_world_size()
    counts, words, error = [], "", None
    try:
        batches, settings = check(0)
        counts = [x.shape[-2] for x in batches.values()]
        kinds = {name: _kind(x) for name, x in batches.items()}
        words = ", ".join(f"{name} {value}" for name, value in (kinds | settings).items())
    except (TypeError, ValueError) as raised:
        error = raised
    # failed, a checksum of what must be equal, samples of each batch
    report = [error is not None, zlib.crc32(words.encode()), *counts]
    reports = torch.zeros(ranks, 2 + _BATCHES, dtype=torch.int64, device=_device())
    reports[rank, : len(report)] = torch.tensor(report, dtype=torch.int64)
    dist.all_reduce(reports)
    failed, checksums, *counts = reports.T.tolist()
    if any(failed) or len(set(checksums)) > 1:
        _raise_on_all(error, words)
    groups = [BatchGroup(rank, tuple(n)) for n, _ in zip(counts, batches, strict=False)]
    for name, group in zip(batches, groups, strict=True):
        if group.total < 2:
            raise ValueError(
                f"{name} needs at least 2 samples on all ranks together, got {group.total}"
            )
    return list(batches.values()), groups


def _kind(x: Tensor) -> str:
    axes = ", ".join([*map(str, x.shape[:-2]), "N", str(x.shape[-1])])
    gradient = " with gradient" if x.requires_grad and torch.is_grad_enabled() else ""
    return f"({axes}) {x.dtype}{gradient}"


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _raise_on_all(error: Exception | None, words: str) -> None:
    parts = [None] * dist.get_world_size()
    dist.all_gather_object(parts, (isinstance(error, TypeError), error and str(error), words))
    for rank, (is_type, text, _) in enumerate(parts):
        if text is not None:
            kind = TypeError if is_type else ValueError
            raise kind(f"{text} (on rank {rank} of {len(parts)})") from error
    given = "; ".join(f"rank {rank}: {words}" for rank, (*_, words) in enumerate(parts))
    raise ValueError(f"all ranks must be given equal shapes and settings, got {given}")


class _Sum(torch.autograd.Function):
    """Sum over ranks; its backward sums over them, too."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> Tensor:
        return _Sum.apply(grad_output)


def total(x: Tensor, group: BatchGroup | None) -> Tensor:
    """Sum of `x` over the ranks."""
    return x if group is None else _Sum.apply(x)


def gather(x: Tensor, group: BatchGroup | None) -> Tensor:
    """Samples (..., N, D) of all ranks, in their order; gradients flow back to whose they are."""
    if group is None:
        return x
    before, after = group.first, group.total - group.first - x.shape[-2]
    return _Sum.apply(torch.nn.functional.pad(x, (0, 0, before, after)))


def covariance(name: str, points: Tensor, group: BatchGroup | None) -> Tensor:
    """Covariance (..., D, D) of samples (..., N, D), over the samples of all ranks.

    A ValueError names the samples, on all ranks, where it or its square overflows.
    """
    count = points.shape[-2] if group is None else group.total
    centred = points - total(points.sum(dim=-2, keepdim=True), group) / count
    moments = total(centred.transpose(-1, -2) @ centred, group) / (count - 1)
    if not torch.isfinite(moments.square().sum()):
        raise ValueError(
            f"{name} must be small enough for squared covariances in {points.dtype}, "
            f"got one of {float(moments.detach().abs().max()):.2g}"
        )
    return moments
