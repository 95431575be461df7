"""Chapter 5's experiment on questions: is the relation read, what do visual words lose, and does it
matter who sees whom?

VL-JEPA's way of answering, on scenes of three objects: from visual tokens and a question to the
embedding of the answer. Six parts:

- "search": the learning rate, by the answers about validation scenes, for each kind of network.
- "main": the frozen eye, and the eye as it was drawn.
- "centres": each visual token replaced by the nearest of K centres, as a visual vocabulary does it.
- "attention": the same network with causal attention, read from its last word.
- "relation": both attentions with twice as many scenes, half of which are asked where one object is
  from another one. All other rows are asked for objects alone.
- "pixels": raw patches in place of the eye's tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import CaptionDataModule
from jepa_utils.data.images import normalize
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.data.triples import (
    Questions,
    Triples,
    object_questions,
    relation_questions,
    triples,
)
from jepa_utils.evaluation.encode import embed, frozen_tokens
from jepa_utils.experiments.cifar10 import VisionRecipe
from jepa_utils.experiments.store import (
    Outcome,
    RecordError,
    Run,
    complete_record,
    measured,
    read_record,
)
from jepa_utils.models.checkpoints import load_encoder, save_weights
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import CausalQueryPredictor, QueryPredictor
from jepa_utils.models.vit import ViT, patchify
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.training.jepa import train_pair
from jepa_utils.training.optimizers import Schedule

__all__ = [
    "QUESTION_PARTS",
    "QUESTION_RECIPES",
    "QuestionRecipe",
    "QuestionRow",
    "folded",
    "question_record",
    "question_scores",
]

QUESTION_RECIPES = ("tiny", "page")  # constructors of QuestionRecipe
QUESTION_PARTS = ("search", "main", "centres", "attention", "relation", "pixels")

EYES = ("I-JEPA", "as drawn", "pixels")
ATTENTION = {"bidirectional": QueryPredictor, "causal": CausalQueryPredictor}
_LONGEST = 12  # words of a question, at most
_SAMPLE = 100_000  # tokens that the centres are looked for among


@dataclass(frozen=True)
class QuestionRow:
    """One way to answer."""

    eye: str = "I-JEPA"  # of EYES
    centres: int | None = None  # each token becomes the nearest of so many; None leaves it alone
    attention: str = "bidirectional"  # of ATTENTION
    both: bool = False  # kinds of questions, with twice as many scenes; else objects alone
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        if self.eye not in EYES:
            raise ValueError(f"eye must be one of {', '.join(EYES)}, got {self.eye!r}")
        if self.attention not in ATTENTION:
            raise ValueError(
                f"attention must be one of {', '.join(ATTENTION)}, got {self.attention!r}"
            )

    @property
    def kind(self) -> str:
        """Rows of one kind take the settings of one search."""
        if self.attention == "causal":
            return "causal"
        return "tokens" if self.centres is None else "centres"

    @property
    def asks(self) -> tuple[str, ...]:
        """Kinds of questions."""
        return tuple(KINDS) if self.both else ("object",)


@dataclass(frozen=True)
class QuestionRecipe:
    """Settings that all rows share."""

    scenes: int = 10_000  # to train on, each with one question
    gallery: int = 1000  # scenes of the test
    validation: int = 1000  # scenes for choosing
    width: int = 64  # of the predictor
    layers: int = 2
    batch_size: int = 64
    passes: int = 2  # over the scenes before the learning rate falls, and as many while it falls
    relation_passes: int = 3  # the same where both kinds of questions are asked
    search_passes: int = 1  # of the search, in which it does not fall
    rates: tuple[float, ...] = (2e-3, 4e-3, 8e-3)  # of the search
    searched_centres: int = 64  # that stand for all numbers of centres in the search
    centres: tuple[int, ...] = (16, 1024, 64, 256)  # in the order in which they are run
    num_seeds: int = 3

    @classmethod
    def tiny(cls) -> QuestionRecipe:
        """For tests: few scenes, one pass."""
        sizes = dict(scenes=96, gallery=40, validation=30, width=16, layers=1, batch_size=32)
        few = dict(
            passes=1,
            relation_passes=1,
            search_passes=1,
            rates=(4e-3,),
            searched_centres=8,
            centres=(8,),
        )
        return cls(**sizes, **few, num_seeds=1)

    @classmethod
    def page(cls) -> QuestionRecipe:
        """As on the page."""
        return cls()

    def rows(self, part: str, won: Mapping[str, QuestionRow]) -> dict[str, QuestionRow]:
        """The rows of a part by name; `won` are the settings that the search has chosen."""
        if part == "search":
            kinds = [QuestionRow(), QuestionRow(centres=self.searched_centres)]
            kinds += [QuestionRow(attention="causal")]
            return {
                f"{row.kind}, {rate:g}": replace(row, learning_rate=rate)
                for row in kinds
                for rate in self.rates
            }
        if part == "centres":
            return {f"{k} centres": replace(won["centres"], centres=k) for k in self.centres}
        if part == "attention":
            return {"causal": won["causal"]}
        if part == "relation":
            named = {"bidirectional": won["tokens"], "causal": won["causal"]}
            return {name: replace(row, both=True) for name, row in named.items()}
        # Other eyes are controls, with the settings of the trained one.
        eyes = {"main": ("I-JEPA", "as drawn"), "pixels": ("pixels",)}[part]
        return {eye: replace(won["tokens"], eye=eye) for eye in eyes}

    def networks(
        self, row: QuestionRow, vocabulary: int, *, dimensions: int = 384
    ) -> tuple[QueryPredictor, TextEncoder]:
        """New networks: one answers, from tokens and a question; the other one reads answers.

        Parameters
        ----------
        row : QuestionRow
        vocabulary : int
            Number of token ids, of questions and answers together.
        dimensions : int, default 384
            Width of the folded tokens; by default that of chapter 4's encoder.
        """
        predictor = ATTENTION[row.attention](
            dimensions,
            (4, 4),
            128,
            vocabulary=vocabulary,
            places=_LONGEST,
            width=self.width,
            layers=self.layers,
            dropout=0.0,
        )
        return predictor, TextEncoder(
            vocabulary, dimensions=128, heads=4, layers=0, max_length=32, dropout=0.0, token_std=0.1
        )


def question_record(
    recipe: QuestionRecipe,
    *,
    encoder: Path | str,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = QUESTION_PARTS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Answer in all ways; the record is written after every run.

    The networks of the frozen eye, first seed, are saved beside the record.

    Parameters
    ----------
    recipe : QuestionRecipe
        Settings.
    encoder : path
        Checkpoint of the frozen eye, for 32x32 pixels with an 8x8 grid of tokens.
    name : str
        Name of the recipe: the record is ``folder/questions/name.json``.
    folder, checkpoints, seeds, say
        See `complete_record`. The search has one seed.
    parts : sequence of str
        Of `QUESTION_PARTS`. All but the first take the settings that won the search.
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
    CheckpointError
        If the encoder is missing or damaged.
    """
    if unknown := [part for part in parts if part not in QUESTION_PARTS]:
        raise ValueError(f"parts must be some of {', '.join(QUESTION_PARTS)}, got {unknown}")
    encoder = Path(encoder)
    bench = _Bench(recipe, load_encoder(encoder)[0], dict(devices=devices, nodes=nodes))
    path, record = Path(folder) / "questions" / f"{name}.json", {}
    for part in [part for part in QUESTION_PARTS if part in parts]:
        search = part == "search"
        rows = recipe.rows(part, {} if search else _best(recipe, read_record(path)["runs"]))
        record = complete_record(
            "questions",
            name,
            recipe=recipe,
            data={"encoder": hashlib.sha256(encoder.read_bytes()).hexdigest()},
            runs=[
                Run(
                    {"part": part, "row": key},
                    partial(bench.search_run if search else bench.run, row),
                    stages=1 if search else 2,
                )
                for key, row in rows.items()
            ],
            folder=folder,
            checkpoints=checkpoints,
            seeds=range(1) if search else seeds,
            seeds_outside=False,
            say=say,
        )
    return record


