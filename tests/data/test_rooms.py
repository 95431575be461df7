"""No step leads through the wall, pictures show where things are, and the shortest way is one."""

import math
import subprocess
import sys
import time

import pytest
import torch

from jepa_utils.data.rooms import DOORS, WALLS, Rooms

ROOMS = Rooms()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def boxes(layouts: torch.Tensor, rooms: Rooms):
    """Faces of the drawn wall and jambs of the drawn door."""
    wall, door = layouts.unbind(-1)
    w, d = rooms.thickness / 2, rooms.door / 2
    return wall - w, wall + w, door - d, door + d


def fits(positions: torch.Tensor, layouts: torch.Tensor, rooms: Rooms, slack: float = 1e-6):
    """Whether an upright square overlaps neither the wall nor the outside, by its four edges."""
    left, right, top, bottom = boxes(layouts, rooms)
    low, high = positions - rooms.radius + slack, positions + rooms.radius - slack
    beside = (high[..., 0] <= left) | (low[..., 0] >= right)
    in_door = (low[..., 1] >= top) & (high[..., 1] <= bottom)
    return (low >= 0).all(-1) & (high <= 1).all(-1) & (beside | in_door)


def clear(starts: torch.Tensor, ends: torch.Tensor, layouts: torch.Tensor, rooms: Rooms):
    """Whether the square fits all along a segment: at its ends, and where it passes the wall."""
    left, right, _, _ = boxes(layouts, rooms)
    moved = ends - starts
    good = fits(starts, layouts, rooms) & fits(ends, layouts, rooms)
    # In a room and in the doorway the free places are convex: only the faces' lines remain.
    for face in (left - rooms.radius, right + rooms.radius):
        share = (face - starts[..., 0]) / moved[..., 0]
        passes = (share > 0) & (share < 1)
        at = starts + share.clamp(0, 1).nan_to_num(0)[..., None] * moved
        inward = torch.where(face < layouts[..., 0], 1e-7, -1e-7)
        at = torch.stack([face + inward, at[..., 1]], dim=-1)
        good &= ~passes | fits(at, layouts, rooms)
    return good


def trial(rooms: Rooms, number: int = 20_000, steps: int = 5, dtype=torch.float64):
    """Moves by random actions, long and short, oblique and straight, also from where dots stand."""
    g = seeded()
    layouts = torch.cat([rooms.layouts(number, g), rooms.layouts(number, g, held_out=True)])
    layouts = layouts.to(dtype)
    place = rooms.random_positions(layouts, g)
    for _ in range(steps):
        actions = torch.randn(2 * number, 2, generator=g, dtype=dtype)
        straight = torch.rand(2 * number, 2, generator=g) < 0.1
        actions = torch.where(straight, 0, actions)
        after = rooms.step(place, actions, layouts)
        yield place, actions, after, layouts
        place = after


# ---- motion


@pytest.mark.parametrize(
    "rooms",
    [
        ROOMS,
        Rooms(max_step=0.4, radius=0.03, thickness=0.07, door=0.21),
        Rooms(max_step=3.0, radius=0.01, thickness=0.001),
    ],
)
def test_no_step_leads_through_the_wall_and_none_stops_early(rooms):
    for before, actions, after, layouts in trial(rooms, number=7000):
        moves = rooms.max_step * actions / actions.norm(dim=1, keepdim=True).clamp(min=1)
        shares = torch.where(moves == 0, 1, (after - before) / moves)  # of the move, per axis
        assert (after[moves == 0] == before[moves == 0]).all()
        assert ((shares >= -1e-9) & (shares <= 1 + 1e-9)).all()
        # Straight to the first contact, then along one axis.
        contact = before + shares.amin(dim=1, keepdim=True) * moves
        assert clear(before, contact, layouts, rooms).all()
        assert clear(contact, after, layouts, rooms).all()
        # The axis that was stopped first was blocked at the contact, the other one at the end.
        first = shares.argmin(dim=1)
        for axis, at in ((first, contact), (1 - first, after)):
            pick = axis[:, None]
            stopped = shares.gather(1, pick)[:, 0] < 1 - 1e-6
            nudge = torch.zeros_like(moves).scatter(1, pick, moves.gather(1, pick).sign() * 1e-5)
            assert not fits(at + nudge, layouts, rooms, slack=1e-9)[stopped].any()


