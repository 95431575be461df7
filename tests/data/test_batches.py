"""Batches of tensors, of neighbours and of images."""

import pytest
import torch

from jepa_utils.data.batches import ImageDataModule, neighbour_batches, tensor_batches


def test_batches_are_in_order_and_the_last_is_short():
    batches = list(tensor_batches(torch.arange(10), torch.arange(10) + 1, batch_size=4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    assert torch.cat([x for x, _ in batches]).tolist() == list(range(10))
    with pytest.raises(ValueError, match=r"lengths \[10, 9\]"):
        tensor_batches(torch.arange(10), torch.arange(9), batch_size=4)
    with pytest.raises(ValueError, match="batch_size"):
        tensor_batches(torch.arange(10), batch_size=0)


def drawn(batches):
    """Index of each point and of its partner, in the order of one pass over points that are their own index."""
    x, y = zip(*batches)
    assert all(len(a) == len(b) for a, b in zip(x, y))
    return torch.cat(x).tolist(), torch.cat(y).tolist()


def ring(batch_size=16):
    return neighbour_batches(
        torch.arange(50),
        (torch.arange(50)[:, None] + torch.arange(1, 5)) % 50,
        batch_size=batch_size,
    )


def test_each_point_comes_once_with_one_of_its_neighbours():
    batches = ring()
    for _ in range(3):
        x, y = drawn(batches)
        assert sorted(x) == list(range(50)) != x
        assert all((b - a) % 50 in (1, 2, 3, 4) for a, b in zip(x, y))


@pytest.mark.parametrize(
    "size, lengths", [(16, [16, 16, 16, 2]), (25, [25, 25]), (80, [50]), (1, [1] * 50)]
)
def test_the_last_batch_is_short(size, lengths):
    batches = ring(batch_size=size)
    assert len(batches) == len(lengths) and [len(x) for x, _ in batches] == lengths


def test_partners_and_order_are_drawn_anew_each_pass():
    batches = ring()
    (x1, y1), (x2, y2) = drawn(batches), drawn(batches)
    first, second = dict(zip(x1, y1)), dict(zip(x2, y2))
    assert x1 != x2 and 10 < sum(first[i] != second[i] for i in range(50)) < 50
    steps = {(b - a) % 50 for _ in range(10) for a, b in zip(*drawn(batches))}
    assert steps == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "neighbours, size, words",
    [
        (torch.zeros(5, 2, dtype=torch.long), 0, "batch_size.*0"),
        (torch.zeros(4, 2, dtype=torch.long), 2, r"neighbours.*\(5, K\).*\(4, 2\)"),
        (torch.zeros(5, dtype=torch.long), 2, r"neighbours.*\(5,\)"),
        (torch.zeros(5, 0, dtype=torch.long), 2, r"neighbours.*\(5, 0\)"),
        (torch.full((5, 2), 5), 2, "neighbours.*below 5.*5 to 5"),
        (torch.tensor([[0], [1], [-1], [0], [0]]), 2, "neighbours.*-1 to 1"),
    ],
)
def test_neighbour_batches_reject_bad_input(neighbours, size, words):
    with pytest.raises(ValueError, match=words):
        neighbour_batches(torch.zeros(5, 3), neighbours, batch_size=size)


def test_batches_hold_each_image_once_with_its_label():
    images = torch.randint(256, (96, 3, 32, 32), dtype=torch.uint8)
    data = ImageDataModule(images, torch.arange(len(images)), batch_size=36)
    first, again, second = (list(data.batches(epoch)) for epoch in (0, 0, 1))
    assert [len(rows) for _, rows in first] == [36, 36] and data.steps == 2
    rows = torch.cat([rows for _, rows in first])
    assert len(rows.unique()) == 72 and torch.equal(
        torch.cat([part for part, _ in first]), images[rows]
    )
    assert torch.equal(rows, torch.cat([rows for _, rows in again]))
    assert not torch.equal(rows, torch.cat([rows for _, rows in second]))
