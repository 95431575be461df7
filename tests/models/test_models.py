"""The perceptron's layers, and the moving average against its formula."""

import copy
import math

import pytest
import torch
from torch import nn

from jepa_utils.models.ema import EMA
from jepa_utils.models.mlp import MLP

# ---- MLP


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_mlp_has_the_layers_and_parameters_it_says(layers):
    mlp = MLP(3, 7, 2, layers=layers)
    assert [type(part) for part in mlp] == [nn.Linear, nn.GELU] * layers + [nn.Linear]
    assert (
        sum(p.numel() for p in mlp.parameters())
        == (3 + 1) * 7 + (layers - 1) * (7 + 1) * 7 + (7 + 1) * 2
    )
    assert mlp(torch.zeros(5, 3)).shape == (5, 2) and mlp(torch.zeros(4, 5, 3)).shape == (4, 5, 2)


def test_mlp_has_two_hidden_layers_by_default():
    assert len(MLP(3, 7, 2)) == 5


def test_mlp_equals_the_written_out_network():
    torch.manual_seed(0)
    mlp, x = MLP(3, 7, 2, layers=1), torch.randn(5, 3)
    (w1, b1), (w2, b2) = ((mlp[i].weight, mlp[i].bias) for i in (0, 2))
    hidden = x @ w1.T + b1
    assert torch.allclose(
        mlp(x), (hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2) @ w2.T + b2, atol=1e-6
    )


