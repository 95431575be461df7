"""The spiral is the curve it says, the lift undoes, and partners are who they should be."""

import math

import pytest
import torch

from jepa_utils.data.spiral import curve_neighbours, space_neighbours, spiral

PI = math.pi


@pytest.mark.parametrize("start, stop", [(1.5 * PI, 4.5 * PI), (0.0, 2.0), (PI, 9 * PI)])
def test_plane_lies_on_the_curve_with_unit_spread(start, stop):
    s = spiral(20_000, start=start, stop=stop, dimensions=3)
    assert s.t.min() >= start and s.t.max() <= stop
    assert s.t.mean().item() == pytest.approx((start + stop) / 2, rel=0.02)  # even between the two
    assert s.t.std().item() == pytest.approx((stop - start) / math.sqrt(12), rel=0.02)
    radius = s.plane.norm(dim=1)
    scale = (radius / s.t).median()
    assert torch.allclose(radius, scale * s.t, rtol=1e-5)
    angle = torch.atan2(s.plane[:, 1], s.plane[:, 0])
    turns = ((angle - s.t) / (2 * PI))[s.t > 0.01]
    assert torch.allclose(turns, turns.round(), atol=1e-5)
    assert s.plane.double().var(dim=0).mean().item() == pytest.approx(1, rel=0.02)


def test_default_is_one_and_a_half_turns():
    t = spiral(5000).t
    assert (t.max() - t.min()).item() == pytest.approx(3 * PI, rel=1e-2)


@pytest.mark.parametrize("dimensions", [2, 50])
def test_lift_is_orthonormal_and_undoes_itself(dimensions):
    s = spiral(300, noise=0.0, dimensions=dimensions)
    assert s.points.shape == (300, dimensions) and s.lift.shape == (dimensions, 2)
    assert torch.allclose(s.lift.T @ s.lift, torch.eye(2), atol=1e-6)
    assert torch.allclose(s.points @ s.lift, s.plane, atol=1e-5)
    assert torch.allclose(s.points.norm(dim=1), s.plane.norm(dim=1), rtol=1e-5)


@pytest.mark.parametrize("noise", [0.05, 0.4])
def test_noise_is_the_same_in_every_direction(noise):
    s = spiral(4000, noise=noise)
    inside = s.points @ s.lift - s.plane
    outside = s.points - s.points @ s.lift @ s.lift.T
    assert inside.std().item() == pytest.approx(noise, rel=0.05)
    assert (outside.square().sum() / (48 * len(outside))).sqrt().item() == pytest.approx(
        noise, rel=0.01
    )
    assert inside.mean().abs() < 0.05 * noise


def test_seeds_repeat_and_differ():
    first, again, other, turned = (
        spiral(50),
        spiral(50),
        spiral(50, seed=1),
        spiral(50, lift_seed=1),
    )
    assert all(
        torch.equal(getattr(first, name), getattr(again, name))
        for name in ("t", "plane", "points", "lift")
    )
    assert torch.equal(first.lift, other.lift) and not torch.equal(first.t, other.t)
    assert torch.equal(first.t, turned.t) and not torch.allclose(first.lift, turned.lift)


def test_drawing_leaves_the_global_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    curve_neighbours(spiral(50).t, width=PI)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(count=1), "count=1"),
        (dict(dimensions=1), "dimensions=1"),
        (dict(noise=-0.1), "noise.*-0.1"),
        (dict(start=-1.0), "start=-1.0"),
        (dict(start=2.0, stop=2.0), "stop=2.0"),
    ],
)
def test_spiral_rejects_numbers_out_of_range(change, words):
    with pytest.raises(ValueError, match=words):
        spiral(**dict(count=10) | change)


# ---- partners along the curve
# --------------------------------------------------------------------------------------------


def test_partners_are_near_on_the_curve_and_never_the_point_itself():
    t = spiral(500).t
    partners = curve_neighbours(t, width=0.3, count=20)
    assert partners.shape == (500, 20) and partners.dtype == torch.int64
    assert ((t[partners] - t[:, None]).abs() <= 0.3).all()
    assert (partners != torch.arange(500)[:, None]).all()


