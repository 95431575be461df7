"""Chapter 2's experiment: encoders of text by LeJEPA and by its rivals, all measured alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from jepa_utils.data.batches import SpanDataModule
from jepa_utils.data.load import LoadedData
from jepa_utils.data.tokens import (
    article_of_chunks,
    span_mask,
    stream_chunks,
    stream_data,
    token_chunks,
)
from jepa_utils.evaluation.collapse import effective_rank
from jepa_utils.evaluation.counted_texts import (
    Vectors,
    inverse_document_frequencies,
    lsa_vectors,
    ppmi_vectors,
    random_vectors,
    tfidf_accuracy,
    tfidf_vectors,
)
from jepa_utils.evaluation.encode import embed
from jepa_utils.evaluation.probes import linear_probe
from jepa_utils.evaluation.retrieval import label_precision, recall_at_k
from jepa_utils.experiments.store import (
    Outcome,
    RecordError,
    Run,
    complete_record,
    measured,
    read_record,
)
from jepa_utils.models.ema import EMA
from jepa_utils.models.modes import modes_kept
from jepa_utils.models.text import TextEncoder
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.training.baselines import HybridTraining, MaskedLM
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import Schedule

__all__ = [
    "TEXT_PARTS",
    "TEXT_RECIPES",
    "TextRecipe",
    "TextRow",
    "predictor_of",
    "text_record",
    "text_training",
]

TEXT_RECIPES = ("tiny", "page")  # constructors of TextRecipe

TEXT_PARTS = ("counts", "five", "ladder", "search", "full", "scale", "scaling", "stream")

TRAINED = ("LeJEPA", "InfoNCE", "EMA", "masked", "hybrid")
COUNTED = ("TF-IDF", "LSA", "random", "PPMI + SVD")
METHODS = (*TRAINED, "untrained", *COUNTED)

RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class TextRow:
    """One way to make an encoder of text: a method and its settings. The defaults are the source's.

    A span of None means: chunks are cut in two at a random place; else context and target are
    neighbours of so many tokens.
    """

    method: str = "LeJEPA"  # of METHODS
    text: str = "all"  # the training split, "some" of it, the "reviews", or a "stream"
    share: float = 1.0  # of that text
    # the encoder
    dimensions: int = 64  # D
    heads: int = 2
    layers: int = 2
    positions: bool = True
    norm_first: bool = False
    token_std: float = 1.0
    fixed_scale: bool = False  # the last normalisation's gain and offset do not learn
    identity_start: bool = False
    weights: str = "equal"  # of tokens in the mean, or "idf": from document frequencies, and learn
    # what it learns
    span: int | None = None
    cut: str = "chunk"
    either_side: bool = False
    regularize: str = "context"
    stop_gradient: bool = True
    regularizer: str = "SIGReg"  # or "standardised SIGReg", or "none"
    linear: bool = False  # the predictor: a line alone, or normalised afterwards
    weight: float = 0.1  # lambda, the factor of SIGReg
    temperature: float = 0.1  # of InfoNCE
    decay: float = 0.99  # of the moving average
    # how
    learning_rate: float = 1e-4
    layer_rate: float | None = None  # of the transformer's layers
    warmup: float = 0.0
    weight_decay: float = 0.01
    falling: bool = False
    batch_size: int = 64
    tokens: int = 3_000_000  # to read in training, contexts and targets together

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.weights not in ("equal", "idf"):
            raise ValueError(f"weights must be equal or idf, got {self.weights!r}")
        if self.text not in ("all", "some", "reviews", "stream"):
            raise ValueError(f"text must be all, some, reviews or stream, got {self.text!r}")


#: What the ladder changes, one after the other; each row keeps what those above it changed.
LADDER: dict[str, dict[str, Any]] = {
    "the source's recipe": {},
    "one cut a batch, both sides alike": dict(
        cut="batch", either_side=True, regularize="both", stop_gradient=False
    ),
    "pre-norm, warm-up, falling rate": dict(
        norm_first=True, warmup=0.1, falling=True, weight_decay=0.0
    ),
    "neighbouring spans of 32": dict(span=32, batch_size=128),
    "no positions": dict(positions=False),
    "a line as predictor": dict(linear=True),
    "rates: 0.01, layers 0.0003; small vectors": dict(
        learning_rate=1e-2, layer_rate=3e-4, token_std=0.1
    ),
    "layers that begin as the identity": dict(identity_start=True),
    "weights from document frequencies": dict(weights="idf"),
}

TRANSFORMER = TextRow(**{name: value for step in LADDER.values() for name, value in step.items()})
BAG = replace(TRANSFORMER, layers=0, span=64)


@dataclass(frozen=True)
class TextRecipe:
    """Settings that all rows share."""

    length: int = 256  # L, tokens per chunk
    min_length: int = 32  # shortest part of a chunk that is cut, in tokens
    num_slices: int = 1024  # SIGReg's directions
    some: int = 850  # chunks of the training split for the ladder; the rest waits
    gallery: int = 1000  # chunks of validation and test split to search among
    five_tokens: int = 1_500_000  # that each of them reads in training
    ladder_tokens: int = 2_900_000
    search_tokens: int = 10_000_000
    full_tokens: int = 36_000_000  # about 15 passes
    transformer_tokens: int = 3_000_000  # the masked model's steps are ten times as dear
    longer: int = 3  # times as many, to see whether an order of methods is one of budgets
    wide_tokens: int = 10_000_000
    scaling_tokens: int = 15_000_000
    shares: tuple[float, ...] = (0.0625, 0.125, 0.25, 0.5, 1.0)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    wide: int = 512  # dimensions of the wide encoders
    labels: tuple[int, ...] = (50, 500)  # labelled reviews, beside all
    looks: int = 4  # measurements during a training
    num_seeds: int = 3
    ladder_seeds: int = 5

    @classmethod
    def tiny(cls) -> TextRecipe:
        """For tests: built-in sample, seconds."""
        sizes = dict(length=128, min_length=8, gallery=60, num_slices=32, some=60)
        few = dict(shares=(0.5, 1.0), widths=(64,), labels=(50,), looks=2, wide=128)
        budget = dict.fromkeys(
            ("five", "ladder", "search", "full", "transformer", "wide", "scaling"), 20_000
        )
        tokens = {f"{name}_tokens": value for name, value in budget.items()}
        return cls(**sizes, **few, **tokens, num_seeds=1, ladder_seeds=1)

    @classmethod
    def page(cls) -> TextRecipe:
        """As on the page."""
        return cls()

    def rows(self, part: str, won: Mapping[str, TextRow]) -> dict[str, TextRow]:
        """The rows of a part by name; `won` are the settings that the search has chosen."""
        return {
            "counts": self._counts,
            "five": self._five,
            "ladder": self._ladder,
            "search": self._search,
            "full": partial(self._full, won),
            "scale": partial(self._scale, won),
            "scaling": partial(self._scaling, won),
            "stream": partial(self._stream, won),
        }[part]()

    def _counts(self) -> dict[str, TextRow]:
        wide = self.wide
        return {
            "TF-IDF": TextRow("TF-IDF"),
            "LSA": TextRow("LSA"),
            f"LSA, {wide}": TextRow("LSA", dimensions=wide),
            "random": TextRow("random"),
            f"random, {wide}": TextRow("random", dimensions=wide),
            f"random, {4 * wide}": TextRow("random", dimensions=4 * wide),
            "PPMI + SVD": TextRow("PPMI + SVD"),
            "untrained source": TextRow("untrained"),
            "untrained transformer": replace(TRANSFORMER, method="untrained"),
            "untrained bag": replace(BAG, method="untrained"),
            "LSA, some text": TextRow("LSA", text="some"),
            "TF-IDF, some text": TextRow("TF-IDF", text="some"),
        } | {
            f"{method}, share {share:g}": TextRow(method, share=share)
            for method in ("TF-IDF", "LSA")
            for share in self.shares[:-1]
        }

    def _five(self) -> dict[str, TextRow]:
        base = TextRow(
            text="some",
            token_std=0.1,  # small at first: what grows or shrinks is soon seen
            norm_first=True,
            warmup=0.1,
            falling=True,
            weight_decay=0.0,
            learning_rate=1e-2,
            layer_rate=3e-4,
            tokens=self.five_tokens,
        )
        changes = {
            "SIGReg, stop-gradient": {},
            "SIGReg, no stop-gradient": dict(stop_gradient=False),
            "no SIGReg, stop-gradient": dict(regularizer="none"),
            "no SIGReg, no stop-gradient": dict(regularizer="none", stop_gradient=False),
            "standardised SIGReg, stop-gradient": dict(regularizer="standardised SIGReg"),
        }
        return {name: replace(base, **change) for name, change in changes.items()}

    def _ladder(self) -> dict[str, TextRow]:
        rows, row = {}, TextRow(text="some", tokens=self.ladder_tokens)
        for name, change in LADDER.items():
            rows[name] = row = replace(row, **change)
        rows["no layers"] = replace(row, layers=0, span=64)
        return rows

    def _search(self) -> dict[str, TextRow]:
        """As many settings of each method: one number each, on all the text."""
        bag = replace(BAG, tokens=self.search_tokens)
        grids = {
            "LeJEPA": ("weight", (0.03, 0.1, 0.3, 1.0)),
            "InfoNCE": ("temperature", (0.025, 0.05, 0.1, 0.2)),
            "EMA": ("decay", (0.9, 0.95, 0.99, 0.998)),
        }
        rows = {
            f"{method}, {value:g}": replace(bag, method=method, **{name: value})
            for method, (name, values) in grids.items()
            for value in values
        }
        # It has to know the places of its neighbours.
        masked = replace(TRANSFORMER, method="masked", span=64, batch_size=64, positions=True)
        masked = replace(masked, layer_rate=None, tokens=self.search_tokens // 4)
        rates = (1e-3, 3e-3, 1e-2, 3e-2)
        return rows | {f"masked, {rate:g}": replace(masked, learning_rate=rate) for rate in rates}

    def _full(self, won: Mapping[str, TextRow]) -> dict[str, TextRow]:
        bags = {
            f"{method}, bag": replace(won[method], tokens=self.full_tokens)
            for method in ("LeJEPA", "InfoNCE", "EMA")
        }
        whole = dict(tokens=self.transformer_tokens)
        transformer = replace(TRANSFORMER, weight=won["LeJEPA"].weight, **whole)
        masked = replace(won["masked"], **whole)
        wide = replace(won["LeJEPA"], dimensions=self.wide, tokens=self.wide_tokens)
        reviews = replace(won["LeJEPA"], text="reviews", span=12, tokens=self.search_tokens // 4)
        hybrid = replace(masked, method="hybrid", weight=won["LeJEPA"].weight, linear=True)
        transformers = {"LeJEPA": transformer, "masked": masked, "hybrid": hybrid}
        longer = self.longer * self.transformer_tokens
        return {
            **bags,
            **{f"{method}, transformer": row for method, row in transformers.items()},
            "LeJEPA, bag, wide": wide,
            "LeJEPA, bag, reviews": reviews,
            **{
                f"{method}, transformer, longer": replace(row, tokens=longer)
                for method, row in transformers.items()
            },
        }

    def _scale(self, won: Mapping[str, TextRow]) -> dict[str, TextRow]:
        """Whether it matters that the embedding can grow."""
        bag = replace(won["LeJEPA"], tokens=self.search_tokens)
        return {"it learns": bag, "it is fixed": replace(bag, fixed_scale=True)}

    def _scaling(self, won: Mapping[str, TextRow]) -> dict[str, TextRow]:
        bag = replace(won["LeJEPA"], tokens=self.scaling_tokens)
        rows = {f"share {share:g}": replace(bag, share=share) for share in self.shares}
        rows |= {
            f"width {width}": replace(bag, dimensions=width) for width in self.widths if width != 64
        }
        return rows

    def _stream(self, won: Mapping[str, TextRow]) -> dict[str, TextRow]:
        """The same on text that does not fit into memory."""
        bag = replace(won["LeJEPA"], text="stream", tokens=self.full_tokens)
        return {"LeJEPA, bag": bag}


def predictor_of(dimensions: int, *, linear: bool = False) -> nn.Module:
    """The source's predictor, a line and a normalisation, or the line alone."""
    line = nn.Linear(dimensions, dimensions)
    return line if linear else nn.Sequential(line, nn.LayerNorm(dimensions))


