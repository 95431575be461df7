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