def test_every_allowed_partner_is_drawn_equally_often():
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    t = order.double()  # not sorted
    partners = curve_neighbours(t, width=2.0, count=3000)
    for i in range(12):
        allowed = [j for j in range(12) if j != i and abs(t[i] - t[j]) <= 2]
        drawn = torch.bincount(partners[i], minlength=12)
        assert drawn.nonzero().flatten().tolist() == allowed
        assert drawn[allowed].double().div(3000).tolist() == pytest.approx(
            [1 / len(allowed)] * len(allowed), abs=0.05
        )


def test_equal_numbers_are_partners_of_each_other():
    t = torch.tensor([5.0, 1, 5, 1, 5])
    partners = curve_neighbours(t, width=0.5, count=200)
    assert [set(row.tolist()) for row in partners] == [{2, 4}, {3}, {0, 4}, {1}, {0, 2}]


def test_the_draw_follows_its_seed():
    t = spiral(100).t
    first, again, other = (curve_neighbours(t, width=1.0, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.shape == (100, 16)


def test_a_point_without_partner_is_an_error():
    with pytest.raises(ValueError, match="width.*0.5: 2 have none"):
        curve_neighbours(torch.tensor([0.0, 0.1, 3.0, 9.0]), width=0.5)


@pytest.mark.parametrize(
    "t, change, words",
    [
        (torch.zeros(3, 2), {}, r"t must.*\(3, 2\)"),
        (torch.zeros(3), dict(width=0.0), "width=0.0"),
        (torch.zeros(3), dict(width=-1.0), "width=-1.0"),
        (torch.zeros(3), dict(count=0), "count=0"),
    ],
)
def test_curve_neighbours_reject_bad_input(t, change, words):
    with pytest.raises(ValueError, match=words):
        curve_neighbours(t, **dict(width=1.0) | change)


# ---- partners in space
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [3, 50])  # a tree, and brute force
def test_space_neighbours_equal_all_distances_sorted(dimensions):
    points = spiral(300, noise=0.3, dimensions=dimensions).points
    distances = torch.cdist(points.double(), points.double()).fill_diagonal_(math.inf)
    found = space_neighbours(points, count=7)
    assert found.dtype == torch.int64
    assert torch.equal(found, distances.argsort(dim=1)[:, :7])
    assert space_neighbours(points).shape == (300, 16)


@pytest.mark.parametrize("dimensions", [3, 50])
@pytest.mark.parametrize("copies", [2, 4, 40])
def test_duplicates_are_partners_but_a_point_is_never_its_own(dimensions, copies):
    g = torch.Generator().manual_seed(0)
    points = torch.randn(30, dimensions, generator=g).repeat_interleave(copies, dim=0)
    points = points[torch.randperm(len(points), generator=g)]
    found = space_neighbours(points, count=6)
    assert (found != torch.arange(len(points))[:, None]).all()
    assert all(len(set(row)) == 6 for row in found.tolist())
    x = points.double()
    expected = torch.cdist(x, x).fill_diagonal_(math.inf).sort(dim=1).values[:, :6]
    assert torch.allclose((x[:, None] - x[found]).norm(dim=2), expected, atol=1e-6)


def test_all_but_the_point_itself_may_be_asked_for():
    found = space_neighbours(torch.randn(5, 2), count=4)
    assert [sorted(row) for row in found.tolist()] == [
        [j for j in range(5) if j != i] for i in range(5)
    ]


@pytest.mark.parametrize(
    "points, count, words",
    [
        (torch.zeros(5), 2, r"points.*\(5,\)"),
        (torch.zeros(2, 5, 2), 1, r"points.*\(2, 5, 2\)"),
        (torch.zeros(5, 2), 5, "count=5"),
        (torch.zeros(5, 2), 0, "count=0"),
    ],
)
def test_space_neighbours_reject_bad_input(points, count, words):
    with pytest.raises(ValueError, match=words):
        space_neighbours(points, count=count)
