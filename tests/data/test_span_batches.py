"""Each epoch of spans shows every chunk once, cut in two."""

import itertools

import pytest
import torch

from jepa_utils.data.batches import CUTS, SpanDataModule

P, L = 50, 20  # chunks, tokens in each


def spans(**change):
    """Token ids say which chunk and which place they are from."""
    chunks = torch.arange(P * L).view(P, L)
    return SpanDataModule(chunks, **dict(batch_size=8, min_length=3) | change)


def epoch(data, number=0, **process):
    """Ids, masks of context and of target of all batches, each (batches, B, L)."""
    batches = list(data.batches(number, **process))
    assert all(torch.equal(ids, again) for (ids, _), (again, _) in batches)
    return tuple(
        torch.stack(x)
        for x in zip(*((ids, context, target) for (ids, context), (_, target) in batches))
    )


def cuts_of(mask):
    """Where a mask changes."""
    changes = mask[..., 1:] != mask[..., :-1]
    assert (changes.sum(dim=-1) == 1).all()  # contiguous
    return changes.int().argmax(dim=-1) + 1


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("batch_size", [1, 7, 8, 25, 50])
def test_every_chunk_comes_once_except_those_that_fill_no_batch(batch_size):
    data, left = spans(batch_size=batch_size), []
    for number in range(3):
        ids, _, _ = epoch(data, number)
        assert ids.shape == (P // batch_size, batch_size, L)
        rows = ids[..., 0].flatten() // L
        assert torch.equal(ids.flatten(0, 1), data.chunks[rows])
        assert len(set(rows.tolist())) == len(rows) and rows.tolist() != sorted(rows.tolist())
        left.append(set(range(P)) - set(rows.tolist()))
    assert P % batch_size == 0 or left[0] != left[1]  # no chunk is always left out


@pytest.mark.parametrize("either_side", [False, True])
@pytest.mark.parametrize("cut", CUTS)
def test_context_and_target_are_the_two_parts(cut, either_side):
    data, found = spans(cut=cut, either_side=either_side), []
    for number in range(20):
        _, context, target = epoch(data, number)
        assert context.dtype == target.dtype == torch.bool and torch.equal(context, ~target)
        assert context.shape == (6, 8, L)
        cuts = cuts_of(context)
        assert cuts.min() >= 3 and cuts.max() <= L - 3
        found.append(cuts)
    found = torch.stack(found)  # (epochs, batches, B)
    if cut == "middle":
        assert (found == 10).all()
        return
    assert set(found.flatten().tolist()) == set(range(3, L - 3 + 1))  # both ends among them
    assert found.float().mean() == pytest.approx(L / 2, abs=3 * 4.6 / (len(found) * 6) ** 0.5)
    alike = (found == found[..., :1]).all(dim=-1)
    assert alike.all() if cut == "batch" else not alike.any()


def test_middle_of_an_odd_length_leaves_the_longer_part_behind():
    data = SpanDataModule(
        torch.zeros(4, 7, dtype=torch.long), batch_size=4, min_length=3, cut="middle"
    )
    _, context, _ = epoch(data)
    assert (context.sum(dim=-1) == 3).all()


def test_cut_is_drawn_for_each_chunk_by_default_and_parts_have_32_tokens():
    data = SpanDataModule(torch.zeros(40, 66, dtype=torch.long), batch_size=40)
    _, context, _ = epoch(data)
    assert set(cuts_of(context).flatten().tolist()) == {32, 33, 34} and context[..., 0].all()


@pytest.mark.parametrize("cut", CUTS)
def test_the_context_is_the_earlier_part_unless_told_otherwise(cut):
    contexts = [epoch(spans(cut=cut), number)[1] for number in range(10)]
    assert all(context[..., 0].all() for context in contexts)


@pytest.mark.parametrize("cut", CUTS)
def test_either_side_makes_the_later_part_the_context_in_half_of_all_cases(cut):
    data = spans(cut=cut, either_side=True)
    later = torch.stack(
        [~epoch(data, number)[1][..., 0] for number in range(40)]
    )  # (epochs, batches, B)
    draws = 40 * 6 * (8 if cut == "chunk" else 1)
    assert later.float().mean() == pytest.approx(0.5, abs=4 * 0.5 / draws**0.5)
    alike = (later == later[..., :1]).all(dim=-1)
    assert alike.float().mean() < 0.05 if cut == "chunk" else alike.all()


def test_same_seed_and_epoch_give_the_same_batches():
    for change in (dict(), dict(cut="batch", either_side=True)):
        torch.manual_seed(0)
        first = [epoch(spans(**change), number) for number in range(3)]
        torch.manual_seed(1)
        state = torch.get_rng_state()
        data = spans(**change)
        again = [epoch(data, number) for number in (2, 1, 0)][::-1]  # in any order
        assert all(equal(a, b) for a, b in zip(first, again))
        assert torch.equal(torch.get_rng_state(), state)


def test_other_epochs_and_seeds_give_other_batches():
    drawn = [epoch(spans(seed=seed), number) for seed in (0, 1, 2) for number in (0, 1, 2)]
    for first, second in itertools.combinations(drawn, 2):
        assert not torch.equal(first[0], second[0]) and not torch.equal(first[1], second[1])


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_each_batch(cut, world_size):
    data = spans(cut=cut, either_side=True)
    parts = [epoch(data, 3, rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *ours in zip(epoch(data, 3), *parts):
        assert all(part.shape == (6, 8 // world_size, L) for part in ours)
        assert torch.equal(torch.cat(ours, dim=1), whole)  # (batches, B, L)


def test_without_a_trainer_the_loader_gives_epoch_0():
    data = spans()
    loader = data.train_dataloader()
    assert len(loader) == 6 and len(list(loader)) == 6
    for (x, y), (expected_x, expected_y) in zip(loader, data.batches(0), strict=True):
        assert equal(x, expected_x) and equal(y, expected_y)


# ---- other passages in each epoch, and streams
# ---------------------------------------------------------------------------


def test_shifted_chunks_are_other_passages_of_the_same_text():
    data, starts, order = spans(batch_size=7, shift=True), [], set()
    for number in range(150):
        ids, _, _ = epoch(data, number)
        ids = ids.flatten(0, 1)
        assert ids.shape == (P - 1, L)
        text = torch.sort(ids.flatten()).values
        starts.append(int(text[0]))
        assert torch.equal(
            text, torch.arange(starts[-1], starts[-1] + (P - 1) * L)
        )  # all of it, each token once
        assert (
            torch.equal(ids, ids[:, :1] + torch.arange(L))
            and ((ids[:, 0] - starts[-1]) % L == 0).all()
        )
        order.add(tuple((ids[:, 0] // L).tolist()))
    assert set(starts) == set(range(L)) and len(order) == 150  # both ends among them


def test_a_shift_costs_one_chunk():
    data = spans(batch_size=25, shift=True)
    assert data.steps == len(data.train_dataloader()) == len(list(data.batches(0))) == 1
    assert spans(batch_size=49, shift=True).steps == 1
    with pytest.raises(ValueError, match="batch_size.*chunks, 49, got 50"):
        spans(batch_size=50, shift=True)


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_shifted_batches(world_size):
    data = spans(shift=True)
    parts = [epoch(data, 3, rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *ours in zip(epoch(data, 3), *parts):
        assert torch.equal(torch.cat(ours, dim=1), whole)


def streamed(read=None, end=P, **change):
    """A stream of the same chunks, dealt out to the processes; `read` collects which were asked for."""

    def chunks(rank, world_size):
        for i in range(rank, end, world_size):
            if read is not None:
                read.append(i)
            yield torch.arange(i * L, (i + 1) * L)

    return SpanDataModule(
        chunks, **dict(batch_size=4, min_length=3, either_side=True, chunks_per_epoch=14) | change
    )


def test_a_stream_is_read_in_its_order_and_no_further():
    read = []
    data = streamed(read)
    assert (
        data.steps == len(data.train_dataloader()) == 3 and read == []
    )  # 14 chunks hold three batches of 4
    for number in range(4):
        ids, context, target = epoch(data, number)
        assert (
            ids.shape == (3, 4, L) and torch.equal(context, ~target) and cuts_of(context).min() >= 3
        )
        assert (ids[..., 0].flatten() // L).tolist() == list(range(12 * number, 12 * number + 12))
        assert read == list(range(12 * number + 12))


@pytest.mark.parametrize("cut", CUTS)
def test_a_stream_goes_on_in_any_epoch_as_if_read_from_the_start(cut):
    data = streamed(cut=cut)
    whole = [epoch(data, number) for number in range(4)]
    assert not torch.equal(whole[0][1], whole[1][1]) or cut == "middle"
    resumed = streamed(cut=cut)  # as after a kill
    assert all(equal(whole[number], epoch(resumed, number)) for number in (2, 3))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_a_stream(world_size):
    data, parts = streamed(), [streamed() for _ in range(world_size)]
    for number in range(2):
        ours = [
            epoch(part, number, rank=rank, world_size=world_size) for rank, part in enumerate(parts)
        ]
        for whole, *found in zip(epoch(data, number), *ours):
            assert torch.equal(torch.stack(found, dim=2).flatten(1, 2), whole)
    resumed = epoch(streamed(), 1, rank=1, world_size=world_size)
    assert equal(resumed, ours[1])


def test_a_stream_that_begins_again_begins_at_its_start():
    data = streamed()
    first = epoch(data, 0)
    assert equal(first, epoch(data, 0))
    next(data.batches(1))  # given up in the middle
    assert equal(epoch(streamed(), 1), epoch(data, 1))
    assert equal(epoch(streamed(), 2, rank=1, world_size=2), epoch(data, 2, rank=1, world_size=2))


@pytest.mark.parametrize(
    "chunk, words",
    [
        (torch.arange(5), "2 \\* min_length = 6"),
        (torch.rand(L), "float32"),
        (torch.zeros(2, 3, dtype=torch.int64), "min_length"),
    ],
)
def test_a_stream_of_something_else_is_an_error(chunk, words):
    data = SpanDataModule(
        lambda rank, world_size: [chunk] * 20, batch_size=4, min_length=3, chunks_per_epoch=14
    )
    with pytest.raises(ValueError, match=f"chunks.*{words}"):
        next(data.batches(0))


def test_chunks_that_are_neither_tensor_nor_stream():
    with pytest.raises(ValueError, match="chunks.*got list"):
        SpanDataModule([[1, 2, 3, 4]], batch_size=1)


def test_a_stream_that_ends_too_early():
    data = streamed(end=22)
    assert len(list(data.batches(0))) == 3
    second = data.batches(1)
    assert [len(next(second)[0][0]) for _ in range(2)] == [4, 4]
    with pytest.raises(ValueError, match="stream.*epoch 1"):
        next(second)
    with pytest.raises(ValueError, match="stream.*epoch 5"):  # skipped beyond the end
        next(streamed().batches(5))


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(chunks_per_epoch=None), "chunks_per_epoch must be given for a stream.*None"),
        (dict(shift=True), "shift for a tensor only.*shift=True with function"),
        (dict(batch_size=15), "batch_size.*14, got 15"),
        (dict(min_length=0), "min_length.*got 0"),
        (dict(cut="end"), "cut.*'end'"),
    ],
)
def test_streams_reject_bad_arguments(change, words):
    with pytest.raises(ValueError, match=words):
        streamed(**change)
    with pytest.raises(ValueError, match="chunks_per_epoch=14.*Tensor"):
        spans(chunks_per_epoch=14)
    with pytest.raises(
        ValueError, match=r"world_size must divide batch_size = 4 of a stream, got 3"
    ):
        next(streamed().batches(0, world_size=3))


# ---- arguments
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks, change, words",
    [
        (torch.zeros(5, dtype=torch.long), {}, r"chunks.*\(5,\)"),
        (torch.zeros(5, 20), {}, "chunks.*float32"),
        (torch.zeros(5, 20, dtype=torch.int32), {}, "chunks.*int32"),
        (torch.zeros(5, 20, dtype=torch.long), dict(batch_size=6), "batch_size.*chunks, 5, got 6"),
        (torch.zeros(5, 20, dtype=torch.long), dict(batch_size=0), "batch_size.*got 0"),
        (torch.zeros(5, 20, dtype=torch.long), dict(min_length=0), "min_length.*got 0"),
        (
            torch.zeros(5, 20, dtype=torch.long),
            dict(min_length=11),
            "min_length.*half a chunk, 10, got 11",
        ),
        (
            torch.zeros(5, 20, dtype=torch.long),
            dict(cut="end"),
            "cut.*chunk, batch, middle, got 'end'",
        ),
    ],
)
def test_spans_reject_bad_arguments(chunks, change, words):
    with pytest.raises(ValueError, match=words):
        SpanDataModule(chunks, **dict(batch_size=5, min_length=3) | change)


def test_spans_may_be_as_long_as_half_a_chunk():
    _, context, _ = epoch(spans(min_length=10))
    assert (context.sum(dim=-1) == 10).all()


def test_processes_may_have_uneven_parts_but_none_may_be_empty():
    parts = [next(spans().batches(0, rank=rank, world_size=3))[0][0] for rank in range(3)]
    assert [len(part) for part in parts] == [3, 3, 2]
    assert torch.equal(torch.cat(parts), next(spans().batches(0))[0][0])
    with pytest.raises(ValueError, match=r"world_size.*batch_size = 8.*world_size=9"):
        next(spans().batches(0, rank=0, world_size=9))
    for process in (dict(rank=2, world_size=2), dict(world_size=0), dict(rank=-1)):
        with pytest.raises(ValueError, match="rank"):
            next(spans().batches(0, **process))
