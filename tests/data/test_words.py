"""Tokens, vocabulary, pairs, word classes, and the generated play."""

import itertools
import os
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from jepa_utils.data.load import load_data
from jepa_utils.data.samples import sample_shakespeare
from jepa_utils.data.words import (
    _CLOSED_CLASSES,
    UNKNOWN,
    Vocabulary,
    adjacent_pairs,
    context_windows,
    speaker_names,
    tokenize,
    word_classes,
)

MIRROR = Path(os.environ.get("JEPA_DATA_MIRROR", "")) / "shakespeare" / "complete_works.txt"
needs_mirror = pytest.mark.skipif(
    not (os.environ.get("JEPA_DATA_MIRROR") and MIRROR.is_file()),
    reason="needs the real text: set JEPA_DATA_MIRROR to a folder with shakespeare/complete_works.txt",
)


@pytest.fixture(scope="module")
def sample():
    return sample_shakespeare()


@pytest.fixture(scope="module")
def mirror_text():
    return load_data("shakespeare", source="mirror").data


# Tokeniser, vocabulary


def test_tokenize():
    assert tokenize("\ufeffO, ne’er!  To-morrow\r\n_Exit_ Cæsar 2") == [
        "\ufeff", "o", ",", "ne", "’", "er", "!", "to", "-", "morrow", "_exit_", "cæsar", "2",
    ]  # fmt: skip
    assert tokenize(" \n") == []


def test_vocabulary_order_and_ties():
    vocabulary = Vocabulary.build("b a c a b d a".split(), min_count=1)
    assert vocabulary.words == (UNKNOWN, "a", "b", "c", "d")
    assert vocabulary.counts == (0, 3, 2, 1, 1)


def test_vocabulary_threshold_is_inclusive():
    vocabulary = Vocabulary.build(["x"] * 25 + ["y"] * 24)
    assert vocabulary.words == (UNKNOWN, "x")
    assert vocabulary.counts == (24, 25)
    assert len(vocabulary) == 2
    assert "x" in vocabulary
    assert "y" not in vocabulary


def test_encode_and_decode():
    vocabulary = Vocabulary.build("to be , or not to be".split(), min_count=1)
    assert vocabulary.encode("to be , or not to be whale".split()) == [1, 2, 3, 4, 5, 1, 2, 0]
    assert vocabulary.decode(torch.tensor([1, 2, 0])) == ["to", "be", UNKNOWN]
    for wrong in (-1, 6):
        with pytest.raises(IndexError, match=rf"ids must lie in \[0, 6\), got {wrong}"):
            vocabulary.decode([wrong])


def test_vocabulary_refuses_bad_input():
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        Vocabulary.build(["a"], min_count=0)
    with pytest.raises(ValueError, match="tokens is empty"):
        Vocabulary.build([])


def test_unknown_words_of_a_text_are_those_of_the_vocabulary():
    """As WikiText has them: counted with the rare ones, and not a word beside."""
    vocabulary = Vocabulary.build("the <unk> sat <unk> the".split(), min_count=2)
    assert vocabulary.words == (UNKNOWN, "the") and vocabulary.counts == (3, 2)
    vocabulary = Vocabulary.build("the <unk> sat".split(), 1)
    assert vocabulary.words == (UNKNOWN, "the", "sat") and vocabulary.counts == (1, 1, 1)
    assert vocabulary.encode(vocabulary.words) == [0, 1, 2]
    only = Vocabulary.build([UNKNOWN] * 3, 1)
    assert (only.words, only.counts) == ((UNKNOWN,), (3,))


@pytest.mark.parametrize(
    ("words", "counts", "message"),
    [
        ((UNKNOWN, "a", UNKNOWN), (0, 1, 2), "words must differ, got more than once: <unk>"),
        ((UNKNOWN, "a", "b", "a"), (0, 3, 2, 1), "words must differ, got more than once: a"),
        (("a", "b"), (1, 1), "words must begin with '<unk>'"),
        ((), (), "words must begin with '<unk>'"),
        ((UNKNOWN, "a"), (1,), "with a count each, .* 1 counts of 2 words"),
    ],
)
def test_ids_and_words_stand_one_to_one(words, counts, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words, counts)


