"""Two real processes (gloo) train as one: same losses and weights, for each kind of experiment.

One launch does all the work. Everything is in double precision: what is left of a difference is
then no rounding.
"""

from functools import partial

import pytest
import torch
from processes import as_torchrun, results_on_processes
from torch import nn
from torch.nn import functional as F
from trainings import interrupted

from jepa_utils.data.batches import CaptionDataModule, ImageDataModule, SpanDataModule
from jepa_utils.data.masking import multiblock_masks, random_masks
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.text import TextDecoder, TextEncoder
from jepa_utils.models.vision_language import CrossPredictor, ImageHead
from jepa_utils.models.vit import ViT
from jepa_utils.models.world import ActionPredictor, WorldDecoder, WorldEncoder
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.objectives.vcreg import VCReg
from jepa_utils.training import jepa
from jepa_utils.training.baselines import CaptionTraining, ClassTraining, HybridTraining, MaskedLM
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA, MaskedJEPA, TokenJEPA, ViewJEPA, train_pair
from jepa_utils.training.optimizers import Schedule
from jepa_utils.training.world_models import PixelWorld, WorldJEPA

BATCH = 7  # four rows for the first process, three for the second
HOW = dict(epochs=2, seed=0, progress=False)


def images():
    draw = torch.Generator().manual_seed(1)
    pictures = torch.randint(256, (24, 3, 32, 32), generator=draw, dtype=torch.uint8)
    return ImageDataModule(
        pictures, torch.randint(4, (24,), generator=draw), batch_size=BATCH, seed=3
    )


def spans():
    chunks = torch.randint(28, (24, 12), generator=torch.Generator().manual_seed(4))
    return SpanDataModule(chunks, batch_size=BATCH, min_length=3, either_side=True, seed=7)


def captions(**options):
    draw = torch.Generator().manual_seed(2)
    tokens = torch.randn(24, 16, 6, generator=draw)
    ids = torch.randint(20, (24, 2, 5), generator=draw)
    words = ids, torch.arange(5).expand(ids.shape) < torch.randint(2, 6, (24, 2, 1), generator=draw)
    return CaptionDataModule(tokens, words, batch_size=BATCH, seed=5, **options)


def text(vocabulary=20, dimensions=8):
    return TextEncoder(
        vocabulary, dimensions=dimensions, heads=2, layers=1, max_length=12, dropout=0.0
    )


def vit():
    return ViT(patch=8, dimensions=16, layers=1, heads=2)


def masked(devices, masks=multiblock_masks, **options):
    encoder = vit()
    predictor = PatchPredictor(16, encoder.grid, width=8, layers=1, heads=2)
    module = MaskedJEPA(encoder, predictor, masks=masks, **options)
    return module, fit(module, images(), devices=devices, **HOW)


def views(devices):
    module = ViewJEPA(vit(), keep=0.5, num_slices=8)
    return module, fit(module, images(), devices=devices, **HOW)


def labels(devices):
    module = ClassTraining(vit(), classes=4)
    return module, fit(module, images(), devices=devices, **HOW)


