"""Frozen vision backbones that others trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import transformers

__all__ = ["VJEPA2"]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as in the model's own preparation of videos
_SMALLEST = 8  # pixels


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
