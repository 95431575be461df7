"""Trained encoders on disk: weights in safetensors, and beside them a model card that says how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from jepa_utils.files import write_whole
from jepa_utils.models.vit import ViT

__all__ = ["CheckpointError", "load_encoder", "save_encoder"]


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged, or of another network than its card says."""


def save_encoder(encoder: ViT, path: Path | str, card: Mapping[str, Any]) -> None:
    """Write an encoder's weights and its model card; each file appears whole or not at all.

    Parameters
    ----------
    encoder : ViT
        The encoder.
    path : path
        File ``*.safetensors``; the card is written beside it, as ``*.json``.
    card : mapping
        How it was trained, on what, and what it scores. The network's sizes are added as "encoder".

    Raises
    ------
    ValueError
        If `path` has another suffix, or `card` holds something that JSON cannot.
    """
    path = _checked(path)
    try:
        text = json.dumps({**card, "encoder": encoder.sizes}, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as problem:
        raise ValueError(f"card must hold what JSON can, got {problem}") from problem
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}))
    write_whole(path.with_suffix(".json"), text.encode())


def load_encoder(path: Path | str) -> tuple[ViT, dict[str, Any]]:
    """Read an encoder and its model card, ready for evaluation.

    Parameters
    ----------
    path : path
        File ``*.safetensors``, with its card beside it.

    Returns
    -------
    encoder : ViT
        In evaluation mode, on the CPU.
    card : dict
        As it was given to `save_encoder`, with "encoder".

    Raises
    ------
    ValueError
        If `path` has another suffix.
    CheckpointError
        If a file is missing or damaged, or the weights are not those of the network in the card.
    """
    path = _checked(path)
    card_path = path.with_suffix(".json")
    try:
        card, content = json.loads(card_path.read_text(encoding="utf-8")), path.read_bytes()
        encoder = ViT(**card["encoder"])
    except FileNotFoundError as problem:
        raise CheckpointError(
            f"no checkpoint: {Path(problem.filename).name} is missing"
        ) from problem
    except (KeyError, TypeError, ValueError) as problem:
        raise CheckpointError(f"{card_path.name} is no model card of a ViT: {type(problem).__name__} {problem}") from problem
    try:
        encoder.load_state_dict(load(content))
    except SafetensorError as problem:
        raise CheckpointError(f"{path.name} is damaged: {problem}") from problem
    except RuntimeError as problem:
        lines = [line.strip() for line in str(problem).splitlines()]
        raise CheckpointError(f"{path.name} holds other weights than its card says: {' '.join(lines[1:3])}") from problem
    return encoder.eval(), card


def _checked(path: Path | str) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must be a file named *.safetensors, got {path.name!r}")
    return path
