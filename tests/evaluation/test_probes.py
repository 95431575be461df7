"""Probes against least squares and nearest neighbours written out here; and that they never look at the test data."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from jepa_utils.evaluation.probes import STRENGTHS, knn_probe, linear_probe

N, M, D = 200, 80, 4


def regression(noise=0.1, n=N, d=D, seed=0):
    """Features off the origin and unequally scaled; a linear target."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n + M, d, generator=g) * torch.logspace(-1, 1, d) + 3
    y = x @ torch.linspace(1, -1, d) + noise * torch.randn(n + M, generator=g)
    return x[:n], y[:n], x[n:], y[n:]


def classes(seed=0):
    x, y, test_x, test_y = regression(0.0, seed=seed)
    cut = y.median()
    return x, (y > cut).long() * 7, test_x, (test_y > cut).long() * 7  # labels 0 and 7


def ridge(x, y, test_x, strength):
    x, y, test_x = (a.double().numpy() for a in (x, y, test_x))
    mean, std = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / std
    w = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return (test_x - mean) / std @ w + y.mean()


def r2(y, predictions):
    y = y.double().numpy()
    return 1 - ((y - predictions) ** 2).sum() / ((y - y.mean()) ** 2).sum()


def test_linear_probe_equals_least_squares():
    x, y, test_x, test_y = regression()
    with_one = [np.c_[a.double().numpy(), np.ones(len(a))] for a in (x, test_x)]
    expected = with_one[1] @ np.linalg.lstsq(with_one[0], y.double().numpy(), rcond=None)[0]
    probe = linear_probe(x, y, test_x, test_y, strengths=[1e-9])
    assert np.allclose(probe.predictions, expected, atol=1e-6)
    assert probe.score == pytest.approx(r2(test_y, expected), abs=1e-9) and 0.99 < probe.score < 1


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_linear_probe_equals_ridge_on_standardised_features(strength):
    x, y, test_x, test_y = regression()
    probe = linear_probe(x, y, test_x, test_y, strengths=[strength])
    assert np.allclose(probe.predictions, ridge(x, y, test_x, strength), atol=1e-6)
    assert probe.setting == strength
    assert probe.score == pytest.approx(r2(test_y, probe.predictions), abs=1e-9)


def test_penalty_is_weak_where_all_is_signal_and_strong_where_all_is_noise():
    assert linear_probe(*regression(noise=0.0)).setting == min(STRENGTHS)
    g = torch.Generator().manual_seed(1)
    noise = linear_probe(
        *(torch.randn(*shape, generator=g) for shape in ((60, 40), (60,), (M, 40), (M,)))
    )
    assert noise.setting >= 100


def test_the_chosen_model_is_fitted_to_all_training_data():
    x, y, test_x, test_y = regression(noise=3.0)
    chosen = linear_probe(x, y, test_x, test_y)
    assert np.allclose(chosen.predictions, ridge(x, y, test_x, chosen.setting), atol=1e-6)
    neighbours = knn_probe(x, y, test_x, test_y)
    alone = knn_probe(x, y, test_x, test_y, neighbours=[int(neighbours.setting)])
    assert np.array_equal(neighbours.predictions, alone.predictions)


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
@pytest.mark.parametrize("data", [regression, classes])
def test_nothing_is_chosen_on_test_data(probe, data):
    x, y, test_x, test_y = data()
    honest = probe(x, y, test_x, test_y)
    other = probe(x, y, test_x, test_y.flip(0))
    assert other.setting == honest.setting and np.array_equal(other.predictions, honest.predictions)
    assert other.score < honest.score
    assert probe(x, y, test_x.flip(0)[:9] + 5, test_y[:9]).setting == honest.setting


def test_integers_are_classes():
    x, y, test_x, test_y = classes()
    for probe in (linear_probe, knn_probe):
        found = probe(x, y, test_x, test_y)
        assert set(found.predictions) == {0, 7} and found.predictions.shape == (M,)
        assert found.score == (found.predictions == test_y.numpy()).mean() > 0.8
    assert linear_probe(x, y, test_x, test_y).score > 0.95
    assert not set(linear_probe(x, y.float(), test_x, test_y.float()).predictions) <= {0, 7}


def test_a_strong_penalty_leaves_only_the_most_frequent_class():
    x, y, test_x, test_y = classes()
    y = torch.where(torch.arange(N) < 60, y, 7)  # most are 7
    assert set(linear_probe(x, y, test_x, test_y, strengths=[1e5]).predictions) == {7}
    assert set(linear_probe(x, y, test_x, test_y, strengths=[1e-2]).predictions) == {0, 7}


