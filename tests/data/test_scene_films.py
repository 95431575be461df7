"""A film shows one scene after another, each for some frames, and what it shows is what its captions say."""

import pytest
import torch

from jepa_utils.data.scene_films import scene_film
from jepa_utils.data.scenes import scene_contents, scenes


@pytest.fixture(scope="module")
def film():
    return scene_film(300, seed=3)


def test_each_frame_has_picture_caption_and_attributes(film):
    frames = film.frames
    assert frames.images.shape == (300, 3, 32, 32) and frames.images.dtype == torch.uint8
    assert len(frames.captions) == 300 and frames.attributes.shape == (300, 7)
    for number in film.scene.unique():
        rows = (film.scene == number).nonzero().flatten().tolist()
        assert len({frames.captions[i] for i in rows}) == 1
        assert len(frames.attributes[rows].unique(dim=0)) == 1


def test_a_scene_stays_as_long_as_it_may_and_comes_once(film):
    numbers, stays = film.scene.unique_consecutive(return_counts=True)
    assert numbers.tolist() == list(range(len(numbers)))
    assert stays[:-1].min() >= 10 and stays.max() <= 40 and len(set(stays.tolist())) > 3
    contents = scene_contents(film.frames.attributes)[
        (film.scene.diff(prepend=film.scene[:1] - 1) != 0)
    ]
    assert len(contents.unique()) == len(numbers)


def test_frames_of_a_scene_differ_little_and_those_of_two_much(film):
    pixels = film.frames.images.float()
    change = (pixels[1:] - pixels[:-1]).abs().mean(dim=(1, 2, 3))
    cut = film.scene.diff() != 0
    assert change[~cut].min() > 1  # no frame is a copy
    assert change[cut].min() > change[~cut].max()


def test_contents_are_those_of_the_split():
    known = set(scene_contents(scenes(1152, split="seen").attributes).tolist())
    shown = {split: scene_film(200, split=split).frames for split in ("seen", "unseen")}
    assert set(scene_contents(shown["seen"].attributes).tolist()) <= known
    assert not set(scene_contents(shown["unseen"].attributes).tolist()) & known


def test_without_trembling_objects_stay_where_they_are():
    still, trembling = (scene_film(30, stay=(30, 30), jitter=jitter) for jitter in (0.0, 0.01))
    pixels = [film.frames.images.float() for film in (still, trembling)]
    spread = [float(each.std(dim=0).max()) for each in pixels]
    assert spread[0] < 8 < spread[1]  # noise is even from -8 to 8, whose deviation is 4.9


def test_a_film_repeats_with_its_seed():
    first, again, other = (scene_film(600, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.frames.images, again.frames.images)
    assert first.frames.captions == again.frames.captions != other.frames.captions


def test_nothing_is_cut_off():
    film = scene_film(150, stay=(5, 10), seed=1, split="train", image_size=128)
    images = film.frames.images.float()
    for edge in (images[..., 0], images[..., -1], images[:, :, 0], images[:, :, -1]):
        colour = edge.amax(dim=1) - edge.amin(dim=1)  # the ground is grey, but for its noise
        assert colour.max() <= 17


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(frames=0), "frames must be an integer of at least 1, got 0"),
        (dict(stay=(5,)), r"stay must be the least and the largest .*, got \(5,\)"),
        (dict(stay=(6, 5)), r"stay must be the least and the largest .*, got \(6, 5\)"),
        (dict(stay=(0, 5)), "stay must be an integer of at least 1, got 0"),
        (dict(jitter=0.02), "jitter must be from 0 to 0.01, got 0.02"),
        (dict(jitter=-0.1), "jitter must be from 0 to 0.01, got -0.1"),
        (dict(split="test"), "split must be one of train, seen, unseen"),
        (dict(frames=2000, stay=(1, 1)), "number must be at most 1152"),
    ],
)
def test_films_reject_what_cannot_be_drawn(change, words):
    with pytest.raises(ValueError, match=words):
        scene_film(**dict(frames=20) | change)
