"""Chapter 1's experiment: word vectors of JEPAs and of their rivals, all searched alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from jepa_utils.data.batches import tensor_batches
from jepa_utils.data.load import LoadedData
from jepa_utils.data.words import Vocabulary, context_windows, tokenize, word_classes
from jepa_utils.evaluation.neighbours import neighbour_purity
from jepa_utils.evaluation.word_vectors import cca_vectors, ppmi_svd, word2vec
from jepa_utils.experiments.store import Outcome, RecordError, Run, complete_record, read_record
from jepa_utils.models.text import WindowEncoder
from jepa_utils.objectives.sigreg import SIGReg, weak_sigreg
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA

__all__ = ["PARTS", "WORD_RECIPES", "Row", "WordRecipe", "searched", "word_record"]

WORD_RECIPES = ("tiny", "page")  # constructors of WordRecipe

PARTS = ("search", "best", "one at a time", "further", "twice")

PENALTIES = ("SIGReg", "Weak-SIGReg")

METHODS = (*PENALTIES, "word2vec", "PPMI + SVD", "CCA")


@dataclass(frozen=True)
class Row:
    """One way to make word vectors: a method and its settings; the defaults are the source's."""

    method: str = "SIGReg"  # of METHODS
    weight: float = 0.01  # lambda, the factor of the penalty
    initial_std: float = 1.0  # spread of the first, random vectors
    num_slices: int = 32  # SIGReg's directions; the source's are 256, at three times the time
    window: int = 1  # context words
    hidden: int = 0  # width of a network on top of them; none by default
    options: Mapping[str, float] = field(default_factory=dict)  # of a rival's function
    falling: bool = False  # a learning rate that falls to 0, as word2vec's does
    epochs: int = 10  # passes; a JEPA is looked at after each


