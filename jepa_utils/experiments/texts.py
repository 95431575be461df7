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

from jepa_utils.data.batches import SpanDataModule
from jepa_utils.data.load import LoadedData
from jepa_utils.data.tokens import stream_chunks, stream_data
from jepa_utils.evaluation.counted_texts import (
    Vectors,
    inverse_document_frequencies,
    lsa_vectors,
    ppmi_vectors,
    random_vectors,
    tfidf_vectors,
)
from jepa_utils.experiments.store import (
    Outcome,
    RecordError,
    Run,
    complete_record,
    measured,
    read_record,
)
from jepa_utils.experiments.text_measures import (
    TextData,
    held_out_nats,
    look,
    share_of_the_cut,
    text_scores,
    tfidf_scores,
    vectors_of,
)
from jepa_utils.models.ema import EMA
from jepa_utils.models.text import TextEncoder
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.objectives.sigreg import SIGReg, sigreg
from jepa_utils.training.baselines import HybridTraining, MaskedLM
from jepa_utils.training.fit import fit
from jepa_utils.training.jepa import JEPA
from jepa_utils.training.optimizers import Schedule

__all__ = [
    "AFTER_SEARCH",
    "TEXT_PARTS",
    "TEXT_RECIPES",
    "TextRecipe",
    "TextRow",
    "text_batches",
    "text_record",
    "text_training",
]

TEXT_RECIPES = ("tiny", "page")  # constructors of TextRecipe

# These take the settings that won the search.
AFTER_SEARCH = ("full", "scale", "scaling", "depth", "stream")
TEXT_PARTS = ("counts", "five", "ladder", "search", *AFTER_SEARCH)

