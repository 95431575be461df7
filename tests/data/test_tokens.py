"""Text as numbers: tokenisers from each source, streams, chunks that are the text cut up, and captions."""

import hashlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pytest
import torch
from fakehub import FakeHub, cut_off, fill_mirror, on_its_own
from pyarrow import parquet
from torch.utils.data import DataLoader

from jepa_utils.data.load import (
    DamagedError,
    DataUnavailableError,
    DataWarning,
    SampleDataWarning,
    load_data,
)
from jepa_utils.data.registry import REVISIONS
from jepa_utils.data.samples import sample_articles
from jepa_utils.data.tokens import (
    CLASS_TEMPLATES,
    STREAMS,
    TOKENIZERS,
    CaptionTokenizer,
    article_of_chunks,
    class_captions,
    load_tokenizer,
    span_mask,
    stream_chunks,
    stream_data,
    token_chunks,
)
from jepa_utils.data.words import Vocabulary
from jepa_utils.models.text import TextEncoder

GPT2, FINEWEB = TOKENIZERS["gpt2"].name, STREAMS["fineweb-edu"]
NAME = f"{GPT2}/tokenizer.json"
MIRROR = os.environ.get("JEPA_DATA_MIRROR", "")  # as it was before the tests take it away
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 9\n" % (b"a" * 64)
TEXT = " = Über , den ' s Titel = \n <unk> ( 3 @.@ 5 ) ☃"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    on_its_own(monkeypatch, tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty mirror."""
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("JEPA_DATA_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


# ---- tokenisers
# ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content() -> bytes:
    """A small tokeniser's file."""
    tokenizer = load_tokenizer(source="sample", texts=["a small text , a smaller text"]).tokenizer
    return tokenizer.backend_tokenizer.to_str().encode()


@pytest.fixture
def hub(monkeypatch, content):
    """The fake hub with the model's repository, where the file is not LFS."""
    files = {
        NAME: content,
        f"{GPT2}/model.safetensors": b"much",
        f"{GPT2}/onnx/tokenizer.json": b"another",
    }
    with FakeHub(revision=REVISIONS[GPT2], files=files, small={NAME}).running(monkeypatch) as fake:
        yield fake


@pytest.fixture
def mirror(folder, content) -> Path:
    fill_mirror(folder, {NAME: content})
    return folder / NAME


def test_mirror_is_used_first(mirror, hub, content, tmp_path):
    loaded = load_tokenizer()
    provenance = loaded.provenance
    assert (provenance.name, provenance.origin, provenance.unit) == ("gpt2", "mirror", "tokens")
    assert (
        provenance.rows == len(loaded.tokenizer)
        and provenance.sha256 == hashlib.sha256(content).hexdigest()
    )
    assert str(tmp_path) not in str(provenance) and not hub.downloads


def test_hub_is_second_and_its_cached_copy_needs_no_network(hub, content, monkeypatch, capfd):
    loaded = load_tokenizer()
    assert (loaded.provenance.origin, loaded.provenance.version) == ("hub", "revision 607a30d7")
    assert loaded.provenance.sha256 == hashlib.sha256(content).hexdigest()
    assert hub.downloads == [NAME]
    cut_off(monkeypatch)
    assert load_tokenizer().provenance == loaded.provenance
    assert capfd.readouterr() == ("", "")


def test_no_network_falls_back_loudly():
    start = time.monotonic()
    with pytest.warns(SampleDataWarning, match="'gpt2': NOT THE REAL DATA.*cannot be reached"):
        loaded = load_tokenizer()
    assert time.monotonic() - start < 5
    assert loaded.provenance.origin == "sample" and "no results" in loaded.provenance.note


@pytest.mark.parametrize("altered", [b"{}", b"changed"])
def test_altered_mirror_file(mirror, hub, altered):
    mirror.write_bytes(altered)
    with pytest.warns(
        DataWarning,
        match="mirror passed over: openai-community/gpt2/tokenizer.json is not what its checksum says",
    ):
        assert load_tokenizer().provenance.origin == "hub"
    (mirror.parents[2] / "SHA256SUMS").unlink()
    with pytest.raises(
        DataUnavailableError, match="tokenizer.json of openai-community/gpt2 is no tokeniser"
    ):
        load_tokenizer(source="mirror")
    mirror.unlink()
    with pytest.raises(
        DataUnavailableError,
        match="'gpt2' cannot be had from the mirror: nothing of openai-community/gpt2 in the mirror",
    ):
        load_tokenizer(source="mirror")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[:-20], "tokenizer.json of openai-community/gpt2 is no tokeniser"),
        (lambda content: b"\xff" + content, "tokenizer.json of .* is no tokeniser"),
        (lambda content: b"", "openai-community/gpt2/tokenizer.json is empty"),
        (lambda content: POINTER, "openai-community/gpt2/tokenizer.json is a Git LFS pointer"),
        (
            lambda content: b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
            r"tokenizer.json of openai-community/gpt2 lacks the token <\|endoftext\|>",
        ),
        (None, "openai-community/gpt2/tokenizer.json cannot be read: Is a directory"),
    ],
    ids=["cut short", "bytes", "empty", "pointer", "no words", "folder"],
)
def test_a_mirror_with_a_damaged_tokeniser_is_passed_over(folder, hub, content, change, reason):
    if change:
        fill_mirror(folder, {NAME: change(content)})
    else:
        (folder / NAME).mkdir(parents=True)
    with pytest.warns(DataWarning, match=f"'gpt2': mirror passed over: {reason}"):
        assert load_tokenizer().provenance.origin == "hub"


