"""Text as numbers: tokenisers, text too large to load, chunks of it, and captions."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from jepa_utils.arguments import whole
from jepa_utils.data import load
from jepa_utils.data._texts import check_many
from jepa_utils.data.integrity import PassedOverError, check_content, readable
from jepa_utils.data.load import Provenance, first_source, hub_files, mirror_files
from jepa_utils.data.registry import REVISIONS, Place
from jepa_utils.data.samples import sample_articles
from jepa_utils.data.words import Vocabulary, tokenize

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import datasets
    import tokenizers
    import transformers

__all__ = [
    "CLASS_TEMPLATES",
    "CaptionTokenizer",
    "LoadedTokenizer",
    "article_of_chunks",
    "class_captions",
    "load_tokenizer",
    "span_mask",
    "stream_chunks",
    "stream_data",
    "token_chunks",
]

# The other files of a tokeniser repeat this one for other libraries.
TOKENIZERS = {"gpt2": Place("openai-community/gpt2", {"all": ("tokenizer.json",)}, "model")}

_SHARDS = tuple(f"sample/10BT/{shard:03}_00000.parquet" for shard in range(14))
STREAMS = {"fineweb-edu": Place("HuggingFaceFW/fineweb-edu", {"train": _SHARDS})}

_END = "<|endoftext|>"
_SAMPLE_SIZE = 2000


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokeniser with its provenance.

    Attributes
    ----------
    tokenizer : transformers tokenizer
        It sets no limit to a sequence's length: that is the model's.
    provenance : Provenance
        Its size is the vocabulary's.
    """

    tokenizer: transformers.PreTrainedTokenizerFast
    provenance: Provenance


def load_tokenizer(
    name: str = "gpt2", *, source: str | None = None, texts: Iterable[str] | None = None
) -> LoadedTokenizer:
    """Load a tokeniser from the mirror, else the hub, else train a small one as sample.

    The sample is of the same kind, byte-level byte-pair encoding, with a vocabulary of 2,000 at
    most. What is passed over is warned of as by `jepa_utils.data.load.load_data`.

    Parameters
    ----------
    name : str
        One of `TOKENIZERS`.
    source : {None, "mirror", "hub", "sample"}
        As in `jepa_utils.data.load.load_data`.
    texts : iterable of str, optional
        What the sample is trained on; not looked at if another source gives the tokeniser. Default:
        the articles of `jepa_utils.data.samples.sample_articles`.

    Returns
    -------
    LoadedTokenizer

    Raises
    ------
    ValueError
        If the name or the source is unknown.
    DataUnavailableError
        If ``source`` is given and cannot give the tokeniser.
    TypeError
        If ``texts`` is a single string.
    """
    check_many("texts", texts)
    if name not in TOKENIZERS:
        raise ValueError(f"name must be one of {', '.join(sorted(TOKENIZERS))}; got {name!r}")
    place = TOKENIZERS[name]

    def read(origin: str, files: load.Files) -> LoadedTokenizer:
        from tokenizers import Tokenizer

        ((path, sha256),) = files["all"]
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as problem:  # the library raises no other
            raise PassedOverError(f"{path.name} of {place.name} is no tokeniser") from problem
        if tokenizer.token_to_id(_END) is None:
            raise PassedOverError(f"{path.name} of {place.name} lacks the token {_END}")
        version, note = "no revision stated", "A copy of"
        if origin == "hub":
            version, note = f"revision {REVISIONS[place.name][:8]}", "From"
        note = f"{note} {place.url} ({path.name})."
        return _loaded(tokenizer, name, origin, version, sha256, note)

    def sample(note: str) -> LoadedTokenizer:
        tokenizer = _train(texts)
        trained = "on generated articles, seed 0" if texts is None else "on the texts given"
        sha256 = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        return _loaded(tokenizer, name, "sample", f"trained {trained}", sha256, note)

    readers = {
        "mirror": lambda: read("mirror", mirror_files(place)),
        "hub": lambda: read("hub", hub_files(place)),
        "sample": sample,
    }
    return first_source(name, source, place, readers)


