"""Chapter 4's experiment: encoders of CIFAR-10, their recipes, training and measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.data.images import image_tensor
from jepa_utils.data.load import LoadedData
from jepa_utils.data.masking import multiblock_masks, random_masks
from jepa_utils.evaluation.collapse import collapse_report
from jepa_utils.evaluation.encode import encode_images
from jepa_utils.evaluation.probes import knn_probe, linear_probe
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured
from jepa_utils.models.checkpoints import save_encoder
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.training.baselines import ClassTraining
from jepa_utils.training.fit import History, fit
from jepa_utils.training.jepa import MaskedJEPA, ViewJEPA

__all__ = ["METHODS", "RECIPES", "STRENGTHS", "VisionRecipe", "pretrain_record"]


DEFAULT_METHODS = (
    "untrained",
    "I-JEPA",
    "random masks",
    "pixels",
    "views",
    "labels",
    "SIGReg",
    "patch 8",
)


STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)  # of the penalties that a probe may choose


WATCHED = 2000  # images whose embeddings the monitors look at


PROBED = 20_000  # training images, with their labels, behind the probe at the end


# A probe of all training images takes minutes: it is for the saved encoders only.
ALL_LABELS = "100 % of labels"


def pretrain_record(
    recipe: VisionRecipe,
    loaded: LoadedData,
    *,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    methods: Sequence[str] = DEFAULT_METHODS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Train each method once per seed; the record is written after every run.

    The encoder of each method's first seed is saved beside the record, and it alone is also probed
    with all labels.

    Parameters
    ----------
    recipe : VisionRecipe
        Settings.
    loaded : LoadedData
        CIFAR-10 or its sample, from `load_data`.
    name : str
        Name of the recipe: the record is ``folder/cifar10/name.json``.
    folder, checkpoints, seeds, say
        See `complete_record`.
    methods : sequence of str
        Of `METHODS`.
    devices, nodes : int, default 1
        See `fit`.
    progress : bool, default True
        Show progress bars.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If a method is unknown.
    RecordError
        If the record that is there has other settings or data.
    """
    if unknown := [method for method in methods if method not in METHODS]:
        raise ValueError(f"methods must be some of {', '.join(METHODS)}, got {unknown}")
    splits = {split: image_tensor(loaded.data[split]) for split in ("train", "test")}
    how = dict(devices=devices, nodes=nodes, progress=progress)
    runs = [Run({"method": m}, partial(_run, recipe, m, splits, how)) for m in methods]
    return complete_record(
        "cifar10",
        name,
        recipe=recipe,
        data=loaded.provenance.sha256,
        runs=runs,
        folder=folder,
        checkpoints=checkpoints,
        seeds=seeds,
        say=say,
    )


