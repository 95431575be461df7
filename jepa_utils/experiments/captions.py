"""Chapter 5's experiment: what its trainings reach when they get more than a page's time.

Six parts, each with one or several settings and several seeds:

- "scenes": pairs of scene and caption, with captions of look-alikes in one batch.
- "answers": the embedding of an answer from visual tokens and a question.
- "hidden tokens": visual tokens from visible ones and the own caption, another's, or none.
- "temperature", "batch size", "objective": pairs of photograph and sentence, one thing changed at a
  time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import CaptionDataModule, Words
from jepa_utils.data.images import caption_table
from jepa_utils.data.load import LoadedData
from jepa_utils.data.masking import random_masks
from jepa_utils.data.scenes import RELATIONS, scene_contents, scene_questions, scenes
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.evaluation.caption_tests import (
    hidden_token_recall,
    photo_scores,
    true_caption_preferred,
)
from jepa_utils.evaluation.encode import embed, frozen_tokens, photo_tokens
from jepa_utils.evaluation.retrieval import recall_at_k
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured
from jepa_utils.models.checkpoints import load_encoder, save_weights
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import CrossPredictor, ImageHead, QueryPredictor
from jepa_utils.objectives.infonce import InfoNCE, alignment, uniformity
from jepa_utils.objectives.sigreg import SIGReg
from jepa_utils.objectives.vicreg import VICReg
from jepa_utils.training.fit import History, fit
from jepa_utils.training.jepa import JEPA, TokenJEPA, train_pair

__all__ = ["CAPTION_RECIPES", "EXPERIMENTS", "OBJECTIVES", "CaptionRecipe", "caption_record"]


EXPERIMENTS = ("scenes", "answers", "hidden tokens", "temperature", "batch size", "objective")


def caption_record(
    recipe: CaptionRecipe,
    photographs: LoadedData,
    *,
    encoder: Path | str,
    name: str,
    folder: Path | str,
    checkpoints: Path | str,
    experiments: Sequence[str] = EXPERIMENTS,
    seeds: Sequence[int] | None = None,
    devices: int = 1,
    nodes: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train each setting of each part once per seed; the record is written after every run.

    The networks of "scenes", first seed, are saved beside the record.

    Parameters
    ----------
    recipe : CaptionRecipe
        Settings.
    photographs : LoadedData
        Flickr8k or its sample, from `load_data`.
    encoder : path
        Checkpoint of the frozen encoder.
    name : str
        Name of the recipe: the record is ``folder/captions/name.json``.
    folder, checkpoints, seeds, say
        See `complete_record`.
    experiments : sequence of str
        Of `EXPERIMENTS`.
    devices, nodes : int, default 1
        See `fit`.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError
        If an experiment is unknown.
    RecordError
        If the record that is there has other settings or data.
    CheckpointError
        If the encoder is missing or damaged.
    """
    if unknown := [part for part in experiments if part not in EXPERIMENTS]:
        raise ValueError(f"experiments must be some of {', '.join(EXPERIMENTS)}, got {unknown}")
    encoder = Path(encoder)
    how = dict(devices=devices, nodes=nodes)
    bench = _Bench(recipe, photographs, load_encoder(encoder)[0], how)
    runs = [
        Run({"experiment": part, "setting": setting}, run, stages=2)
        for part in experiments
        for setting, run in bench.runs(part).items()
    ]
    return complete_record(
        "captions",
        name,
        recipe=recipe,
        data={
            "photographs": photographs.provenance.sha256,
            "encoder": hashlib.sha256(encoder.read_bytes()).hexdigest(),
        },
        runs=runs,
        folder=folder,
        checkpoints=checkpoints,
        seeds=seeds,
        seeds_outside=False,
        say=say,
    )


def _outcome(scores: dict[str, float], histories: list[History], **saved) -> Outcome:
    entry = {
        "scores": {key: round(float(score), 4) for key, score in scores.items()},
        "seconds": round(sum(history.seconds for history in histories), 1),
        "losses": [float(f"{x:.4g}") for history in histories for x in history.losses["loss"]],
    }
    return Outcome(entry, **saved)


