"""VISReg against its formula written out in loops, and its gradient at collapse beside SIGReg's."""

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
import torch

from jepa_utils.objectives.sigreg import sigreg
from jepa_utils.objectives.visreg import VISReg, visreg

N, D, SLICES = 40, 5, 16
TERMS = ("scale", "shape", "center")


def cloud(seed=0, n=N, d=D, dtype=torch.float64):
    """Correlated, off the origin, with standard deviations on either side of 1."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=g, dtype=torch.float64) * torch.linspace(
        0.1, 1.0, d, dtype=torch.float64
    )
    return (torch.randn(n, d, generator=g, dtype=torch.float64) @ mixing + 0.5).to(dtype)


def gaussian(n=N, d=D, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lines(d=D, m=SLICES, seed=1):
    a = gaussian(d, m, seed)
    return a / a.norm(dim=0)


def only(term):
    return {name: float(name == term) for name in TERMS}


def written(x, a, spread=None):
    """The three terms of rows x (N, D) on columns a (D, M); `spread` if it is to be a constant."""
    n, d = x.shape
    mean = [sum(x[i, j] for i in range(n)) / n for j in range(d)]
    std = [math.sqrt(sum((x[i, j] - mean[j]) ** 2 for i in range(n)) / n) for j in range(d)]
    divisor = std if spread is None else spread
    quantiles = [NormalDist().inv_cdf(i / (n + 1)) for i in range(1, n + 1)]
    distance = 0.0
    for m in range(a.shape[1]):
        shadow = sorted(
            sum(a[j, m] * (x[i, j] - mean[j]) / divisor[j] for j in range(d)) for i in range(n)
        )
        distance += sum((u - q) ** 2 for u, q in zip(shadow, quantiles, strict=True)) / n
    return {
        "scale": sum((1 - s) ** 2 for s in std) / d,
        "shape": distance / a.shape[1],
        "center": sum(mu**2 for mu in mean) / d,
    }


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_formula(seed):
    x, a = cloud(seed), lines(seed=seed + 10)
    stds = x.std(dim=0)
    assert stds.min() < 1 < stds.max()
    terms = written(x.numpy(), a.numpy())
    for name in TERMS:
        ours = visreg(x, directions=a, **only(name))
        assert ours.item() == pytest.approx(terms[name], rel=1e-9)
    assert visreg(x, directions=a).item() == pytest.approx(sum(terms.values()), rel=1e-9)
    factors = dict(scale=2.0, shape=0.5, center=3.0)
    expected = sum(factor * terms[name] for name, factor in factors.items())
    assert visreg(x, directions=a, **factors).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("term", TERMS)
def test_gradient_is_that_of_the_formula_with_the_spread_of_the_shape_as_a_constant(term):
    x, a = cloud(n=7, d=3), lines(3, 4)
    ours = x.clone().requires_grad_()
    visreg(ours, directions=a, **only(term)).backward()
    spread, step = x.std(dim=0, correction=0).tolist(), 1e-6
    for i in range(7):
        for j in range(3):
            moved = []
            for sign in (1, -1):
                other = x.clone()
                other[i, j] += sign * step
                moved.append(written(other.numpy(), a.numpy(), spread)[term])
            slope = (moved[0] - moved[1]) / (2 * step)
            assert ours.grad[i, j].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_gradcheck_of_scale_and_centre():
    x, a = cloud(n=7, d=3).requires_grad_(), lines(3, 4)
    for term in ("scale", "center"):
        assert torch.autograd.gradcheck(lambda x, t=term: visreg(x, directions=a, **only(t)), x)
        assert torch.autograd.gradgradcheck(lambda x, t=term: visreg(x, directions=a, **only(t)), x)


def test_gradcheck_of_the_shape_where_its_constant_changes_nothing():
    """Its gradient leaves out how the spread changes; here the spread is 1 whatever x is."""
    x, a = gaussian(7, 3).requires_grad_(), lines(3, 4)

    def shape(x):
        centred = x - x.mean(dim=0)
        return visreg(centred / centred.std(dim=0, correction=0), directions=a, **only("shape"))

    assert torch.autograd.gradcheck(shape, x)


def test_module_equals_function_and_says_its_settings():
    x, a = cloud(), lines()
    settings = dict(num_slices=8, scale=0.5, shape=2.0, center=3.0)
    torch.manual_seed(0)
    first = VISReg(**settings)(x)
    torch.manual_seed(0)
    assert first == visreg(x, **settings)
    assert (
        VISReg()(x, directions=a) == visreg(x, directions=a) != VISReg(scale=2.0)(x, directions=a)
    )
    assert all(f"{name}={value}" in repr(VISReg(**settings)) for name, value in settings.items())
    assert list(VISReg().parameters()) == []


def test_directions_are_drawn_as_sigregs_are():
    x = cloud()
    generator = torch.Generator().manual_seed(3)
    value = visreg(x, num_slices=8, generator=generator)
    again = visreg(x, num_slices=8, generator=generator)
    assert value != again  # anew at every call
    assert value == VISReg(num_slices=8)(x, generator=torch.Generator().manual_seed(3))
    seed = int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(3)))
    drawn = torch.randn(D, 8, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    drawn /= drawn.norm(dim=0)
    assert value.item() == pytest.approx(visreg(x, directions=drawn).item(), rel=1e-12)
    torch.manual_seed(3)
    assert visreg(x, num_slices=8) == value


def test_leading_axes_are_averaged():
    a, batches = lines(), [cloud(seed) for seed in range(6)]
    expected = sum(visreg(x, directions=a).item() for x in batches) / 6
    stacked = torch.stack(batches).view(2, 3, N, D)
    assert visreg(stacked, directions=a).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    a = lines().float()
    x = cloud(dtype=dtype).requires_grad_()
    value = visreg(x, directions=a)
    value.backward()
    single = x.detach().float().requires_grad_()
    expected = visreg(single, directions=a)
    expected.backward()
    assert value.dtype == torch.float32 and value.item() == expected.item()
    assert x.grad.dtype == dtype and torch.equal(x.grad, single.grad.to(dtype))


def test_autocast_does_not_lower_the_precision():
    x, a = cloud(dtype=torch.float32), lines().float()
    expected = visreg(x, directions=a)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert visreg(x, directions=a).item() == expected.item()


def test_values_are_those_of_float64_also_for_many_samples():
    x, a = cloud(n=20_000, dtype=torch.float32), lines()
    expected = visreg(x.double(), directions=a)
    assert visreg(x, directions=a).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64])
def test_factors_may_be_numpy_numbers(number):
    x, a = cloud().requires_grad_(), lines()
    factors = dict(scale=2, shape=3, center=4)
    ours = visreg(x, directions=a, **{name: number(value) for name, value in factors.items()})
    assert ours == visreg(x, directions=a, **factors)
    ours.backward()
    assert x.grad.norm() > 0


# ---- what it wants


def others(n=400, d=4):
    x = gaussian(n, d)
    angle = torch.arange(n, dtype=torch.float64) / n * 2 * math.pi
    ring = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], dim=1)
    twins = x.clone()
    twins[:, 1] = 0.9 * x[:, 0] + math.sqrt(1 - 0.9**2) * x[:, 1]
    return {
        "shifted": x + 0.5,
        "wide": 1.5 * x,
        "narrow": 0.5 * x,
        "collapsed": 1e-3 * x,
        "one spot": 0 * x,
        "cigar": x * torch.tensor([2.0, 0.1, 0.1, 0.1], dtype=torch.float64),
        "correlated": twins,
        "clumps": 0.3 * x + 0.95 * torch.sign(gaussian(n, 1, seed=2)),
        "ring": torch.cat([ring, ring.roll(n // 3, dims=0)], dim=1),
    }


@pytest.fixture(scope="module")
def least():
    """The largest value of ten Gaussian clouds."""
    return max(visreg(gaussian(400, 4, seed), directions=lines(4, 64)).item() for seed in range(10))


@pytest.mark.parametrize("name", others())
def test_a_gaussian_cloud_has_the_least_value(name, least):
    assert least < 0.03 and visreg(others()[name], directions=lines(4, 64)) > 1.5 * least


@pytest.mark.parametrize(
    "name, term",
    [
        ("shifted", "center"),
        ("wide", "scale"),
        ("narrow", "scale"),
        ("correlated", "shape"),
        ("ring", "shape"),
    ],
)
def test_each_term_sees_its_own_fault(name, term):
    a = lines(4, 64)
    values = {t: visreg(others()[name], directions=a, **only(t)).item() for t in TERMS}
    assert max(values, key=values.get) == term
    assert sum(values.values()) - values[term] < 0.1 * values[term]


def test_descent_from_a_collapsed_cloud_ends_in_a_gaussian_one():
    x, a = (1e-3 * gaussian(100, 3) + 0.3).requires_grad_(), lines(3, 16)
    optimizer = torch.optim.Adam([x], lr=0.1, betas=(0.9, 0.95))
    for _ in range(60):
        optimizer.zero_grad()
        value = visreg(x, directions=a)
        value.backward()
        optimizer.step()
    assert value < visreg(gaussian(100, 3), directions=a) < 0.03
    covariance = torch.cov(x.detach().T)
    assert torch.allclose(covariance, torch.eye(3, dtype=x.dtype), atol=0.15)


def test_all_points_on_one_spot_score_2_whatever_n_is():
    for n in (50, 5000):
        quantiles = [NormalDist().inv_cdf(i / (n + 1)) for i in range(1, n + 1)]
        expected = 1 + np.mean(np.square(quantiles))
        assert visreg(torch.zeros(n, D)).item() == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(2, abs=0.01)


# ---- the gradient at collapse


def norm_of_gradient(loss, spread, **settings):
    x = (spread * gaussian(400, D)).requires_grad_()
    loss(x, directions=lines(), **settings).backward()
    return x.grad.norm().item()


def test_the_scales_gradient_keeps_its_size_at_collapse_and_sigregs_does_not():
    spreads = [1e-1, 1e-3, 1e-5, 1e-7, 1e-9]
    scale = [norm_of_gradient(visreg, s, **only("scale")) for s in spreads]
    sketched = [norm_of_gradient(sigreg, s) for s in spreads]
    full = 2 / math.sqrt(400 * D)  # for spread 0
    assert scale[0] == pytest.approx(0.9 * full, rel=0.02)
    assert scale[1:] == pytest.approx([full] * 4, rel=2e-3)
    for before, after in pairwise(sketched[1:]):
        assert after == pytest.approx(before / 100, rel=0.01)


def test_the_shapes_gradient_grows_at_collapse_as_documented():
    shape = {s: norm_of_gradient(visreg, s, **only("shape")) for s in (1e-2, 1e-4, 1e-7, 1e-8)}
    assert shape[1e-4] == pytest.approx(100 * shape[1e-2], rel=1e-6)
    assert 1e-6 * shape[1e-8] < 2 / math.sqrt(400)  # enlarged a million times, and no further


def test_one_spot_is_left_by_visreg_and_not_by_sigreg():
    x = torch.full((N, D), 0.5, requires_grad=True)
    a = lines().float()
    assert torch.autograd.grad(visreg(x, directions=a, **only("scale")), x)[0].norm() == 0
    (pushed,) = torch.autograd.grad(visreg(x, directions=a), x)
    assert torch.isfinite(pushed).all() and (pushed - pushed.mean(dim=0)).norm() > 1
    zero = torch.zeros(N, D, requires_grad=True)
    assert torch.autograd.grad(sigreg(zero, directions=a), zero)[0].norm() == 0
    assert torch.autograd.grad(visreg(zero, directions=a), zero)[0].norm() > 1


def test_equal_points_get_quantiles_in_order_of_the_rows():
    x = torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
    visreg(x, directions=torch.ones(1, 1, dtype=torch.float64)).backward()
    pushes = -x.grad[:, 0]
    assert (pushes.diff() > 0).all() and pushes[2].abs() < 1e-6


# ---- bad input


X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: visreg(X * math.nan), ValueError, ["embeddings", "24 NaN"]),
        (lambda: visreg(X[:1]), ValueError, ["embeddings", "2 samples", "(1, 3)"]),
        (lambda: visreg(X[0]), ValueError, ["embeddings", "(..., N, D)", "(3,)"]),
        (lambda: visreg(X[:, :0]), ValueError, ["embeddings", "(8, 0)"]),
        (lambda: visreg(X.long()), TypeError, ["embeddings", "int64"]),
        (lambda: visreg(X.tolist()), TypeError, ["embeddings", "list"]),
        (lambda: visreg(1e25 * X), ValueError, ["embeddings", "small enough", "float32"]),
        (lambda: visreg(X, num_slices=0), ValueError, ["num_slices", "0"]),
        (lambda: visreg(X, num_slices=2.0), ValueError, ["num_slices", "2.0"]),
        (lambda: visreg(X, scale=-1.0), ValueError, ["scale", "-1.0"]),
        (lambda: visreg(X, shape=math.nan), ValueError, ["shape", "nan"]),
        (lambda: visreg(X, center=True), ValueError, ["center", "True"]),
        (lambda: visreg(X, directions=torch.eye(4)), ValueError, ["directions", "D = 3", "(4, 4)"]),
        (lambda: visreg(X, directions=2 * torch.eye(3)), ValueError, ["directions", "length 2"]),
        (lambda: visreg(X, directions=[1]), TypeError, ["directions", "list"]),
        (lambda: VISReg(num_slices=-1), ValueError, ["num_slices", "-1"]),
        (lambda: VISReg(shape="1"), ValueError, ["shape", "'1'"]),
    ],
)
def test_bad_input_names_the_argument_and_what_it_got(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert [word for word in words if word not in str(raised.value)] == []
