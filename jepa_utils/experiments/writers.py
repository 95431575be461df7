"""Chapter 5's comparison: say a scene's caption word by word, or predict its embedding.

- "words": an image head and a decoder, trained together on pairs by cross-entropy.
- "embeddings": the same image head and a text encoder, trained on pairs by InfoNCE; afterwards a
  decoder that has seen texts only writes what the predicted embedding says (VL-JEPA's way).

What learns from pairs has equally many parameters in both, sees the same batches, and has its
learning rate chosen by the same search.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import CaptionDataModule, Words
from jepa_utils.data.scene_films import scene_film
from jepa_utils.data.scenes import ATTRIBUTES, Scenes, every_caption, scene_contents, scenes
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.evaluation.caption_tests import true_caption_preferred
from jepa_utils.evaluation.encode import embed, frozen_tokens
from jepa_utils.evaluation.selective import (
    latest_decoding,
    moved_moments,
    random_moments,
    uniform_moments,
)
from jepa_utils.evaluation.written_captions import attributes_right, read_captions, written_captions
from jepa_utils.experiments.store import (
    Outcome,
    RecordError,
    Run,
    complete_record,
    measured,
    read_record,
)
from jepa_utils.models.checkpoints import load_encoder
from jepa_utils.models.text import TextDecoder, TextEncoder
from jepa_utils.models.vision_language import ImageHead
from jepa_utils.training.baselines import CaptionTraining
from jepa_utils.training.fit import History, fit
from jepa_utils.training.jepa import JEPA, train_pair
from jepa_utils.training.optimizers import Schedule, optimizer_of

__all__ = ["ARMS", "WRITER_PARTS", "WRITER_RECIPES", "Blur", "WriterRecipe", "writer_record"]

WRITER_RECIPES = ("tiny", "page")  # constructors of WriterRecipe

WRITER_PARTS = ("search", "blur", "curve", "longest")

ARMS = ("words", "embeddings")

_SEEN = 1152  # contents of the split "seen": one half to choose settings with, one to report
_LENGTH = 11  # words of the longest caption, and an end
_EMBEDDING = 128
_EXAMPLES = 8  # captions that are kept as they were written


@dataclass(frozen=True)
class WriterRecipe:
    """Settings that all runs share."""

    scenes: int = 8000  # generated scenes to train on
    gallery: int = 576  # scenes of each kind that are asked about
    search_gallery: int = 100  # of them, to search in by likelihood: pairs are its square
    passes: tuple[int, ...] = (1, 2, 4, 8, 16)  # budgets, each a training of its own
    longest: tuple[int, ...] = (32,)  # and further ones
    search_passes: int = 4  # passes of each run of the search
    rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3, 8e-3)  # learning rates to choose from
    blurs: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)  # of what the Y-decoder reads, to choose from
    batch_size: int = 256  # pairs per step
    writer_width: int = 170  # of the decoder, so that both ways learn as many parameters from pairs
    decoder_width: int = 128  # of the Y-decoder, which learns from texts alone
    decoder_passes: int = 6  # over these texts
    decoder_rate: float = 4e-3  # its learning rate
    films: int = 6  # films; the first one is for choosing
    frames: int = 1000  # of each
    intervals: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 13, 18, 25, 50)  # of uniform decoding
    thresholds: tuple[float, ...] = (
        *(0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0),
    )  # cosine distances
    loss_allowed: float = 0.02  # of the score of every frame, when a threshold is chosen
    num_seeds: int = 3  # runs of each row but those of the search

    @classmethod
    def tiny(cls) -> WriterRecipe:
        """For tests: few scenes, one pass."""
        sizes = dict(scenes=128, gallery=24, search_gallery=10, batch_size=64, decoder_passes=1)
        few = dict(passes=(1, 2), longest=(), search_passes=1, rates=(1e-3, 2e-3), blurs=(0.5, 1.0))
        films = dict(films=2, frames=60, intervals=(1, 5, 20), thresholds=(0.1, 0.3, 1.0))
        return cls(**sizes, **few, **films, num_seeds=1)

    @classmethod
    def page(cls) -> WriterRecipe:
        """As on the page."""
        return cls()

    def image_head(self) -> ImageHead:
        """A new image head, the same in both ways; for chapter 4's 64 tokens of 96 numbers."""
        return ImageHead(64, 96, embedding=_EMBEDDING)

    def text_encoder(self, vocabulary: int) -> TextEncoder:
        """A new text encoder."""
        return TextEncoder(
            vocabulary,
            dimensions=_EMBEDDING,
            heads=4,
            layers=1,
            max_length=32,
            dropout=0.0,
            token_std=0.1,
        )

    def text_decoder(self, vocabulary: int, *, from_texts: bool = False) -> TextDecoder:
        """A new decoder: the one that learns from pairs, or the Y-decoder."""
        width = self.decoder_width if from_texts else self.writer_width
        return TextDecoder(vocabulary, embedding=_EMBEDDING, dimensions=width)