@pytest.mark.parametrize("data", [regression, classes])
def test_linear_probe_is_blind_to_scale_and_shift(data):
    x, y, test_x, test_y = data()
    expected = linear_probe(x, y, test_x, test_y)
    scale, shift = (
        torch.tensor([1e-6, 1.0, 1e3, -50.0]).double(),
        torch.tensor([0.0, 5.0, -1e3, 2.0]).double(),
    )
    for factor, offset in ((scale, shift), (1e-30, 0), (1e30, 0)):
        found = linear_probe(
            x.double() * factor + offset, y, test_x.double() * factor + offset, test_y
        )
        assert found.setting == expected.setting
        assert np.allclose(found.predictions, expected.predictions, atol=1e-3)


def test_a_constant_feature_is_ignored():
    x, y, test_x, test_y = regression()
    wide, test_wide = (torch.cat([a, torch.full((len(a), 1), 0.1)], dim=1) for a in (x, test_x))
    assert linear_probe(wide, y, test_wide, test_y).score == pytest.approx(
        linear_probe(x, y, test_x, test_y).score, abs=1e-6
    )


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_noise_tells_nothing(probe):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2000, 3, generator=g), torch.randn(2000, generator=g)
    assert abs(probe(x[:1000], y[:1000], x[1000:], y[1000:]).score) < 0.06
    coin = (y > 0).long()
    assert abs(probe(x[:1000], coin[:1000], x[1000:], coin[1000:]).score - 0.5) < 0.06


def circle(n=600):
    angle = 2 * math.pi * torch.rand(n, generator=torch.Generator().manual_seed(0))
    x, y = torch.stack([angle.cos(), angle.sin()], dim=1), (2 * angle).sin()
    return x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :]


def test_neighbours_read_what_a_line_cannot():
    assert knn_probe(*circle()).score > 0.98
    assert linear_probe(*circle()).score < 0.1


@pytest.mark.parametrize("k", [1, 5])
def test_knn_probe_is_the_mean_of_the_nearest(k):
    x, y, test_x, test_y = regression()
    nearest = torch.cdist(test_x.double(), x.double()).argsort(dim=1)[:, :k]
    probe = knn_probe(x, y, test_x, test_y, neighbours=[k])
    assert np.allclose(probe.predictions, y[nearest].mean(dim=1).numpy(), atol=1e-5)
    assert probe.setting == k and probe.score == pytest.approx(
        r2(test_y, probe.predictions), abs=1e-6
    )


def test_few_neighbours_for_a_clean_target_and_many_for_a_noisy_one():
    assert knn_probe(*circle()).setting <= 5
    x, y, test_x, test_y = circle()
    noisy = y + 3 * torch.randn(len(y), generator=torch.Generator().manual_seed(1))
    assert knn_probe(x, noisy, test_x, test_y).setting >= 20


def test_knn_probe_takes_features_as_they_are():
    x, y, test_x, test_y = circle()
    g = torch.Generator().manual_seed(2)
    wide, test_wide = (
        torch.cat([a, 100 * torch.randn(len(a), 1, generator=g)], dim=1) for a in (x, test_x)
    )
    assert knn_probe(wide, y, test_wide, test_y).score < 0.2
    assert knn_probe(1e-6 * x, y, 1e-6 * test_x, test_y).score == pytest.approx(
        knn_probe(*circle()).score, abs=1e-6
    )


def test_the_split_follows_its_seed():
    settings = [linear_probe(*regression(noise=20.0, n=30), seed=seed).setting for seed in range(8)]
    assert settings == [
        linear_probe(*regression(noise=20.0, n=30), seed=seed).setting for seed in range(8)
    ]
    assert len(set(settings)) > 1


def test_features_that_still_carry_a_gradient_are_read():
    x, y, test_x, test_y = regression()
    assert linear_probe(x.requires_grad_(), y, test_x, test_y).score > 0.99


X, Y = torch.randn(20, 3), torch.randn(20)
SMALL = dict(strengths=[1.0, 2.0]), dict(neighbours=[1, 2])


