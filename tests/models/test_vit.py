"""The vision transformer against the formulas it stands for, the predictor, and encoders and other networks on disk."""

import json
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import nn

from jepa_utils.models.checkpoints import (
    CheckpointError,
    load_encoder,
    load_weights,
    read_card,
    save_encoder,
    save_weights,
)
from jepa_utils.models.mlp import MLP
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.text import TextDecoder, TextEncoder, WindowEncoder
from jepa_utils.models.vision_language import CrossPredictor, ImageHead, QueryPredictor
from jepa_utils.models.vit import Block, ViT, patchify, position_grid


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return ViT(image_size=16, patch=4, dimensions=24, layers=2, heads=3)


@pytest.fixture
def images():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


# ---- patches and positions


def test_patches_are_the_squares_of_the_image_row_by_row(images):
    patches = patchify(images, 4)
    assert patches.shape == (5, 16, 48)
    for number in range(16):
        row, column = divmod(number, 4)
        square = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        torch.testing.assert_close(patches[:, number], square.flatten(1))


@pytest.mark.parametrize("patch, count", [(16, 4), (8, 16), (4, 64)])
def test_how_many_patches_a_small_image_has(patch, count):
    assert patchify(torch.zeros(1, 3, 32, 32), patch).shape[1] == count


@pytest.mark.parametrize(
    "shape, patch, message",
    [((3, 8, 8), 4, "images must have shape"), ((1, 3, 8, 8), 3, "patch must divide")],
)
def test_patches_that_do_not_fit(shape, patch, message):
    with pytest.raises(ValueError, match=message):
        patchify(torch.zeros(shape), patch)


def test_positions_equal_the_written_out_formula_and_differ():
    grid = position_grid(8, 2, 3)
    for row in range(2):
        for column in range(3):
            want = [
                f(at * rate)
                for at in (row, column)
                for f in (math.sin, math.cos)
                for rate in (1.0, 0.01)
            ]
            torch.testing.assert_close(grid[3 * row + column], torch.tensor(want))
    assert len(grid.unique(dim=0)) == 6


@pytest.mark.parametrize("arguments", [(6, 2, 2), (0, 2, 2), (8, 0, 2)])
def test_positions_out_of_range(arguments):
    with pytest.raises(ValueError, match="must be"):
        position_grid(*arguments)


# ---- the encoder


def test_attention_is_the_one_the_layer_uses():
    torch.manual_seed(0)
    block, x = Block(12, 3), torch.randn(2, 5, 12)
    weights = block.attention(x)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 5))
    values = block.qkv(block.norm1(x))[..., 24:].unflatten(-1, (3, 4)).transpose(1, 2)
    y = x + block.project((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)))