def _best(recipe: QuestionRecipe, runs: Sequence[dict[str, Any]]) -> dict[str, QuestionRow]:
    """The settings of each kind of row that answered most about validation scenes."""
    found = {run["row"]: run["scores"]["object, right"] for run in runs if run["part"] == "search"}
    rows = recipe.rows("search", {})
    if missing := [name for name in rows if name not in found]:
        raise RecordError(f"the search is not complete: {', '.join(missing)}")
    return {rows[name].kind: rows[name] for name in sorted(rows, key=found.get)}


def folded(tokens: Tensor) -> Tensor:
    """Tokens of a square grid, four neighbours put together into a longer one: nothing is lost.

    Parameters
    ----------
    tokens : Tensor, shape (N, 64, D)
        Row by row of an 8x8 grid.

    Returns
    -------
    Tensor, shape (N, 16, 4 * D)
        Row by row of a 4x4 grid, which costs a transformer a third of the time.

    Raises
    ------
    ValueError
        If the shape is another.
    """
    if tokens.dim() != 3 or tokens.shape[1] != 64:
        raise ValueError(f"tokens must have shape (N, 64, D), got {tuple(tokens.shape)}")
    square = tokens.unflatten(1, (4, 2, 4, 2)).transpose(2, 3)  # (N, 4, 4, 2, 2, D)
    return square.flatten(3).flatten(1, 2)