class _Bench:
    """What the parts share, each thing made when it is first needed."""

    def __init__(
        self, recipe: CaptionRecipe, photographs: LoadedData, encoder: nn.Module, how: dict
    ):
        self.recipe, self.photographs, self.encoder, self.how = recipe, photographs, encoder, how

    def runs(self, experiment: str) -> dict[str, Callable[[int, list[Path]], Outcome]]:
        """A function of seed and checkpoints for each setting of a part."""
        recipe = self.recipe
        match experiment:
            case "scenes":
                return {"look-alikes": self.scene_run}
            case "answers":
                return {"questions": self.answer_run}
            case "hidden tokens":
                return {text: partial(self.token_run, text) for text in ("own", "shuffled", "none")}
            case "temperature":
                fixed = {
                    str(t): partial(self.photo_run, dict(objective=InfoNCE(t)))
                    for t in recipe.temperatures
                }
                return fixed | {"learned": partial(self.photo_run, {})}
            case "batch size":
                rules = {
                    str(size): dict(objective=InfoNCE(0.07), batch_size=size)
                    for size in recipe.batch_sizes
                }
                return {size: partial(self.photo_run, rule) for size, rule in rules.items()}
        runs = {}
        for name in recipe.objectives:
            rule = OBJECTIVES[name]
            runs[f"{name}, text learns"] = partial(self.photo_run, rule)
            # no gradient reaches a frozen text
            one_side = {"regularize": "context"} if "regularizer" in rule else {}
            runs[f"{name}, text frozen"] = partial(
                self.photo_run, rule | one_side | {"frozen_text": True}
            )
        return runs

    @cached_property
    def worlds(self) -> dict:
        held_out = {
            split: scenes(self.recipe.gallery, split=split, seed=1) for split in ("seen", "unseen")
        }
        return {"train": scenes(self.recipe.scenes, seed=0), **held_out}

    @cached_property
    def tokens(self) -> dict[str, Tensor]:
        return {
            split: frozen_tokens(self.encoder, world.images) for split, world in self.worlds.items()
        }

    @cached_property
    def tokenizer(self) -> CaptionTokenizer:
        return CaptionTokenizer.from_captions(self.worlds["train"].captions)

    @cached_property
    def captions(self) -> Words:
        return tuple(
            part.unsqueeze(1) for part in self.tokenizer(self.worlds["train"].captions)
        )  # (N, 1, L)

    def stages(
        self,
        networks: tuple[nn.Module, nn.Module],
        batches: Callable[[int], CaptionDataModule],
        stages: Sequence[Stage],
        seed: int,
        states: list[Path],
    ) -> tuple[JEPA, list[History]]:
        objective, histories = InfoNCE(learn_temperature=True), []
        for (epochs, rate, size), state in zip(stages, states[: len(stages)], strict=True):
            how = dict(epochs=epochs, seed=seed, learning_rate=rate, checkpoint=state, **self.how)
            module, history = train_pair(*networks, batches(size), objective=objective, **how)
            histories.append(history)
        return module, histories

    def scene_run(self, seed: int, states: list[Path]) -> Outcome:
        tokens, contents = self.tokens["train"], scene_contents(self.worlds["train"].attributes)
        networks = self.recipe.scene_networks(
            len(self.tokenizer), places=tokens.shape[1], dimensions=tokens.shape[2]
        )
        # Scenes of the same two objects come together; those with the same relation, too, are right
        # answers to each other.
        options = dict(groups=contents, look_alikes=contents // len(RELATIONS), seed=seed)
        batches = lambda size: CaptionDataModule(tokens, self.captions, batch_size=size, **options)
        module, histories = self.stages(networks, batches, self.recipe.scene_stages, seed, states)
        scores = {}
        for split in ("seen", "unseen"):
            scores |= self.scene_scores(module, split)
        networks = nn.ModuleList([module.context_encoder, module.target_encoder])
        words = self.tokenizer.vocabulary
        card = {
            "what": "image head (0) and text encoder (1) for scenes and their captions, on the "
            "frozen encoder's tokens",
            "words": dict(zip(words.words, words.counts, strict=True)),
        }
        return _outcome(scores, histories, save=partial(save_weights, networks), card=card)

    def scene_scores(self, module: JEPA, split: str) -> dict[str, float]:
        world, pictures = self.worlds[split], embed(module.context_encoder, self.tokens[split])

        def read(captions: Sequence[str]) -> Tensor:
            return embed(module.target_encoder, *self.tokenizer(captions))

        found = recall_at_k(read(world.captions), pictures)
        preferred = true_caption_preferred(
            lambda captions: F.cosine_similarity(pictures, read(captions)), world
        )
        scores = {f"{split} @{k}": share for k, share in found.items()}
        return scores | {f"{split}, {attribute}": share for attribute, share in preferred.items()}

    def answer_run(self, seed: int, states: list[Path]) -> Outcome:
        some = slice(self.recipe.answer_scenes)
        tokens = self.tokens["train"][some]
        questions, answers = scene_questions(self.worlds["train"].captions[some])
        reader, choices = CaptionTokenizer.from_captions(questions + answers), sorted(set(answers))
        asked, told = (
            tuple(part.unsqueeze(1) for part in reader(lines)) for lines in (questions, answers)
        )
        kinds = torch.tensor([choices.index(answer) for answer in answers])
        predictor = QueryPredictor(
            tokens.shape[2], self.encoder.grid, 128, vocabulary=len(reader), width=64, dropout=0.0
        )
        text = TextEncoder(
            len(reader),
            dimensions=128,
            heads=4,
            layers=0,
            max_length=32,
            dropout=0.0,
            token_std=0.1,
        )
        batches = lambda size: CaptionDataModule(
            tokens, told, questions=asked, groups=kinds, batch_size=size, seed=seed
        )
        _, histories = self.stages(
            (predictor, text), batches, self.recipe.answer_stages, seed, states
        )
        known, world = embed(text, *reader(choices)), self.worlds["seen"]
        new_questions, new_answers = scene_questions(world.captions)
        right = torch.tensor([[choice == answer for choice in choices] for answer in new_answers])
        keep, (ids, visible) = (
            right.any(dim=1),
            reader(new_questions),
        )  # few scenes may not show every answer
        scores = {}
        for name, shift in (("right", 0), ("right with another scene's question", 1)):
            guess = embed(
                predictor, self.tokens["seen"], ids.roll(shift, 0), visible.roll(shift, 0)
            )
            scores[name] = recall_at_k(guess[keep], known, ks=(1,), positives=right[keep])[1]
        return _outcome(scores | {"choices": len(choices)}, histories)

    def token_run(self, text: str, seed: int, states: list[Path]) -> Outcome:
        some, recipe, grid = slice(self.recipe.token_scenes), self.recipe, self.encoder.grid
        vectors = nn.Embedding(len(self.tokenizer), 64)
        predictor = CrossPredictor(self.encoder.dimensions, 64, grid, width=48, layers=1)
        masks = partial(random_masks, share=recipe.token_hidden)
        module = TokenJEPA(predictor, vectors, masks=masks, objective=InfoNCE(0.1), text=text)
        captions = tuple(part[some] for part in self.captions)
        data = CaptionDataModule(self.tokens["train"][some], captions, batch_size=32, seed=seed)
        history = fit(
            module,
            data,
            epochs=recipe.token_epochs,
            seed=seed,
            checkpoint=states[0],
            progress=False,
            **self.how,
        )
        caption = self.tokenizer(self.worlds["seen"].captions)
        recall = measured(hidden_token_recall)
        right = recall(module.cpu().eval(), self.tokens["seen"], caption)
        return _outcome({"true token is nearest": right}, [history])

    @cached_property
    def photos(self) -> dict[str, tuple[Tensor, Words]]:
        """Of each split: tokens, and ids and visible of the sentences, (N, 5, L)."""
        tables = {
            split: caption_table(self.photographs.data[split], size=96)
            for split in ("train", "test")
        }
        vocabulary = CaptionTokenizer.from_captions(
            [s for row in tables["train"][1] for s in row], min_count=3, max_length=24
        )
        self.words = len(vocabulary)
        parts = {}
        for split, (pictures, sentences) in tables.items():
            words = vocabulary([s for row in sentences for s in row])
            parts[split] = (
                photo_tokens(self.encoder, pictures),
                tuple(x.unflatten(0, (len(sentences), -1)) for x in words),
            )
        return parts

    def photo_run(self, rule: dict[str, Any], seed: int, states: list[Path]) -> Outcome:
        rule, recipe = dict(rule), self.recipe
        tokens, sentences = self.photos["train"]
        dropout = recipe.photo_dropout
        head = ImageHead(tokens.shape[1], tokens.shape[2], width=tokens.shape[2], dropout=dropout)
        text = TextEncoder(
            self.words,
            dimensions=128,
            heads=4,
            layers=0,
            max_length=32,
            dropout=dropout,
            token_std=0.1,
        )
        text.requires_grad_(not rule.pop("frozen_text", False))
        size = min(rule.pop("batch_size", 256), len(tokens))
        data = CaptionDataModule(tokens, sentences, batch_size=size, seed=seed)
        how = dict(epochs=recipe.photo_epochs, seed=seed, checkpoint=states[0], **self.how)
        module, history = train_pair(head, text, data, **how, **rule)
        return _outcome(measured(photo_scores)(module, *self.photos["test"]), [history])


CAPTION_RECIPES = ("tiny", "long")  # constructors of CaptionRecipe


def _spread(a: Tensor, b: Tensor) -> Tensor:
    return (uniformity(a) + uniformity(b)) / 2


def _align_and_spread(a: Tensor, b: Tensor) -> Tensor:
    return alignment(a, b) + _spread(a, b)


_spread.distributed = _align_and_spread.distributed = True


#: Objectives for pairs of photograph and sentence. Only those with InfoNCE or uniformity push
#: single strangers apart.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "InfoNCE": dict(objective=InfoNCE(0.07)),
    # alignment alone, halved
    "cosine": dict(objective=lambda a, b: 1 - F.cosine_similarity(a, b).mean()),
    "uniformity": dict(objective=_spread),
    "alignment and uniformity": dict(objective=_align_and_spread),
    "L1": dict(objective=F.l1_loss),
    "L2": dict(objective=F.mse_loss),
    "VICReg": dict(objective=VICReg()),
    "L2 and SIGReg": dict(
        objective=F.mse_loss, regularizer=SIGReg(), weight=0.05, regularize="both"
    ),
}


