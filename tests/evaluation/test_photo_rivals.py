"""Canonical correlations, gradients, colours and codes, on pairs and pictures of which the truth is known."""

import math

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA as SklearnCCA

from jepa_utils.evaluation.photo_rivals import (
    CCA,
    fit_cca,
    gradients_and_colours,
    gradients_and_colours_of_places,
    patch_codes,
    word_counts,
)

# ---- canonical correlations


def pairs(count, seed, noise=0.1):
    """Features (N, 12) and counts (N, 3, 9) that share four numbers, beside louder ones of their own."""
    draw = torch.Generator().manual_seed(0)
    look, say = torch.randn(4, 12, generator=draw), torch.randn(4, 9, generator=draw)
    own = torch.randn(2, 12, generator=draw), torch.randn(2, 9, generator=draw)
    draw = torch.Generator().manual_seed(seed)
    shared = torch.randn(count, 4, generator=draw)
    features = shared @ look + 3 * torch.randn(count, 2, generator=draw) @ own[0] + 5
    lines = shared @ say + 3 * torch.randn(count, 2, generator=draw) @ own[1] - 2
    features += noise * torch.randn(count, 12, generator=draw)
    lines = lines.unsqueeze(1) + noise * torch.randn(count, 3, 9, generator=draw)
    return features, lines


def test_directions_are_those_of_the_slow_way():
    """Scikit-learn's CCA, which has no ridge, goes from one direction to the next."""
    (x, lines), held_out = pairs(400, 1), pairs(50, 2)
    y = lines.mean(dim=1)
    fitted = fit_cca(x, y, held_out, ridges=(1e-7,), dimensions=(4,), powers=(0.0,))
    slow = SklearnCCA(4, scale=False, max_iter=5000, tol=1e-10).fit(x.numpy(), y.numpy())
    wanted = slow.transform(x.numpy(), y.numpy())
    found = fitted.embed_pictures(x).numpy(), fitted.embed_sentences(y).numpy()
    for one, other in zip(found, wanted, strict=True):
        for number in range(4):
            same = np.corrcoef(one[:, number], other[:, number])[0, 1]
            assert abs(same) > 0.999, number
        assert one.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-3)
        assert np.cov(one.T, bias=True) == pytest.approx(np.eye(4), abs=1e-2)  # white
    for number in range(4):
        both = np.corrcoef(found[0][:, number], found[1][:, number])[0, 1]
        truth = np.corrcoef(wanted[0][:, number], wanted[1][:, number])[0, 1]
        assert both == pytest.approx(truth, abs=1e-3) and both > 0.9


def test_a_power_weighs_directions_by_their_correlation():
    (x, lines), held_out = pairs(400, 1, noise=1.5), pairs(50, 2, noise=1.5)
    how = dict(ridges=(1e-7,), dimensions=(9,))
    plain, weighted = (fit_cca(x, lines.mean(dim=1), held_out, powers=(p,), **how) for p in (0, 2))
    white = plain.embed_pictures(x), plain.embed_sentences(lines.mean(dim=1))
    correlations = (white[0] * white[1]).mean(dim=0)
    assert correlations[0] > correlations[-1] + 0.3
    for name in ("pictures", "sentences"):
        before, after = getattr(plain, name)[1], getattr(weighted, name)[1]
        torch.testing.assert_close(
            (after / before).abs().mean(dim=0), correlations.square(), atol=5e-3, rtol=0
        )


