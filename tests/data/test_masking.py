"""Masks are rectangular, never give a target away, and every place of the grid gets its turn."""

import dataclasses
import math
import time

import pytest
import torch

from jepa_utils.data import masking
from jepa_utils.data.masking import PatchMasks, coverage, multiblock_masks, random_masks

GRIDS = [(8, 8), (4, 4), (14, 14), (8, 6), (6, 9), (2, 3), (3, 2), (1, 12), (5, 1)]
NASTY = [
    ((4, 4), dict(num_targets=8)),
    ((4, 4), dict(num_targets=50, min_context=12)),
    ((8, 8), dict(target_scale=(0.5, 0.7), num_targets=8)),
    ((8, 8), dict(target_scale=(0.85, 0.85), aspect_ratio=(1.0, 1.0), min_context=15)),
    ((8, 8), dict(context_scale=(0.01, 0.01), min_context=30)),
    ((2, 3), dict(num_targets=20, min_context=5)),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def only(scale, aspect=1.0):
    """Settings that allow one size of target block."""
    return dict(target_scale=(scale, scale), aspect_ratio=(aspect, aspect))


def sides(targets, width):
    """Heights, widths, tops and lefts of target blocks, after checking that they are full rectangles."""
    rows, columns = targets // width, targets % width
    tops, lefts = rows.amin(-1), columns.amin(-1)
    heights, widths = rows.amax(-1) - tops + 1, columns.amax(-1) - lefts + 1
    assert (heights * widths == targets.shape[-1]).all()
    return heights, widths, tops, lefts


def check(masks, batch, grid, num_targets):
    """Shapes, types, range, order, and that no target is in its context."""
    patches = math.prod(grid)
    assert masks.context.dtype == masks.targets.dtype == torch.int64
    assert masks.context.shape[0] == batch and masks.context.dim() == 2
    assert masks.targets.shape[:2] == (batch, num_targets) and masks.targets.dim() == 3
    for numbers in (masks.context, masks.targets):
        assert numbers.shape[-1] > 0 and 0 <= int(numbers.min()) and int(numbers.max()) < patches
        assert (numbers.diff(dim=-1) > 0).all()
    hidden = torch.zeros(batch, patches).scatter_(1, masks.targets.flatten(1), 1.0)
    assert hidden.gather(1, masks.context).sum() == 0


def same(one, other):
    return torch.equal(one.context, other.context) and torch.equal(one.targets, other.targets)


# ---- random
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.2, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("grid", GRIDS)
def test_random_masks_split_the_patches(grid, share):
    for seed in range(5):
        masks = random_masks(7, grid, share=share, generator=seeded(seed))
        check(masks, 7, grid, 1)
        assert masks.targets.shape[2] == round(share * math.prod(grid))
        both = torch.cat([masks.context, masks.targets[:, 0]], 1).sort(1).values
        assert torch.equal(both, torch.arange(math.prod(grid)).expand(7, -1))


def test_random_masks_hide_a_quarter_by_default_and_each_patch_as_often():
    masks = random_masks(8000, (8, 6), generator=seeded())
    context, target = coverage(masks, (8, 6))
    assert masks.targets.shape == (8000, 1, 12)
    assert (
        torch.allclose(context + target, torch.ones(8, 6)) and (target - 0.25).abs().max() < 0.025
    )  # 5 standard errors
    assert len(masks.targets[:100].unique(dim=0)) == 100  # each image its own


# ---- blocks
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
def test_blocks_on_any_grid(grid):
    for seed in range(20):
        masks = multiblock_masks(9, grid, num_targets=3, generator=seeded(seed))
        check(masks, 9, grid, 3)
        heights, widths, _, _ = sides(masks.targets, grid[1])
        assert len(heights.unique()) == len(widths.unique()) == 1
        assert masks.context.shape[1] >= 4


@pytest.mark.parametrize("grid, settings", NASTY)
def test_it_ends_and_leaves_a_context(grid, settings):
    start = time.perf_counter()
    for seed in range(20):
        masks = multiblock_masks(32, grid, generator=seeded(seed), **settings)
        check(masks, 32, grid, settings.get("num_targets", 4))
        sides(masks.targets, grid[1])
        assert masks.context.shape[1] >= settings.get("min_context", 4)
    assert time.perf_counter() - start < 5  # 0.1 to 0.5 s on an idle core


@pytest.mark.parametrize(
    "grid, scale, aspect, expected",
    [
        ((8, 8), 0.15, 1.0, (3, 3)),
        ((8, 8), 0.2, 1.0, (4, 4)),
        ((8, 8), 0.2, 1.5, (4, 3)),
        ((8, 8), 0.15, 0.75, (3, 4)),
        ((8, 8), 0.25, 4.0, (8, 2)),
        ((4, 4), 0.2, 1.5, (2, 1)),
        ((14, 14), 0.2, 1.5, (8, 5)),
        ((8, 6), 0.5, 1.5, (6, 4)),
        ((2, 30), 0.2, 1.0, (2, 3)),  # taller than the grid
        ((30, 2), 0.2, 1.0, (3, 2)),
        ((4, 4), 0.001, 1.0, (1, 1)),
    ],
)
def test_size_of_a_target_block(grid, scale, aspect, expected):
    masks = multiblock_masks(5, grid, generator=seeded(), **only(scale, aspect))
    heights, widths, _, _ = sides(masks.targets, grid[1])
    assert (int(heights[0, 0]), int(widths[0, 0])) == expected


def test_sizes_vary_from_batch_to_batch_within_scale_and_aspect_ratio():
    seen = set()
    for seed in range(300):
        masks = multiblock_masks(1, (8, 8), generator=seeded(seed))
        heights, widths, _, _ = sides(masks.targets, 8)
        seen.add((int(heights[0, 0]), int(widths[0, 0])))
    assert (
        {(3, 3), (3, 4), (4, 3)} <= seen <= {(3, 3), (3, 4), (4, 3), (4, 4)}
    )  # 9.6 to 12.8 patches, sides up to 4.38


def test_area_is_met_on_a_fine_grid():
    for seed in range(20):
        masks = multiblock_masks(1, (64, 64), generator=seeded(seed))
        heights, widths, _, _ = sides(masks.targets, 64)
        assert 0.14 < masks.targets.shape[2] / 64**2 < 0.21
        assert 0.7 < float(heights[0, 0] / widths[0, 0]) < 1.6


@pytest.mark.parametrize(
    "grid, scale, block",
    [((8, 8), 0.25, (4, 4)), ((8, 4), 0.25, (4, 2)), ((14, 14), 0.5, (10, 10))],
)
def test_the_context_lies_in_a_block_of_its_size(grid, scale, block):
    context = multiblock_masks(
        500,
        grid,
        num_targets=1,
        context_scale=(scale, scale),
        min_context=1,
        generator=seeded(),
        **only(0.005),
    ).context
    rows, columns = context // grid[1], context % grid[1]
    assert int((rows.amax(1) - rows.amin(1)).max()) + 1 == block[0]
    assert int((columns.amax(1) - columns.amin(1)).max()) + 1 == block[1]
    assert (
        context.shape[1] == math.prod(block) - 1
    )  # less a target of one patch; a batch this large has one that was hit


def test_all_but_the_targets_is_context_when_its_block_is_the_grid():
    masks = multiblock_masks(
        50, (8, 8), num_targets=1, context_scale=(1.0, 1.0), generator=seeded()
    )
    assert masks.context.shape[1] + masks.targets.shape[2] == 64


@pytest.mark.parametrize(
    "grid, scale, aspect",
    [((8, 8), 0.15, 1.0), ((4, 4), 0.2, 1.5), ((8, 6), 0.2, 0.75), ((2, 3), 0.2, 1.0)],
)
def test_blocks_are_uniform_over_all_positions(grid, scale, aspect):
    masks = multiblock_masks(
        3000, grid, num_targets=2, min_context=1, generator=seeded(), **only(scale, aspect)
    )
    heights, widths, tops, lefts = sides(masks.targets, grid[1])
    places = grid[0] - int(heights[0, 0]) + 1, grid[1] - int(widths[0, 0]) + 1
    counts = torch.bincount(
        (tops * places[1] + lefts).flatten(), minlength=math.prod(places)
    ).double()
    assert len(counts) == math.prod(places) and counts.min() > 0
    expected = 6000 / len(counts)
    freedom = len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < freedom + 4 * math.sqrt(2 * freedom)
    assert (tops[:, 0] != tops[:, 1]).any()  # each target has a place of its own


@pytest.mark.parametrize("grid", [(8, 8), (4, 4), (14, 14), (8, 6), (2, 3)])
def test_every_patch_is_context_and_target(grid):
    draw = seeded()
    shares = [coverage(multiblock_masks(64, grid, generator=draw), grid) for _ in range(40)]
    context, target = (torch.stack(part).mean(0) for part in zip(*shares, strict=True))
    assert context.min() > 0.01 and target.min() > 0.01


def test_contexts_favour_no_side():
    draw = seeded()
    shares = [coverage(multiblock_masks(64, (8, 8), generator=draw), (8, 8)) for _ in range(150)]
    for part in zip(*shares, strict=True):
        share = torch.stack(part).mean(0)
        for mirrored in (share.flip(0), share.flip(1)):
            assert (share - mirrored).abs().max() < 0.03  # 9600 images: 4 standard errors


def test_contexts_are_cut_to_the_shortest():
    masks = multiblock_masks(64, (8, 8), generator=seeded())
    alone = [64 - len(row.unique()) for row in masks.targets.flatten(1)]
    assert masks.context.shape[1] <= min(alone) < max(alone)


# ---- too little context
# --------------------------------------------------------------------------------------------------


def share_in_one_place(**settings):
    targets = multiblock_masks(2000, (4, 4), generator=seeded(), **only(0.2), **settings).targets
    return float((targets == targets[:, :1]).all(-1).all(-1).float().mean())


def test_images_are_drawn_again_before_their_targets_are_put_in_one_place(monkeypatch):
    few, many = share_in_one_place(min_context=6), share_in_one_place(num_targets=12, min_context=9)
    assert few < 0.02 and many > 0.9
    monkeypatch.setattr(masking, "REDRAWS", 0)
    assert share_in_one_place(min_context=6) > few + 0.2


def test_in_one_place_the_context_is_all_the_rest():
    masks = multiblock_masks(
        300, (8, 8), context_scale=(0.01, 0.01), min_context=48, generator=seeded(), **only(0.2)
    )
    assert (masks.targets == masks.targets[:, :1]).all() and masks.context.shape[1] == 48
    _, target = coverage(masks, (8, 8))
    assert target.min() > 0  # that place is drawn


def test_min_context_is_possible_up_to_the_largest_target():
    for aspect in [(1.0, 1.0), (0.5, 2.0), (0.75, 1.5), (1e-6, 1e6)]:
        for scale in (0.1, 0.2, 0.37):
            settings = dict(num_targets=1, target_scale=(scale / 2, scale), aspect_ratio=aspect)
            with pytest.raises(ValueError, match=r"min_context must be at most \d+") as error:
                multiblock_masks(1, (6, 7), min_context=42, **settings)
            most = int(str(error.value).split("at most ")[1].split(",")[0])
            draws = [
                multiblock_masks(1, (6, 7), min_context=most, generator=seeded(i), **settings)
                for i in range(60)
            ]
            assert max(masks.targets.shape[2] for masks in draws) <= 42 - most
            with pytest.raises(ValueError, match="min_context"):
                multiblock_masks(1, (6, 7), min_context=most + 1, **settings)


# ---- draws
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [random_masks, multiblock_masks])
def test_draws_come_from_the_generator_or_from_torch(masks):
    state = torch.get_rng_state()
    first = masks(16, (8, 8), generator=seeded(3))
    assert torch.equal(torch.get_rng_state(), state)  # a generator leaves the global one alone
    assert same(first, masks(16, (8, 8), generator=seeded(3))) and not same(
        first, masks(16, (8, 8), generator=seeded(4))
    )
    one = seeded(3)
    masks(16, (8, 8), generator=one)
    assert not same(first, masks(16, (8, 8), generator=one))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = masks(16, (8, 8)), masks(16, (8, 8))
        torch.manual_seed(5)
        assert same(first, masks(16, (8, 8))) and not same(first, second)


