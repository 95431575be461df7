"""The tokeniser of a language model, from the mirror, the hub or, as sample, trained on generated articles."""

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
from jepa_utils.data.samples import sample_articles
from jepa_utils.data.sources import ORIGINS, Provenance

if TYPE_CHECKING:  # slow to import, and most chapters need none of it
    import tokenizers
    import transformers

TOKENIZERS: dict[str, Repo] = {
    "gpt2": Repo("openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e", "model"),
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

    The sample is of the same kind, byte-level byte-pair encoding, with a vocabulary of 2,000 at most.

    Parameters
    ----------
    name : str
        One of `TOKENIZERS`.
    source : {None, "mirror", "hub", "sample"}
        As in `jepa_utils.data.sources.load_data`.
    cache_dir : path, optional
        As in `jepa_utils.data.sources.load_data`.
    texts : iterable of str, optional
        What the sample is trained on; not looked at if another source gives the tokeniser. Default: the
        articles of `jepa_utils.data.samples.sample_articles`.

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
        If the sample stands in because neither mirror nor hub can be had. With no network this takes less
        than 5 seconds.
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
    version = "trained on generated articles, seed 0" if texts is None else "trained on the texts given"
    return _with_provenance(name, "sample", version, sha256, trained, sample_note(reasons))


def _find(root: Path) -> dict[str, list[str]]:
    if not (root / _FILE).is_file():
        raise PassedOverError(f"no {_FILE}")
    return {"tokenizer": [_FILE]}


def _loaded(name: str, repo: Repo, origin: str, files: dict[str, list[CheckedFile]]) -> LoadedTokenizer:
    from tokenizers import Tokenizer

    (file,) = files["tokenizer"]
    try:
        tokenizer = Tokenizer.from_file(str(file.path))
    except Exception as problem:  # the library raises no other
        raise PassedOverError(f"{file.name} of {repo.name} cannot be read as a tokeniser") from problem
    hub = origin == "hub"
    version, note = (repo.version, "From") if hub else ("no revision stated", "A copy of")
    return _with_provenance(name, origin, version, file.sha256, tokenizer, f"{note} {repo.url} ({_FILE}).")


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
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # every byte, so every text can be encoded
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
