"""The text encoder sees what it may and nothing else, and the decoder writes one token after the other."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jepa_utils.data.batches import tensor_batches
from jepa_utils.models.text import TextDecoder, TextEncoder, WindowEncoder
from jepa_utils.training.baselines import DecoderTraining
from jepa_utils.training.fit import fit

B, L, V = 4, 16, 50  # rows, tokens per row, vocabulary


def encoder(seed=0, **change):
    torch.manual_seed(seed)
    return TextEncoder(
        V, **dict(dimensions=8, heads=2, layers=2, max_length=L, dropout=0.0) | change
    )


def tokens(low=0, high=V, seed=1):
    return torch.randint(low, high, (B, L), generator=torch.Generator().manual_seed(seed))


# Which tokens are visible, and in the complement hidden: at each row's own cut, at one cut for all,
# and here and there.
MASKS = {
    "rows": torch.arange(L) < torch.tensor([[3], [5], [15], [8]]),
    "batch": (torch.arange(L) < 6).expand(B, L),
    "scattered": torch.rand(B, L, generator=torch.Generator().manual_seed(2)) < 0.5,
}
SIDES = [
    mask if side == "first" else ~mask for mask in MASKS.values() for side in ("first", "second")
]
each_mask = pytest.mark.parametrize(
    "visible", SIDES, ids=[f"{name}-{side}" for name in MASKS for side in ("first", "second")]
)


def written_out(net, ids, visible, heads=2):
    """The same network from torch's layers, on the whole sequence, with nothing cropped."""
    dimensions = net.tokens.embedding_dim
    x = net.tokens.weight[ids] + net.positions.weight[torch.arange(ids.shape[1])]
    for layer in net.layers:
        ours = nn.TransformerEncoderLayer(
            dimensions, heads, 4 * dimensions, dropout=0.0, batch_first=True
        )
        ours.load_state_dict(layer.state_dict())
        x = ours(x, src_key_padding_mask=~visible)
    x = F.layer_norm(x, (dimensions,), net.norm.weight, net.norm.bias)
    return torch.stack([row[seen].mean(dim=0) for row, seen in zip(x, visible)])


# ---- encoder: size and value


def test_encoder_and_predictor_have_the_parameters_of_the_paper():
    parts = TextEncoder(50257), nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64))
    assert sum(p.numel() for part in parts for p in part.parameters()) == 3_353_600


@each_mask
def test_embedding_equals_that_of_torchs_layers_on_the_uncropped_sequence(visible):
    net, ids = encoder(), tokens()
    for p in net.norm.parameters():
        nn.init.normal_(p)  # 1 and 0 would hide a norm without them
    expected = written_out(net, ids, visible)
    assert torch.allclose(net(ids, visible), expected, atol=1e-5)
    with torch.no_grad():  # torch takes another path
        assert torch.allclose(net.eval()(ids, visible), expected, atol=1e-5)


def test_two_heads_by_default():
    torch.manual_seed(0)
    net, visible = TextEncoder(V, dropout=0.0), torch.ones(B, L, dtype=torch.bool)
    assert torch.allclose(
        net(tokens(), visible), written_out(net, tokens(), visible, heads=2), atol=1e-5
    )


def test_embedding_is_the_mean_over_visible_tokens():
    net, ids, visible = encoder(), tokens(), MASKS["scattered"]
    h = net.encode_tokens(ids, visible)
    assert h.shape == (B, L, 8) and (h[~visible] == 0).all() and (h[visible] != 0).all()
    expected = torch.stack([row[seen].mean(dim=0) for row, seen in zip(h, visible)])
    assert torch.allclose(net(ids, visible), expected, atol=1e-6)


@each_mask
def test_columns_hidden_everywhere_cost_nothing(visible):
    net, shapes = encoder(), []
    net.layers[0].register_forward_hook(
        lambda layer, inputs, output: shapes.append(tuple(inputs[0].shape))
    )
    net(tokens(), visible)
    assert shapes == [(B, int(visible.any(dim=0).sum()), 8)]


def test_batch_cut_equals_the_shorter_sequence():
    net, ids, short = encoder(), tokens(), torch.ones(B, 6, dtype=torch.bool)
    assert torch.equal(
        net.encode_tokens(ids, MASKS["batch"])[:, :6], net.encode_tokens(ids[:, :6], short)
    )
    assert torch.allclose(
        net(ids, MASKS["batch"]), net(ids[:, :6], short), atol=1e-6
    )  # the sum has more zeros