def test_single_precision_moves_as_double_does():
    for before, actions, after, layouts in trial(Rooms(max_step=0.4), dtype=torch.float32):
        assert after.dtype == torch.float32 and fits(after, layouts, ROOMS).all()
        exact = Rooms(max_step=0.4).step(before.double(), actions.double(), layouts.double())
        off = (after - exact).abs().amax(dim=1)
        assert (off > 1e-4).double().mean() < 1e-4  # on a corner, a rounding decides


@pytest.mark.parametrize("side", [-1, 1])
def test_a_dot_on_a_face_that_is_rounded_cannot_slip_in(side):
    layouts = ROOMS.layouts(20_000, seeded())
    face = layouts[:, 0] + side * (ROOMS.thickness / 2 + ROOMS.radius)
    y = ROOMS.random_positions(layouts, seeded(1))[:, 1]
    behind = (y - layouts[:, 1]).abs() > ROOMS.door / 2
    place = torch.stack([face, y], dim=1)[behind]
    place[:, 0] += 4e-7 * torch.randn(len(place), generator=seeded(2))
    for angle in (0.0, 0.1, -0.1, 1.5):
        action = torch.tensor([-side * math.cos(angle), math.sin(angle)])
        after = ROOMS.step(place, action, layouts[behind])
        assert ((after[:, 0] - face[behind]).abs() < 1e-6).all()


def test_a_dot_on_a_jamb_that_is_rounded_stays_there():
    layouts = ROOMS.layouts(20_000, seeded())
    gap = ROOMS.door / 2 - ROOMS.radius
    x = layouts[:, 0] + 0.06 * (torch.rand(len(layouts), generator=seeded(1)) - 0.5)
    for way in (-1.0, 1.0):
        jamb = layouts[:, 1] + way * gap
        y = jamb + 4e-7 * torch.randn(len(layouts), generator=seeded(2))
        after = ROOMS.step(torch.stack([x, y], dim=1), torch.tensor([0.1, way / 2]), layouts)
        expected = torch.stack([x + 0.1 * ROOMS.max_step, jamb], dim=1)
        assert (after - expected).abs().max() < 1e-6


def test_free_steps_are_the_action_and_long_actions_are_shortened():
    layout, place = ROOMS.fixed_layout()[0], torch.tensor([0.2, 0.5])
    for action in ([0.6, -0.3], [0.0, 1.0], [0.0, 0.0]):
        after = ROOMS.step(place, torch.tensor(action), layout)
        assert torch.allclose(after, place + ROOMS.max_step * torch.tensor(action))
    after = ROOMS.step(place, torch.tensor([-30.0, 40.0]), layout)
    assert torch.allclose(after - place, ROOMS.max_step * torch.tensor([-0.6, 0.8]), atol=1e-6)


def test_the_border_keeps_the_dot_inside_and_lets_it_slide():
    layout, place = ROOMS.fixed_layout()[0], torch.tensor([0.06, 0.5])
    after = ROOMS.step(place, torch.tensor([-0.8, 0.6]), layout)
    assert after.tolist() == pytest.approx([ROOMS.radius, 0.5 + 0.6 * ROOMS.max_step])
    for x in (-1.0, 1.0):
        for y in (-1.0, 1.0):
            place = torch.tensor([0.25 if x < 0 else 0.75, 0.5])
            for _ in range(30):
                place = ROOMS.step(place, torch.tensor([x, y]), layout)
            corner = [ROOMS.radius if s < 0 else 1 - ROOMS.radius for s in (x, y)]
            assert place.tolist() == pytest.approx(corner)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_door_is_passed_in_both_directions(held_out):
    layouts = ROOMS.layout_grid(held_out)
    for x, towards in ((0.1, 1.0), (0.9, -1.0)):
        place = torch.stack([torch.full((len(layouts),), x), layouts[:, 1]], dim=1)
        assert (ROOMS.room_of(place, layouts) == (towards < 0)).all()
        for _ in range(12):
            place = ROOMS.step(place, torch.tensor([towards, 0.0]), layouts)
        assert torch.allclose(place[:, 0], torch.tensor(0.5 + towards * (0.5 - ROOMS.radius)))
        assert (ROOMS.room_of(place, layouts) == (towards > 0)).all()