def test_what_is_not_kept_has_no_influence(vit, images):
    keep = torch.stack([torch.randperm(16)[:6] for _ in range(5)])
    seen = torch.zeros(5, 16, dtype=torch.bool).scatter(1, keep, True)
    pixels = seen.view(5, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(pixels, images, torch.randn_like(images))
    assert torch.equal(vit(images, keep), vit(other, keep))
    assert not torch.allclose(vit(images), vit(other))


def test_keeping_all_in_another_order_only_reorders(vit, images):
    order = torch.stack([torch.randperm(16) for _ in range(5)])
    whole = vit(images).gather(1, order.unsqueeze(-1).expand(-1, -1, 24))
    torch.testing.assert_close(vit(images, order), whole, rtol=1e-4, atol=1e-5)


def test_layers_end_where_forward_does(vit, images):
    layers = vit.layers(images)
    assert len(layers) == 3 and torch.equal(layers[0], vit.tokens(images))
    torch.testing.assert_close(vit.norm(layers[-1]), vit(images))
    torch.testing.assert_close(vit.attention(images), vit.blocks[-1].attention(layers[1]))


def test_parameters_counted_by_hand(vit):
    block = (24 + 1) * 72 + (24 + 1) * 24 + (24 + 1) * 96 + (96 + 1) * 24 + 4 * 24
    assert sum(p.numel() for p in vit.parameters()) == (48 + 1) * 24 + 2 * block + 2 * 24


def test_positions_do_not_drown_the_pixels():
    torch.manual_seed(0)
    vit = ViT()
    pixels = vit.embed(patchify(torch.randn(64, 3, 32, 32), 4))
    assert pixels.std() > vit.positions.std()


def test_first_weights_are_small_and_those_of_the_pixels_keep_their_size():
    torch.manual_seed(0)
    vit = ViT()
    for block in vit.blocks:
        for layer in (block.qkv, block.project, block.mlp[0], block.mlp[2]):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert (layer.bias == 0).all()
    assert vit.embed.weight.std().item() == pytest.approx(48**-0.5, rel=0.05)  # 3 * 4 * 4 pixels


@pytest.mark.parametrize(
    "keep",
    [torch.zeros(4, 3, dtype=torch.int64), torch.zeros(5, 3), torch.zeros(5, dtype=torch.int64)],
)
def test_keep_must_be_numbers_of_patches(vit, images, keep):
    with pytest.raises(ValueError, match="keep must be int64 patch indices"):
        vit(images, keep)


@pytest.mark.parametrize("shape", [(5, 1, 16, 16), (5, 3, 32, 32), (3, 16, 16)])
def test_images_of_another_shape(vit, shape):
    with pytest.raises(ValueError, match=r"images must have shape \(B, 3, 16, 16\)"):
        vit(torch.zeros(shape))


@pytest.mark.parametrize(
    "sizes", [dict(patch=5), dict(heads=5), dict(layers=0), dict(dimensions=0), dict(channels=0)]
)
def test_sizes_out_of_range(sizes):
    with pytest.raises(ValueError, match="must"):
        ViT(**sizes)


# ---- the predictor


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return PatchPredictor(24, (4, 4), width=12, layers=2, heads=3)


def test_predictions_follow_the_places_asked_for(predictor):
    context, seen, wanted = (
        torch.randn(2, 5, 24),
        torch.arange(5).expand(2, 5),
        torch.tensor([[7, 9, 12], [6, 6, 15]]),
    )
    predicted = predictor(context, seen, wanted)
    assert predicted.shape == (2, 3, 24)
    torch.testing.assert_close(
        predictor(context, seen, wanted.flip(1)), predicted.flip(1), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        predicted[1, 0], predicted[1, 1], rtol=1e-4, atol=1e-5
    )  # the same place twice
    assert not torch.allclose(
        predicted[0, 0], predicted[0, 1]
    )  # mask tokens differ by nothing but their place


def test_the_order_of_the_context_does_not_matter(predictor):
    context, seen, wanted = (
        torch.randn(2, 5, 24),
        torch.arange(5).expand(2, 5),
        torch.tensor([[7], [6]]),
    )
    turned = predictor(context.flip(1), seen.flip(1), wanted)
    torch.testing.assert_close(predictor(context, seen, wanted), turned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seen, wanted", [((2, 4), (2, 3)), ((2, 5), (3, 3)), ((2, 5), (3,))])
def test_predictor_shapes_that_do_not_fit(predictor, seen, wanted):
    with pytest.raises(ValueError, match=r"context must be \(B, K, D\)"):
        predictor(
            torch.randn(2, 5, 24),
            torch.zeros(seen, dtype=torch.int64),
            torch.zeros(wanted, dtype=torch.int64),
        )


def test_a_prediction_may_have_another_width_than_the_tokens():
    predictor = PatchPredictor(24, (4, 4), width=12, layers=1, heads=3, outputs=48)
    assert predictor(
        torch.randn(2, 5, 24), torch.arange(5).expand(2, 5), torch.tensor([[7], [6]])
    ).shape == (2, 1, 48)
    with pytest.raises(ValueError, match="outputs must be an integer of at least 1, got 0"):
        PatchPredictor(24, (4, 4), width=12, heads=3, outputs=0)


# ---- encoders on disk


def test_an_encoder_comes_back_as_it_was(vit, images, tmp_path):
    path = tmp_path / "deep" / "vit.safetensors"
    save_encoder(vit, path, {"what": "a test"})
    loaded, card = load_encoder(path)
    assert torch.equal(loaded(images), vit(images)) and not loaded.training
    assert card == {"what": "a test", "encoder": vit.sizes}
    assert sorted(p.name for p in path.parent.iterdir()) == ["vit.json", "vit.safetensors"]


def test_missing_and_damaged_checkpoints(vit, tmp_path):
    path = tmp_path / "vit.safetensors"
    with pytest.raises(CheckpointError, match=r"vit\.json is missing"):
        load_encoder(path)
    save_encoder(vit, path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"vit\.safetensors is damaged"):
        load_encoder(path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"vit\.safetensors is missing"):
        load_encoder(path)


def test_cards_that_do_not_fit(vit, tmp_path):
    path, card = tmp_path / "vit.safetensors", tmp_path / "vit.json"
    save_encoder(vit, path, {})
    card.write_text(json.dumps({"encoder": {**vit.sizes, "layers": 3}}))
    with pytest.raises(CheckpointError, match="other weights than the network has"):
        load_encoder(path)
    for text in (
        "{}", "no json", '{"encoder": {"patch": 5}}', '{"encoder": {"colour": 1}}',
        '{"encoder": null}', '{"encoder": {"layers": "3"}}',
        '{"encoder": {"dimensions": 4000000000000, "heads": 1}}',  # no memory is that large
    ):  # fmt: skip
        card.write_text(text)
        with pytest.raises(CheckpointError, match="no model card"):
            load_encoder(path)


class Stateful(nn.Module):
    def get_extra_state(self):
        return {"steps": 3}


def test_what_cannot_be_saved(vit, tmp_path):
    with pytest.raises(ValueError, match="named"):
        save_encoder(vit, tmp_path / "vit.pt", {})
    with pytest.raises(ValueError, match="card must hold what JSON can"):
        save_encoder(vit, tmp_path / "vit.safetensors", {"score": float("nan")})
    with pytest.raises(ValueError, match="card must be a mapping, got list"):
        save_weights(vit, tmp_path / "vit.safetensors", [1])
    with pytest.raises(TypeError, match="network.*tensors alone, got a dict for _extra_state"):
        save_weights(Stateful(), tmp_path / "vit.safetensors", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["vit.safetensors", "vit.json"])
def test_nothing_is_saved_where_a_folder_is_in_the_way(vit, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"path must leave room for the file {name}"):
        save_encoder(vit, tmp_path / "vit.safetensors", {})
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_tilde_is_the_home_folder(vit, images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_encoder(vit, "~/vit.safetensors", {})
    assert (tmp_path / "vit.safetensors").is_file()
    assert torch.equal(load_encoder("~/vit.safetensors")[0](images), vit(images))
    assert read_card("~/vit.safetensors") == {"encoder": vit.sizes}


# ---- other networks on disk


def network(seed=0, hidden=4):
    torch.manual_seed(seed)
    return nn.ModuleList(
        [nn.Sequential(nn.Linear(3, hidden), nn.BatchNorm1d(hidden)), nn.Embedding(5, 2)]
    )


def test_any_network_comes_back_as_it_was(tmp_path):
    saved, path, card = (
        network(),
        tmp_path / "deep" / "pair.safetensors",
        {"what": "a test", "words": {"<unk>": 0, "größer": 2}},
    )
    saved[0](torch.randn(9, 3))  # the buffers move, too
    save_weights(saved, path, card)
    fresh = network(seed=1)
    loaded, told = load_weights(fresh, path)
    assert loaded is fresh and not loaded.training
    assert told == read_card(path) == card and list(told["words"]) == list(
        card["words"]
    )  # in order
    expected = saved.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 8\n"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("pair.safetensors", None, "no checkpoint: pair.safetensors is missing"),
        ("pair.json", None, "no checkpoint: pair.json is missing"),
        ("pair.safetensors", b"damaged", "pair.safetensors is damaged"),
        ("pair.json", b"{", "pair.json is no model card: "),
        ("pair.json", b"\xff", "pair.json is no model card: "),
        ("pair.json", b"[1, 2]", "pair.json is no model card: it holds a list"),
        ("pair.json", b"[" * 100_000, "pair.json is no model card: "),
        ("pair.json", b"", "pair.json is empty"),
        ("pair.safetensors", b"", "pair.safetensors is empty"),
        ("pair.json", LFS, "pair.json is a pointer of Git LFS"),
        ("pair.safetensors", LFS, "pair.safetensors is a pointer of Git LFS"),
        ("pair.json", "folder", "no checkpoint: pair.json cannot be read: Is a directory"),
        ("pair.safetensors", "folder", "pair.safetensors cannot be read: Is a directory"),
    ],
)
def test_weights_or_card_that_cannot_be_read(tmp_path, name, content, message):
    path = tmp_path / "pair.safetensors"
    save_weights(network(), path, {})
    (tmp_path / name).unlink()
    if content == "folder":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_weights(network(), path)
    if name == "pair.json":
        with pytest.raises(CheckpointError, match=message):
            read_card(path)


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "pair.safetensors"
    save_weights(network(), path, {})
    for other in (network(hidden=5), network()[0]):
        with pytest.raises(
            CheckpointError,
            match=r"pair.safetensors holds other weights than the network has: .*0\.weight",
        ):
            load_weights(other, path)
    for read in (read_card, lambda path: load_weights(network(), path)):
        with pytest.raises(ValueError, match="named"):
            read(tmp_path / "pair.pt")


def test_the_error_says_what_differs_and_nothing_is_loaded(tmp_path):
    path = tmp_path / "pair.safetensors"
    save_weights(network(), path, {})
    wide = network(hidden=5)
    before = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"0\.0\.weight of shape \(4, 3\) for \(5, 3\).*more"):
        load_weights(wide, path)
    assert all(torch.equal(before[name], now) for name, now in wide.state_dict().items())
    with pytest.raises(CheckpointError, match=r"missing 2\.bias; missing 2\.weight$"):
        load_weights(network().append(nn.Linear(1, 1)), path)
    with pytest.raises(CheckpointError, match=r"has: unexpected 1\.weight$"):
        load_weights(network()[:1], path)