def test_padded_batch_equals_row_by_row():
    net, ids, visible = encoder(), tokens(), MASKS["rows"]
    padded = ids.masked_fill(~visible, 0)
    alone = [
        net(row[seen][None], torch.ones(1, int(seen.sum()), dtype=torch.bool))
        for row, seen in zip(ids, visible)
    ]
    assert torch.allclose(net(padded, visible), torch.cat(alone), atol=1e-5)


def test_without_layers_the_mean_of_token_and_position_vectors_is_left():
    net, ids, visible = encoder(layers=0), tokens(), MASKS["scattered"]
    assert len(net.layers) == 0
    assert torch.allclose(net(ids, visible), written_out(net, ids, visible), atol=1e-6)


# ---- encoder: what is hidden stays hidden


@pytest.mark.parametrize("training", [True, False])
@each_mask
def test_hidden_tokens_change_no_bit(visible, training):
    net, ids = encoder().train(training), tokens()
    other = torch.where(visible, ids, (ids + 7) % V)
    with torch.set_grad_enabled(
        training
    ):  # without gradient and in eval mode torch takes another path
        assert torch.equal(net(ids, visible), net(other, visible))
        assert torch.equal(net.encode_tokens(ids, visible), net.encode_tokens(other, visible))


@each_mask
def test_every_visible_token_changes_its_row_and_no_other(visible):
    net, ids = encoder(), tokens()
    before = net(ids, visible)
    for row, column in visible.nonzero().tolist():
        other = ids.clone()
        other[row, column] = (ids[row, column] + 7) % V
        changed = (net(other, visible) != before).any(dim=1)
        assert changed.tolist() == [i == row for i in range(B)]


@each_mask
def test_no_gradient_reaches_a_hidden_token(visible):
    net = encoder()
    ids = torch.where(
        visible, tokens(0, V // 2), tokens(V // 2, V)
    )  # no id is both visible and hidden
    (net(ids, visible) * torch.randn(B, 8)).sum().backward()
    grad = net.tokens.weight.grad
    assert (grad[ids[~visible]] == 0).all() and (grad[ids[visible]] != 0).any(dim=1).all()
    seen = visible.any(dim=0)  # columns
    assert (net.positions.weight.grad[~seen] == 0).all() and (
        net.positions.weight.grad[seen] != 0
    ).any(dim=1).all()


def test_tokens_see_those_before_and_after_them():
    net, ids, visible = encoder(), tokens(), torch.ones(B, L, dtype=torch.bool)
    for at, seer in ((11, 10), (10, 11), (15, 0), (0, 15)):
        other = ids.clone()
        other[:, at] = (ids[:, at] + 7) % V
        changed = (net.encode_tokens(other, visible) != net.encode_tokens(ids, visible)).any(dim=-1)
        assert changed[:, seer].all()


def test_places_matter():
    net, ids, visible = encoder(), tokens(), torch.ones(B, L, dtype=torch.bool)
    assert not torch.allclose(net(ids, visible), net(ids.flip(1), visible), atol=1e-3)


# ---- encoder: settings and errors


def test_token_std_scales_token_and_position_vectors_alone():
    one, small = (
        encoder(**std, dimensions=32).state_dict() for std in (dict(), dict(token_std=0.02))
    )  # 1 by default
    assert one["tokens.weight"].std() == pytest.approx(1, abs=0.1) == one["positions.weight"].std()
    for name, value in one.items():
        scale = 0.02 if name in ("tokens.weight", "positions.weight") else 1
        assert torch.allclose(small[name], value * scale), name


@pytest.mark.parametrize("layers", [0, 2])
def test_dropout_only_while_training(layers):
    net, ids, visible = encoder(layers=layers, dropout=0.3), tokens(), MASKS["rows"]
    assert not torch.equal(net(ids, visible), net(ids, visible))
    plain = encoder(layers=layers)  # without dropout
    assert torch.equal(net.eval()(ids, visible), plain(ids, visible))
    assert TextEncoder(V).dropout.p == TextEncoder(V).layers[0].dropout.p == 0.1


def test_layers_drop_too():
    net, ids, visible = encoder(dropout=0.3), tokens(), MASKS["rows"]
    net.dropout.p = 0.0
    assert not torch.equal(net(ids, visible), net(ids, visible))


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(vocabulary=0), "vocabulary.*0"),
        (dict(dimensions=0), "dimensions.*0"),
        (dict(heads=0), "heads.*0"),
        (dict(layers=-1), "layers.*-1"),
        (dict(max_length=0), "max_length.*0"),
        (dict(dimensions=8, heads=3), "heads must divide dimensions = 8, got 3"),
        (dict(token_std=0.0), "token_std.*0"),
        (dict(token_std=float("nan")), "token_std.*nan"),
    ],
)
def test_encoder_rejects_bad_numbers(change, words):
    with pytest.raises(ValueError, match=words):
        TextEncoder(**dict(vocabulary=V) | change)


