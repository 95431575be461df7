"""Chapter 5's photographs: which eye, rival, objective, temperature and batch find them best.

Every setting is chosen on the validation split. The parts after "search" take what it found, are
measured on the test split, and are told along the way, so that no verdict hangs on a stopping
time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import CaptionDataModule, Words
from jepa_utils.data.images import caption_table, image_tensor
from jepa_utils.data.load import LoadedData
from jepa_utils.data.tokens import CaptionTokenizer, class_captions
from jepa_utils.evaluation.caption_tests import photo_scores
from jepa_utils.evaluation.encode import embed, encode_images, photo_tokens
from jepa_utils.evaluation.photo_rivals import (
    fit_cca,
    gradients_and_colours,
    gradients_and_colours_of_places,
    patch_codes,
    word_counts,
)
from jepa_utils.evaluation.retrieval import directions
from jepa_utils.experiments.eyes import load_eye, resized
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured, read_record
from jepa_utils.models.checkpoints import load_encoder, save_weights
from jepa_utils.models.mlp import MLP
from jepa_utils.models.resnet import ResNet
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import ImageHead
from jepa_utils.objectives.infonce import InfoNCE, alignment, uniformity
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.objectives.vicreg import VICReg
from jepa_utils.objectives.visreg import VISReg
from jepa_utils.training.fit import History, fit
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import adam

__all__ = [
    "OBJECTIVES",
    "PHOTO_PARTS",
    "PHOTO_RECIPES",
    "PhotoRecipe",
    "PhotoRow",
    "eye_tokens",
    "photo_record",
]

PHOTO_RECIPES = ("tiny", "page")  # constructors of PhotoRecipe

PHOTO_PARTS = (
    "search",
    "eyes",
    "rivals",
    "objectives",
    "temperature",
    "batch size",
    "changes",
    "long",
)

SPLITS = ("train", "validation", "test")

TEN = "text to image @10"  # what the search goes by

HARDEST = 5  # negatives whose share of the loss is looked at


def _spread(a: Tensor, b: Tensor) -> Tensor:
    return (uniformity(a) + uniformity(b)) / 2


def _align_and_spread(a: Tensor, b: Tensor) -> Tensor:
    return alignment(a, b) + _spread(a, b)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(a, b).mean()


_spread.distributed = _align_and_spread.distributed = True


class CrossPrediction(nn.Module):
    """Each side predicts the other, whose embeddings get no gradient from it.

    Parameters
    ----------
    dimensions : int
        Width D of both embeddings.

    References
    ----------
    Kuhn et al., "LeVLJEPA", arXiv 2607.00784, without its normalisation in the predictors.
    """

    def __init__(self, dimensions: int):
        super().__init__()
        self.from_pictures, self.from_sentences = (
            MLP(dimensions, 2 * dimensions, dimensions, layers=1) for _ in range(2)
        )

    def forward(self, pictures: Tensor, sentences: Tensor) -> Tensor:
        """Mean squared error of both predictions, for embeddings (B, D)."""
        there = F.mse_loss(self.from_pictures(pictures), sentences.detach())
        back = F.mse_loss(self.from_sentences(sentences), pictures.detach())
        return (there + back) / 2


class _Compared(nn.Module):
    """A side of `CrossPrediction` as it is compared: itself, and what it predicts of the other."""

    def __init__(self, encoder: nn.Module, predictor: nn.Module, first: bool):
        super().__init__()
        self.encoder, self.predictor, self.first = encoder, predictor, first

    def forward(self, *inputs: Tensor) -> Tensor:
        own = self.encoder(*inputs)
        pair = directions(own), directions(self.predictor(own))
        return torch.cat(pair if self.first else pair[::-1], dim=1)


def _searched(module: JEPA) -> nn.Module:
    """What photographs are searched with."""
    predict = module.objective
    if not isinstance(predict, CrossPrediction):
        return module
    sides = nn.Module()
    sides.context_encoder = _Compared(module.context_encoder, predict.from_pictures, True)
    sides.target_encoder = _Compared(module.target_encoder, predict.from_sentences, False)
    return sides


#: Objectives of photograph and sentence, and what regularises each side by itself. Only InfoNCE
#: and uniformity push single strangers apart.
OBJECTIVES: dict[str, Callable[[PhotoRow], dict[str, Any]]] = {
    "InfoNCE": lambda row: dict(
        objective=InfoNCE(row.temperature or 0.07, learn_temperature=row.temperature == 0)
    ),
    "alignment and uniformity": lambda row: dict(objective=_align_and_spread),
    "uniformity": lambda row: dict(objective=_spread),
    "cosine": lambda row: dict(objective=_cosine),
    "L1": lambda row: dict(objective=F.l1_loss),
    "L2": lambda row: dict(objective=F.mse_loss),
    "VICReg": lambda row: dict(objective=VICReg(invariance=row.weight)),
    "L2 and SIGReg": lambda row: dict(
        objective=F.mse_loss, regularizer=SIGReg(), weight=row.weight, regularize="both"
    ),
    "L2 and VISReg": lambda row: dict(
        objective=F.mse_loss, regularizer=VISReg(), weight=row.weight, regularize="both"
    ),
    "LeVLJEPA": lambda row: dict(
        objective=CrossPrediction(row.embedding),
        regularizer=SIGReg(),
        weight=row.weight,
        regularize="both",
    ),
}

#: Factors that the search tries, where an objective has one: of invariance in VICReg, whose
#: authors have 25, else of the regulariser.
FACTORS = {
    "VICReg": (5.0, 25.0, 125.0),
    "L2 and SIGReg": (0.01, 0.05, 0.25),
    "L2 and VISReg": (0.1, 1.0, 10.0),
    "LeVLJEPA": (0.01, 0.05, 0.25),
}


@dataclass(frozen=True)
class PhotoRow:
    """How photographs and sentences are brought together."""

    eye: str = "SIGReg"  # whose tokens; of EYES
    objective: str = "InfoNCE"  # of OBJECTIVES
    temperature: float = 0.0  # of InfoNCE; 0 learns it
    weight: float = 0.0  # of a regulariser
    learning_rate: float = 3e-3
    text_rate: float = 1.0  # of the text encoder, in units of the learning rate
    dropout: float = 0.5
    width: int = 64  # numbers that the image head leaves of each token
    embedding: int = 128
    mirrored: bool = True  # mirrored photographs too: augmented views as partners
    frozen_text: bool = False  # the text encoder stays as it is drawn
    batch_size: int = 256
    passes: tuple[int, ...] = (20, 40)  # after which it is measured; the last ends it


@dataclass(frozen=True)
class PhotoRecipe:
    """Settings that all rows share."""

    size: int = 96  # pixels at which the convolutional eye looks
    grid: int = 4  # rows and columns of its tokens
    hidden: int = 256  # of the image head
    min_count: int = 3  # occurrences of a word that gets a vector
    centres: int = 400  # of patches
    passes: tuple[int, ...] = (10, 20)
    long_passes: tuple[int, ...] = (20, 40)
    search_passes: int = 20
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)  # of objectives
    eye_rates: tuple[float, ...] = (3e-3, 1e-2)  # of other eyes
    temperatures: tuple[float, ...] = (0.01, 0.03, 0.07, 0.2, 1.0)
    temperature_passes: tuple[int, ...] = (10, 20)
    batch_sizes: tuple[int, ...] = (64, 256, 1024)
    batch_passes: int = 16  # of the middle one
    class_images: int = 2000  # of CIFAR-10, to be named
    num_seeds: int = 3

    @classmethod
    def tiny(cls) -> PhotoRecipe:
        """For tests: seconds."""
        sizes = dict(size=32, grid=2, hidden=16, centres=10, rates=(1e-3,))
        sizes["eye_rates"] = (1e-3,)
        passes = dict(passes=(2, 4), long_passes=(2, 4), search_passes=2, temperature_passes=(2, 4))
        passes["batch_passes"] = 4
        few = dict(temperatures=(0.01, 1.0), batch_sizes=(32, 64, 128))
        return cls(**sizes, **passes, **few, class_images=50, num_seeds=1)

    @classmethod
    def page(cls) -> PhotoRecipe:
        """About an hour of one CPU thread."""
        return cls()

    def rows(self, part: str, won: dict[str, PhotoRow] | None = None) -> dict[str, PhotoRow]:
        """The rows of a part by name.

        Parameters
        ----------
        part : str
            Of `PHOTO_PARTS`; "rivals" have no rows, for they are not trained.
        won : dict of str to PhotoRow, optional
            What the search found for each objective and eye, from `winners`; needed for all parts
            but "search" and "rivals".

        Raises
        ------
        ValueError
            If the part is unknown, or needs what the search found and does not get it.
        """
        if part not in PHOTO_PARTS:
            raise ValueError(f"part must be one of {', '.join(PHOTO_PARTS)}, got {part!r}")
        if part == "search":
            return self._search()
        if part == "rivals":
            return {}
        if won is None:
            raise ValueError(f"won must be what the search found, for {part!r}, got None")
        best = replace(won["InfoNCE"], passes=self.passes)
        match part:
            case "eyes":
                eyes = {"SIGReg": won["InfoNCE"]} | {eye: won[eye] for eye in list(EYES)[1:]}
                return {eye: replace(row, passes=self.passes) for eye, row in eyes.items()}
            case "long":
                eye = "SIGReg, gradients, colours"
                return {eye: replace(won[eye], passes=self.long_passes)}
            case "objectives":
                others = [
                    name for name in OBJECTIVES if name != "InfoNCE"
                ]  # that is among the eyes
                return {name: replace(won[name], passes=self.passes) for name in others}
            case "temperature":
                return {
                    f"{t:g}": replace(best, temperature=t, passes=self.temperature_passes)
                    for t in self.temperatures
                }
            case "batch size":
                middle = self.batch_sizes[len(self.batch_sizes) // 2]
                rows = {}
                for size in self.batch_sizes:
                    # as many photographs as the middle one, and as many steps
                    same = round(self.batch_passes * size / middle)
                    passes = tuple(sorted({self.batch_passes, same}))
                    rows[str(size)] = replace(best, batch_size=size, passes=passes)
                return rows
            case "changes":
                changed = {"slow text": dict(text_rate=0.1), "not mirrored": dict(mirrored=False)}
                return {name: replace(best, **change) for name, change in changed.items()}
        raise AssertionError(f"a part without rows: {part}")

    def _search(self) -> dict[str, PhotoRow]:
        """Learning rates for each objective with its factors, and for each eye; dropout, width."""
        rows = {}
        for name in OBJECTIVES:
            low, usual, high = FACTORS.get(name, (0.0,) * 3)
            row = PhotoRow(objective=name, weight=usual)
            for rate in self.rates:
                rows[f"{name}, rate {rate:g}"] = replace(row, learning_rate=rate)
            for factor in sorted({low, high} - {usual}):
                rows[f"{name}, factor {factor:g}"] = replace(row, weight=factor)
            rows[f"{name}, dropout 0.3"] = replace(row, dropout=0.3)
        rows["InfoNCE, dropout 0.7"] = PhotoRow(dropout=0.7)
        rows["InfoNCE, width 16"] = PhotoRow(width=16)
        for eye in list(EYES)[1:]:
            for rate in self.eye_rates:
                rows[f"{eye}, rate {rate:g}"] = PhotoRow(eye=eye, learning_rate=rate)
        return {name: replace(row, passes=(self.search_passes,)) for name, row in rows.items()}

    def winners(self, runs: Sequence[dict[str, Any]]) -> dict[str, PhotoRow]:
        """The row of each objective, and of each eye, that found most of the validation split.

        Parameters
        ----------
        runs : sequence of dict
            Of a record, with all of "search".

        Raises
        ------
        ValueError
            If the search is not complete.
        """
        rows = self.rows("search")
        found = {run["row"]: run["scores"][TEN] for run in runs if run["part"] == "search"}
        if missing := [name for name in rows if name not in found]:
            raise ValueError(f"runs must hold the whole search, got none of {missing[0]!r}")
        won = {}
        best = lambda fits: rows[max(filter(fits, rows), key=found.__getitem__)]
        for name in OBJECTIVES:
            won[name] = best(
                lambda label, name=name: (
                    rows[label].objective == name and rows[label].eye == "SIGReg"
                )
            )
        for eye in list(EYES)[1:]:
            rate = best(lambda label, eye=eye: rows[label].eye == eye).learning_rate
            won[eye] = replace(won["InfoNCE"], eye=eye, learning_rate=rate)
        return won


#: Whose tokens there are: the eye's checkpoint, or what stands in for one.
EYES = {
    "SIGReg": "chapter 5's eye: SIGReg on views of photographs and CIFAR-10",
    "SIGReg, gradients, colours": "the same, and gradients and colours of each place",
    "untrained": "the same network as it is drawn",
    "I-JEPA": "chapter 4's eye after five passes over CIFAR-10",
    "pixels": "16 squares of 4x4 pixels",
}


def eye_tokens(eye: ResNet, photographs: Tensor, *, size: int, grid: int = 4) -> Tensor:
    """What all stages of an eye see of photographs, in half precision.

    Parameters
    ----------
    eye : ResNet
    photographs : Tensor of uint8, shape (N, 3, S, S)
    size : int
        Side to which they are made.
    grid : int, default 4
        Rows and columns of tokens.

    Returns
    -------
    Tensor of float16, shape (N, grid^2, sum of the channels)
    """
    look = lambda images: eye.pyramid(images, grid).flatten(1)
    parts = [encode_images(look, resized(part, size)).half() for part in photographs.split(500)]
    return torch.cat(parts).unflatten(1, (-1, sum(eye.sizes["channels"])))


def photo_record(
    recipe: PhotoRecipe,
    photographs: LoadedData,
    cifar: LoadedData,
    *,
    eyes: dict[str, Path],
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = PHOTO_PARTS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train each row once per seed; the record is written after every run.

    The search has one seed. The networks of the best row, first seed, are saved beside the record.

    Parameters
    ----------
    recipe : PhotoRecipe
        Settings.
    photographs, cifar : LoadedData
        Flickr8k and CIFAR-10 or their samples, from `load_data`.
    eyes : dict of str to path
        Checkpoints of "SIGReg" (a `ResNet`) and "I-JEPA" (a `ViT`).
    name : str
        Name of the recipe: the record is ``folder/photographs/name.json``.
    folder, checkpoints, seeds, say
        See `complete_record`.
    parts : sequence of str
        Of `PHOTO_PARTS`.
    devices, nodes : int, default 1
        See `fit`.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If a part is unknown, or comes before the search is complete.
    RecordError
        If the record that is there has other settings or data, or there is none and the first part
        is not the search.
    CheckpointError
        If an eye is missing or damaged.
    """
    if unknown := [part for part in parts if part not in PHOTO_PARTS]:
        raise ValueError(f"parts must be some of {', '.join(PHOTO_PARTS)}, got {unknown}")
    eyes = {eye: Path(path) for eye, path in eyes.items()}
    bench = _Bench(recipe, photographs, cifar, eyes, dict(devices=devices, nodes=nodes))
    path = Path(folder) / "photographs" / f"{name}.json"
    record: dict[str, Any] = {}
    for part in parts:
        won = None if part == "search" else recipe.winners(read_record(path)["runs"])
        tested = "validation" if part == "search" else "test"
        runs = [
            Run({"part": part, "row": label}, partial(bench.run, part, label, row, tested))
            for label, row in recipe.rows(part, won).items()
        ]
        if part == "rivals":
            runs = [
                Run({"part": part, "row": rival}, partial(bench.rival, rival)) for rival in RIVALS
            ]
        record = complete_record(
            "photographs",
            name,
            recipe=recipe,
            data={
                "photographs": photographs.provenance.sha256,
                "cifar10": cifar.provenance.sha256,
                "eyes": {e: hashlib.sha256(p.read_bytes()).hexdigest() for e, p in eyes.items()},
            },
            runs=runs,
            folder=folder,
            checkpoints=checkpoints,
            seeds=(0,) if part in ("search", "rivals") else seeds,
            say=say,
        )
    return record


