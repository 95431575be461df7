"""What a decoder wrote is read back, and right is what the scene shows, whichever object comes first."""

import pytest
import torch

from jepa_utils.data.scenes import altered_captions, every_caption, scene_contents, scenes
from jepa_utils.data.tokens import CaptionTokenizer
from jepa_utils.evaluation.written_captions import attributes_right, read_captions, written_captions


@pytest.fixture(scope="module")
def world():
    return scenes(60, split="unseen", seed=2)


def test_captions_come_back_from_their_ids_up_to_the_end(world):
    tokenizer = CaptionTokenizer.from_captions(world.captions)
    ids, _ = tokenizer(world.captions)
    garbage = torch.nn.functional.pad(ids, (0, 2))
    garbage[:, -1] = 5  # after the end, which is 0
    assert written_captions(garbage, tokenizer.words) == world.captions
    assert written_captions(torch.zeros(1, 3, dtype=torch.int64), tokenizer.words) == [""]


def test_captions_are_read_into_the_attributes_that_they_were_made_of(world):
    assert torch.equal(read_captions(world.captions), world.attributes)


def test_what_is_no_caption_has_no_attributes_and_a_wrong_word_none_at_its_place():
    read = read_captions(
        [
            "a small red circle left of a large blue square",
            "a small small circle left a large blue square",
            "small red circle above a large blue square",
            "a small red circle above the large blue square",
            "a small red circle",
            "",
        ]
    )
    assert read[0].tolist() == [0, 0, 0, 0, 1, 2, 1]
    assert read[1].tolist() == [0, -1, 0, -1, 1, 2, 1]
    assert (read[2:] == -1).all()


def test_either_order_is_right_and_each_wrong_thing_costs_a_seventh(world):
    true = world.attributes
    assert (attributes_right(true, true) == 1).all()
    mirror = true[:, [4, 5, 6, 3, 0, 1, 2]]
    mirror[:, 3] ^= 1
    assert torch.equal(scene_contents(mirror), scene_contents(true))
    assert (attributes_right(mirror, true) == 1).all()
    wrong = read_captions(altered_captions(world, "colour 1"))
    assert torch.allclose(attributes_right(wrong, true), torch.tensor(6 / 7))
    exchanged = read_captions(altered_captions(world, "word order"))
    assert (attributes_right(exchanged, true) < 1).all()
    assert (attributes_right(torch.full_like(true, -1), true) == 0).all()
    assert attributes_right(true[None], true[:, None]).shape == (60, 60)


def test_every_caption_is_there_once_and_only_twins_share_a_content():
    captions = every_caption()
    assert len(captions) == len(set(captions)) == 2 * 12_640
    contents = scene_contents(read_captions(captions))
    assert (contents.unique(return_counts=True)[1] == 2).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: written_captions(torch.zeros(3, dtype=torch.int64), ["a"]), "ids must be whole"),
        (lambda: written_captions(torch.zeros(1, 3), ["a"]), "ids must be whole"),
        (lambda: written_captions(torch.tensor([[1]]), ["a"]), "ids must be from 0 to 0, got 1"),
        (lambda: attributes_right(torch.zeros(2, 6), torch.zeros(2, 7)), "said must have shape"),
        (lambda: attributes_right(torch.zeros(2, 7), torch.zeros(6)), "true must have shape"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
    with pytest.raises(TypeError, match="captions must be several strings"):
        read_captions("a small red circle")
