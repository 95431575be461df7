"""A small residual network: a grid of tokens from each image, as the vision transformer gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jepa_utils.arguments import check_count

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """Residual network whose last map is read as tokens, row by row.

    A first convolution halves the image; each stage but the first halves it again. Channels are
    normalised in groups, so an image's tokens do not depend on the rest of its batch.

    Parameters
    ----------
    image_size : int, default 32
        Height and width of the images that it is trained on; must be divisible by
        2 ** (number of stages). It takes larger ones, too, and gives more tokens of them.
    channels : sequence of int, default (32, 64, 128, 256)
        Channels of each stage, multiples of 8; the last is the width D of the tokens.

    Attributes
    ----------
    grid : tuple of int
        Rows and columns of tokens of an image of that size.
    dimensions : int
        D.
    sizes : dict
        The arguments.

    Raises
    ------
    ValueError
        If a size is out of range.

    References
    ----------
    He et al., arXiv 1512.03385; Wu and He, "Group Normalization", arXiv 1803.08494.
    """

    def __init__(self, image_size: int = 32, channels: Sequence[int] = (32, 64, 128, 256)):
        super().__init__()
        image_size = check_count("image_size", image_size)
        channels = [check_count("channels", count) for count in channels]
        if not channels or any(count % 8 for count in channels):
            raise ValueError(f"channels must be multiples of 8, one at least, got {channels}")
        if image_size % 2 ** len(channels):
            raise ValueError(
                f"image_size must be divisible by {2 ** len(channels)} for {len(channels)} stages, "
                f"got {image_size}"
            )
        self.sizes = {"image_size": image_size, "channels": channels}
        self.image_size, self.dimensions = image_size, channels[-1]
        side = image_size // 2 ** len(channels)
        self.grid = (side, side)
        stem = nn.Conv2d(3, channels[0], 3, stride=2, padding=1, bias=False)
        stages = [
            _Block(before, after, stride=1 if stage == 0 else 2)
            for stage, (before, after) in enumerate(
                zip([channels[0], *channels], channels, strict=False)
            )
        ]
        self.layers = nn.Sequential(stem, nn.GroupNorm(8, channels[0]), nn.ReLU(), *stages)
        # twice as fast on processors
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """One vector for each place of the last map.

        Parameters
        ----------
        images : Tensor, shape (B, 3, H, W)
            Standardised images; H and W divisible by 2 ** (number of stages).

        Returns
        -------
        Tensor, shape (B, K, D)

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        self._check(images)
        x = self.layers(images.contiguous(memory_format=torch.channels_last))
        return x.flatten(2).mT

    @torch.no_grad()
    def pyramid(self, images: Tensor, grid: int | None = None) -> Tensor:
        """What all stages see, side by side, for those who read a frozen network.

        Early stages keep edges and colours, which the last one has learned not to tell.

        Parameters
        ----------
        images : Tensor, shape (B, 3, H, W)
            As for `forward`.
        grid : int, optional
            Rows and columns of places K; those of the last map by default.

        Returns
        -------
        Tensor, shape (B, K, sum of the channels)
            Each stage averaged to the K places, and scaled so that all weigh alike in an image:
            the mean over places of the sum of squares is 1.

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        self._check(images)
        if grid is not None:
            grid = check_count("grid", grid)
        x, maps = images.contiguous(memory_format=torch.channels_last), []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, _Block):
                maps.append(x)
        size = maps[-1].shape[-2:] if grid is None else (grid, grid)
        maps = [F.adaptive_avg_pool2d(m, size) for m in maps]
        maps = [
            m / m.square().mean(dim=(2, 3), keepdim=True).sum(1, keepdim=True).sqrt() for m in maps
        ]
        return torch.cat(maps, dim=1).flatten(2).mT

    def _check(self, images: Tensor) -> None:
        shape, step = tuple(images.shape), self.image_size // self.grid[0]
        if len(shape) != 4 or shape[1] != 3 or any(side % step or not side for side in shape[2:]):
            raise ValueError(
                f"images must have shape (B, 3, H, W), H and W multiples of {step}, got {shape}"
            )


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        shape = dict(padding=1, bias=False)
        self.first = nn.Conv2d(before, after, 3, stride=stride, **shape)
        self.second = nn.Conv2d(after, after, 3, **shape)
        self.norms = nn.ModuleList(nn.GroupNorm(8, after) for _ in range(2))
        self.skip = nn.Identity()
        if stride != 1 or before != after:
            skip = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.skip = nn.Sequential(skip, nn.GroupNorm(8, after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(self.skip(x) + y)
