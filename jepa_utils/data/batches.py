"""Batches for every training: images, captioned tokens, spans of text, trajectories, tensors.

What a data module draws depends on its seed and the epoch's number alone: a resumed run continues
with the same batches, and several processes share those of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from jepa_utils.arguments import whole
from jepa_utils.data.tokens import span_mask

__all__ = [
    "CUTS",
    "CaptionDataModule",
    "ImageDataModule",
    "SpanDataModule",
    "TrajectoryDataModule",
    "neighbour_batches",
    "tensor_batches",
]


CUTS = ("chunk", "batch", "middle")


class _EpochBatches(IterableDataset):
    """What a data module yields for its trainer's current epoch and process."""

    def __init__(self, data: _Batches):
        self.data = data

    def __len__(self) -> int:
        return self.data.steps

    def __iter__(self):
        trainer = self.data.trainer
        if trainer is None:
            yield from self.data.batches(0)
        else:
            yield from self.data.batches(
                trainer.current_epoch, rank=trainer.global_rank, world_size=trainer.world_size
            )


class _Batches(L.LightningDataModule):
    """A data module that draws the batches of each epoch from its seed and the epoch's number.

    So a resumed run continues with the same batches, and several processes share those of one.
    """

    seed: int
    batch_size: int  # rows of a batch, over all processes
    steps: int  # batches of an epoch

    def batches(self, epoch: int, *, rank: int = 0, world_size: int = 1) -> Iterator[tuple]:
        raise NotImplementedError

    def _draw(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 1_000_003 + whole("epoch", epoch))

    def _check_processes(self, rank: int, world_size: int) -> None:
        rank, world_size = whole("rank", rank), whole("world_size", world_size)
        if not 1 <= world_size <= self.batch_size or not 0 <= rank < world_size:
            raise ValueError(
                f"world_size must be from 1 to batch_size = {self.batch_size}, and rank below it, "
                f"got world_size={world_size}, rank={rank}"
            )

    def _orders(self, order: Tensor) -> tuple[Tensor, ...]:
        """An order cut into whole batches."""
        return order.split(self.batch_size)[: self.steps]

    def train_dataloader(self) -> DataLoader:
        """Batches of the trainer's current epoch, for this process."""
        # A loader draws a number whenever it begins; of torch's own generator that would shift
        # what a resumed run draws.
        return DataLoader(_EpochBatches(self), batch_size=None, generator=torch.Generator())


def _part(rows: Tensor, rank: int, world_size: int) -> Tensor:
    """The rows of one process: they lie together, and their numbers differ by one at most."""
    return rows.tensor_split(world_size)[rank]