@pytest.mark.parametrize("text", ["the king", b"the king", bytearray(b"the king")])
def test_one_text_is_not_taken_for_its_letters(text):
    vocabulary = Vocabulary.build(["the", "king"], 1)
    for take in (Vocabulary.build, vocabulary.encode):
        with pytest.raises(TypeError, match="tokens must be several strings.*got one: .*the king"):
            take(text)
    with pytest.raises(TypeError, match="words must be several strings"):
        Vocabulary(text, (1,) * 8)
    with pytest.raises(TypeError, match="ids must be whole numbers, got '12'"):
        vocabulary.decode("12")


@pytest.mark.parametrize("tokens", [["a", b"a"], ["a", 1], [None], [("a", "b")]])
def test_tokens_are_strings(tokens):
    with pytest.raises(TypeError, match=r"tokens must be strings, got [bN1(]"):
        Vocabulary.build(tokens, 1)


# Pairs


def test_adjacent_pairs():
    context, target = adjacent_pairs([1, 2, 3, 4, 5, 1, 2])  # the example of the source document
    assert context.tolist() == [1, 2, 3, 4, 5, 1]
    assert target.tolist() == [2, 3, 4, 5, 1, 2]
    assert context.dtype == target.dtype == torch.int64


def test_context_windows():
    context, target = context_windows([7, 8, 9, 5, 6], 3)
    assert context.tolist() == [[7, 8, 9], [8, 9, 5]]
    assert target.tolist() == [5, 6]
    assert context.dtype == target.dtype == torch.int64


def test_pairs_refuse_bad_input():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        context_windows([1, 2], 0)
    with pytest.raises(ValueError, match="ids must hold more than 2 tokens, got 2"):
        context_windows([1, 2], 2)
    with pytest.raises(ValueError, match="ids must hold more than 1 tokens, got 1"):
        adjacent_pairs([1])


# Speaker headings

TABBED = """\
\tROMEO AND JULIET

ACT I

SCENE I\tVerona. A public place.

ROMEO\tBut, soft! dear Tybalt and Mercutio, look at
\tthe bottom of the moth.

ANTIPHOLUS
OF SYRACUSE\tWhere is Romeo? my bottom fell.

KING HENRY IV\tSo shaken, my liege, the moth flies.
BISHOP OF ELY\tAy, dear Bottom, ay.
LORD POLONIUS\tMy lord.
FIRST SERVANT\tA servant.
MOTH\tHere.
BOTTOM\tHere.
Nurse\tMadam!
ROMEO\tAy me!

I.

FROM fairest creatures we desire increase,
"""

OWN_LINES = """\
THE TRAGEDY OF ROMEO AND JULIET

Contents

ACT I

SCENE I. A public place.

Enter Romeo.

ROMEO.
But soft, what light, good Tybalt and Mercutio, looks on
the bottom of the moth?

ANTIPHOLUS OF SYRACUSE.
Where is the moth?

KING HENRY.
So shaken, my King, are we.

BISHOP OF ELY.
Ay, dear Bottom, my bottom, the moth.

LORD POLONIUS.
My lord.

FIRST SERVANT.
A servant.

MOTH.
Here.

BOTTOM.
Here.

NURSE.
The Nurse, the Nurse.

ROMEO.
Ay me!

XVIII.

THE END.
"""


@pytest.mark.parametrize(
    "text", [TABBED, OWN_LINES, OWN_LINES.replace("\n", "\r\n")], ids=["tab", "lines", "crlf"]
)
def test_speaker_names_in_both_layouts(text):
    assert speaker_names(text) == Counter(romeo=2, antipholus=1, henry=1, polonius=1)


def test_speaker_names_of_the_sample(sample):
    text, classes = sample
    assert sorted(speaker_names(text)) == classes["character names"]


def test_closed_classes_do_not_overlap():
    words = " ".join(_CLOSED_CLASSES.values()).split()
    assert len(words) > 200
    assert len(words) == len(set(words))


def test_word_classes_keep_the_vocabulary_and_drop_small_classes():
    tokens = "two three four five i thou thee ye he thou shall will should would king lord duke whale".split()
    assert word_classes("no play", Vocabulary.build(tokens, min_count=1)) == {
        "personal pronouns": ["thou", "i", "thee", "ye", "he"],
        "modal verbs": ["shall", "will", "should", "would"],
        "numbers": ["two", "three", "four", "five"],
    }