def question_scores(
    predictor: Callable[..., Tensor],
    text: Callable[..., Tensor],
    reader: CaptionTokenizer,
    tokens: Tensor,
    asked: Questions,
    choices: Sequence[str],
) -> dict[str, float]:
    """How often the predicted embedding is nearest to the right answer, and to which without.

    Parameters
    ----------
    predictor, text : nn.Module
        Tokens, ids and visible of questions to embeddings (N, E); ids and visible of answers to
        embeddings.
    reader : CaptionTokenizer
        Of questions and answers.
    tokens : Tensor, shape (N, K, D)
        Of the scenes.
    asked : Questions
        One for each scene.
    choices : sequence of str
        All answers that are possible.

    Returns
    -------
    dict of str to float
        Shares of the scenes: "right" among all choices; "of two": nearer to the answer than to the
        rival; "inverted": the same, of the same answer, when the question is inverted, so that the
        rival is right; "another's": right among all choices when the next scene's question is put.
    """
    known = F.normalize(embed(text, *reader(list(choices))), dim=1)
    number = {choice: i for i, choice in enumerate(choices)}
    right, rival = (
        torch.tensor([number[x] for x in lines]) for lines in (asked.answers, asked.rivals)
    )

    def likeness(questions: Sequence[str]) -> Tensor:
        return F.normalize(embed(predictor, tokens, *reader(list(questions))), dim=1) @ known.T

    def share(found: Tensor) -> float:
        return float(found.double().mean())

    def preferred(scores: Tensor) -> float:
        mine, other = (scores.gather(1, x[:, None]) for x in (right, rival))
        return share((mine > other) + 0.5 * (mine == other))  # who cannot tell, guesses

    straight = likeness(asked.questions)
    others = likeness([*asked.questions[1:], asked.questions[0]])
    return {
        "right": share(straight.argmax(dim=1) == right),
        "of two": preferred(straight),
        "inverted": preferred(likeness(asked.inverted)),
        "another's": share(others.argmax(dim=1) == right),
    }


KINDS: dict[str, Callable[..., Questions]] = {
    "object": object_questions,
    "relation": relation_questions,
}


