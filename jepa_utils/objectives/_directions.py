"""Directions on which a cloud of embeddings is looked at: given ones checked, random ones drawn."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from jepa_utils.arguments import check_count
from jepa_utils.objectives._distributed import is_distributed


def check_directions(
    directions: Tensor | None, num_slices: int, dimensions: int
) -> int | tuple[int, int]:
    """What all ranks must share: the shape of given directions, or how many are to be drawn."""
    if directions is None:
        return check_count("num_slices", num_slices)
    if not isinstance(directions, Tensor) or not directions.dtype.is_floating_point:
        kind = directions.dtype if isinstance(directions, Tensor) else type(directions).__name__
        raise TypeError(
            f"directions must be a floating-point tensor of shape (D, num_slices), got {kind}"
        )
    if directions.dim() != 2 or directions.shape[0] != dimensions or directions.shape[1] == 0:
        raise ValueError(
            f"directions must have shape (D, num_slices) with D = {dimensions} and num_slices > 0, "
            f"got {tuple(directions.shape)}"
        )
    lengths = _lengths(directions.detach().float())
    if not ((lengths - 1).abs() < 1e-2).all():  # half-precision columns are this far off
        worst = float(lengths[(lengths - 1).abs().argmax()])
        raise ValueError(
            f"directions must have columns of length 1, got a column of length {worst:.4g}"
        )
    return tuple(directions.shape)


def directions_for(
    points: Tensor, directions: Tensor | None, num_slices: int, generator: torch.Generator | None
) -> Tensor:
    """The given directions as constants, or random ones, for points (..., D)."""
    if directions is not None:
        return directions.detach().to(points)
    return random_directions(points.shape[-1], num_slices, points, generator)


def random_directions(
    dimensions: int, num_slices: int, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Unit columns (D, num_slices), the same on every rank: one seed is drawn, rank 0's is used."""
    source = "cpu" if generator is None else generator.device
    seed = torch.randint(2**62, (1,), generator=generator, device=source)
    if is_distributed():
        seed = seed.to(like.device)
        dist.broadcast(seed, src=0)
    local = torch.Generator(device=like.device).manual_seed(int(seed))
    directions = torch.randn(
        dimensions, num_slices, generator=local, device=like.device, dtype=like.dtype
    )
    return directions.div_(_lengths(directions))


def _lengths(columns: Tensor) -> Tensor:
    # ten times faster on a CPU than torch.linalg.vector_norm, which walks down each column
    return columns.square().sum(dim=0).sqrt_()
