"""Tokens and embeddings of encoders that stay as they are."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from jepa_utils import TextEncoder, ViT, normalize
from jepa_utils.evaluation import encode
from jepa_utils.evaluation.encode import (
    cached_tokens,
    embed,
    encode_images,
    evaluating,
    frozen_tokens,
    photo_tokens,
)
from jepa_utils.models.vision_language import ImageHead, QueryPredictor

GRID, D = (8, 8), 12


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return ViT(image_size=32, patch=8, dimensions=8, layers=1, heads=2).eval()  # a grid of 4x4


def pictures(draw, *shape):
    return torch.randint(256, shape, dtype=torch.uint8, generator=draw)


def texts(rows):
    visible = torch.ones(rows, 4, dtype=torch.bool)
    visible[0, 2:] = False
    return torch.randint(20, (rows, 4), generator=torch.Generator().manual_seed(1)), visible


def test_images_become_embeddings_and_their_tokens_are_averaged(vit, draw):
    images = pictures(draw, 5, 3, 32, 32)
    with torch.no_grad():
        tokens = vit(normalize(images))
    found = encode_images(vit.train(), images, batch_size=2)
    torch.testing.assert_close(found, tokens.mean(dim=1))
    assert vit.training
    flat = encode_images(nn.Sequential(vit, nn.Flatten()), images)
    torch.testing.assert_close(flat, tokens.flatten(1))


def test_inputs_of_unequal_lengths_are_refused(draw):
    text = TextEncoder(20, dimensions=8, layers=0)
    ids, visible = texts(rows=7)
    for size in (4, 500):  # in several parts, and in one
        with pytest.raises(ValueError, match=r"inputs .*equally long.*\(7, 4\), \(4, 4\)"):
            embed(text, ids, visible[:4], batch_size=size)
    with pytest.raises(ValueError, match=r"inputs .*\[\]"):
        embed(text)


def test_frozen_tokens_are_the_encoders_output_in_half_precision(vit, draw):
    images = pictures(draw, 501, 3, 32, 32)  # more than are encoded at a time
    tokens = frozen_tokens(vit, images)
    assert tokens.dtype == torch.float16 and not tokens.requires_grad and not vit.training
    torch.testing.assert_close(tokens, vit(normalize(images)).half(), atol=2e-3, rtol=2e-3)


def test_tokens_of_a_photograph_are_those_of_its_quarters_row_by_row(vit, draw):
    photographs = pictures(draw, 3, 3, 64, 64)
    expected = torch.zeros(3, 4, 4, 8)
    for row in range(2):
        for column in range(2):
            quarter = photographs[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            grid = vit(normalize(quarter)).unflatten(1, (4, 4))
            for i in range(2):
                for j in range(2):
                    few = grid[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(1, 2))
                    expected[:, 2 * row + i, 2 * column + j] = few.detach()
    tokens = photo_tokens(vit, photographs)
    assert tokens.shape == (3, 16, 8) and tokens.dtype == torch.float16 and not vit.training
    torch.testing.assert_close(tokens, expected.flatten(1, 2).half(), atol=2e-3, rtol=2e-3)
    larger = photographs.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(photo_tokens(vit, larger), tokens, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    "row, column, places",
    [(0, 0, [0, 1, 4, 5]), (0, 1, [2, 3, 6, 7]), (1, 0, [8, 9, 12, 13]), (1, 1, [10, 11, 14, 15])],
)
def test_a_bright_quarter_is_seen_by_its_own_tokens_alone(vit, row, column, places):
    photographs = torch.full((2, 3, 96, 96), 60, dtype=torch.uint8)
    photographs[1, :, 48 * row : 48 * row + 48, 48 * column : 48 * column + 48] = 250
    dark, bright = photo_tokens(vit, photographs).float()
    assert ((bright - dark).abs().amax(dim=1) > 0.01).nonzero().flatten().tolist() == places


@pytest.mark.parametrize("shape", [(1, 3, 63, 63), (1, 3, 64, 32), (3, 64, 64)])
def test_photographs_of_another_shape(vit, shape):
    with pytest.raises(
        ValueError, match=r"photographs must have shape \(N, 3, S, S\), S even, got"
    ):
        photo_tokens(vit, torch.zeros(shape, dtype=torch.uint8))


def test_embeddings_in_parts_are_those_in_one_go(draw):
    head, text = ImageHead(4, D, embedding=8), TextEncoder(20, dimensions=8, layers=0, dropout=0.0)
    tokens, (ids, visible) = torch.randn(7, 4, D, generator=draw).half(), texts(rows=7)
    seen = embed(head, tokens, batch_size=3)
    assert not seen.requires_grad
    torch.testing.assert_close(seen, head(tokens.float()))
    torch.testing.assert_close(embed(text, ids, visible, batch_size=3), text(ids, visible))
    both = embed(
        QueryPredictor(D, (2, 2), 7, vocabulary=20, width=24, heads=3).eval(),
        tokens,
        ids,
        visible,
        batch_size=2,
    )
    assert both.shape == (7, 7) and both.dtype == torch.float32


def test_embeddings_of_many_images(draw):
    images = pictures(draw, 96, 3, 32, 32)
    encoder = ViT(patch=8, dimensions=16, layers=1, heads=2)
    with torch.no_grad():
        whole = encoder(normalize(images)).mean(dim=1)
    torch.testing.assert_close(encode_images(encoder, images, batch_size=7), whole)
    torch.testing.assert_close(
        encode_images(lambda x: x.flatten(1), images[:5]), normalize(images[:5]).flatten(1)
    )
    assert encoder.training


def photos(number=3, seed=0):
    return pictures(torch.Generator().manual_seed(seed), number, 3, 32, 32)


class Counting(nn.Module):
    """Colours of the four quarters as tokens; knows the batches it was asked for."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.dropout = nn.Dropout(0.5)
        self.batches = []

    def forward(self, images):
        self.batches.append(len(images))
        return self.dropout(
            self.factor * F.adaptive_avg_pool2d(images.float(), 2).flatten(2).transpose(1, 2) / 255
        )


