"""Trained networks on disk: weights in safetensors, and a model card of how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

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
        As `save_weights`.
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
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as problem:
        raise CheckpointError(
            f"{_card_path(_checked(path)).name} is no model card of a ViT: "
            f"{type(problem).__name__} {problem}"
        ) from problem
    return load_weights(encoder, path)


def save_weights(network: nn.Module, path: Path | str, card: Mapping[str, Any]) -> None:
    """Write a network's weights and its model card; each file appears whole or not at all.

    Parameters
    ----------
    network : nn.Module
        The network. A tensor that goes by several names is written once, under the first.
    path : path
        File ``*.safetensors``; the card is written beside it, as ``*.json``.
    card : mapping
        How it was trained, on what, and what it scores.

    Raises
    ------
    TypeError
        If the network's state is not tensors alone.
    ValueError
        If `path` has another suffix or is a folder, or `card` is no mapping or holds something that
        JSON cannot.
    """
    path = _checked(path)
    if not isinstance(card, Mapping):
        raise ValueError(f"card must be a mapping, got {type(card).__name__}")
    for file in (path, _card_path(path)):
        if file.is_dir():
            raise ValueError(f"path must leave room for the file {file.name}, got a folder there")
    try:
        text = json.dumps(dict(card), indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as problem:
        raise ValueError(f"card must hold what JSON can, got {problem}") from problem
    state = _state(network)
    # a copy of each: views may share memory, which safetensors refuses
    tensors = {n: state[n].detach().cpu().clone().contiguous() for n in _names(state)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(tensors))
    write_whole(_card_path(path), text.encode())


def load_weights(network: Network, path: Path | str) -> tuple[Network, dict[str, Any]]:
    """Read weights into a network of the same sizes, ready for evaluation.

    Parameters
    ----------
    network : nn.Module
        Filled in place, or left as it was where an error is raised.
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
        If a file is missing or damaged, or the weights are those of another network: it has other
        names or shapes, or shares other tensors.
    """
    path, card = _checked(path), read_card(path)
    content = _read(path)
    try:
        saved = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise CheckpointError(f"{path.name} is damaged: {problem}") from problem
    state = _state(network)
    problems = [f"unexpected {name}" for name in saved.keys() - state.keys()]
    for first, others in _names(state).items():
        given = [saved[name] for name in (first, *others) if name in saved]
        if not given:
            problems.append(f"missing {first}")
        for tensor in given:
            if tensor.shape != state[first].shape:
                shapes = tuple(tensor.shape), tuple(state[first].shape)
                problems.append(f"{first} of shape {shapes[0]} for {shapes[1]}")
            elif tensor is not given[0] and not torch.equal(tensor, given[0]):
                problems.append(f"two values of {first}, which the network shares")
        saved |= dict.fromkeys((first, *others), given[0]) if given else {}
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path.name} holds other weights than the network has: "
            f"{'; '.join(sorted(problems)[:3])}{more}"
        )
    network.load_state_dict(saved)
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
    path = _card_path(_checked(path))
    try:
        card = json.loads(_read(path).decode())
    except (ValueError, RecursionError) as problem:
        raise CheckpointError(f"{path.name} is no model card: {problem}") from problem
    if not isinstance(card, dict):
        raise CheckpointError(f"{path.name} is no model card: it holds a {type(card).__name__}")
    return card


def _state(network: nn.Module) -> dict[str, Tensor]:
    state = network.state_dict(keep_vars=True)  # the tensors themselves, so that ties are seen
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"network must have a state of tensors alone, "
                f"got a {type(value).__name__} for {name}"
            )
    return state


def _names(state: dict[str, Tensor]) -> dict[str, list[str]]:
    """The first name of each tensor, and its other ones."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, tensor in state.items():
        if id(tensor) in first:
            names[first[id(tensor)]].append(name)
        else:
            first[id(tensor)], names[name] = name, []
    return names


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError as problem:
        raise CheckpointError(f"no checkpoint: {path.name} is missing") from problem
    except OSError as problem:  # a folder, no permission
        raise CheckpointError(
            f"no checkpoint: {path.name} cannot be read: {problem.strerror}"
        ) from problem
    if not content:
        raise CheckpointError(f"{path.name} is empty")
    if content.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name} is a pointer of Git LFS and not the file; `git lfs pull` fetches that"
        )
    return content


def _card_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _checked(path: Path | str) -> Path:
    path = Path(path).expanduser()
    if path.suffix != ".safetensors":
        raise ValueError(f"path must be a file named *.safetensors, got {path.name!r}")
    return path
