"""A vision transformer on patches: of whole images, or of those patches that a mask shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.arguments import check_count

__all__ = ["Block", "ViT", "patchify", "position_grid"]


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut images into square patches, row by row.

    Parameters
    ----------
    images : Tensor, shape (B, C, H, W)
        Images.
    patch : int
        Side of a patch, in pixels; must divide H and W.

    Returns
    -------
    Tensor, shape (B, L, C * patch * patch)
        The pixels of the L = H/patch * W/patch patches.

    Raises
    ------
    ValueError
        If `images` has another shape, or `patch` does not divide its sides.
    """
    if images.dim() != 4:
        raise ValueError(f"images must have shape (B, C, H, W), got {tuple(images.shape)}")
    patch = check_count("patch", patch)
    if images.shape[2] % patch or images.shape[3] % patch:
        raise ValueError(
            f"patch must divide the images' sides, got {patch} for {tuple(images.shape[2:])}"
        )
    return F.unfold(images, kernel_size=patch, stride=patch).transpose(1, 2)


def position_grid(dimensions: int, rows: int, columns: int) -> Tensor:
    """Fixed position vectors of a grid.

    Sines and cosines of the row in one half, of the column in the other.

    Parameters
    ----------
    dimensions : int
        Width D of a vector; a multiple of 4.
    rows, columns : int
        Size of the grid.

    Returns
    -------
    Tensor, shape (rows * columns, D)
        Row by row.

    Raises
    ------
    ValueError
        If `dimensions` is not a positive multiple of 4, or the grid is empty.

    References
    ----------
    Vaswani et al., arXiv 1706.03762, section 3.5; in two dimensions as in MAE, arXiv 2111.06377.
    """
    sizes = dict(dimensions=dimensions, rows=rows, columns=columns)
    dimensions, rows, columns = (check_count(*size) for size in sizes.items())
    if dimensions % 4:
        raise ValueError(f"dimensions must be a positive multiple of 4, got {dimensions}")
    frequencies = 10000 ** -(torch.arange(dimensions // 4) / (dimensions // 4))  # (D/4,)
    angles = [torch.arange(size).unsqueeze(1) * frequencies for size in (rows, columns)]
    down, across = (
        torch.cat([a.sin(), a.cos()], dim=1) for a in angles
    )  # (rows, D/2) and (columns, D/2)
    return torch.cat([down.repeat_interleave(columns, dim=0), across.repeat(rows, 1)], dim=1)


class Block(nn.Module):
    """Transformer layer: every token looks at every other one, then thinks; norms come first.

    Parameters
    ----------
    dimensions : int
        Width D of the tokens.
    heads : int
        Attention heads; must divide `dimensions`.
    ratio : int, default 4
        Width of the hidden layer, in D.

    Raises
    ------
    ValueError
        If a size is no integer of at least 1, or `heads` does not divide `dimensions`.
    """

    def __init__(self, dimensions: int, heads: int, ratio: int = 4):
        super().__init__()
        sizes = dict(dimensions=dimensions, heads=heads, ratio=ratio)
        dimensions, heads, ratio = (check_count(*size) for size in sizes.items())
        if dimensions % heads:
            raise ValueError(f"heads must divide dimensions = {dimensions}, got {heads}")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dimensions), nn.LayerNorm(dimensions)
        self.qkv = nn.Linear(dimensions, 3 * dimensions)
        self.project = nn.Linear(dimensions, dimensions)
        self.mlp = nn.Sequential(
            nn.Linear(dimensions, ratio * dimensions),
            nn.GELU(),
            nn.Linear(ratio * dimensions, dimensions),
        )

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        split = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, H, D/H)
        return split.permute(2, 0, 3, 1, 4).unbind(0)  # three times (B, H, L, D/H)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, L, D) to tokens (B, L, D)."""
        seen = F.scaled_dot_product_attention(*self._queries_keys_values(x))  # (B, H, L, D/H)
        x = x + self.project(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))

    def attention(self, x: Tensor) -> Tensor:
        """How much each token looks at each: (B, H, L, L), rows sum to 1."""
        queries, keys, _ = self._queries_keys_values(x)
        return (queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5).softmax(dim=-1)