def _run(
    recipe: VisionRecipe,
    method: str,
    splits: dict[str, tuple[Tensor, Tensor]],
    how: dict[str, Any],
    seed: int,
    states: list[Path],
) -> Outcome:
    images, labels = splits["train"]
    module = recipe.training(method)
    watched = min(WATCHED, len(images) // 4)  # the last ones; the test split is for the end alone
    fitted = slice(-3 * watched, -watched)

    def monitor() -> dict[str, float]:
        encoder = getattr(module, "trained", module.encoder)
        held_out = encode_images(encoder, images[-watched:])
        train = encode_images(encoder, images[fitted])
        probe = linear_probe(train, labels[fitted], held_out, labels[-watched:], strengths=(1e-2,))
        return {"probe": probe.score, **collapse_report(held_out).to_dict()}

    untrained = method == "untrained"
    if untrained:
        history = History(monitors=[monitor()])
    else:
        size = recipe.changed_for(method).batch_size
        data = ImageDataModule(images, labels, batch_size=size, seed=seed)
        how = dict(epochs=recipe.epochs, seed=seed, checkpoint=states[0], **how)
        history = fit(module, data, monitor=monitor, **how)
    encoder = getattr(module, "trained", module.encoder)
    others = [] if untrained or encoder is module.encoder else [module.encoder]
    scores = _scores(encoder, others, splits, all_labels=seed == 0)
    entry = {
        "scores": {name: round(score, 4) for name, score in scores.items()},
        "seconds": round(history.seconds, 1),
        "images": recipe.epochs * len(images) * (not untrained),
        "curves": {
            "losses": _rounded(history.losses),
            "monitors": [_rounded(row) for row in history.monitors],
        },
    }
    save = None if untrained else partial(save_encoder, encoder)
    return Outcome(entry, save, {"what": METHODS[method]})


@measured
def _scores(
    encoder: ViT,
    context_encoders: list[ViT],
    splits: dict[str, tuple[Tensor, Tensor]],
    *,
    all_labels: bool,
) -> dict[str, float]:
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]

    def probe(train: Tensor, test: Tensor) -> float:
        known = labels[: len(train)]
        return linear_probe(train, known, test, test_labels, strengths=STRENGTHS).score

    train, test = encode_images(encoder, images[:PROBED]), encode_images(encoder, test_images)
    counts = {
        "linear probe": len(train),
        "10 % of labels": len(images) // 10,
        "1 % of labels": len(images) // 100,
    }
    # at least 20: the sample is small
    scores = {name: probe(train[: max(20, count)], test) for name, count in counts.items()}
    known = labels[:PROBED]
    scores["nearest neighbours"] = knn_probe(
        train, known, test, test_labels, neighbours=(20,)
    ).score
    for other in context_encoders:
        pair = encode_images(other, images[:PROBED]), encode_images(other, test_images)
        scores["context encoder"] = probe(*pair)
    if all_labels:
        scores[ALL_LABELS] = probe(encode_images(encoder, images), test)
    return scores


def _rounded(values: dict) -> dict:
    return {
        k: [float(f"{x:.5g}") for x in v] if isinstance(v, list) else float(f"{v:.5g}")
        for k, v in values.items()
    }


RECIPES = (
    "tiny",
    "one_pass",
    "five_passes",
    "twenty_passes",
    "full",
)  # constructors of VisionRecipe


METHODS = {
    "I-JEPA": "moving average as target, multi-block masks",
    "random masks": "moving average as target, a random quarter of the patches hidden",
    "pixels": "standardised pixels of the hidden patches as target, multi-block masks",
    "SIGReg": "SIGReg in place of the moving average, multi-block masks",
    "patch 8": "as I-JEPA, with patches of 8 pixels: 16 instead of 64",
    "printed": "the source's settings: patches of 16 pixels, a random quarter hidden, its batches, "
    "learning rate and averaging",
    "student": "as printed, with patches of 8 pixels and batches of 64: the source's exercise for "
    "students",
    "views": "SIGReg on augmented views of whole images",
    "labels": "the same encoder trained with labels",
    "untrained": "the encoder as it is drawn",
    "nothing": "one encoder for both sides, no moving average, no stop-gradient, no SIGReg",
}


_PRINTED = dict(patch=16, batch_size=128, learning_rate=2e-4, weight_decay=0.01, ema_decay=0.999)


_CHANGES = {
    "patch 8": dict(patch=8),
    "printed": _PRINTED,
    "student": {**_PRINTED, "patch": 8, "batch_size": 64},
}


# Methods that hide a random quarter; a grid of 2x2 has no blocks.
_QUARTER = ("random masks", "printed", "student")