@pytest.mark.parametrize("probe, settings", [(linear_probe, SMALL[0]), (knn_probe, SMALL[1])])
@pytest.mark.parametrize(
    "change, words",
    [
        (dict(features=X[0]), r"features.*\(3,\)"),
        (dict(targets=Y[:7]), r"features.*targets.*\(20, 3\) and \(7,\)"),
        (dict(targets=Y[:, None]), r"targets.*\(20, 1\)"),
        (dict(test_features=X[:, :2]), r"features and test_features.*\(20, 2\)"),
        (dict(test_features=X[:5]), r"test_features.*test_targets.*\(5, 3\)"),
        (dict(features=X * math.nan), "^features.*NaN"),
        (dict(test_features=X * math.inf), "^test_features.*infinity"),
        (dict(targets=Y * math.nan), "^targets.*NaN"),
        (dict(test_targets=Y * math.nan), "^test_targets.*NaN"),
        (dict(targets=Y * math.inf), "^targets.*infinity"),
        (dict(test_features=X[:1], test_targets=Y[:1]), "^test_targets must hold 2"),
        (dict(test_features=X[:0], test_targets=Y[:0]), "^test_targets must hold 2"),
        (
            dict(targets=Y.long(), test_features=X[:0], test_targets=Y[:0].long()),
            "^test_targets must hold 1",
        ),
        (dict(targets=(Y > 0).long()), "^test_targets must be integers"),
        (dict(features=X[:, :0], test_features=X[:, :0]), "^features.*column"),
        (dict(features=X[:0], targets=Y[:0]), r"^features.*\(0, 3\)"),
        (dict(features=[[1.0], [1.0, 2.0]]), "^features must be an array of numbers"),
        (dict(targets=["a"] * 20), "^targets must be an array of numbers"),
        (dict(validation=0.0), "validation.*0.0"),
        (dict(validation=1.0), "validation.*1.0"),
        (dict(validation=0.01), "validation.*0.01 of 20"),
        (dict(validation=0.99), "validation.*0.99 of 20"),
    ],
)
def test_probes_reject_bad_input(probe, settings, change, words):
    arguments = dict(features=X, targets=Y, test_features=X, test_targets=Y, **settings) | change
    with pytest.raises(ValueError, match=words):
        probe(**arguments)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: linear_probe(X, Y, X, Y, strengths=[]), r"strengths.*\[\]"),
        (lambda: linear_probe(X, Y, X, Y, strengths=[1.0, 0.0]), "strengths.*0.0"),
        (lambda: linear_probe(X, Y, X, Y, strengths=[math.nan]), "^strengths.*nan"),
        (lambda: linear_probe(X, Y, X, Y, strengths=[math.inf, 1]), "^strengths.*inf"),
        (lambda: knn_probe(X, Y, X, Y, neighbours=[21]), "^neighbours.* = 20, got 21"),
        (lambda: knn_probe(X, Y, X, Y, neighbours=[1.5]), "^neighbours.*integer.*got 1.5"),
        (lambda: knn_probe(X, Y, X, Y, neighbours=[True]), "^neighbours.*integer.*got True"),
        (lambda: knn_probe(X[:5], Y[:5], X, Y), "^neighbours.* = [34], got 5|^validation"),
        (lambda: knn_probe(X, Y, X, Y, neighbours=[]), r"neighbours.*\[\]"),
        (
            lambda: knn_probe(X, Y, X, Y, neighbours=[0, 3]),
            "^neighbours.*between 1 and the number of samples to fit on = 16, got 0",
        ),
        (
            lambda: knn_probe(X, Y, X, Y, neighbours=[1, 17]),
            "^neighbours.* = 16, got 17",
        ),  # 16 are left to fit on
    ],
)
def test_settings_out_of_range_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_classes_in_a_narrow_direction_of_a_wide_cloud_are_found():
    """As in mean tokens of untrained networks: nearly everything varies together, and lbfgs stops before it gets to the rest."""
    draw = torch.Generator().manual_seed(0)
    common = torch.randn(1200, 1, generator=draw)
    labels = torch.randint(3, (1200,), generator=draw)
    narrow = torch.nn.functional.one_hot(labels, 3) + 0.1 * torch.randn(1200, 3, generator=draw)
    x = common + 1e-3 * torch.cat([narrow, torch.randn(1200, 13, generator=draw)], dim=1)
    found = linear_probe(x[:800], labels[:800], x[800:], labels[800:], strengths=(1e-4, 1.0))
    assert found.score > 0.95 and found.setting == 1e-4


def knn_in_every_order(x, y, query, k):
    """Mean over all orders of the samples, where equally near ones follow that order."""
    means = []
    for order in permutations(range(len(x))):
        near = sorted(order, key=lambda i: round((x[i] - query).norm().item(), 6))[:k]
        means.append(y[near].mean().item())
    return np.mean(means)