ALL = torch.ones(B, L, dtype=torch.bool)


@pytest.mark.parametrize(
    "ids, visible, words",
    [
        (torch.zeros(L, dtype=torch.long), torch.ones(L, dtype=torch.bool), r"\(16,\)"),
        (tokens(), ALL[:, 1:], r"\(4, 16\).*\(4, 15\)"),
        (tokens(), ALL[:1], r"\(4, 16\).*\(1, 16\)"),  # would broadcast
        (tokens(), ALL.long(), "int64"),
        (tokens(), ALL.float(), "float32"),
        (
            torch.zeros(2, L + 1, dtype=torch.long),
            torch.ones(2, L + 1, dtype=torch.bool),
            "max_length = 16.*17",
        ),
        (tokens(), ALL & (torch.tensor([0, 1, 1, 0])[:, None] == 1), r"rows \[0, 3\]"),
        (tokens(), ~ALL, r"rows \[0, 1, 2, 3\]"),
    ],
)
def test_encoder_rejects_bad_input(ids, visible, words):
    net = encoder()
    for call in (net, net.encode_tokens):
        with pytest.raises(ValueError, match=words):
            call(ids, visible)


# ---- encoder: without places, with layers that do nothing at first, with weights


@pytest.mark.parametrize("norm_first", [False, True])
def test_without_positions_the_order_of_what_is_visible_does_not_matter(norm_first):
    net, ids, visible = encoder(positions=False, norm_first=norm_first), tokens(), MASKS["rows"]
    assert net.positions is None and not any("position" in name for name in net.state_dict())
    shuffled = ids.clone()
    for row, seen in enumerate(visible):
        shuffled[row, seen] = ids[row, seen].flip(0)
    assert not torch.equal(shuffled, ids)
    torch.testing.assert_close(net(shuffled, visible), net(ids, visible), rtol=1e-5, atol=1e-6)
    places = encoder(norm_first=norm_first)
    assert not torch.allclose(places(shuffled, visible), places(ids, visible), atol=1e-3)


def test_without_positions_no_sequence_is_too_long():
    net, ids = encoder(positions=False), tokens().repeat(1, 3)  # three times max_length
    twice = net(ids, torch.ones_like(ids, dtype=torch.bool))  # each token thrice: the same mean
    torch.testing.assert_close(twice, net(tokens(), ALL), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="max_length = 16 columns, got 48"):
        encoder()(ids, torch.ones_like(ids, dtype=torch.bool))


