"""Generated data that stands in for the real data when there is no network.

A sample is made from a seed, needs no file, and carries what real data lacks: the truth behind it.
"""

import random
import re

_CLASSES = {
    "character names": "aldric bettany corvane dellis edrin fenwick galia harrow isolde jarrah kelda lorcan "
    "mirabel nerys osmund perrin quilla rosmer sabine torvald",
    "personal pronouns": "i thou he she we you they me thee him us them",
    "possessives": "my thy his our your their",
    "modal verbs": "shall will should would can could may might must",
    "numbers": "two three four five six seven eight nine ten twelve twenty hundred",
    "kinship": "father mother brother sister son daughter uncle cousin",
    "titles of rank": "king queen prince duke earl lord lady captain",
    "question words": "what when where why how wherefore",
    "prepositions": "of with from by upon under among beyond against near",
    "interjections": "o alas fie hark lo nay",
    "adjectives": "old young gentle cruel bright heavy golden bitter faithful proud weary silent brave pale secret "
    "noble",
    "sea nouns": "ships waves sails harbours oars gulls storms anchors pilots tides islands rocks",
    "war nouns": "swords banners armies drums wounds soldiers castles horses arrows shields battles walls",
    "garden nouns": "roses orchards bees fountains thorns lilies hedges apples sparrows seeds willows paths",
    "feast nouns": "cups songs dancers fiddles candles jests tables loaves guests masks platters wines",
    "sea verbs": "sail drown steer row launch moor",
    "war verbs": "besiege strike conquer defend wound capture",
    "garden verbs": "plant gather water prune pluck tend",
    "feast verbs": "pour taste serve toast dance carve",
}
_SUBJECTS = "i thou he she we you they".split()
_OBJECTS = "me thee him us them".split()
_TOPICS = {"sea": "A harbour.", "war": "A field.", "garden": "An orchard.", "feast": "A hall."}

# A slot in braces is filled with a word of that class; "topic noun" with one of the scene's topic.
_SENTENCES = [
    "{subject} {modal verbs} {topic verb} {possessives} {adjectives} {topic noun} .",
    "{subject} {modal verbs} {topic verb} {numbers} {topic noun} {prepositions} the {topic noun} .",
    "{question words} {modal verbs} {subject} {topic verb} the {adjectives} {topic noun} ?",
    "the {adjectives} {topic noun} {prepositions} {possessives} {topic noun} {modal verbs} {topic verb} {object} .",
    "{interjections} , {possessives} {kinship} {modal verbs} {topic verb} {object} {prepositions} "
    "{numbers} {topic noun} !",
    "{interjections} , good {character names} , {question words} {modal verbs} {subject} {topic verb} {object} ?",
    "{possessives} {adjectives} {kinship} {character names} {modal verbs} {topic verb} {possessives} {topic noun} .",
    "the {titles of rank} {prepositions} the {topic noun} {modal verbs} {topic verb} {object} , {character names} .",
    "{subject} {modal verbs} {topic verb} {object} and {object} , {adjectives} {character names} .",
    "{numbers} {topic noun} and {numbers} {adjectives} {topic noun} {modal verbs} {topic verb} the {titles of rank} .",
]


def sample_shakespeare(seed: int = 0, *, num_speeches: int = 5000) -> tuple[str, dict[str, list[str]]]:
    """Generate a play in a small language whose word classes are known.

    Every sentence is drawn from a small grammar, so the words beside a word tell its class. Each scene
    has one of four topics, and its nouns and verbs are of that topic, so that nouns and verbs are
    informative of each other too. Within a class early words are more frequent, as in real text. Speeches
    stand under speaker headings laid out as in the Gutenberg edition (``ALDRIC.`` on a line of its own).

    Parameters
    ----------
    seed : int
        Seed of the generator; the same seed gives the same text.
    num_speeches : int
        Length of the play. 5000 speeches are about 110 thousand tokens, with each class word at least
        25 times.

    Returns
    -------
    text : str
        The play.
    classes : dict of str to list of str
        Class name to its words, sorted, lower case. No word is in two classes.

    Raises
    ------
    ValueError
        If ``num_speeches`` is not positive.
    """
    if num_speeches < 1:
        raise ValueError(f"num_speeches must be at least 1, got {num_speeches}")
    rng = random.Random(seed)
    classes = {name: words.split() for name, words in _CLASSES.items()}
    slots = classes | {"subject": _SUBJECTS, "object": _OBJECTS}
    weights = {name: [1 / (rank + 4) for rank in range(len(words))] for name, words in slots.items()}
    patterns = [re.findall(r"{[^}]+}|[^ ]+", sentence) for sentence in _SENTENCES]

    def sentence(topic: str) -> str:
        words = []
        for part in rng.choice(patterns):
            if part[0] == "{":
                name = part[1:-1].replace("topic noun", f"{topic} nouns").replace("topic verb", f"{topic} verbs")
                (word,) = rng.choices(slots[name], weights[name])
                words.append(word.title() if name == "character names" or word == "i" else word)
            else:
                words.append(part)
        line = re.sub(r" ([,.?!])", r"\1", " ".join(words))
        return line[0].upper() + line[1:]

    topics = list(_TOPICS)
    lines = ["THE TWENTY HOUSES", "", "A play in a made-up language", ""]
    for speech in range(num_speeches):
        if speech % 50 == 0:  # a new scene, of a new topic
            topic = rng.choice(topics)
            lines += [f"SCENE {speech // 50 + 1}. {_TOPICS[topic]}", ""]
        speaker = rng.choice(classes["character names"]).upper()
        # Titles and servants as in real plays, so that a parser of headings has to tell them from names.
        heading = rng.choices([speaker, f"KING {speaker}", "FIRST SERVANT"], [8, 1, 1])[0]
        lines += [f"{heading}.", *(sentence(topic) for _ in range(rng.randint(1, 3))), ""]
    return "\n".join(lines), {name: sorted(words) for name, words in classes.items()}
