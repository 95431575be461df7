"""Trained networks on disk: weights in safetensors, and a model card of how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from jepa_utils.files import write_whole
from jepa_utils.models.vit import ViT

__all__ = [
    "CheckpointError",
    "load_encoder",
    "load_weights",
    "read_card",
    "save_encoder",
    "save_weights",
]


Network = TypeVar("Network", bound=nn.Module)


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
    save_weights(encoder, path, {**card, "encoder": encoder.sizes})


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
    card = read_card(path)
    try:
        encoder = ViT(**card["encoder"])
    except (KeyError, TypeError, ValueError) as problem:
        raise CheckpointError(
            f"{_card_path(path).name} is no model card of a ViT: {type(problem).__name__} {problem}"
        ) from problem
    return load_weights(encoder, path)


def save_weights(network: nn.Module, path: Path | str, card: Mapping[str, Any]) -> None:
    """Write a network's weights and its model card; each file appears whole or not at all.

    Parameters
    ----------
    network : nn.Module
        The network.
    path : path
        File ``*.safetensors``; the card is written beside it, as ``*.json``.
    card : mapping
        How it was trained, on what, and what it scores.

    Raises
    ------
    ValueError
        If `path` has another suffix, or `card` holds something that JSON cannot.
    """
    path = _checked(path)
    try:
        text = json.dumps(card, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as problem:
        raise ValueError(f"card must hold what JSON can, got {problem}") from problem
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(
        path,
        save(
            {
                name: tensor.detach().cpu().contiguous()
                for name, tensor in network.state_dict().items()
            }
        ),
    )
    write_whole(_card_path(path), text.encode())


def load_weights(network: Network, path: Path | str) -> tuple[Network, dict[str, Any]]:
    """Read weights into a network of the same sizes, ready for evaluation.

    Parameters
    ----------
    network : nn.Module
        Filled in place.
    path : path
        File ``*.safetensors``, with its card beside it.

    Returns
    -------
    network : nn.Module
        The same one, in evaluation mode.
    card : dict
        As it was given to `save_weights`.

    Raises
    ------
    ValueError
        If `path` has another suffix.
    CheckpointError
        If a file is missing or damaged, or the weights are those of another network.
    """
    path, card = Path(path), read_card(path)
    try:
        network.load_state_dict(load(path.read_bytes()))
    except FileNotFoundError as problem:
        raise CheckpointError(f"no checkpoint: {path.name} is missing") from problem
    except SafetensorError as problem:
        raise CheckpointError(f"{path.name} is damaged: {problem}") from problem
    except RuntimeError as problem:
        lines = [line.strip() for line in str(problem).splitlines()]
        raise CheckpointError(
            f"{path.name} holds other weights than the network has: {' '.join(lines[1:3])}"
        ) from problem
    return network.eval(), card


def read_card(path: Path | str) -> dict[str, Any]:
    """Read the model card of a checkpoint.

    Parameters
    ----------
    path : path
        File ``*.safetensors``, with its card beside it.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If `path` has another suffix.
    CheckpointError
        If the card is missing or none.
    """
    path = _checked(path)
    try:
        card = json.loads(_card_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise CheckpointError(f"no checkpoint: {_card_path(path).name} is missing") from problem
    except ValueError as problem:
        raise CheckpointError(f"{_card_path(path).name} is no model card: {problem}") from problem
    if not isinstance(card, dict):
        raise CheckpointError(
            f"{_card_path(path).name} is no model card: it holds a {type(card).__name__}"
        )
    return card


def _card_path(path: Path | str) -> Path:
    return Path(path).with_suffix(".json")


def _checked(path: Path | str) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must be a file named *.safetensors, got {path.name!r}")
    return path