def test_damaged_cached_file_is_downloaded_again(hub, tmp_path):
    provenance = load_tokenizer().provenance
    (file,) = (tmp_path / "cache").rglob("tokenizer.json")
    file.resolve().write_bytes(b"{}")
    with pytest.warns(
        DataWarning,
        match="the cached tokenizer.json is not what its checksum says; downloading it again",
    ):
        assert load_tokenizer().provenance == provenance


def test_forced_hub_without_network_and_unknown_names():
    with pytest.raises(DataUnavailableError, match="'gpt2' cannot be had from the hub"):
        load_tokenizer(source="hub")
    with pytest.raises(ValueError, match="name must be one of gpt2; got 'bert'"):
        load_tokenizer("bert")
    with pytest.raises(
        ValueError, match="source must be None or one of mirror, hub, sample; got 'web'"
    ):
        load_tokenizer(source="web")


def test_sample(recwarn):
    start = time.monotonic()
    loaded = load_tokenizer(source="sample")
    assert time.monotonic() - start < 3
    tokenizer = loaded.tokenizer
    assert len(tokenizer) == loaded.provenance.rows == 2000
    assert tokenizer.decode(tokenizer(TEXT).input_ids) == TEXT
    assert tokenizer("a<|endoftext|>").input_ids[-1] == tokenizer.eos_token_id
    lines = sample_articles(1)[0]["test"]["text"]  # articles it was not trained on
    assert sum(len(ids) for ids in tokenizer(lines).input_ids) < 0.35 * sum(map(len, lines))
    assert not recwarn.list


def test_sample_is_the_same_in_another_process():
    program = "from jepa_utils.data.tokens import load_tokenizer; print(load_tokenizer(source='sample').provenance.sha256)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == load_tokenizer(source="sample").provenance.sha256


def test_sample_from_texts_given():
    loaded = load_tokenizer(source="sample", texts=["barbarous " * 50])
    assert (
        len(loaded.tokenizer) < 300 and len(loaded.tokenizer("barbarous barbarous").input_ids) < 6
    )
    assert "texts given" in loaded.provenance.version


