"""Chapter 4's experiment: encoders of CIFAR-10, their settings, how they are trained and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.data.images import image_tensor
from jepa_utils.data.load import LoadedData
from jepa_utils.data.masking import multiblock_masks, random_masks
from jepa_utils.evaluation.collapse import collapse_report
from jepa_utils.evaluation.encode import encode_images
from jepa_utils.evaluation.probes import knn_probe, linear_probe
from jepa_utils.experiments.store import digest, open_record, run_facts, settings_of, write_record
from jepa_utils.models.checkpoints import load_encoder, save_encoder
from jepa_utils.models.predictors import PatchPredictor
from jepa_utils.models.vit import ViT
from jepa_utils.training.baselines import ClassTraining
from jepa_utils.training.fit import THREADS, History, fit
from jepa_utils.training.jepa import MaskedJEPA, ViewJEPA

__all__ = ["METHODS", "RECIPES", "VisionRecipe", "pretrain_record"]


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


ALL_LABELS = (
    "100 % of labels"  # a probe of all training images takes minutes: for the saved encoders only
)


def pretrain_record(
    recipe: VisionRecipe,
    loaded: LoadedData,
    *,
    profile: str,
    folder: Path | str,
    checkpoints: Path | str,
    methods: Sequence[str] = DEFAULT_METHODS,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Train each method once per seed, and write the record after every run; what is recorded already is not done again.

    An interrupted run goes on from its last epoch. Several processes may add methods to one record,
    and a recipe with more seeds adds their runs. The encoder of each method's first seed is saved
    beside the record, and it alone is also probed with all labels.

    Parameters
    ----------
    recipe : VisionRecipe
        Settings.
    loaded : LoadedData
        CIFAR-10 or its sample, from `load_data`.
    profile : str
        Name of the record: ``cifar10_PROFILE.json``.
    folder : path
        Where the record and the encoders go.
    checkpoints : path
        Where the state of a run in progress goes, which is removed when the run is done.
    methods : sequence of str
        Of `METHODS`.
    say : callable
        Told a line after each run.
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
    folder, checkpoints = Path(folder), Path(checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"cifar10_{profile}.json"
    head = {"settings": settings_of(recipe), "data": loaded.provenance.sha256}
    record = open_record(path, profile, head)
    splits = {split: image_tensor(loaded.data[split]) for split in ("train", "test")}
    for seed in range(recipe.num_seeds):
        for method in methods:
            if any(run["method"] == method and run["seed"] == seed for run in record["runs"]):
                continue
            # What is left of a run with other settings must not be gone on with.
            state = checkpoints / f"{profile}-{_slug(method)}-{seed}-{digest(head)}.ckpt"
            run, encoder = _run(recipe, method, seed, splits, state, progress)
            record = open_record(
                path, profile, head
            )  # another process may have added to it meanwhile
            record["runs"].append(run)
            if seed == 0 and method != "untrained":
                card = {
                    "what": METHODS[method],
                    **head,
                    **{k: v for k, v in run.items() if k != "curves"},
                }
                save_encoder(
                    encoder, folder / f"cifar10_{profile}_{_slug(method)}.safetensors", card
                )
            write_record(record, path)
            say(
                f"{method}, seed {seed}: linear probe {run['scores']['linear probe']:.3f}, {run['seconds']:.0f} s"
            )
    for run in record["runs"]:
        if run["seed"] > 0 or ALL_LABELS in run["scores"]:
            continue
        saved = folder / f"cifar10_{profile}_{_slug(run['method'])}.safetensors"
        if run["method"] == "untrained":
            encoder, card = _seeded_training(recipe, "untrained", 0).encoder, None
        else:
            encoder, card = load_encoder(saved)
        (train, labels), (test, test_labels) = (
            (encode_images(encoder, x), y) for x, y in splits.values()
        )
        score = round(linear_probe(train, labels, test, test_labels, strengths=STRENGTHS).score, 4)
        record = open_record(path, profile, head)
        run = next(
            other
            for other in record["runs"]
            if (other["method"], other["seed"]) == (run["method"], run["seed"])
        )
        run["scores"][ALL_LABELS] = score
        if card is not None:
            save_encoder(encoder, saved, {**card, "scores": run["scores"]})
        write_record(record, path)
        say(
            f"{run['method']}, seed 0: linear probe with all {len(train)} labels {run['scores'][ALL_LABELS]:.3f}"
        )
    return record


def _seeded_training(recipe: VisionRecipe, method: str, seed: int) -> L.LightningModule:
    torch.set_num_threads(THREADS)
    L.seed_everything(seed, verbose=False)
    return recipe.training(method)


def _slug(method: str) -> str:
    return method.lower().replace(" ", "_").replace("-", "")


def _run(
    recipe: VisionRecipe,
    method: str,
    seed: int,
    splits: dict[str, tuple[Tensor, Tensor]],
    checkpoint: Path,
    progress: bool,
) -> tuple[dict[str, Any], torch.nn.Module]:
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
    module = _seeded_training(recipe, method, seed)
    watched = min(WATCHED, len(images) // 4)  # the last ones; the test split is for the end alone
    fitted = slice(-3 * watched, -watched)

    def monitor() -> dict[str, float]:
        encoder = getattr(module, "trained", module.encoder)
        held_out = encode_images(encoder, images[-watched:])
        train = encode_images(encoder, images[fitted])
        probe = linear_probe(train, labels[fitted], held_out, labels[-watched:], strengths=(1e-2,))
        return {"probe": probe.score, **collapse_report(held_out).to_dict()}

    if method == "untrained":
        history = History(monitors=[monitor()])
    else:
        data = ImageDataModule(
            images, labels, batch_size=recipe.changed_for(method).batch_size, seed=seed
        )
        history = fit(
            module,
            data,
            epochs=recipe.epochs,
            seed=seed,
            monitor=monitor,
            checkpoint=checkpoint,
            progress=progress,
        )
    encoder = getattr(module, "trained", module.encoder)
    train, test = encode_images(encoder, images[:PROBED]), encode_images(encoder, test_images)
    counts = {
        "linear probe": len(train),
        "10 % of labels": len(images) // 10,
        "1 % of labels": len(images) // 100,
    }
    scores = {}
    for name, count in counts.items():
        count = max(20, count)  # the sample is small
        probe = linear_probe(train[:count], labels[:count], test, test_labels, strengths=STRENGTHS)
        scores[name] = probe.score
    scores["nearest neighbours"] = knn_probe(
        train, labels[:PROBED], test, test_labels, neighbours=(20,)
    ).score
    if encoder is not module.encoder and method != "untrained":
        train, test = (
            encode_images(module.encoder, images[:PROBED]),
            encode_images(module.encoder, test_images),
        )
        scores["context encoder"] = linear_probe(
            train, labels[:PROBED], test, test_labels, strengths=STRENGTHS
        ).score
    run = {
        "method": method,
        "seed": seed,
        "scores": {name: round(score, 4) for name, score in scores.items()},
        "seconds": round(history.seconds, 1),
        "images": recipe.epochs * len(images) * (method != "untrained"),
        **run_facts(),
        "curves": {
            "losses": _rounded(history.losses),
            "monitors": [_rounded(row) for row in history.monitors],
        },
    }
    checkpoint.unlink(missing_ok=True)
    return run, encoder


def _rounded(values: dict) -> dict:
    return {
        k: [float(f"{x:.5g}") for x in v] if isinstance(v, list) else float(f"{v:.5g}")
        for k, v in values.items()
    }


RECIPES = ("smoke", "laptop", "long", "twenty", "gpu")  # constructors of VisionRecipe


METHODS = {
    "I-JEPA": "moving average as target, multi-block masks",
    "random masks": "moving average as target, a random quarter of the patches hidden",
    "pixels": "standardised pixels of the hidden patches as target, multi-block masks",
    "SIGReg": "SIGReg in place of the moving average, multi-block masks",
    "patch 8": "as I-JEPA, with patches of 8 pixels: 16 instead of 64",
    "printed": "the source's settings: patches of 16 pixels, a random quarter hidden, its batches, learning rate and averaging",
    "student": "as printed, with patches of 8 pixels and batches of 64: the source's exercise for students",
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


_QUARTER = (
    "random masks",
    "printed",
    "student",
)  # methods that hide a random quarter; a grid of 2x2 has no blocks


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
    def smoke(cls) -> VisionRecipe:
        """For tests: built-in sample, seconds."""
        sizes = dict(dimensions=32, layers=2, heads=2, predictor_width=16, predictor_layers=1)
        return cls(**sizes, num_slices=64, num_seeds=1)

    @classmethod
    def laptop(cls) -> VisionRecipe:
        """For a few minutes a run, on two CPU cores."""
        return cls()

    @classmethod
    def long(cls) -> VisionRecipe:
        """The laptop's networks for five passes; about ten minutes a run on two CPU cores."""
        return cls(epochs=5)

    @classmethod
    def twenty(cls) -> VisionRecipe:
        """The laptop's networks for the source's twenty passes; half an hour to an hour a run on two CPU cores."""
        return cls(epochs=20)

    @classmethod
    def gpu(cls) -> VisionRecipe:
        """For one large GPU: the largest encoder whose weights stay below 12 MB; never run so far."""
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
        """The settings of one method: these, but for what makes the method another one, such as its patches."""
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