class Blur(nn.Module):
    """What a Y-decoder reads: directions, less their mean; while training with noise.

    It learns from embeddings of texts and is asked about embeddings that an image head predicts.
    These lie elsewhere, so each side has a centre of its own, and noise teaches the decoder not to
    look too closely.

    Parameters
    ----------
    noise : float
        Length of the noise, while training, in lengths of what it is added to.
    centre : Tensor, shape (D,)
        Mean direction of the side that is read.
    """

    def __init__(self, noise: float, centre: Tensor):
        super().__init__()
        self.noise = noise
        self.register_buffer("centre", centre)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings (B, D) to vectors (B, D) of length sqrt(D)."""
        x = F.normalize(F.normalize(embeddings, dim=1) - self.centre, dim=1)
        size = x.shape[1] ** 0.5
        if self.training:
            x = F.normalize(x + self.noise / size * torch.randn_like(x), dim=1)
        return size * x


class _Writing(CaptionTraining):
    """The same with a learning rate that rises and falls, as in `JEPA` with a schedule."""

    def __init__(self, reader: nn.Module, decoder: TextDecoder, *, learning_rate: float):
        super().__init__(reader, decoder, learning_rate=learning_rate)
        self.schedule = Schedule()

    def configure_optimizers(self) -> dict[str, Any]:
        return optimizer_of(self)


def writer_record(
    recipe: WriterRecipe,
    *,
    encoder: Path | str,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    parts: Sequence[str] = WRITER_PARTS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train both ways with each budget, and measure them; the record is written after every run.

    Parameters
    ----------
    recipe : WriterRecipe
        Settings.
    encoder : path
        Checkpoint of the frozen encoder.
    name : str
        Name of the recipe: the record is ``folder/writers/name.json``.
    folder, checkpoints, seeds, say
        See `complete_record`. The searches have one seed.
    parts : sequence of str
        Of `WRITER_PARTS`. Those after "search" take the learning rates that won there, and those
        after "blur" its blur.
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
        If the record that is there has other settings or data, or lacks a search.
    CheckpointError
        If the encoder is missing or damaged.
    """
    if unknown := [part for part in parts if part not in WRITER_PARTS]:
        raise ValueError(f"parts must be some of {', '.join(WRITER_PARTS)}, got {unknown}")
    encoder = Path(encoder)
    bench = _Bench(recipe, load_encoder(encoder)[0], dict(devices=devices, nodes=nodes))
    path, record = Path(folder) / "writers" / f"{name}.json", {}
    for part in [part for part in WRITER_PARTS if part in parts]:
        record = complete_record(
            "writers",
            name,
            recipe=recipe,
            data={"encoder": hashlib.sha256(encoder.read_bytes()).hexdigest()},
            runs=bench.runs(part, read_record(path) if path.exists() else {"runs": []}),
            folder=folder,
            checkpoints=checkpoints,
            seeds=[0] if part in ("search", "blur") else seeds,
            say=say,
        )
    return record


def _chosen(record: Mapping[str, Any], part: str, way: str, wanted: int) -> float:
    """The setting of a search that did best on the scenes for choosing."""
    runs = [run for run in record["runs"] if run["part"] == part and run["way"] == way]
    if len(runs) < wanted:
        raise RecordError(f"the part {part!r} is not complete for {way}: {len(runs)} of {wanted}")
    return float(max(runs, key=lambda run: next(iter(run["scores"].values())))["setting"])


