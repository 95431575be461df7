"""Chapter 2's experiment: LeJEPA on chunks of WikiText-2, and what its text encoder is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jepa_utils.data.batches import SpanDataModule
from jepa_utils.data.load import LoadedData
from jepa_utils.data.tokens import token_chunks
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.evaluation.encode import embed
from jepa_utils.evaluation.retrieval import recall_at_k
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured
from jepa_utils.models.checkpoints import save_weights
from jepa_utils.models.text import TextEncoder
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA

__all__ = ["METHODS", "TEXT_RECIPES", "TextRecipe", "text_record"]

METHODS = {
    "LeJEPA": "prediction of the other part of a chunk, and SIGReg",
    "untrained": "the encoder as it is drawn",
}

TEXT_RECIPES = ("tiny", "page")  # constructors of TextRecipe


@dataclass(frozen=True)
class TextRecipe:
    """Settings of a training on text, as on chapter 2's page."""

    length: int = 256  # L, tokens per chunk
    dimensions: int = 64  # D, width of the encoder
    heads: int = 2  # attention heads
    layers: int = 2  # transformer layers
    token_std: float = 0.1  # of the token vectors at first
    num_slices: int = 1024  # SIGReg's directions
    weight: float = 0.1  # lambda, the factor of SIGReg
    learning_rate: float = 3e-3  # of Adam
    batch_size: int = 64  # chunks per step
    min_length: int = 32  # shortest part, in tokens
    train_split: str = "validation"  # of WikiText-2
    held_out: int = 150  # last chunks of it, not trained on
    gallery: int = 1000  # chunks of the test split to search among
    epochs: int = 6  # passes
    num_seeds: int = 3  # runs of each method

    @classmethod
    def tiny(cls) -> TextRecipe:
        """For tests: built-in sample, seconds."""
        sizes = dict(length=64, min_length=8, held_out=100, gallery=200, batch_size=32)
        return cls(**sizes, num_slices=64, epochs=1, num_seeds=1)

    @classmethod
    def page(cls) -> TextRecipe:
        """As on the page."""
        return cls()

    def training(self, vocabulary: int) -> JEPA:
        """A new training with new weights."""
        encoder = TextEncoder(
            vocabulary,
            dimensions=self.dimensions,
            heads=self.heads,
            layers=self.layers,
            dropout=0.0,
            token_std=self.token_std,
        )
        predictor = nn.Sequential(
            nn.Linear(self.dimensions, self.dimensions), nn.LayerNorm(self.dimensions)
        )
        rule = dict(regularizer=SIGReg(num_slices=self.num_slices), weight=self.weight)
        return JEPA(encoder, predictor, regularize="both", learning_rate=self.learning_rate, **rule)


def text_record(
    recipe: TextRecipe,
    wiki: LoadedData,
    tokenizer: Any,
    *,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    methods: Sequence[str] = tuple(METHODS),
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train each method once per seed; the record is written after every run.

    Parameters
    ----------
    recipe : TextRecipe
        Settings.
    wiki : LoadedData
        WikiText-2 or its sample, with the recipe's training split and the test split.
    tokenizer : callable
        From `load_tokenizer`.
    name : str
        Name of the recipe: the record is ``folder/texts/name.json``.
    methods : sequence of str
        Of `METHODS`.
    folder, checkpoints, seeds, say
        See `complete_record`.
    devices, nodes : int, default 1
        See `fit`.

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
    train, test = (
        token_chunks(wiki.data[split]["text"], tokenizer, length=recipe.length)
        for split in (recipe.train_split, "test")
    )
    texts = train[: -recipe.held_out], test[: recipe.gallery]
    how = dict(devices=devices, nodes=nodes, progress=False)
    return complete_record(
        "texts",
        name,
        recipe=recipe,
        data=wiki.provenance.sha256,
        runs=[
            Run({"method": m}, partial(_run, recipe, m, texts, len(tokenizer), how))
            for m in methods
        ],
        folder=folder,
        checkpoints=checkpoints,
        seeds=seeds,
        say=say,
    )


def _run(
    recipe: TextRecipe,
    method: str,
    texts: tuple[Tensor, Tensor],
    vocabulary: int,
    how: dict[str, Any],
    seed: int,
    states: list[Path],
) -> Outcome:
    train, test = texts
    module = recipe.training(vocabulary)
    seconds, losses = 0.0, {}
    if method != "untrained":
        options = dict(min_length=recipe.min_length, either_side=True, shift=True)
        data = SpanDataModule(
            train, batch_size=recipe.batch_size, cut="batch", seed=seed, **options
        )
        history = fit(module, data, epochs=recipe.epochs, seed=seed, checkpoint=states[0], **how)
        seconds, losses = history.seconds, history.losses
    module = module.cpu().eval()
    scores = {key: round(value, 4) for key, value in _scores(module.context_encoder, test).items()}
    entry = {"scores": scores, "seconds": round(seconds, 1), "curves": {"losses": losses}}
    save = None if method == "untrained" else partial(save_weights, module.context_encoder)
    return Outcome(entry, save, {"what": METHODS[method]})


@measured
def _scores(encoder: TextEncoder, chunks: Tensor) -> dict[str, float]:
    """How well the first half of a chunk finds its second, and how the first halves lie."""
    first = (torch.arange(chunks.shape[1]) < chunks.shape[1] // 2).expand(chunks.shape)
    contexts, targets = (embed(encoder, chunks, side, batch_size=128) for side in (first, ~first))
    found = {f"recall@{k}": share for k, share in recall_at_k(contexts, targets).items()}
    return found | {"effective rank": float(effective_rank(contexts))}
