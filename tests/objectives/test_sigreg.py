"""SIGReg against formulas written out here: exact integral, published implementations."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jepa_utils.objectives.sigreg import SIGReg, WeakSIGReg, epps_pulley, sigreg, weak_sigreg

N, D, SLICES = 400, 6, 32


def unit_directions(dimensions=D, slices=SLICES, seed=1, dtype=torch.float32):
    a = torch.randn(dimensions, slices, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return a / a.norm(dim=0)


def cloud(kind, n=N, d=D, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    if kind == "collapsed":
        return 0.001 * x + 0.7
    if kind == "shifted":
        return x + 2
    if kind == "cigar":
        return x * torch.tensor([2.0] + [0.1] * (d - 1), dtype=torch.float64)
    if kind == "heavy-tailed":
        return x / torch.rand(n, 1, generator=g, dtype=torch.float64).sqrt()
    assert kind == "gaussian"
    return x


KINDS = ["gaussian", "collapsed", "shifted", "cigar", "heavy-tailed"]


def exact_integral(u):
    """The whole-line integral in closed form, all pairs at once; u (N,)."""
    pairs = torch.exp(-((u[:, None] - u[None]) ** 2) / 2).mean()
    return (
        len(u)
        * math.sqrt(2 * math.pi)
        * (pairs - math.sqrt(2) * torch.exp(-(u**2) / 4).mean() + 3**-0.5)
    )


def trapezoid(u, knots, t_max):
    """The quadrature as its definition reads, with complex numbers; u (N,)."""
    t = torch.linspace(-t_max, t_max, knots, dtype=torch.float64)
    bell = torch.exp(-(t**2) / 2)
    gap = (torch.exp(1j * u[:, None] * t).mean(dim=0) - bell).abs() ** 2
    return len(u) * torch.trapezoid(gap * bell, t)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_exact_integral_on_a_fine_grid(kind):
    x, a = cloud(kind), unit_directions(dtype=torch.float64)
    expected = torch.stack([exact_integral(u) for u in (x @ a).T])
    assert torch.allclose(epps_pulley((x @ a).T, exact=True), expected, rtol=1e-10)
    # 401 knots on [-9, 9] leave no visible quadrature error but for points beyond 70, which only
    # the heavy tail has
    rtol = 1e-4 if kind == "heavy-tailed" else 1e-6
    assert torch.allclose(sigreg(x, directions=a, knots=401, t_max=9.0), expected.mean(), rtol=rtol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("knots", [2, 3, 4, 5, 8, 10, 16, 17, 18, 33])
def test_equals_the_trapezoid_rule_at_any_number_of_knots(kind, knots):
    x, a = cloud(kind), unit_directions(dtype=torch.float64)
    for t_max in (3.0, 5.0):
        expected = torch.stack([trapezoid(u, knots, t_max) for u in (x @ a).T])
        assert torch.allclose(
            epps_pulley((x @ a).T, knots=knots, t_max=t_max), expected, rtol=1e-9, atol=1e-12
        )
        assert torch.allclose(
            sigreg(x, directions=a, knots=knots, t_max=t_max), expected.mean(), rtol=1e-9
        )


@pytest.mark.parametrize("kind", KINDS)
def test_default_grid_is_within_its_quadrature_error(kind):
    x, a = cloud(kind), unit_directions(dtype=torch.float64)
    exact = torch.stack([exact_integral(u) for u in (x @ a).T]).mean()
    # The error of 17 knots grows with far points, which alias (see the notation page): a tenth for
    # the heavy tail.
    assert torch.isclose(
        sigreg(x, directions=a), exact, rtol=0.1 if kind == "heavy-tailed" else 0.03
    )


def test_coarse_grid_aliases_as_documented():
    # 17 knots on [-5, 5] repeat every 2 pi / 0.625 = 10.05: a cluster at 9.42 looks as if it were
    # at -0.63
    far = 9.42 + 0.01 * torch.randn(
        256, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    assert epps_pulley(far).item() == pytest.approx(190, abs=2)
    assert epps_pulley(far, exact=True).item() == pytest.approx(1012, abs=2)


def test_value_and_gradient_equal_autograd_through_the_definition():
    x, a = cloud("shifted").requires_grad_(), unit_directions(dtype=torch.float64)
    expected = torch.stack([trapezoid(u, 17, 5.0) for u in (x @ a).T]).mean()
    (expected_gradient,) = torch.autograd.grad(expected, x)
    (gradient,) = torch.autograd.grad(sigreg(x, directions=a), x)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("knots", [2, 5, 10, 17, 33])
def test_gradcheck(knots):
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    a = unit_directions(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: sigreg(x, directions=a, knots=knots), x)
    assert torch.autograd.gradcheck(lambda x: epps_pulley(x.T, knots=knots), x)
    assert torch.autograd.gradcheck(lambda x: weak_sigreg(x), x)


ONCE = {
    "sigreg": lambda x: sigreg(x, directions=torch.eye(3, dtype=x.dtype)),
    "epps_pulley": lambda x: epps_pulley(x).sum(),
}


@pytest.mark.parametrize("name", ONCE)
def test_a_second_gradient_is_an_error_and_not_a_wrong_number(name):
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(ONCE[name](x), x)
    assert first.norm() > 0
    with pytest.raises(RuntimeError, match=rf"{name} can be .*once, not twice.*create_graph"):
        torch.autograd.grad(ONCE[name](x), x, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd.Function"):
        torch.func.grad(ONCE[name])(x)
    with pytest.raises(RuntimeError, match="jvp"):  # forward mode
        torch.func.jvp(ONCE[name], (x,), (x,))


@pytest.mark.parametrize("function", [weak_sigreg, lambda x: epps_pulley(x, exact=True)])
def test_second_gradients_of_the_others_are_right(function):
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradgradcheck(function, x.requires_grad_())


class Largest(TorchDispatchMode):
    """The size of the largest tensor that an operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_many_chunks_equal_one_and_need_no_more_memory_than_the_projections(monkeypatch):
    x = cloud("cigar", n=300).float().requires_grad_()
    a = unit_directions()
    whole = sigreg(x, directions=a)
    (whole_gradient,) = torch.autograd.grad(whole, x)
    # two slices at a time, and a last odd one
    monkeypatch.setattr("jepa_utils.objectives.sigreg._CPU_CHUNK", 700)
    with Largest() as seen:
        parts = sigreg(x, directions=a)
        (parts_gradient,) = torch.autograd.grad(parts, x)
    assert torch.allclose(whole, parts, rtol=1e-5)
    assert torch.allclose(whole_gradient, parts_gradient, rtol=1e-4, atol=1e-6)
    assert seen.numbers == 300 * SLICES


