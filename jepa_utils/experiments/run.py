"""The experiments by name: which data each takes, and what its recipes are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jepa_utils.data.load import load_data
from jepa_utils.data.tokens import load_tokenizer
from jepa_utils.experiments import (
    captions,
    cifar10,
    eyes,
    photographs,
    questions,
    spirals,
    texts,
    word_tables,
    worlds,
    writers,
)

__all__ = ["EXPERIMENTS", "run_experiments"]


def _cifar10(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    loaded = load_data("cifar10", source=source)
    how["say"](str(loaded.provenance))
    chosen = {"methods": parts} if parts else {}
    settings = getattr(cifar10.VisionRecipe, recipe)()
    cifar10.pretrain_record(settings, loaded, name=recipe, **chosen, **how)


def _captions(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    chosen = {"experiments": parts} if parts else {}
    encoder = root / "results" / "cifar10" / "five_passes_ijepa.safetensors"
    settings = getattr(captions.CaptionRecipe, recipe)()
    captions.caption_record(settings, encoder=encoder, name=recipe, **chosen, **how)


def _eyes(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    loaded = [load_data(name, source=source) for name in ("flickr8k", "cifar10")]
    for table in loaded:
        how["say"](str(table.provenance))
    chosen = {"parts": parts} if parts else {}
    eyes.eye_record(getattr(eyes.EyeRecipe, recipe)(), *loaded, name=recipe, **chosen, **how)


def _questions(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    chosen = {"parts": parts} if parts else {}
    encoder = root / "results" / "cifar10" / "five_passes_ijepa.safetensors"
    settings = getattr(questions.QuestionRecipe, recipe)()
    questions.question_record(settings, encoder=encoder, name=recipe, **chosen, **how)


def _texts(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    wiki = load_data("wikitext-2", source=source)
    photographs = load_data("flickr8k", source=source, splits=("test",))
    reviews = load_data("rotten-tomatoes", source=source, splits=("train", "test"))
    for loaded in (wiki, photographs, reviews):
        how["say"](str(loaded.provenance))
    tokenizer = load_tokenizer(source=source).tokenizer
    chosen = {"parts": parts} if parts else {}
    settings = getattr(texts.TextRecipe, recipe)()
    loaded = (wiki, photographs, reviews, tokenizer)
    texts.text_record(settings, *loaded, name=recipe, **chosen, **how)


def _photographs(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    loaded = [load_data(name, source=source) for name in ("flickr8k", "cifar10")]
    for table in loaded:
        how["say"](str(table.provenance))
    eyes_at = {
        "SIGReg": how["folder"] / "eyes" / f"{recipe}_eye.safetensors",
        "I-JEPA": root / "results" / "cifar10" / "five_passes_ijepa.safetensors",
    }
    chosen = {"parts": parts} if parts else {}
    settings = getattr(photographs.PhotoRecipe, recipe)()
    photographs.photo_record(settings, *loaded, eyes=eyes_at, name=recipe, **chosen, **how)


def _spiral(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    chosen = {"parts": parts} if parts else {}
    settings = getattr(spirals.SpiralRecipe, recipe)()
    spirals.spiral_record(settings, name=recipe, **chosen, **how)


def _words(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    shakespeare = load_data("shakespeare", source=source)
    how["say"](str(shakespeare.provenance))
    chosen = {"parts": parts} if parts else {}
    settings = getattr(word_tables.WordRecipe, recipe)()
    word_tables.word_record(settings, shakespeare, name=recipe, **chosen, **how)


def _worlds(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    chosen = {"parts": parts} if parts else {}
    settings = getattr(worlds.WorldRecipe, recipe)()
    worlds.world_record(settings, name=recipe, **chosen, **how)


def _writers(recipe: str, parts: list[str], source: str | None, root: Path, **how: Any) -> None:
    chosen = {"parts": parts} if parts else {}
    encoder = root / "results" / "cifar10" / "five_passes_ijepa.safetensors"
    settings = getattr(writers.WriterRecipe, recipe)()
    writers.writer_record(settings, encoder=encoder, name=recipe, **chosen, **how)


# What does it, and its recipes, the largest last.
EXPERIMENTS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "cifar10": (_cifar10, cifar10.RECIPES),
    "captions": (_captions, captions.CAPTION_RECIPES),
    "eyes": (_eyes, eyes.EYE_RECIPES),
    "questions": (_questions, questions.QUESTION_RECIPES),
    "texts": (_texts, texts.TEXT_RECIPES),
    "photographs": (_photographs, photographs.PHOTO_RECIPES),
    "spiral": (_spiral, spirals.SPIRAL_RECIPES),
    "words": (_words, word_tables.WORD_RECIPES),
    "worlds": (_worlds, worlds.WORLD_RECIPES),
    "writers": (_writers, writers.WRITER_RECIPES),
}


def run_experiments(
    names: Sequence[str], root: Path, *, recipe: str | None = None, **how: Any
) -> None:
    """Complete the records of experiments.

    Parameters
    ----------
    names : sequence of str
        Of `EXPERIMENTS`; ``experiment/part`` does one method or part only.
    root : Path
        The book's. Records go to ``results``, those of the recipe "tiny", which are no results, to
        ``_build/tiny``.
    recipe : str, optional
        One of the experiments' recipes; by default the largest.
    **how
        "seeds", "devices", "nodes" and "say": see `complete_record` and `fit`.

    Raises
    ------
    ValueError
        If an experiment, a part or a recipe is unknown.
    """
    parts: dict[str, list[str]] = {}
    for name in names:
        experiment, _, part = name.partition("/")
        if experiment not in EXPERIMENTS:
            raise ValueError(f"experiment must be one of {', '.join(EXPERIMENTS)}, got {name!r}")
        parts.setdefault(experiment, []).extend([part] if part else [])
    for experiment, chosen in parts.items():
        do, recipes = EXPERIMENTS[experiment]
        name = recipe or recipes[-1]
        if name not in recipes:
            raise ValueError(
                f"recipe of {experiment} must be one of {', '.join(recipes)}, got {recipe!r}"
            )
        tiny = name == "tiny"
        folder = root / "_build" / "tiny" if tiny else root / "results"
        places = dict(folder=folder, checkpoints=root / "checkpoints")
        do(name, chosen, "sample" if tiny else None, root, **places, **how)
