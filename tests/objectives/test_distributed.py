"""Every loss on two real processes (gloo, DistributedDataParallel) against the same on one.

One launch does all the work: what is wrong on one rank must be raised on both, and leave them in
step for what follows.
"""

import inspect
import math

import pytest
import torch
import torch.distributed as dist
from processes import results_on_processes

from jepa_utils.objectives import infonce, sigreg, vcreg, vicreg, visreg

DIMENSIONS = 6
# Uneven, one row, and none: together they are two or more, which is all that is needed.
SIZES = [(20, 20), (23, 14), (9, 1), (0, 10), (11, 0)]


def network():
    torch.manual_seed(0)
    return torch.nn.Linear(5, DIMENSIONS).double()


def samples(sizes):
    g = torch.Generator().manual_seed(5)
    return torch.randn(sum(sizes), 5, generator=g, dtype=torch.float64).split(sizes)


# ---- objectives of (embeddings, sizes of the ranks, rank or None for all of them, network)


def pair(h):
    return h[:, :3], h[:, 3:]


def two_views(h, *_):
    return sigreg.sigreg(torch.stack([h, h**2]), num_slices=64)


def info_nce_in_chunks(h, *_):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infonce, "_CHUNK", 3 * 37)  # three rows at a time, and what is left
        return infonce.info_nce(*pair(h))


def learned_temperature(h, sizes, rank, net):
    return infonce.info_nce(*pair(h), temperature=net.weight[0, 0].abs() + 0.1)


def several_partners(h, sizes, rank, symmetric=True):
    """One key fewer than queries on every rank that has any."""
    parts = h.split(sizes) if rank is None else [h]
    queries, keys = h[:, :3], torch.cat([part[:-1, 3:] for part in parts])
    n, m = sum(sizes), sum(max(size - 1, 0) for size in sizes)
    relation = (torch.arange(n)[:, None] * torch.arange(m)[None]) % 3 == 0  # not symmetric
    relation[torch.arange(n), torch.arange(n) % m] = True
    if rank is not None:
        relation = relation.split(sizes)[rank]
    return infonce.info_nce(queries, keys, positives=relation, symmetric=symmetric)


OBJECTIVES = {
    "sigreg": lambda h, *_: sigreg.sigreg(h),
    "sigreg, two views": two_views,
    "SIGReg eb_jepa": lambda h, *_: sigreg.SIGReg.preset("eb_jepa")(h),
    "weak_sigreg": lambda h, *_: sigreg.weak_sigreg(h),
    "weak_sigreg, sketched": lambda h, *_: sigreg.WeakSIGReg(sketch_dim=4)(h),
    "variance_penalty": lambda h, *_: vicreg.variance_penalty(h, target_std=2.0),
    "covariance_penalty": lambda h, *_: vicreg.covariance_penalty(h),
    "vcreg": lambda h, *_: vcreg.vcreg(torch.stack([h, h**2]), covariance=2.0),
    "VCReg": lambda h, *_: vcreg.VCReg()(h),
    "vicreg": lambda h, *_: vicreg.vicreg(*pair(h)),
    "visreg": lambda h, *_: visreg.visreg(h, num_slices=7),  # shares differ
    "visreg, two views": lambda h, *_: visreg.visreg(torch.stack([h, h**2]), shape=2.0),
    "VISReg, one slice": lambda h, *_: visreg.VISReg(num_slices=1)(h),  # none for the second rank
    "info_nce": lambda h, *_: infonce.info_nce(*pair(h)),
    "info_nce, one way": lambda h, *_: infonce.InfoNCE(0.5, symmetric=False)(*pair(h)),
    "info_nce, in chunks": info_nce_in_chunks,
    "info_nce, learned temperature": learned_temperature,
    "info_nce, several partners": lambda h, sizes, rank, _: several_partners(h, sizes, rank),
    "info_nce, several partners, one way": lambda h, sizes, rank, _: several_partners(
        h, sizes, rank, symmetric=False
    ),
    "alignment": lambda h, *_: infonce.alignment(*pair(h), power=3.0),
    "uniformity": lambda h, *_: infonce.uniformity(h),
}

