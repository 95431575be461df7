"""Running text as chunks of tokens, each cut in two: a context and a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedTokenizerBase

__all__ = ["CUTS", "SpanDataModule", "span_mask", "stream_chunks", "token_chunks"]

CUTS = ("chunk", "batch", "middle")


def stream_chunks(
    lines: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, length: int = 256, batch_size: int = 1000
) -> Iterator[Tensor]:
    """Cut running text into chunks of tokens, holding only a batch of lines in memory.

    Empty lines are left out, the tokens of all others stand one after the other, and what does not fill a chunk at the end is
    dropped.

    Parameters
    ----------
    lines : iterable of str
        Text, in order; may be a stream.
    tokenizer : transformers tokenizer
        Called with a list of lines.
    length : int, default 256
        Tokens per chunk L.
    batch_size : int, default 1000
        Lines tokenised at a time.

    Yields
    ------
    Tensor of int64, shape (L,)

    Raises
    ------
    ValueError
        If `length` or `batch_size` is below 1.
    """
    if length < 1 or batch_size < 1:
        raise ValueError(f"length and batch_size must be at least 1, got length={length}, batch_size={batch_size}")
    filled = iter(line for line in lines if line.strip())
    waiting: list[int] = []
    while batch := list(islice(filled, batch_size)):
        for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]:
            waiting += ids
        full = len(waiting) // length * length
        yield from torch.tensor(waiting[:full]).view(-1, length)
        del waiting[:full]


def token_chunks(
    lines: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int = 256,
    batch_size: int = 1000,
    progress: bool = True,
) -> Tensor:
    """All of `stream_chunks` as one tensor, with a progress bar over the lines.

    Parameters
    ----------
    lines, tokenizer, length, batch_size
        See `stream_chunks`.
    progress : bool, default True
        Show the bar.

    Returns
    -------
    Tensor of int64, shape (P, L)

    Raises
    ------
    ValueError
        As `stream_chunks`; also if the text does not fill one chunk.
    """
    lines = tqdm(lines, desc="Tokenising", unit="lines", disable=not progress, leave=False)
    chunks = list(stream_chunks(lines, tokenizer, length=length, batch_size=batch_size))
    if not chunks:
        raise ValueError(f"lines must fill at least one chunk of length = {length} tokens")
    return torch.stack(chunks)


def span_mask(cuts: Tensor, length: int) -> Tensor:
    """True from the cut on: the later part of each sequence.

    Parameters
    ----------
    cuts : Tensor of int64, shape (B,)
        Length of the earlier part, in tokens.
    length : int
        Length of the sequences L.

    Returns
    -------
    Tensor of bool, shape (B, L)

    Raises
    ------
    ValueError
        If a cut leaves one part empty.
    """
    if cuts.numel() and not 1 <= int(cuts.min()) <= int(cuts.max()) < length:
        raise ValueError(f"cuts must lie between 1 and length - 1 = {length - 1}, got {int(cuts.min())} to {int(cuts.max())}")
    return torch.arange(length, device=cuts.device) >= cuts.unsqueeze(1)


def _kinds(chunks: list[Tensor]) -> str:
    return ", ".join(sorted({f"{tuple(chunk.shape)} of {chunk.dtype}" for chunk in chunks}))


class _Spans(IterableDataset):
    """Batches of one epoch; reads the epoch and the processes off the data module's trainer."""

    def __init__(self, data: SpanDataModule):
        self.data = data

    def __len__(self) -> int:
        return self.data.steps

    def __iter__(self):
        trainer = self.data.trainer
        if trainer is None:
            yield from self.data.batches(0)
        else:
            yield from self.data.batches(trainer.current_epoch, rank=trainer.global_rank, world_size=trainer.world_size)