def test_words_that_mostly_stand_behind_an_apostrophe_are_a_class():
    text = "i'll he\u2019ll o'er th'other d'ye other ye ye 'tis 'twas twas"
    found = word_classes(text, Vocabulary.build(tokenize(text), min_count=1))
    # "other" and "twas" stand behind one in half of their occurrences only, "ye" in fewer
    assert "after an apostrophe" not in found  # ll, er, tis are too few
    found = word_classes(
        text + " we'ld", vocabulary := Vocabulary.build(tokenize(text + " we'ld"), 1)
    )
    assert sorted(found["after an apostrophe"]) == ["er", "ld", "ll", "tis"] and vocabulary


def test_word_classes_agree_with_the_truth_of_the_sample(sample):
    text, truth = sample
    found = word_classes(text, Vocabulary.build(tokenize(text)))
    assert len(found) == 11  # all but the nouns and verbs, which no closed list holds
    for name, words in found.items():
        if name == "adjectives":  # the list is that of the real plays
            assert set(words) <= set(truth[name])
        else:
            assert sorted(words) == truth[name], name


# The generated play


def test_sample_is_seeded(sample):
    random.seed(3)
    assert sample_shakespeare(0) == sample
    assert sample_shakespeare(1)[0] != sample[0]
    assert len(sample_shakespeare(num_speeches=10)[0]) < 2000
    with pytest.raises(ValueError, match="num_speeches must be at least 1, got 0"):
        sample_shakespeare(num_speeches=0)


def test_sample_classes(sample):
    text, classes = sample
    tokens = tokenize(text)
    counts = Counter(tokens)
    words = [word for words in classes.values() for word in words]
    assert 60_000 <= len(tokens) <= 150_000
    assert len(words) == len(set(words))
    assert min(counts[word] for word in words) >= 25
    assert all(list(words) == sorted(words) for words in classes.values())


def test_neighbours_tell_the_class_in_the_sample(sample):
    """After a modal verb stands a verb, after a number a noun: several times as often as anywhere."""
    text, classes = sample
    tokens = tokenize(text)
    verbs, nouns = (
        {word for topic in ("sea", "war", "garden", "feast") for word in classes[f"{topic} {kind}"]}
        for kind in ("verbs", "nouns")
    )

    def share_after(name: str, kind: set[str]) -> float:
        after = [word for before, word in itertools.pairwise(tokens) if before in classes[name]]
        return sum(word in kind for word in after) / len(after)

    for name, kind in (("modal verbs", verbs), ("numbers", nouns)):
        anywhere = sum(word in kind for word in tokens) / len(tokens)
        assert share_after(name, kind) > 2.5 * anywhere, name


# The real text


@needs_mirror
def test_counts_of_the_mirror_text(mirror_text):
    tokens = tokenize(mirror_text)
    vocabulary = Vocabulary.build(tokens)
    assert len(tokens) == 1_196_393
    assert len(vocabulary) - 1 == 3_167
    assert sum(vocabulary.counts) == len(tokens)
    assert vocabulary.counts[1:] == tuple(sorted(vocabulary.counts[1:], reverse=True))
    assert vocabulary.counts[-1] == 25
    context, _ = adjacent_pairs(vocabulary.encode(tokens))
    assert len(context) == 1_196_392


@needs_mirror
def test_names_of_the_mirror_text(mirror_text):
    names = speaker_names(mirror_text)
    assert names["romeo"] == 164
    assert names["antipholus"] == 181  # headings over two lines
    assert names["polonius"] == 87  # compound headings
    strangers = "king lord duke first second act scene all nurse servant messenger ghost clown i ii iv syracuse france "
    strangers += "venice of and the bottom moth mark sonnet"
    assert not set(strangers.split()) & set(names)
    classes = word_classes(mirror_text, Vocabulary.build(tokenize(mirror_text)))
    assert len(classes["character names"]) == 361
    assert {"romeo", "malcolm", "hamlet", "wolsey", "lucius", "viola"} <= set(
        classes["character names"]
    )
    assert len(classes) == 15
    assert {"s", "ll", "tis"} <= set(classes["after an apostrophe"])
    assert {"young", "old", "honourable"} <= set(classes["adjectives"])
    words = [word for words in classes.values() for word in words]
    assert len(words) == len(set(words))