@dataclass(frozen=True)
class VisionRecipe:
    """Settings of a training on CIFAR-10: sizes of the networks, length, optimiser, masks."""

    patch: int = 4  # side of a patch, in pixels: 64 patches per image
    dimensions: int = 96  # D, width of the encoder's tokens
    layers: int = 3  # transformer layers of the encoder
    heads: int = 3  # attention heads of encoder and predictor
    predictor_width: int = 48  # width of the predictor's tokens
    predictor_layers: int = 2  # its transformer layers
    batch_size: int = 32  # B, images per step
    learning_rate: float = 1e-3  # of AdamW at its highest
    weight_decay: float = 0.05  # of AdamW
    warmup: float = 0.1  # share of the training in which the learning rate rises
    ema_decay: float = 0.996  # of the moving average at the start; it ends at 1
    crop: float = 0.5  # smallest share of the image's area in a random crop
    hidden_share: float = 0.25  # of the random masks, as in the source
    sigreg_weight: float = 0.05  # lambda, on the tokens
    view_weight: float = 0.05  # lambda, on the views
    view_keep: float = 0.5  # share of its patches that is seen of each view
    num_slices: int = 256  # SIGReg's directions
    epochs: int = 1  # passes over the training images
    num_seeds: int = 3  # runs of each method

    @classmethod
    def tiny(cls) -> VisionRecipe:
        """For tests: built-in sample, seconds."""
        sizes = dict(dimensions=32, layers=2, heads=2, predictor_width=16, predictor_layers=1)
        return cls(**sizes, num_slices=64, num_seeds=1)

    @classmethod
    def one_pass(cls) -> VisionRecipe:
        """For a few minutes a run, on two CPU cores."""
        return cls()

    @classmethod
    def five_passes(cls) -> VisionRecipe:
        """The same networks for five passes; about ten minutes a run on two CPU cores."""
        return cls(epochs=5)

    @classmethod
    def twenty_passes(cls) -> VisionRecipe:
        """For the source's twenty passes; half an hour to an hour a run on two CPU cores."""
        return cls(epochs=20)

    @classmethod
    def full(cls) -> VisionRecipe:
        """For one large GPU: an encoder whose weights stay below 12 MB; never run so far."""
        sizes = dict(dimensions=192, layers=6, heads=3, predictor_width=96, predictor_layers=4)
        return cls(**sizes, batch_size=512, num_slices=1024, epochs=300)

    def encoder(self, patch: int | None = None) -> ViT:
        """An untrained encoder of 32x32 images; `patch` in place of the recipe's own."""
        return ViT(
            patch=patch or self.patch,
            dimensions=self.dimensions,
            layers=self.layers,
            heads=self.heads,
        )

    def changed_for(self, method: str) -> VisionRecipe:
        """These settings, but for what makes the method another one, such as its patches."""
        return replace(self, **_CHANGES.get(method, {}))

    def training(self, method: str) -> MaskedJEPA | ViewJEPA | ClassTraining:
        """A new training with new weights; that of "untrained" is I-JEPA's, not to be run.

        Parameters
        ----------
        method : str
            One of `METHODS`.

        Raises
        ------
        ValueError
            If the method is unknown.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        recipe = self.changed_for(method)
        encoder = recipe.encoder()
        optimiser = dict(
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup=recipe.warmup,
        )
        if method == "views":
            return ViewJEPA(
                encoder,
                keep=recipe.view_keep,
                sigreg_weight=recipe.view_weight,
                num_slices=recipe.num_slices,
                **optimiser,
            )
        crop = (recipe.crop, 1.0)
        if method == "labels":
            return ClassTraining(encoder, classes=10, crop=crop, **optimiser)
        targets = {"SIGReg": "encoder", "nothing": "encoder", "pixels": "pixels"}
        outputs = encoder.embed.in_features if method == "pixels" else None
        sizes = dict(
            width=recipe.predictor_width, layers=recipe.predictor_layers, heads=recipe.heads
        )
        return MaskedJEPA(
            encoder,
            PatchPredictor(recipe.dimensions, encoder.grid, outputs=outputs, **sizes),
            masks=partial(random_masks, share=recipe.hidden_share)
            if method in _QUARTER
            else multiblock_masks,
            target=targets.get(method, "ema"),
            ema_decay=recipe.ema_decay,
            sigreg_weight=recipe.sigreg_weight if method == "SIGReg" else 0.0,
            num_slices=recipe.num_slices,
            crop=crop,
            **optimiser,
        )
