"""Chapter 5's generated scenes: what is understood of them after more than a page's time.

- "scenes": pairs of scene and caption, with captions of look-alikes in one batch.
- "hidden tokens": visual tokens from visible ones and the own caption, another's, or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.data.batches import CaptionDataModule, Words
from jepa_utils.data.masking import random_masks
from jepa_utils.data.scenes import RELATIONS, scene_contents, scenes
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.evaluation.caption_tests import hidden_token_recall, true_caption_preferred
from jepa_utils.evaluation.encode import embed, frozen_tokens
from jepa_utils.evaluation.retrieval import recall_at_k
from jepa_utils.experiments.store import Outcome, Run, complete_record, measured
from jepa_utils.models.checkpoints import load_encoder, save_weights
from jepa_utils.models.text import TextEncoder
from jepa_utils.models.vision_language import CrossPredictor, ImageHead
from jepa_utils.objectives.infonce import InfoNCE
from jepa_utils.training.fit import History, fit
from jepa_utils.training.jepa import JEPA, TokenJEPA, train_pair

__all__ = ["CAPTION_RECIPES", "EXPERIMENTS", "CaptionRecipe", "caption_record"]


EXPERIMENTS = ("scenes", "hidden tokens")


def caption_record(
    recipe: CaptionRecipe,
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
    bench = _Bench(recipe, load_encoder(encoder)[0], how)
    runs = [
        Run({"experiment": part, "setting": setting}, run, stages=2)
        for part in experiments
        for setting, run in bench.runs(part).items()
    ]
    return complete_record(
        "captions",
        name,
        recipe=recipe,
        data={"encoder": hashlib.sha256(encoder.read_bytes()).hexdigest()},
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

    def __init__(self, recipe: CaptionRecipe, encoder: nn.Module, how: dict):
        self.recipe, self.encoder, self.how = recipe, encoder, how

    def runs(self, experiment: str) -> dict[str, Callable[[int, list[Path]], Outcome]]:
        """A function of seed and checkpoints for each setting of a part."""
        if experiment == "scenes":
            return {"look-alikes": self.scene_run}
        return {text: partial(self.token_run, text) for text in ("own", "shuffled", "none")}

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


CAPTION_RECIPES = ("tiny", "long")  # constructors of CaptionRecipe


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
    token_scenes: int = 12_000  # scenes whose tokens are hidden
    token_epochs: int = 4  # passes over them
    token_hidden: float = 0.75  # share that is hidden
    num_seeds: int = 3  # runs of each setting

    @classmethod
    def tiny(cls) -> CaptionRecipe:
        """For tests: few scenes, one pass."""
        stages = ((1, 2e-3, 64), (1, 4e-4, 64))
        sizes = dict(scenes=256, gallery=40, token_scenes=64, token_epochs=1)
        return cls(scene_stages=stages, **sizes, num_seeds=1)

    @classmethod
    def long(cls) -> CaptionRecipe:
        """About half an hour on two CPU cores."""
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