class _Bench:
    """What the rows share, each thing made when it is first needed."""

    def __init__(self, recipe: QuestionRecipe, encoder: ViT, how: dict[str, Any]):
        self.recipe, self.encoder, self.how = recipe, encoder, how
        self._looked: dict[str, dict[str, Tensor]] = {}

    @cached_property
    def worlds(self) -> dict[str, Triples]:
        sizes = (2 * self.recipe.scenes, self.recipe.validation, self.recipe.gallery)
        splits = ("train", "validation", "test")
        return {
            split: triples(size, split=split, seed=i)
            for i, (split, size) in enumerate(zip(splits, sizes, strict=True))
        }

    @cached_property
    def asked(self) -> dict[str, dict[str, Questions]]:
        return {
            split: {kind: ask(world, seed=0) for kind, ask in KINDS.items()}
            for split, world in self.worlds.items()
        }

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        answers = {
            kind: {x for asked in self.asked.values() for x in asked[kind].answers}
            | {x for asked in self.asked.values() for x in asked[kind].rivals}
            for kind in KINDS
        }
        return {kind: sorted(lines) for kind, lines in answers.items()}

    def lessons(self, row: QuestionRow) -> tuple[list[str], list[str]]:
        """Questions and answers to train on, one for each scene, the kinds in turn."""
        asked = [self.asked["train"][kind] for kind in row.asks]
        kinds, number = len(asked), len(row.asks) * self.recipe.scenes
        questions = [asked[i % kinds].questions[i] for i in range(number)]
        return questions, [asked[i % kinds].answers[i] for i in range(number)]

    @cached_property
    def reader(self) -> CaptionTokenizer:
        every = [line for kind in self.asked["train"].values() for line in kind.questions]
        return CaptionTokenizer.from_captions(every + sum(self.choices.values(), []))

    def tokens(self, eye: str, centres: int | None = None) -> dict[str, Tensor]:
        """Folded tokens of each split; the last ones are kept, for the next seed."""
        name = f"{eye}, {centres}"
        if name in self._looked:
            return self._looked[name]
        if centres is None:
            images = {split: world.images for split, world in self.worlds.items()}
            if eye != "I-JEPA":  # asked for objects alone
                images["train"] = images["train"][: self.recipe.scenes]
            seen = {split: folded(self._look(eye, part)) for split, part in images.items()}
        else:
            whole = {
                split: part[: self.recipe.scenes].unflatten(2, (4, -1))
                for split, part in self.tokens(eye).items()
            }  # (N, 16, 4, D)
            table = _table(whole["train"], centres)
            seen = {split: _nearest(part, table).flatten(2) for split, part in whole.items()}
            self.lost = float((seen["test"] - whole["test"].flatten(2)).float().square().mean())
            self.lost /= float(whole["test"].float().flatten(0, 2).var(dim=0).mean())
        keep = {key: part for key, part in self._looked.items() if key == "I-JEPA, None"}
        self._looked = keep | {name: seen}
        return seen

    def _look(self, eye: str, images: Tensor) -> Tensor:
        if eye == "pixels":
            return torch.cat([patchify(normalize(part), 4).half() for part in images.split(500)])
        encoder = self.encoder
        if eye == "as drawn":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                encoder = VisionRecipe.one_pass().encoder()
        return frozen_tokens(encoder, images)

    def trained(
        self, row: QuestionRow, seed: int, states: list[Path], split: str
    ) -> tuple[nn.ModuleList, dict[str, Any]]:
        """Networks, and an entry with scores at half of the budget and in the end."""
        recipe, seen = self.recipe, self.tokens(row.eye, row.centres)
        torch.manual_seed(seed)
        networks = recipe.networks(row, len(self.reader), dimensions=seen["train"].shape[2])
        questions, answers = self.lessons(row)
        every = sorted(set(answers))
        batches = CaptionDataModule(
            seen["train"][: len(answers)],
            tuple(part.unsqueeze(1) for part in self.reader(answers)),
            questions=tuple(part.unsqueeze(1) for part in self.reader(questions)),
            groups=torch.tensor([every.index(answer) for answer in answers]),
            batch_size=recipe.batch_size,
            seed=seed,
        )
        objective, losses, seconds, scores = InfoNCE(learn_temperature=True), [], 0.0, []
        passes, stages = recipe.search_passes, [Schedule(falling=False)]
        if split == "test":
            passes = recipe.relation_passes if row.both else recipe.passes
            stages.append(Schedule(warmup=0.02))
        for stage, (schedule, state) in enumerate(zip(stages, states, strict=True)):
            _, history = train_pair(
                *networks,
                batches,
                epochs=passes,
                seed=seed + 1000 * stage,
                objective=objective,
                learning_rate=row.learning_rate,
                schedule=schedule,
                checkpoint=state,
                **self.how,
            )
            losses += history.losses["loss"]
            seconds += history.seconds
            found = {}
            for kind in row.asks:
                about = self.asked[split][kind], self.choices[kind]
                part = measured(question_scores)(*networks, self.reader, seen[split], *about)
                found |= {f"{kind}, {name}": round(share, 4) for name, share in part.items()}
            scores.append(found)
        steps = batches.steps * passes * len(stages)
        entry = {
            "scores": scores[-1],
            "seconds": round(seconds, 1),
            "half": scores[0],
            "steps": steps,
            "samples": steps * recipe.batch_size,
            "parameters": sum(p.numel() for network in networks for p in network.parameters()),
            "losses": [float(f"{x:.4g}") for x in losses],
            "row settings": asdict(row),
        }
        return nn.ModuleList(networks), entry

    def search_run(self, row: QuestionRow, seed: int, states: list[Path]) -> Outcome:
        _, entry = self.trained(row, seed, states, "validation")
        entry.pop("half")
        return Outcome(entry)

    def run(self, row: QuestionRow, seed: int, states: list[Path]) -> Outcome:
        networks, entry = self.trained(row, seed, states, "test")
        if row.centres is not None:
            entry["scores"]["lost"] = round(self.lost, 4)
        if row != replace(QuestionRow(), learning_rate=row.learning_rate):
            return Outcome(entry)
        words = self.reader.vocabulary
        card = {
            "what": "predictor of answers (0) and text encoder (1) for scenes of three objects, on "
            "the frozen encoder's folded tokens",
            "words": dict(zip(words.words, words.counts, strict=True)),
        }
        return Outcome(entry, save=partial(save_weights, networks), card=card)


def _table(tokens: Tensor, centres: int) -> Tensor:
    """K centres (K, D) of training tokens (N, ..., D), by k-means."""
    rows = tokens.flatten(0, -2)
    draw = torch.Generator().manual_seed(0)
    some = rows[torch.randperm(len(rows), generator=draw)[:_SAMPLE]].float()
    found = MiniBatchKMeans(centres, batch_size=4096, n_init=1, random_state=0).fit(some.numpy())
    return torch.from_numpy(found.cluster_centers_).float()


def _nearest(tokens: Tensor, table: Tensor) -> Tensor:
    """Each token (..., D) replaced by the nearest centre, in half precision."""
    half = table.half()
    parts = []
    for part in tokens.split(500):
        away = table.square().sum(dim=1) - 2 * part.float() @ table.T
        parts.append(half[away.argmin(dim=-1)])
    return torch.cat(parts)