def init_weights(module: nn.Module) -> None:
    """Small normal weights and zero biases for linear layers, as usual for vision transformers."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class ViT(nn.Module):
    """Vision transformer: one vector per patch; fixed positions, no class token.

    Parameters
    ----------
    image_size : int, default 32
        Side of the square images, in pixels.
    patch : int, default 4
        Side of a patch, in pixels; must divide `image_size`.
    channels : int, default 3
        Colour channels.
    dimensions : int, default 192
        Width D of the tokens; a multiple of 4.
    layers : int, default 6
        Transformer layers.
    heads : int, default 3
        Attention heads; must divide `dimensions`.

    Raises
    ------
    ValueError
        If a size is out of range, or does not divide another one.

    References
    ----------
    Dosovitskiy et al., arXiv 2010.11929; as I-JEPA's encoder, arXiv 2301.08243.
    """

    def __init__(
        self,
        *,
        image_size: int = 32,
        patch: int = 4,
        channels: int = 3,
        dimensions: int = 192,
        layers: int = 6,
        heads: int = 3,
    ):
        super().__init__()
        sizes = dict(  # what it takes to build another one like it
            image_size=image_size,
            patch=patch,
            channels=channels,
            dimensions=dimensions,
            layers=layers,
            heads=heads,
        )
        self.sizes = {name: check_count(name, value) for name, value in sizes.items()}
        image_size, patch, channels, dimensions, layers, heads = self.sizes.values()
        if image_size % patch:
            raise ValueError(f"patch must divide image_size = {image_size}, got {patch}")
        self.image_size, self.patch, self.channels, self.dimensions = (
            image_size,
            patch,
            channels,
            dimensions,
        )
        side = image_size // patch
        self.grid = (side, side)
        self.embed = nn.Linear(channels * patch * patch, dimensions)
        self.register_buffer("positions", position_grid(dimensions, *self.grid), persistent=False)
        self.blocks = nn.ModuleList(Block(dimensions, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dimensions)
        self.apply(init_weights)
        # At the usual 0.02 the positions would drown the pixels, and predicting positions takes no
        # understanding of images.
        nn.init.normal_(self.embed.weight, std=self.embed.in_features**-0.5)

    def tokens(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Patches with their positions, before the first layer; arguments as for `forward`."""
        wanted = (self.channels, self.image_size, self.image_size)
        if images.dim() != 4 or tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, wanted))}), "
                f"got {tuple(images.shape)}"
            )
        patches = patchify(images, self.patch)  # (B, L, C*P*P)
        if keep is None:
            return self.embed(patches) + self.positions
        if keep.dim() != 2 or len(keep) != len(images) or keep.dtype != torch.int64:
            raise ValueError(
                f"keep must be int64 patch indices of shape ({len(images)}, K), "
                f"got {tuple(keep.shape)} of {keep.dtype}"
            )
        chosen = patches.gather(
            1, keep.unsqueeze(-1).expand(-1, -1, patches.shape[-1])
        )  # (B, K, C*P*P)
        return self.embed(chosen) + self.positions[keep]

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """One vector for each patch.

        Parameters
        ----------
        images : Tensor, shape (B, C, S, S)
            Standardised images.
        keep : Tensor of int64, shape (B, K), optional
            Indices of the patches that are seen, row by row; all by default. The others are not
            even computed.

        Returns
        -------
        Tensor, shape (B, K, D)
            In the order of `keep`.

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        x = self.tokens(images, keep)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def layers(self, images: Tensor) -> list[Tensor]:
        """The tokens (B, L, D) before the first layer and after each one.

        The last are those of `forward`, without its norm.
        """
        outputs = [self.tokens(images)]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return outputs

    def attention(self, images: Tensor) -> Tensor:
        """Where the last layer looks: (B, H, L, L), from each patch (row) to each (column)."""
        return self.blocks[-1].attention(self.layers(images)[-2])