@pytest.mark.skipif(
    not Path(MIRROR, NAME).is_file() or not MIRROR, reason=f"needs {NAME} in JEPA_DATA_MIRROR"
)
def test_gpt2_itself(monkeypatch, capfd, recwarn):
    monkeypatch.setenv("JEPA_DATA_MIRROR", MIRROR)
    tokenizer = load_tokenizer(source="mirror").tokenizer
    assert len(tokenizer) == 50257 and tokenizer.eos_token_id == 50256
    assert tokenizer(" = Valkyria Chronicles III = \n").input_ids[:6] == [
        796,
        569,
        18354,
        7496,
        17740,
        6711,
    ]
    assert tokenizer.decode(tokenizer(TEXT).input_ids) == TEXT
    assert len(tokenizer(" word" * 2000).input_ids) == 2000
    assert capfd.readouterr() == ("", "") and not recwarn.list  # no notice of 1024 tokens at most


# ---- streams
# -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(folder) -> list[Path]:
    """The first three shards, four rows each."""
    names = [f"{FINEWEB.name}/{path}" for path in FINEWEB.files["train"][:3]]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        columns = {"text": [f"{number}-{row}" for row in range(4)], "more": [0] * 4}
        parquet.write_table(pyarrow.table(columns), folder / name)
    return [folder / name for name in names]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_process_streams_its_own_rows(shards, world_size):
    """Three shards: by shards for three processes, by rows for two."""
    streams = [
        stream_data("fineweb-edu", rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    parts = [[row["text"] for row in stream] for stream in streams]
    assert all(parts)
    assert sorted(sum(parts, [])) == [f"{number}-{row}" for number in range(3) for row in range(4)]


def test_a_stream_reads_a_shard_only_when_it_gets_there(shards):
    content = shards[1].read_bytes()
    shards[1].write_bytes(content[:4] + b"\xff" * 40 + content[44:])  # its end is whole
    rows = iter(stream_data("fineweb-edu"))
    assert [next(rows) for _ in range(4)] == [{"text": f"0-{row}"} for row in range(4)]
    with pytest.raises(DamagedError, match=r"001_00000.parquet has no readable text \("):
        next(rows)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[:-20], r"has no readable text \(ArrowInvalid\)"),
        (lambda content: b"", "is empty"),
        (lambda content: POINTER, "is a Git LFS pointer, not the file itself"),
        (None, "cannot be read: Is a directory"),
    ],
    ids=["cut short", "empty", "pointer", "folder"],
)
def test_a_stream_passes_over_a_mirror_with_a_damaged_shard(shards, hub, change, reason):
    hub.revision = REVISIONS[FINEWEB.name]
    whole = shards[0].read_bytes()
    hub.files = {f"{FINEWEB.name}/{path}": whole for path in FINEWEB.files["train"]}
    content = shards[1].read_bytes()
    shards[1].unlink()
    if change:
        shards[1].write_bytes(change(content))
    else:
        shards[1].mkdir()
    reason = f"HuggingFaceFW/fineweb-edu/sample/10BT/001_00000.parquet {reason}"
    with pytest.warns(DataWarning, match=f"'fineweb-edu': mirror passed over: {reason}"):
        rows = stream_data("fineweb-edu")
    assert len(list(rows)) == 14 * 4
    with pytest.raises(DataUnavailableError, match=f"from the mirror: {reason}"):
        stream_data("fineweb-edu", source="mirror")


def test_a_stream_in_worker_processes(shards):
    rows = [
        row["text"]
        for row in DataLoader(stream_data("fineweb-edu"), batch_size=None, num_workers=2)
    ]
    assert len(rows) == len(set(rows)) == 12


def test_a_stream_over_the_network(shards, hub, monkeypatch):
    monkeypatch.delenv("JEPA_DATA_MIRROR")
    hub.revision = REVISIONS[FINEWEB.name]
    paths = FINEWEB.files["train"]
    hub.files = {f"{FINEWEB.name}/{path}": shards[0].read_bytes() for path in paths}
    hub.files[f"{FINEWEB.name}/sample/100BT/000_00000.parquet"] = b"not wanted"
    rows = iter(stream_data("fineweb-edu"))
    assert next(rows) == {"text": "0-0"}
    assert set(hub.downloads) == {f"{FINEWEB.name}/{paths[0]}"}
    assert len(list(rows)) == 14 * 4 - 1
    assert set(hub.downloads) == {f"{FINEWEB.name}/{path}" for path in paths}


