"""Trained vision backbones from the hub, and a cache of what they say of a data set."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from jepa_utils.data._hub import PassedOverError, Repo, Wanted, cache_folder, cached_files, endpoint, hub_files
from jepa_utils.models.backbones import VJEPA2

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import transformers

__all__ = ["NAME", "REVISION", "BackboneError", "cached_tokens", "load_vjepa2"]

NAME = "facebook/vjepa2-vitl-fpc64-256"
REVISION = "b3c1679b7c34d3255ef3547f27c7b226aefab26f"  # a commit: what it names never changes

_FILES = ("config.json", "model.safetensors")
_KIND = "tokens of jepa_utils"  # marks the files of `cached_tokens`


class BackboneError(RuntimeError):
    """A backbone cannot be had, or its files are damaged or of another network."""


# Loading


def load_vjepa2(
    name: str | Path = NAME,
    *,
    revision: str = REVISION,
    pool: int = 2,
    cache_dir: str | Path | None = None,
) -> VJEPA2:
    """Load trained weights: from the cache, else from the hub; or from a folder.

    Parameters
    ----------
    name : str or Path, default `NAME`
        A repository of the hub, "organisation/name"; or, as a Path, a folder with its files config.json and
        model.safetensors. The published ViT-L has 326 million weights, a download of 1.3 GB.
    revision : str, default `REVISION`
        Commit, or branch, of the repository; of no meaning for a folder. The default is one of `NAME`.
    pool : int, default 2
        As of `VJEPA2`.
    cache_dir : path, optional
        Folder for downloads. Default: the environment variable ``JEPA_CACHE_DIR``, else the system's cache folder for
        ``jepa-book``.

    Returns
    -------
    VJEPA2
        On the CPU, in float32.

    Raises
    ------
    ValueError
        If `name` is no repository's name, or `pool` does not divide the grid.
    BackboneError
        If the files cannot be had, within seconds where there is no network, or cannot be read.
    """
    if isinstance(name, str) and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise ValueError(f"name must be a repository 'organisation/name', or a folder as a Path; got {name!r}")
    folder = name if isinstance(name, Path) else _from_hub(name, revision, cache_folder(cache_dir))
    try:
        _find(folder)
    except PassedOverError as problem:
        raise BackboneError(f"{name} cannot be read: {problem}") from problem
    backbone = VJEPA2(_read(name, folder), pool=pool)
    if isinstance(name, str):
        backbone.revision = folder.name  # the cache names its folders by commit
    return backbone


def _find(folder: Path) -> dict[str, list[str]]:
    for file in _FILES:
        if not (folder / file).is_file():
            raise PassedOverError(f"it has no file {file}. It must hold {' and '.join(_FILES)}")
    return {"files": list(_FILES)}


def _from_hub(name: str, revision: str, cache: Path) -> Path:
    """Return the folder of the files in the cache; what is not there is downloaded."""
    import huggingface_hub  # slow to import

    wanted = Wanted(Repo(name, revision, kind="model"), _find, _FILES)
    try:
        if huggingface_hub.constants.HF_HUB_OFFLINE and cached_files(wanted, cache) is None:
            raise PassedOverError("HF_HUB_OFFLINE forbids downloads, and it is not in the cache")
        return hub_files(name, wanted, cache)["files"][0].path.parent
    except PassedOverError as problem:
        raise BackboneError(
            f"{name} at revision {revision[:8]} cannot be had: {problem}. Check the network (and HTTPS_PROXY, where there is a "
            f"proxy) for {endpoint()}/{name}, or give a folder with a copy of {' and '.join(_FILES)} as a Path"
        ) from problem


def _read(name: str | Path, folder: Path) -> transformers.VJEPA2Model:
    from transformers import VJEPA2Model

    try:
        with _silent():
            model, report = VJEPA2Model.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as problem:  # the library's are of many kinds, with local paths and addresses in their messages
        raise BackboneError(
            f"{name} cannot be read ({type(problem).__name__}): config.json or model.safetensors is damaged, or of another network"
        ) from problem
    lacking = sorted(key for key in report["missing_keys"] if key.startswith("encoder."))  # the library draws them at random
    if lacking:
        raise BackboneError(f"{name} is of another network: it lacks {len(lacking)} of the encoder's weights, {lacking[0]} first")
    return model.float()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from printing: its bars and its messages, which show local paths, would stay on the page."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


# Cache


def cached_tokens(encoder: nn.Module, images: Tensor, file: str | Path, *, name: str, batch_size: int = 16) -> Tensor:
    """The tokens of all images, computed once and kept in a file.

    The file knows whose tokens it holds: the encoder's name, its printed form and a checksum of its weights, and a checksum of
    the images. If one of them is another one now, the tokens are computed anew and replace the old ones.

    Parameters
    ----------
    encoder : nn.Module
        Images (B, 3, H, W) of uint8 to tokens (B, K, D). It is asked on the device where its parameters lie, in evaluation mode.
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.
    file : path
        File ``*.safetensors``; its folder is made if need be.
    name : str
        Name of the encoder. Must be another one for encoders that differ in neither weights nor printed form.
    batch_size : int, default 16
        Images at a time.

    Returns
    -------
    Tensor of float16, shape (N, K, D)
        On the CPU.

    Raises
    ------
    ValueError
        If an argument has another shape or type, `file` has another suffix or holds something that is not from here, or the
        encoder does not give tokens of one shape, finite in half precision.

    Warns
    -----
    UserWarning
        If the file is damaged, or holds the tokens of another encoder or of other images: it is replaced.
    """
    file = Path(file)
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"images must be uint8 of shape (N, 3, H, W), got {images.dtype} of shape {tuple(images.shape)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if file.suffix != ".safetensors":
        raise ValueError(f"file must be named *.safetensors, got {file.name!r}")
    wanted = {"kind": _KIND, "name": name, "encoder": _encoder_digest(encoder), "images": _digest(images)}
    if file.exists():
        tokens = _kept(file, wanted)
        if tokens is not None:
            return tokens
    file.parent.mkdir(parents=True, exist_ok=True)  # before the long computation, not after it
    tokens = _compute(encoder, images, batch_size)
    known = {**wanted, "shape": str(tuple(tokens.shape)), "tokens": _digest(tokens)}
    # Beside its place and renamed, so that it is there whole or not at all; not as bytes in memory, which would double it.
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}-") as folder:
        part = Path(folder) / file.name
        save_file({"tokens": tokens}, part, known)
        os.chmod(part, 0o644)  # the library's files are for their owner only
        os.replace(part, file)
    return tokens


def _kept(file: Path, wanted: dict[str, str]) -> Tensor | None:
    """Return the file's tokens if they are whole and those wanted; else warn why not."""
    try:
        with safe_open(file, framework="pt") as content:
            found = content.metadata() or {}
            if found.get("kind") != _KIND:
                raise ValueError(f"file must be new, or of earlier tokens; {file.name} holds something else and is not touched")
            others = [key for key in wanted if found.get(key) != wanted[key]]
            tokens = None if others else content.get_tensor("tokens")
    except SafetensorError as problem:
        warnings.warn(f"{file.name} is damaged ({problem}); its tokens are computed anew", UserWarning, stacklevel=3)
        return None
    if others:
        reason = f"holds other tokens (other {' and '.join(others)})"
    elif found.get("tokens") != _digest(tokens):
        reason = "is damaged (other bytes than its checksum says)"
    else:
        return tokens
    warnings.warn(f"{file.name} {reason}; its tokens are computed anew", UserWarning, stacklevel=3)
    return None


