"""Tokens and embeddings of encoders that stay as they are."""

import pytest
import torch

from jepa_utils import TextEncoder, ViT, normalize
from jepa_utils.evaluation.encode import embed, encode_images, frozen_tokens, photo_tokens
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
    flat = encode_images(torch.nn.Sequential(vit, torch.nn.Flatten()), images)
    torch.testing.assert_close(flat, tokens.flatten(1))


def test_inputs_of_unequal_lengths_are_refused(draw):
    text = TextEncoder(20, dimensions=8, layers=0)
    ids, visible = texts(rows=7)
    with pytest.raises(ValueError, match="shorter"):
        embed(text, ids, visible[:4], batch_size=4)


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