@pytest.fixture
def encoder():
    return Counting()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tokens" / "pictures.safetensors"


def test_tokens_are_computed_once(encoder, file):
    images = photos(10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = cached_tokens(encoder, images, file, name="quarters", batch_size=4)
        assert encoder.batches == [4, 4, 2]
        again = cached_tokens(encoder, images.clone(), str(file), name="quarters", batch_size=3)
    assert encoder.batches == [4, 4, 2]
    assert first.shape == (10, 4, 3) and first.dtype == again.dtype == torch.float16
    assert torch.equal(first, again)
    assert not first.requires_grad and encoder.training  # as it was
    encoder.eval()
    torch.testing.assert_close(first.float(), encoder(images), rtol=1e-3, atol=1e-3)
    with safe_open(file, "pt") as content:
        assert (
            content.metadata()["name"] == "quarters" and content.metadata()["shape"] == "(10, 4, 3)"
        )
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def warned(encoder, images, file, what, name="quarters"):
    with pytest.warns(
        UserWarning, match=rf"{file.name} .*{what}.*; its tokens are computed anew"
    ) as caught:
        tokens = cached_tokens(encoder, images, file, name=name)
    assert caught[0].filename == __file__
    return tokens


def test_other_images_weights_or_names_are_computed_anew(encoder, file):
    images = photos(4)
    first = cached_tokens(encoder, images, file, name="quarters")
    other = images.clone()
    other[3, 2, 31, 31] ^= 1  # the last pixel, hardly
    warned(encoder, other, file, "other images")
    second = warned(encoder, images.flip(0), file, "other images")
    assert torch.equal(second, first.flip(0)) and len(encoder.batches) == 3
    third = warned(Counting(2.0), images, file, "other encoder")
    torch.testing.assert_close(third, 2 * first)
    warned(Counting(2.0), images, file, "other name", name="halves")
    assert torch.equal(
        cached_tokens(Counting(2.0), images, file, name="halves"), third
    )  # the new ones are kept
    warned(
        Counting(2.0), images.view(4, 3, 16, 64), file, "other images", name="halves"
    )  # equal bytes


@pytest.mark.parametrize(
    "harm",
    [
        lambda b: b[: len(b) - 5],
        lambda b: b[:4],
        lambda b: b"",
        lambda b: b[:-1] + bytes([b[-1] ^ 1]),
    ],
)
def test_a_damaged_file_is_computed_anew(encoder, file, harm):
    images = photos(4)
    tokens = cached_tokens(encoder, images, file, name="quarters")
    file.write_bytes(harm(file.read_bytes()))
    assert torch.equal(warned(encoder, images, file, "is damaged"), tokens)
    assert (
        torch.equal(cached_tokens(encoder, images, file, name="quarters"), tokens)
        and len(encoder.batches) == 2
    )


def test_a_file_of_something_else_is_not_touched(encoder, file):
    file.parent.mkdir()
    save_file({"weights": torch.ones(3)}, file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="file must be new, .* holds something else"):
        cached_tokens(encoder, photos(), file, name="quarters")
    assert file.read_bytes() == before and not encoder.batches


def test_interrupted_computing_leaves_no_file_and_the_encoder_as_it_was(encoder, file):
    class Stopped(Counting):
        def forward(self, images):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().forward(images)

    stopped = Stopped()
    with pytest.raises(KeyboardInterrupt):
        cached_tokens(stopped, photos(6), file, name="quarters", batch_size=2)
    assert list(file.parent.iterdir()) == [] and stopped.training


def test_interrupted_writing_leaves_the_old_file(encoder, file, monkeypatch):
    cached_tokens(encoder, photos(), file, name="quarters")
    before = file.read_bytes()

    def stop(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(encode, "save_file", stop)
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="other images"):
        cached_tokens(encoder, photos(seed=1), file, name="quarters")
    assert [path.read_bytes() for path in file.parent.iterdir()] == [before]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(images=photos().float()), "images must be uint8 of shape .* got torch.float32"),
        (dict(images=photos()[0]), "images must be uint8 of shape"),
        (dict(images=photos()[:0]), r"images must be .* got torch.uint8 of shape \(0, 3, 32, 32\)"),
        (dict(batch_size=0), "batch_size must be an integer of at least 1, got 0"),
        (dict(file="tokens.pt"), r"file must be named \*.safetensors, got 'tokens.pt'"),
        (
            dict(encoder=nn.Flatten()),
            r"encoder must give tokens of shape \(3, 'K', 'D'\) for 3 images, got \(3, 3072\)",
        ),
        (dict(encoder=Counting(1e6)), "finite in half precision"),
        (dict(encoder=Counting(float("nan"))), "finite in half precision"),
    ],
)
def test_arguments_that_do_not_fit(encoder, file, change, message):
    arguments = dict(encoder=encoder, images=photos(), file=file, name="quarters") | change
    with pytest.raises(ValueError, match=message):
        cached_tokens(**arguments)
    assert not file.exists()


