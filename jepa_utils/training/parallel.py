"""One batch over several processes: which rows are this one's, and how much its loss counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jepa_utils.objectives._distributed import BatchGroup, gather, is_distributed, join, total


def batch_group(rows: int, device: torch.device) -> BatchGroup:
    """The ranks of a batch of which this one has `rows`; but one where there is one process."""
    if not is_distributed():
        return BatchGroup(0, (rows,))
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    counts[dist.get_rank()] = rows
    dist.all_reduce(counts)
    return BatchGroup(dist.get_rank(), tuple(counts.tolist()))


def own_rows(x: Tensor, group: BatchGroup) -> Tensor:
    """This rank's rows of a whole batch."""
    return x[group.first : group.first + group.counts[group.rank]]


def whole_batch(x: Tensor, group: BatchGroup) -> Tensor:
    """The rows of all ranks; integers and booleans without gradient."""
    if group.ranks == 1:
        return x
    rows = x.long() if x.dtype == torch.bool else x
    return (
        gather(rows.flatten(1) if x.dim() > 1 else rows[:, None], group)
        .view(-1, *x.shape[1:])
        .to(x.dtype)
    )


def weighted(loss: Tensor, group: BatchGroup) -> Tensor:
    """A mean over this rank's rows, so weighted that the ranks' mean is that of all rows."""
    if group.ranks == 1:
        return loss
    return loss * (group.counts[group.rank] * group.ranks / group.total)


def batch_value(function: Callable[..., Tensor], *rows: Tensor, group: BatchGroup, **options):
    """Value of a loss for the whole batch, whose ranks' mean has the whole batch's gradient.

    One that is marked ``distributed = True`` sees to that itself; of any other it is assumed that
    it is a mean over rows.
    """
    value = function(*rows, **options)
    return value if getattr(function, "distributed", False) else weighted(value, group)


def per_rank(count: Tensor) -> Tensor:
    """What to divide a sum by, so that the ranks' mean of it is the mean over the whole batch."""
    if not is_distributed():
        return count
    count = count.clone()
    dist.all_reduce(count)
    return count / dist.get_world_size()


def raise_together(problem: str | None) -> None:
    """Raise ValueError on all processes where one of them has a problem with its part."""

    def check(_):
        if problem is not None:
            raise ValueError(problem)
        return {}, {}

    join(check)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation with the moments of the whole batch, on any device."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not is_distributed():
            return super().forward(x)
        group = batch_group(len(x), x.device)
        mean = total(x.sum(dim=0), group) / group.total
        centred = x - mean
        variance = total(centred.square().sum(dim=0), group) / group.total
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * (group.total / (group.total - 1))
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
