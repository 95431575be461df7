"""World models from pixels: frames to embeddings, the next embedding after an action, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from jepa_utils.arguments import check_count, whole
from jepa_utils.models.mlp import MLP

__all__ = ["ActionPredictor", "InverseDynamics", "WorldDecoder", "WorldEncoder", "rollout"]

_LEAST = 4  # sides of this length and below are not halved any more


def _sides(size: int) -> list[int]:
    """Sides of the image and of each map after it, each half of the one before, rounded up."""
    sides = [whole("size", size, _LEAST + 1)]
    while sides[-1] > _LEAST:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _channels(channels: int, width: int, maps: int) -> list[int]:
    """Channels of the image and of each map: twice as many each time, up to four times `width`."""
    channels, width = check_count("channels", channels), check_count("width", width)
    return [channels, *(width * min(2**i, 4) for i in range(maps))]


class WorldEncoder(nn.Module):
    """Frames to embeddings: 3 x 3 convolutions of stride 2 with GELU, then a linear layer.

    The last map is flattened, not averaged, for where a thing is matters. There is no normalisation
    at the end, so that the embeddings can take the spread that a regulariser asks for.

    Parameters
    ----------
    channels : int, default 2
        Channels C of a frame.
    size : int, default 32
        Its side S in pixels, 5 at least. Maps are halved until their side is at most 4: three
        convolutions at 32, four at 64, five at 65.
    dimensions : int, default 32
        Width D of the embedding.
    width : int, default 16
        Channels of the first map; the second has twice as many, the others four times.

    Raises
    ------
    ValueError
        If a size is out of range.

    References
    ----------
    Its place is that of the encoder of Maes et al., "LeWorldModel", arXiv 2603.19312, which is a
    vision transformer.
    """

    def __init__(self, channels: int = 2, size: int = 32, dimensions: int = 32, width: int = 16):
        super().__init__()
        sides = _sides(size)
        maps = _channels(channels, width, len(sides) - 1)
        self.channels, self.size = maps[0], sides[0]
        self.dimensions = check_count("dimensions", dimensions)
        layers = []
        for before, after in pairwise(maps):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GELU()]
        last = nn.Linear(maps[-1] * sides[-1] ** 2, self.dimensions)
        self.layers = nn.Sequential(*layers, nn.Flatten(), last)
        for layer in layers[::2]:
            # With torch's own first weights a small dot on 32 x 32 pixels moves the embeddings by
            # less than 0.001: all but collapsed, where regularisers hardly push.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed frames.

        Parameters
        ----------
        images : Tensor, shape (..., C, S, S)
            Frames with values from 0 to 1; any leading axes, such as trajectories and times.

        Returns
        -------
        Tensor, shape (..., D)

        Raises
        ------
        ValueError
            If `images` has another shape, or whole numbers.
        """
        frame = (self.channels, self.size, self.size)
        if images.shape[-3:] != frame or not images.is_floating_point():
            raise ValueError(
                f"images must be floats of shape (..., {', '.join(map(str, frame))}), got "
                f"{images.dtype} of {tuple(images.shape)}"
            )
        before = images.shape[:-3]
        return self.layers(images.reshape(math.prod(before), *frame)).view(*before, self.dimensions)