def test_tokens_of_changing_number_are_refused(file):
    class Growing(Counting):
        def forward(self, images):
            return super().forward(images)[:, len(self.batches) :]

    with pytest.raises(
        ValueError,
        match=r"encoder must give tokens of shape \(2, 3, 3\) for 2 images, got \(2, 2, 3\)",
    ):
        cached_tokens(Growing(), photos(4), file, name="growing", batch_size=2)


class Eye(ViT):
    """A normalisation that its owner froze, in an encoder that trains; and one that always trains."""

    def __init__(self):
        super().__init__(image_size=32, patch=8, dimensions=8, layers=1, heads=2)
        self.frozen, self.moving, self.problem = nn.BatchNorm1d(8), nn.BatchNorm1d(8), None
        self.train().frozen.eval()

    def forward(self, images):
        assert not any(module.training for module in self.modules())
        if self.problem:
            raise self.problem
        return self.moving(self.frozen(super().forward(images.float()).mT)).mT


USES = {
    "encode_images": lambda encoder, images, _: encode_images(encoder, images),
    "frozen_tokens": lambda encoder, images, _: frozen_tokens(encoder, images),
    "photo_tokens": lambda encoder, images, _: photo_tokens(encoder, images),
    "cached_tokens": lambda encoder, images, folder: cached_tokens(
        encoder, images, folder / "x.safetensors", name="eye"
    ),
    "embed": lambda encoder, images, _: embed(encoder, images / 255),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("problem", [None, RuntimeError("broken"), KeyboardInterrupt()])
def test_every_module_is_in_its_own_mode_afterwards(use, outer, problem, draw, tmp_path):
    eye = Eye()
    eye.training, eye.problem = outer, problem  # the others stay as they are
    before = {name: module.training for name, module in eye.named_modules()}
    state = {name: tensor.clone() for name, tensor in eye.state_dict().items()}
    if problem is None:
        use(eye, pictures(draw, 2, 3, 32, 32), tmp_path)
    else:
        with pytest.raises(type(problem)):
            use(eye, pictures(draw, 2, 3, 32, 32), tmp_path)
    assert {name: module.training for name, module in eye.named_modules()} == before
    assert not eye.frozen.training and eye.moving.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in eye.state_dict().items())
    assert torch.is_grad_enabled()


