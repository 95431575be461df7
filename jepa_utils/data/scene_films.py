"""Films of generated scenes: each stays for some frames, then another one takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jepa_utils.arguments import whole
from jepa_utils.data.scenes import Scenes, _layout, _paint, scenes

__all__ = ["SceneFilm", "scene_film"]


@dataclass(frozen=True)
class SceneFilm:
    """Frames in their order, and which of them show one scene.

    Attributes
    ----------
    frames : Scenes
        A picture, a caption and attributes for each of N frames.
    scene : Tensor of int64, shape (N,)
        Number of the scene that a frame shows, from 0.
    """

    frames: Scenes
    scene: Tensor


def scene_film(
    frames: int,
    *,
    split: str = "seen",
    stay: Sequence[int] = (10, 40),
    jitter: float = 0.01,
    image_size: int = 32,
    seed: int = 0,
) -> SceneFilm:
    """Draw a film whose scene changes now and then, as a cut changes it.

    Within a scene sizes, colours and light stay. Each frame has pixel noise of its own, and the
    objects tremble: each is moved anew from its place, in either direction.

    Parameters
    ----------
    frames : int
        Number of frames N.
    split : {"train", "seen", "unseen"}, default "seen"
        Contents, as for `scenes`; no scene comes twice.
    stay : sequence of two int, default (10, 40)
        Least and largest number of frames that a scene stays; all between are equally likely.
    jitter : float, default 0.01
        Standard deviation of the trembling, as a share of the picture's side; from 0 to 0.01, so
        that objects stay apart.
    image_size : int, default 32
        Side of the pictures in pixels.
    seed : int, default 0
        Of everything that is drawn.

    Returns
    -------
    SceneFilm

    Raises
    ------
    ValueError
        If an argument is out of its range, or the film needs more scenes than the split has.
    """
    frames, seed = whole("frames", frames, 1), whole("seed", seed)
    if len(stay) != 2:
        raise ValueError(f"stay must be the least and the largest number of frames, got {stay!r}")
    least, most = whole("stay", stay[0], 1), whole("stay", stay[1], 1)
    if least > most:
        raise ValueError(f"stay must be the least and the largest number of frames, got {stay!r}")
    if not 0 <= jitter <= _MOST_JITTER:
        raise ValueError(f"jitter must be from 0 to {_MOST_JITTER}, got {jitter}")
    rng = np.random.default_rng(seed)
    stays = rng.integers(least, most + 1, -(-frames // least))
    count = int(np.searchsorted(stays.cumsum(), frames)) + 1  # scenes that the film gets to
    scene = np.arange(count).repeat(stays[:count])[:frames]
    shown = scenes(count, split=split, image_size=image_size, seed=seed)
    attributes = shown.attributes.numpy()
    extent, centre, rgb, grey = (
        part[scene] for part in _layout(rng, attributes, image_size)
    )  # a row for each frame
    # Cut off at two standard deviations, within which nothing touches the border.
    moved = rng.normal(size=centre.shape).clip(-2, 2) * jitter * image_size
    images = np.concatenate(
        [
            _paint(
                rng,
                attributes[scene[rows]][:, [2, 6]],
                extent[rows],
                centre[rows] + moved[rows],
                rgb[rows],
                grey[rows],
                image_size,
            )
            for rows in np.split(np.arange(frames), range(500, frames, 500))
        ]
    )
    number = torch.from_numpy(scene)
    captions = [shown.captions[i] for i in scene]
    return SceneFilm(Scenes(torch.from_numpy(images), captions, shown.attributes[number]), number)


_MOST_JITTER = 0.01