@pytest.mark.parametrize(
    "change", [dict(inputs=0), dict(hidden=-1), dict(outputs=0), dict(layers=0)]
)
def test_mlp_rejects_numbers_below_one(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        MLP(**dict(inputs=3, hidden=7, outputs=2) | change)


# ---- EMA


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def moved(net, seed):
    """A step of training, as far as an average can tell: other weights, other buffers."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p))
    net(torch.randn(16, 3) + seed)
    return net


def test_average_equals_the_formula_over_several_steps():
    net = network()
    ema = EMA(net, decay=0.9)
    expected = [p.detach().clone().double() for p in net.parameters()]
    for seed in range(1, 6):
        ema.update(moved(net, seed))
        expected = [0.9 * old + 0.1 * new.detach() for old, new in zip(expected, net.parameters())]
        for p, e in zip(ema.parameters(), expected, strict=True):
            assert torch.allclose(p, e.float(), atol=1e-6)


def test_buffers_are_copied():
    net = network()
    ema = EMA(net, decay=0.9)
    assert ema.average[1].num_batches_tracked == 0
    ema.update(moved(net, 1))
    assert (
        torch.equal(ema.average[1].running_mean, net[1].running_mean)
        and net[1].running_mean.abs().sum() > 0
    )
    assert torch.equal(ema.average[1].running_var, net[1].running_var)
    assert ema.average[1].num_batches_tracked == net[1].num_batches_tracked == 1


def test_calling_it_calls_the_average():
    net, x = network().eval(), torch.ones(5, 3)
    ema = EMA(net, decay=0.5).eval()
    assert torch.equal(ema(x), net(x))
    moved(net.train(), 1)
    assert torch.equal(ema(x), network().eval()(x))  # as it was copied, until an update
    ema.update(net)
    assert torch.equal(ema(x), ema.average(x)) and not torch.allclose(ema(x), net.eval()(x))


def test_no_gradient_flows():
    net = network()
    ema, x = EMA(net), torch.randn(5, 3, requires_grad=True)
    assert not any(p.requires_grad for p in ema.parameters()) and len(list(ema.parameters())) == 6
    assert not ema(x).requires_grad and net(x).requires_grad
    ema.update(net)
    assert not any(p.requires_grad for p in ema.parameters()) and all(
        p.grad is None for p in ema.parameters()
    )


def test_the_network_is_left_alone():
    net = network()
    ema = EMA(net, decay=0.3)
    moved(net, 1)
    before = copy.deepcopy(net.state_dict())
    ema.update(net)
    ema(torch.randn(5, 3))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    ours = {p.data_ptr() for p in net.parameters()}
    assert ours.isdisjoint(p.data_ptr() for p in ema.parameters())


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_decay_0_copies_and_1_never_moves():
    net = network()
    copies, stays = EMA(net, decay=0), EMA(net, decay=1)
    moved(net, 1)
    for ema in (copies, stays):
        ema.update(net)
    assert torch.equal(weights(copies), weights(net))
    assert torch.equal(weights(stays), weights(network()))


def test_a_decay_for_one_step():
    net = network()
    ema = EMA(net, decay=0.9)
    moved(net, 1)
    ema.update(net, decay=0.25)
    half = 0.25 * weights(network()) + 0.75 * weights(net)
    assert torch.allclose(weights(ema), half, atol=1e-6)
    ema.update(net)
    assert torch.allclose(weights(ema), 0.9 * half + 0.1 * weights(net), atol=1e-6)
    ema.update(moved(net, 2), decay=0)  # 0 is a decay, not "none given"
    assert torch.equal(weights(ema), weights(net))


def test_state_dict_round_trip():
    net = network()
    ema, other = EMA(net, decay=0.9), EMA(network(5))
    ema.update(moved(net, 1))
    other.load_state_dict(ema.state_dict())
    assert torch.equal(weights(ema), weights(other))
    assert torch.equal(ema.average[1].running_var, other.average[1].running_var)
    assert all(name.startswith("average.") for name in ema.state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.1, math.nan])
def test_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay.*{decay}"):
        EMA(network(), decay=decay)
    with pytest.raises(ValueError, match=f"decay.*{decay}"):
        EMA(network()).update(network(), decay=decay)


@pytest.mark.parametrize(
    "other, named",
    [
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), "2.weight"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "2.weight"),
        (
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.Linear(2, 2)),
            "3.weight",
        ),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False)), "2.bias"),
    ],
)
def test_another_architecture_is_refused_before_anything_moves(other, named):
    ema = EMA(network(), decay=0.5)
    with pytest.raises(ValueError, match=f"network.*{named}"):
        ema.update(other)
    assert torch.equal(weights(ema), weights(network()))


def test_other_buffers_are_refused_before_anything_moves():
    ema, other = EMA(network(), decay=0.5), moved(network(), 1)
    other[1] = nn.BatchNorm1d(4, track_running_stats=False)
    with pytest.raises(ValueError, match="network"):
        ema.update(other)
    assert torch.equal(weights(ema), weights(network()))


# ---- EMA: what goes by two names


class Tied(nn.Module):
    """One layer under two names, a tied weight, and a buffer that two norms share."""

    def __init__(self):
        super().__init__()
        self.words, self.decoder = nn.Embedding(3, 3), nn.Linear(3, 3, bias=False)
        self.decoder.weight = self.words.weight
        self.layer = nn.Linear(3, 3)
        self.again = nn.Sequential(self.layer)
        self.norms = nn.ModuleList([nn.BatchNorm1d(3, affine=False) for _ in range(2)])
        self.norms[1].running_mean = self.norms[0].running_mean
        with torch.no_grad():
            for p in self.parameters():
                p.zero_()

    def forward(self, x):
        return self.norms[1](self.norms[0](self.again(self.layer(self.decoder(x)))))


def test_what_goes_by_two_names_moves_once_and_stays_one():
    net = Tied()
    ema = EMA(net, decay=0.9)
    with torch.no_grad():
        for tensor in (*net.parameters(), net.norms[0].running_mean):
            tensor.fill_(1)
    ema.update(net)
    for p in ema.average.parameters():
        assert torch.equal(p, torch.full_like(p, 0.1))
    average = ema.average
    assert average.decoder.weight is average.words.weight
    assert average.again[0] is average.layer
    assert average.norms[1].running_mean is average.norms[0].running_mean
    assert torch.equal(average.norms[1].running_mean, torch.ones(3))


def test_a_network_that_no_longer_shares_is_refused_before_anything_moves():
    net = Tied()
    ema = EMA(net, decay=0.5)
    net.decoder.weight = nn.Parameter(torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"network must share.*words\.weight and decoder\.weight"):
        ema.update(net)
    assert all((p == 0).all() for p in ema.parameters())


def test_buffers_outside_the_state_dict_are_copied_too():
    net = nn.Linear(1, 1)
    net.register_buffer("seen", torch.zeros(1), persistent=False)
    ema = EMA(net)
    net.seen += 3
    ema.update(net)
    assert ema.average.seen.item() == 3


# ---- EMA: half precision


def one(value, dtype):
    net = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.constant_(net.weight, value)
    return net


def lowered(module, dtype, how):
    if how == "by hand":
        module.average.to(dtype)
    elif how == "assigned":
        state = {name: tensor.to(dtype) for name, tensor in module.state_dict().items()}
        module.load_state_dict(state, assign=True)
    else:
        module.to(dtype)


@pytest.mark.parametrize("how", ["from the start", "moved", "by hand", "assigned"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_steps_are_not_rounded_away(dtype, how):
    ema = EMA(one(1, dtype if how == "from the start" else torch.float32), decay=0.999)
    if how != "from the start":
        lowered(ema, dtype, how)
    net = one(1.5, dtype)
    for _ in range(1000):
        ema.update(net)
    expected = 1.5 - 0.5 * 0.999**1000
    assert ema.average.weight.item() == pytest.approx(expected, rel=1e-5)
    lowered(ema, dtype, "moved")  # loses nothing
    assert ema.average.weight.item() == pytest.approx(expected, rel=1e-5)
    said = ema(torch.ones(2, 1, dtype=dtype))
    assert said.dtype == dtype and torch.equal(said, said.new_full((2, 1), expected))


def test_training_in_half_precision_resumes_exactly():
    def halves(net):
        return net.bfloat16()

    def steps(ema, first, last):
        for seed in range(first, last):
            ema.update(halves(moved(network(), seed)))

    straight = EMA(halves(network()), decay=0.99)
    steps(straight, 0, 20)
    before = EMA(halves(network()), decay=0.99)
    steps(before, 0, 10)
    for after in (EMA(halves(network(5)), 0.99), EMA(network(5), 0.99), copy.deepcopy(before)):
        after.load_state_dict(before.state_dict())
        steps(after.bfloat16(), 10, 20)
        assert torch.equal(weights(after), weights(straight))
        x = torch.ones(4, 3, dtype=torch.bfloat16)
        assert torch.equal(after.eval()(x), straight.eval()(x))
    assert list(before.state_dict()) == list(EMA(network()).state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_ties_survive_and_each_part_computes_in_its_own_precision(dtype):
    x = torch.ones(4, 3, dtype=dtype)
    ema = EMA(Tied().to(dtype).eval())
    assert ema(x).dtype == dtype and ema.average.decoder.weight is ema.average.words.weight
    assert ema.average.layer.weight.dtype == torch.promote_types(dtype, torch.float32)
    moved = ema.to(torch.float64)
    assert moved is ema and ema(x.double()).dtype == torch.float64
    assert ema.average.decoder.weight is ema.average.words.weight
    mixed = nn.Sequential(nn.Linear(3, 3).to(dtype), nn.LayerNorm(3))
    mixed[0].register_forward_hook(lambda module, inputs, output: output.float())
    assert torch.equal(EMA(mixed)(x), mixed(x))
