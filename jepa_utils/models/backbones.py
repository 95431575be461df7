"""Frozen vision backbones that others trained, and a cache of what they say of a data set."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pooch
import requests
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import transformers

__all__ = ["NAME", "REVISION", "VJEPA2", "BackboneError", "cached_tokens"]

NAME = "facebook/vjepa2-vitl-fpc64-256"
REVISION = "b3c1679b7c34d3255ef3547f27c7b226aefab26f"  # a commit: what it names never changes

_FILES = ("config.json", "model.safetensors")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in the model's own preparation of videos
_REACH_SECONDS = 3.0
_SMALLEST = 8  # pixels
_KIND = "tokens of jepa_utils"  # marks the files of `cached_tokens`


class BackboneError(RuntimeError):
    """A backbone cannot be had, or its files are damaged or of another network."""


class VJEPA2(nn.Module):
    """Frozen encoder of V-JEPA 2, on still images: one vector for each place of a grid.

    V-JEPA 2 reads videos, a few frames at a time (a tubelet). An image is shown as one tubelet of equal frames, so there is one
    grid of tokens. Of an image that is not square the middle is seen; the square is resized to what the network was trained at,
    and standardised. Nothing learns here: no gradient is recorded, and `train` has no effect.

    Parameters
    ----------
    model : transformers.VJEPA2Model
        The trained network. Its encoder is kept, and frozen; its predictor is not needed.
    pool : int, default 2
        This many rows and columns of neighbouring tokens are averaged into one; must divide the sides of the network's grid,
        which are 16 in the published ViT-L.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of tokens, after pooling.
    dimensions : int
        Width D of a token.
    revision : str or None
        Commit of the hub's repository that the weights are from; None if they are from elsewhere.

    Raises
    ------
    ValueError
        If `model` is another network, or `pool` does not divide its grid.

    Source
    ------
    Assran et al., V-JEPA 2, arXiv 2506.09985.
    """

    def __init__(self, model: transformers.VJEPA2Model, *, pool: int = 2):
        super().__init__()
        config = getattr(model, "config", None)
        if getattr(config, "model_type", None) != "vjepa2" or not hasattr(model, "encoder"):
            raise ValueError(f"model must be a transformers.VJEPA2Model, got a {type(model).__name__}")
        if config.in_chans != 3:
            raise ValueError(f"model must take 3 colour channels, got one that takes {config.in_chans}")
        side = config.crop_size // config.patch_size
        if pool < 1 or side % pool:
            raise ValueError(f"pool must divide the grid's side {side}, got {pool}")
        self.encoder = model.encoder.requires_grad_(False)
        self.config, self.pool, self.revision = config, pool, None
        self.grid, self.dimensions = (side // pool, side // pool), config.hidden_size
        self.register_buffer("mean", 255 * torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.eval()

    @classmethod
    def from_hub(
        cls,
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
            As of the class.
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
        folder = name if isinstance(name, Path) else _from_hub(name, revision, cache_dir)
        for file in _FILES:
            if not (folder / file).is_file():
                raise BackboneError(f"{name} cannot be read: it has no file {file}. It must hold {' and '.join(_FILES)}")
        backbone = cls(_read(name, folder), pool=pool)
        if isinstance(name, str):
            backbone.revision = folder.name  # the cache names its folders by commit
        return backbone

    def train(self, mode: bool = True) -> VJEPA2:
        """Stay in evaluation mode, whatever `mode` is asked for."""
        return super().train(False)

    def extra_repr(self) -> str:
        """What the weights' shapes do not tell."""
        c = self.config
        return f"pool={self.pool}, size={c.crop_size}, heads={c.num_attention_heads}"

    def clip(self, images: Tensor) -> Tensor:
        """What the network is shown: squares of its size S, standardised, as T equal frames; arguments as for `forward`.

        Returns
        -------
        Tensor, shape (B, T, 3, S, S)
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3 or min(images.shape[2:]) < _SMALLEST:
            raise ValueError(
                f"images must be uint8 of shape (B, 3, H, W), with sides of at least {_SMALLEST}; "
                f"got {images.dtype} of shape {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = images[:, :, top : top + side, left : left + side].to(self.mean.dtype)
        size = (self.config.crop_size, self.config.crop_size)
        square = F.interpolate(square, size, mode="bilinear", antialias=True)
        return ((square - self.mean) / self.std).unsqueeze(1).expand(-1, self.config.tubelet_size, -1, -1, -1)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """One vector for each place of the grid.

        Parameters
        ----------
        images : Tensor of uint8, shape (B, 3, H, W)
            Images of any size from 8 x 8 pixels, colours from 0 to 255.

        Returns
        -------
        Tensor of float32, shape (B, K, D)
            K = rows * columns of `grid`, row by row.

        Raises
        ------
        ValueError
            If `images` has another shape or type.
        """
        tokens = self.encoder(self.clip(images)).last_hidden_state.float()  # (B, K * pool * pool, D)
        rows, columns = self.grid
        return tokens.unflatten(1, (rows, self.pool, columns, self.pool)).mean(dim=(2, 4)).flatten(1, 2)


# Loading


def _from_hub(name: str, revision: str, cache_dir: str | Path | None) -> Path:
    """Return the folder of the files in the cache; what is not there is downloaded."""
    import huggingface_hub  # slow to import

    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    cache = Path(cache_dir or os.environ.get("JEPA_CACHE_DIR") or pooch.os_cache("jepa-book"))

    def snapshot(**options: bool) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(_FILES),
                cache_dir=cache / "hub",
                endpoint=address,
                token=False,  # it is public, so nobody's token is sent
                etag_timeout=_REACH_SECONDS,
                **options,
            )
        )

    with _quiet():
        try:
            folder = snapshot(local_files_only=True)
            if all((folder / file).is_file() for file in _FILES):
                return folder
        except (OSError, ValueError):
            pass  # not in the cache
        # Asked first, for the library itself tries again and again for minutes.
        offline = huggingface_hub.constants.HF_HUB_OFFLINE
        reason = "HF_HUB_OFFLINE forbids downloads, and it is not in the cache" if offline else _unreachable(address)
        if not reason:
            try:
                return snapshot()
            except Exception as problem:  # the library passes on those of its HTTP libraries, which differ by version
                # The library wraps some answers in an error of its own.
                responses = [getattr(error, "response", None) for error in (problem, problem.__cause__)]
                status = [f"HTTP status {r.status_code}" for r in responses if r is not None]
                reason = f"the download failed ({', '.join([type(problem).__name__, *status[:1]])})"
    raise BackboneError(
        f"{name} at revision {revision[:8]} cannot be had: {reason}. Check the network (and HTTPS_PROXY, where there is a proxy) "
        f"for {address}/{name}, or give a folder with a copy of {' and '.join(_FILES)} as a Path"
    )


def _unreachable(address: str) -> str | None:
    """Say why the address cannot be reached, None if it can.

    A thread of its own, because a name that does not resolve can hang longer than any timeout of the request.
    """
    outcome = [f"no answer within {_REACH_SECONDS:g} seconds"]

    def ask() -> None:
        try:
            requests.head(address, timeout=_REACH_SECONDS, allow_redirects=True)
            outcome[0] = ""
        except (OSError, ValueError) as problem:  # those of requests are OSErrors
            outcome[0] = type(problem).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS)
    return f"the hub cannot be reached ({outcome[0]})" if outcome[0] else None


def _read(name: str | Path, folder: Path) -> transformers.VJEPA2Model:
    from transformers import VJEPA2Model

    try:
        with _quiet():
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
def _quiet() -> Iterator[None]:
    """Keep both libraries from printing: their bars and their messages, which show local paths, would stay on the page."""
    import huggingface_hub.utils as hub
    from transformers.utils import logging

    bars = not hub.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    levels = hub.logging.get_verbosity(), logging.get_verbosity()
    hub.disable_progress_bars()
    logging.disable_progress_bar()
    hub.logging.set_verbosity_error()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        if bars[0]:
            hub.enable_progress_bars()
        if bars[1]:
            logging.enable_progress_bar()
        hub.logging.set_verbosity(levels[0])
        logging.set_verbosity(levels[1])


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