def test_pairs_are_found_and_shuffled_pairs_are_not():
    (x, lines), new = pairs(300, 1), pairs(60, 2)
    scores = fit_cca(x, lines.mean(dim=1), new).recalls(*new)
    assert set(scores) == {
        f"{w} @{k}" for w in ("text to image", "image to text") for k in (1, 5, 10)
    }
    assert min(scores.values()) > 0.7 and scores["text to image @10"] > 0.95
    other = lines[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    shuffled = fit_cca(x, other.mean(dim=1), new).recalls(*new)
    assert shuffled["text to image @10"] < 0.4  # of 60 a sixth by chance
    strangers = new[0], new[1].roll(7, 0)
    assert fit_cca(x, lines.mean(dim=1), new).recalls(*strangers)["text to image @1"] < 0.1


def test_each_photograph_has_its_own_sentences():
    """The first two pictures are found by their own sentences; the third's mean the first."""
    eye = torch.eye(12)
    same = CCA((torch.zeros(12), eye), (torch.zeros(12), eye), {})
    lines = eye.unsqueeze(1).repeat(1, 2, 1)
    lines[2] = eye[0]
    scores = same.recalls(eye, lines)
    assert scores["text to image @1"] == pytest.approx(11 / 12)


def test_the_setting_is_what_the_pictures_held_out_chose():
    x, lines = pairs(60, 1, noise=2.0)
    counts, new = lines.mean(dim=1), pairs(80, 3, noise=2.0)
    ridges, dimensions, powers = (1e-3, 1.0), (1, 4), (0.0, 2.0)
    chosen = fit_cca(x, counts, new, ridges=ridges, dimensions=dimensions, powers=powers)
    scores = {}
    for ridge in ridges:
        for d in dimensions:
            for p in powers:
                one = fit_cca(x, counts, new, ridges=(ridge,), dimensions=(d,), powers=(p,))
                assert one.setting == {"ridges": (ridge, ridge), "dimensions": d, "power": p}
                scores[ridge, d, p] = one.recalls(*new)["text to image @10"]
    best = chosen.recalls(*new)["text to image @10"]
    assert best >= max(scores.values()) > min(scores.values())  # both sides may have one ridge
    # Pictures that say nothing of one direction choose another number of them.
    only = new[0][:, :1].expand(-1, 12), new[1]
    assert fit_cca(x, counts, only, ridges=ridges).recalls(*only)["text to image @10"] < best


def test_components_bound_each_side_and_the_seed_repeats_them():
    (x, lines), new = pairs(100, 1), pairs(20, 2)
    before = torch.get_rng_state()
    one, two = (fit_cca(x, lines.mean(dim=1), new, components=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.pictures[1], two.pictures[1])
    assert one.pictures[1].shape == (12, 3) and torch.linalg.matrix_rank(one.sentences[1]) == 3
    torch.testing.assert_close(one.pictures[0], x.mean(dim=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(counts=torch.zeros(9, 9)), r"features must be \(N, D\) and counts \(N, V\), got \("),
        (dict(counts=torch.zeros(10, 3, 9)), r"features must be \(N, D\) and counts"),
        (dict(ridges=(0.1, 0.0)), r"ridges must be positive, one at least, got \(0.1, 0.0\)"),
        (dict(ridges=()), "ridges must be positive, one at least"),
        (dict(dimensions=()), r"dimensions and powers must be one at least, got \(\) and"),
        (dict(powers=()), "dimensions and powers must be one at least"),
        (dict(held_out=(torch.zeros(4, 12), torch.zeros(4, 9))), r"held_out must be \(M, D\) and"),
        (
            dict(held_out=(torch.zeros(4, 12), torch.zeros(5, 3, 9))),
            r"held_out must be \(M, D\) and \(M, C, V\), got \(4, 12\) and \(5, 3, 9\)",
        ),
        (
            dict(held_out=(torch.zeros(4, 11), torch.zeros(4, 3, 9))),
            "held_out must be as wide as features and counts, 12 and 9, got 11 and 9",
        ),
    ],
)
def test_what_cannot_be_correlated(change, message):
    x, lines = pairs(10, 1)
    given = dict(features=x, counts=lines.mean(dim=1), held_out=pairs(4, 2)) | change
    with pytest.raises(ValueError, match=message):
        fit_cca(**given)


# ---- words


def test_words_are_counted_as_the_first_sentences_have_them():
    rows = [["a red dog runs", "red dog"], ["a red ball", "the ball"], ["red sky", "zebra dog"]]
    first, second = word_counts(rows, [["red zebra unicorn", "unicorn"]], min_count=2)
    assert first.shape == (3, 2, 3) and second.shape == (1, 2, 3)  # ball, dog, red
    torch.testing.assert_close(first.norm(dim=2), torch.ones(3, 2))
    dog = first[0, 1]
    assert dog[0] == 0 and dog[1] > dog[2] > 0  # what is rarer weighs more
    torch.testing.assert_close(second[0], torch.tensor([[0.0, 0, 1], [0, 0, 0]]))


# ---- gradients and colours


def picture(rule, side=48):
    """A grey picture of bytes whose pixel at (row, column) is as the rule says."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return rule(rows, columns).clamp(0, 255).byte().expand(1, 3, side, side)


EDGES = {
    0: lambda row, column: 200 * (column % 16 >= 8),  # upright edges: brightness changes across
    90: lambda row, column: 200 * (row % 16 >= 8),
    45: lambda row, column: 2 * (row + column),
    135: lambda row, column: 100 + 2 * (row - column),
}


def orientations(picture, cells=12):
    """The share of each of nine orientations in all blocks."""
    beside = torch.cat([picture, torch.zeros_like(picture)])  # it takes several
    whole = gradients_and_colours(beside, cells=cells)[0, : 36 * (cells - 1) ** 2]
    return whole.view(9, 4, -1).sum(dim=(1, 2))


@pytest.mark.parametrize("degrees", EDGES)
def test_edges_land_in_their_orientation(degrees):
    found = orientations(picture(EDGES[degrees]))
    shares = found / found.sum()
    place = degrees / 20  # between which two of nine
    low, share = int(place), place - int(place)
    near, next_one = shares[low % 9].item(), shares[(low + 1) % 9].item()
    assert near + next_one > 0.85
    if share == 0.5:
        assert near == pytest.approx(next_one, rel=1e-3)
    else:
        assert (near > next_one) == (share < 0.5)


def test_bright_on_dark_is_as_dark_on_bright():
    edge = picture(EDGES[0])
    torch.testing.assert_close(orientations(255 - edge), orientations(edge))


def test_a_constant_picture_has_no_gradients_and_its_colour():
    colour = torch.tensor([255, 51, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    plain = colour.expand(1, 3, 48, 48)
    (places,) = gradients_and_colours_of_places(plain)
    assert places.shape == (16, 87) and places[:, :81].abs().max() == 0
    torch.testing.assert_close(places[:, 81:84], torch.tensor([[0.5, -0.3, -0.5]]).expand(16, 3))
    assert places[:, 84:].abs().max() < 2e-3  # no deviation
    both = torch.cat([plain, picture(EDGES[0])])
    whole = gradients_and_colours(both)
    assert whole.shape == (2, 36 * 121 + 6 * 36) and whole[0, : 36 * 121].abs().max() == 0
    colours = whole[0, 36 * 121 :].view(6, 36)
    torch.testing.assert_close(
        colours[:3] / colours[0, 0], colour.view(3, 1) / 255 * torch.ones(36)
    )


def test_both_kinds_have_their_share_of_the_whole():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (40, 3, 24, 24), dtype=torch.uint8, generator=draw)
    whole = gradients_and_colours(x)
    spread = (
        whole[:, : 36 * 121].var(dim=0).sum().sqrt(),
        whole[:, 36 * 121 :].var(dim=0).sum().sqrt(),
    )
    assert [s.item() for s in spread] == pytest.approx([1, 2], rel=1e-4)  # colours count twice


def test_blocks_do_not_see_how_strong_the_contrast_is():
    faint = picture(lambda row, column: 20 * (column % 16 >= 8))
    strong = picture(lambda row, column: 200 * (column % 16 >= 8))
    torch.testing.assert_close(orientations(faint), orientations(strong))
    one = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    with pytest.raises(ValueError, match="photographs must be two at least, got 1"):
        gradients_and_colours(one)


@pytest.mark.parametrize("place", [0, 6, 15])
def test_a_place_sees_itself_alone(place):
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8, generator=draw)
    row, column = divmod(place, 4)
    changed = x.clone()
    inside = slice(12 * row + 1, 12 * row + 11), slice(12 * column + 1, 12 * column + 11)
    changed[0, :, inside[0], inside[1]] = 7
    same = gradients_and_colours_of_places(changed) == gradients_and_colours_of_places(x)
    assert same[1].all()
    assert same[0].all(dim=1).logical_not().nonzero().flatten().tolist() == [place]


def test_places_are_normalised_and_independent_of_the_rest():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8, generator=draw)
    places = gradients_and_colours_of_places(x, grid=2)
    assert places.shape == (3, 4, 87)
    torch.testing.assert_close(places[:, :, :81].norm(dim=2), torch.ones(3, 4))
    torch.testing.assert_close(gradients_and_colours_of_places(x[1:2], grid=2), places[1:2])


@pytest.mark.parametrize(
    "photographs",
    [torch.zeros(2, 3, 48, 48), torch.zeros(2, 3, 48, 24).byte(), torch.zeros(3, 48, 48).byte()],
)
@pytest.mark.parametrize("described", [gradients_and_colours, gradients_and_colours_of_places])
def test_photographs_that_are_none(described, photographs):
    message = r"photographs must be uint8 of shape \(N, 3, S, S\), got \(.* of torch\."
    with pytest.raises(ValueError, match=message):
        described(photographs)


def test_cells_that_do_not_fit():
    x = torch.zeros(1, 3, 50, 50, dtype=torch.uint8)
    with pytest.raises(ValueError, match="a side that 12 cells divide, got 50"):
        gradients_and_colours(x)
    with pytest.raises(ValueError, match="a side that 9 cells divide, got 50"):
        gradients_and_colours_of_places(x, grid=3)
    for cells in (5, 0):
        with pytest.raises(ValueError, match=f"cells must be even, got {cells}"):
            gradients_and_colours(x, cells=cells)


# ---- codes of patches


@pytest.fixture(scope="module")
def textures():
    """Forty pictures, of stripes in the even places and of noise in the odd ones."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (40, 3, 24, 24), dtype=torch.uint8, generator=draw)
    stripes = picture(lambda row, column: 200 * ((row + column) % 6 >= 3), 24)
    mixed = noise.clone()
    mixed[::2] = stripes // 2 + noise[::2] // 8
    return mixed


def test_codes_have_a_number_for_each_centre_and_place(textures):
    codes = patch_codes(textures, [textures, textures[:3]], centres=7, grid=2)
    assert [tuple(x.shape) for x in codes] == [(40, 7 * 4), (3, 7 * 4)]
    torch.testing.assert_close(codes[0][:3], codes[1])
    assert (codes[0] >= 0).all() and codes[0].isfinite().all() and codes[0].std() > 0


def test_codes_repeat_with_their_seed_and_draw_nothing_from_outside(textures):
    before = torch.get_rng_state()
    one, two, other = (
        patch_codes(textures, [textures], centres=7, seed=seed)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_codes_tell_stripes_from_noise(textures):
    (codes,) = patch_codes(textures, [textures], centres=7, grid=1)
    even, odd = codes[::2], codes[1::2]
    within = max(x.std(dim=0).norm().item() for x in (even, odd))
    assert (even.mean(dim=0) - odd.mean(dim=0)).norm() > 3 * within


def test_codes_lie_where_the_patches_do(textures):
    halves = textures[1:3].clone()  # stripes above, noise below, and the other way
    halves[0, :, :12], halves[1, :, :12] = textures[0, :, :12], textures[1, :, :12]
    halves[0, :, 12:], halves[1, :, 12:] = textures[1, :, 12:], textures[0, :, 12:]
    (codes,) = patch_codes(textures, [halves], centres=7, grid=2)
    (above, below), (upside, down) = codes.view(2, 7, 2, 2).mean(dim=3).permute(0, 2, 1)
    assert (above - down).norm() < (above - below).norm()
    assert (below - upside).norm() < (upside - down).norm()
    assert not math.isclose((above - below).norm(), 0, abs_tol=1e-3)
