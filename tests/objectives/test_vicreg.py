"""VICReg against its formulas written out in loops, its gradient near collapse."""

import math

import numpy as np
import pytest
import torch

from jepa_utils.objectives.vicreg import VICReg, covariance_penalty, variance_penalty, vicreg

N, D, EPS = 40, 5, 1e-4


def cloud(seed=0, n=N, d=D, dtype=torch.float64):
    """Correlated, off the origin, with standard deviations on either side of 1."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=g, dtype=torch.float64) * torch.linspace(
        0.1, 1.0, d, dtype=torch.float64
    )
    return (torch.randn(n, d, generator=g, dtype=torch.float64) @ mixing + 2).to(dtype)


def covariances(x):
    rows = x.tolist()
    n, d = len(rows), len(rows[0])
    mean = [sum(row[j] for row in rows) / n for j in range(d)]
    return [
        [sum((r[i] - mean[i]) * (r[j] - mean[j]) for r in rows) / (n - 1) for j in range(d)]
        for i in range(d)
    ]


def written_variance(x, target_std=1.0, eps=EPS):
    c = covariances(x)
    return sum(max(0, target_std - math.sqrt(c[j][j] + eps)) for j in range(len(c))) / len(c)


def written_covariance(x):
    c = covariances(x)
    return sum(c[i][j] ** 2 for i in range(len(c)) for j in range(len(c)) if i != j) / len(c)


def written_vicreg(x, y, a=25, b=25, c=1, **hinge):
    squares = sum(
        (u - v) ** 2 for first, second in zip(x.tolist(), y.tolist()) for u, v in zip(first, second)
    )
    spread = (written_variance(x, **hinge) + written_variance(y, **hinge)) / 2
    return (
        a * squares / x.numel() + b * spread + c * (written_covariance(x) + written_covariance(y))
    )


@pytest.mark.parametrize("seed", range(3))
def test_penalties_equal_their_formulas(seed):
    x = cloud(seed)
    stds = x.std(dim=0)
    assert stds.min() < 1 < stds.max()  # both sides of the hinge
    assert variance_penalty(x).item() == pytest.approx(written_variance(x), rel=1e-12)
    assert variance_penalty(x, target_std=3.0, eps=0.5).item() == pytest.approx(
        written_variance(x, 3, 0.5), rel=1e-12
    )
    assert covariance_penalty(x).item() == pytest.approx(written_covariance(x), rel=1e-10)
    assert np.allclose(covariances(x), np.cov(x.numpy().T), rtol=1e-10)


def test_loss_is_25_times_error_plus_25_times_spread_plus_correlation():
    x, y = cloud(0), cloud(1)
    assert vicreg(x, y).item() == pytest.approx(written_vicreg(x, y), rel=1e-10)
    factors = dict(invariance=2.0, variance=3.0, covariance=0.5)
    expected = written_vicreg(x, y, 2, 3, 0.5, target_std=2, eps=0.01)
    assert vicreg(x, y, target_std=2.0, eps=0.01, **factors).item() == pytest.approx(
        expected, rel=1e-10
    )
    assert vicreg(x, y).item() == pytest.approx(vicreg(y, x).item(), rel=1e-12)


@pytest.mark.parametrize("term", ["invariance", "variance", "covariance"])
def test_each_factor_scales_its_own_term(term):
    x, y = cloud(0), cloud(1)
    only = dict.fromkeys(["invariance", "variance", "covariance"], 0.0)
    alone = {"invariance": ((x - y) ** 2).mean().item()}
    alone["variance"] = (written_variance(x) + written_variance(y)) / 2
    alone["covariance"] = written_covariance(x) + written_covariance(y)
    assert vicreg(x, y, **only | {term: 2.0}).item() == pytest.approx(2 * alone[term], rel=1e-10)


def test_module_equals_function_and_says_its_settings():
    x, y = cloud(0), cloud(1)
    settings = dict(invariance=1.0, variance=2.0, covariance=3.0, target_std=0.7, eps=0.01)
    assert VICReg()(x, y) == vicreg(x, y)
    assert VICReg(**settings)(x, y) == vicreg(x, y, **settings) != vicreg(x, y)
    assert all(f"{name}={value}" in repr(VICReg(**settings)) for name, value in settings.items())
    assert list(VICReg().parameters()) == []


def test_gradcheck():
    x, y = (cloud(seed, n=7, d=3).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(variance_penalty, x)
    assert torch.autograd.gradcheck(covariance_penalty, x)
    assert torch.autograd.gradcheck(vicreg, (x, y))
    assert torch.autograd.gradgradcheck(vicreg, (x, y))  # all its parts


@pytest.mark.parametrize("penalty", [variance_penalty, covariance_penalty])
def test_leading_axes_are_averaged(penalty):
    batches = [cloud(seed) for seed in range(6)]
    expected = sum(penalty(x).item() for x in batches) / 6
    assert penalty(torch.stack(batches).view(2, 3, N, D)).item() == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y = cloud(0, dtype=dtype).requires_grad_(), cloud(1, dtype=dtype)
    value = vicreg(x, y)
    assert value.dtype == variance_penalty(x).dtype == covariance_penalty(x).dtype == torch.float32
    assert value.item() == vicreg(x.detach().float(), y.float()).item()
    value.backward()
    single = x.detach().float().requires_grad_()
    vicreg(single, y.float()).backward()
    assert x.grad.dtype == dtype and torch.equal(x.grad, single.grad.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_are_those_of_float64_also_for_many_samples(dtype):
    x, y = (cloud(seed, n=20_000, dtype=dtype) for seed in (0, 1))
    for ours, expected in (
        (vicreg(x, y), vicreg(x.double(), y.double())),
        (variance_penalty(x), variance_penalty(x.double())),
        (covariance_penalty(x), covariance_penalty(x.double())),
        (vicreg(x, y.double()), vicreg(x.double(), y.double())),  # the wider of the two
    ):
        assert torch.allclose(ours.double(), expected, rtol=1e-5)


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64])
def test_factors_may_be_numpy_numbers(number):
    x, y = cloud(0, dtype=torch.float32).requires_grad_(), cloud(1, dtype=torch.float32)
    factors = dict(invariance=2, variance=3, covariance=4, target_std=2, eps=1)
    ours = {name: number(value) for name, value in factors.items()}
    assert vicreg(x, y, **ours) == VICReg(**ours)(x, y) == vicreg(x, y, **factors)
    vicreg(x, y, **ours).backward()
    assert x.grad.norm() > 0
    plain = variance_penalty(x, target_std=2, eps=1)
    assert variance_penalty(x, target_std=number(2), eps=number(1)) == plain


def test_autocast_does_not_lower_the_precision():
    x, y = cloud(0, dtype=torch.float32), cloud(1, dtype=torch.float32)
    expected = vicreg(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert vicreg(x, y).item() == expected.item()


# ---- the gradient near collapse, and what second moments cannot see


def gradient_norm(size, direction=0):
    x = (
        size
        * torch.randn(
            200, D, generator=torch.Generator().manual_seed(direction), dtype=torch.float64
        )
    ).requires_grad_()
    variance_penalty(x).backward()
    return x.grad.norm().item()


def test_gradient_far_above_sqrt_eps_does_not_depend_on_size():
    assert gradient_norm(0.8) == pytest.approx(gradient_norm(0.2), rel=3e-3)
    assert gradient_norm(0.2) == pytest.approx(1 / math.sqrt(199 * D), rel=3e-3)


def test_gradient_far_below_sqrt_eps_falls_with_size():
    assert gradient_norm(1e-4) == pytest.approx(10 * gradient_norm(1e-5), rel=1e-3)
    assert gradient_norm(1e-6) == pytest.approx(10 * gradient_norm(1e-7), rel=1e-3)
    assert gradient_norm(1e-4) < 0.02 * gradient_norm(0.2)


def test_full_collapse_has_the_largest_penalty_and_no_gradient():
    x = torch.zeros(N, D, requires_grad=True)
    value = variance_penalty(x)
    value.backward()
    assert value.item() == pytest.approx(1 - math.sqrt(EPS)) and (x.grad == 0).all()
    assert covariance_penalty(x).item() == 0


def test_gradient_pushes_a_small_cloud_apart():
    x = (0.1 * cloud()).requires_grad_()
    variance_penalty(x).backward()
    assert variance_penalty(x.detach() - 0.1 * x.grad) < variance_penalty(x.detach())


def test_a_ring_has_no_penalty():
    angle = torch.arange(1000, dtype=torch.float64) / 1000 * 2 * math.pi
    ring = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], dim=1)
    assert variance_penalty(ring).item() == pytest.approx(0, abs=1e-12)
    assert covariance_penalty(ring).item() == pytest.approx(0, abs=1e-12)
    assert ring.norm(dim=1).std() < 1e-12  # where a Gaussian's lengths have 0.66


def test_one_dimension_has_nothing_to_be_correlated_with():
    assert covariance_penalty(cloud(d=1)).item() == 0


def test_correlation_is_seen_beside_a_wide_dimension():
    wide, twin = torch.tensor([[1000.0, 1], [1000, -1], [-1000, 1], [-1000, -1]]).repeat(100, 1).T
    x = torch.stack([wide, twin, twin], dim=1)
    assert covariance_penalty(x).item() == pytest.approx(written_covariance(x), rel=1e-2)


# ---- bad input


X = torch.randn(8, 3)
SINGLE = {"variance_penalty": variance_penalty, "covariance_penalty": covariance_penalty}


@pytest.mark.parametrize("penalty", SINGLE.values(), ids=SINGLE)
@pytest.mark.parametrize(
    "bad, error, words",
    [
        (torch.full((8, 3), math.nan), ValueError, ["embeddings", "24 NaN"]),
        (torch.full((8, 3), math.inf), ValueError, ["embeddings", "infinite"]),
        (X[:1], ValueError, ["embeddings", "2 samples", "(1, 3)"]),
        (X[0], ValueError, ["embeddings", "(..., N, D)", "(3,)"]),
        (X[:, :0], ValueError, ["embeddings", "(8, 0)"]),
        (X.long(), TypeError, ["embeddings", "int64"]),
        (X.tolist(), TypeError, ["embeddings", "list"]),
        (X[:0], ValueError, ["embeddings", "2 samples", "(0, 3)"]),
        (X[None][:0], ValueError, ["embeddings", "empty", "(0, 8, 3)"]),
        (X.to("meta"), TypeError, ["embeddings", "values", "meta"]),
        (X.to_sparse(), TypeError, ["embeddings", "dense", "sparse"]),
        (1e20 * X, ValueError, ["embeddings", "small enough", "float32"]),
    ],
)
def test_bad_embeddings_are_named(penalty, bad, error, words):
    with pytest.raises(error) as raised:
        penalty(bad)
    assert [word for word in words if word not in str(raised.value)] == []


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: variance_penalty(X, target_std=-1.0), ValueError, ["target_std", "-1.0"]),
        (lambda: variance_penalty(X, eps=-1e-4), ValueError, ["eps", "-0.0001"]),
        (lambda: variance_penalty(X, eps=math.nan), ValueError, ["eps", "nan"]),
        (lambda: variance_penalty(X, eps=True), ValueError, ["eps", "True"]),
        (lambda: vicreg(X, X[:7]), ValueError, ["first and second", "(8, 3)", "(7, 3)"]),
        (lambda: vicreg(X, X[:, :2]), ValueError, ["first and second", "(8, 2)"]),
        (lambda: vicreg(X * math.nan, X), ValueError, ["first must", "NaN"]),
        (lambda: vicreg(X, X * math.nan), ValueError, ["second must", "NaN"]),
        (lambda: vicreg(X, X.long()), TypeError, ["second", "int64"]),
        (lambda: vicreg(X[0], X[0]), ValueError, ["first", "(3,)"]),
        (lambda: vicreg(X.view(2, 4, 3), X), ValueError, ["first", "(N, D)", "(2, 4, 3)"]),
        (lambda: vicreg(X[:1], X[:1]), ValueError, ["first", "2 samples", "(1, 3)"]),
        (lambda: vicreg(X, X.to("meta")), TypeError, ["second", "values", "meta"]),
        (lambda: vicreg(X, 1e20 * X), ValueError, ["second", "small enough", "float32"]),
        (lambda: vicreg(X, X, covariance=np.True_), ValueError, ["covariance", "True"]),
        (lambda: vicreg(X, X, invariance=-1.0), ValueError, ["invariance", "-1.0"]),
        (lambda: vicreg(X, X, variance=math.inf), ValueError, ["variance", "inf"]),
        (lambda: vicreg(X, X, covariance="1"), ValueError, ["covariance", "'1'"]),
        (lambda: VICReg(covariance=-2.0), ValueError, ["covariance", "-2.0"]),
        (lambda: VICReg(target_std=-2.0), ValueError, ["target_std", "-2.0"]),
    ],
)
def test_bad_input_names_the_argument_and_what_it_got(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert [word for word in words if word not in str(raised.value)] == []