def _loaded(
    tokenizer: tokenizers.Tokenizer, name: str, origin: str, version: str, sha256: str, note: str
) -> LoadedTokenizer:
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_END,
        eos_token=_END,
        unk_token=_END,
        clean_up_tokenization_spaces=False,  # else decoding drops blanks before punctuation marks
    )
    size = tokenizer.get_vocab_size()
    return LoadedTokenizer(wrapped, Provenance(name, origin, version, sha256, size, "tokens", note))


def _train(texts: Iterable[str] | None) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if texts is None:
        texts = [line for columns in sample_articles()[0].values() for line in columns["text"]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # each byte: every text can be encoded
    trainer = trainers.BpeTrainer(
        vocab_size=_SAMPLE_SIZE,
        special_tokens=[_END],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def stream_data(
    name: str, *, rank: int = 0, world_size: int = 1, source: str | None = None
) -> datasets.IterableDataset:
    """Read a text that is too large to load, row by row, from mirror or network.

    Only a part of one shard is in memory. The shards of a mirror are not compared with their
    checksums, which would mean reading all of them first.

    Parameters
    ----------
    name : str
        One of `STREAMS`.
    rank, world_size : int
        This process and the number of processes: each gets rows of its own, and together they get
        all.
    source : {None, "mirror", "hub"}
        None tries them in this order; a name forces one. There is no sample.

    Returns
    -------
    datasets.IterableDataset
        Rows with the one column "text".

    Raises
    ------
    ValueError
        If the name or the source is unknown, or the rank is none of ``world_size`` processes.
    DataUnavailableError
        If the data cannot be had. With no network this takes less than 5 seconds.
    DamagedError
        While reading, if a shard is not whole.
    """
    if name not in STREAMS:
        raise ValueError(f"name must be one of {', '.join(sorted(STREAMS))}; got {name!r}")
    rank, world_size = whole("rank", rank), whole("world_size", world_size)
    if not 0 <= rank < world_size:
        raise ValueError(
            f"rank must be from 0 to world_size - 1; got rank {rank} with world_size {world_size}"
        )
    place = STREAMS[name]
    readers = {"mirror": lambda: _mirror_shards(place), "hub": lambda: _hub_shards(place)}
    shards = first_source(name, source, place, readers)
    from datasets import Features, Value
    from datasets.distributed import split_dataset_by_node
    from datasets.io.generator import GeneratorDatasetInputStream

    # IterableDataset.from_generator, but its lock does not lie in the user's home.
    stream = GeneratorDatasetInputStream(
        generator=_rows,
        features=Features({"text": Value("string")}),
        gen_kwargs={"shards": shards},
        cache_dir=str(load.cache_folder() / "streams"),
        streaming=True,
    )
    return split_dataset_by_node(stream.read(), rank, world_size)


def _mirror_shards(place: Place) -> list[str]:
    from pyarrow import parquet

    folder, shards = load.env_folder("JEPA_DATA_MIRROR"), []
    for name in [f"{place.name}/{path}" for path in place.files["train"] if folder]:
        if os.path.lexists(path := folder / name):
            check_content(path, name)
            with readable(name, "text"):  # the shard's end only
                parquet.read_schema(path).field("text")
            shards.append(str(path))
    if not shards:
        raise PassedOverError(f"no shard of {place.name} in the mirror")
    return shards


def _hub_shards(place: Place) -> list[str]:
    if reason := load.unreachable(load.HUB):
        raise PassedOverError(reason)
    repo = f"hf://datasets/{place.name}@{REVISIONS[place.name]}"
    return [f"{repo}/{name}" for name in place.files["train"]]


def _rows(shards: list[str]) -> Iterator[dict[str, str]]:
    from huggingface_hub import HfFileSystem
    from pyarrow import parquet

    hub = HfFileSystem(endpoint=load.HUB, token=False)
    for shard in shards:
        with (
            readable(shard.rpartition("/")[2], "text"),
            hub.open(shard) if shard.startswith("hf://") else Path(shard).open("rb") as file,
        ):
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=1000, columns=["text"]):
                yield from batch.to_pylist()


def stream_chunks(
    lines: Iterable[str],
    tokenizer: transformers.PreTrainedTokenizerBase,
    *,
    length: int = 256,
    batch_size: int = 1000,
) -> Iterator[Tensor]:
    """Cut running text into chunks of tokens, holding only a batch of lines in memory.

    Empty lines are left out, the tokens of all others stand one after the other, and what does not
    fill a chunk at the end is dropped.

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
    TypeError
        If `lines` is a single string, or, while reading, one of them is no string.
    """
    check_many("lines", lines)
    length, batch_size = whole("length", length), whole("batch_size", batch_size)
    if length < 1 or batch_size < 1:
        raise ValueError(
            f"length and batch_size must be at least 1, got length={length}, "
            f"batch_size={batch_size}"
        )
    return _chunks(_filled_lines(lines), tokenizer, length, batch_size)


def _filled_lines(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if not isinstance(line, str):
            raise TypeError(f"lines must be strings, got {line!r}")
        if line.strip():
            yield line


def _chunks(
    filled: Iterator[str],
    tokenizer: transformers.PreTrainedTokenizerBase,
    length: int,
    batch_size: int,
) -> Iterator[Tensor]:
    waiting: list[int] = []
    while batch := list(islice(filled, batch_size)):
        for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]:
            waiting += ids
        full = len(waiting) // length * length
        yield from torch.tensor(waiting[:full]).view(-1, length)
        del waiting[:full]


def token_chunks(
    lines: Iterable[str],
    tokenizer: transformers.PreTrainedTokenizerBase,
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
    TypeError
        As `stream_chunks`.
    """
    check_many("lines", lines)
    lines = tqdm(lines, desc="Tokenising", unit="lines", disable=not progress, leave=False)
    chunks = list(stream_chunks(lines, tokenizer, length=length, batch_size=batch_size))
    if not chunks:
        raise ValueError(f"lines must fill at least one chunk of length = {length} tokens")
    return torch.stack(chunks)


def article_of_chunks(
    lines: Sequence[str], tokenizer: transformers.PreTrainedTokenizerBase, length: int
) -> Tensor:
    """Number of the article that the middle of each chunk lies in.

    Parameters
    ----------
    lines : sequence of str
        Of WikiText: a title stands alone between empty lines and has one sign of equality on
        either side.
    tokenizer, length
        As for `token_chunks`.

    Returns
    -------
    Tensor of int64, shape (P,)

    Raises
    ------
    ValueError
        If `length` is below 1.
    TypeError
        If `lines` is a single string.
    """
    check_many("lines", lines)
    length = whole("length", length, 1)
    title = re.compile(r"^ = [^=].* = \n$")
    starts, tokens = [], 0
    filled = [(i, line) for i, line in enumerate(lines) if line.strip()]
    ids = tokenizer([line for _, line in filled], add_special_tokens=False)["input_ids"]
    for (i, line), row in zip(filled, ids, strict=True):
        alone = not "".join([*lines[max(i - 1, 0) : i], *lines[i + 1 : i + 2]]).strip()
        if title.match(line) and alone:
            starts.append(tokens)
        tokens += len(row)
    middles = torch.arange(tokens // length) * length + length // 2
    return torch.bucketize(middles, torch.tensor(starts), right=True)


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
    length = whole("length", length)
    if cuts.numel() and not 1 <= int(cuts.min()) <= int(cuts.max()) < length:
        raise ValueError(
            f"cuts must lie between 1 and length - 1 = {length - 1}, got {int(cuts.min())} "
            f"to {int(cuts.max())}"
        )
    return torch.arange(length, device=cuts.device) >= cuts.unsqueeze(1)


#: Sentences about a thing, for `class_captions`. Several, because one alone may use words that few
#: captions use.
CLASS_TEMPLATES = (
    "a photo of a {}",
    "a picture of a {} outside",
    "there is a {} in the picture",
    "a {} seen from close by",
    "a {} in the distance",
    "one {} in front of a plain background",
    "the {} is in the middle of the photo",
    "a small photo of a {}",
)


def class_captions(
    names: Sequence[str], templates: Sequence[str] = CLASS_TEMPLATES
) -> list[list[str]]:
    """Captions for the names of classes, to classify images by the nearest caption (zero-shot).

    Parameters
    ----------
    names : sequence of str, length C
        Such as "airplane".
    templates : sequence of str, length T
        Sentences in which ``{}`` stands for the name. Before a name that begins with a vowel
        letter, "a {}" becomes "an ...".

    Returns
    -------
    list of C lists of T str

    Raises
    ------
    ValueError
        If `names` or `templates` is a single string or empty, a name is blank or no string, or a
        template has not exactly one ``{}``.
    """
    for argument, values in (("names", names), ("templates", templates)):
        if isinstance(values, (str, bytes)) or not len(values):
            raise ValueError(
                f"{argument} must be a sequence of at least one string, got {values!r}"
            )
        if not all(isinstance(value, str) for value in values):
            raise ValueError(f"{argument} must be strings, got {values!r}")
    for name in names:
        if not name.strip():
            raise ValueError(f"names must not be blank, got {name!r}")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"templates must have {{}} once each, got {template!r}")
    return [[_filled(template, name) for template in templates] for name in names]


def _filled(template: str, name: str) -> str:
    if name[0].lower() in "aeiou":
        template = re.sub(r"\b([Aa]) \{\}", r"\1n {}", template)
    return template.replace("{}", name)


@dataclass(frozen=True)
class CaptionTokenizer:
    """Captions as the token ids of their words, for `TextEncoder`.

    A caption is cut into tokens by `tokenize`: lower-case words and single punctuation marks.
    Called with B captions, the tokenizer returns

    - ids, a Tensor of int64, shape (B, L): L is the number of tokens of the longest caption, at
      most `max_length`; what goes beyond is cut off. A word that is not in the vocabulary has id 0,
      and so has the padding.
    - visible, a Tensor of bool, shape (B, L): true for tokens, unknown words included, and false
      for padding.

    It raises a ValueError that names the caption if one is no string or has no token, or if there
    are none.

    Parameters
    ----------
    vocabulary : Vocabulary
        As `from_captions` builds it.
    max_length : int
        Most tokens of a caption.

    Raises
    ------
    ValueError
        If `max_length` is below 1.
    """

    vocabulary: Vocabulary
    max_length: int = 32

    def __post_init__(self):
        object.__setattr__(self, "max_length", whole("max_length", self.max_length))  # as frozen
        if self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {self.max_length}")

    @classmethod
    def from_captions(
        cls, captions: Sequence[str], *, min_count: int = 1, max_length: int = 32
    ) -> CaptionTokenizer:
        """Build a tokenizer of the words that occur at least ``min_count`` times in captions.

        Raises
        ------
        ValueError
            If `min_count` or `max_length` is below 1, there are no captions, or one is no string or
            has no token.
        """
        tokens = (token for caption in _tokens(captions) for token in caption)
        return cls(Vocabulary.build(tokens, min_count), max_length)

    @property
    def words(self) -> tuple[str, ...]:
        """The word of each id; first ``<unk>``, for all others, then by falling count."""
        return self.vocabulary.words

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids and their visibility, as described above."""
        ids = [
            torch.tensor(self.vocabulary.encode(tokens[: self.max_length]))
            for tokens in _tokens(captions)
        ]
        lengths = torch.tensor([len(row) for row in ids])
        padded = pad_sequence(ids, batch_first=True)  # (B, L)
        return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def _tokens(captions: Sequence[str]) -> list[list[str]]:
    if isinstance(captions, (str, bytes)) or not len(captions):
        raise ValueError(f"captions must be a sequence of at least one string, got {captions!r}")
    tokens = []
    for row, caption in enumerate(captions):
        tokens.append(tokenize(caption) if isinstance(caption, str) else [])
        if not tokens[-1]:
            raise ValueError(
                f"captions must be strings with at least one word, got {caption!r} as "
                f"captions[{row}]"
            )
    return tokens