def test_is_free_agrees_with_the_squares_edges():
    layouts = ROOMS.layouts(50_000, seeded())
    places = torch.rand(50_000, 2, generator=seeded(1))
    expected = fits(places, layouts, ROOMS, slack=1e-5)
    assert torch.equal(ROOMS.is_free(places, layouts), expected)
    left = layouts[:, 0] - ROOMS.thickness / 2 - ROOMS.radius
    on_face = torch.stack([left, torch.full_like(left, 0.5)], dim=1)
    assert ROOMS.is_free(on_face, layouts).all()
    assert not ROOMS.is_free(torch.tensor([math.nan, 0.5]), layouts).any()


def test_shapes_are_broadcast():
    layouts = ROOMS.layouts(3, seeded())[:, None]
    place = ROOMS.random_positions(layouts.expand(3, 5, 2), seeded(1))
    action = torch.tensor([1.0, 0.5])
    after = ROOMS.step(place, action, layouts)
    assert after.shape == (3, 5, 2)
    for i in range(3):
        for j in range(5):
            assert torch.equal(after[i, j], ROOMS.step(place[i, j], action, layouts[i, 0]))
    assert ROOMS.render(place, layouts).shape == (3, 5, 2, 32, 32)
    assert ROOMS.is_free(place, layouts).shape == ROOMS.room_of(place, layouts).shape == (3, 5)
    assert ROOMS.shortest_path(place, place[:, :1], layouts).shape == (3, 5)


# ---- layouts


def test_held_out_layouts_are_new_pairs_of_known_walls_and_doors():
    train, test = ROOMS.layout_grid(), ROOMS.layout_grid(held_out=True)
    pairs = [{tuple(row) for row in grid.tolist()} for grid in (train, test)]
    assert pairs[0] & pairs[1] == set()
    assert pairs[0] | pairs[1] == {(wall, door) for wall in WALLS for door in DOORS}
    assert (len(train), len(test)) == (61, 16)
    for grid in (train, test):
        assert set(grid[:, 0].tolist()) == set(WALLS) and set(grid[:, 1].tolist()) == set(DOORS)


@pytest.mark.parametrize("held_out", [False, True])
def test_all_layouts_of_a_side_are_drawn_and_none_of_the_other(held_out):
    drawn = ROOMS.layouts(4000, seeded(), held_out=held_out)
    count = {}
    for row in drawn.tolist():
        count[tuple(row)] = count.get(tuple(row), 0) + 1
    grid = ROOMS.layout_grid(held_out)
    assert set(count) == {tuple(row) for row in grid.tolist()}
    assert max(count.values()) < 3 * min(count.values())


def test_the_fixed_layout_is_one_for_training():
    fixed = ROOMS.fixed_layout(4)
    assert fixed.shape == (4, 2) and (fixed == fixed[0]).all()
    assert fixed[0].tolist() == [16 / 32, 10 / 32]
    assert fixed[0].tolist() in ROOMS.layout_grid().tolist()


# ---- walks


@pytest.fixture(scope="module")
def walks():
    """100,000 moves, and the seconds that they took."""
    start = time.process_time()
    found = ROOMS.random_walks(ROOMS.layouts(2500, seeded()), 40, seeded(1))
    return found, time.process_time() - start


def test_walks_are_quick_and_what_step_says(walks):
    found, seconds = walks
    assert seconds < 5
    assert found.positions.shape == (2500, 41, 2) and found.actions.shape == (2500, 40, 2)
    layouts = found.layouts[:, None]
    again = ROOMS.step(found.positions[:, :-1], found.actions, layouts)
    assert torch.equal(again, found.positions[:, 1:])
    assert fits(found.positions, layouts, ROOMS).all()