def test_a_stream_without_network_or_with_wrong_arguments(folder, hub):
    start = time.monotonic()
    hub.hang = True
    with (
        pytest.warns(DataWarning, match="no shard of HuggingFaceFW/fineweb-edu in the mirror"),
        pytest.raises(
            DataUnavailableError,
            match="cannot be had from the mirror or the hub: no shard .*cannot be reached",
        ),
    ):
        stream_data("fineweb-edu")
    with pytest.raises(DataUnavailableError, match="from the mirror: no shard of HuggingFaceFW"):
        stream_data("fineweb-edu", source="mirror")
    assert time.monotonic() - start < 2
    with pytest.raises(ValueError, match="name must be one of fineweb-edu; got 'wikitext-2'"):
        stream_data("wikitext-2")
    with pytest.raises(ValueError, match="source must be None or one of mirror, hub; got 'sample'"):
        stream_data("fineweb-edu", source="sample")
    with pytest.raises(ValueError, match="got rank 2 with world_size 2"):
        stream_data("fineweb-edu", rank=2, world_size=2)


# ---- chunks
# --------------------------------------------------------------------------------------------------------------


LINES = [
    "It was the best of times,",
    "",
    "  \t",
    "it was the worst of times,\n",
    "\n",
    "x",
    "it was the age of wisdom",
] * 3
LINES += ["the end"]


def tokenizer(lines, add_special_tokens=True):
    """A token for each character, and 0 where a text begins, unless told not to."""
    assert isinstance(lines, list) and lines
    return {"input_ids": [[0] * add_special_tokens + [ord(c) for c in line] for line in lines]}


def all_tokens(lines=LINES):
    return [ord(c) for line in lines if line.strip() for c in line]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("length", [1, 4, 7, 100, len(all_tokens())])  # 100: longer than a line