def pair(devices, **options):
    kinds = torch.arange(24) // 3
    data = captions(groups=kinds, look_alikes=kinds // 2)
    head = ImageHead(16, 6, embedding=8, width=4, hidden=8)
    how = dict(epochs=2, seed=0, devices=devices)
    return train_pair(head, text(), data, **how, **options)


def pair_by_mean(devices):
    rule = dict(objective=F.mse_loss, regularizer=SIGReg(num_slices=8), weight=0.1)
    head = ImageHead(16, 6, embedding=8, width=4, hidden=8)
    how = dict(epochs=2, seed=0, devices=devices)
    return train_pair(head, text(), captions(), regularize="both", **rule, **how)


def tokens(devices, kind):
    predictor = CrossPredictor(6, 8, (4, 4), width=8, layers=1, heads=2)
    masks = partial(random_masks, share=0.5)
    module = TokenJEPA(predictor, nn.Embedding(20, 8), masks=masks, objective=InfoNCE(), text=kind)
    return module, fit(module, captions(), devices=devices, **HOW)


def word_by_word(devices):
    module = CaptionTraining(
        ImageHead(16, 6, embedding=8, width=4, hidden=8), TextDecoder(20, embedding=8)
    )
    return module, fit(module, captions(), devices=devices, **HOW)


def masked_words(devices):
    module = MaskedLM(text(30), mask_id=29, candidates=torch.arange(28), share=0.05)
    return module, fit(module, spans(), devices=devices, **HOW)


def prose(**change):
    rule = dict(regularizer=SIGReg(num_slices=8), weight=0.1, regularize="both") | change
    return JEPA(text(30), nn.Linear(8, 8), **rule)


def hybrid(devices):
    """Both parts draw: directions, and what is hidden."""
    jepa = prose(schedule=Schedule(warmup=0.25, layer_rate=0.01))
    words = MaskedLM(jepa.context_encoder, mask_id=29, candidates=torch.arange(28), share=0.05)
    module = HybridTraining(jepa, words)
    return module, fit(module, spans(), devices=devices, **HOW)


def texts(devices, checkpoint=None, stop=False):
    how = dict(devices=devices, checkpoint=checkpoint, **HOW)
    if stop:  # what goes on begins with another seed's weights
        with pytest.raises(InterruptedError):
            fit(prose(), spans(), monitor=interrupted(after=2), **how)
    module = prose()
    return module, fit(module, spans(), **how)


def world(devices, pixels=False, **options):
    """Trajectories of four frames: of their rows the images' batches know nothing else."""
    draw = torch.Generator().manual_seed(6)
    frames, actions = (torch.rand(24, *x, generator=draw) for x in ((4, 1, 8, 8), (3, 2)))
    sizes = dict(channels=1, size=8, dimensions=4, width=2)
    parts = WorldEncoder(**sizes), ActionPredictor(4, hidden=8)
    module = PixelWorld(*parts, WorldDecoder(**sizes)) if pixels else WorldJEPA(*parts, **options)
    data = ImageDataModule(frames, actions, batch_size=BATCH, seed=3)
    return module, fit(module, data, devices=devices, **HOW)


TRAININGS = {
    "I-JEPA": masked,
    "I-JEPA, SIGReg": partial(masked, target="encoder", sigreg_weight=0.1, num_slices=8),
    "I-JEPA, random masks": partial(masked, masks=partial(random_masks, share=0.25)),
    "views": views,
    "labels": labels,
    "pair": pair,
    "pair, mean of rows": pair_by_mean,
    "tokens, shuffled": partial(tokens, kind="shuffled"),
    "tokens, none": partial(tokens, kind="none"),
    "word by word": word_by_word,
    "masked words": masked_words,
    "hybrid": hybrid,
    "texts": texts,
    "world": partial(world, regularizer=SIGReg(num_slices=8), weight=0.1, steps=2),
    "world, moving average": partial(
        world, regularizer=VCReg(), weight=0.1, target="ema", inverse=0.5, smoothness=0.1
    ),
    "world of pixels": partial(world, pixels=True),
}


def train(name, devices, rank=0, **options):
    torch.manual_seed(rank)  # rank 0's weights must win
    module, history = TRAININGS[name](devices, **options)
    # A vector added to all keys changes nothing: Adam follows the rounding.
    state = {k: v for k, v in module.state_dict().items() if not k.endswith("in_proj_bias")}
    return state, history.losses


def diverged(rank):
    module = JEPA(text(30), nn.Linear(8, 8))
    if rank == 1:
        module.objective = lambda predicted, true: F.mse_loss(predicted, true) * torch.nan
    return module, spans()


def outsider(rank):
    module = MaskedLM(text(30), mask_id=29, candidates=torch.arange(28))
    data = spans()
    if rank == 1:
        data.chunks[:] = 28
    return module, data


def wrong_label(rank):
    data = images()
    if rank == 1:
        data.labels[:] = 7
    return ClassTraining(vit(), classes=4), data


ERRORS = {
    diverged: "FloatingPointError: loss, prediction stopped being finite in step 1 of epoch 1",
    outsider: "ValueError: candidates must hold every token of the batches, got a hidden token",
    wrong_label: "ValueError: labels must be whole numbers from 0 to 3, got 7 to 7 (on rank 1 of 2)",
}


def refused(make, rank):
    """What is said on this process of a fault that only the second one has."""
    try:
        fit(*make(rank), devices=2, **HOW)
    except (ValueError, FloatingPointError) as error:
        return f"{type(error).__name__}: {error}"


def work(folder, rank):
    as_torchrun(rank)
    torch.set_default_dtype(torch.float64)
    shares, group_of = set(), jepa.batch_group
    jepa.batch_group = lambda *rows: [group := group_of(*rows), shares.add(group.counts)][0]
    found = {"shares": shares} | {name: train(name, 2, rank) for name in TRAININGS}
    resumed = train("texts", 2, rank, checkpoint=folder / "run.ckpt", stop=True)
    errors = {make.__name__: refused(make, rank) for make in ERRORS}
    return found | {"texts, resumed": resumed} | errors


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    return results_on_processes(partial(work, folder), folder, preload="lightning")


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_each_process_has_its_own_part(on_two):
    assert [rank["shares"] for rank in on_two] == [{(4, 3)}] * 2


@pytest.mark.parametrize("name", [*TRAININGS, "texts, resumed"])
def test_two_processes_train_as_one(on_two, double, name):
    state, losses = train(name.removesuffix(", resumed"), 1)
    for found, history in (rank[name] for rank in on_two):
        assert history.keys() == losses.keys()
        for key, values in losses.items():
            assert history[key] == pytest.approx(values, rel=1e-6), key
        for key, value in state.items():
            torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6, msg=key)


@pytest.mark.parametrize("make", ERRORS)
def test_an_error_on_one_process_is_raised_on_both(on_two, make):
    first, second = (rank[make.__name__] for rank in on_two)
    assert first == second and first.startswith(ERRORS[make])