class _Bench:
    """What the runs share, each thing made when it is first needed."""

    def __init__(self, recipe: WriterRecipe, encoder: nn.Module, how: dict[str, int]):
        self.recipe, self.encoder, self.how = recipe, encoder, how
        self.tried: dict[int, tuple[JEPA, History]] = {}

    def runs(self, part: str, record: Mapping[str, Any]) -> list[Run]:
        recipe = self.recipe
        if part == "search":
            return [
                Run(
                    {"part": part, "way": way, "setting": f"{rate:g}"},
                    partial(self.try_rate, way, rate),
                )
                for way in ARMS
                for rate in recipe.rates
            ]
        rates = {way: _chosen(record, "search", way, len(recipe.rates)) for way in ARMS}
        if part == "blur":
            return [
                Run(
                    {"part": part, "way": "embeddings", "setting": f"{noise:g}"},
                    partial(self.try_blur, rates["embeddings"], noise),
                    stages=2,
                )
                for noise in recipe.blurs
            ]
        noise = _chosen(record, "blur", "embeddings", len(recipe.blurs))
        trained = {
            "words": partial(self.words_run, rates["words"]),
            "embeddings": partial(self.embeddings_run, rates["embeddings"], noise),
        }
        return [
            Run({"part": part, "way": way, "passes": str(passes)}, partial(run, passes), stages=2)
            for passes in (recipe.passes if part == "curve" else recipe.longest)
            for way, run in trained.items()
        ]

    # ---- what is looked at

    @cached_property
    def worlds(self) -> dict[str, Scenes]:
        """Scenes to train on, to choose settings with, and to report."""
        few = self.recipe.gallery
        return {
            "train": scenes(self.recipe.scenes, seed=0),
            "choosing": _half(scenes(_SEEN, split="seen", seed=2), 0, few),
            "seen": _half(scenes(_SEEN, split="seen", seed=1), 1, few),
            "unseen": scenes(few, split="unseen", seed=1),
        }

    @cached_property
    def tokens(self) -> dict[str, Tensor]:
        return {name: frozen_tokens(self.encoder, x.images) for name, x in self.worlds.items()}

    @cached_property
    def films(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each: tokens, attributes, and the scene's number, a row for each frame."""
        films = [scene_film(self.recipe.frames, seed=10 + i) for i in range(self.recipe.films)]
        return [
            (frozen_tokens(self.encoder, film.frames.images), film.frames.attributes, film.scene)
            for film in films
        ]

    @cached_property
    def tokenizer(self) -> CaptionTokenizer:
        return CaptionTokenizer.from_captions(self.worlds["train"].captions)

    @cached_property
    def sentences(self) -> list[str]:
        """All that can be said."""
        return every_caption()

    def ended(self, captions: Sequence[str]) -> Words:
        """Ids and visible (N, L) with an end, id 0, after the last word."""
        ids, visible = self.tokenizer(captions)
        more = _LENGTH - ids.shape[1]
        visible = F.pad(F.pad(visible, (1, 0), value=True), (0, more - 1))
        return F.pad(ids, (0, more)), visible

    def batches(self, inputs: Tensor, words: Words, seed: int) -> CaptionDataModule:
        return CaptionDataModule(
            inputs,
            tuple(part.unsqueeze(1) for part in words),  # one caption each: (N, 1, L)
            groups=scene_contents(self.worlds["train"].attributes),
            batch_size=self.recipe.batch_size,
            seed=seed,
        )

    # ---- what is trained

    def writer(
        self, rate: float, passes: int, seed: int, state: Path
    ) -> tuple[CaptionTraining, History]:
        torch.manual_seed(seed)
        decoder = self.recipe.text_decoder(len(self.tokenizer))
        module = _Writing(self.recipe.image_head(), decoder, learning_rate=rate)
        data = self.batches(self.tokens["train"], self.ended(self.worlds["train"].captions), seed)
        return self.fitted(module, data, passes, seed, state)

    def fitted(
        self, module: CaptionTraining, data: CaptionDataModule, passes: int, seed: int, state: Path
    ) -> tuple[CaptionTraining, History]:
        how = dict(checkpoint=state, progress=False, **self.how)
        history = fit(module.train(), data, epochs=passes, seed=seed, **how)
        return module.cpu().eval(), history

    def pair(self, rate: float, passes: int, seed: int, state: Path) -> tuple[JEPA, History]:
        torch.manual_seed(seed)
        networks = self.recipe.image_head(), self.recipe.text_encoder(len(self.tokenizer))
        data = self.batches(
            self.tokens["train"], self.tokenizer(self.worlds["train"].captions), seed
        )
        how = dict(epochs=passes, seed=seed, learning_rate=rate, checkpoint=state)
        return train_pair(*networks, data, schedule=Schedule(), **how, **self.how)

    def timed(
        self, train: Callable[..., tuple], rate: float, passes: int, seed: int, state: Path
    ) -> tuple[Any, History, float | None]:
        """A training, and seconds of one core that it took, whatever else the machine did.

        Of one that goes on from its state nobody knows.
        """
        resumed = state.exists()
        _ = self.tokens  # made before, and not counted
        started = time.process_time()
        module, history = train(rate, passes, seed, state)
        spent = time.process_time() - started
        return module, history, None if resumed else round(spent, 1)

    def y_decoder(
        self, pair: JEPA, noise: float, seed: int, state: Path
    ) -> tuple[CaptionTraining, History]:
        """A decoder of the text encoder's embeddings, asked about those of the image head."""
        captions = self.worlds["train"].captions
        read = embed(pair.target_encoder, *self.tokenizer(captions))
        torch.manual_seed(seed)
        decoder = self.recipe.text_decoder(len(self.tokenizer), from_texts=True)
        module = _Writing(
            Blur(noise, _centre(read)), decoder, learning_rate=self.recipe.decoder_rate
        )
        data = self.batches(read, self.ended(captions), seed)
        module, history = self.fitted(module, data, self.recipe.decoder_passes, seed, state)
        module.reader = Blur(noise, _centre(embed(pair.context_encoder, self.tokens["train"])))
        return module.eval(), history

    # ---- runs

    def try_rate(self, way: str, rate: float, seed: int, states: list[Path]) -> Outcome:
        train = self.writer if way == "words" else self.pair
        module, history = train(rate, self.recipe.search_passes, seed, states[0])
        scores = self.preferred(module, "choosing")
        if way == "words":
            scores |= self.right(self.said(module, self.tokens["choosing"]), "choosing")
        return self.outcome(scores, module, [history])

    def try_blur(self, rate: float, noise: float, seed: int, states: list[Path]) -> Outcome:
        if seed not in self.tried:  # one training for all blurs
            self.tried[seed] = self.pair(rate, self.recipe.search_passes, seed, states[0])
        pair, history = self.tried[seed]
        decoder, later = self.y_decoder(pair, noise, seed, states[1])
        said = self.said(decoder, embed(pair.context_encoder, self.tokens["choosing"]))
        shares = self.right(said, "choosing")
        shares = {"attributes": shares["attributes"], "whole": shares["whole"]}
        return self.outcome(shares, pair, [history, later])

    def words_run(self, rate: float, passes: int, seed: int, states: list[Path]) -> Outcome:
        module, history, spent = self.timed(self.writer, rate, passes, seed, states[0])
        scores, said = {}, {}
        for split in ("seen", "unseen"):
            said[split] = self.said(module, self.tokens[split])
            scores |= self.named(split, self.preferred(module, split))
            scores |= self.named(split, self.right(said[split], split))
        found, seconds = self.searched(likelihood=self.by_likelihood, written=self.by_writing)(
            module
        )
        more = dict(said=said["seen"][:_EXAMPLES], search_seconds=seconds, core_seconds=spent)
        return self.outcome(scores | found, module, [history], **more)

    def embeddings_run(
        self, rate: float, noise: float, passes: int, seed: int, states: list[Path]
    ) -> Outcome:
        pair, history, spent = self.timed(self.pair, rate, passes, seed, states[0])
        decoder, later = self.y_decoder(pair, noise, seed, states[1])
        known = F.normalize(self.read(pair, self.sentences), dim=1)
        scores, said = {}, {}
        for split in ("seen", "unseen"):
            scene = embed(pair.context_encoder, self.tokens[split])
            said[split] = self.said(decoder, scene)
            scores |= self.named(split, self.preferred(pair, split))
            scores |= self.named(split, self.right(said[split], split))
            nearest = self.right([self.sentences[i] for i in (scene @ known.T).argmax(1)], split)
            scores |= self.named(f"{split}, nearest", nearest)
        found, seconds = self.searched(embeddings=self.by_embeddings)(pair)
        more = dict(
            said=said["seen"][:_EXAMPLES],
            search_seconds=seconds,
            core_seconds=spent,
            decoder_losses=_short(later.losses["loss"]),
            decoder_seconds=round(later.seconds, 1),
            film=measured(self.film_curves)(pair, decoder),
        )
        return self.outcome(scores | found, pair, [history], **more)

    def outcome(
        self,
        scores: Mapping[str, float],
        module: CaptionTraining | JEPA,
        histories: Sequence[History],
        **more: Any,
    ) -> Outcome:
        learning = sum(p.numel() for p in module.parameters() if p.requires_grad)
        batches = self.recipe.scenes // self.recipe.batch_size
        steps = len(histories[0].losses["loss"]) * batches
        entry = {
            "scores": {name: round(float(score), 4) for name, score in scores.items()},
            "parameters": learning,
            "steps": steps,
            "samples": steps * self.recipe.batch_size,
            "seconds": round(histories[0].seconds, 1),
            "losses": _short(histories[0].losses["loss"]),
        }
        return Outcome(entry | more)

    # ---- measures

    def score_of(
        self, module: CaptionTraining | JEPA, scene: Tensor
    ) -> Callable[[Sequence[str]], Tensor]:
        """How well each caption fits to its scene: log-likelihood, or cosine."""
        if isinstance(module, CaptionTraining):
            return torch.no_grad()(
                lambda captions: module.log_likelihood(scene, *self.ended(captions))
            )
        return lambda captions: F.cosine_similarity(scene, self.read(module, captions))

    def read(self, pair: JEPA, captions: Sequence[str]) -> Tensor:
        return embed(pair.target_encoder, *self.tokenizer(captions))

    def preferred(self, module: CaptionTraining | JEPA, split: str) -> dict[str, float]:
        """Share of true captions preferred, in the mean and for each thing that is wrong."""
        see = module.reader if isinstance(module, CaptionTraining) else module.context_encoder
        scene = embed(see, self.tokens[split])
        shares = measured(true_caption_preferred)(
            self.score_of(module, scene), self.worlds[split], ATTRIBUTES
        )
        return {"preferred": sum(shares.values()) / len(shares)} | shares

    def said(self, writer: CaptionTraining, inputs: Tensor) -> list[str]:
        """The caption that is written for each input."""
        ids = writer.decoder.write(embed(writer.reader, inputs), _LENGTH)
        return written_captions(ids, self.tokenizer.words)

    def right(self, said: Sequence[str], split: str) -> dict[str, float]:
        """Share of captions that are right as a whole, and of attributes."""
        shares = attributes_right(read_captions(said), self.worlds[split].attributes)
        return {"whole": float((shares == 1).float().mean()), "attributes": float(shares.mean())}

    @staticmethod
    def named(split: str, scores: Mapping[str, float]) -> dict[str, float]:
        return {f"{split}, {name}": score for name, score in scores.items()}

    # ---- search: each caption asks for its scene

    def searched(
        self, **ways: Callable[..., Tensor]
    ) -> Callable[[nn.Module], tuple[dict[str, float], dict[str, float]]]:
        """Recall at the first place in a small gallery, and seconds of one core."""

        def search(module: nn.Module) -> tuple[dict[str, float], dict[str, float]]:
            few, found, seconds = self.recipe.search_gallery, {}, {}
            captions, tokens = self.worlds["seen"].captions[:few], self.tokens["seen"][:few]
            for name, similarities in ways.items():
                started = time.process_time()
                scores = similarities(module, captions, tokens)  # (captions, scenes)
                seconds[name] = round(time.process_time() - started, 4)
                found[f"search @1 by {name}"] = _first_places(scores)
            return found, seconds

        return measured(search)

    def by_likelihood(
        self, module: CaptionTraining, captions: Sequence[str], tokens: Tensor
    ) -> Tensor:
        """Each caption's likelihood given each scene."""
        scene, (ids, visible) = embed(module.reader, tokens), self.ended(captions)
        with torch.no_grad():
            columns = [
                module.log_likelihood(one.expand(len(ids), -1), ids, visible) for one in scene
            ]
        return torch.stack(columns, dim=1)

    def by_writing(
        self, module: CaptionTraining, captions: Sequence[str], tokens: Tensor
    ) -> Tensor:
        """Write a caption for each scene, and count what it has in common with the one asked."""
        said = read_captions(self.said(module, tokens))
        return attributes_right(said.unsqueeze(0), read_captions(captions).unsqueeze(1))

    def by_embeddings(self, pair: JEPA, captions: Sequence[str], tokens: Tensor) -> Tensor:
        """Cosine of each caption and each scene."""
        asked = F.normalize(self.read(pair, captions), dim=1)
        return asked @ F.normalize(embed(pair.context_encoder, tokens), dim=1).T

    # ---- films

    def film_curves(self, pair: JEPA, decoder: CaptionTraining) -> dict[str, Any]:
        """What each policy reaches with how many decodings per 100 frames, over the films.

        A point is (decodings per 100 frames, share of attributes that the latest caption has
        right, share of frames at which it is right as a whole). A threshold is chosen on the first
        film; the others are reported.
        """
        shown = []
        for tokens, attributes, scene in self.films:
            embeddings = embed(pair.context_encoder, tokens)
            said = read_captions(self.said(decoder, embeddings))
            shown.append((embeddings, said, attributes, scene))
        first, *others = shown
        every = partial(uniform_moments, len(first[0]))
        points = {
            threshold: _point([first], [moved_moments(first[0], threshold)])
            for threshold in self.recipe.thresholds
        }
        enough = _point([first], [every(1)])[1] - self.recipe.loss_allowed
        # the first film at every frame, where none is good enough
        fit_for = [x for x, point in points.items() if point[1] >= enough] or [min(points)]
        chosen = min(fit_for, key=lambda threshold: points[threshold][0])
        moved = {
            threshold: [moved_moments(film[0], threshold) for film in others]
            for threshold in self.recipe.thresholds
        }
        draw = torch.Generator().manual_seed(0)
        at_random = lambda decode: random_moments(len(decode), int(decode.sum()), generator=draw)
        by_chance = {x: [at_random(decode) for decode in films] for x, films in moved.items()}
        known = [film[3].diff(prepend=film[3][:1] - 1) != 0 for film in others]
        return {
            "threshold": chosen,
            "uniform": [_point(others, [every(k)] * len(others)) for k in self.recipe.intervals],
            "moved": [_point(others, films) for films in moved.values()],
            "random": [_point(others, films) for films in by_chance.values()],
            "chosen": _point(others, moved[chosen]),
            "chosen, random": _point(others, by_chance[chosen]),
            "at the cuts": _point(others, known),
        }


def _half(world: Scenes, which: int, few: int) -> Scenes:
    """Some scenes of one half of all contents, the same half whatever the order of the draw."""
    rank = scene_contents(world.attributes).argsort().argsort()
    rows = (rank % 2 == which).nonzero().flatten()[:few]
    captions = [world.captions[i] for i in rows.tolist()]
    return Scenes(world.images[rows], captions, world.attributes[rows])


def _centre(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings, dim=1).mean(dim=0)


def _short(losses: Sequence[float]) -> list[float]:
    return [float(f"{loss:.4g}") for loss in losses]


def _first_places(scores: Tensor) -> float:
    """Share of rows whose own column is highest; of several that tie, one is drawn."""
    own = scores.diagonal().unsqueeze(1)
    behind, tied = (scores > own).any(dim=1), (scores == own).sum(dim=1)
    return float(torch.where(behind, 0.0, 1 / tied).mean())


def _point(films: Sequence[tuple[Tensor, ...]], decoded: Sequence[Tensor]) -> list[float]:
    shares = torch.cat(
        [
            attributes_right(said[latest_decoding(decode)], attributes)
            for (_, said, attributes, _), decode in zip(films, decoded, strict=True)
        ]
    )
    per_100 = 100 * torch.cat(list(decoded)).float().mean()
    points = per_100, shares.mean(), (shares == 1).float().mean()
    return [round(float(x), 4) for x in points]
