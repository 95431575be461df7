"""InfoNCE, alignment and uniformity against loops written out here, at their extremes."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from jepa_utils.objectives import infonce
from jepa_utils.objectives.infonce import InfoNCE, alignment, info_nce, uniformity

N, D = 9, 4


def pair(n=N, d=D, m=None, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g, dtype=dtype), torch.randn(
        m or n, d, generator=g, dtype=dtype
    )


def cosines(q, k):
    return (q / q.norm(dim=1, keepdim=True)) @ (k / k.norm(dim=1, keepdim=True)).T


def one_way(q, k, tau):
    total = 0.0
    for i in range(len(q)):
        powers = [math.exp(torch.dot(q[i], kj) / (q[i].norm() * kj.norm()) / tau) for kj in k]
        total -= math.log(powers[i] / sum(powers))
    return total / len(q)


def written_positives(q, k, positives, tau):
    s, per_query = (cosines(q, k) / tau).tolist(), []
    for i in range(len(q)):
        wrong = sum(math.exp(s[i][j]) for j in range(len(k)) if not positives[i, j])
        losses = [
            -math.log(math.exp(s[i][j]) / (math.exp(s[i][j]) + wrong))
            for j in range(len(k))
            if positives[i, j]
        ]
        per_query.append(sum(losses) / len(losses))
    return sum(per_query) / len(per_query)


@pytest.mark.parametrize("tau", [0.07, 0.5, 3.0])
def test_equals_the_written_out_loss(tau):
    q, k = pair()
    there, back = one_way(q, k, tau), one_way(k, q, tau)
    assert there != pytest.approx(back, rel=1e-4)
    assert info_nce(q, k, temperature=tau, symmetric=False).item() == pytest.approx(
        there, rel=1e-10
    )
    assert info_nce(q, k, temperature=tau).item() == pytest.approx((there + back) / 2, rel=1e-10)


def test_equals_cross_entropy_with_the_partner_as_class():
    q, k = pair()
    logits = cosines(q, k) / 0.07
    there, back = (
        F.cross_entropy(logits, torch.arange(N)),
        F.cross_entropy(logits.T, torch.arange(N)),
    )
    assert torch.allclose(info_nce(q, k, symmetric=False), there, rtol=1e-10)
    assert torch.allclose(info_nce(q, k), (there + back) / 2, rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-15, 1e-3, 1e3, 1e15])
def test_lengths_do_not_matter(scale):
    q, k = pair(dtype=torch.float32)
    lengths = scale * torch.linspace(1, 2, N)[:, None]
    assert torch.allclose(info_nce(q * lengths, k), info_nce(q, k), rtol=1e-4)
    assert torch.allclose(alignment(q * lengths, k / lengths), alignment(q, k), rtol=1e-4)
    assert torch.allclose(uniformity(q * lengths), uniformity(q), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-25, 1e19, 1e25])
def test_any_length_but_zero_will_do(scale):
    q, k = pair(dtype=torch.float32)
    assert torch.allclose(info_nce(q * scale, k), info_nce(q, k), rtol=1e-4)


def test_keys_that_tell_nothing_cost_log_n():
    q, _ = pair()
    assert info_nce(q, torch.ones(N, D, dtype=q.dtype), symmetric=False).item() == pytest.approx(
        math.log(N)
    )
    assert (
        info_nce(q, torch.ones(N, D, dtype=q.dtype)) > math.log(N) + 1
    )  # finding queries by equal keys only misleads
    assert info_nce(torch.ones(N, D), torch.ones(N, D)).item() == pytest.approx(math.log(N))


def test_found_partners_cost_nothing():
    assert info_nce(torch.eye(6), torch.eye(6), temperature=0.01).item() == pytest.approx(
        0, abs=1e-6
    )
    wrong = torch.eye(6).roll(1, dims=0)
    assert info_nce(torch.eye(6), wrong, temperature=0.01).item() == pytest.approx(100, rel=1e-6)


# ---- several positives


def blocks(n=N, m=N, kinds=3):
    return torch.arange(n)[:, None] % kinds == torch.arange(m)[None] % kinds


def test_each_positive_competes_with_the_others_alone():
    q, k = pair()
    positives = blocks()
    there, back = written_positives(q, k, positives, 0.3), written_positives(k, q, positives.T, 0.3)
    assert info_nce(
        q, k, temperature=0.3, positives=positives, symmetric=False
    ).item() == pytest.approx(there, rel=1e-10)
    assert info_nce(q, k, temperature=0.3, positives=positives).item() == pytest.approx(
        (there + back) / 2, rel=1e-10
    )


def test_a_query_counts_once_however_many_partners_it_has():
    q, k = pair()
    positives = torch.eye(N, dtype=torch.bool)
    positives[0, :5] = True
    expected = written_positives(q, k, positives, 0.07)
    assert info_nce(q, k, positives=positives, symmetric=False).item() == pytest.approx(
        expected, rel=1e-10
    )


@pytest.mark.parametrize("m", [5, 14])
def test_keys_may_be_of_another_number(m):
    q, k = pair(m=m)
    positives = blocks(m=m)
    there, back = (
        written_positives(q, k, positives, 0.07),
        written_positives(k, q, positives.T, 0.07),
    )
    assert info_nce(q, k, positives=positives, symmetric=False).item() == pytest.approx(
        there, rel=1e-10
    )
    assert info_nce(q, k, positives=positives).item() == pytest.approx(
        (there + back) / 2, rel=1e-10
    )


def test_one_positive_each_is_the_plain_loss():
    q, k = pair()
    assert torch.allclose(
        info_nce(q, k, positives=torch.eye(N, dtype=torch.bool)), info_nce(q, k), rtol=1e-10
    )
    order = torch.randperm(N, generator=torch.Generator().manual_seed(2))
    moved = torch.eye(N, dtype=torch.bool)[:, order]
    assert torch.allclose(info_nce(q, k[order], positives=moved), info_nce(q, k), rtol=1e-10)


def test_a_query_without_negatives_costs_nothing():
    q, k = pair()
    q.requires_grad_()
    value = info_nce(q, k, positives=torch.ones(N, N, dtype=torch.bool))
    value.backward()
    assert value.item() == 0 and (q.grad == 0).all()
    positives = torch.eye(N, dtype=torch.bool)
    positives[3] = True
    q.grad = None
    info_nce(q, k, positives=positives, symmetric=False).backward()
    assert (
        (q.grad[3] == 0).all()
        and q.grad.isfinite().all()
        and (q.grad[[0, 1, 2, 4]].norm(dim=1) > 0).all()
    )


# ---- some rows at a time


def plain_one_way(logits, positives):
    if positives is None:
        return F.cross_entropy(logits, torch.arange(len(logits)))
    losses = []
    for row, right in zip(logits, positives):
        contests = torch.stack(
            [torch.cat([row[j : j + 1], row[~right]]) for j in right.nonzero()[:, 0]]
        )
        losses.append(F.cross_entropy(contests, torch.zeros(len(contests), dtype=torch.long)))
    return torch.stack(losses).mean()


def plain(q, k, temperature, positives, symmetric):
    logits = cosines(q, k) / temperature
    there = plain_one_way(logits, positives)
    return (
        (there + plain_one_way(logits.T, None if positives is None else positives.T)) / 2
        if symmetric
        else there
    )


def several_each(m):
    positives = blocks(m=m)
    positives[0] = True  # no negative at all
    return positives


@pytest.mark.parametrize(
    "chunk", [2**20, 4 * N, 3 * N - 1, 1], ids=["all", "4 rows", "2 rows", "1 row"]
)
@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("symmetric", [False, True], ids=["one way", "symmetric"])
@pytest.mark.parametrize("m, several", [(N, False), (N, True), (5, True), (14, True)])
def test_value_and_gradient_are_those_of_the_plain_formula(
    m, several, symmetric, learned, chunk, monkeypatch
):
    monkeypatch.setattr(infonce, "_CHUNK", chunk)
    q, k = (x.requires_grad_() for x in pair(m=m))
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=learned)
    positives = several_each(m) if several else None
    leaves = [q, k, tau] if learned else [q, k]
    found = info_nce(q, k, temperature=tau, positives=positives, symmetric=symmetric)
    expected = plain(q, k, tau, positives, symmetric)
    assert torch.allclose(found, expected, rtol=1e-13)
    slopes = zip(
        torch.autograd.grad(3 * found, leaves),
        torch.autograd.grad(3 * expected, leaves),
        strict=True,
    )
    assert all(torch.allclose(ours, theirs, rtol=1e-12, atol=1e-14) for ours, theirs in slopes)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("side", [0, 1], ids=["queries", "keys"])
def test_gradient_of_one_side_alone(side, several):
    both, one = [x.requires_grad_() for x in pair()], list(pair())
    one[side].requires_grad_()
    positives = blocks() if several else None
    for batches in (both, one):
        info_nce(*batches, positives=positives).backward()
    assert (
        torch.allclose(one[side].grad, both[side].grad, rtol=1e-13) and one[1 - side].grad is None
    )


class Recorder(TorchDispatchMode):
    """The largest tensor of numbers that an operation returns, and how many matrix products there are."""

    largest = products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.products += func._schema.name in ("aten::mm", "aten::addmm", "aten::addmm_")
        for x in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(x, torch.Tensor) and x.is_floating_point():
                self.largest = max(self.largest, x.numel())
        return result


@pytest.mark.parametrize("several", [False, True])
def test_no_array_of_all_logits_is_formed(several, monkeypatch):
    n, d, chunk = 200, 8, 3000
    monkeypatch.setattr(infonce, "_CHUNK", chunk)
    q, k = (x.requires_grad_() for x in pair(n, d))
    positives = blocks(n, n, 7) if several else None
    with Recorder() as ours:
        info_nce(q, k, positives=positives).backward()
    assert n * d < ours.largest == chunk
    with Recorder() as theirs:
        plain(q, k, 0.07, None, True).backward()
    assert theirs.largest == n * n


def test_without_gradient_none_is_computed():
    q, k = pair()
    with Recorder() as value:
        expected = info_nce(q, k)
    assert value.products == 2  # the logits, both ways
    q.requires_grad_()
    with Recorder() as gradient:
        info_nce(q, k)
    assert gradient.products == 4
    with Recorder() as value, torch.no_grad():
        assert info_nce(q, k) == expected
    assert value.products == 2


@pytest.mark.parametrize("positives", [None, blocks()], ids=["one", "several"])
def test_a_second_gradient_is_an_error_and_not_a_wrong_number(positives):
    q, k = (x.requires_grad_() for x in pair())
    value = info_nce(q, k, positives=positives)
    with pytest.raises(RuntimeError, match=r"once, not twice.*create_graph"):
        torch.autograd.grad(value, q, create_graph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("positives", [None, blocks()], ids=["one", "several"])
def test_extreme_temperatures_do_not_overflow(positives, dtype):
    q, k = (x.requires_grad_() for x in pair(dtype=dtype))
    value = info_nce(q, k, temperature=1e-3, positives=positives)
    assert torch.allclose(
        value, plain(q, k, 1e-3, positives, True), rtol=1e-5 if dtype == torch.float32 else 1e-12
    )
    value.backward()
    assert q.grad.isfinite().all() and k.grad.isfinite().all() and q.grad.norm() > 0
    # all partners opposite to where all the others are: 1000 - (-1000), and the log of how many the
    # others are
    away, count = torch.ones(N, D, dtype=dtype), N - 1
    away[0] = -1
    right = torch.zeros(N, N, dtype=torch.bool)
    right[:, 0] = True
    found = info_nce(
        -away[:1].expand(N, D), away, temperature=1e-3, positives=right, symmetric=False
    )
    assert found.item() == pytest.approx(2000 + math.log(count), rel=1e-6)
    assert info_nce(*pair(), temperature=1e6, symmetric=False).item() == pytest.approx(
        math.log(N), abs=1e-5
    )


# ---- temperature, precision, gradient


def test_temperature_may_be_a_tensor_with_gradient():
    q, k = pair()
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    value = info_nce(q, k, temperature=tau)
    assert torch.allclose(value, info_nce(q, k, temperature=0.3), rtol=1e-12)
    value.backward()
    slope = (info_nce(q, k, temperature=0.3 + 1e-5) - info_nce(q, k, temperature=0.3 - 1e-5)) / 2e-5
    assert tau.grad.item() == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_temperature_of_another_precision_changes_none(dtype, shape):
    q, k = pair(dtype=torch.float32)
    tau = torch.full(shape, 0.25, dtype=dtype, requires_grad=True)
    value = info_nce(q, k, temperature=tau)
    assert (
        value.dtype == torch.float32
        and value.shape == ()
        and torch.allclose(value, info_nce(q, k, temperature=0.25))
    )
    value.backward()
    assert tau.grad.shape == shape and tau.grad.dtype == dtype and tau.grad != 0


def test_a_learned_temperature_gives_no_warning():
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            InfoNCE(learn_temperature=True)(*pair())
    finally:
        torch.set_warn_always(False)


def test_module_has_a_fixed_temperature_by_default():
    q, k = pair()
    module = InfoNCE(0.2, symmetric=False)
    assert torch.allclose(module(q, k), info_nce(q, k, temperature=0.2, symmetric=False), rtol=1e-6)
    several = dict(positives=blocks())
    assert torch.allclose(
        module(q, k, **several), info_nce(q, k, temperature=0.2, symmetric=False, **several)
    )
    assert list(module.parameters()) == [] and list(module.state_dict()) == ["log_temperature"]
    assert torch.allclose(InfoNCE()(q, k), info_nce(q, k))
    assert "temperature=0.2" in repr(module) and "symmetric=False" in repr(module)


def test_module_learns_its_temperature():
    q, _ = pair()
    module = InfoNCE(0.2, learn_temperature=True)
    (parameter,) = module.parameters()
    assert parameter.item() == pytest.approx(math.log(0.2))
    module(q, q).backward()
    assert parameter.grad > 0  # partners coincide: a lower temperature pays
    with torch.no_grad():
        parameter.fill_(math.log(0.5))
    assert torch.allclose(module(q, q), info_nce(q, q, temperature=0.5))


@pytest.mark.parametrize("learned", [True, False])
def test_temperature_survives_the_state_dict(learned):
    q, k = pair()
    module = InfoNCE(0.9, learn_temperature=not learned)
    module.load_state_dict(InfoNCE(0.2, learn_temperature=learned).state_dict())
    assert torch.allclose(module(q, k), info_nce(q, k, temperature=0.2))


def test_gradcheck():
    q, k = (x.requires_grad_() for x in pair(6, 3))
    tau = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, k, tau: info_nce(q, k, temperature=tau), (q, k, tau))
    positives = blocks(6, 6, 2)
    assert torch.autograd.gradcheck(
        lambda q, k, tau: info_nce(q, k, temperature=tau, positives=positives), (q, k, tau)
    )
    assert torch.autograd.gradcheck(alignment, (q, k))
    assert torch.autograd.gradcheck(uniformity, q)
    assert torch.autograd.gradgradcheck(alignment, (q, k))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    q, k = (x.to(dtype).requires_grad_() for x in pair())
    value = info_nce(q, k)
    assert value.dtype == alignment(q, k).dtype == uniformity(q).dtype == torch.float32
    assert value.item() == info_nce(q.detach().float(), k.detach().float()).item()
    value.backward()
    single = [x.detach().float().requires_grad_() for x in (q, k)]
    info_nce(*single).backward()
    for ours, theirs in zip((q, k), single, strict=True):
        assert ours.grad.dtype == dtype and torch.equal(ours.grad, theirs.grad.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_are_those_of_float64_also_for_many_samples(dtype):
    q, k = ((x + 1).to(dtype) for x in pair(n=1500, d=8))
    for f in (info_nce, alignment, lambda q, k: uniformity(q)):
        ours, expected = f(q, k), f(q.double(), k.double())
        assert torch.allclose(ours.double(), expected, rtol=1e-5)
        assert torch.allclose(
            f(q, k.double()).double(), expected, rtol=1e-5
        )  # the wider of the two


@pytest.mark.parametrize("number", [np.float32, np.float64, np.int64])
def test_numbers_may_be_numpys(number):
    q, k = (x.float().requires_grad_() for x in pair())
    two = number(2)
    assert info_nce(q, k, temperature=two) == info_nce(q, k, temperature=2)
    assert InfoNCE(two)(q, k) == InfoNCE(2)(q, k)
    assert alignment(q, k, power=two) == alignment(q, k, power=2)
    assert uniformity(q, t=two) == uniformity(q, t=2)
    uniformity(q, t=two).backward()
    assert q.grad.norm() > 0


def test_autocast_does_not_lower_the_precision():
    q, k = pair(dtype=torch.float32)
    expected = info_nce(q, k)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert info_nce(q, k).item() == expected.item()


# ---- alignment and uniformity


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_alignment_is_the_mean_power_of_distances(power):
    x, y = pair()
    expected = (
        sum(
            math.dist((a / a.norm()).tolist(), (b / b.norm()).tolist()) ** power
            for a, b in zip(x, y)
        )
        / N
    )
    assert alignment(x, y, power=power).item() == pytest.approx(expected, rel=1e-10)


def test_alignment_at_its_extremes():
    x, _ = pair()
    x.requires_grad_()
    same = alignment(x, 3 * x.detach())
    same.backward()
    assert same.item() == pytest.approx(0, abs=1e-15) and x.grad.isfinite().all()
    assert alignment(x, -x).item() == pytest.approx(4)
    assert alignment(torch.eye(4), torch.eye(4).roll(1, dims=0)).item() == pytest.approx(2)


@pytest.mark.parametrize("t", [0.5, 2.0, 8.0])
def test_uniformity_is_the_log_of_the_mean_kernel(t):
    x, _ = pair()
    unit = (x / x.norm(dim=1, keepdim=True)).tolist()
    kernel = [math.exp(-t * math.dist(unit[i], unit[j]) ** 2) for i in range(N) for j in range(i)]
    assert uniformity(x, t=t).item() == pytest.approx(
        math.log(sum(kernel) / len(kernel)), rel=1e-10
    )


def test_uniformity_at_its_extremes():
    same = torch.ones(N, D, requires_grad=True)
    value = uniformity(same)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6) and same.grad.isfinite().all()
    assert uniformity(torch.tensor([[1.0, 2], [-1, -2]])).item() == pytest.approx(
        -8
    )  # antipodes: squared distance 4
    simplex = torch.eye(N, dtype=torch.float64) - 1 / N
    assert uniformity(simplex).item() == pytest.approx(-2 * 2 * N / (N - 1))
    assert uniformity(
        torch.randn(N, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ) > uniformity(simplex)


# ---- bad input


X = torch.randn(8, 3, generator=torch.Generator().manual_seed(3))
ZERO = X.clone()
ZERO[[2, 5]] = 0
EYE = torch.eye(8, dtype=torch.bool)
LONELY = EYE.clone()
LONELY[4, 4] = False
LONELY_KEY = LONELY.clone()
LONELY_KEY[4, 0] = True


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: info_nce(ZERO, X), ValueError, ["queries", "zero vector", "2 of 8"]),
        (lambda: info_nce(X, ZERO), ValueError, ["keys", "zero vector", "2 of 8"]),
        (lambda: info_nce(X * math.nan, X), ValueError, ["queries", "24 NaN"]),
        (lambda: info_nce(X, X * math.inf), ValueError, ["keys", "infinite"]),
        (lambda: info_nce(X, X[:7]), ValueError, ["queries and keys", "(8, 3)", "(7, 3)"]),
        (lambda: info_nce(X, X[:, :2]), ValueError, ["queries and keys", "(8, 2)"]),
        (
            lambda: info_nce(X, X[:, :2], positives=EYE),
            ValueError,
            ["queries and keys", "dimensions", "(8, 2)"],
        ),
        (lambda: info_nce(X[0], X[0]), ValueError, ["queries", "(3,)"]),
        (lambda: info_nce(X[:1], X[:1]), ValueError, ["queries", "2 samples", "(1, 3)"]),
        (lambda: info_nce(X.view(2, 4, 3), X), ValueError, ["queries", "(N, D)", "(2, 4, 3)"]),
        (lambda: info_nce(X, X.long()), TypeError, ["keys", "int64"]),
        (lambda: info_nce(X.tolist(), X), TypeError, ["queries", "list"]),
        (lambda: info_nce(X, X, temperature=0.0), ValueError, ["temperature", "0.0"]),
        (lambda: info_nce(X, X, temperature=-1.0), ValueError, ["temperature", "-1.0"]),
        (lambda: info_nce(X, X, temperature=math.nan), ValueError, ["temperature", "nan"]),
        (lambda: info_nce(X, X, temperature=math.inf), ValueError, ["temperature", "inf"]),
        (lambda: info_nce(X, X, temperature=True), ValueError, ["temperature", "True"]),
        (
            lambda: info_nce(X, X, temperature=torch.tensor(-0.5)),
            ValueError,
            ["temperature", "-0.5"],
        ),
        (lambda: InfoNCE(0.0), ValueError, ["temperature", "0.0"]),
        (
            lambda: info_nce(X, X, positives=EYE.float()),
            ValueError,
            ["positives", "boolean", "float32"],
        ),
        (lambda: info_nce(X, X, positives=EYE[:7]), ValueError, ["positives", "(8, 8)", "(7, 8)"]),
        (lambda: info_nce(X, X, positives=EYE.tolist()), ValueError, ["positives", "list"]),
        (
            lambda: info_nce(X, X, positives=LONELY, symmetric=False),
            ValueError,
            ["positives", "every query", "without"],
        ),
        (
            lambda: info_nce(X, X, positives=LONELY_KEY),
            ValueError,
            ["positives", "every query and key", "without"],
        ),
        (lambda: info_nce(X, X, temperature=1e-40), ValueError, ["temperature", "1e-40"]),
        (lambda: info_nce(X, X, temperature=np.True_), ValueError, ["temperature", "True"]),
        (lambda: info_nce(X, X, temperature="1"), ValueError, ["temperature", "'1'"]),
        (
            lambda: info_nce(X, X, positives=EYE.to("meta")),
            ValueError,
            ["positives", "device", "meta"],
        ),
        (lambda: info_nce(X[:0], X[:0]), ValueError, ["queries", "2 samples", "(0, 3)"]),
        (lambda: info_nce(X, X.to("meta")), TypeError, ["keys", "values", "meta"]),
        (lambda: info_nce(X, 1e-42 * X), ValueError, ["keys", "zero vector", "8 of 8"]),
        (lambda: alignment(X, X.to_sparse()), TypeError, ["second", "dense", "sparse"]),
        (lambda: alignment(X, X, power="2"), ValueError, ["power", "'2'"]),
        (lambda: uniformity(X[:0]), ValueError, ["embeddings", "2 samples", "(0, 3)"]),
        (lambda: uniformity(X, t="2"), ValueError, ["t must", "'2'"]),
        (lambda: uniformity(X.to("meta")), TypeError, ["embeddings", "values", "meta"]),
        (lambda: alignment(ZERO, X), ValueError, ["first", "zero vector"]),
        (lambda: alignment(X, ZERO), ValueError, ["second", "zero vector"]),
        (lambda: alignment(X, X[:7]), ValueError, ["first and second", "(7, 3)"]),
        (lambda: alignment(X, X * math.nan), ValueError, ["second", "NaN"]),
        (lambda: alignment(X, X, power=0.0), ValueError, ["power", "0.0"]),
        (lambda: alignment(X, X, power=-2.0), ValueError, ["power", "-2.0"]),
        (lambda: alignment(X, X, power=True), ValueError, ["power", "True"]),
        (lambda: uniformity(ZERO), ValueError, ["embeddings", "zero vector", "2 of 8"]),
        (lambda: uniformity(X * math.nan), ValueError, ["embeddings", "NaN"]),
        (lambda: uniformity(X[:1]), ValueError, ["embeddings", "2 samples"]),
        (lambda: uniformity(X.view(2, 4, 3)), ValueError, ["embeddings", "(N, D)", "(2, 4, 3)"]),
        (lambda: uniformity(X.long()), TypeError, ["embeddings", "int64"]),
        (lambda: uniformity(X, t=0.0), ValueError, ["t must", "0.0"]),
        (lambda: uniformity(X, t=math.inf), ValueError, ["t must", "inf"]),
    ],
)
def test_bad_input_names_the_argument_and_what_it_got(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert [word for word in words if word not in str(raised.value)] == []


def test_a_key_without_query_is_no_error_one_way():
    expected = written_positives(X, X, LONELY_KEY, 0.07)
    found = info_nce(X, X, positives=LONELY_KEY, symmetric=False)
    assert found.item() == pytest.approx(expected, rel=1e-5)
