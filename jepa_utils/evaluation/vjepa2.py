"""V-JEPA 2 as a frozen eye: its weights through `transformers`, its tokens per image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jepa_utils.data._hub import (
    PassedOverError,
    Repo,
    Wanted,
    cache_folder,
    cached_files,
    endpoint,
    hub_files,
)

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import transformers
from torch.nn import functional as F

__all__ = ["NAME", "REVISION", "VJEPA2", "BackboneError", "load_vjepa2"]


NAME = "facebook/vjepa2-vitl-fpc64-256"


REVISION = "b3c1679b7c34d3255ef3547f27c7b226aefab26f"  # a commit: what it names never changes


_FILES = ("config.json", "model.safetensors")


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
        A repository of the hub, "organisation/name"; or, as a Path, a folder with its files
        config.json and model.safetensors. The published ViT-L has 326 million weights, a download
        of 1.3 GB.
    revision : str, default `REVISION`
        Commit, or branch, of the repository; of no meaning for a folder. The default is one of
        `NAME`.
    pool : int, default 2
        As of `VJEPA2`.
    cache_dir : path, optional
        Folder for downloads. Default: the environment variable ``JEPA_CACHE_DIR``, else the
        system's cache folder for ``jepa-book``.

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
        raise ValueError(
            f"name must be a repository 'organisation/name', or a folder as a Path; got {name!r}"
        )
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
            f"{name} at revision {revision[:8]} cannot be had: {problem}. Check the network "
            "(and HTTPS_PROXY, where there is a "
            f"proxy) for {endpoint()}/{name}, or give a folder with a copy of "
            f"{' and '.join(_FILES)} as a Path"
        ) from problem


def _read(name: str | Path, folder: Path) -> transformers.VJEPA2Model:
    from transformers import VJEPA2Model

    try:
        with _silent():
            model, report = VJEPA2Model.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    # the library's are of many kinds, with local paths and addresses in their messages
    except Exception as problem:
        raise BackboneError(
            f"{name} cannot be read ({type(problem).__name__}): config.json or "
            "model.safetensors is damaged, or of another network"
        ) from problem
    lacking = sorted(
        key for key in report["missing_keys"] if key.startswith("encoder.")
    )  # the library draws them at random
    if lacking:
        raise BackboneError(
            f"{name} is of another network: it lacks {len(lacking)} of the encoder's "
            f"weights, {lacking[0]} first"
        )
    return model.float()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from printing: bars, and messages that show local paths."""
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


_MEAN, _STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of ImageNet, as in the model's own preparation of videos


_SMALLEST = 8  # pixels


class VJEPA2(nn.Module):
    """Frozen encoder of V-JEPA 2, on still images: one vector for each place of a grid.

    V-JEPA 2 reads videos, a few frames at a time (a tubelet). An image is shown as one tubelet of
    equal frames, so there is one grid of tokens. Of an image that is not square the middle is seen;
    the square is resized to what the network was trained at, and standardised. Nothing learns here:
    no gradient is recorded, and `train` has no effect.

    Parameters
    ----------
    model : transformers.VJEPA2Model
        The trained network. Its encoder is kept, and frozen; its predictor is not needed.
    pool : int, default 2
        This many rows and columns of neighbouring tokens are averaged into one; must divide the
        sides of the network's grid, which are 16 in the published ViT-L.

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

    References
    ----------
    Assran et al., V-JEPA 2, arXiv 2506.09985.
    """

    def __init__(self, model: transformers.VJEPA2Model, *, pool: int = 2):
        super().__init__()
        config = getattr(model, "config", None)
        if getattr(config, "model_type", None) != "vjepa2" or not hasattr(model, "encoder"):
            raise ValueError(
                f"model must be a transformers.VJEPA2Model, got a {type(model).__name__}"
            )
        if config.in_chans != 3:
            raise ValueError(
                f"model must take 3 colour channels, got one that takes {config.in_chans}"
            )
        side = config.crop_size // config.patch_size
        if pool < 1 or side % pool:
            raise ValueError(f"pool must divide the grid's side {side}, got {pool}")
        self.encoder = model.encoder.requires_grad_(False)
        self.config, self.pool, self.revision = config, pool, None
        self.grid, self.dimensions = (side // pool, side // pool), config.hidden_size
        self.register_buffer("mean", 255 * torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(_STD).view(3, 1, 1), persistent=False)
        self.eval()

    def train(self, mode: bool = True) -> VJEPA2:
        """Stay in evaluation mode, whatever `mode` is asked for."""
        return super().train(False)

    def extra_repr(self) -> str:
        """What the weights' shapes do not tell."""
        c = self.config
        return f"pool={self.pool}, size={c.crop_size}, heads={c.num_attention_heads}"

    def clip(self, images: Tensor) -> Tensor:
        """What the network is shown: squares of its size S, standardised, as T equal frames.

        Returns
        -------
        Tensor, shape (B, T, 3, S, S)
        """
        if (
            images.dtype != torch.uint8
            or images.dim() != 4
            or images.shape[1] != 3
            or min(images.shape[2:]) < _SMALLEST
        ):
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
        return (
            ((square - self.mean) / self.std)
            .unsqueeze(1)
            .expand(-1, self.config.tubelet_size, -1, -1, -1)
        )

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
        tokens = self.encoder(
            self.clip(images)
        ).last_hidden_state.float()  # (B, K * pool * pool, D)
        rows, columns = self.grid
        return (
            tokens.unflatten(1, (rows, self.pool, columns, self.pool))
            .mean(dim=(2, 4))
            .flatten(1, 2)
        )