@torch.no_grad()
def _compute(encoder: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    training, device = encoder.training, next(encoder.parameters(), images).device
    encoder.eval()
    kept = None
    try:
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            tokens = encoder(part.to(device)).to("cpu", torch.float16)
            if kept is None and tokens.dim() == 3:  # all of it is reserved at once, for joining the parts would take it twice
                kept = torch.empty(len(images), *tokens.shape[1:], dtype=torch.float16)
            shape = (len(part), *(kept.shape[1:] if kept is not None else ("K", "D")))
            if tokens.shape != shape:
                raise ValueError(f"encoder must give tokens of shape {shape} for {len(part)} images, got {tuple(tokens.shape)}")
            if not tokens.isfinite().all():
                raise ValueError(f"encoder must give tokens that are finite in half precision; those from image {start} are not")
            kept[start : start + len(part)] = tokens
    finally:
        encoder.train(training)
    return kept


def _encoder_digest(encoder: nn.Module) -> str:
    """Checksum of a module's printed form and weights."""
    digest = hashlib.sha256(repr(encoder).encode())
    for key, tensor in encoder.state_dict().items():
        digest.update(f"{key} {_digest(tensor)}\n".encode())
    return digest.hexdigest()


def _digest(tensor: Tensor) -> str:
    """Checksum of a tensor: type, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