# ---- what is shared, and other kinds of tensors


class Tied(nn.Module):
    def __init__(self, seed, tied=True):
        super().__init__()
        torch.manual_seed(seed)
        self.words, self.decoder = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.encoders = nn.ModuleList([nn.BatchNorm1d(3)] * 2)
        if tied:
            self.decoder.weight = self.words.weight
        nn.init.normal_(self.encoders[0].bias)


def test_what_is_shared_is_saved_once_and_stays_shared(tmp_path):
    path, saved = tmp_path / "tied.safetensors", Tied(0)
    saved.encoders[0](torch.randn(9, 3))
    save_weights(saved, path, {})
    assert set(load(path.read_bytes())) == {
        "words.weight",
        *(f"encoders.0.{name}" for name in saved.encoders[0].state_dict()),
    }
    loaded, _ = load_weights(Tied(1), path)
    expected = saved.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.decoder.weight is loaded.words.weight
    assert loaded.encoders[1] is loaded.encoders[0]


def test_a_jepa_with_one_encoder_for_both_sides_comes_back(tmp_path):
    def jepa(seed):
        torch.manual_seed(seed)
        both = nn.Linear(3, 4)
        return nn.ModuleDict({"context": both, "predictor": nn.Linear(4, 4), "target": both})

    path, saved = tmp_path / "jepa.safetensors", jepa(0)
    save_weights(saved, path, {})
    loaded, _ = load_weights(jepa(1), path)
    assert loaded["target"] is loaded["context"]
    expected = saved.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_a_network_that_shares_other_tensors_is_another(tmp_path):
    path = tmp_path / "tied.safetensors"
    save_weights(Tied(0), path, {})
    with pytest.raises(CheckpointError, match=r"missing decoder\.weight$"):
        load_weights(Tied(1, tied=False), path)
    save_weights(Tied(0, tied=False), path, {})
    with pytest.raises(CheckpointError, match=r"two values of words\.weight"):
        load_weights(Tied(1), path)


