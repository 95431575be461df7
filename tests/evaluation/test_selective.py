"""Policies of decoding: what they decode, what is then the latest, and what a score costs."""

import pytest
import torch
from torch.nn import functional as F

from jepa_utils.evaluation.selective import (
    decodings_needed,
    latest_decoding,
    moved_moments,
    random_moments,
    uniform_moments,
)


def places(decode: torch.Tensor) -> list[int]:
    assert decode.dtype == torch.bool and decode.dim() == 1
    return decode.nonzero().flatten().tolist()


def test_uniform_moments_come_at_equal_intervals():
    assert places(uniform_moments(10, 4)) == [0, 4, 8]
    assert places(uniform_moments(10, 4, first=2)) == [0, 2, 6]
    assert places(uniform_moments(3, 1)) == [0, 1, 2] and places(uniform_moments(3, 50)) == [0]


def test_random_moments_are_as_many_as_asked_with_the_first_frame():
    draw = torch.Generator().manual_seed(0)
    drawn = [places(random_moments(20, 5, generator=draw)) for _ in range(50)]
    assert (
        all(len(each) == 5 and each[0] == 0 for each in drawn) and len(set(map(tuple, drawn))) > 40
    )
    assert {place for each in drawn for place in each} == set(range(20))
    assert places(random_moments(4, 1)) == [0] and places(random_moments(4, 4)) == [0, 1, 2, 3]


def test_it_is_decoded_when_the_embedding_moves_and_only_then():
    directions = torch.eye(3)[[0, 0, 0, 1, 1, 2, 2, 2]]
    scaled = directions * torch.tensor([1, 5, 0.1, 2, 1, 1, 9, 1])[:, None]
    for threshold in (0.0, 0.5, 0.99):
        assert places(moved_moments(scaled, threshold)) == [0, 3, 5]
    assert places(moved_moments(scaled, 1.5)) == [0]  # right angles are at a distance of 1


def test_each_frame_is_compared_with_the_mean_since_the_last_decoding():
    """A single outlier that is decoded does not hide the way back, and a slow drift is noticed."""
    angle = torch.arange(0, 90, 10) * torch.pi / 180
    drift = torch.stack([angle.cos(), angle.sin()], dim=1)
    limit = 1 - float(torch.cos(torch.tensor(25 * torch.pi / 180)))
    expected, since = [0], [0]
    for i in range(1, 9):
        mean = F.normalize(drift[since].double(), dim=1).sum(0)
        if 1 - F.cosine_similarity(mean, drift[i].double(), dim=0) > limit:
            expected.append(i)
            since = []
        since.append(i)
    assert places(moved_moments(drift, limit)) == expected and 1 < len(expected) < 9
    jump = torch.eye(2)[[0, 0, 1, 0, 0]]
    assert places(moved_moments(jump, 0.5)) == [0, 2, 3]


def test_the_latest_decoding_of_each_frame():
    decode = torch.tensor([True, False, False, True, False, True])
    assert latest_decoding(decode).tolist() == [0, 0, 0, 3, 3, 5]


def test_decodings_needed_for_a_score():
    curve = [[100, 0.9, 0.1], [50, 0.8, 0.1], [10, 0.4, 0.0], [20, 0.3, 0.0]]
    assert decodings_needed(curve, 0.8) == 50
    assert decodings_needed(curve, 0.6) == pytest.approx(30)  # half way from 10 to 50
    assert decodings_needed(curve, 0.95) == 100 and decodings_needed(curve, 0.1) == 10
    assert decodings_needed([(5, 0.5)], 0.7) == 5


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: uniform_moments(0, 1), "frames must be"),
        (lambda: uniform_moments(5, 0), "every must be"),
        (lambda: uniform_moments(5, 1, first=-1), "first must be"),
        (lambda: random_moments(5, 6), "number must be .*between 1 and the number of frames = 5"),
        (lambda: moved_moments(torch.ones(3), 0.1), r"embeddings must have shape \(N, D\)"),
        (lambda: moved_moments(torch.ones(0, 3), 0.1), r"embeddings must have shape \(N, D\)"),
        (lambda: moved_moments(torch.ones(2, 3), 2.1), "threshold must be from 0 to 2, got 2.1"),
        (lambda: latest_decoding(torch.tensor([False, True])), "decode must be of bool"),
        (lambda: latest_decoding(torch.tensor([1, 0])), "decode must be of bool"),
        (lambda: decodings_needed([], 0.5), "curve must have at least one point"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
