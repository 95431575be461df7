"""V-JEPA 2 as a frozen eye: its weights through `transformers`, its tokens per image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.arguments import check_count
from jepa_utils.data.integrity import PassedOverError
from jepa_utils.data.load import Files, first_source, hub_files, mirror_files
from jepa_utils.data.registry import Place

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import transformers

__all__ = ["VJEPA2", "load_vjepa2"]

# The published ViT-L: 326 million weights, a download of 1.3 GB.
_FILES = {"all": ("config.json", "model.safetensors")}
WEIGHTS = Place("facebook/vjepa2-vitl-fpc64-256", _FILES, "model")

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as it was trained with
_SMALLEST = 8  # pixels


def load_vjepa2(*, pool: int = 2) -> VJEPA2:
    """Load the published ViT-L from the mirror, else from the hub; a download of 1.3 GB.

    Parameters
    ----------
    pool : int, default 2
        As of `VJEPA2`.

    Returns
    -------
    VJEPA2
        On the CPU, in float32.

    Raises
    ------
    ValueError
        If `pool` does not divide the grid.
    DataUnavailableError
        If the files cannot be had, within 5 seconds where there is no network, or cannot be read.
    """
    readers = {
        "mirror": lambda: _read(mirror_files(WEIGHTS)),
        "hub": lambda: _read(hub_files(WEIGHTS)),
    }
    return VJEPA2(first_source("V-JEPA 2", None, WEIGHTS, readers), pool=pool)


def _read(files: Files) -> transformers.VJEPA2Model:
    from transformers import VJEPA2Model

    folder = files["all"][0][0].parent
    try:
        with _silent():
            model, report = VJEPA2Model.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as problem:  # of many kinds, with local paths in their messages
        reason = f"config.json or model.safetensors is damaged ({type(problem).__name__})"
        raise PassedOverError(reason) from problem
    # The library draws at random what is not there.
    lacking = sorted(key for key in report["missing_keys"] if key.startswith("encoder."))
    if lacking:
        raise PassedOverError(f"model.safetensors lacks {lacking[0]}: it is of another network")
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
        pool = check_count("pool", pool)
        if side % pool:
            raise ValueError(f"pool must divide the grid's side {side}, got {pool}")
        self.encoder = model.encoder.requires_grad_(False)
        self.config, self.pool = config, pool
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