@pytest.mark.parametrize("width", [1, 20])  # by a tree of samples, and one by one
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_samples_equally_near_share_the_places(width, k):
    turn = torch.rand(1, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.tensor([[0.0], [0.3], [0.3], [0.3], [-0.3], [1.0]], dtype=torch.float64) @ turn
    y = torch.tensor([5.0, 1.0, 2.0, 4.0, 8.0, 3.0])
    queries = torch.tensor([[0.0], [0.3], [0.9]], dtype=torch.float64) @ turn
    expected = [knn_in_every_order(x, y, query, k) for query in queries]
    for order in (torch.arange(6), torch.arange(5, -1, -1), torch.tensor([3, 0, 5, 1, 4, 2])):
        for scale in (1.0, 1e-200, 1e200):
            found = knn_probe(
                x[order] * scale, y[order], queries * scale, y[:3], neighbours=[k], validation=0.5
            )
            assert found.predictions == pytest.approx(expected, rel=1e-6)


def test_the_votes_of_samples_equally_near_are_shared():
    x = torch.tensor([[0.1], [0.1], [0.1], [0.1], [0.2], [0.9]])
    labels = torch.tensor([4, 7, 7, 2, 2, 2])
    for order in (range(6), range(5, -1, -1), (3, 0, 5, 1, 4, 2), (2, 4, 1, 3, 5, 0)):
        found = knn_probe(
            x[list(order)], labels[list(order)], x[[0, 4]], labels[[1, 4]], neighbours=[3],
            validation=0.5,
        )  # fmt: skip
        # of the four at 0.1 one is 4, two are 7 and one is 2; from 0.2: 2, and half a place for each
        assert found.predictions.tolist() == [7, 2] and found.score == 1.0
    # one each of three classes for one place: the lowest
    three = torch.tensor([9, 3, 5, 9, 3, 5])
    found = knn_probe(x * 0, three, x[:1], three[:1], neighbours=[1], validation=0.5)
    assert found.predictions.tolist() == [3]


@pytest.mark.parametrize("width", [2, 20])
def test_a_collapsed_cloud_tells_the_neighbours_nothing(width):
    _, y, _, test_y = regression()
    labels = (torch.arange(N) < 60).long()  # most are 0, and these come last
    for value in (0.0, 0.1, 1e-30):
        same, test_same = torch.full((N, width), value), torch.full((M, width), value)
        found = knn_probe(same, y, test_same, test_y, neighbours=[1, 5])
        assert found.predictions == pytest.approx(np.full(M, y.mean().item()), rel=1e-5)
        assert found.score <= 0
        wanted = torch.arange(M) % 4 == 0
        found = knn_probe(same, labels, test_same, wanted.long(), neighbours=[5])
        assert found.score == 0.75 and set(found.predictions) == {0}


def test_one_class_is_enough_for_neighbours_and_too_few_for_a_line():
    one = torch.full((20,), 3)
    found = knn_probe(X, one, X, torch.arange(20) % 4, neighbours=[1, 2])
    assert found.score == 0.25 and set(found.predictions) == {3}
    for strengths in ([1.0], [1.0, 2.0]):
        with pytest.raises(ValueError, match="^targets must be of at least 2 classes.*only 3"):
            linear_probe(X, one, X, one, strengths=strengths)
    lone = torch.arange(20) == 7
    outcomes = []
    for seed in range(20):  # it may be drawn to validate
        try:
            outcomes.append(linear_probe(X, lone, X, lone, seed=seed).score >= 0.9)
        except ValueError as problem:
            assert str(problem).startswith("targets must be of at least 2 classes among the 16")
            outcomes.append("refused")
    assert {True, "refused"} == set(outcomes)


@pytest.mark.parametrize("probe, settings", [(linear_probe, SMALL[0]), (knn_probe, SMALL[1])])
def test_numbers_of_any_kind_are_read(probe, settings):
    x, y, test_x, test_y = (part[:60].round() for part in regression())
    expected = probe(x, y, test_x, test_y, **settings)
    lists = probe(x.tolist(), y.double().tolist(), test_x.numpy(), test_y.tolist(), **settings)
    assert lists.predictions == pytest.approx(expected.predictions, rel=1e-6)
    whole = probe(x.long(), y, test_x.long(), test_y.requires_grad_(), **settings)
    assert np.array_equal(whole.predictions, expected.predictions)
    half = probe(x.bfloat16(), y.bfloat16(), test_x.half(), test_y.half(), **settings)
    assert half.predictions == pytest.approx(expected.predictions, rel=1e-6)
    more = {name: np.array(values) for name, values in settings.items()}
    assert np.array_equal(probe(x, y, test_x, test_y, **more).predictions, expected.predictions)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("data", [regression, classes])
def test_no_scale_is_too_small_or_too_large(scale, data):
    x, y, test_x, test_y = (part.double() if part.is_floating_point() else part for part in data())
    for probe in (linear_probe, knn_probe):
        expected, found = probe(x, y, test_x, test_y), probe(x * scale, y, test_x * scale, test_y)
        assert found.score == pytest.approx(expected.score, abs=1e-9) and found.score > 0.8


def test_constant_features_of_all_kinds_leave_the_mean():
    x, y, test_x, test_y = classes()
    found = linear_probe(x * 0 + 0.1, y, test_x * 0 + 0.1, test_y)
    most = int(y.float().mean() > 3.5) * 7
    assert set(found.predictions) == {most} or y.float().mean() == 3.5
    found = linear_probe(x * 0, y.float(), test_x * 0, test_y.float())
    assert found.predictions == pytest.approx(np.full(M, y.float().mean().item()))