# ---- the presets, each as its own project writes it


def czinner(x, a):
    t = torch.linspace(-5, 5, 17, dtype=x.dtype)
    bell = torch.exp(-0.5 * t**2)
    mean = torch.exp(-1j * (x @ a).unsqueeze(-1) * t).mean(0)
    return (torch.trapezoid((mean - bell).abs() ** 2 * bell, t, dim=1) * len(x)).mean()


def lejepa(x, a):
    t = torch.linspace(0, 3, 17, dtype=x.dtype)
    weights = torch.full_like(t, 2 * 3 / 16)
    weights[[0, -1]] = 3 / 16
    bell = torch.exp(-(t**2) / 2)
    angles = (x @ a).unsqueeze(-1) * t
    error = (angles.cos().mean(0) - bell) ** 2 + angles.sin().mean(0) ** 2
    return (error @ (weights * bell) * len(x)).mean()


def eb_jepa(x, a):
    t = torch.linspace(-3, 3, 10, dtype=x.dtype)
    bell = torch.exp(-0.5 * t**2)
    mean = torch.exp(1j * (x @ a).unsqueeze(-1) * t).mean(0)
    return torch.trapezoid(bell * (mean - bell).abs() ** 2, t, dim=1).mean()


@pytest.mark.parametrize(
    "name, formula", [("czinner", czinner), ("lejepa", lejepa), ("eb_jepa", eb_jepa)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_presets_equal_their_own_formula(name, formula, kind):
    x, a = cloud(kind), unit_directions(dtype=torch.float64)
    assert torch.allclose(SIGReg.preset(name)(x, directions=a), formula(x, a), rtol=1e-9)


def test_eb_jepa_lambda_in_our_units():
    x, a = cloud("shifted", n=256), unit_directions(dtype=torch.float64)
    ours = SIGReg(knots=10, t_max=3.0)(x, directions=a)
    assert torch.isclose(10 * eb_jepa(x, a), 10 / 256 * ours)
    assert round(10 / 256, 3) == 0.039


# ---- known values


def test_expected_value_for_gaussian_samples():
    samples = torch.randn(
        4000, 200, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    statistic = epps_pulley(samples, exact=True)
    expected = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
    assert round(expected, 4) == 1.0594
    standard_error = statistic.std() / math.sqrt(len(statistic))
    assert abs(statistic.mean() - expected) < 4 * standard_error
    assert standard_error < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_collapse(dtype):
    x = torch.zeros(N, D, dtype=dtype, requires_grad=True)
    value = sigreg(x)
    value.backward()
    assert value.item() == pytest.approx(0.409 * N, rel=2e-3)
    assert (x.grad == 0).all()


# ---- shapes, dtypes, randomness


def test_leading_axes_are_averaged():
    x = torch.randn(2, 3, 50, D)
    a = unit_directions()
    each = torch.stack([sigreg(batch, directions=a) for batch in x.view(6, 50, D)])
    assert torch.allclose(sigreg(x, directions=a), each.mean(), rtol=1e-5)
    x.requires_grad_()
    (whole,) = torch.autograd.grad(sigreg(x, directions=a), x)
    first = x[0, 0].detach().clone().requires_grad_()
    (part,) = torch.autograd.grad(sigreg(first, directions=a), first)
    assert torch.allclose(whole[0, 0], part / 6, rtol=1e-4, atol=1e-7)
    assert epps_pulley(x[..., 0]).shape == (2, 3)
    each = torch.stack([weak_sigreg(batch) for batch in x.view(6, 50, D)])
    assert torch.allclose(weak_sigreg(x), each.mean(), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, a = cloud("shifted").to(dtype).requires_grad_(), unit_directions()
    value = sigreg(x, directions=a)
    assert value.dtype == torch.float32
    assert value.item() == sigreg(x.detach().float(), directions=a).item()
    value.backward()
    single = x.detach().float().requires_grad_()
    sigreg(single, directions=a).backward()
    assert x.grad.dtype == dtype and torch.equal(x.grad, single.grad.to(dtype))
    assert weak_sigreg(x).dtype == epps_pulley(x.T).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_are_those_of_float64_also_for_many_samples(dtype):
    x = (cloud("shifted", n=20_000) / 2 + 1).to(dtype)  # sums far beyond what half precision counts
    a = unit_directions()
    for f in (
        lambda x: sigreg(x, directions=a),
        weak_sigreg,
        lambda x: epps_pulley(x.T),
        lambda x: epps_pulley(x[:500].T, exact=True),
    ):
        assert torch.allclose(f(x).double(), f(x.double()), rtol=1e-5)


def test_float8_is_computed_in_float32():
    x, a = cloud("shifted").to(torch.float8_e4m3fn), unit_directions()
    assert sigreg(x, directions=a) == sigreg(x.float(), directions=a)


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8, np.int8])
def test_sizes_may_be_numpy_integers(integer):
    x, seed = cloud("shifted").float(), lambda: torch.Generator().manual_seed(0)
    settings = dict(num_slices=integer(100), knots=integer(5), t_max=np.float32(3))
    plain = dict(num_slices=100, knots=5, t_max=3.0)
    expected = sigreg(x, **plain, generator=seed())
    assert sigreg(x, **settings, generator=seed()) == expected
    assert SIGReg(**settings)(x, generator=seed()) == expected
    assert repr(SIGReg(**settings)) == repr(SIGReg(**plain))
    assert torch.equal(epps_pulley(x.T, knots=integer(5)), epps_pulley(x.T, knots=5))
    for ours in (
        weak_sigreg(x, sketch_dim=integer(4), generator=seed()),
        WeakSIGReg(integer(4))(x, generator=seed()),
    ):
        assert ours == weak_sigreg(x, sketch_dim=4, generator=seed())


def test_autocast_does_not_lower_the_precision():
    x, a = cloud("shifted").float().requires_grad_(), unit_directions()
    expected = sigreg(x, directions=a)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sigreg(x, directions=a).item() == expected.item()
        assert weak_sigreg(x).dtype == torch.float32


def test_directions_are_unit_random_and_reproducible():
    x = cloud("shifted").float()
    assert sigreg(x) != sigreg(x)
    draw = lambda seed: sigreg(x, generator=torch.Generator().manual_seed(seed))
    assert draw(0) == draw(0) != draw(1)
    torch.manual_seed(0)
    first = sigreg(x)
    torch.manual_seed(0)
    assert sigreg(x) == first
    # isotropy: a rotation of the cloud changes the value no more than other directions do
    rotation = torch.linalg.qr(torch.randn(D, D))[0]
    assert sigreg(x @ rotation, num_slices=4096).item() == pytest.approx(
        sigreg(x, num_slices=4096).item(), rel=0.05
    )


def test_no_gradient_flows_to_directions_and_none_is_kept_without_need():
    a = unit_directions().requires_grad_()
    x = cloud("shifted").float().requires_grad_()
    sigreg(x, directions=a).backward()
    assert a.grad is None and x.grad is not None
    assert not sigreg(x.detach()).requires_grad


def test_module_equals_function_and_says_its_settings():
    x, a = cloud("cigar").float(), unit_directions()
    assert SIGReg()(x, directions=a) == sigreg(x, directions=a)
    assert torch.isclose(SIGReg(scale_by_n=False)(x, directions=a) * N, sigreg(x, directions=a))
    assert WeakSIGReg()(x) == weak_sigreg(x)
    assert "knots=33" in repr(SIGReg.preset("lejepa"))
    assert "num_slices=1, " in repr(SIGReg(num_slices=1))
    assert "sketch_dim=1" in repr(WeakSIGReg(sketch_dim=1))


def test_weak_sigreg_compares_covariances():
    x = cloud("shifted", n=2000)
    expected = torch.linalg.matrix_norm(torch.cov(x.T) - torch.eye(D, dtype=x.dtype))
    assert torch.isclose(weak_sigreg(x), expected)
    white = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    assert weak_sigreg(white) < 1e-10  # blind to the mean and to the shape, unlike SIGReg
    assert weak_sigreg(torch.ones(50, D)).item() == pytest.approx(math.sqrt(D))
    assert weak_sigreg(torch.ones(50, 200), sketch_dim=16).item() == pytest.approx(4)


def test_training_on_sigreg_alone_makes_a_gaussian():
    torch.manual_seed(0)
    x = (0.1 * torch.randn(512, 4) + 1).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.03)
    for _ in range(300):
        optimizer.zero_grad()
        sigreg(x).backward()
        optimizer.step()
    assert sigreg(x, num_slices=1024) < 1.06
    assert torch.allclose(torch.cov(x.detach().T), torch.eye(4), atol=0.15)


# ---- bad input


X = torch.randn(8, 3)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: sigreg(torch.full((8, 3), math.nan)), ValueError, ["embeddings", "24 NaN"]),
        (lambda: sigreg(torch.full((8, 3), math.inf)), ValueError, ["embeddings", "infinite"]),
        (lambda: sigreg(X[:1]), ValueError, ["embeddings", "2 samples", "(1, 3)"]),
        (lambda: sigreg(torch.tensor(1.0)), ValueError, ["embeddings", "(..., N, D)", "()"]),
        (lambda: sigreg(X[0]), ValueError, ["embeddings", "(..., N, D)", "(3,)"]),
        (lambda: sigreg(X.long()), TypeError, ["embeddings", "int64"]),
        (lambda: sigreg(X.tolist()), TypeError, ["embeddings", "list"]),
        (lambda: sigreg(X[:, :0]), ValueError, ["embeddings", "(8, 0)"]),
        (lambda: sigreg(X, num_slices=0), ValueError, ["num_slices", "0"]),
        (lambda: sigreg(X, num_slices=2.5), ValueError, ["num_slices", "2.5"]),
        (lambda: sigreg(X, knots=1), ValueError, ["knots", "1"]),
        (lambda: sigreg(X, t_max=0), ValueError, ["t_max", "0"]),
        (lambda: sigreg(X, t_max=-1.0), ValueError, ["t_max", "-1.0"]),
        (lambda: sigreg(X, t_max=math.nan), ValueError, ["t_max", "nan"]),
        (
            lambda: sigreg(X, directions=unit_directions(4, 5)),
            ValueError,
            ["directions", "D = 3", "(4, 5)"],
        ),
        (
            lambda: sigreg(X, directions=unit_directions(3, 5)[:, 0]),
            ValueError,
            ["directions", "(3,)"],
        ),
        (
            lambda: sigreg(X, directions=2 * unit_directions(3, 5)),
            ValueError,
            ["directions", "length 1", "2"],
        ),
        (
            lambda: sigreg(X, directions=torch.ones(3, 5, dtype=torch.long)),
            TypeError,
            ["directions", "int64"],
        ),
        (lambda: sigreg(X, num_slices=np.float64(4)), ValueError, ["num_slices", "4.0"]),
        (lambda: sigreg(X, num_slices=np.True_), ValueError, ["num_slices", "True"]),
        (lambda: sigreg(X, t_max=10**400), ValueError, ["t_max", "finite"]),
        (lambda: sigreg(X, t_max=1e300), ValueError, ["t_max", "small enough", "nan"]),
        (lambda: sigreg(X[:0]), ValueError, ["embeddings", "2 samples", "(0, 3)"]),
        (lambda: sigreg(X[None, :0]), ValueError, ["embeddings", "(1, 0, 3)"]),
        (lambda: sigreg(X[None][:0]), ValueError, ["embeddings", "empty", "(0, 8, 3)"]),
        (lambda: sigreg(X.to("meta")), TypeError, ["embeddings", "values", "meta"]),
        (lambda: sigreg(X.to_sparse()), TypeError, ["embeddings", "dense", "sparse"]),
        (lambda: epps_pulley(X.to_sparse()), TypeError, ["samples", "dense", "sparse"]),
        (lambda: epps_pulley(X[:, :0]), ValueError, ["samples", "2 samples", "(8, 0)"]),
        (lambda: weak_sigreg(X.to("meta")), TypeError, ["embeddings", "values", "meta"]),
        (lambda: weak_sigreg(1e20 * X), ValueError, ["embeddings", "small enough", "float32"]),
        (lambda: SIGReg(num_slices=0), ValueError, ["num_slices", "0"]),
        (lambda: SIGReg(knots=0), ValueError, ["knots", "0"]),
        (lambda: SIGReg.preset("vicreg"), ValueError, ["czinner", "vicreg"]),
        (lambda: epps_pulley(torch.tensor(1.0)), ValueError, ["samples", "()"]),
        (lambda: epps_pulley(X[:, :1]), ValueError, ["samples", "2 samples"]),
        (lambda: epps_pulley(X, knots=1), ValueError, ["knots"]),
        (lambda: epps_pulley(X * math.nan, exact=True), ValueError, ["samples", "NaN"]),
        (lambda: weak_sigreg(X[0]), ValueError, ["embeddings", "(3,)"]),
        (lambda: weak_sigreg(X, sketch_dim=0), ValueError, ["sketch_dim", "0"]),
    ],
)
def test_bad_input_names_the_argument_and_what_it_got(call, error, words):
    with pytest.raises(error) as raised:
        call()
    for word in words:
        assert word in str(raised.value)