def test_norm_first_is_torchs():
    net, ids, visible = encoder(norm_first=True), tokens(), MASKS["scattered"]
    plain = encoder()
    plain.load_state_dict(net.state_dict())
    x = net.tokens.weight[ids] + net.positions.weight
    for layer in net.layers:
        a = layer.norm1(x)
        x = x + layer.self_attn(a, a, a, key_padding_mask=~visible)[0]
        x = x + layer.linear2(layer.linear1(layer.norm2(x)).relu())
    expected = torch.stack([row[seen].mean(dim=0) for row, seen in zip(net.norm(x), visible)])
    torch.testing.assert_close(net(ids, visible), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(plain(ids, visible), expected, atol=1e-2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("positions", [True, False])
def test_layers_that_start_as_the_identity_change_nothing(positions, training):
    change = dict(norm_first=True, positions=positions)
    net = encoder(identity_start=True, layers=3, **change).train(training)
    none = encoder(layers=0, **change).train(training)  # the same vectors: they are drawn first
    with torch.set_grad_enabled(training):
        for visible in MASKS.values():
            for part in ("encode_tokens", "forward"):
                found = getattr(net, part)(tokens(), visible)
                assert torch.equal(found, getattr(none, part)(tokens(), visible))
                other = getattr(encoder(layers=3, **change), part)(tokens(), visible)
                assert not torch.allclose(found, other, atol=1e-2)


def test_layers_that_start_as_the_identity_learn():
    net, ids, visible = encoder(norm_first=True, identity_start=True), tokens(), MASKS["rows"]
    before = net(ids, visible)
    (before * torch.randn(B, 8, generator=torch.Generator().manual_seed(5))).sum().backward()
    for layer in net.layers:  # what is 0 gets gradients; what stands before it waits for that
        for p in (layer.self_attn.out_proj.weight, layer.linear2.weight, layer.linear2.bias):
            assert not p.any() and p.grad.any()
        assert layer.linear1.weight.any() and not layer.linear1.weight.grad.any()
    torch.optim.SGD(net.layers.parameters(), lr=0.1).step()  # of the layers alone
    assert not torch.allclose(net(ids, visible), before, atol=1e-3)


def test_only_layers_that_normalise_first_start_as_the_identity():
    for layers in (0, 2):
        with pytest.raises(
            ValueError, match="identity_start must be False with norm_first=False, got True"
        ):
            encoder(identity_start=True, layers=layers)


def weighted_mean(net, ids, visible, weight):
    """The mean written out; `weight` of a row's ids and of one of its visible places."""
    h, means = net.encode_tokens(ids, visible), []
    for row, words, seen in zip(h, ids.tolist(), visible):
        places = seen.nonzero().flatten().tolist()
        shares = [weight([words[i] for i in places], words[i]) for i in places]
        means.append(sum(s * row[i] for s, i in zip(shares, places)) / sum(shares))
    return torch.stack(means)


WEIGHTS = torch.linspace(0.01, 20, V)


@each_mask
def test_tokens_count_by_their_weights(visible):
    net, ids = encoder(weights=WEIGHTS), tokens()
    expected = weighted_mean(net, ids, visible, lambda words, word: float(WEIGHTS[word]))
    torch.testing.assert_close(net(ids, visible), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(encoder()(ids, visible), expected, atol=1e-2)
    tenfold = encoder(weights=10 * WEIGHTS)(ids, visible)  # only their proportions matter
    torch.testing.assert_close(tenfold, net(ids, visible), rtol=1e-4, atol=1e-5)


def test_weights_start_as_given_and_learn():
    net, given = encoder(weights=WEIGHTS), WEIGHTS.clone()
    torch.testing.assert_close(net.weights.weight.exp().squeeze(1), given)
    ids = tokens(0, V // 2)
    net(ids, ALL).square().sum().backward()
    torch.optim.Adam(net.parameters(), lr=5.0).step()  # the least weights are 0.01
    learned = net.weights.weight.exp().squeeze(1)
    used = torch.isin(torch.arange(V), ids)
    assert (learned > 0).all() and torch.equal(WEIGHTS, given)
    steps = (learned[used] / given[used]).log().abs()  # Adam's first is as long as the rate
    torch.testing.assert_close(steps, torch.full_like(steps, 5.0), rtol=0.01, atol=0)
    torch.testing.assert_close(learned[~used], given[~used])


@pytest.mark.parametrize(
    "change",
    [dict(weights=WEIGHTS), dict(norm_first=True, identity_start=True), dict(positions=False)],
    ids=["weights", "identity", "no positions"],
)
@pytest.mark.parametrize("training", [True, False])
def test_hidden_tokens_change_no_bit_whatever_counts(change, training):
    net, ids, visible = encoder(**change).train(training), tokens(0, 6), MASKS["scattered"]
    other = torch.where(visible, ids, (ids + 1) % 6)  # as many others of the same few
    with torch.set_grad_enabled(training):
        assert torch.equal(net(ids, visible), net(other, visible))


def test_all_tokens_count_alike_by_default():
    net, alike = encoder(), encoder(weights=torch.full((V,), 3.0))
    assert net.weights is None and net.positions is not None
    assert not any(layer.norm_first for layer in net.layers)
    ids, visible = tokens(0, 6), MASKS["scattered"]
    torch.testing.assert_close(alike(ids, visible), net(ids, visible), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "weights, got",
    [
        (torch.ones(V - 1), r"got \(49,\) from 1"),
        (torch.ones(V, 1), r"got \(50, 1\) from 1"),
        (torch.zeros(0), r"got \(0,\)"),
        (torch.arange(V), r"got \(50,\) from 0"),
        (torch.arange(V) - 0.5, r"got \(50,\) from -0.5"),
        (torch.arange(V) + torch.tensor([1.0] * (V - 1) + [math.inf]), r"got \(50,\) from 1"),
        (torch.full((V,), math.nan), r"got \(50,\) from nan"),
    ],
)
def test_weights_must_be_positive_numbers_one_a_token(weights, got):
    with pytest.raises(ValueError, match=f"weights must be 50 positive finite numbers.*{got}"):
        encoder(weights=weights)


# ---- decoder


def decoder():
    """One that is sure of itself: fresh weights are so small that it would write one token over and over."""
    torch.manual_seed(1)
    net = TextDecoder(V, embedding=8, dimensions=12)
    for p in (*net.recurrent.parameters(), *net.choose.parameters()):
        p.data.mul_(5)
    return net


def embeddings():
    return torch.randn(B, 8, generator=torch.Generator().manual_seed(3))


def test_logits_depend_on_the_tokens_before_and_on_the_embedding():
    net, h, ids = decoder(), embeddings(), tokens()
    before = net(h, ids)
    assert before.shape == (B, L, V)
    for at in range(L):
        other = ids.clone()
        other[0, at] = (ids[0, at] + 7) % V
        changed = (net(h, other) != before).any(dim=-1)  # (B, L)
        assert (
            not changed[0, : at + 1].any() and changed[0, at + 1 :].all() and not changed[1:].any()
        )
    changed = (net(torch.cat([h[:1] + 1, h[1:]]), ids) != before).any(dim=-1)
    assert changed[0].all() and not changed[1:].any()


def test_what_is_written_is_the_likeliest_token_after_what_is_written():
    net, h = decoder(), embeddings()
    written = net.write(h, 10)
    assert written.shape == (B, 10) and written.dtype == torch.int64
    assert torch.equal(net(h, written).argmax(dim=-1), written)
    assert (
        all(len(set(row)) > 2 for row in written.tolist()) and len(set(written[:, 0].tolist())) > 1
    )  # else it shows little
    assert torch.equal(net.write(h, 4), written[:, :4])


def test_tokens_can_be_kept_out_of_what_is_written():
    net, h = decoder(), embeddings()
    favourites = net.write(h, 1).flatten().unique().tolist()
    written = net.write(h, 10, without=favourites)
    assert not set(favourites) & set(written.flatten().tolist())
    logits = net(h, written)
    logits[..., favourites] = -torch.inf
    assert torch.equal(logits.argmax(dim=-1), written)


def test_nothing_cannot_be_written():
    with pytest.raises(ValueError, match=r"length.*got 0"):
        decoder().write(embeddings(), 0)


def test_every_token_can_be_written_and_the_one_that_begins_cannot():
    net = decoder()
    for token in (0, V - 1):
        net.choose.bias.data.zero_()[token] = 1e3
        assert (net.write(embeddings(), 3) == token).all()
    assert net.tokens.num_embeddings == V + 1 and net(embeddings(), tokens()).shape[-1] == V


def test_the_decoders_loss_is_the_cross_entropy_per_token():
    net, h, ids = decoder(), embeddings(), tokens()
    logits = net(h, ids)
    chosen = torch.stack([logits[b, t, ids[b, t]] for b in range(B) for t in range(L)])
    expected = (logits.exp().sum(dim=-1).log().flatten() - chosen).mean()
    assert torch.allclose(
        DecoderTraining(net).training_step((h, ids), 0)["loss"], expected, rtol=1e-5
    )


def test_decoder_learns_to_tell_two_embeddings_apart(monkeypatch):
    monkeypatch.setattr(
        "jepa_utils.training.fit.THREADS", 1
    )  # on a busy machine the second thread is waited for
    torch.manual_seed(0)
    h, ids = torch.randn(2, 8), torch.tensor([[1, 2, 3, 4, 5], [1, 3, 2, 2, 0]])
    net = TextDecoder(6, embedding=8, dimensions=16)
    batches = tensor_batches(h, ids, batch_size=2)
    history = fit(
        DecoderTraining(net, learning_rate=0.02), batches, epochs=60, seed=0, progress=False
    )
    assert torch.equal(net.write(h, 5), ids)
    assert history.losses["loss"][-1] < 0.3 < 1.5 < history.losses["loss"][0]


@pytest.mark.parametrize("change", [dict(vocabulary=0), dict(embedding=0), dict(dimensions=-1)])
def test_decoder_rejects_numbers_below_one(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))}.*{next(iter(change.values()))}"):
        TextDecoder(**dict(vocabulary=5, embedding=3) | change)


def test_decoder_training_rejects_a_learning_rate_of_zero():
    with pytest.raises(ValueError, match=r"learning_rate.*0"):
        DecoderTraining(decoder(), learning_rate=0)


def test_window_encoder_sees_every_place():
    torch.manual_seed(0)
    encoder = WindowEncoder(nn.Embedding(20, 4), window=3, hidden=8)
    context = torch.tensor([[1, 2, 3]])
    out = encoder(context)
    assert out.shape == (1, 4)
    assert not torch.allclose(out, encoder(torch.tensor([[3, 2, 1]])))  # order matters
    with pytest.raises(ValueError, match="window must.*got 0"):
        WindowEncoder(nn.Embedding(20, 4), window=0, hidden=8)