class WorldDecoder(nn.Module):
    """Embeddings to frames: `WorldEncoder` the other way round, with transposed convolutions.

    Parameters
    ----------
    channels, size, dimensions, width
        Those of the encoder.

    Raises
    ------
    ValueError
        If a size is out of range.

    Notes
    -----
    A JEPA is trained without it: on frozen embeddings it shows the eye what they hold. The rival
    that predicts pixels (`PixelWorld`) is trained through it.
    """

    def __init__(self, channels: int = 2, size: int = 32, dimensions: int = 32, width: int = 16):
        super().__init__()
        sides = _sides(size)
        maps = _channels(channels, width, len(sides) - 1)
        self.dimensions = check_count("dimensions", dimensions)
        smallest = maps[-1], sides[-1], sides[-1]
        layers = [nn.Linear(self.dimensions, math.prod(smallest)), nn.Unflatten(1, smallest)]
        for i in reversed(range(len(sides) - 1)):
            odd = sides[i] % 2  # an odd side is twice the smaller one less 1
            up = nn.ConvTranspose2d(maps[i + 1], maps[i], 3, 2, padding=1, output_padding=1 - odd)
            layers += [nn.GELU(), up]
        self.layers = nn.Sequential(*layers)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings (..., D) to frames (..., C, S, S), which may leave the range from 0 to 1.

        Raises
        ------
        ValueError
            If `embeddings` has another width.
        """
        _check_last("embeddings", embeddings, self.dimensions)
        before = embeddings.shape[:-1]
        images = self.layers(embeddings.reshape(math.prod(before), self.dimensions))
        return images.view(*before, *images.shape[1:])


class ActionPredictor(nn.Module):
    """The next embedding from the last ones and an action: what it is now, plus an MLP's change.

    Parameters
    ----------
    dimensions : int
        Width D of the embeddings.
    actions : int, default 2
        Numbers A per action.
    hidden : int, default 256
        Width of the two hidden layers.
    history : int, default 1
        Embeddings that are looked at. Where one frame does not show the state, as a velocity, 2.

    Raises
    ------
    ValueError
        If a size is no integer of at least 1.
    """

    def __init__(self, dimensions: int, actions: int = 2, hidden: int = 256, history: int = 1):
        super().__init__()
        self.dimensions = check_count("dimensions", dimensions)
        self.actions = check_count("actions", actions)
        self.hidden, self.history = check_count("hidden", hidden), check_count("history", history)
        inputs = self.history * self.dimensions + self.actions
        self.change = MLP(inputs, self.hidden, self.dimensions)

    def forward(self, embeddings: Tensor, action: Tensor) -> Tensor:
        """Predict one step.

        Parameters
        ----------
        embeddings : Tensor, shape (..., history, D)
            The last embeddings, the present one at the end.
        action : Tensor, shape (..., A)
            What is done now.

        Returns
        -------
        Tensor, shape (..., D)

        Raises
        ------
        ValueError
            If shapes do not fit.
        """
        wanted = (self.history, self.dimensions)
        if embeddings.shape[-2:] != wanted or action.shape != (
            *embeddings.shape[:-2],
            self.actions,
        ):
            raise ValueError(
                f"embeddings must be (..., {self.history}, {self.dimensions}) and action (..., "
                f"{self.actions}), got {tuple(embeddings.shape)} and {tuple(action.shape)}"
            )
        return embeddings[..., -1, :] + self.change(torch.cat([embeddings.flatten(-2), action], -1))


class InverseDynamics(nn.Module):
    """The action that led from one embedding to the next: an MLP of both.

    Parameters
    ----------
    dimensions, actions, hidden
        See `ActionPredictor`.

    Raises
    ------
    ValueError
        If a size is no integer of at least 1.
    """

    def __init__(self, dimensions: int, actions: int = 2, hidden: int = 256):
        super().__init__()
        self.dimensions = check_count("dimensions", dimensions)
        self.guess = MLP(2 * self.dimensions, hidden, check_count("actions", actions))

    def forward(self, embeddings: Tensor, following: Tensor) -> Tensor:
        """Embeddings and those one step later, (..., D) each, to actions (..., A)."""
        return self.guess(torch.cat([embeddings, following], dim=-1))


def rollout(
    predictor: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, actions: Tensor
) -> Tensor:
    """Predict a sequence: each prediction is what the next one starts from.

    Parameters
    ----------
    predictor : ActionPredictor
        Or another that takes the last embeddings (..., history, D) and an action (..., A).
    embeddings : Tensor, shape (..., history, D) or (..., D)
        The last embeddings, the present one at the end: as many axes as `actions`, or one less
        where the present one is all.
    actions : Tensor, shape (..., H, A)
        The actions of H steps.

    Returns
    -------
    Tensor, shape (..., H, D)
        Predicted embeddings after each action, with gradient to all that they were made from.

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no step.
    """
    alone = 1 <= embeddings.dim() == actions.dim() - 1
    window = embeddings.unsqueeze(-2) if alone else embeddings
    if (
        actions.dim() < 2
        or window.dim() != actions.dim()
        or window.shape[:-2] != actions.shape[:-2]
        or actions.shape[-2] == 0
    ):
        raise ValueError(
            "embeddings must be (..., history, D) or (..., D), and actions (..., H, A) with at "
            f"least one step, got {tuple(embeddings.shape)} and {tuple(actions.shape)}"
        )
    predicted = []
    for action in actions.unbind(-2):
        predicted.append(predictor(window, action))
        window = torch.cat([window[..., 1:, :], predicted[-1].unsqueeze(-2)], dim=-2)
    return torch.stack(predicted, dim=-2)


def _check_last(name: str, x: Tensor, wanted: int) -> None:
    if x.dim() < 1 or x.shape[-1] != wanted:
        raise ValueError(f"{name} must be of shape (..., {wanted}), got {tuple(x.shape)}")