def test_a_generator_that_is_left_early_restores_the_modes_too():
    eye = Eye()

    def outputs():
        with evaluating(eye):
            yield from range(3)

    running = outputs()
    next(running)
    assert not eye.training and not eye.moving.training
    running.close()
    assert eye.training and eye.moving.training and not eye.frozen.training


def test_embeddings_are_without_dropout():
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4, affine=False)).train()
    network[1].running_var.fill_(4)
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(embed(network, x, batch_size=2), x / 2, atol=1e-4, rtol=1e-4)


def test_an_encoder_may_be_without_parameters_and_there_may_be_no_images(vit, draw):
    images = pictures(draw, 3, 3, 32, 32)
    assert torch.equal(encode_images(nn.Flatten(), images), normalize(images).flatten(1))
    assert encode_images(vit, images[:0]).shape == (0, 8)
    assert frozen_tokens(vit, images[:0]).shape == (0, 16, 8)
    assert photo_tokens(vit, images[:0]).shape == (0, 16, 8)
    assert embed(nn.Linear(3, 2), torch.zeros(0, 3)).shape == (0, 2)


def test_batch_sizes_may_be_numpys(vit, draw, tmp_path):
    images, size = pictures(draw, 5, 3, 32, 32), np.int64(2)
    torch.testing.assert_close(
        encode_images(vit, images, batch_size=size), encode_images(vit, images)
    )
    x = torch.randn(5, 3, generator=draw)
    assert torch.equal(embed(nn.Identity(), x, batch_size=size), x)
    flat = nn.Flatten(2)  # an "encoder" whose tokens are the channels
    kept = cached_tokens(flat, images, tmp_path / "x.safetensors", name="flat", batch_size=size)
    assert torch.equal(kept, images.flatten(2).half())


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "2", np.bool_(True), np.float64(2)])
def test_other_batch_sizes_are_refused(vit, size, tmp_path):
    images, words = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), "batch_size must be an integer"
    with pytest.raises(ValueError, match=words):
        encode_images(vit, images, batch_size=size)
    with pytest.raises(ValueError, match=words):
        embed(nn.Identity(), torch.ones(2, 3), batch_size=size)
    with pytest.raises(ValueError, match=words):
        cached_tokens(vit, images, tmp_path / "x.safetensors", name="vit", batch_size=size)


@pytest.mark.parametrize("photographs", [torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64).byte()])
def test_photographs_of_other_numbers_or_colours(vit, photographs):
    with pytest.raises(ValueError, match="^photographs must"):
        photo_tokens(vit, photographs)