# ---- what only one rank, or no rank alone, can see to be wrong: (call of the rank, error, words)

X = torch.randn(8, DIMENSIONS, generator=torch.Generator().manual_seed(3))
EYE = torch.eye(16, dtype=torch.bool)
LONELY = EYE.clone()
LONELY[9] = False
LONELY_KEY = LONELY.clone()
LONELY_KEY[9, 0] = True
SINGLE = {
    "sigreg": sigreg.sigreg,
    "weak_sigreg": sigreg.weak_sigreg,
    "variance_penalty": vicreg.variance_penalty,
    "covariance_penalty": vicreg.covariance_penalty,
    "vcreg": vcreg.vcreg,
    "vicreg": lambda x: vicreg.vicreg(x, x),
    "visreg": visreg.visreg,
    "info_nce": lambda x: infonce.info_nce(x, x),
    "alignment": lambda x: infonce.alignment(x, x),
    "uniformity": infonce.uniformity,
}


def other(rank, first, second):
    return first if rank == 0 else second


def positives(rank, relation):
    rows = relation[:8] if rank == 0 else relation[8:]
    return infonce.info_nce(X, X, positives=rows)


WRONG = {
    "NaN": (lambda f, rank: f(other(rank, X, X * math.nan)), ValueError, ["NaN", "rank 1 of 2"]),
    "NaN on rank 0": (lambda f, rank: f(other(rank, X * math.nan, X)), ValueError, ["rank 0 of 2"]),
    "dtype": (lambda f, rank: f(other(rank, X.long(), X)), TypeError, ["int64", "rank 0 of 2"]),
    "no tensor": (lambda f, rank: f(other(rank, X, [1])), TypeError, ["list", "rank 1 of 2"]),
    "axes": (lambda f, rank: f(other(rank, X, X[0])), ValueError, ["(6,)", "rank 1 of 2"]),
    "precision": (
        lambda f, rank: f(other(rank, X, X.double())),
        ValueError,
        ["equal shapes", "rank 1", "float64"],
    ),
    "D": (
        lambda f, rank: f(other(rank, X, X[:, :4])),
        ValueError,
        ["equal shapes", "rank 0", "(N, 6)", "rank 1", "(N, 4)"],
    ),
    "gradient": (
        lambda f, rank: f(other(rank, X, X.clone().requires_grad_())),
        ValueError,
        ["rank 1", "with gradient"],
    ),
    "one row": (
        lambda f, rank: f(other(rank, X[:0], X[:1])),
        ValueError,
        ["at least 2 samples on all ranks together", "got 1"],
    ),
}
SPECIAL = {
    "leading axes": (
        lambda rank: sigreg.sigreg(other(rank, X.expand(2, 8, 6), X.expand(3, 8, 6))),
        ValueError,
        ["(2, N, 6)", "(3, N, 6)"],
    ),
    "num_slices": (
        lambda rank: sigreg.sigreg(X, num_slices=other(rank, 64, 32)),
        ValueError,
        ["rank 0", "64", "rank 1", "32"],
    ),
    "knots": (
        lambda rank: sigreg.sigreg(X, knots=other(rank, 17, 9)),
        ValueError,
        ["knots 17", "knots 9"],
    ),
    "directions": (
        lambda rank: sigreg.sigreg(X, directions=other(rank, torch.eye(6), None)),
        ValueError,
        ["directions (6, 6)", "directions 256"],
    ),
    "bad directions": (
        lambda rank: sigreg.sigreg(X, directions=other(rank, 1, 2) * torch.eye(6)),
        ValueError,
        ["length 1", "rank 1 of 2"],
    ),
    "sketch_dim": (
        lambda rank: sigreg.weak_sigreg(X, sketch_dim=other(rank, 0, 4)),
        ValueError,
        ["sketch_dim", "rank 0 of 2"],
    ),
    "target_std": (
        lambda rank: vicreg.variance_penalty(X, target_std=other(rank, 1.0, -1.0)),
        ValueError,
        ["target_std", "rank 1 of 2"],
    ),
    "factor of vcreg": (
        lambda rank: vcreg.vcreg(X, covariance=other(rank, 1.0, 2.0)),
        ValueError,
        ["covariance 1.0", "covariance 2.0"],
    ),
    "factor": (
        lambda rank: visreg.visreg(X, shape=other(rank, 1.0, 2.0)),
        ValueError,
        ["shape 1.0", "shape 2.0"],
    ),
    "bad factor": (
        lambda rank: visreg.visreg(X, center=other(rank, -1.0, 1.0)),
        ValueError,
        ["center", "rank 0 of 2"],
    ),
    "slices of visreg": (
        lambda rank: visreg.visreg(X, num_slices=other(rank, 64, 32)),
        ValueError,
        ["rank 0", "64", "rank 1", "32"],
    ),
    "overflow on one": (
        lambda rank: visreg.visreg(other(rank, X, 1e25 * X)),
        ValueError,
        ["embeddings", "small enough"],
    ),
    "lengths of a pair": (
        lambda rank: vicreg.vicreg(X, other(rank, X, X[:7])),
        ValueError,
        ["(7, 6)", "rank 1 of 2"],
    ),
    "zero vector": (
        lambda rank: infonce.info_nce(X, other(rank, X * 0, X)),
        ValueError,
        ["keys", "8 of 8", "rank 0 of 2"],
    ),
    "temperature": (
        lambda rank: infonce.info_nce(X, X, temperature=other(rank, 0.1, 0.2)),
        ValueError,
        ["temperature 0.1", "temperature 0.2"],
    ),
    "positives on one": (
        lambda rank: infonce.info_nce(X, X, positives=other(rank, EYE[:8], None)),
        ValueError,
        ["equal shapes and settings", "positives 16"],
    ),
    "columns of positives": (
        lambda rank: infonce.info_nce(X, X, positives=EYE[:8, :8]),
        ValueError,
        ["positives", "16", "got 8"],
    ),
    "rows of positives": (
        lambda rank: infonce.info_nce(X, X, positives=other(rank, EYE[:8], EYE[:7])),
        ValueError,
        ["positives", "(7, 16)", "rank 1 of 2"],
    ),
    "lonely query": (
        lambda rank: positives(rank, LONELY),
        ValueError,
        ["every query, got", "rank 1 of 2"],
    ),
    "lonely key": (lambda rank: positives(rank, LONELY_KEY), ValueError, ["every query and key"]),
    "t": (
        lambda rank: infonce.uniformity(X, t=other(rank, 2.0, 0.0)),
        ValueError,
        ["t must", "rank 1 of 2"],
    ),
}
MISTAKES = SPECIAL | {
    f"{kind}: {name}": ((lambda rank, call=call, f=f: call(f, rank)), error, words)
    for kind, (call, error, words) in WRONG.items()
    for name, f in SINGLE.items()
}