def test_chunks_are_all_tokens_cut_up(length, batch_size):
    chunks = token_chunks(LINES, tokenizer, length=length, batch_size=batch_size, progress=False)
    full = len(all_tokens()) // length * length
    assert chunks.shape == (full // length, length) and chunks.dtype == torch.int64
    assert (
        chunks.flatten().tolist() == all_tokens()[:full]
    )  # no blank line, no beginnings; the remainder is dropped
    stream = list(stream_chunks(iter(LINES), tokenizer, length=length, batch_size=batch_size))
    assert torch.equal(torch.stack(stream), chunks) and stream[0].shape == (length,)


def test_the_text_has_blank_lines_and_leaves_a_remainder():
    assert (
        len(all_tokens()) % 4
        and len(all_tokens()) % 100
        and len(all_tokens()) < sum(map(len, LINES))
    )


def test_default_length_is_256():
    assert token_chunks(LINES * 10, tokenizer, progress=False).shape[1] == 256
    assert next(stream_chunks(LINES * 10, tokenizer)).shape == (256,)


def test_the_stream_reads_no_more_than_it_needs():
    read = []

    def lines():
        for line in ["abcde", "", "fghij", "klmno", "pqrst"]:
            read.append(line)
            yield line
        raise RuntimeError("read on")

    stream = stream_chunks(lines(), tokenizer, length=4, batch_size=2)
    assert read == []
    first = [next(stream), next(stream)]
    assert "".join(map(chr, torch.cat(first))) == "abcdefgh" and read == ["abcde", "", "fghij"]
    assert "".join(map(chr, next(stream))) == "ijkl" and read[3:] == ["klmno", "pqrst"]
    assert [len(chunk) for chunk in itertools.islice(stream, 2)] == [4, 4]
    with pytest.raises(RuntimeError, match="read on"):
        next(stream)


def test_an_endless_text_can_be_streamed():
    chunks = itertools.islice(
        stream_chunks(itertools.repeat("abc"), tokenizer, length=10, batch_size=2), 5
    )
    assert "".join(chr(c) for chunk in chunks for c in chunk) == ("abc" * 17)[:50]


@pytest.mark.parametrize("lines", [[], ["", " "], ["ab"]])
def test_a_text_too_short_for_a_chunk(lines):
    assert list(stream_chunks(lines, tokenizer, length=3)) == []
    with pytest.raises(ValueError, match="lines.*length = 3"):
        token_chunks(lines, tokenizer, length=3, progress=False)


@pytest.mark.parametrize("change", [dict(length=0), dict(batch_size=0), dict(batch_size=-1)])
def test_chunks_reject_numbers_below_one(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        next(stream_chunks(LINES, tokenizer, **change))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        token_chunks(LINES, tokenizer, **change, progress=False)


@pytest.mark.parametrize("text", ["the king", b"the king"])
def test_one_text_is_not_cut_into_lines_of_a_letter(text):
    for take in (token_chunks, stream_chunks):  # at once, not when the first chunk is asked for
        with pytest.raises(TypeError, match="lines must be several strings.*got one: .*the king"):
            take(text, tokenizer, length=2)
    with pytest.raises(TypeError, match="texts must be several strings.*got one: .*the king"):
        load_tokenizer(source="sample", texts=text)


@pytest.mark.parametrize("lines", [["the", b"king"], ["the", None], [["the", "king"]]])
def test_lines_are_strings(lines):
    with pytest.raises(TypeError, match=r"lines must be strings, got [b\[N]"):
        token_chunks(lines, tokenizer, length=2, progress=False)


def test_progress_can_be_silent(capsys):
    token_chunks(LINES, tokenizer, length=4, progress=False)
    assert capsys.readouterr().err == ""
    token_chunks(LINES, tokenizer, length=4)
    assert "Tokenising" in capsys.readouterr().err


# ---- articles
# -------------------------------------------------------------------------------------------------------------


def words_of(lines, add_special_tokens):
    """A tokenizer: a token for each word or sign."""
    assert not add_special_tokens
    return {"input_ids": [[7] * len(line.split()) for line in lines]}


ARTICLES = [
    *("", " = First = \n", "", " a b c d e \n"),  # from token 0, 8 tokens
    *("", " = = Section = = \n", "", " f g \n"),  # 7
    *("", " = Second = \n", "", " h i j \n", " = x = y = \n"),  # from 15, 11: no title is within
    *("", " = = = Part = = = \n"),  # 7
    *("", " = k = \n", " = l = \n"),  # a table of two rows, 6
    *("", " = Third one = \n", "", " m n o p q \n"),  # from 39, 9
]


@pytest.mark.parametrize(
    "length, expected",
    [
        (1, [1] * 15 + [2] * 24 + [3] * 9),
        (10, [1, 2, 2, 2]),  # middles 5, 15, 25, 35
        (9, [1, 1, 2, 2, 3]),  # 4, 13, 22, 31, 40
        (30, [2]),  # 15
        (48, [2]),  # 24
        (49, []),
    ],
)
def test_a_chunk_is_of_the_article_that_its_middle_lies_in(length, expected):
    found = article_of_chunks(ARTICLES, words_of, length)
    assert found.tolist() == expected and found.dtype == torch.int64
    # A text without empty lines before its first title, and one without a title.
    assert article_of_chunks(ARTICLES[1:], words_of, length).tolist() == expected
    assert set(article_of_chunks([" a b c \n"] * 20, words_of, 10).tolist()) == {0}


def test_articles_need_lines_and_a_length():
    with pytest.raises(ValueError, match="length must be an integer of at least 1, got 0"):
        article_of_chunks(ARTICLES, words_of, 0)
    with pytest.raises(TypeError, match="lines must be several strings"):
        article_of_chunks(" = First = \n", words_of, 10)


def test_articles_are_those_of_the_chunks():
    lines = load_data("wikitext-2", source="sample", splits=("test",)).data["test"]["text"][:100]
    tokenizer = load_tokenizer(source="sample").tokenizer
    found = article_of_chunks(lines, tokenizer, 32)
    titles = sum(line.startswith(" = ") and not line.startswith(" = =") for line in lines)
    assert len(found) == len(token_chunks(lines, tokenizer, length=32, progress=False))
    assert found.max() == titles > 2
    assert found.tolist() == sorted(found.tolist()) and found[0] == 1


# ---- spans
# ---------------------------------------------------------------------------------------------------------------


def test_span_mask_is_true_from_the_cut_on():
    expected = [[False, True, True, True], [False, False, False, True], [False, False, True, True]]
    assert span_mask(torch.tensor([1, 3, 2]), 4).tolist() == expected
    assert span_mask(torch.zeros(0, dtype=torch.long), 4).shape == (0, 4)


@pytest.mark.parametrize(
    "cuts, words", [([0, 2], "length - 1 = 3.*0 to 2"), ([1, 4], "1 to 4"), ([-1], "-1 to -1")]
)
def test_span_mask_leaves_no_part_empty(cuts, words):
    with pytest.raises(ValueError, match=f"cuts.*{words}"):
        span_mask(torch.tensor(cuts), 4)


# ---- classes
# -------------------------------------------------------------------------------------------------------------


def test_captions_of_classes():
    captions = class_captions(
        ["dog", "airplane", "Airedale terrier"], ["a {}", "A {} and a cat", "one {}"]
    )
    assert captions == [
        ["a dog", "A dog and a cat", "one dog"],
        ["an airplane", "An airplane and a cat", "one airplane"],
        ["an Airedale terrier", "An Airedale terrier and a cat", "one Airedale terrier"],
    ]


def test_templates_of_the_book():
    (dog, automobile) = class_captions(["dog", "automobile"])
    assert len(set(dog)) == len(CLASS_TEMPLATES) == 8
    assert all(" dog " in f" {caption} " for caption in dog) and "a photo of a dog" in dog
    assert "a photo of an automobile" in automobile and not any(
        " a automobile" in f" {caption}" for caption in automobile
    )


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ([], ["a {}"], r"names must be a sequence of at least one string, got \[\]"),
        ("dog", ["a {}"], "names must be a sequence of at least one string, got 'dog'"),
        (["dog", " "], ["a {}"], "names must not be blank, got ' '"),
        (b"dog", ["a {}"], "names must be a sequence of at least one string, got b'dog'"),
        (["dog", 1], ["a {}"], r"names must be strings, got \['dog', 1\]"),
        (["dog"], b"a {}", "templates must be a sequence of at least one string, got b'a {}'"),
        (["dog"], [None], r"templates must be strings, got \[None\]"),
        (["dog"], [], r"templates must be a sequence of at least one string, got \[\]"),
        (["dog"], "a {}", "templates must be a sequence of at least one string, got 'a {}'"),
        (["dog"], ["a {}", "a dog"], "templates must have {} once each, got 'a dog'"),
        (["dog"], ["a {} and a {}"], "templates must have {} once each, got 'a {} and a {}'"),
    ],
)
def test_classes_and_templates_that_do_not_fit(names, templates, message):
    with pytest.raises(ValueError, match=message):
        class_captions(names, templates)