def test_views_half_precision_and_nothing_at_all_come_back(tmp_path):
    def odd(value):
        net = nn.Module()
        base = torch.arange(12, dtype=torch.bfloat16) * value
        net.across = nn.Parameter(base.view(3, 4).T)  # not contiguous
        net.start, net.end = nn.Parameter(base[:4]), nn.Parameter(base[2:6])  # overlap
        net.register_buffer("mask", base > 3 * value)
        net.register_buffer("count", torch.tensor(7 * value))
        return net

    path, saved = tmp_path / "odd.safetensors", odd(2)
    save_weights(saved, path, {})
    fresh = odd(3)
    with torch.no_grad():
        fresh.end = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
        fresh.start = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    loaded, _ = load_weights(fresh, path)
    for name, tensor in loaded.state_dict().items():
        expected = saved.state_dict()[name]
        assert tensor.dtype == expected.dtype and torch.equal(tensor, expected)
    save_weights(nn.Identity(), path, {"what": "nothing"})
    assert load_weights(nn.Identity(), path)[1] == {"what": "nothing"}


# ---- sizes


SIZES = {
    MLP: dict(inputs=3, hidden=4, outputs=2, layers=1),
    Block: dict(dimensions=8, heads=2, ratio=2),
    ViT: dict(image_size=8, patch=4, channels=1, dimensions=64, layers=1, heads=2),
    PatchPredictor: dict(dimensions=8, width=64, layers=1, heads=2, outputs=5),
    WindowEncoder: dict(window=2, hidden=4),
    TextEncoder: dict(vocabulary=5, dimensions=64, heads=2, layers=1, max_length=6),
    TextDecoder: dict(vocabulary=5, embedding=3, dimensions=8),
    ImageHead: dict(places=4, dimensions=8, width=64, hidden=6, embedding=5),
    CrossPredictor: dict(dimensions=8, word_dimensions=6, width=64, layers=1, heads=2),
    QueryPredictor: dict(dimensions=8, embedding=6, vocabulary=5, width=64, layers=1, heads=2),
}