# Collective calls of a forward pass: one that compares what the ranks were given, and
COLLECTIVES = {
    "sigreg": 1 + 2,  # the directions' seed, the means
    "weak_sigreg": 1 + 2,  # sums, products
    "variance_penalty": 1 + 2,
    "covariance_penalty": 1 + 2,
    "vcreg": 1 + 2,
    "vicreg": 1 + 2 * 2 + 1,  # the squared error
    "visreg": 1 + 3,  # the directions' seed, samples of all, the shape
    "info_nce": 1 + 2 + 1,  # keys and queries of all, the value
    "alignment": 1 + 1,
    "uniformity": 1 + 1,
}


# ---- the gradient of the squared gradient: the right one, or an error on every rank

TWICE = (
    "weak_sigreg",
    "variance_penalty",
    "covariance_penalty",
    "vcreg",
    "vicreg",
    "visreg",
    "alignment",
)


def second_gradient(name, x):
    x = x.double().requires_grad_()
    torch.manual_seed(100)
    value = OBJECTIVES[name](x, (len(x),), None, None)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def second_gradients(x):
    found = {name: second_gradient(name, x) for name in TWICE}
    for name in ("sigreg", "info_nce"):
        try:
            found[name] = second_gradient(name, x)
        except RuntimeError as error:
            found[name] = str(error)
    return found


