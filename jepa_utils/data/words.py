"""From a text to tokens, vocabulary, training pairs, and word classes to measure embeddings by.

The tokeniser, the vocabulary and the pairs are those of S. Czinner, "A Small JEPA Word Embedding
Model" (2026)."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch

from jepa_utils.arguments import whole
from jepa_utils.data._texts import check_many

UNKNOWN = "<unk>"


def tokenize(text: str) -> list[str]:
    """Lower the text and split it into words and single punctuation marks.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str
        ``"O, thou!"`` gives ``["o", ",", "thou", "!"]``. White space is dropped.

    References
    ----------
    Czinner (2026), "Preparing The Data": the regular expression is the document's own.
    """
    return re.findall(r"\w+|[^\w\s]", text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The frequent words of a corpus, each with its id; every other word is ``<unk>``, id 0.

    Parameters
    ----------
    words : tuple of str, length V
        The word of each id; ``<unk>`` first, then by falling count.
    counts : tuple of int, length V
        How often each occurs in the corpus; for ``<unk>`` the number of tokens it stands for.

    Raises
    ------
    ValueError
        If a word has two ids, ``<unk>`` is not the first, or there are not as many counts as words.

    References
    ----------
    Czinner (2026), "Preparing The Data". The document's text says "below 5", its code keeps
    counts of 25 and more."""

    words: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self):
        check_many("words", self.words)
        if twice := [word for word, count in Counter(self.words).items() if count > 1]:
            raise ValueError(f"words must differ, got more than once: {', '.join(twice)}")
        if tuple(self.words[:1]) != (UNKNOWN,) or len(self.counts) != len(self.words):
            raise ValueError(
                f"words must begin with {UNKNOWN!r}, with a count each, got {self.words[:1]} and "
                f"{len(self.counts)} counts of {len(self.words)} words"
            )

    @classmethod
    def build(cls, tokens: Iterable[str], min_count: int = 25) -> "Vocabulary":
        """Collect the words that occur at least ``min_count`` times; of ties the first seen.

        A token ``<unk>``, as in texts that mark rare words themselves, counts as unknown.

        Raises
        ------
        ValueError
            If ``min_count`` is below 1 or there are no tokens.
        TypeError
            If ``tokens`` is a single string, or one of them is none.
        """
        check_many("tokens", tokens)
        min_count = whole("min_count", min_count)
        if min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {min_count}")
        all_counts = Counter(tokens)
        if not all_counts:
            raise ValueError("tokens is empty: a vocabulary needs at least one token")
        for token in all_counts:
            if not isinstance(token, str):
                raise TypeError(f"tokens must be strings, got {token!r}")
        # most_common sorts stably, so equal counts keep the order of first appearance.
        kept = [
            (word, count)
            for word, count in all_counts.most_common()
            if count >= min_count and word != UNKNOWN
        ]
        unknown = all_counts.total() - sum(count for _, count in kept)
        return cls((UNKNOWN, *(word for word, _ in kept)), (unknown, *(count for _, count in kept)))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each token, 0 for those outside the vocabulary.

        Raises
        ------
        TypeError
            If ``tokens`` is a single string.
        """
        check_many("tokens", tokens)
        return [self._ids.get(token, 0) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the word of each id.

        Raises
        ------
        IndexError
            If an id is negative or not below the size of the vocabulary.
        TypeError
            If ``ids`` is a string.
        """
        if isinstance(ids, (str, bytes, bytearray)):
            raise TypeError(f"ids must be whole numbers, got {ids[:40]!r}")
        ids = [int(index) for index in ids]
        for index in ids:
            if not 0 <= index < len(self):
                raise IndexError(f"ids must lie in [0, {len(self)}), got {index}")
        return [self.words[index] for index in ids]

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids


def adjacent_pairs(ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair each token with the next one.

    Parameters
    ----------
    ids : sequence of int, length T

    Returns
    -------
    context, target : LongTensor (P,), LongTensor (P,)
        ``P = T - 1``; ``target[p]`` follows ``context[p]`` in the text.

    Raises
    ------
    ValueError
        If there are fewer than 2 ids.

    References
    ----------
    Czinner (2026), "Overview".
    """
    context, target = context_windows(ids, 1)
    return context[:, 0], target


def context_windows(ids: Sequence[int], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair each token with the ``size`` tokens before it.

    Parameters
    ----------
    ids : sequence of int, length T
    size : int
        Number of context tokens.

    Returns
    -------
    context, target : LongTensor (P, size), LongTensor (P,)
        ``P = T - size``; contexts in reading order.

    Raises
    ------
    ValueError
        If ``size`` is below 1 or there are not more than ``size`` ids.
    """
    size = whole("size", size)
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if len(ids) <= size:
        raise ValueError(f"ids must hold more than {size} tokens, got {len(ids)}")
    windows = torch.as_tensor(ids, dtype=torch.long).unfold(0, size + 1, 1)  # (P, size + 1)
    return windows[:, :size], windows[:, size]


# Words of speaker headings that are no names though running text capitalises them in one edition or
# another.
_NO_NAMES = frozenset(
    """
    king queen prince princess duke duchess dauphin earl count countess lord lords lady ladies knight knights sir
    master mistress madam don dame cardinal archbishop bishop abbot abbess friar father brother captain general
    lieutenant marshal constable governor justice chief mayor tribune consul emperor empress doctor bastard
    act scene prologue epilogue chorus induction dramatis personae finis exit exeunt enter sonnet the end song all
    both many other others another one first second third fourth fifth sixth seventh old young within voice
    servant servants messenger nurse ghost ghosts apparition spirit spirits witch witches clown fool boy boys page
    pages gentleman gentlemen gentlewoman soldier soldiers officer officers guard guards citizen citizens people
    senator senators attendant attendants porter gaoler murderer murderers player players musician musicians poet
    painter jeweller merchant sailor sailors boatswain shepherd herald host hostess watch watchman keeper
    gardener tailor executioner widow wife husband mother son daughter man men woman women child
    french english roman romans england france austria
    """.split()  # noqa: E501
)
_ROMAN_NUMERAL = re.compile(r"[ivxlcdm]+")


def _is_capitals(line: str) -> bool:
    return line.isupper() and line[0].isalpha()


def _headings_and_speech(text: str) -> tuple[list[str], list[str]]:
    """Separate speaker headings from the lines of running text.

    Two layouts are known: ``ROMEO<tab>But, soft!``, where a long heading may begin on the lines
    before, and ``ROMEO.`` on a line of its own with the speech below it."""
    headings, speech = [], []
    pending = ""  # capitals on lines of their own: the start of a heading if a tab follows
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        start, tab, rest = line.partition("\t")
        if tab and _is_capitals(start):
            headings.append(f"{pending} {start}")
            speech.append(rest)
        elif _is_capitals(line) and line.rstrip().endswith(".") and below.strip():
            headings.append(line)
        elif _is_capitals(line):
            pending = f"{pending} {line}"
            continue
        else:
            speech.append(line)
        pending = ""
    return headings, speech


def speaker_names(text: str) -> Counter[str]:
    """Find the names of the characters in the speaker headings of plays.

    A word of a heading counts as a name unless it is a title, a role or a stage word, a Roman
    numeral, or follows "of" (``BISHOP OF ELY``), or running text writes it in lower case more than
    once in seven times, which leaves out names that are also common nouns, such as Bottom or Moth.
    Who speaks under the name of a place, such as York or Kent, is a character.

    Parameters
    ----------
    text : str
        Plays, with headings as ``ROMEO<tab>But, soft!`` or as ``ROMEO.`` on a line of its own.

    Returns
    -------
    Counter
        Lower-case name to the number of headings it stands in.
    """
    headings, speech = _headings_and_speech(text)
    names = Counter()
    for heading in headings:
        words = re.sub(r"\bof\b.*", "", heading.lower())
        names.update(re.findall(r"[^\W\d_]+", words))
    body = " ".join(speech)
    lower = Counter(re.findall(r"\b[^\W\d_A-Z][^\W\d_]*", body))
    # Verse and sentences begin with a capital, so a capital tells something only after a word or a
    # comma.
    capitalised = Counter(
        word.lower() for word in re.findall(r"(?<=[a-z,;] )[^\W\d_a-z][^\W\d_A-Z]+", body)
    )
    return Counter(
        {
            name: count
            for name, count in names.items()
            if len(name) > 1
            and name not in _NO_NAMES
            and not _ROMAN_NUMERAL.fullmatch(name)
            and lower[name] <= 0.15 * (lower[name] + capitalised[name])
        }
    )


# Closed lists of words that are nearly always of their class in these plays. Left out because they
# are often something else: "her" (object and possessive), "one", "to", "for", "arm" and "arms",
# "back", "art", "need".
_CLOSED_CLASSES = {
    "personal pronouns": "i me thou thee ye you he him she it we us they them",
    "possessives": "my mine thy thine his its our ours your yours their theirs",
    "reflexive pronouns": "myself thyself himself herself itself ourselves yourself "
    "yourselves themselves",
    "modal verbs": "shall shalt will wilt should shouldst would wouldst can canst cannot "
    "could couldst may mayst might "
    "mightst must",
    "auxiliary verbs": "am is are was were wert be been hath has have had hast hadst doth "
    "does did dost didst",
    "numbers": "two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen eighteen "
    "twenty thirty forty fifty sixty eighty hundred thousand",
    "kinship": "father mother brother sister son daughter uncle aunt cousin nephew niece "
    "husband wife grandsire "
    "grandfather grandam kinsman",
    "titles of rank": "king queen prince princess duke duchess earl lord lady sir countess "
    "baron knight cardinal "
    "bishop archbishop emperor empress captain",
    "body parts": "head heart hand hands eye eyes ear ears face tongue tongues lip lips "
    "nose foot feet leg legs knee "
    "knees neck breast bosom cheek cheeks hair brow brows finger fingers shoulder shoulders "
    "throat belly teeth beard",
    "prepositions": "of in with from by at on upon unto into without within against among "
    "amongst between betwixt "
    "under through toward towards beyond beneath above behind beside near",
    "question words": "who whom whose what which when where why how whither whence wherefore",
    "interjections": "o oh alas alack ay nay ho fie ah tut hark lo",
}

BEHIND = "after an apostrophe"

# Likewise. Left out: "fair", "dear", "kind", "mean", "right", "well", "sound", "light", "like".
_ADJECTIVES = (
    "young old honourable honest noble gentle sweet happy brave proud cruel wicked foul rich poor "
    "weak strong pale sad merry mad bold fierce gracious worthy virtuous valiant holy bloody cold "
    "hot wet dry dark bright black white green golden precious tender rude vile strange foolish "
    "wise weary sick guilty innocent dangerous deep great small little big mighty civil delicate "
    "troubled rare grievous shrewd lawful"
)


def _behind_apostrophes(text: str) -> set[str]:
    """Words that stand behind an apostrophe in most of their occurrences."""
    tokens = tokenize(text)
    behind = Counter(word for mark, word in pairwise(tokens) if mark in "'’")
    counts = Counter(tokens)
    return {word for word, count in behind.items() if count > counts[word] / 2}


def word_classes(text: str, vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Sort words of a vocabulary into classes, to measure embeddings by.

    Parameters
    ----------
    text : str
        The text of the vocabulary; its speaker headings give the class "character names", and words
        that mostly stand behind an apostrophe, as in *o'er* and *he'll*, are one, too.
    vocabulary : Vocabulary

    Returns
    -------
    dict of str to list of str
        Class name to its words, by falling count. Only words of the vocabulary, each in at most one
        class; a class with fewer than 4 words is left out.
    """
    classes = {name: words.split() for name, words in _CLOSED_CLASSES.items()}
    taken = {word for words in classes.values() for word in words}
    classes = {"character names": speaker_names(text).keys() - taken, **classes}
    taken |= classes["character names"]
    classes[BEHIND] = _behind_apostrophes(text) - taken
    classes["adjectives"] = set(_ADJECTIVES.split()) - taken - classes[BEHIND]
    position = {word: index for index, word in enumerate(vocabulary.words)}
    found = {
        name: sorted(position.keys() & set(words), key=position.get)
        for name, words in classes.items()
    }
    return {name: words for name, words in found.items() if len(words) >= 4}