@dataclass(frozen=True)
class WordRecipe:
    """Settings that all rows share."""

    min_count: int = 25  # rarer words become <unk>
    dimensions: int = 10  # D, numbers per word vector
    batch_size: int = 2048  # N, pairs per step
    learning_rate: float = 0.01  # of Adam
    search_epochs: int = 5  # passes of each run of the search
    search_seeds: int = 1  # runs of each setting in it
    epochs: int = 10  # passes of the others, as many as the source's; looked at after each
    long_epochs: int = 20  # passes of those that are trained twice as long
    choosing: tuple[str, ...] = (  # classes that settings are chosen by; the others are reported
        "personal pronouns",
        "reflexive pronouns",
        "auxiliary verbs",
        "kinship",
        "body parts",
        "question words",
        "after an apostrophe",
    )
    sigreg: tuple[float, ...] = (2.5e-4, 5e-4, 1e-3, 2e-3)  # lambda
    weak: tuple[float, ...] = (0.15, 0.3, 0.6, 1.2)  # lambda
    small_std: float = 0.1  # spread of the first vectors in the search
    negatives: tuple[int, ...] = (1, 2, 5, 10)  # of word2vec
    smoothings: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)  # of PPMI + SVD
    pseudo_counts: tuple[float, ...] = (0.0, 30.0, 300.0, 3000.0)  # of CCA
    num_seeds: int = 5  # runs of each row

    @classmethod
    def tiny(cls) -> WordRecipe:
        """For tests: built-in sample, seconds."""
        grids = dict(sigreg=(1e-3,), weak=(0.3, 1.0), negatives=(2,), smoothings=(0.75,))
        sizes = dict(min_count=5, search_epochs=1, epochs=2)
        return cls(**grids, **sizes, long_epochs=4, pseudo_counts=(30.0,), num_seeds=1)

    @classmethod
    def page(cls) -> WordRecipe:
        """As on the page."""
        return cls()

    def search(self) -> dict[str, Row]:
        """As many settings of each method, by name."""
        small = dict(initial_std=self.small_std)
        rows = [Row(weight=weight, **small) for weight in self.sigreg]
        rows += [Row("Weak-SIGReg", weight=weight, **small) for weight in self.weak]
        rows += [Row("word2vec", options={"negative": n}) for n in self.negatives]
        rows += [Row("PPMI + SVD", options={"smoothing": a}) for a in self.smoothings]
        rows += [Row("CCA", options={"pseudo_count": k}) for k in self.pseudo_counts]
        return {
            f"{row.method}, {_searched(row):g}": replace(row, epochs=self.search_epochs)
            for row in rows
        }

    def one_at_a_time(self) -> dict[str, Row]:
        """The source's settings, and each change of them by itself."""
        changes = {
            "smaller lambda": dict(weight=1e-3),
            "smaller start": dict(initial_std=self.small_std),
        }
        rows = {name: Row(epochs=self.epochs, **change) for name, change in changes.items()}
        return {"the source's": Row(epochs=self.epochs), **rows}

    def best(self, won: Mapping[str, Row]) -> dict[str, Row]:
        """The settings that won the search, at half and at full budget, and what goes beyond."""
        whole = {method: replace(row, epochs=self.epochs) for method, row in won.items()}
        half = replace(won["word2vec"], epochs=max(1, self.epochs // 2))
        cca = {"pseudo_count": 0.0}, {**won["CCA"].options, "power": 0.5}
        return {
            **whole,
            "word2vec, half": half,
            "CCA, plain": Row("CCA", options=cca[0]),
            "CCA, roots of counts": Row("CCA", options=cca[1]),
        }

    def further(self, won: Mapping[str, Row]) -> dict[str, Row]:
        """The lighter penalty with a falling learning rate, more context, and a network on top."""
        base = replace(won["Weak-SIGReg"], epochs=self.epochs)
        three = replace(base, window=3)
        return {
            "falling rate": replace(base, falling=True),
            "falling rate, half": replace(base, falling=True, epochs=max(1, self.epochs // 2)),
            "three words": three,
            "three words, hidden layer": replace(three, hidden=64),
        }

    def twice(self, won: Mapping[str, Row]) -> dict[str, Row]:
        """The JEPAs that are compared with rivals, trained twice as long."""
        rows = {"the source's": Row(), **{penalty: won[penalty] for penalty in PENALTIES}}
        return {name: replace(row, epochs=self.long_epochs) for name, row in rows.items()}


def _searched(row: Row) -> float:
    """What is searched for a method."""
    return next(iter(row.options.values()), row.weight)


def searched(recipe: WordRecipe, record: Mapping[str, Any]) -> dict[str, Row]:
    """The settings of each method that did best on the classes for choosing, by its name.

    Parameters
    ----------
    recipe : WordRecipe
        Settings.
    record : dict
        A record that has the search.

    Returns
    -------
    dict of str to Row

    Raises
    ------
    RecordError
        If runs of the search are missing.
    """
    found: dict[str, list[float]] = {}
    for run in record["runs"]:
        if run["part"] == "search":
            found.setdefault(run["row"], []).append(run["scores"]["choosing"])
    rows = recipe.search()
    if missing := [name for name in rows if len(found.get(name, ())) < recipe.search_seeds]:
        raise RecordError(f"the search is not complete: {', '.join(missing)}")
    best: dict[str, Row] = {}
    for name in sorted(rows, key=lambda name: np.mean(found[name])):
        best[rows[name].method] = rows[name]
    return {method: best[method] for method in METHODS}


@dataclass(frozen=True)
class _Corpus:
    ids: Tensor
    vocabulary: Vocabulary
    groups: dict[str, list[int]]  # class to its words' ids


def word_record(
    recipe: WordRecipe,
    text: LoadedData,
    *,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = PARTS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make word vectors in all ways, and measure them; the record is written after every run.

    Parameters
    ----------
    recipe : WordRecipe
        Settings.
    text : LoadedData
        Shakespeare or its sample.
    name : str
        Name of the recipe: the record is ``folder/words/name.json``.
    parts : sequence of str
        Of `PARTS`. All but "search" and "one at a time" take the settings that won the search.
    folder, checkpoints, seeds, say
        See `complete_record`. The search has seeds of its own number.
    devices, nodes : int, default 1
        See `fit`; a table of words is trained by one process.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If a part is unknown, or there are several processes.
    RecordError
        If the record that is there has other settings or data.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"parts must be some of {', '.join(PARTS)}, got {unknown}")
    vocabulary = Vocabulary.build(tokens := tokenize(text.data), min_count=recipe.min_count)
    classes = word_classes(text.data, vocabulary)
    groups = {kind: vocabulary.encode(words) for kind, words in classes.items()}
    corpus = _Corpus(torch.tensor(vocabulary.encode(tokens)), vocabulary, groups)
    how = dict(devices=devices, nodes=nodes, progress=False)
    path, record = Path(folder) / "words" / f"{name}.json", {}
    for part in [part for part in PARTS if part in parts]:
        if part == "search":
            rows, wanted = recipe.search(), range(recipe.search_seeds)
        else:
            made = {"best": recipe.best, "further": recipe.further, "twice": recipe.twice}
            rows = (
                made[part](searched(recipe, read_record(path)))
                if part in made
                else recipe.one_at_a_time()
            )
            wanted = seeds
        record = complete_record(
            "words",
            name,
            recipe=recipe,
            data=text.provenance.sha256,
            runs=[
                Run({"part": part, "row": row}, partial(_run, recipe, settings, corpus, how))
                for row, settings in rows.items()
            ],
            folder=folder,
            checkpoints=checkpoints,
            seeds=wanted,
            say=say,
        )
    return record


def _run(
    recipe: WordRecipe,
    row: Row,
    corpus: _Corpus,
    how: dict[str, Any],
    seed: int,
    states: list[Path],
) -> Outcome:
    measure = partial(_scores, corpus.groups, recipe.choosing)
    started = time.process_time()
    curves: dict[str, list[float]] = {}
    looked = [0.0]
    if row.method in PENALTIES:
        module, words, data = _training(recipe, row, corpus, seed)
        watched = corpus.ids[:: max(1, len(corpus.ids) // 4096)][:4096]

        def look() -> dict[str, float]:
            began = time.process_time()
            table = words.weight.detach().cpu()
            spread = float(table[watched].std(dim=0).mean())
            seen = _rounded(measure(table.numpy()) | {"std": spread})
            looked[0] += time.process_time() - began
            return seen

        history = fit(
            module, data, epochs=row.epochs, seed=seed, monitor=look, checkpoint=states[0], **how
        )
        vectors = words.weight.detach().cpu().numpy()
        curves = {name: [each[name] for each in history.monitors] for name in history.monitors[0]}
        curves["prediction"] = [round(loss, 6) for loss in history.losses["prediction"]]
        samples = row.epochs * (len(corpus.ids) - row.window)
        steps = row.epochs * len(data)
    else:
        make = {"word2vec": word2vec, "PPMI + SVD": ppmi_svd, "CCA": cca_vectors}[row.method]
        options = {**row.options, **({"epochs": row.epochs} if make is word2vec else {})}
        shape = dict(size=len(corpus.vocabulary), dimensions=recipe.dimensions)
        vectors = make(corpus.ids.numpy(), **shape, **options, seed=seed)
        passes = row.epochs if make is word2vec else 1
        samples, steps = passes * 2 * (len(corpus.ids) - 1), 0  # each word and both neighbours
    seconds = time.process_time() - started - looked[0]
    entry = {
        "scores": _rounded(measure(vectors) | _by_angle(corpus, recipe, vectors)),
        "classes": _rounded(neighbour_purity(vectors, corpus.groups)),
        "settings": asdict(row),
        "steps": steps,
        "samples": samples,
        "seconds": round(seconds, 1),  # of one core, whatever else the machine does
        "curves": curves,
    }
    return Outcome(entry)


class _Falling(JEPA):
    """A JEPA whose learning rate falls in a line to 0 at the end."""

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = super().configure_optimizers()
        steps = self.trainer.estimated_stepping_batches
        scheduler = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def _training(
    recipe: WordRecipe, row: Row, corpus: _Corpus, seed: int
) -> tuple[JEPA, nn.Embedding, DataLoader]:
    torch.manual_seed(seed)
    words = nn.Embedding(len(corpus.vocabulary), recipe.dimensions)
    words.weight.data.mul_(row.initial_std)
    context, target = context_windows(corpus.ids, row.window)
    if row.hidden:
        encoder = WindowEncoder(words, window=row.window, hidden=row.hidden)
    elif row.window > 1:
        encoder = nn.Sequential(words, nn.Flatten())  # the predictor mixes them
    else:
        encoder, context = words, context[:, 0]
    width = recipe.dimensions if row.hidden else row.window * recipe.dimensions
    penalties = {"SIGReg": SIGReg(num_slices=row.num_slices), "Weak-SIGReg": weak_sigreg}
    module = (_Falling if row.falling else JEPA)(
        encoder,
        nn.Linear(width, recipe.dimensions),
        target_encoder=words,
        regularizer=penalties[row.method],
        weight=row.weight,
        # Where the context's encoder is not the table alone, the table is the one that could cheat.
        regularize="context" if row.window == 1 else "target",
        learning_rate=recipe.learning_rate,
    )
    return module, words, tensor_batches(context, target, batch_size=recipe.batch_size)


def _scores(
    groups: Mapping[str, Sequence[int]], choosing: Sequence[str], vectors: np.ndarray, **how: str
) -> dict[str, float]:
    """Mean purity of the classes for choosing and of the others."""
    purity = neighbour_purity(vectors, groups, **how)
    return {
        "choosing": float(np.mean([purity[kind] for kind in purity if kind in choosing])),
        "reporting": float(np.mean([purity[kind] for kind in purity if kind not in choosing])),
    }


def _by_angle(corpus: _Corpus, recipe: WordRecipe, vectors: np.ndarray) -> dict[str, float]:
    found = _scores(corpus.groups, recipe.choosing, vectors, metric="cosine")
    return {f"{part}, by angle": value for part, value in found.items()}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