class _TwoRates(JEPA):
    """A JEPA whose text encoder learns at a rate of its own."""

    def __init__(self, *arguments, text_rate: float, **options):
        super().__init__(*arguments, **options)
        self.text_rate = text_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = adam(self)
        text = {id(p) for p in self.target_encoder.parameters()}
        (group,) = optimizer.param_groups
        own = [p for p in group["params"] if id(p) in text]
        group["params"] = [p for p in group["params"] if id(p) not in text]
        if own:
            optimizer.add_param_group({"params": own, "lr": self.learning_rate * self.text_rate})
        return optimizer


#: Rivals that no network is trained for, or none on the pairs: features, and CCA with words.
RIVALS = (
    "gradients and colours",
    "codes of patches",
    "tokens",
    "tokens of the untrained eye",
    "tokens, gradients and colours",
    "tokens, codes of patches, gradients and colours",
)


class _Bench:
    """What the rows share, each thing made when it is first needed."""

    def __init__(
        self,
        recipe: PhotoRecipe,
        photographs: LoadedData,
        cifar: LoadedData,
        eyes: dict[str, Path],
        how: dict[str, Any],
    ):
        self.recipe, self.photographs, self.cifar, self.paths = recipe, photographs, cifar, eyes
        self.how, self.kept = how | {"progress": False}, {}

    @cached_property
    def tables(self) -> dict[str, tuple[Tensor, list[list[str]]]]:
        data = self.photographs.data
        return {split: caption_table(data[split], size=96) for split in SPLITS}

    @cached_property
    def tokenizer(self) -> CaptionTokenizer:
        lines = [line for row in self.tables["train"][1] for line in row]
        return CaptionTokenizer.from_captions(lines, min_count=self.recipe.min_count, max_length=24)

    @cached_property
    def words(self) -> dict[str, Words]:
        """Ids and visible of the sentences of each split, (N, 5, L)."""
        parts = {}
        for split, (_, rows) in self.tables.items():
            flat = self.tokenizer([line for row in rows for line in row])
            parts[split] = tuple(x.unflatten(0, (len(rows), -1)) for x in flat)
        return parts

    @cached_property
    def eyes(self) -> dict[str, nn.Module]:
        # Networks are drawn before they are loaded: the run that looks first is as any other.
        with torch.random.fork_rng(devices=[]):
            eye, other = load_eye(self.paths["SIGReg"]), load_encoder(self.paths["I-JEPA"])[0]
            torch.default_generator.manual_seed(0)
            drawn = ResNet(**eye.sizes).eval()
        return {"SIGReg": eye, "untrained": drawn, "I-JEPA": other}

    def tokens(self, eye: str, split: str, mirrored: bool = False) -> Tensor:
        key = eye, split, mirrored
        if key not in self.kept:
            pictures = self.tables[split][0]
            self.kept[key] = self._look(eye, pictures.flip(-1) if mirrored else pictures)
        return self.kept[key]

    def _look(self, eye: str, pictures: Tensor) -> Tensor:
        if eye == "pixels":
            small = F.interpolate(pictures.float(), 16, mode="area") / 255 - 0.5
            return F.unfold(small, 4, stride=4).mT.half()
        if eye == "SIGReg, gradients, colours":
            tokens = self._look("SIGReg", pictures)
            grid = self.recipe.grid
            counted = gradients_and_colours_of_places(resized(pictures, 24 * grid), grid=grid)
            return torch.cat([tokens, counted.half()], dim=2)
        if eye == "I-JEPA":
            return photo_tokens(self.eyes[eye], pictures)
        size, grid = self.recipe.size, self.recipe.grid
        return eye_tokens(self.eyes[eye], pictures, size=size, grid=grid)

    def networks(self, row: PhotoRow, places: int, width: int) -> tuple[ImageHead, TextEncoder]:
        recipe = self.recipe
        head = ImageHead(
            places,
            width,
            width=row.width,
            hidden=recipe.hidden,
            embedding=row.embedding,
            dropout=row.dropout,
        )
        text = TextEncoder(
            len(self.tokenizer),
            dimensions=row.embedding,
            layers=0,
            max_length=24,
            dropout=row.dropout,
            token_std=0.1,
            positions=False,
        )
        return head, text.requires_grad_(not row.frozen_text)

    def run(
        self, part: str, label: str, row: PhotoRow, split: str, seed: int, states: list[Path]
    ) -> Outcome:
        tokens, sentences = self.tokens(row.eye, "train"), self.words["train"]
        head, text = self.networks(row, *tokens.shape[1:])
        if row.mirrored:
            tokens = torch.cat([tokens, self.tokens(row.eye, "train", mirrored=True)])
            sentences = tuple(torch.cat([x, x]) for x in sentences)
        size = min(row.batch_size, len(tokens))
        data = CaptionDataModule(tokens, sentences, batch_size=size, seed=seed)
        module = _TwoRates(
            head,
            nn.Identity(),
            target_encoder=text,
            learning_rate=row.learning_rate,
            text_rate=row.text_rate,
            **OBJECTIVES[row.objective](row),
        )
        # with mirrored photographs a pass over the data is two over the photographs
        each = 2 if row.mirrored else 1
        looks = [-(-n // each) for n in row.passes]

        def monitor() -> dict[str, float]:
            if module.trainer.global_step not in [n * data.steps for n in looks]:
                return {}
            return photo_scores(_searched(module), self.tokens(row.eye, split), self.words[split])

        history = fit(
            module.train(),
            data,
            epochs=max(looks),
            seed=seed,
            checkpoint=states[0],
            monitor=monitor,
            **self.how,
        )
        module.cpu().eval()
        seen = [{k: round(v, 4) for k, v in found.items()} for found in history.monitors if found]
        curve = {str(n * each): found for n, found in zip(sorted(set(looks)), seen, strict=True)}
        scores = dict(seen[-1])
        if part != "search":
            scores |= {"hardest": round(self.hardest(module, row), 4)}
        if part == "eyes":
            scores |= self.classes(module, row)
        entry = _entry(row, scores, curve, history, max(looks) * data.steps)
        save, card = None, None
        if part == "eyes" and label == "SIGReg":
            save = partial(save_weights, nn.ModuleList([head, text]))
            vocabulary = self.tokenizer.vocabulary
            card = {
                "what": "image head (0) and text encoder (1) of photographs and sentences",
                "words": dict(zip(vocabulary.words, vocabulary.counts, strict=True)),
            }
        return Outcome(entry, save, card)

    @torch.no_grad()
    def hardest(self, module: JEPA, row: PhotoRow) -> float:
        """Share of the negatives' weight that the hardest five of a batch have."""
        if row.objective != "InfoNCE":
            return 0.0
        some = slice(min(256, len(self.words["validation"][0])))
        pictures = embed(module.context_encoder, self.tokens(row.eye, "validation")[some])
        lines = embed(module.target_encoder, *(x[some, 0] for x in self.words["validation"]))
        cosines = directions(lines) @ directions(pictures).T
        cosines.fill_diagonal_(-float("inf"))
        shares = (cosines / float(module.objective.log_temperature.exp())).softmax(dim=1)
        return shares.topk(min(HARDEST, len(shares) - 1), dim=1).values.sum(dim=1).mean().item()

    @cached_property
    def class_images(self) -> tuple[Tensor, Tensor]:
        table = self.cifar.data["test"]
        return image_tensor(table.select(range(min(len(table), self.recipe.class_images))))

    @measured
    def classes(self, module: JEPA, row: PhotoRow) -> dict[str, float]:
        """CIFAR-10's classes by name, from nothing but photographs and their sentences."""
        images, labels = self.class_images
        names = self.cifar.data["test"].features["label"].names
        sentences = class_captions(names)
        ids, visible = self.tokenizer([line for each in sentences for line in each])
        known = visible.any(dim=1)
        visible = visible | ~known.unsqueeze(1)  # a sentence of unknown words is its first id
        lines = directions(embed(module.target_encoder, ids, visible))
        centres = directions(lines.unflatten(0, (len(names), -1)).mean(dim=1))
        key = row.eye, "classes"
        if key not in self.kept:
            self.kept[key] = self._look(row.eye, images)
        seen = directions(embed(module.context_encoder, self.kept[key]))
        right = ((seen @ centres.T).argmax(dim=1) == labels).double().mean().item()
        return {"CIFAR-10 by name": round(right, 4)}

    def rival(self, name: str, seed: int, states: list[Path]) -> Outcome:
        counts, new = {}, {}
        rows = {split: lines for split, (_, lines) in self.tables.items()}
        counts["train"], new["validation"] = word_counts(rows["train"], rows["validation"])
        _, new["test"] = word_counts(rows["train"], rows["test"])
        features = self.features(name)
        fitted = fit_cca(
            features["train"],
            counts["train"].mean(dim=1),
            (features["validation"], new["validation"]),
        )
        scores = {
            key: round(value, 4)
            for key, value in fitted.recalls(features["test"], new["test"]).items()
        }
        return Outcome({"scores": scores, "seconds": 0.0, "setting": fitted.setting})

    @measured
    def features(self, name: str) -> dict[str, Tensor]:
        parts = []
        if "gradients" in name:
            whole = gradients_and_colours(torch.cat([self.tables[split][0] for split in SPLITS]))
            parts.append(whole)
        if "codes" in name:
            small = [resized(self.tables[split][0], 64) for split in SPLITS]
            codes = patch_codes(small[0], small, centres=self.recipe.centres)
            parts.append(torch.cat(codes).sqrt())
        if "tokens" in name:
            eye = "untrained" if "untrained" in name else "SIGReg"
            parts.append(torch.cat([self.tokens(eye, s).flatten(1).float() for s in SPLITS]))
        joined = torch.cat([x / x.var(dim=0).sum().sqrt() for x in parts], dim=1)
        sizes = [len(self.tables[split][0]) for split in SPLITS]
        return dict(zip(SPLITS, joined.split(sizes), strict=True))


def _entry(
    row: PhotoRow, scores: dict, curve: dict, history: History, steps: int
) -> dict[str, Any]:
    losses = history.losses["loss"]
    return {
        "scores": scores,
        "curve": curve,
        "settings": asdict(row),
        "seconds": round(history.seconds, 1),
        "steps": steps,
        "losses": [float(f"{x:.4g}") for x in losses[:: max(1, len(losses) // 100)]],
    }