# ---- token ids
# -----------------------------------------------------------------------------------------------------------


def test_words_become_ids():
    tokenizer = CaptionTokenizer.from_captions(["A dog runs .", "a black dog", "A cat !"])
    assert (
        tokenizer.words == ("<unk>", "a", "dog", "runs", ".", "black", "cat", "!")
        and len(tokenizer) == 8
    )
    ids, visible = tokenizer(["A Dog!", "the black cat runs ."])
    assert ids.dtype == torch.int64 and visible.dtype == torch.bool
    assert ids.tolist() == [[1, 2, 7, 0, 0], [0, 5, 6, 3, 4]]
    assert visible.tolist() == [[True, True, True, False, False], [True] * 5]
    assert (
        CaptionTokenizer(Vocabulary(tokenizer.words, tokenizer.vocabulary.counts)) == tokenizer
    )  # from what was saved


def test_rare_words_are_unknown():
    captions = ["a dog", "a dog", "a cat"]
    assert CaptionTokenizer.from_captions(captions, min_count=2).words == ("<unk>", "a", "dog")
    assert CaptionTokenizer.from_captions(captions, min_count=3)(["a cat"])[0].tolist() == [[1, 0]]


def test_a_caption_of_unknown_words_is_seen():
    tokenizer = CaptionTokenizer.from_captions(["a dog"])
    ids, visible = tokenizer(["zebra", "a dog"])
    assert ids.tolist() == [[0, 0], [1, 2]] and visible.tolist() == [[True, False], [True, True]]
    assert TextEncoder(len(tokenizer), dimensions=4)(ids, visible).isfinite().all()


