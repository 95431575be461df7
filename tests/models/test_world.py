"""World models: frames to embeddings and back, one step and many, equal to loops by hand."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jepa_utils.models.world import (
    ActionPredictor,
    InverseDynamics,
    WorldDecoder,
    WorldEncoder,
    rollout,
)

B, H, D, A = 3, 4, 5, 2


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


def build(kind, *arguments, **sizes):
    torch.manual_seed(0)
    return kind(*arguments, **sizes)


def test_a_world_model_is_small():
    sizes = {
        "encoder": count(WorldEncoder()),
        "predictor": count(ActionPredictor(32)),
        "decoder": count(WorldDecoder()),
        "inverse dynamics": count(InverseDynamics(32)),
    }
    print(sizes)
    assert sizes == {
        "encoder": (18 + 1) * 16 + (144 + 1) * 32 + (288 + 1) * 64 + (1024 + 1) * 32,
        "predictor": (34 + 1) * 256 + (256 + 1) * 256 + (256 + 1) * 32,
        "decoder": (32 + 1) * 1024 + (576 * 32 + 32) + (288 * 16 + 16) + (144 * 2 + 2),
        "inverse dynamics": (64 + 1) * 256 + (256 + 1) * 256 + (256 + 1) * 2,
    }
    assert sum(sizes.values()) < 300_000


def test_encoder_equals_its_convolutions_by_hand():
    encoder = build(WorldEncoder, channels=1, size=9, dimensions=D, width=2)
    first, _, second, _, _, last = encoder.layers  # 9 to 5 to 3 pixels
    images = torch.rand(B, 1, 9, 9)
    x = F.gelu(F.conv2d(F.pad(images, (1, 1, 1, 1)), first.weight, first.bias, stride=2))
    x = F.gelu(F.conv2d(F.pad(x, (1, 1, 1, 1)), second.weight, second.bias, stride=2))
    assert x.shape == (B, 4, 3, 3)
    expected = x.flatten(1) @ last.weight.T + last.bias
    torch.testing.assert_close(encoder(images), expected)


def test_a_small_dot_moves_the_first_embeddings():
    """Embeddings that all but agree at the start are where regularisers hardly push."""
    images = torch.zeros(64, 2, 32, 32)
    images[:, 1, :, 16] = 1  # a wall, the same everywhere
    for number, image in enumerate(images):
        image[0, 2 + number // 8 * 4, 2 + number % 8 * 4] = 1
    assert build(WorldEncoder)(images).std(dim=0).mean() > 0.002


@pytest.mark.parametrize("size", [5, 32, 33, 47, 64, 65])
def test_every_size_is_encoded_and_decoded_with_any_leading_axes(size):
    sizes = dict(channels=3, size=size, dimensions=D, width=2)
    encoder, decoder = build(WorldEncoder, **sizes), build(WorldDecoder, **sizes)
    images = torch.rand(2, 3, 3, size, size)
    embeddings = encoder(images)
    assert embeddings.shape == (2, 3, D) and decoder(embeddings).shape == images.shape
    torch.testing.assert_close(embeddings[1, 2], encoder(images[1, 2]))
    torch.testing.assert_close(decoder(embeddings)[1, 2], decoder(embeddings[1, 2]))
    assert encoder(images[:0]).shape == (0, 3, D) and decoder(embeddings[:, :0]).shape[:2] == (2, 0)
    widths = [m.out_channels for m in encoder.layers if isinstance(m, torch.nn.Conv2d)]
    halvings = {5: 1, 32: 3, 33: 4, 47: 4, 64: 4, 65: 5}[size]
    assert widths == [2, 4, 8, 8, 8][:halvings]


def test_decoder_is_the_encoder_the_other_way_round():
    """Its transposed convolutions have the shapes, and thus the adjoint map, of the convolutions."""
    sizes = dict(channels=2, size=11, dimensions=D, width=3)
    encoder, decoder = build(WorldEncoder, **sizes), build(WorldDecoder, **sizes)
    down = [m for m in encoder.layers if isinstance(m, torch.nn.Conv2d)]
    up = [m for m in decoder.layers if isinstance(m, torch.nn.ConvTranspose2d)][::-1]
    assert [m.weight.shape for m in down] == [m.weight.shape for m in up]
    x, sides = torch.rand(1, 2, 11, 11), []
    for a, b in zip(down, up, strict=True):  # <conv(x), y> = <x, conv^T(y)>
        with torch.no_grad():
            a.bias.zero_(), b.bias.zero_(), b.weight.copy_(a.weight)
        y = torch.randn_like(a(x))
        torch.testing.assert_close((a(x) * y).sum(), (x * b(y)).sum(), rtol=1e-4, atol=1e-5)
        x = a(x).detach()
        sides.append(x.shape[-1])
    assert sides == [6, 3]
    first, _, *rest = decoder.layers
    h, images = draw(B, D), first(draw(B, D)).view(B, 6, 3, 3)
    for layer in rest:
        images = F.gelu(images) if isinstance(layer, torch.nn.GELU) else layer(images)
    torch.testing.assert_close(decoder(h), images)
    assert decoder(20 * h).min() < 0  # a linear end


@pytest.mark.parametrize(
    "shape, change, got",
    [
        ((2, 2, 8, 9), {}, "(2, 2, 8, 9)"),
        ((2, 1, 8, 8), {}, "(2, 1, 8, 8)"),
        ((8, 8), {}, "(8, 8)"),
        ((2, 8, 8), dict(dtype=torch.uint8), "torch.uint8"),
    ],
)
def test_other_images_are_refused(shape, change, got):
    encoder = build(WorldEncoder, size=8, dimensions=D, width=2)
    with pytest.raises(
        ValueError, match=re.escape("images must be floats of shape (..., 2, 8, 8)")
    ):
        encoder(torch.ones(*shape, **change))
    with pytest.raises(ValueError, match=re.escape(got)):
        encoder(torch.ones(*shape, **change))


def test_other_embeddings_are_refused():
    decoder = build(WorldDecoder, size=8, dimensions=D, width=2)
    with pytest.raises(
        ValueError, match=re.escape("embeddings must be of shape (..., 5), got (2, 4)")
    ):
        decoder(torch.ones(2, 4))
    with pytest.raises(ValueError, match="embeddings"):
        decoder(torch.tensor(1.0))


@pytest.mark.parametrize("history", [1, 3])
def test_a_prediction_is_the_present_embedding_plus_a_change(history):
    predictor = build(ActionPredictor, D, actions=A, hidden=8, history=history)
    past, action = draw(B, history, D), draw(B, A, seed=1)
    given = torch.cat([*past.unbind(1), action], dim=1)  # the oldest first
    expected = past[:, -1] + predictor.change(given)
    torch.testing.assert_close(predictor(past, action), expected)
    assert [p.shape for p in predictor.parameters()][::2] == [(8, history * D + A), (8, 8), (D, 8)]


@pytest.mark.parametrize(
    "past, action", [((B, D), (B, A)), ((B, 2, D), (A,)), ((B, 2, D), (B, 3)), ((B, 2, 4), (B, A))]
)
def test_predictor_refuses_what_does_not_fit(past, action):
    predictor = build(ActionPredictor, D, actions=A, history=2)
    words = f"embeddings must be (..., 2, 5) and action (..., 2), got {past} and {action}"
    with pytest.raises(ValueError, match=re.escape(words)):
        predictor(torch.ones(past), torch.ones(action))


def test_inverse_dynamics_sees_both_in_their_order():
    head = build(InverseDynamics, D, actions=3, hidden=8)
    first, second = draw(B, H, D), draw(B, H, D, seed=1)
    expected = head.guess(torch.cat([first, second], dim=-1))
    assert expected.shape == (B, H, 3)
    assert torch.equal(head(first, second), expected)
    assert not torch.allclose(head(second, first), expected)


# ---- rollouts


def by_hand(predictor, past, actions):
    """One trajectory: past (history, D), actions (H, A)."""
    known = list(past)
    for action in actions:
        known.append(predictor(torch.stack(known[-len(past) :]), action))
    return torch.stack(known[len(past) :])


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("before", [(), (B,), (2, B)], ids=str)
def test_rollout_equals_a_loop_by_hand(history, before):
    predictor = build(ActionPredictor, D, actions=A, hidden=8, history=history)
    past, actions = draw(*before, history, D), draw(*before, H, A, seed=1)
    predicted = rollout(predictor, past, actions)
    assert predicted.shape == (*before, H, D)
    rows = zip(past.view(-1, history, D), actions.view(-1, H, A), strict=True)
    expected = torch.stack([by_hand(predictor, *row) for row in rows])
    torch.testing.assert_close(predicted.reshape(-1, H, D), expected)
    if history == 1:
        assert torch.equal(rollout(predictor, past.squeeze(-2), actions), predicted)


def test_planners_get_a_gradient_to_each_action_and_the_start():
    predictor = build(ActionPredictor, D, actions=A, hidden=8, history=2)
    past, actions = draw(B, 2, D).requires_grad_(), draw(B, H, A, seed=1).requires_grad_()
    predicted = rollout(predictor, past, actions)
    to_past, to_actions = torch.autograd.grad(predicted[:, 1].sum(), (past, actions))
    assert (to_past.abs().sum(-1) > 0).all()
    moved = to_actions.abs().sum(-1) > 0  # what comes later changes nothing
    assert moved.tolist() == [[True, True, False, False]] * B


@pytest.mark.parametrize(
    "past, actions",
    [((B, D), (B, 0, A)), ((B, D), (2, H, A)), ((B, D), (A,)), ((D,), (B, H, A)), ((), (A,))],
)
def test_rollout_refuses_what_does_not_fit(past, actions):
    predictor = build(ActionPredictor, D, actions=A)
    with pytest.raises(ValueError, match=re.escape(f"got {past} and {actions}")):
        rollout(predictor, torch.ones(past), torch.ones(actions))


def test_rollout_says_how_much_past_is_wanted():
    with pytest.raises(ValueError, match=re.escape("embeddings must be (..., 2, 5)")):
        rollout(build(ActionPredictor, D, history=2), torch.ones(B, D), torch.ones(B, H, A))


# ---- sizes

SIZES = {
    WorldEncoder: dict(channels=1, size=8, dimensions=64, width=64),
    WorldDecoder: dict(channels=1, size=8, dimensions=64, width=64),
    ActionPredictor: dict(dimensions=64, actions=3, hidden=8, history=2),
    InverseDynamics: dict(dimensions=64, actions=3, hidden=8),
}


@pytest.mark.parametrize("kind", SIZES)
def test_sizes_may_be_numpy_integers(kind):
    ours = build(kind, **{name: np.int8(size) for name, size in SIZES[kind].items()})
    expected = build(kind, **SIZES[kind]).state_dict()
    assert all(torch.equal(x, expected[name]) for name, x in ours.state_dict().items())


@pytest.mark.parametrize("kind, name", [(kind, name) for kind in SIZES for name in SIZES[kind]])
def test_sizes_are_no_other_numbers(kind, name):
    least = 5 if name == "size" else 1
    for value in (2.0, True, "2", None, least - 1):
        words = f"{name} must be an integer of at least {least}, got {value!r}"
        with pytest.raises(ValueError, match=re.escape(words)):
            build(kind, **SIZES[kind] | {name: value})