def _standardised(h: Tensor, num_slices: int) -> Tensor:
    """SIGReg of what is standardised first, as in the source's public notebook."""
    return sigreg((h - h.mean(dim=0)) / h.std(dim=0), num_slices=num_slices)


def _encoder(row: TextRow, text: Tensor, vocabulary: int) -> TextEncoder:
    weights = None
    if row.weights != "equal":
        weights = inverse_document_frequencies(text.view(-1, text.shape[1] // 2), vocabulary)
    return TextEncoder(
        vocabulary,
        dimensions=row.dimensions,
        heads=row.heads,
        layers=row.layers,
        dropout=0.0,
        token_std=row.token_std,
        positions=row.positions,
        norm_first=row.norm_first,
        identity_start=row.identity_start,
        weights=weights,
    )


def text_training(
    row: TextRow, text: Tensor, vocabulary: int, mask_id: int, *, num_slices: int = 1024
) -> JEPA | MaskedLM | HybridTraining:
    """A new training with new weights.

    Parameters
    ----------
    row : TextRow
        Its settings; the method is one that is trained.
    text : Tensor of int64, shape (P, L)
        The text that will be read, for the frequencies of its tokens.
    vocabulary : int
        Number of token ids V.
    mask_id : int
        A token that occurs in no text.
    num_slices : int, default 1024
        SIGReg's directions.

    Returns
    -------
    LightningModule

    Raises
    ------
    ValueError
        If the method is not one that is trained.
    """
    if row.method not in TRAINED:
        raise ValueError(f"method must be one of {', '.join(TRAINED)}, got {row.method!r}")
    encoder = _encoder(row, text, vocabulary)
    if row.fixed_scale:
        encoder.norm.requires_grad_(False)
    schedule = Schedule(row.falling, row.warmup, row.weight_decay, row.layer_rate)
    how = dict(learning_rate=row.learning_rate, schedule=schedule)
    predictor = predictor_of(row.dimensions, linear=row.linear)
    if row.method == "InfoNCE":
        objective = InfoNCE(temperature=row.temperature)
        return JEPA(encoder, predictor, objective=objective, **how)
    if row.method == "EMA":
        return JEPA(encoder, predictor, target_encoder=EMA(encoder, row.decay), **how)
    masked = None
    if row.method in ("masked", "hybrid"):
        ids, counts = text.unique(return_counts=True)
        masked = MaskedLM(encoder, mask_id=mask_id, candidates=ids, frequencies=counts, **how)
    if row.method == "masked":
        if encoder.weights is not None:  # its loss pools nothing, so they do not learn
            encoder.weights.requires_grad_(False)
        return masked
    penalty = {
        "SIGReg": SIGReg(num_slices=num_slices),
        "standardised SIGReg": partial(_standardised, num_slices=num_slices),
        "none": None,
    }[row.regularizer]
    jepa = JEPA(
        encoder,
        predictor,
        regularizer=penalty,
        weight=row.weight if penalty else 0.0,
        regularize=row.regularize,
        stop_gradient=row.stop_gradient,
        **how,
    )
    return HybridTraining(jepa, masked) if masked else jepa


# What all rows are measured by


@dataclass(frozen=True)
class _World:
    """Everything that is read."""

    train: Tensor  # (P, L)
    sides: dict[str, tuple[Tensor, Tensor]]  # of validation and test chunks, (G, L / 2) each
    articles: dict[str, Tensor]  # (G,)
    captions: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # ids and visible, twice
    reviews: dict[str, tuple[Tensor, Tensor]]  # ids and visible
    labels: dict[str, Tensor]
    tokenizer: Any
    mask_id: int

    @property
    def vocabulary(self) -> int:
        return len(self.tokenizer)

    def text(self, recipe: TextRecipe, row: TextRow) -> Tensor:
        """The chunks that a row reads, or that stand for a stream's frequencies."""
        if row.text == "reviews":
            ids, visible = self.reviews["train"]
            length = 2 * (row.span or 1)
            return ids[visible.sum(dim=1) >= length, :length]
        if row.text == "some":
            return self.train[: recipe.some]
        return self.train[: max(2, round(row.share * len(self.train)))]


def _padded(texts: Iterable[str], tokenizer: Any, mask_id: int) -> tuple[Tensor, Tensor]:
    """Texts as ids and visible, (P, L) both; one without tokens gets the one that means nothing."""
    rows = [
        torch.tensor(row or [mask_id])
        for row in tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    ]
    ids = pad_sequence(rows, batch_first=True, padding_value=mask_id)
    lengths = torch.tensor([len(row) for row in rows]).unsqueeze(1)
    return ids, torch.arange(ids.shape[1]) < lengths


def _all(ids: Tensor) -> tuple[Tensor, Tensor]:
    return ids, torch.ones_like(ids, dtype=torch.bool)


def _of(encoder: nn.Module) -> Vectors:
    return lambda ids, visible: embed(encoder, ids, visible, batch_size=200)


@dataclass(frozen=True)
class _Standard:
    """The one rule for all dense vectors: standardised by those of a part of the training text."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, vectors: Vectors, train: Tensor) -> _Standard:
        h = vectors(*_all(train[:1000].view(-1, train.shape[1] // 2)))
        return cls(h.mean(dim=0), h.std(dim=0).clamp(min=1e-12))

    def __call__(self, h: Tensor) -> Tensor:
        return (h - self.mean) / self.std


def _found(world: _World, split: str, vectors: Vectors, rule: Callable[[Tensor], Tensor]):
    """Recall of each chunk's second half by its first."""
    first, second = (rule(vectors(*_all(side))) for side in world.sides[split])
    return recall_at_k(first, second, ks=RECALLS), first, second


def _held_out_loss(
    world: _World, module: JEPA | MaskedLM | HybridTraining, halves: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """The loss on validation passages, in a JEPA's units or in nats a hidden token."""
    if isinstance(module, HybridTraining):
        parts = (module.jepa, module.masked)
        return {k: v for each in parts for k, v in _held_out_loss(world, each, halves).items()}
    if isinstance(module, MaskedLM):
        return _nats(module, world.sides["validation"][0][:200])
    first, second = halves
    if module.target_encoder is not module.context_encoder:
        second = _of(module.target_encoder)(*_all(world.sides["validation"][1]))
    with torch.no_grad():
        return {"validation loss": float(module.objective(module.predictor(first), second))}


def _nats(module: MaskedLM, ids: Tensor) -> dict[str, float]:
    """Cross-entropy of hidden tokens that the training text has, in nats a token."""
    known = torch.isin(ids, module.candidates)
    draws = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0))
    hidden = (draws < module.share) & known
    shown = ids.masked_fill(hidden, module.mask_id)
    sums = 0.0
    with torch.no_grad(), modes_kept(module):
        module.eval()
        table = module.encoder.tokens.weight[module.candidates]
        for part, where, true in zip(shown.split(50), hidden.split(50), ids.split(50)):
            h = module.encoder.encode_tokens(*_all(part))[where]
            wanted = torch.searchsorted(module.candidates, true[where])
            logits = nn.functional.linear(h, table, module.bias)
            sums += float(nn.functional.cross_entropy(logits, wanted, reduction="sum"))
    return {"nats": sums / int(hidden.sum())}


def _test_nats(world: _World, module: MaskedLM, text: Tensor) -> dict[str, float]:
    """The same on test passages, and what the tokens' frequencies alone are worth there."""
    first = world.sides["test"][0]
    known = first[torch.isin(first, module.candidates)]
    counts = torch.bincount(text.flatten(), minlength=world.vocabulary)
    unigram = -(counts[known] / counts.sum()).log().mean()
    return _nats(module, first) | {"unigram nats": float(unigram)}


def _look(
    world: _World, vectors: Vectors, module: JEPA | MaskedLM | HybridTraining
) -> dict[str, float]:
    """What is measured during a training."""
    rule = _Standard.of(vectors, world.train[:250])
    halves = {
        split: tuple(vectors(*_all(side)) for side in world.sides[split])
        for split in ("validation", "test")
    }
    seen = {split: recall_at_k(*map(rule, pair), ks=(10,))[10] for split, pair in halves.items()}
    seen["effective rank"] = float(effective_rank(halves["validation"][0]))
    # At their own places in the chunk, by which an encoder could tell targets from contexts.
    chunks = torch.cat(world.sides["validation"], dim=1)[:300]
    earlier = (torch.arange(chunks.shape[1]) < chunks.shape[1] // 2).expand(chunks.shape)
    for name, side in (("std", earlier), ("target std", ~earlier)):
        seen[name] = float(vectors(chunks, side).std(dim=0).mean())
    return seen | _held_out_loss(world, module, halves["validation"])


def _share_of_the_cut(encoder: nn.Module, chunks: Tensor, least: int) -> float:
    """Share of the variance of contexts that the place of the cut explains."""
    order = torch.randperm(len(chunks), generator=torch.Generator().manual_seed(0))
    chunks = chunks[order]  # neighbours share a topic
    length = chunks.shape[1]
    cuts = torch.linspace(least, length - least, len(chunks)).long()
    h = embed(encoder, chunks, ~span_mask(cuts, length), batch_size=100)
    gaps = h - h.mean(dim=0)
    means = torch.cat([part.mean(dim=0).expand(len(part), -1) for part in gaps.chunk(20)])
    return float(means.square().sum() / gaps.square().sum())


def _probed(world: _World, recipe: TextRecipe, seed: int, vectors: Vectors) -> dict[str, float]:
    """Accuracy on test reviews of a line fitted to some and to all training reviews."""
    h = {split: vectors(*world.reviews[split]) for split in ("train", "test")}
    order = torch.randperm(len(h["train"]), generator=torch.Generator().manual_seed(seed))
    scores = {}
    for number in (*recipe.labels, len(order)):
        rows = order[:number]
        probe = linear_probe(
            h["train"][rows],
            world.labels["train"][rows],
            h["test"],
            world.labels["test"],
            strengths=(1.0, 10.0, 100.0),
        )
        scores[_reviews(number, len(order))] = probe.score
    return scores


def _reviews(number: int, of: int) -> str:
    return f"reviews, {'all' if number == of else number}"


def _scores(world: _World, recipe: TextRecipe, seed: int, vectors: Vectors) -> dict[str, float]:
    rule = _Standard.of(vectors, world.train)
    chosen, _, _ = _found(world, "validation", vectors, rule)
    found, first, second = _found(world, "test", vectors, rule)
    pair = [rule(vectors(*caption)) for caption in world.captions]
    return {
        **{f"recall@{k}": value for k, value in found.items()},
        "validation": chosen[10],
        "article": label_precision(first, second, world.articles["test"], k=10),
        "effective rank": float(effective_rank(first)),
        "captions": recall_at_k(*pair, ks=(10,))[10],
        **_probed(world, recipe, seed, vectors),
    }


# The rows


def text_record(
    recipe: TextRecipe,
    wiki: LoadedData,
    photographs: LoadedData,
    reviews: LoadedData,
    tokenizer: Any,
    *,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = TEXT_PARTS[:-1],
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make encoders in all ways, and measure them; the record is written after every run.

    Parameters
    ----------
    recipe : TextRecipe
        Settings.
    wiki : LoadedData
        WikiText-2 or its sample: training, validation and test split.
    photographs, reviews : LoadedData
        Flickr8k, of which only captions of the test split are read, and Rotten Tomatoes.
    tokenizer : callable
        From `load_tokenizer`.
    name : str
        Name of the recipe: the record is ``folder/texts/name.json``.
    parts : sequence of str
        Of `TEXT_PARTS`. Those after "search" take the settings that won it. "stream", which reads
        FineWeb-Edu shard by shard, is done only where it is named.
    folder, checkpoints, seeds, say
        See `complete_record`. Ladder and search have seeds of their own number.
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
        If the record that is there has other settings or data, or the search that a part needs is
        not complete.
    """
    if unknown := [part for part in parts if part not in TEXT_PARTS]:
        raise ValueError(f"parts must be some of {', '.join(TEXT_PARTS)}, got {unknown}")
    world = _read(recipe, wiki, photographs, reviews, tokenizer)
    how = dict(devices=devices, nodes=nodes, progress=False)
    loaded = {"wikitext-2": wiki, "flickr8k": photographs, "rotten-tomatoes": reviews}
    path, record = Path(folder) / "texts" / f"{name}.json", {}
    for part in [part for part in TEXT_PARTS if part in parts]:
        won = _won(recipe, path) if part in TEXT_PARTS[4:] else {}
        if part == "search":
            wanted = range(1)
        else:
            wanted = range(recipe.ladder_seeds) if seeds is None and part == "ladder" else seeds
        record = complete_record(
            "texts",
            name,
            recipe=recipe,
            data={key: data.provenance.sha256 for key, data in loaded.items()},
            runs=[
                Run({"part": part, "row": row}, partial(_run, recipe, settings, world, how))
                for row, settings in recipe.rows(part, won).items()
            ],
            folder=folder,
            checkpoints=checkpoints,
            seeds=wanted,
            say=say,
        )
    return record


def _read(
    recipe: TextRecipe,
    wiki: LoadedData,
    photographs: LoadedData,
    reviews: LoadedData,
    tokenizer: Any,
) -> _World:
    half = recipe.length // 2
    mask_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")  # occurs in no text
    chunks = {
        split: token_chunks(
            wiki.data[split]["text"], tokenizer, length=recipe.length, progress=False
        )
        for split in ("train", "validation", "test")
    }
    held = {split: chunks[split][: recipe.gallery] for split in ("validation", "test")}
    photos = photographs.data["test"]
    captions = [[row[f"caption_{i}"] for row in photos.select_columns(_CAPTIONS)] for i in (0, 1)]
    return _World(
        train=chunks["train"],
        sides={split: (part[:, :half], part[:, half:]) for split, part in held.items()},
        articles={
            split: article_of_chunks(wiki.data[split]["text"], tokenizer, recipe.length)[
                : len(part)
            ]
            for split, part in held.items()
        },
        captions=tuple(_padded(texts, tokenizer, mask_id) for texts in captions),
        reviews={
            split: _padded(reviews.data[split]["text"], tokenizer, mask_id)
            for split in ("train", "test")
        },
        labels={split: torch.tensor(reviews.data[split]["label"]) for split in ("train", "test")},
        tokenizer=tokenizer,
        mask_id=mask_id,
    )


_CAPTIONS = ["caption_0", "caption_1"]


def _won(recipe: TextRecipe, path: Path) -> dict[str, TextRow]:
    """The settings of each method that found most on the validation articles."""
    runs = {run["row"]: run for run in read_record(path)["runs"] if run["part"] == "search"}
    rows = recipe.rows("search", {})
    if missing := [name for name in rows if name not in runs]:
        raise RecordError(f"the search is not complete: {', '.join(missing)}")
    best = {}
    for name in sorted(rows, key=lambda name: runs[name]["scores"]["validation"]):
        best[rows[name].method] = rows[name]
    return best


def _run(
    recipe: TextRecipe,
    row: TextRow,
    world: _World,
    how: dict[str, Any],
    seed: int,
    states: list[Path],
) -> Outcome:
    text = world.text(recipe, row)
    if row.method in TRAINED:
        entry = _trained(recipe, row, world, text, how, seed, states[0])
    else:
        started = time.process_time()
        torch.manual_seed(seed)
        if row.method == "TF-IDF":
            scores = measured(_tfidf_scores)(world, recipe, seed, text)
        else:
            vectors = _counted(row, text, world.vocabulary, seed)
            scores = measured(_scores)(world, recipe, seed, vectors)
        entry = {"scores": scores, "seconds": time.process_time() - started}
    entry["scores"] = {key: round(value, 4) for key, value in entry["scores"].items()}
    entry["seconds"] = round(entry["seconds"], 1)  # of one core, whatever else the machine does
    return Outcome(entry | {"row settings": asdict(row)})


def _stream(tokenizer: Any, length: int, rank: int, world_size: int) -> Iterator[Tensor]:
    """This process's own part of FineWeb-Edu, in chunks."""
    rows = stream_data("fineweb-edu", rank=rank, world_size=world_size)
    return stream_chunks((row["text"] for row in rows), tokenizer, length=length)


def _trained(
    recipe: TextRecipe,
    row: TextRow,
    world: _World,
    text: Tensor,
    how: dict[str, Any],
    seed: int,
    state: Path,
) -> dict[str, Any]:
    torch.manual_seed(seed)
    module = text_training(row, text, world.vocabulary, world.mask_id, num_slices=recipe.num_slices)
    encoder = getattr(module, "jepa", module)
    encoder = encoder.encoder if row.method == "masked" else encoder.context_encoder
    length = 2 * row.span if row.span else recipe.length
    cut = dict(
        min_length=min(recipe.min_length, length // 2),
        cut="middle" if row.span else row.cut,
        either_side=row.either_side,
        seed=seed,
    )
    if row.text == "stream":
        batch_size = row.batch_size
        passages, few = (
            partial(_stream, world.tokenizer, length),
            max(1, row.tokens // recipe.looks),
        )
        cut |= dict(chunks_per_epoch=max(batch_size, few // length))
    else:
        passages = text.flatten()
        passages = passages[: len(passages) // length * length].view(-1, length)
        batch_size = min(row.batch_size, len(passages) - 1)
        cut |= dict(shift=row.text != "reviews")  # a review ends where the next one begins
    data = SpanDataModule(passages, batch_size=batch_size, **cut)
    epochs = max(1, round(row.tokens / (data.steps * batch_size * length)))
    every = -(-epochs // recipe.looks)
    looked = [0.0]

    def look() -> dict[str, float]:
        step = module.trainer.global_step  # counted on where a training goes on
        passed = step // data.steps
        if passed % every and passed != epochs:
            return {}
        began = time.process_time()
        with torch.no_grad():
            seen = _look(world, _of(encoder), module)
        looked[0] += time.process_time() - began
        return {"step": float(step)} | seen

    started = time.process_time()
    history = fit(module, data, epochs=epochs, seed=seed, monitor=look, checkpoint=state, **how)
    seconds = time.process_time() - started - looked[0]
    module.cpu().eval()
    scores = measured(_scores)(world, recipe, seed, _of(encoder))
    if row.method in ("masked", "hybrid"):
        scores |= _test_nats(world, module if row.method == "masked" else module.masked, text)
    if not row.span:
        some = world.train[: recipe.some]
        scores["share of the cut"] = _share_of_the_cut(encoder, some, recipe.min_length)
    monitors = [seen for seen in history.monitors if seen]
    curves = {key: [round(seen[key], 4) for seen in monitors] for key in monitors[0]}
    losses = {key: [round(x, 4) for x in values] for key, values in history.losses.items()}
    steps = epochs * data.steps
    passes = round(steps * batch_size * length / text.numel(), 2)
    return {
        "scores": scores,
        "seconds": seconds,
        "steps": steps,
        "samples": steps * batch_size,
        **({} if row.text == "stream" else {"passes": passes}),  # it is read once
        "curves": curves | {"losses": losses},
    }


# Rivals that count


def _counted(row: TextRow, text: Tensor, vocabulary: int, seed: int) -> Vectors:
    documents = text.view(-1, text.shape[1] // 2)
    how = dict(dimensions=row.dimensions, seed=seed)
    if row.method == "random":
        return random_vectors(documents, vocabulary, **how)
    if row.method == "PPMI + SVD":
        return ppmi_vectors(documents, vocabulary, **how)
    if row.method == "LSA":
        return lsa_vectors(documents, **how)
    return _of(_encoder(row, text, vocabulary).eval())


def _tfidf_scores(world: _World, recipe: TextRecipe, seed: int, text: Tensor) -> dict[str, float]:
    """TF-IDF has a number for each token: its vectors are not standardised."""
    vectors = tfidf_vectors(text.view(-1, text.shape[1] // 2))

    def same(h: Tensor) -> Tensor:
        return h

    chosen, _, _ = _found(world, "validation", vectors, same)
    found, first, second = _found(world, "test", vectors, same)
    scores = {
        **{f"recall@{k}": value for k, value in found.items()},
        "validation": chosen[10],
        "article": label_precision(first, second, world.articles["test"], k=10),
        "captions": recall_at_k(*(vectors(*caption) for caption in world.captions), ks=(10,))[10],
    }
    # Reviews are the only text that a counting model needs here: the frequencies are theirs.
    ids, visible = world.reviews["train"]
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    for number in (*recipe.labels, len(order)):
        rows = order[:number]
        scores[_reviews(number, len(order))] = tfidf_accuracy(
            (ids[rows], visible[rows]),
            world.labels["train"][rows],
            world.reviews["test"],
            world.labels["test"],
        )
    return scores