def count_collectives(call):
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("all_reduce", "broadcast", "all_gather", "all_gather_object"):
            real = getattr(dist, name)
            counted = lambda *a, real=real, **k: (seen.append(real), real(*a, **k))[1]
            patch.setattr(dist, name, counted)
        call()
    return len(seen)


def run(rank):
    """All of the above on this rank."""
    net = torch.nn.parallel.DistributedDataParallel(network())
    results, errors, calls = {}, {}, {}
    for name, objective in OBJECTIVES.items():
        for sizes in SIZES:
            net.zero_grad()
            torch.manual_seed(100 + rank)  # unequal seeds: what is random must still agree
            value = objective(net(samples(sizes)[rank]), sizes, rank, net.module)
            value.backward()
            gradients = [p.grad.clone() for p in net.module.parameters()]
            results[name, sizes] = (value.detach(), *gradients)
    for name, (call, _, _) in MISTAKES.items():
        try:
            errors[name] = ("no error", str(call(rank)))
        except (TypeError, ValueError) as error:
            errors[name] = (type(error).__name__, str(error))
    for name, f in SINGLE.items():
        calls[name] = count_collectives(lambda f=f: f(X))
    seconds = second_gradients(other(rank, X[:5], X[5:]))
    return results, errors, calls, seconds


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return results_on_processes(run, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_rank_has_value_and_gradient_of_one_process(name, sizes, ranks):
    one = network()
    torch.manual_seed(100)  # rank 0's
    value = OBJECTIVES[name](one(torch.cat(samples(sizes))), sizes, None, one)
    value.backward()
    expected = (value.detach(), *(p.grad for p in one.parameters()))
    assert value != 0 and all(part.norm() > 0 for part in expected[1:])
    for results, *_ in ranks:
        for ours, theirs in zip(results[name, sizes], expected, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_wrong_on_one_rank_is_raised_on_all(name, ranks):
    _, error, words = MISTAKES[name]
    (kind, text), other_rank = (errors[name] for _, errors, *_ in ranks)
    assert (kind, text) == other_rank
    assert kind == error.__name__ and [word for word in words if word not in text] == []


@pytest.mark.parametrize("name", SINGLE)
def test_comparing_the_ranks_takes_one_collective_call(name, ranks):
    assert [calls[name] for _, _, calls, _ in ranks] == [COLLECTIVES[name]] * 2


def test_a_second_gradient_is_right_or_an_error_on_every_rank(ranks):
    one = second_gradients(X)
    parts = [seconds for *_, seconds in ranks]
    for name in TWICE:  # two ranks double each first gradient, and square it
        ours = torch.cat([part[name] for part in parts])
        assert one[name].norm() > 0 and torch.allclose(ours, 4 * one[name], rtol=1e-8, atol=1e-10)
    for found in (one, *parts):
        for name in ("sigreg", "info_nce"):
            assert found[name].startswith(f"{name} can be differentiated once, not twice")


def test_what_follows_the_convention_says_so():
    public = [
        getattr(m, name) for m in (infonce, sigreg, vcreg, vicreg, visreg) for name in m.__all__
    ]
    silent = [x for x in public if not getattr(x, "distributed", False)]
    assert silent == [sigreg.epps_pulley]
    assert "process alone" in inspect.getdoc(sigreg.epps_pulley)