class SpanDataModule(_Batches):
    """Chunks of tokens cut into context and target, in an order drawn anew for each epoch.

    What an epoch draws depends on `seed` and its number alone: a resumed run continues with the
    same batches, and several processes share the batches of one.

    Parameters
    ----------
    chunks : Tensor of int64, shape (P, L), or callable
        Token ids, from `token_chunks`. For text that does not fit into memory: a function of `rank`
        and `world_size` that returns that process's own stream of chunks (L,), from
        `stream_chunks`. A stream is read in its order, on from epoch to epoch.
    batch_size : int
        Chunks per step, over all processes. What does not fill a batch at the end of an epoch is
        left out.
    min_length : int, default 32
        Shortest part, in tokens.
    cut : {"chunk", "batch", "middle"}, default "chunk"
        Where chunks are cut: each at its own random place, all of a batch at the same random place,
        or all in the middle.
    either_side : bool, default False
        Let the later part be the context in half of all cases (drawn as often as the cut); else the
        context is the earlier one.
    shift : bool, default False
        Draw the borders between chunks anew for each epoch: the same running text, other passages.
        Costs one chunk.
    chunks_per_epoch : int, optional
        What counts as an epoch of a stream, over all processes.
    seed : int, default 0
        Of order, cuts and sides.

    Raises
    ------
    ValueError
        If a number is out of range, `cut` is none of the three, or an argument does not fit to a
        tensor or to a stream.
    """

    def __init__(
        self,
        chunks: Tensor | Callable[[int, int], Iterable[Tensor]],
        *,
        batch_size: int,
        min_length: int = 32,
        cut: str = "chunk",
        either_side: bool = False,
        shift: bool = False,
        chunks_per_epoch: int | None = None,
        seed: int = 0,
    ):
        super().__init__()
        streamed = not isinstance(chunks, Tensor)
        if streamed and not callable(chunks):
            raise ValueError(
                f"chunks must be a tensor (P, L) or a function that returns a stream, got "
                f"{type(chunks).__name__}"
            )
        if streamed != (chunks_per_epoch is not None) or (streamed and shift):
            raise ValueError(
                f"chunks_per_epoch must be given for a stream and for nothing else, and shift for "
                f"a tensor only; got "
                f"chunks_per_epoch={chunks_per_epoch}, shift={shift} with {type(chunks).__name__}"
            )
        if not streamed and (chunks.dim() != 2 or chunks.dtype != torch.int64):
            raise ValueError(
                f"chunks must be token ids of shape (P, L), got {tuple(chunks.shape)} of "
                f"{chunks.dtype}"
            )
        batch_size, min_length = whole("batch_size", batch_size), whole("min_length", min_length)
        seed = whole("seed", seed)
        if streamed:
            chunks_per_epoch = whole("chunks_per_epoch", chunks_per_epoch)
        total = chunks_per_epoch if streamed else len(chunks) - shift
        if not 1 <= batch_size <= total:
            raise ValueError(
                f"batch_size must be between 1 and the number of chunks, {total}, got {batch_size}"
            )
        if min_length < 1 or (not streamed and min_length > chunks.shape[1] // 2):
            half = "" if streamed else f", {chunks.shape[1] // 2}"
            raise ValueError(
                f"min_length must be between 1 and half a chunk{half}, got {min_length}"
            )
        if cut not in CUTS:
            raise ValueError(f"cut must be one of {', '.join(CUTS)}, got {cut!r}")
        self.chunks, self.batch_size, self.min_length = chunks, batch_size, min_length
        self.cut, self.either_side, self.shift, self.seed = cut, either_side, shift, seed
        self.steps = total // batch_size  # per epoch
        self._stream: Iterator[Tensor] = iter(())
        self._place: tuple[int, int, int] | None = (
            None  # of the stream: rank, processes, chunks read
        )

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[tuple[Tensor, Tensor], ...]]:
        """The batches of an epoch: ``((ids, context), (ids, target))``, all (B, L).

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 0. A stream is read on where this is the next one, else it is
            read anew from its start.
        rank, world_size : int
            This process, and how many share each batch: it gets rows that lie together, or of a
            stream every `world_size`-th.

        Raises
        ------
        ValueError
            If there are more processes than rows, `rank` is not below their number, or a stream
            ends too early, holds something else than chunks, or cannot be shared evenly.
        """
        self._check_processes(rank, world_size)
        if not isinstance(self.chunks, Tensor) and self.batch_size % world_size:
            raise ValueError(
                f"world_size must divide batch_size = {self.batch_size} of a stream, "
                f"got {world_size}"
            )
        draw = self._draw(epoch)
        read = self._drawn if isinstance(self.chunks, Tensor) else self._streamed
        for ids in read(draw, epoch, rank, world_size):
            length = ids.shape[1]
            drawn = self.batch_size if self.cut == "chunk" else 1
            cuts = torch.randint(
                self.min_length, length - self.min_length + 1, (drawn,), generator=draw
            )
            swap = torch.rand(drawn, 1, generator=draw) < 0.5
            if self.cut == "middle":
                cuts = torch.tensor([length // 2])
            later = span_mask(cuts, length)
            later = later ^ swap if self.either_side else later
            later = later.expand(self.batch_size, length)
            # A stream deals its chunks out one by one.
            dealt = not isinstance(self.chunks, Tensor)
            target = later[rank::world_size] if dealt else _part(later, rank, world_size)
            yield (ids, ~target), (ids, target)

    def _drawn(
        self, draw: torch.Generator, epoch: int, rank: int, world_size: int
    ) -> Iterator[Tensor]:
        chunks, length = self.chunks, self.chunks.shape[1]
        if self.shift:
            start = int(torch.randint(length, (), generator=draw))
            chunks = chunks.flatten()[start : start + (len(chunks) - 1) * length].view(-1, length)
        for rows in self._orders(torch.randperm(len(chunks), generator=draw)):
            yield chunks[_part(rows, rank, world_size)]

    def _streamed(
        self, draw: torch.Generator, epoch: int, rank: int, world_size: int
    ) -> Iterator[Tensor]:
        ours = self.batch_size // world_size
        start = epoch * self.steps * ours
        if self._place != (rank, world_size, start):  # a resumed run, or one that begins again
            self._stream = islice(self.chunks(rank, world_size), start, None)
        for step in range(1, self.steps + 1):
            self._place = (rank, world_size, start + step * ours)
            part = list(islice(self._stream, ours))
            if len(part) < ours:
                raise ValueError(
                    f"chunks must be a stream long enough for every epoch, got its end in epoch "
                    f"{epoch}"
                )
            if any(chunk.dtype != torch.int64 or chunk.shape != part[0].shape for chunk in part):
                raise ValueError(
                    f"chunks must be a stream of token ids of one shape (L,), got {_kinds(part)}"
                )
            if part[0].dim() != 1 or len(part[0]) < 2 * self.min_length:
                raise ValueError(
                    f"chunks must have at least 2 * min_length = {2 * self.min_length} tokens, "
                    f"got {_kinds(part)}"
                )
            yield torch.stack(part)

    def train_dataloader(self) -> DataLoader:
        """Batches of the trainer's current epoch, for this process."""
        # With torch's own generator, of which its start draws a number: chapter 2's values have it.
        return DataLoader(_EpochBatches(self), batch_size=None)


_TOGETHER = 4  # images that look alike in a row


Words = tuple[Tensor, Tensor]  # ids of int64 and visible of bool, both (..., L)


class CaptionDataModule(_Batches):
    """Batches of visual tokens, each image with one of its captions, drawn anew for each epoch.

    An incomplete batch is left out.

    Parameters
    ----------
    tokens : Tensor, shape (N, K, D)
        Visual tokens of a frozen encoder, or anything else with a row for each image. Half
        precision saves memory; batches are of float32, unless they are bytes.
    captions : tuple of Tensors
        Token ids (N, C, L) and which of them are there, of bool (N, C, L): C captions for each
        image.
    questions : tuple of Tensors, optional
        The same for the question that each caption answers, (N, C, Q).
    groups : Tensor of int64, shape (N,), optional
        Images with one number are described by each other's captions, such as those of one class.
    look_alikes : Tensor of int64, shape (N,), optional
        Images with one number come into a batch four at a time, so that what is hard to tell apart
        competes (hard negatives).
    batch_size : int, default 256
        Images per batch B.
    seed : int, default 0
        Of order and captions.

    Raises
    ------
    ValueError
        If lengths differ, or `batch_size` is not between 1 and N.
    """

    def __init__(
        self,
        tokens: Tensor,
        captions: Words,
        *,
        questions: Words | None = None,
        groups: Tensor | None = None,
        look_alikes: Tensor | None = None,
        batch_size: int = 256,
        seed: int = 0,
    ):
        super().__init__()
        for name, words in (("captions", captions), ("questions", questions)):
            if words is not None and not (
                words[0].dim() == 3
                and words[0].shape == words[1].shape
                and len(words[0]) == len(tokens)
            ):
                raise ValueError(
                    f"{name} must be ids and visible of one shape ({len(tokens)}, C, L), "
                    f"got {tuple(words[0].shape)} and "
                    f"{tuple(words[1].shape)}"
                )
        if questions is not None and questions[0].shape[1] != captions[0].shape[1]:
            raise ValueError(
                f"questions must be {captions[0].shape[1]} for each image, got "
                f"{questions[0].shape[1]}"
            )
        for name, numbers in (("groups", groups), ("look_alikes", look_alikes)):
            if numbers is not None and numbers.shape != (len(tokens),):
                raise ValueError(
                    f"{name} must have shape ({len(tokens)},), got {tuple(numbers.shape)}"
                )
        batch_size, seed = whole("batch_size", batch_size), whole("seed", seed)
        if not 1 <= batch_size <= len(tokens):
            raise ValueError(
                f"batch_size must be between 1 and the number of images, {len(tokens)}, got "
                f"{batch_size}"
            )
        self.tokens, self.captions, self.questions = tokens, captions, questions
        self.groups, self.look_alikes = groups, look_alikes
        self.batch_size, self.seed = batch_size, seed
        self.steps = len(tokens) // batch_size  # per epoch

    def batches(self, epoch: int, *, rank: int = 0, world_size: int = 1) -> Iterator[tuple]:
        """The batches of an epoch, as `JEPA` takes them; of several processes, this one's rows.

        Each is (context, target) or (context, target, groups): context is (tokens (B, K, D),) with
        the question's ids and visible (B, Q), if there are any; target the caption's ids and
        visible (B, L); groups (B,).
        """
        self._check_processes(rank, world_size)
        draw = self._draw(epoch)
        count = self.captions[0].shape[1]
        for rows in self._orders(self._order(draw)):
            which = torch.randint(count, (len(rows),), generator=draw)
            rows, which = (_part(x, rank, world_size) for x in (rows, which))
            tokens = self.tokens[rows]
            if tokens.is_floating_point():
                tokens = tokens.to(torch.get_default_dtype())
            context = (tokens,)
            if self.questions is not None:
                context += tuple(part[rows, which] for part in self.questions)
            target = tuple(part[rows, which] for part in self.captions)
            yield (context, target) if self.groups is None else (context, target, self.groups[rows])

    def _order(self, draw: torch.Generator) -> Tensor:
        order = torch.randperm(len(self.tokens), generator=draw)
        if self.look_alikes is None:
            return order
        order = order[
            self.look_alikes[order].argsort(stable=True)
        ]  # each number's images side by side, in random order
        numbers, counts = self.look_alikes[order].unique_consecutive(return_counts=True)
        place = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(
            counts
        )  # within its number
        run = torch.stack(
            [numbers.repeat_interleave(counts), place // _TOGETHER]
        ).unique_consecutive(dim=1, return_inverse=True)[1]
        shuffled = torch.randperm(int(run[-1]) + 1, generator=draw)
        return order[shuffled[run].argsort(stable=True)]


class ImageDataModule(_Batches):
    """Batches of images that lie in memory, in an order drawn anew for each epoch.

    An incomplete last batch is left out.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, 3, H, W)
        Images.
    labels : Tensor of int64, shape (N,)
        Their classes.
    batch_size : int
        Images per batch B.
    seed : int, default 0
        Of the order.

    Raises
    ------
    ValueError
        If `batch_size` is not between 1 and N, or lengths differ.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, batch_size: int, seed: int = 0):
        super().__init__()
        if len(images) != len(labels):
            raise ValueError(
                f"labels must be as many as images, got {len(labels)} and {len(images)}"
            )
        batch_size, seed = whole("batch_size", batch_size), whole("seed", seed)
        if not 1 <= batch_size <= len(images):
            raise ValueError(
                f"batch_size must be between 1 and the number of images, {len(images)}, got "
                f"{batch_size}"
            )
        self.images, self.labels, self.batch_size, self.seed = images, labels, batch_size, seed
        self.steps = len(images) // batch_size  # per epoch

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch: images (B, 3, H, W) and labels (B,); of several processes, this
        one's rows."""
        self._check_processes(rank, world_size)
        for rows in self._orders(torch.randperm(len(self.images), generator=self._draw(epoch))):
            rows = _part(rows, rank, world_size)
            yield self.images[rows], self.labels[rows]


class TrajectoryDataModule(_Batches):
    """Stretches of trajectories, begun at random times of random trajectories, and drawn as needed.

    Parameters
    ----------
    states : Tensor, shape (N, T+1, K)
        Of a world, along N trajectories.
    actions : Tensor, shape (N, T, A)
        What was done between them.
    show : callable
        From states (B, length+1, K) to frames (B, length+1, ...), such as pictures: so a hundred
        thousand of them need no room in memory.
    length : int
        Actions of a stretch, at most T.
    batch_size : int
        Stretches per batch B, over all processes.
    steps : int
        Batches that count as an epoch.
    seed : int, default 0
        Of what is drawn.

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range.
    """

    def __init__(
        self,
        states: Tensor,
        actions: Tensor,
        show: Callable[[Tensor], Tensor],
        *,
        length: int,
        batch_size: int,
        steps: int,
        seed: int = 0,
    ):
        super().__init__()
        fits = states.dim() == actions.dim() == 3 and actions.shape[1] > 0
        if not fits or states.shape[:2] != (len(actions), actions.shape[1] + 1):
            raise ValueError(
                "states must be (N, T+1, K) and actions (N, T, A), got "
                f"{tuple(states.shape)} and {tuple(actions.shape)}"
            )
        self.states, self.actions, self.show = states, actions, show
        self.length = whole("length", length, 1, actions.shape[1], "T")
        self.batch_size, self.steps = whole("batch_size", batch_size, 1), whole("steps", steps, 1)
        self.seed = whole("seed", seed)

    def batches(
        self, epoch: int, *, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch: frames (B, length+1, ...) and actions (B, length, A); of several
        processes, this one's rows."""
        self._check_processes(rank, world_size)
        draw, (number, total) = self._draw(epoch), self.actions.shape[:2]
        for _ in range(self.steps):
            rows = torch.randint(number, (self.batch_size, 1), generator=draw)
            last = total - self.length + 1
            times = torch.randint(last, (self.batch_size, 1), generator=draw)
            rows, times = (_part(drawn, rank, world_size) for drawn in (rows, times))
            times = times + torch.arange(self.length + 1)
            yield self.show(self.states[rows, times]), self.actions[rows, times[:, :-1]]


def tensor_batches(*tensors: Tensor, batch_size: int) -> DataLoader:
    """Consecutive batches of tensors that lie in memory, in order, the last one short.

    Parameters
    ----------
    *tensors : Tensor, shape (P, ...)
        Equally long.
    batch_size : int
        Rows per batch.

    Returns
    -------
    DataLoader
        Yields tuples of tensors (B, ...).

    Raises
    ------
    ValueError
        If `batch_size` is below 1, or lengths differ.
    """
    batch_size = whole("batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len({len(tensor) for tensor in tensors}) != 1:
        raise ValueError(
            f"tensors must be equally long, got lengths {[len(tensor) for tensor in tensors]}"
        )
    # The batches are views: nothing is indexed, collated or copied while training.
    return DataLoader(
        list(zip(*(tensor.split(batch_size) for tensor in tensors), strict=True)), batch_size=None
    )


class _NeighbourPairs(IterableDataset):
    def __init__(self, points: Tensor, neighbours: Tensor, batch_size: int):
        self.points, self.neighbours, self.batch_size = points, neighbours, batch_size

    def __len__(self) -> int:
        return -(-len(self.points) // self.batch_size)

    def __iter__(self):
        n, k = self.neighbours.shape
        partner = self.neighbours[torch.arange(n), torch.randint(k, (n,))]
        for chosen in torch.randperm(n).split(self.batch_size):
            yield self.points[chosen], self.points[partner[chosen]]


def neighbour_batches(points: Tensor, neighbours: Tensor, *, batch_size: int) -> DataLoader:
    """Batches of points and partners: each point once per pass, with a partner drawn anew.

    The last batch is short.

    Parameters
    ----------
    points : Tensor, shape (N, ...)
        Points, in memory.
    neighbours : Tensor of int64, shape (N, K)
        Indices of the possible partners of each point.
    batch_size : int
        Pairs per batch.

    Returns
    -------
    DataLoader
        Yields (points, partners), each (B, ...).

    Raises
    ------
    ValueError
        If `batch_size` is below 1, or `neighbours` does not fit to `points`.
    """
    batch_size = whole("batch_size", batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if neighbours.dim() != 2 or len(neighbours) != len(points) or neighbours.shape[1] < 1:
        raise ValueError(
            f"neighbours must have shape ({len(points)}, K), got {tuple(neighbours.shape)}"
        )
    if neighbours.min() < 0 or neighbours.max() >= len(points):
        raise ValueError(
            f"neighbours must be indices below {len(points)}, got {int(neighbours.min())} to "
            f"{int(neighbours.max())}"
        )
    return DataLoader(_NeighbourPairs(points, neighbours, batch_size), batch_size=None)


def _kinds(chunks: list[Tensor]) -> str:
    return ", ".join(sorted({f"{tuple(chunk.shape)} of {chunk.dtype}" for chunk in chunks}))