def test_walks_often_pass_the_door_and_come_everywhere(walks):
    found, _ = walks
    layouts = found.layouts[:, None]
    room = ROOMS.room_of(found.positions, layouts)
    assert (room != room[:, :1]).any(dim=1).float().mean() > 0.15
    edge = ROOMS.radius + 1e-4
    at_border = ((found.positions < edge) | (found.positions > 1 - edge)).any(dim=-1)
    assert 0.01 < at_border.float().mean() < 0.15
    cells = (found.positions.flatten(0, 1) * 8).long()
    count = torch.bincount(cells[:, 0] * 8 + cells[:, 1], minlength=64).view(8, 8)
    inner = count[1:-1, 1:-1]
    assert inner.min() > inner.max() / 4 and count.min() > inner.max() / 8


def test_walks_keep_their_heading_unless_something_blocks_them(walks):
    found, _ = walks
    speed = found.actions.norm(dim=-1)
    assert speed.min() >= 0.25 and speed.max() <= 1 + 1e-6
    assert speed.mean().item() == pytest.approx(0.625, abs=0.01)
    heading = found.actions / speed[..., None]
    moved = found.positions.diff(dim=1)
    short = (moved - ROOMS.max_step * found.actions).abs() > 1e-5
    turned = torch.where(short, -heading, heading)[:, :-1]
    ahead = (turned * heading[:, 1:]).sum(dim=-1)
    assert short.any(dim=-1).float().mean() > 0.03
    assert ahead.mean().item() == pytest.approx(math.exp(-0.5 * 0.3**2), abs=0.005)
    first = found.actions[:, 0]
    assert (first.mean(dim=0).abs() < 0.05).all()  # no direction is preferred


def test_places_are_drawn_evenly_from_all_that_are_free():
    layouts = ROOMS.layouts(1, seeded()).expand(60_000, 2)
    places = ROOMS.random_positions(layouts, seeded(1))
    assert fits(places, layouts, ROOMS).all()
    cell = torch.rand(400_000, 2, generator=seeded(2))
    cell = cell[fits(cell, layouts[:1].expand(len(cell), 2), ROOMS)]

    def share(points: torch.Tensor) -> torch.Tensor:
        place = (points * 16).long()
        return torch.bincount(place[:, 0] * 16 + place[:, 1], minlength=256) / len(points)

    assert (share(places) - share(cell)).abs().max() < 0.0012
    left, right, _, _ = (edge[0] for edge in boxes(layouts, ROOMS))
    for face in (left - ROOMS.radius, right + ROOMS.radius):
        beside = [(points[:, 0] < face).float().mean() for points in (places, cell)]
        assert abs(beside[0] - beside[1]) < 0.007