class SpanDataModule(L.LightningDataModule):
    """Chunks of tokens cut into context and target, in an order drawn anew for each epoch.

    What an epoch draws depends on `seed` and its number alone: a resumed run continues with the same batches, and several
    processes share the batches of one.

    Parameters
    ----------
    chunks : Tensor of int64, shape (P, L), or callable
        Token ids, from `token_chunks`. For text that does not fit into memory: a function of `rank` and `world_size` that returns
        that process's own stream of chunks (L,), from `stream_chunks`. A stream is read in its order, on from epoch to epoch.
    batch_size : int
        Chunks per step, over all processes. What does not fill a batch at the end of an epoch is left out.
    min_length : int, default 32
        Shortest part, in tokens.
    cut : {"chunk", "batch", "middle"}, default "chunk"
        Where chunks are cut: each at its own random place, all of a batch at the same random place, or all in the middle.
    either_side : bool, default False
        Let the later part be the context in half of all cases (drawn as often as the cut); else the context is the earlier one.
    shift : bool, default False
        Draw the borders between chunks anew for each epoch: the same running text, other passages. Costs one chunk.
    chunks_per_epoch : int, optional
        What counts as an epoch of a stream, over all processes.
    seed : int, default 0
        Of order, cuts and sides.

    Raises
    ------
    ValueError
        If a number is out of range, `cut` is none of the three, or an argument does not fit to a tensor or to a stream.
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
            raise ValueError(f"chunks must be a tensor (P, L) or a function that returns a stream, got {type(chunks).__name__}")
        if streamed != (chunks_per_epoch is not None) or (streamed and shift):
            raise ValueError(
                f"chunks_per_epoch must be given for a stream and for nothing else, and shift for a tensor only; got "
                f"chunks_per_epoch={chunks_per_epoch}, shift={shift} with {type(chunks).__name__}"
            )
        if not streamed and (chunks.dim() != 2 or chunks.dtype != torch.int64):
            raise ValueError(f"chunks must be token ids of shape (P, L), got {tuple(chunks.shape)} of {chunks.dtype}")
        total = chunks_per_epoch if streamed else len(chunks) - shift
        if not 1 <= batch_size <= total:
            raise ValueError(f"batch_size must be between 1 and the number of chunks, {total}, got {batch_size}")
        if min_length < 1 or (not streamed and min_length > chunks.shape[1] // 2):
            half = "" if streamed else f", {chunks.shape[1] // 2}"
            raise ValueError(f"min_length must be between 1 and half a chunk{half}, got {min_length}")
        if cut not in CUTS:
            raise ValueError(f"cut must be one of {', '.join(CUTS)}, got {cut!r}")
        self.chunks, self.batch_size, self.min_length = chunks, batch_size, min_length
        self.cut, self.either_side, self.shift, self.seed = cut, either_side, shift, seed
        self.steps = total // batch_size  # per epoch
        self._stream: Iterator[Tensor] = iter(())
        self._place: tuple[int, int, int] | None = None  # of the stream: rank, processes, chunks read

    def batches(self, epoch: int, *, rank: int = 0, world_size: int = 1) -> Iterator[tuple[tuple[Tensor, Tensor], ...]]:
        """The batches of an epoch: ``((ids, context), (ids, target))``, ids (B, L) and masks of bool (B, L).

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 0. A stream is read on where this is the next one, else it is read anew from its start.
        rank, world_size : int
            This process, and how many share each batch: it gets every `world_size`-th row.

        Raises
        ------
        ValueError
            If `world_size` does not divide the batch size, `rank` is not below it, or a stream ends too early or holds
            something else than chunks.
        """
        if world_size < 1 or self.batch_size % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"world_size must divide batch_size = {self.batch_size}, and rank lie below it, got world_size={world_size}, "
                f"rank={rank}"
            )
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        read = self._drawn if isinstance(self.chunks, Tensor) else self._streamed
        for ids in read(draw, epoch, rank, world_size):
            length = ids.shape[1]
            drawn = self.batch_size if self.cut == "chunk" else 1
            cuts = torch.randint(self.min_length, length - self.min_length + 1, (drawn,), generator=draw)
            swap = torch.rand(drawn, 1, generator=draw) < 0.5
            if self.cut == "middle":
                cuts = torch.tensor([length // 2])
            later = span_mask(cuts, length)
            target = (later ^ swap if self.either_side else later).expand(self.batch_size, length)[rank::world_size]
            yield (ids, ~target), (ids, target)

    def _drawn(self, draw: torch.Generator, epoch: int, rank: int, world_size: int) -> Iterator[Tensor]:
        chunks, length = self.chunks, self.chunks.shape[1]
        if self.shift:
            start = int(torch.randint(length, (), generator=draw))
            chunks = chunks.flatten()[start : start + (len(chunks) - 1) * length].view(-1, length)
        for rows in torch.randperm(len(chunks), generator=draw).split(self.batch_size)[: self.steps]:
            yield chunks[rows[rank::world_size]]

    def _streamed(self, draw: torch.Generator, epoch: int, rank: int, world_size: int) -> Iterator[Tensor]:
        ours = self.batch_size // world_size
        start = epoch * self.steps * ours
        if self._place != (rank, world_size, start):  # a resumed run, or one that begins again
            self._stream = islice(self.chunks(rank, world_size), start, None)
        for step in range(1, self.steps + 1):
            self._place = (rank, world_size, start + step * ours)
            part = list(islice(self._stream, ours))
            if len(part) < ours:
                raise ValueError(f"chunks must be a stream long enough for every epoch, got its end in epoch {epoch}")
            if any(chunk.dtype != torch.int64 or chunk.shape != part[0].shape for chunk in part):
                raise ValueError(f"chunks must be a stream of token ids of one shape (L,), got {_kinds(part)}")
            if part[0].dim() != 1 or len(part[0]) < 2 * self.min_length:
                raise ValueError(f"chunks must have at least 2 * min_length = {2 * self.min_length} tokens, got {_kinds(part)}")
            yield torch.stack(part)

    def train_dataloader(self) -> DataLoader:
        """Batches of the trainer's current epoch, for this process."""
        return DataLoader(_Spans(self), batch_size=None)
