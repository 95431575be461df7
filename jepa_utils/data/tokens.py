"""Text as numbers: tokenisers, chunks of a long text, and which tokens of a chunk are seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jepa_utils.data._hub import (
    CheckedFile,
    PassedOverError,
    Repo,
    Wanted,
    cache_folder,
    first_source,
    hub_files,
    mirror_files,
    sample_note,
    warn_of_sample,
)
from jepa_utils.data.load import ORIGINS, Provenance
from jepa_utils.data.samples import sample_articles

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import tokenizers
    import transformers
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from tqdm.auto import tqdm

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedTokenizerBase
import re
from collections.abc import Sequence

from torch.nn.utils.rnn import pad_sequence

from jepa_utils.data.words import Vocabulary, tokenize

if TYPE_CHECKING:  # slow to import
    pass

__all__ = [
    "CLASS_TEMPLATES",
    "CaptionTokenizer",
    "class_captions",
    "span_mask",
    "stream_chunks",
    "token_chunks",
]


TOKENIZERS: dict[str, Repo] = {
    "gpt2": Repo("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "model")
}


_FILE = "tokenizer.json"  # holds all of a tokeniser; the other files repeat it for other libraries


_END = "<|endoftext|>"


_SAMPLE_SIZE = 2000


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokeniser with its provenance.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        It sets no limit to a sequence's length: that is the model's.
    provenance : Provenance
        Its size is the vocabulary's.
    """

    tokenizer: transformers.PreTrainedTokenizerFast
    provenance: Provenance


def load_tokenizer(
    name: str = "gpt2",
    *,
    source: str | None = None,
    cache_dir: str | Path | None = None,
    texts: Iterable[str] | None = None,
) -> LoadedTokenizer:
    """Load a tokeniser from the mirror, else the hub, else train a small one as sample.

    The sample is of the same kind, byte-level byte-pair encoding, with a vocabulary of 2,000 at
    most.

    Parameters
    ----------
    name : str
        One of `TOKENIZERS`.
    source : {None, "mirror", "hub", "sample"}
        As in `jepa_utils.data.sources.load_data`.
    cache_dir : path, optional
        As in `jepa_utils.data.sources.load_data`.
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

    Warns
    -----
    SampleDataWarning
        If the sample stands in because neither mirror nor hub can be had. With no network this
        takes less than 5 seconds.
    DataWarning
        If the mirror or a cached file has to be passed over.
    """
    if name not in TOKENIZERS:
        raise ValueError(f"name must be one of {', '.join(sorted(TOKENIZERS))}; got {name!r}")
    if source is not None and source not in ORIGINS:
        raise ValueError(f"source must be None or one of {', '.join(ORIGINS)}; got {source!r}")
    repo, folder = TOKENIZERS[name], cache_folder(cache_dir)
    wanted = Wanted(repo, _find, (_FILE,))
    loaded, reasons = first_source(
        name,
        source,
        lambda: _loaded(name, repo, "mirror", mirror_files(wanted)),
        lambda: _loaded(name, repo, "hub", hub_files(name, wanted, folder)),
        wanted=f"{repo.name}/{_FILE}",
        url=repo.url,
    )
    if loaded is not None:
        return loaded
    if reasons:
        warn_of_sample(name, reasons)
    trained = _train(texts)
    sha256 = hashlib.sha256(trained.to_str().encode()).hexdigest()
    version = (
        "trained on generated articles, seed 0" if texts is None else "trained on the texts given"
    )
    return _with_provenance(name, "sample", version, sha256, trained, sample_note(reasons))


def _find(root: Path) -> dict[str, list[str]]:
    if not (root / _FILE).is_file():
        raise PassedOverError(f"no {_FILE}")
    return {"tokenizer": [_FILE]}


def _loaded(
    name: str, repo: Repo, origin: str, files: dict[str, list[CheckedFile]]
) -> LoadedTokenizer:
    from tokenizers import Tokenizer

    (file,) = files["tokenizer"]
    try:
        tokenizer = Tokenizer.from_file(str(file.path))
    except Exception as problem:  # the library raises no other
        raise PassedOverError(
            f"{file.name} of {repo.name} cannot be read as a tokeniser"
        ) from problem
    hub = origin == "hub"
    version, note = (repo.version, "From") if hub else ("no revision stated", "A copy of")
    return _with_provenance(
        name, origin, version, file.sha256, tokenizer, f"{note} {repo.url} ({_FILE})."
    )


def _with_provenance(
    name: str, origin: str, version: str, sha256: str, tokenizer: tokenizers.Tokenizer, note: str
) -> LoadedTokenizer:
    from transformers import PreTrainedTokenizerFast

    size = tokenizer.get_vocab_size()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_END,
        eos_token=_END,
        unk_token=_END,
        clean_up_tokenization_spaces=False,  # else decoding drops blanks before punctuation marks
    )
    return LoadedTokenizer(wrapped, Provenance(name, origin, version, sha256, size, "tokens", note))


def _train(texts: Iterable[str] | None) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if texts is None:
        texts = [line for columns in sample_articles()[0].values() for line in columns["text"]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SAMPLE_SIZE,
        special_tokens=[_END],
        initial_alphabet=sorted(
            pre_tokenizers.ByteLevel.alphabet()
        ),  # every byte, so every text can be encoded
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def stream_chunks(
    lines: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
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
    """
    if length < 1 or batch_size < 1:
        raise ValueError(
            f"length and batch_size must be at least 1, got length={length}, "
            f"batch_size={batch_size}"
        )
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
        raise ValueError(
            f"cuts must lie between 1 and length - 1 = {length - 1}, got {int(cuts.min())} "
            f"to {int(cuts.max())}"
        )
    return torch.arange(length, device=cuts.device) >= cuts.unsqueeze(1)


def _kinds(chunks: list[Tensor]) -> str:
    return ", ".join(sorted({f"{tuple(chunk.shape)} of {chunk.dtype}" for chunk in chunks}))


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
        If `names` or `templates` is a single string or empty, a name is blank, or a template has
        not exactly one ``{}``.
    """
    for argument, values in (("names", names), ("templates", templates)):
        if isinstance(values, str) or not len(values):
            raise ValueError(
                f"{argument} must be a sequence of at least one string, got {values!r}"
            )
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
    if isinstance(captions, str) or not len(captions):
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