Stage = tuple[int, float, int]  # passes, learning rate, batch size


@dataclass(frozen=True)
class CaptionRecipe:
    """Settings of the parts: how much data, how many passes, what is compared."""

    scenes: int = 60_000  # generated scenes to train on
    gallery: int = 1000  # scenes to search in
    scene_width: int = 24  # numbers that the image head leaves of each token
    scene_hidden: int = 512  # width of its hidden layer
    scene_stages: tuple[Stage, ...] = (
        (6, 2e-3, 256),
        (4, 4e-4, 512),
    )  # of pairs of scene and caption
    answer_scenes: int = 24_000  # scenes that questions are asked about
    answer_stages: tuple[Stage, ...] = ((4, 2e-3, 128), (2, 4e-4, 256))
    token_scenes: int = 12_000  # scenes whose tokens are hidden
    token_epochs: int = 4  # passes over them
    token_hidden: float = 0.75  # share that is hidden
    photo_epochs: int = 8  # passes over photographs
    photo_dropout: float = 0.1  # of image head and word vectors
    temperatures: tuple[float, ...] = (0.01, 0.03, 0.07, 0.2, 1.0)
    batch_sizes: tuple[int, ...] = (32, 128, 512)
    objectives: tuple[str, ...] = tuple(OBJECTIVES)  # of photograph and sentence
    num_seeds: int = 3  # runs of each setting

    @classmethod
    def tiny(cls) -> CaptionRecipe:
        """For tests: few scenes, one pass."""
        stages = dict(scene_stages=((1, 2e-3, 64), (1, 4e-4, 64)), answer_stages=((1, 2e-3, 64),))
        sizes = dict(
            scenes=256,
            gallery=40,
            answer_scenes=128,
            token_scenes=64,
            token_epochs=1,
            photo_epochs=1,
        )
        compared = dict(
            temperatures=(0.01, 0.07, 1.0),
            batch_sizes=(32, 512),
            objectives=("InfoNCE", "cosine", "uniformity"),
        )
        return cls(**stages, **sizes, **compared, num_seeds=1)

    @classmethod
    def long(cls) -> CaptionRecipe:
        """About an hour on two CPU cores."""
        return cls()

    def scene_networks(
        self, vocabulary: int, *, places: int = 64, dimensions: int = 96
    ) -> tuple[ImageHead, TextEncoder]:
        """New networks for scenes and their captions.

        Parameters
        ----------
        vocabulary : int
            Number of token ids.
        places, dimensions : int
            Number and width of the visual tokens; by default those of chapter 4's encoders.
        """
        head = ImageHead(places, dimensions, width=self.scene_width, hidden=self.scene_hidden)
        return head, TextEncoder(
            vocabulary, dimensions=128, heads=4, layers=1, max_length=32, dropout=0.0, token_std=0.1
        )