def test_a_batch_takes_milliseconds():
    times = []
    for seed in range(20):
        start = time.perf_counter()
        multiblock_masks(256, (8, 8), generator=seeded(seed))
        times.append(time.perf_counter() - start)
    assert sorted(times)[5] < 0.05  # 1 ms on an idle core


# ---- coverage
# ------------------------------------------------------------------------------------------------------------


def test_coverage_by_hand():
    masks = PatchMasks(
        torch.tensor([[0, 1], [0, 5]]), torch.tensor([[[3, 4], [4, 5]], [[1, 2], [1, 2]]])
    )
    context, target = coverage(masks, (2, 3))
    assert context.tolist() == [[1.0, 0.5, 0.0], [0.0, 0.0, 0.5]]
    assert target.tolist() == [[0.0, 0.5, 0.5], [0.5, 0.5, 0.5]]  # patch 4 counts once


def test_coverage_rejects_another_grid():
    masks = random_masks(100, (4, 4), generator=seeded())
    with pytest.raises(ValueError, match=r"grid.*patch 15.*\(3, 5\)"):
        coverage(masks, (3, 5))
    with pytest.raises(ValueError, match="grid"):
        coverage(masks, (0, 4))


def test_masks_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        random_masks(1, (2, 2)).context = None


# ---- errors
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [random_masks, multiblock_masks])
@pytest.mark.parametrize("batch", [0, -1, 2.0])
def test_batch_must_be_positive(masks, batch):
    with pytest.raises(ValueError, match=f"batch.*{batch}"):
        masks(batch, (8, 8))


