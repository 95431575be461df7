"""Small modules and batches that several test files train."""

import torch
from torch import nn

from jepa_utils.data.batches import SpanDataModule, neighbour_batches, tensor_batches
from jepa_utils.data.masking import multiblock_masks
from jepa_utils.models.ema import EMA
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import ImageHead
from jepa_utils.models.vit import ViT
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.training.jepa import JEPA, MaskedJEPA

GRID, D, E = (8, 8), 12, 10


def make(seed=0, weight=0.1, regularizer=None):
    torch.manual_seed(seed)
    regularizer = regularizer or SIGReg(num_slices=16)
    return JEPA(
        nn.Embedding(20, 4),
        nn.Linear(4, 4),
        regularizer=regularizer,
        weight=weight,
        learning_rate=0.01,
    )


def data():
    ids = torch.randint(20, (500,), generator=torch.Generator().manual_seed(1))
    return tensor_batches(ids[:-1], ids[1:], batch_size=64)


def interrupted(after):
    """A monitor that breaks off a training after so many epochs, before the last one's checkpoint."""
    calls = []

    def monitor():
        calls.append(0)  # before training, then after each epoch
        if len(calls) == after + 1:
            raise InterruptedError
        return {}

    return monitor


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def points(n=50):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(2))


def pairs():
    """Points and the next four, around the corner."""
    return neighbour_batches(
        points(), (torch.arange(50)[:, None] + torch.arange(1, 5)) % 50, batch_size=16
    )


def two_encoders(**change):
    torch.manual_seed(0)
    context, target, predictor = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 4)
    return JEPA(context, predictor, **dict(target_encoder=target, learning_rate=0.01) | change)


def ema_module(seed=0, **change):
    torch.manual_seed(seed)
    context = nn.Linear(3, 4)
    return JEPA(
        context,
        nn.Linear(4, 4),
        target_encoder=EMA(context, decay=0.9),
        learning_rate=0.01,
        **change,
    )


def text_encoder(seed=0, **change):
    torch.manual_seed(seed)
    return TextEncoder(
        30, **dict(dimensions=8, heads=2, layers=1, max_length=12, dropout=0.0) | change
    )


def text_module(seed=0, dropout=0.0, **change):
    encoder = text_encoder(seed, dropout=dropout)
    change = (
        dict(regularizer=SIGReg(num_slices=8), weight=0.1, regularize="both", learning_rate=0.01)
        | change
    )
    return JEPA(encoder, nn.Linear(8, 8), **change)


def spans(**change):
    chunks = torch.randint(28, (50, 12), generator=torch.Generator().manual_seed(4))
    return SpanDataModule(
        chunks, **dict(batch_size=8, min_length=3, either_side=True, seed=7) | change
    )


def stream():
    chunks = spans().chunks
    return SpanDataModule(
        lambda rank, world_size: chunks[rank::world_size],
        batch_size=4,
        min_length=3,
        chunks_per_epoch=12,
    )


def pictures():
    draw = torch.Generator().manual_seed(0)
    colour = torch.randint(256, (96, 3, 1, 1), generator=draw)
    noise = torch.randint(-40, 40, (96, 3, 32, 32), generator=draw)
    return (colour + noise).clamp(0, 255).to(torch.uint8), torch.randint(10, (96,), generator=draw)


def small(seed=0, outputs=None, **options):
    torch.manual_seed(seed)
    encoder = ViT(patch=8, dimensions=16, layers=1, heads=2)
    predictor = PatchPredictor(16, encoder.grid, width=8, layers=1, heads=2, outputs=outputs)
    return MaskedJEPA(encoder, predictor, masks=multiblock_masks, **options)


def colours(number=200):
    """Images whose tokens are one of four vectors, and whose caption is its number."""
    draw = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (number,), generator=draw)
    tokens = torch.randn(4, 1, D, generator=draw)[kinds].expand(-1, 64, -1) + 0.1 * torch.randn(
        number, 64, D, generator=draw
    )
    return tokens, (kinds.view(-1, 1, 1) + 1, torch.ones(number, 1, 1, dtype=torch.bool)), kinds


def pair():
    torch.manual_seed(0)
    return ImageHead(64, D, width=4, hidden=16, embedding=8, dropout=0.1), TextEncoder(
        6, dimensions=8, layers=0, dropout=0.1
    )