def test_generators_repeat_and_differ_and_leave_the_global_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    layouts = [ROOMS.layouts(20, seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(layouts[0], layouts[1]) and not torch.equal(layouts[0], layouts[2])
    first, again, other = (ROOMS.random_walks(layouts[0], 5, seeded(seed)) for seed in (0, 0, 1))
    for name in ("positions", "actions"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert torch.equal(torch.rand(3), expected)


# ---- pictures


@pytest.mark.parametrize("size", [32, 48, 65])
def test_the_blobs_centre_is_the_dots_place(size):
    rooms = Rooms(size=size)
    layouts = rooms.layouts(500, seeded())
    places = 0.2 + 0.6 * torch.rand(500, 2, generator=seeded(1))
    images = rooms.render(places, layouts)
    assert images.shape == (500, 2, size, size) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    dot, middles = images[:, 0], torch.arange(size) + 0.5
    mass = dot.sum(dim=(1, 2))
    x, y = (dot.sum(dim=1) * middles).sum(1) / mass, (dot.sum(dim=2) * middles).sum(1) / mass
    assert (torch.stack([x, y], dim=1) - places * size).abs().max() < 0.1
    spread = ((dot.sum(dim=1) * (middles - x[:, None]).square()).sum(1) / mass).sqrt()
    assert torch.allclose(spread, torch.tensor(rooms.radius * size), rtol=0.02)
    assert dot.amax(dim=(1, 2)).min() > 0.75  # its peak of 1 lies between pixels


@pytest.mark.parametrize("size", [32, 48, 65])
def test_the_wall_is_drawn_where_the_dot_stops(size):
    rooms = Rooms(size=size)
    layouts = rooms.layout_grid()
    number = len(layouts)
    wall = rooms.render(torch.full((number, 2), 0.1), layouts)[:, 1].double()
    across = wall.amax(dim=1)  # of a row without door
    up = wall.amax(dim=2) / across.amax(dim=1, keepdim=True)  # of a column within the wall
    line = torch.arange(size)[None]
    # Edges in pixels, from how much the pixels that they lie in are covered.
    left = (across > 1e-6).int().argmax(dim=1)
    left = left + 1 - across.gather(1, left[:, None])[:, 0]
    right = left + across.sum(dim=1)
    top = torch.where(line < layouts[:, 1:] * size, up, 0).sum(dim=1)
    bottom = size - torch.where(line >= layouts[:, 1:] * size, up, 0).sum(dim=1)
    wide = rooms.radius * size
    behind = torch.where(layouts[:, 1] < 0.5, 0.9, 0.1)  # a height without door
    for start, towards, edge in ((0.1, 1.0, left - wide), (0.9, -1.0, right + wide)):
        place = torch.stack([torch.full((number,), start), behind], dim=1)
        for _ in range(15):
            place = rooms.step(place, torch.tensor([towards, 0.0]), layouts)
        assert (place[:, 0] * size - edge).abs().max() < 1e-3
    for towards, edge in ((-1.0, top + wide), (1.0, bottom - wide)):
        place = layouts
        for _ in range(5):
            place = rooms.step(place, torch.tensor([0.0, towards]), layouts)
        assert (place[:, 1] * size - edge).abs().max() < 1e-3


def test_at_32_pixels_walls_have_sharp_edges():
    layouts = torch.cat([ROOMS.layout_grid(), ROOMS.layout_grid(held_out=True)])
    wall = ROOMS.render(torch.full((len(layouts), 2), 0.5), layouts)[:, 1]
    assert ((wall == 0) | (wall == 1)).all()
    assert (wall.sum(dim=(1, 2)) == 2 * (32 - 8)).all()


# ---- the truth


def measured(start, goal, layout, rooms: Rooms, points: int = 801) -> float:
    """The shortest way over all heights at which it may pass the wall's two faces."""
    left, right, top, bottom = (edge.item() for edge in boxes(layout, rooms))
    left, right = left - rooms.radius, right + rooms.radius
    start, goal = sorted((start.tolist(), goal.tolist()))
    if goal[0] <= left or start[0] >= right:
        return math.dist(start, goal)
    height = torch.linspace(top + rooms.radius, bottom - rooms.radius, points).double()

    def face(x: float, end: list[float], outside: bool) -> torch.Tensor:
        at = torch.stack([torch.full_like(height, x), height], dim=1)
        return at if outside else torch.tensor([end]).double()

    a, b = face(left, start, start[0] < left), face(right, goal, goal[0] > right)
    first = (a - torch.tensor(start)).norm(dim=1)[:, None]
    last = (b - torch.tensor(goal)).norm(dim=1)[None]
    return (first + torch.cdist(a, b) + last).min().item()


def test_shortest_path_is_the_least_over_all_ways():
    layouts = ROOMS.layouts(150, seeded()).double()
    starts, goals = (ROOMS.random_positions(layouts, seeded(seed)) for seed in (1, 2))
    for k in range(40):  # more of those that start or end in the door
        starts[k] = layouts[k] + torch.tensor([0.02, 0.03]) * (-1) ** k
        goals[k] = layouts[k] - torch.tensor([0.07, 0.06]) if k % 4 == 0 else goals[k]
    found = ROOMS.shortest_path(starts, goals, layouts)
    expected = [measured(*each, ROOMS) for each in zip(starts, goals, layouts, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    straight = (starts - goals).norm(dim=1)
    assert 0.2 < (found > straight + 1e-6).double().mean() < 0.8  # both kinds are here
    assert torch.equal(found, ROOMS.shortest_path(goals, starts, layouts))


def test_crosses_is_what_many_places_on_the_way_say():
    layouts = ROOMS.layouts(20_000, seeded())
    starts, goals = (ROOMS.random_positions(layouts, seeded(seed)) for seed in (1, 2))
    found = ROOMS.crosses(starts, goals, layouts)
    share = torch.linspace(0, 1, 65)[:, None, None]
    blocked = ~fits(starts + share * (goals - starts), layouts, ROOMS).all(dim=0)
    assert not (blocked & ~found).any()
    assert (found & ~blocked).float().mean() < 0.01  # grazes a corner between two places
    assert 0.2 < found.float().mean() < 0.6
    upright = torch.stack([layouts[:, 0], 1 - ROOMS.radius + 0 * layouts[:, 0]], dim=1)
    assert ROOMS.crosses(layouts, upright, layouts).all()
    aside = layouts * torch.tensor([1.0, 0.0]) + torch.tensor([0.2, 0.1])
    assert not ROOMS.crosses(aside, aside + torch.tensor([0.0, 0.8]), layouts).any()
    assert not ROOMS.crosses(layouts, layouts + torch.tensor([0.0, 0.07]), layouts).any()


# ---- errors


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(size=8), "size.*8"),
        (dict(size=32.0), "size.*32.0"),
        (dict(thickness=0.0), "thickness.*0.0"),
        (dict(thickness=0.3), "thickness.*0.3"),
        (dict(door=0.09), "door.*0.09"),
        (dict(door=0.4), "door.*0.4"),
        (dict(radius=-0.1), "radius.*-0.1"),
        (dict(max_step=math.inf), "max_step.*inf"),
        (dict(max_step=math.nan), "max_step.*nan"),
        (dict(reach=0.0), "reach.*0.0"),
    ],
)
def test_rooms_reject_numbers_out_of_range(change, words):
    with pytest.raises(ValueError, match=words):
        Rooms(**change)


FREE, MOVE, LAYOUT = torch.tensor([0.2, 0.5]), torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
INSIDE = torch.tensor([0.5, 0.1])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: ROOMS.step(torch.zeros(3), MOVE, LAYOUT), r"positions.*\(3,\)"),
        (lambda: ROOMS.step(FREE, torch.tensor(1.0), LAYOUT), r"actions.*\(\)"),
        (lambda: ROOMS.step(FREE, MOVE, torch.tensor([1, 2])), "layouts.*int64"),
        (lambda: ROOMS.step(FREE, MOVE.double(), LAYOUT), "one type.*float64"),
        (lambda: ROOMS.step(FREE.expand(3, 2), MOVE.expand(4, 2), LAYOUT), r"broadcast.*\(4, 2\)"),
        (lambda: ROOMS.step(FREE, MOVE / 0, LAYOUT), "actions must be finite"),
        (lambda: ROOMS.step(INSIDE, MOVE, LAYOUT), r"positions must be free.*\[0.5, 0.1"),
        (lambda: ROOMS.step(torch.tensor([0.01, 0.5]), MOVE, LAYOUT), "positions must be free"),
        (lambda: ROOMS.shortest_path(INSIDE, FREE, LAYOUT), "starts must be free"),
        (lambda: ROOMS.shortest_path(FREE, INSIDE, LAYOUT), "goals must be free"),
        (lambda: ROOMS.render(torch.zeros(2, 3), LAYOUT), r"positions.*\(2, 3\)"),
        (lambda: ROOMS.layouts(0, seeded()), "number.*0"),
        (lambda: ROOMS.fixed_layout(0), "number.*0"),
        (lambda: ROOMS.random_positions(LAYOUT + 0.5, seeded()), r"layouts.*\[1.0, 1.0\]"),
        (lambda: ROOMS.random_walks(LAYOUT, 3, seeded()), r"layouts.*\(2,\)"),
        (lambda: ROOMS.random_walks(LAYOUT[None], 0, seeded()), "length.*0"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_rooms_do_not_need_gymnasium():
    code = "import sys, jepa_utils.data.rooms, jepa_utils.data.pendulum; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "jepa_utils.data.rooms" in done.stdout and "gymnasium" not in done.stdout
