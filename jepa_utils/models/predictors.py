"""Predictors: from what is seen to the embeddings of what is hidden."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count
from jepa_utils.models.vit import Block, init_weights, position_grid

__all__ = ["PatchPredictor"]


class PatchPredictor(nn.Module):
    """Predict the embeddings of hidden patches.

    A narrow transformer over the context and one mask token per hidden patch.

    A mask token is one learned vector, the same for all, plus the position of the patch it asks
    for.

    Parameters
    ----------
    dimensions : int
        Width D of the encoder's tokens.
    grid : tuple of int
        Rows and columns of patches.
    width : int, default 96
        Width of the predictor's own tokens; a multiple of 4.
    layers : int, default 3
        Transformer layers.
    heads : int, default 3
        Attention heads; must divide `width`.
    outputs : int, optional
        Numbers predicted per patch; `dimensions` by default. Pixels may be more or fewer.

    Raises
    ------
    ValueError
        If a size is out of range.

    References
    ----------
    Assran et al., arXiv 2301.08243, section 3. There each target block is predicted on its own;
    here all of an image's blocks are asked for at once, at about half the cost.
    """

    def __init__(
        self,
        dimensions: int,
        grid: tuple[int, int],
        *,
        width: int = 96,
        layers: int = 3,
        heads: int = 3,
        outputs: int | None = None,
    ):
        super().__init__()
        dimensions, layers = check_count("dimensions", dimensions), check_count("layers", layers)
        width = check_count("width", width)
        self.outputs = dimensions if outputs is None else check_count("outputs", outputs)
        self.read = nn.Linear(dimensions, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("positions", position_grid(width, *grid), persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, self.outputs)
        self.apply(init_weights)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, context: Tensor, seen: Tensor, wanted: Tensor) -> Tensor:
        """Predict the tokens at the wanted patches.

        Parameters
        ----------
        context : Tensor, shape (B, K, D)
            The encoder's tokens of the patches seen.
        seen : Tensor of int64, shape (B, K)
            Their indices.
        wanted : Tensor of int64, shape (B, T)
            Indices of the patches to predict.

        Returns
        -------
        Tensor, shape (B, T, `outputs`)

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        if (
            context.dim() != 3
            or context.shape[:2] != seen.shape
            or wanted.dim() != 2
            or len(wanted) != len(seen)
        ):
            raise ValueError(
                f"context must be (B, K, D), seen (B, K) and wanted (B, T), "
                f"got {tuple(context.shape)}, {tuple(seen.shape)} "
                f"and {tuple(wanted.shape)}"
            )
        asked = self.mask_token + self.positions[wanted]  # (B, T, W)
        x = torch.cat([self.read(context) + self.positions[seen], asked], dim=1)  # (B, K+T, W)
        for block in self.blocks:
            x = block(x)
        return self.write(self.norm(x[:, seen.shape[1] :]))
