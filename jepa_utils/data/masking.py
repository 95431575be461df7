"""Which patches of an image the context encoder sees, and which are to be predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from jepa_utils.arguments import check_count

__all__ = ["PatchMasks", "coverage", "multiblock_masks", "random_masks"]

REDRAWS = 10


@dataclass(frozen=True, eq=False)
class PatchMasks:
    """Patches of B images by number, row by row from the top left one, which is 0.

    Attributes
    ----------
    context : Tensor of int64, shape (B, Nc)
        Patches that the context encoder sees, ascending.
    targets : Tensor of int64, shape (B, M, Nt)
        Patches of each of the M targets, ascending within a target. Targets of an image may
        overlap.
    """

    context: Tensor
    targets: Tensor


def random_masks(
    batch: int,
    grid: tuple[int, int],
    *,
    share: float = 0.25,
    generator: torch.Generator | None = None,
) -> PatchMasks:
    """Hide a random share of each image's patches: they are its one target, all others its context.

    Parameters
    ----------
    batch : int
        Images B.
    grid : (int, int)
        Patches per column H and per row W.
    share : float, default 0.25
        Share of the patches that is hidden, rounded to whole patches.
    generator : torch.Generator, optional
        Of all draws, which are made on its device; by default torch's global one, on the CPU.

    Returns
    -------
    PatchMasks
        With M = 1, Nt = round(share * H * W) and Nc = H * W - Nt.

    Raises
    ------
    ValueError
        If `batch` or `grid` is below 1, or `share` leaves the context or the target without a
        patch.
    """
    batch, height, width = _checked(batch, grid)
    patches = height * width
    hidden = round(share * patches) if 0 < share < 1 else 0
    if not 0 < hidden < patches:
        raise ValueError(
            f"share must hide at least one of the {patches} patches of grid = {tuple(grid)} "
            f"and leave one, got {share}"
        )
    order = torch.rand(batch, patches, generator=generator, device=_device(generator)).argsort(
        dim=1
    )
    return PatchMasks(
        order[:, hidden:].sort(dim=1).values, order[:, :hidden].sort(dim=1).values.unsqueeze(1)
    )


def multiblock_masks(
    batch: int,
    grid: tuple[int, int],
    *,
    num_targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    aspect_ratio: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
    min_context: int = 4,
    generator: torch.Generator | None = None,
) -> PatchMasks:
    """Blocks to predict from one large block that has them cut out: I-JEPA's masks.

    The size of the target blocks and that of the context block are drawn once per batch, their
    positions for each image, uniformly over all that lie on the grid. Contexts are cut to the
    shortest of the batch by leaving out random patches.

    An image whose context is too small is drawn again, up to 10 times. After that all its targets
    lie where its first one does, and its context is drawn from all other patches.

    Parameters
    ----------
    batch : int
        Images B.
    grid : (int, int)
        Patches per column H and per row W.
    num_targets : int, default 4
        Target blocks per image M.
    target_scale : (float, float), default (0.15, 0.2)
        Least and greatest area of a target block, as a share of the grid. Its sides are rounded to
        whole patches and are at most those of the grid, so that the area is met roughly.
    aspect_ratio : (float, float), default (0.75, 1.5)
        Least and greatest height of a target block, in widths.
    context_scale : (float, float), default (0.85, 1.0)
        Least and greatest area of the context block, as a share of the grid, whose aspect ratio it
        has.
    min_context : int, default 4
        Least number of patches in a context.
    generator : torch.Generator, optional
        Of all draws, which are made on its device; by default torch's global one, on the CPU.

    Returns
    -------
    PatchMasks
        No context holds a patch of its image's targets.

    Raises
    ------
    ValueError
        If a number is below 1, a range does not ascend within its bounds, or the largest target
        block leaves fewer than `min_context` patches.

    References
    ----------
    Assran et al. 2023, arXiv 2301.08243, section 3.
    """
    batch, height, width = _checked(batch, grid)
    patches = height * width
    num_targets = check_count("num_targets", num_targets)
    min_context = check_count("min_context", min_context)
    for name, (low, high) in (("target_scale", target_scale), ("context_scale", context_scale)):
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"{name} must be two shares of the grid, ascending, above 0 and up to 1, "
                f"got {(low, high)}"
            )
    if not 0 < aspect_ratio[0] <= aspect_ratio[1] < math.inf:
        raise ValueError(
            f"aspect_ratio must be two finite numbers above 0, ascending, got {tuple(aspect_ratio)}"
        )
    largest = _largest_block(height, width, target_scale[1] * patches, aspect_ratio)
    if patches - largest < min_context:
        raise ValueError(
            f"min_context must be at most {patches - largest}, as target_scale = "
            f"{tuple(target_scale)} and aspect_ratio = "
            f"{tuple(aspect_ratio)} allow a target of {largest} of the {patches} patches of "
            f"grid = {tuple(grid)}, "
            f"got {min_context}"
        )
    device = _device(generator)
    draws = torch.rand(3, generator=generator, device=device, dtype=torch.float64).tolist()
    scale, aspect, share = (
        low + (high - low) * draw
        for (low, high), draw in zip(
            (target_scale, aspect_ratio, context_scale), draws, strict=True
        )
    )
    block = (
        _side(math.sqrt(scale * patches * aspect), height),
        _side(math.sqrt(scale * patches / aspect), width),
    )
    field = _side(math.sqrt(share) * height, height), _side(math.sqrt(share) * width, width)

    def draw(rows: int) -> tuple[Tensor, Tensor]:
        targets = _blocks(rows, num_targets, height, width, block, generator)
        fields = _blocks(rows, 1, height, width, field, generator)
        seen = torch.zeros(rows, patches, dtype=torch.bool, device=device)
        return targets, seen.scatter_(1, fields.flatten(1), True).scatter_(
            1, targets.flatten(1), False
        )

    targets, seen = draw(batch)
    for _ in range(REDRAWS):
        short = (seen.sum(1) < min_context).nonzero().squeeze(1)
        if not len(short):
            break
        targets[short], seen[short] = draw(len(short))
    short = seen.sum(1) < min_context
    targets = torch.where(short[:, None, None], targets[:, :1], targets)
    seen = torch.where(
        short[:, None], torch.ones_like(seen).scatter_(1, targets[:, 0], False), seen
    )

    length = int(seen.sum(1).min())
    keys = torch.rand(batch, patches, generator=generator, device=device).masked_fill_(~seen, -1.0)
    return PatchMasks(keys.topk(length, dim=1).indices.sort(dim=1).values, targets)


def coverage(masks: PatchMasks, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """How often each patch was seen, and how often it was to be predicted.

    Parameters
    ----------
    masks : PatchMasks
        Of B images.
    grid : (int, int)
        Patches per column H and per row W.

    Returns
    -------
    context, target : Tensor, shape (H, W)
        Shares of the images, in [0, 1]. A patch in several targets of an image counts once.

    Raises
    ------
    ValueError
        If `grid` is below 1 or has fewer patches than the masks name.
    """
    _, height, width = _checked(len(masks.context), grid)
    last = max(int(masks.context.max()), int(masks.targets.max()))
    if last >= height * width:
        raise ValueError(
            f"grid must be the one of the masks, which name patch {last}, got {tuple(grid)}"
        )

    def shares(patches: Tensor) -> Tensor:
        return (
            torch.zeros(len(patches), height * width, device=patches.device)
            .scatter_(1, patches, 1.0)
            .mean(0)
        )

    return shares(masks.context).view(height, width), shares(masks.targets.flatten(1)).view(
        height, width
    )


def _checked(batch: int, grid: tuple[int, int]) -> tuple[int, int, int]:
    batch = check_count("batch", batch)
    if (
        not isinstance(grid, (tuple, list))
        or len(grid) != 2
        or any(
            isinstance(side, bool) or not isinstance(side, Integral) or side < 1 for side in grid
        )
    ):
        raise ValueError(f"grid must be two whole numbers of at least 1, (H, W), got {grid!r}")
    return batch, int(grid[0]), int(grid[1])


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _side(length: float, longest: int) -> int:
    return min(max(math.floor(length + 0.5), 1), longest)


def _largest_block(height: int, width: int, area: float, aspect_ratio: tuple[float, float]) -> int:
    """Most patches of a block of up to this area: the widest for each height."""
    lowest, highest = (math.sqrt(area * aspect) for aspect in aspect_ratio)
    slack = 1e-9  # a side on the border between two whole numbers may be rounded either way
    heights = range(_side(lowest, height), _side(highest + slack, height) + 1)
    return max(h * _side(area / max(h - 0.5, lowest) + slack, width) for h in heights)


def _blocks(
    rows: int,
    count: int,
    height: int,
    width: int,
    block: tuple[int, int],
    generator: torch.Generator | None,
) -> Tensor:
    """Patches (rows, count, h * w) of blocks at random positions."""
    device = _device(generator)
    tops = torch.randint(
        height - block[0] + 1, (rows, count, 1), generator=generator, device=device
    )
    lefts = torch.randint(
        width - block[1] + 1, (rows, count, 1), generator=generator, device=device
    )
    down, across = torch.arange(block[0], device=device), torch.arange(block[1], device=device)
    return tops * width + lefts + (down.unsqueeze(1) * width + across).flatten()
