"""Chapter 5's eye: a residual network that learns from views of photographs, without a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa_utils.data.batches import ImageDataModule
from jepa_utils.data.images import caption_table, image_tensor
from jepa_utils.data.load import LoadedData
from jepa_utils.evaluation.collapse import collapse_report
from jepa_utils.evaluation.encode import encode_images
from jepa_utils.evaluation.photo_rivals import fit_cca, word_counts
from jepa_utils.evaluation.probes import linear_probe
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured
from jepa_utils.models.checkpoints import load_weights, read_card, save_weights
from jepa_utils.models.resnet import ResNet
from jepa_utils.training.fit import fit
from jepa_utils.training.views import PhotoViewJEPA

__all__ = ["EYE_RECIPES", "EyeRecipe", "EyeRow", "eye_record", "load_eye", "resized"]

EYE_RECIPES = ("tiny", "page")  # constructors of EyeRecipe
EYE_PARTS = ("search", "eye")

RIDGES = (0.3, 3.0)  # of the search by canonical correlation that judges an eye


@dataclass(frozen=True)
class EyeRow:
    """How an eye is trained."""

    sigreg_weight: float = 0.02  # lambda, SIGReg's share of the loss
    learning_rate: float = 2e-3
    photographs: int = 2  # times that each of them is among a pass's images
    others: int = 12_000  # images of CIFAR-10 in each pass
    epochs: int = 1  # passes; 0 leaves the eye as it is drawn


@dataclass(frozen=True)
class EyeRecipe:
    """Settings that all rows share."""

    photo_size: int = 64  # pixels to which photographs are made
    image_size: int = 32  # of a view
    channels: tuple[int, ...] = (32, 64, 128, 256)
    projection: int = 64  # width of what SIGReg sees
    num_slices: int = 256  # its directions
    batch_size: int = 128  # images; each comes in two views
    weight_decay: float = 0.05
    search_epochs: int = 3
    epochs: int = 36
    num_seeds: int = 1

    @classmethod
    def tiny(cls) -> EyeRecipe:
        """For tests: seconds."""
        sizes = dict(photo_size=32, image_size=16, channels=(8, 16), projection=8, num_slices=16)
        sizes["batch_size"] = 8
        return cls(**sizes, search_epochs=1, epochs=1)

    @classmethod
    def page(cls) -> EyeRecipe:
        """About an hour of one CPU thread for the eye, and a third of that for the search."""
        return cls()

    def rows(self, part: str) -> dict[str, EyeRow]:
        """The rows of a part by name."""
        if part == "search":
            plain = EyeRow(epochs=self.search_epochs)
            weights = {f"lambda {w:g}": replace(plain, sigreg_weight=w) for w in (0.005, 0.02, 0.1)}
            alone = replace(plain, photographs=4, others=0)
            return weights | {"photographs alone": alone}
        return {"SIGReg": EyeRow(epochs=self.epochs), "untrained": EyeRow(epochs=0)}

    def encoder(self) -> ResNet:
        """An eye as it is drawn."""
        return ResNet(self.image_size, self.channels)


def eye_record(
    recipe: EyeRecipe,
    photographs: LoadedData,
    cifar: LoadedData,
    *,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = EYE_PARTS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train each row once per seed; the record is written after every run.

    Eyes are judged on the photographs of the validation split.

    Parameters
    ----------
    recipe : EyeRecipe
        Settings.
    photographs, cifar : LoadedData
        Flickr8k and CIFAR-10 or their samples, from `load_data`.
    name : str
        Name of the recipe: the record is ``folder/eyes/name.json``; the eye's weights lie beside
        it.
    folder, checkpoints, seeds, say
        See `complete_record`.
    parts : sequence of str
        Of "search" and "eye".
    devices, nodes : int, default 1
        See `fit`.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If a part is unknown.
    RecordError
        If the record that is there has other settings or data.
    """
    if unknown := [part for part in parts if part not in EYE_PARTS]:
        raise ValueError(f"parts must be some of {', '.join(EYE_PARTS)}, got {unknown}")
    bench = _Bench(recipe, photographs, cifar, dict(devices=devices, nodes=nodes, progress=False))
    runs = [
        Run({"part": part, "row": label}, partial(bench.run, row, part == "eye"))
        for part in parts
        for label, row in recipe.rows(part).items()
    ]
    return complete_record(
        "eyes",
        name,
        recipe=recipe,
        data={"photographs": photographs.provenance.sha256, "cifar10": cifar.provenance.sha256},
        runs=runs,
        folder=folder,
        checkpoints=checkpoints,
        seeds=seeds,
        say=say,
    )


