"""Batches of images and captions."""

import pytest
import torch

from jepa_utils.data.batches import CaptionDataModule

GRID, D, E = (8, 8), 12, 10


def captioned(number=50, captions=3, length=6):
    """Captions that say which image they belong to, and which of its captions they are."""
    ids = torch.arange(number).view(-1, 1, 1) * 10 + torch.arange(captions).view(-1, 1)
    ids = ids.expand(-1, -1, length).clone()
    return torch.arange(number, dtype=torch.float16).view(-1, 1, 1).expand(-1, 4, D), (
        ids,
        torch.ones_like(ids, dtype=torch.bool),
    )


def test_every_image_comes_once_an_epoch_with_one_of_its_own_captions():
    tokens, captions = captioned()
    questions = (captions[0] + 5, captions[1])
    data = CaptionDataModule(
        tokens, captions, questions=questions, groups=torch.arange(50) % 7, batch_size=10
    )
    rows, chosen = [], []
    for (x, asked, shown), (ids, visible), groups in data.batches(0):
        assert x.dtype == torch.float32 and shown.all() and visible.all()
        row = x[:, 0, 0].long()
        assert (
            torch.equal(ids[:, 0] // 10, row)
            and torch.equal(asked, ids + 5)
            and torch.equal(groups, row % 7)
        )
        rows.append(row)
        chosen.append(ids[:, 0] % 10)
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(50))
    assert len(torch.cat(chosen).unique()) == 3


def test_batches_depend_on_seed_and_epoch_alone():
    tokens, captions = captioned()

    def drawn(seed, epoch):
        torch.rand(3)
        return torch.cat(
            [
                ids[:, 0]
                for _, (ids, _) in CaptionDataModule(
                    tokens, captions, batch_size=20, seed=seed
                ).batches(epoch)
            ]
        )

    assert len(drawn(0, 0)) == 40  # the incomplete batch is left out
    assert torch.equal(drawn(0, 1), drawn(0, 1))
    assert not torch.equal(drawn(0, 0), drawn(0, 1)) and not torch.equal(drawn(0, 0), drawn(1, 0))


def test_the_loader_draws_nothing_from_torchs_own_generator():
    data = CaptionDataModule(*captioned(), batch_size=20)
    before = torch.get_rng_state()
    assert len(list(data.train_dataloader())) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_bytes_stay_bytes():
    _, captions = captioned(4)
    ((x,), _), *_ = CaptionDataModule(
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8), captions, batch_size=2
    ).batches(0)
    assert x.dtype == torch.uint8


def in_order(look_alikes, *, epoch=0, seed=0, batch_size=12):
    """Numbers of the images in the order in which they are drawn; each brings a caption of its own."""
    data = CaptionDataModule(
        *captioned(len(look_alikes)), look_alikes=look_alikes, batch_size=batch_size, seed=seed
    )
    rows = []
    for (x,), (ids, _) in data.batches(epoch):
        rows.append(x[:, 0, 0].long())
        assert len(x) == batch_size and torch.equal(ids[:, 0] // 10, rows[-1])
    return torch.cat(rows)


def test_images_that_look_alike_come_four_at_a_time():
    numbers = torch.arange(48) * 7 % 6  # eight of each
    order = in_order(numbers)
    assert torch.equal(order.sort().values, torch.arange(48))
    runs = numbers[order].view(12, 4)
    assert (runs == runs[:, :1]).all()
    assert not torch.equal(runs[:, 0], runs[:, 0].sort().values)
    partners = {
        frozenset(four)
        for epoch in range(5)
        for four in in_order(numbers, epoch=epoch).view(12, 4).tolist()
    }
    assert len(partners) > 24  # not the same four each time


def test_order_of_look_alikes_depends_on_seed_and_epoch_alone():
    numbers = torch.arange(48) % 6
    first = in_order(numbers)
    torch.rand(3)
    assert torch.equal(first, in_order(numbers))
    assert not torch.equal(first, in_order(numbers, epoch=1)) and not torch.equal(
        first, in_order(numbers, seed=1)
    )


def test_images_with_few_look_alikes_come_as_well():
    numbers = torch.tensor(
        [3] * 1 + [5] * 2 + [8] * 6 + [9] * 11
    )  # runs of 1; 2; 4 and 2; 4, 4 and 3
    order = in_order(numbers, batch_size=10)
    assert torch.equal(order.sort().values, torch.arange(20))
    assert len(numbers[order].unique_consecutive()) <= 7


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(tokens=torch.zeros(49, 4, D)), "captions must be"),
        (dict(questions=captioned(49)[1]), "questions must be"),
        (dict(questions=captioned(captions=2)[1]), "questions must be 3"),
        (dict(groups=torch.zeros(49)), "groups must have shape"),
        (
            dict(look_alikes=torch.zeros(50, 1)),
            r"look_alikes must have shape \(50,\), got \(50, 1\)",
        ),
        (dict(batch_size=51), "batch_size must be between 1 and"),
        (dict(batch_size=0), "batch_size must be between 1 and"),
    ],
)
def test_batches_that_do_not_fit(change, message):
    tokens, captions = captioned()
    with pytest.raises(ValueError, match=message):
        CaptionDataModule(**dict(tokens=tokens, captions=captions, batch_size=10) | change)