def build(kind, **sizes):
    torch.manual_seed(0)
    more = {}
    if kind in (PatchPredictor, CrossPredictor, QueryPredictor):
        more = {"grid": (sizes.pop("rows", 2), sizes.pop("columns", 2))}
    if kind is WindowEncoder:
        more = {"words": nn.Embedding(5, 3)}
    return kind(**sizes, **more)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("integer", [np.int64, np.int8])
def test_sizes_may_be_numpy_integers(kind, integer):
    ours = build(kind, **{name: integer(size) for name, size in SIZES[kind].items()})
    expected = build(kind, **SIZES[kind]).state_dict()
    assert [tuple(x.shape) for x in ours.state_dict().values()] == [
        tuple(x.shape) for x in expected.values()
    ]
    assert all(torch.equal(x, expected[name]) for name, x in ours.state_dict().items())


@pytest.mark.parametrize("kind, name", [(kind, name) for kind in SIZES for name in SIZES[kind]])
@pytest.mark.parametrize("value", [2.0, True, np.float32(2), np.True_, "2", None, -1])
def test_sizes_are_no_other_numbers(kind, name, value):
    if (name, value) == ("outputs", None):
        return  # the default of one
    got = re.escape(f"got {value!r}")
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least .*{got}"):
        build(kind, **SIZES[kind] | {name: value})


def test_an_encoder_of_numpy_sizes_can_be_saved(tmp_path):
    path = tmp_path / "vit.safetensors"
    saved = build(ViT, **{name: np.int64(size) for name, size in SIZES[ViT].items()})
    save_encoder(saved, path, {})
    assert load_encoder(path)[0].sizes == SIZES[ViT] == read_card(path)["encoder"]


@pytest.mark.parametrize("kind", [ViT, PatchPredictor, CrossPredictor, QueryPredictor])
def test_fixed_positions_are_no_weights(kind):
    network = build(kind, **SIZES[kind])
    assert "positions" in dict(network.named_buffers())
    assert "positions" not in network.state_dict()


def test_image_head_has_one_hidden_layer():
    head = build(ImageHead, **SIZES[ImageHead])
    (mlp,) = [part for part in head if isinstance(part, MLP)]
    assert [p.shape for p in mlp.parameters()] == [(6, 4 * 64), (6,), (5, 6), (5,)]


def test_window_encoder_equals_its_formula():
    encoder = build(WindowEncoder, **SIZES[WindowEncoder])
    first, _, last = encoder.mix
    context = torch.tensor([[1, 2], [4, 0], [3, 3]])
    for row, said in zip(context, encoder(context), strict=True):
        x = torch.cat([encoder.words.weight[i] for i in row])  # oldest first
        hidden = torch.nn.functional.gelu(first.weight @ x + first.bias)
        torch.testing.assert_close(said, last.weight @ hidden + last.bias)


def test_grids_patches_and_lengths_are_integers(images):
    assert torch.equal(position_grid(np.int8(64), np.int8(3), np.int8(2)), position_grid(64, 3, 2))
    assert torch.equal(patchify(images, np.int8(4)), patchify(images, 4))
    for call, name in (
        (lambda: position_grid(8.0, 2, 2), "dimensions"),
        (lambda: position_grid(8, 2.0, 2), "rows"),
        (lambda: position_grid(8, 2, 2.0), "columns"),
        (lambda: patchify(images, 4.0), "patch"),
        (lambda: TextDecoder(5, embedding=3).write(torch.zeros(1, 3), 2.0), "length"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be an integer"):
            call()