def load_eye(path: Path | str) -> ResNet:
    """The eye of a record, ready for evaluation.

    Parameters
    ----------
    path : path
        File ``*.safetensors``, with its card beside it.

    Raises
    ------
    CheckpointError
        As `load_weights`.
    """
    eye, _ = load_weights(ResNet(**read_card(path)["eye"]), path)
    return eye


def resized(images: Tensor, size: int) -> Tensor:
    """Images of another side, of uint8: averaged where it is smaller, between pixels where larger.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, 3, S, S)
    size : int
        New side.

    Returns
    -------
    Tensor of uint8, shape (N, 3, size, size)
    """
    smaller = size < images.shape[-1]
    how = dict(mode="area") if smaller else dict(mode="bilinear", align_corners=False)
    return torch.cat(
        [F.interpolate(part.float(), size, **how).round().byte() for part in images.split(1000)]
    )


class _Bench:
    """What the rows share, each thing made when it is first needed."""

    def __init__(
        self, recipe: EyeRecipe, photographs: LoadedData, cifar: LoadedData, how: dict[str, Any]
    ):
        self.recipe, self.how = recipe, how
        self.loaded = {"photographs": photographs, "cifar": cifar}

    @cached_property
    def photographs(self) -> dict[str, tuple[Tensor, list[list[str]]]]:
        table = self.loaded["photographs"].data
        size = self.recipe.photo_size
        return {split: caption_table(table[split], size=size) for split in ("train", "validation")}

    @cached_property
    def cifar(self) -> dict[str, tuple[Tensor, Tensor]]:
        splits = {}
        for split, count in (("train", 12_000), ("test", 4000)):
            table = self.loaded["cifar"].data[split]
            images, labels = image_tensor(table.select(range(min(count, len(table)))))
            splits[split] = resized(images, self.recipe.photo_size), labels
        return splits

    @cached_property
    def words(self) -> tuple[Tensor, Tensor]:
        return word_counts(*(rows for _, rows in self.photographs.values()))

    def run(self, row: EyeRow, probed: bool, seed: int, states: list[Path]) -> Outcome:
        recipe = self.recipe
        module = PhotoViewJEPA(
            recipe.encoder(),
            sigreg_weight=row.sigreg_weight,
            projection=recipe.projection,
            num_slices=recipe.num_slices,
            learning_rate=row.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        entry: dict[str, Any] = {"scores": {}, "seconds": 0.0}
        if row.epochs:
            images = torch.cat(
                [self.photographs["train"][0]] * row.photographs
                + [self.cifar["train"][0][: row.others]]
            )
            size = min(recipe.batch_size, len(images))
            data = ImageDataModule(
                images, torch.zeros(len(images), dtype=torch.int64), batch_size=size, seed=seed
            )
            history = fit(
                module, data, epochs=row.epochs, seed=seed, checkpoint=states[0], **self.how
            )
            every = max(1, len(history.losses["loss"]) // 100)
            entry = {
                "scores": {},
                "seconds": round(history.seconds, 1),
                "images": row.epochs * len(images),
                "losses": {
                    name: [float(f"{x:.4g}") for x in values[::every]]
                    for name, values in history.losses.items()
                },
            }
        eye = module.encoder.cpu()
        entry["scores"] = self.scores(eye, probed)
        return Outcome(
            entry,
            partial(save_weights, eye) if row.epochs and probed else None,
            {"what": "residual network, SIGReg on views of photographs", "eye": eye.sizes},
        )

    @measured
    def scores(self, eye: ResNet, probed: bool) -> dict[str, float]:
        flat = torch.nn.Sequential(eye, torch.nn.Flatten())
        train, held_out = (encode_images(flat, images) for images, _ in self.photographs.values())
        counts, new = self.words
        held_out = held_out, new
        found = fit_cca(train, counts.mean(dim=1), held_out, ridges=RIDGES).recalls(*held_out)
        scores = {"validation, text to image @10": found["text to image @10"]}
        report = collapse_report(encode_images(eye, self.photographs["validation"][0])).to_dict()
        scores["effective rank"] = report["effective_rank"]
        if probed:
            (images, labels), (test_images, test_labels) = self.cifar.values()
            features = encode_images(eye, images), encode_images(eye, test_images)
            probe = linear_probe(
                features[0], labels, features[1], test_labels, strengths=(1e-2, 1.0)
            )
            scores["CIFAR-10 probe"] = probe.score
        return {name: round(float(score), 4) for name, score in scores.items()}