def test_long_captions_are_cut():
    tokenizer = CaptionTokenizer.from_captions(["one two three four five"], max_length=3)
    ids, visible = tokenizer(["one two three four five", "five"])
    assert ids.tolist() == [[1, 2, 3], [5, 0, 0]] and visible.tolist() == [
        [True] * 3,
        [True, False, False],
    ]
    assert CaptionTokenizer(tokenizer.vocabulary)(["one " * 40])[0].shape == (1, 32)


def test_embeddings_do_not_depend_on_the_other_captions():
    tokenizer = CaptionTokenizer.from_captions(["a dog runs", "a cat sleeps on the mat"])
    encoder = TextEncoder(len(tokenizer), dimensions=8, max_length=tokenizer.max_length).eval()
    together = encoder(*tokenizer(["a dog", "a cat on the mat"]))
    torch.testing.assert_close(together[:1], encoder(*tokenizer(["a dog"])))
    assert (together[0] - together[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ([], r"captions must be a sequence of at least one string, got \[\]"),
        ("a dog", "captions must be a sequence of at least one string, got 'a dog'"),
        (b"a dog", "captions must be a sequence of at least one string, got b'a dog'"),
        (["a dog", ""], r"strings with at least one word, got '' as captions\[1\]"),
        (["a dog", "a cat", "\n"], r"strings with at least one word, got '\\n' as captions\[2\]"),
        ([["a dog"]], r"strings with at least one word, got \['a dog'\] as captions\[0\]"),
        ([None], r"strings with at least one word, got None as captions\[0\]"),
    ],
)
def test_captions_that_do_not_fit(captions, message):
    tokenizer = CaptionTokenizer.from_captions(["a dog"])
    for take in (CaptionTokenizer.from_captions, tokenizer):
        with pytest.raises(ValueError, match=message):
            take(captions)


def test_numbers_out_of_range():
    with pytest.raises(ValueError, match="max_length must be at least 1, got 0"):
        CaptionTokenizer.from_captions(["a dog"], max_length=0)
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        CaptionTokenizer.from_captions(["a dog"], min_count=0)


@pytest.mark.skipif(not MIRROR, reason="needs the real data: set JEPA_DATA_MIRROR")
def test_captions_of_the_real_photographs(monkeypatch):
    monkeypatch.setenv("JEPA_DATA_MIRROR", MIRROR)
    data = load_data("flickr8k", source="mirror", splits=["train", "test"]).data
    columns = [f"caption_{number}" for number in range(5)]
    train, test = (
        [text for name in columns for text in data[split][name]] for split in ("train", "test")
    )
    tokenizer = CaptionTokenizer.from_captions(train, min_count=5)
    ids, visible = tokenizer(test)
    assert 2000 < len(tokenizer) < 4000 and (ids[visible] == 0).float().mean() < 0.03  # few unknown
    assert (
        visible.sum(1).float().mean() > 10 and visible[:, -1].float().mean() < 0.01
    )  # few are cut