@pytest.mark.parametrize("masks", [random_masks, multiblock_masks])
@pytest.mark.parametrize("grid", [(0, 8), (8, -1), (8,), (8, 8, 8), 8, (8.0, 8)])
def test_grid_must_be_two_positive_numbers(masks, grid):
    with pytest.raises(ValueError, match="grid must be two"):
        masks(2, grid)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, 0.01, 0.99, math.nan])
def test_share_must_leave_both_sides_a_patch(share):
    with pytest.raises(ValueError, match=f"share.*16 patches.*got {share}"):
        random_masks(2, (4, 4), share=share)


def test_one_patch_cannot_be_split():
    with pytest.raises(ValueError, match="share.*1 patches"):
        random_masks(2, (1, 1))


@pytest.mark.parametrize("name", ["target_scale", "context_scale"])
@pytest.mark.parametrize(
    "value", [(0.0, 0.2), (0.2, 0.1), (0.5, 1.1), (-0.1, 0.2), (math.nan, 0.2)]
)
def test_scales_must_ascend_within_the_grid(name, value):
    with pytest.raises(ValueError, match=f"{name} must be two shares"):
        multiblock_masks(2, (8, 8), **{name: value})


@pytest.mark.parametrize("value", [(0.0, 1.0), (1.5, 0.75), (1.0, math.inf), (math.nan, 1.0)])
def test_aspect_ratio_must_ascend(value):
    with pytest.raises(ValueError, match="aspect_ratio must be two finite"):
        multiblock_masks(2, (8, 8), aspect_ratio=value)


@pytest.mark.parametrize("name", ["num_targets", "min_context"])
@pytest.mark.parametrize("value", [0, -2, 1.5])
def test_counts_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} must be an integer.*got {value}"):
        multiblock_masks(2, (8, 8), **{name: value})


@pytest.mark.parametrize(
    "grid, settings", [((2, 2), {}), ((1, 1), {}), ((8, 8), dict(target_scale=(0.1, 1.0)))]
)
def test_min_context_must_be_possible(grid, settings):
    with pytest.raises(
        ValueError, match="min_context must be at most.*target_scale.*aspect_ratio.*grid.*got 4"
    ):
        multiblock_masks(2, grid, **settings)