TRAINED = ("LeJEPA", "InfoNCE", "EMA", "masked", "hybrid")
COUNTED = ("TF-IDF", "LSA", "random", "PPMI + SVD")
METHODS = (*TRAINED, "untrained", *COUNTED)


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
    longer: tuple[int, ...] = (3, 12)  # times as many: is an order of methods one of budgets?
    wide_tokens: int = 10_000_000
    scaling_tokens: int = 15_000_000
    shares: tuple[float, ...] = (0.0625, 0.125, 0.25, 0.5, 1.0)
    widths: tuple[int, ...] = (16, 32, 64, 128)
    depths: tuple[int, ...] = (0, 1, 4)  # beside 2, which has its row already
    wide: int = 512  # dimensions of the wide encoders
    labels: tuple[int, ...] = (50, 500)  # labelled reviews, beside all
    looks: int = 4  # measurements during a training
    num_seeds: int = 3
    ladder_seeds: int = 5

    @classmethod
    def tiny(cls) -> TextRecipe:
        """For tests: built-in sample, seconds."""
        sizes = dict(length=128, min_length=8, gallery=60, num_slices=32, some=60)
        few = dict(
            shares=(0.5, 1.0),
            widths=(64,),
            depths=(1,),
            longer=(2,),
            labels=(50,),
            looks=2,
            wide=128,
        )
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
            "depth": partial(self._depth, won),
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
        return {
            **bags,
            **{f"{method}, transformer": row for method, row in transformers.items()},
            "LeJEPA, bag, wide": wide,
            "LeJEPA, bag, reviews": reviews,
            **{
                f"{method}, transformer, {times} times": replace(row, tokens=times * row.tokens)
                for times in self.longer
                for method, row in transformers.items()
            },
            # The rates that suit the masked model's layers need not suit the sum of both losses.
            "hybrid, slow layers": replace(
                hybrid, layer_rate=TRANSFORMER.layer_rate, tokens=self.longer[0] * hybrid.tokens
            ),
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

    def _depth(self, won: Mapping[str, TextRow]) -> dict[str, TextRow]:
        tokens = self.longer[0] * self.transformer_tokens
        row = replace(TRANSFORMER, weight=won["LeJEPA"].weight, tokens=tokens)
        return {f"layers {depth}": replace(row, layers=depth) for depth in self.depths}

    def _stream(self, won: Mapping[str, TextRow]) -> dict[str, TextRow]:
        """The same on text that does not fit into memory."""
        bag = replace(won["LeJEPA"], text="stream", tokens=self.full_tokens)
        return {"LeJEPA, bag": bag}


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
    predictor = nn.Linear(row.dimensions, row.dimensions)
    if not row.linear:
        predictor = nn.Sequential(predictor, nn.LayerNorm(row.dimensions))
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


def text_batches(
    row: TextRow,
    passages: Tensor | Callable[[int, int], Iterable[Tensor]],
    *,
    min_length: int = 32,
    chunks_per_epoch: int | None = None,
    seed: int = 0,
) -> SpanDataModule:
    """The batches that a row is trained on: contexts and targets, cut as the row says.

    Parameters
    ----------
    row : TextRow
        Its settings.
    passages : Tensor of int64, shape (P, L), or callable
        Running text, which goes on from row to row, or reviews, which do not; where the row has a
        span, it is cut anew into chunks of two spans. Or a stream of chunks, as for
        `SpanDataModule`; these are as long as the row needs.
    min_length : int, default 32
        Shortest part of a chunk that is cut at random, in tokens.
    chunks_per_epoch, seed
        As for `SpanDataModule`.

    Returns
    -------
    SpanDataModule
        Of batches of `row.batch_size`, or of all chunks but one where the text has no more. The
        borders between chunks move from epoch to epoch, but for reviews and streams.

    Raises
    ------
    ValueError
        As `SpanDataModule`; also if the text does not fill two chunks.
    """
    batch_size, shift = row.batch_size, False
    if isinstance(passages, Tensor):
        length = 2 * row.span if row.span else passages.shape[-1]
        passages = passages.flatten()
        passages = passages[: len(passages) // length * length].view(-1, length)
        if len(passages) < 2:
            raise ValueError(
                f"passages must fill two chunks of {length} tokens, got {len(passages)}"
            )
        batch_size = min(batch_size, len(passages) - 1)
        shift = row.text != "reviews"  # a review ends where the next one begins
    return SpanDataModule(
        passages,
        batch_size=batch_size,
        min_length=min(min_length, row.span) if row.span else min_length,
        cut="middle" if row.span else row.cut,
        either_side=row.either_side,
        shift=shift,
        chunks_per_epoch=chunks_per_epoch,
        seed=seed,
    )


# What is run


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
        Of `TEXT_PARTS`. Those of `AFTER_SEARCH` take the settings that won the search. "stream",
        which reads FineWeb-Edu shard by shard, is done only where it is named.
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
    data = TextData.read(
        wiki, photographs, reviews, tokenizer, length=recipe.length, gallery=recipe.gallery
    )
    how = dict(devices=devices, nodes=nodes, progress=False)
    loaded = {"wikitext-2": wiki, "flickr8k": photographs, "rotten-tomatoes": reviews}
    path, record = Path(folder) / "texts" / f"{name}.json", {}
    for part in [part for part in TEXT_PARTS if part in parts]:
        won = _won(recipe, path) if part in AFTER_SEARCH else {}
        if part == "search":
            wanted = range(1)
        else:
            wanted = range(recipe.ladder_seeds) if seeds is None and part == "ladder" else seeds
        record = complete_record(
            "texts",
            name,
            recipe=recipe,
            data={key: part.provenance.sha256 for key, part in loaded.items()},
            runs=[
                Run({"part": part, "row": row}, partial(_run, recipe, settings, data, how))
                for row, settings in recipe.rows(part, won).items()
            ],
            folder=folder,
            checkpoints=checkpoints,
            seeds=wanted,
            say=say,
        )
    return record


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


def _text(recipe: TextRecipe, row: TextRow, data: TextData) -> Tensor:
    """The chunks that a row reads, or that stand for a stream's frequencies."""
    if row.text == "reviews":
        ids, visible = data.reviews["train"]
        length = 2 * (row.span or 1)
        return ids[visible.sum(dim=1) >= length, :length]
    if row.text == "some":
        return data.train[: recipe.some]
    return data.train[: max(2, round(row.share * len(data.train)))]


def _run(
    recipe: TextRecipe,
    row: TextRow,
    data: TextData,
    how: dict[str, Any],
    seed: int,
    states: list[Path],
) -> Outcome:
    text = _text(recipe, row, data)
    if row.method in TRAINED:
        entry = _trained(recipe, row, data, text, how, seed, states[0])
    else:
        started = time.process_time()
        torch.manual_seed(seed)
        vectors = _counted(row, text, data.vocabulary, seed)
        measure = tfidf_scores if row.method == "TF-IDF" else text_scores
        scores = measured(measure)(data, vectors, labels=recipe.labels, seed=seed)
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
    data: TextData,
    text: Tensor,
    how: dict[str, Any],
    seed: int,
    state: Path,
) -> dict[str, Any]:
    torch.manual_seed(seed)
    module = text_training(row, text, data.vocabulary, data.mask_id, num_slices=recipe.num_slices)
    encoder = getattr(module, "jepa", module)
    encoder = encoder.encoder if row.method == "masked" else encoder.context_encoder
    length = 2 * row.span if row.span else recipe.length
    passages, per_epoch = text, None
    if row.text == "stream":
        passages = partial(_stream, data.tokenizer, length)
        per_epoch = max(row.batch_size, row.tokens // recipe.looks // length)
    batches = text_batches(
        row, passages, min_length=recipe.min_length, chunks_per_epoch=per_epoch, seed=seed
    )
    tokens = batches.batch_size * length  # that a step reads
    epochs = max(1, round(row.tokens / (batches.steps * tokens)))
    every = -(-epochs // recipe.looks)
    looked = [0.0]

    def monitor() -> dict[str, float]:
        step = module.trainer.global_step  # counted on where a training goes on
        passed = step // batches.steps
        if passed % every and passed != epochs:
            return {}
        began = time.process_time()
        with torch.no_grad():
            seen = look(data, vectors_of(encoder), module)
        looked[0] += time.process_time() - began
        return {"step": float(step)} | seen

    started = time.process_time()
    history = fit(
        module, batches, epochs=epochs, seed=seed, monitor=monitor, checkpoint=state, **how
    )
    seconds = time.process_time() - started - looked[0]
    module.cpu().eval()
    scores = measured(text_scores)(data, vectors_of(encoder), labels=recipe.labels, seed=seed)
    if row.method in ("masked", "hybrid"):
        scores |= held_out_nats(data, module if row.method == "masked" else module.masked, text)
    if not row.span:
        some = data.train[: recipe.some]
        scores["share of the cut"] = share_of_the_cut(encoder, some, recipe.min_length)
    monitors = [seen for seen in history.monitors if seen]
    curves = {key: [round(seen[key], 4) for seen in monitors] for key in monitors[0]}
    losses = {key: [round(x, 4) for x in values] for key, values in history.losses.items()}
    steps = epochs * batches.steps
    passes = round(steps * tokens / text.numel(), 2)
    return {
        "scores": scores,
        "seconds": seconds,
        "steps": steps,
        "samples": steps * batches.batch_size,
        **({} if row.text == "stream" else {"passes": passes}),  # it is read once
        "curves": curves | {"losses": losses},
    }


def _counted(row: TextRow, text: Tensor, vocabulary: int, seed: int) -> Vectors:
    """What counts in a text, or draws at random; an encoder is drawn by torch's own generator."""
    documents = text.view(-1, text.shape[1] // 2)
    how = dict(dimensions=row.dimensions, seed=seed)
    if row.method == "TF-IDF":
        return tfidf_vectors(documents)
    if row.method == "LSA":
        return lsa_vectors(documents, **how)
    if row.method == "random":
        return random_vectors(documents, vocabulary, **how)
    if row.method == "PPMI + SVD":
        return ppmi_vectors(documents, vocabulary, **how)
    return vectors_of(_encoder(row, text, vocabulary).eval())
