"""Generated data that stands in for the real data when there is no network.

A sample is made from a seed, needs no file, and carries what real data lacks: the truth behind it.
"""

import io
import itertools
import random
import re

import numpy as np
from PIL import Image

from jepa_utils.arguments import whole
from jepa_utils.data.shapes import Proportions, cover

_CLASSES = {
    "character names": "aldric bettany corvane dellis edrin fenwick galia harrow isolde "
    "jarrah kelda lorcan "
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
    "adjectives": "old young gentle cruel bright heavy golden bitter faithful proud weary "
    "silent brave pale secret "
    "noble",
    "sea nouns": "ships waves sails harbours oars gulls storms anchors pilots tides islands rocks",
    "war nouns": "swords banners armies drums wounds soldiers castles horses arrows shields "
    "battles walls",
    "garden nouns": "roses orchards bees fountains thorns lilies hedges apples sparrows "
    "seeds willows paths",
    "feast nouns": "cups songs dancers fiddles candles jests tables loaves guests masks "
    "platters wines",
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
    "the {adjectives} {topic noun} {prepositions} {possessives} {topic noun} {modal verbs} "
    "{topic verb} {object} .",
    "{interjections} , {possessives} {kinship} {modal verbs} {topic verb} {object} {prepositions} "
    "{numbers} {topic noun} !",
    "{interjections} , good {character names} , {question words} {modal verbs} {subject} "
    "{topic verb} {object} ?",
    "{possessives} {adjectives} {kinship} {character names} {modal verbs} {topic verb} "
    "{possessives} {topic noun} .",
    "the {titles of rank} {prepositions} the {topic noun} {modal verbs} {topic verb} "
    "{object} , {character names} .",
    "{subject} {modal verbs} {topic verb} {object} and {object} , {adjectives} {character names} .",
    "{numbers} {topic noun} and {numbers} {adjectives} {topic noun} {modal verbs} {topic "
    "verb} the {titles of rank} .",
]


def sample_shakespeare(
    seed: int = 0, *, num_speeches: int = 5000
) -> tuple[str, dict[str, list[str]]]:
    """Generate a play in a small language whose word classes are known.

    Every sentence is drawn from a small grammar, so the words beside a word tell its class. Each
    scene has one of four topics, and its nouns and verbs are of that topic, so that nouns and verbs
    are informative of each other too. Within a class early words are more frequent, as in real
    text. Speeches stand under speaker headings laid out as in the Gutenberg edition (``ALDRIC.`` on
    a line of its own).

    Parameters
    ----------
    seed : int
        Seed of the generator; the same seed gives the same text.
    num_speeches : int
        Length of the play. 5000 speeches are about 110 thousand tokens, with each class word at
        least 25 times.

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
    seed, num_speeches = whole("seed", seed), whole("num_speeches", num_speeches)
    if num_speeches < 1:
        raise ValueError(f"num_speeches must be at least 1, got {num_speeches}")
    rng = random.Random(seed)
    classes = {name: words.split() for name, words in _CLASSES.items()}
    slots = classes | {"subject": _SUBJECTS, "object": _OBJECTS}
    weights = {
        name: [1 / (rank + 4) for rank in range(len(words))] for name, words in slots.items()
    }
    patterns = [re.findall(r"{[^}]+}|[^ ]+", sentence) for sentence in _SENTENCES]

    def sentence(topic: str) -> str:
        words = []
        for part in rng.choice(patterns):
            if part[0] == "{":
                name = (
                    part[1:-1]
                    .replace("topic noun", f"{topic} nouns")
                    .replace("topic verb", f"{topic} verbs")
                )
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
        # Titles and servants as in real plays, so that a parser of headings has to tell them from
        # names.
        heading = rng.choices([speaker, f"KING {speaker}", "FIRST SERVANT"], [8, 1, 1])[0]
        lines += [f"{heading}.", *(sentence(topic) for _ in range(rng.randint(1, 3))), ""]
    return "\n".join(lines), {name: sorted(words) for name, words in classes.items()}


# Of each topic the nouns, the verbs in the past, and the adjectives.
_ARTICLE_TOPICS = {
    "music": (
        "album song chorus guitar melody singer concert rhythm drummer lyric recording tour "
        "studio orchestra violin",
        "recorded performed released composed rehearsed produced",
        "acoustic melodic popular orchestral lyrical",
    ),
    "warships": (
        "battleship turret cruiser gun armour convoy torpedo admiral deck boiler squadron "
        "destroyer fleet magazine hull",
        "sank shelled escorted torpedoed repaired launched",
        "armoured naval obsolete forward twin",
    ),
    "birds": (
        "nest egg feather wing beak plumage species flock chick forest insect song claw "
        "wetland predator",
        "hatched fed incubated guarded hunted observed",
        "nocturnal migratory brown spotted juvenile",
    ),
    "railways": (
        "locomotive station track tunnel carriage platform signal timetable bridge engineer "
        "junction "
        "freight depot line viaduct",
        "electrified extended opened reopened surveyed operated",
        "steam elevated suburban northern narrow",
    ),
    "football": (
        "goal midfielder season league stadium coach penalty match club striker cup "
        "defender supporter transfer referee",
        "scored coached signed defeated substituted tackled",
        "unbeaten offensive regular professional injured",
    ),
    "volcanoes": (
        "eruption crater lava ash magma cone glacier summit vent basalt earthquake caldera "
        "slope gas geologist",
        "erupted buried mapped dated monitored sampled",
        "volcanic explosive dormant andesitic molten",
    ),
    "castles": (
        "tower keep moat gatehouse siege wall earl garrison chapel courtyard dungeon "
        "battlement baron hall rampart",
        "fortified besieged inherited demolished granted restored",
        "medieval ruined royal stone defensive",
    ),
    "storms": (
        "hurricane wind rainfall flood coast forecast depression evacuation surge landfall "
        "shelter warning cloud "
        "pressure island",
        "flooded weakened intensified struck evacuated damaged",
        "tropical severe subtropical convective coastal",
    ),
}
_SYLLABLES = (
    "bar cal den dor el fen gor hal ish jor kel lan mir nor os per quil ran sel tor ul var wen "
    "yor zan"
).split()

# "title", "person" and "place" are names of the article's own; "noun", "verb" and "adjective" are
# of its topic.
_ARTICLE_SENTENCES = [
    "In {year} , {person} {verb} the {adjective} {noun} of {place} .",
    "The {noun} of {title} was {verb} by {person} after the {adjective} {noun} .",
    "{title} is known for its {adjective} {noun} and for the {noun} near {place} .",
    "The {adjective} {noun} , which {person} had {verb} in {year} , was larger than the "
    "{noun} at {place} .",
    "{person} wrote that the {noun} and the {noun} of {title} were {adjective} .",
    "By {year} the {noun} at {place} had been {verb} , and {number} of the {noun} records "
    "were lost .",
    "Both the {noun} and the {adjective} {noun} were {verb} within {number} days .",
    "According to {person} , the {noun} {verb} the {noun} before {title} was {verb} .",
    "A {adjective} {noun} was later {verb} at {place} , where {person} kept the {noun} .",
]
_SECTIONS = ["Background", "History", "Description", "Later years", "Reception"]


def sample_articles(
    seed: int = 0, *, num_articles: tuple[int, int, int] = (40, 38, 38)
) -> tuple[dict[str, dict[str, list[str]]], dict[str, str]]:
    """Generate encyclopedia articles laid out as in WikiText, each on a topic that is known.

    The words of an article are of its topic, and its title, people, places and years are its own
    and return all through it, so that two halves of a passage have something in common that other
    articles have not. An article has five sections of two or three paragraphs, some 800 words.

    Parameters
    ----------
    seed : int
        Seed of the generator; the same seed gives the same articles.
    num_articles : tuple of int
        Number of articles in train, validation and test. By default each has some 30 thousand
        words.

    Returns
    -------
    splits : dict of str to dict
        For train, validation and test the column ``text``, one line a row: empty, a title
        (``" = Title = \\n"``), a section's heading (``" = = Section = = \\n"``) or a paragraph.
    topics : dict of str to str
        Title to topic, one of eight. No two articles share a title.

    Raises
    ------
    ValueError
        If a number of articles is not positive.
    """
    seed = whole("seed", seed)
    num_articles = tuple(whole("num_articles", number) for number in num_articles)
    if min(num_articles) < 1:
        raise ValueError(f"num_articles must be at least 1 for each split, got {num_articles}")
    rng = random.Random(seed)
    words = {topic: [part.split() for part in parts] for topic, parts in _ARTICLE_TOPICS.items()}
    patterns = [re.findall(r"{[^}]+}|[^ {]+", sentence) for sentence in _ARTICLE_SENTENCES]
    topics: dict[str, str] = {}

    def name() -> str:
        return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).title()

    def article() -> list[str]:
        title = f"{name()} {name()}"
        while title in topics:
            title = f"{name()} {name()}"
        topics[title] = rng.choice(list(words))
        nouns, verbs, adjectives = words[topics[title]]
        slots = {
            "{title}": [title],
            "{person}": [f"{name()} {name()}", name()],
            "{place}": [name(), name()],
            "{year}": [str(rng.randint(1800, 2010)) for _ in range(3)],
            "{number}": [str(rng.randint(2, 90)) for _ in range(3)],
            "{noun}": rng.sample(
                nouns, 10
            ),  # not all of them, so that articles on one topic differ
            "{verb}": verbs,
            "{adjective}": adjectives,
        }

        def paragraph() -> str:
            sentences = rng.choices(patterns, k=rng.randint(3, 5))
            return f" {' '.join(rng.choice(slots.get(part, [part])) for sentence in sentences for part in sentence)} \n"  # noqa: E501

        lines = ["", f" = {title} = \n"]
        for number, section in enumerate(_SECTIONS):
            if number:  # the first section is the introduction, which has no heading
                lines += ["", f" = = {section} = = \n"]
            lines += ["", *(paragraph() for _ in range(rng.randint(2, 3)))]
        return lines

    splits = {
        split: {"text": [line for _ in range(number) for line in article()]}
        for split, number in zip(("train", "validation", "test"), num_articles, strict=True)
    }
    return splits, topics


_CUES = {
    "neg": "dull tired flat clumsy shallow bland predictable tedious awkward lifeless "
    "pointless stale messy lazy "
    "forgettable annoying hollow muddled sloppy grating",
    "pos": "moving funny fresh clever warm gripping graceful rich tender sharp lively "
    "honest inventive charming "
    "delightful absorbing witty dazzling subtle powerful",
}
_REVIEW_WORDS = {
    "subject": "film movie comedy drama thriller story script sequel documentary romance",
    "part": "plot cast dialogue ending pace humor camera score direction acting",
    "adverb": "often rarely mostly quite rather always somewhat",
}
_REVIEW_SENTENCES = [
    "a {cue} , {cue} {subject} with a {cue} {part} .",
    "the {part} is {adverb} {cue} , the {part} {cue} and the {subject} {adverb} {cue} .",
    "{adverb} {cue} , this {cue} {subject} has a {part} that is {cue} .",
    "if the {part} seems {cue} , the {part} and the {part} make it a {cue} and {cue} {subject} .",
    "a {subject} as {cue} as its {part} , {adverb} {cue} and {adverb} {cue} .",
]


def sample_reviews(
    seed: int = 0, *, num_reviews: tuple[int, int, int] = (800, 100, 200)
) -> tuple[dict[str, dict[str, list]], dict[str, list[str]]]:
    """Generate short reviews whose words tell, with some noise, whether they praise.

    A review has three cue words. Each is of the review's own side with probability 0.75, else of
    the other, so the majority of the cues is right in 84 of 100 reviews. All other words tell
    nothing.

    Parameters
    ----------
    seed : int
        Seed of the generator; the same seed gives the same reviews.
    num_reviews : tuple of int
        Number of reviews in train, validation and test. Half of each split is positive.

    Returns
    -------
    splits : dict of str to dict
        For train, validation and test the columns ``text`` (lower case) and ``label`` (0 negative,
        1 positive).
    cues : dict of str to list of str
        The cue words of ``neg`` and ``pos``, sorted.

    Raises
    ------
    ValueError
        If a number of reviews is not positive.
    """
    seed = whole("seed", seed)
    num_reviews = tuple(whole("num_reviews", number) for number in num_reviews)
    if min(num_reviews) < 1:
        raise ValueError(f"num_reviews must be at least 1 for each split, got {num_reviews}")
    rng = random.Random(seed)
    cues = {side: words.split() for side, words in _CUES.items()}
    slots = {f"{{{name}}}": words.split() for name, words in _REVIEW_WORDS.items()}
    patterns = [re.findall(r"{[^}]+}|[^ {]+", sentence) for sentence in _REVIEW_SENTENCES]

    def review(label: int) -> str:
        words = []
        for part in rng.choice(patterns):
            choices = slots.get(part, [part])
            if part == "{cue}":
                choices = cues["pos" if label == (rng.random() < 0.75) else "neg"]
            words.append(rng.choice(choices))
        return " ".join(words)

    splits = {}
    for split, number in zip(("train", "validation", "test"), num_reviews, strict=True):
        labels = [row % 2 for row in range(number)]
        rng.shuffle(labels)
        splits[split] = {"text": [review(label) for label in labels], "label": labels}
    return splits, {side: sorted(words) for side, words in cues.items()}


IMAGE_LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_SHAPES = (
    "disc", "square", "triangle", "ring", "cross",
    "horizontal bars", "vertical bars", "diagonal stripes", "checker", "two discs",
)  # fmt: skip
_PROPORTIONS = Proportions(square=0.85, triangle=0.8, ring=0.75, band=0.25, bar=0.33)


def sample_images(
    seed: int = 0, *, train: int = 2000, test: int = 500
) -> tuple[dict[str, dict[str, list]], dict[str, dict[str, list]]]:
    """Generate small pictures of one shape each, laid out as CIFAR-10.

    The label is the shape: disc, square, triangle, ring, cross, horizontal bars, vertical bars,
    diagonal stripes (either way), checker, two discs, in the order of CIFAR-10's names. Place,
    size, colour and the smooth background are random and tell nothing of it; the shape's colour
    differs from the background's by at least 80 of 255 in each channel, before noise and shading.

    Parameters
    ----------
    seed : int
        Seed of the generator; the same seed gives the same pictures.
    train, test : int
        Number of pictures in each split. All labels are as frequent, to within one picture.

    Returns
    -------
    splits : dict of str to dict
        For train and test the columns ``img`` (a dict with the ``bytes`` of a PNG file of 32 x 32
        pixels, and ``path`` None) and ``label`` (0 to 9).
    truth : dict of str to dict
        For train and test, a row for each picture: ``shape`` (its name), ``centre`` (x, y) and
        ``size`` (half of the extent) in pixels from the upper left corner, ``colour`` and
        ``background`` (RGB, 0 to 255).

    Raises
    ------
    ValueError
        If a number of pictures is not positive.
    """
    seed, train, test = whole("seed", seed), whole("train", train), whole("test", test)
    if min(train, test) < 1:
        raise ValueError(f"train and test must be at least 1, got train={train}, test={test}")
    rng = np.random.default_rng(seed)
    splits, truth = {}, {}
    for split, number in (("train", train), ("test", test)):
        labels = rng.permutation(number) % 10
        size = rng.uniform(7, 12, number)
        centre = size[:, None] + rng.random((number, 2)) * (32 - 2 * size)[:, None]
        background = rng.integers(0, 256, (number, 3))
        colour = (
            background + rng.integers(80, 177, (number, 3))
        ) % 256  # as far away in each channel, up or down
        files = _picture_files(rng, labels, centre, size, colour, background)
        splits[split] = {"img": files, "label": labels.tolist()}
        truth[split] = {
            "shape": [_SHAPES[label] for label in labels],
            "centre": centre.tolist(),
            "size": size.tolist(),
            "colour": colour.tolist(),
            "background": background.tolist(),
        }
    return splits, truth


# What a picture can show, and two words for each, of which a caption takes one. The shapes are some
# of `_SHAPES`.
_PHOTO_WORDS = {
    "shape": {
        "disc": ("disc", "circle"),
        "square": ("square", "box"),
        "triangle": ("triangle", "wedge"),
        "ring": ("ring", "hoop"),
        "cross": ("cross", "plus"),
    },
    "colour": {
        "red": ("red", "scarlet"),
        "orange": ("orange", "amber"),
        "yellow": ("yellow", "golden"),
        "green": ("green", "emerald"),
        "turquoise": ("turquoise", "teal"),
        "blue": ("blue", "azure"),
        "purple": ("purple", "violet"),
        "pink": ("pink", "rosy"),
    },
    "place": {
        "upper left": ("upper left", "top left"),
        "upper right": ("upper right", "top right"),
        "middle": ("middle", "centre"),
        "lower left": ("lower left", "bottom left"),
        "lower right": ("lower right", "bottom right"),
    },
    "size": {"small": ("small", "little"), "large": ("large", "big")},
    "background": {
        "black": ("black", "dark"),
        "grey": ("grey", "dull"),
        "white": ("white", "bright"),
    },
}
_PHOTO_COLOURS = {
    "red": (215, 30, 30), "orange": (245, 140, 20), "yellow": (235, 220, 40), "green": (30, 150, 50),  # noqa: E501
    "turquoise": (40, 205, 190), "blue": (40, 70, 225), "purple": (125, 30, 170), "pink": (250, 130, 195),  # noqa: E501
    "black": (20, 20, 20), "grey": (125, 125, 125), "white": (240, 240, 240),
}  # fmt: skip
_PHOTO_PLACES = {
    "upper left": (0.0, 0.0), "upper right": (1.0, 0.0), "middle": (0.5, 0.5),
    "lower left": (0.0, 1.0), "lower right": (1.0, 1.0),
}  # fmt: skip
_PHOTO_SENTENCES = (
    "A {size} {colour} {shape} in the {place} of a {background} picture .",
    "The {place} of this {background} image shows a {size} {shape} painted {colour} .",
    "Everything is {background} but for one {size} {colour} {shape} at the {place} .",
    "Somebody drew a {shape} , {size} and {colour} , into the {place} of a {background} sheet",
    "On a {background} ground , {place} , there is one {colour} {shape} , a {size} one .",
)


def sample_photos(
    seed: int = 0, *, numbers: tuple[int, int, int] = (600, 100, 200)
) -> tuple[dict[str, dict[str, list]], dict[str, dict[str, list[str]]]]:
    """Generate small pictures of one shape each with five captions, laid out as Flickr8k.

    What a picture shows is drawn from 5 shapes, 8 colours, 5 places, 2 sizes and 3 backgrounds; no
    picture shows what another one does before all 1,200 have been shown, so the splits have none in
    common by default. Each of the five captions names all of it, in a sentence and an order of its
    own and with one of two words for each thing ("a small red disc", "a little scarlet circle").
    Place and size vary a little about what they are called; shading and noise tell nothing.

    Parameters
    ----------
    seed : int
        Seed of the generator; the same seed gives the same pictures and captions.
    numbers : tuple of int
        Number of pictures in train, validation and test.

    Returns
    -------
    splits : dict of str to dict
        For train, validation and test the columns ``image`` (a dict with the ``bytes`` of a PNG
        file of 32 x 32 pixels, and ``path`` None) and ``caption_0`` to ``caption_4``; which
        sentence stands in which column is random.
    truth : dict of str to dict
        For train, validation and test, a name for each picture of its ``shape``, ``colour``,
        ``place``, ``size`` and ``background``.

    Raises
    ------
    ValueError
        If a number of pictures is not positive.
    """
    seed = whole("seed", seed)
    numbers = tuple(whole("numbers", number) for number in numbers)
    if min(numbers) < 1:
        raise ValueError(f"numbers must be at least 1 for each split, got {numbers}")
    rng = np.random.default_rng(seed)
    combinations = list(itertools.product(*_PHOTO_WORDS.values()))
    order = itertools.cycle(rng.permutation(len(combinations)).tolist())
    splits, truth = {}, {}
    for split, number in zip(("train", "validation", "test"), numbers, strict=True):
        shown = [combinations[next(order)] for _ in range(number)]
        known = {
            thing: list(names)
            for thing, names in zip(_PHOTO_WORDS, zip(*shown, strict=True), strict=True)
        }
        small = np.array([name == "small" for name in known["size"]])
        size = np.where(small, 4.5, 7.0) + rng.random(number)
        corner = np.array([_PHOTO_PLACES[name] for name in known["place"]])
        centre = size[:, None] + corner * (30 - 2 * size)[:, None] + 2 * rng.random((number, 2))
        colour, background = (
            np.array([_PHOTO_COLOURS[name] for name in known[thing]])
            for thing in ("colour", "background")
        )
        labels = np.array([_SHAPES.index(name) for name in known["shape"]])
        columns = {"image": _picture_files(rng, labels, centre, size, colour, background)}
        captions = [
            _photo_captions(rng, dict(zip(_PHOTO_WORDS, names, strict=True))) for names in shown
        ]
        columns |= {
            f"caption_{k}": list(column) for k, column in enumerate(zip(*captions, strict=True))
        }
        splits[split], truth[split] = columns, known
    return splits, truth


def _photo_captions(rng: np.random.Generator, shown: dict[str, str]) -> list[str]:
    """The five sentences about one picture, in random order."""
    captions = []
    for sentence in rng.permutation(len(_PHOTO_SENTENCES)).tolist():
        words = {thing: _PHOTO_WORDS[thing][name][rng.integers(2)] for thing, name in shown.items()}
        captions.append(_PHOTO_SENTENCES[sentence].format(**words))
    return captions


# Only sums, products, remainders and square roots of doubles below: they round the same on every
# machine.


def _picture_files(
    rng: np.random.Generator,
    labels: np.ndarray,
    centre: np.ndarray,
    size: np.ndarray,
    colour: np.ndarray,
    background: np.ndarray,
) -> list[dict]:
    """Pictures of one shape each on a shaded background with noise, as image files."""
    covers = _covers(rng, labels, centre, size)[..., None]
    pixels = _smooth(rng, len(labels)) + background[:, None, None]
    pixels = pixels + covers * (colour[:, None, None] - pixels)
    pixels += rng.integers(-20, 21, pixels.shape)
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return [{"bytes": _png(image), "path": None} for image in pixels]


def _smooth(rng: np.random.Generator, number: int) -> np.ndarray:
    """Shading (number, 32, 32, 3), by at most 40: 4 x 4 random values, lines between."""
    points = rng.uniform(-40, 40, (number, 4, 4, 3))
    place = np.arange(32) * (3 / 31)
    low = np.minimum(place.astype(int), 2)
    part = (place - low)[:, None]
    rows = points[:, low] * (1 - part[..., None]) + points[:, low + 1] * part[..., None]
    return rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part


def _covers(
    rng: np.random.Generator, labels: np.ndarray, centre: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """How much of each pixel (number, 32, 32) the shape covers."""
    covers = np.empty((len(labels), 32, 32))
    ways = rng.integers(0, 4, len(labels))  # of stripes and pairs
    for label, shape in enumerate(_SHAPES):
        rows = np.flatnonzero(labels == label)
        x = np.arange(32) + 0.5 - centre[rows, 0, None, None]
        y = np.arange(32)[:, None] + 0.5 - centre[rows, 1, None, None]
        extent, way = size[rows, None, None], ways[rows, None, None]
        covers[rows] = cover(shape, x, y, extent, _PROPORTIONS, way)
    return covers


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(
        file, "PNG", compress_level=0
    )  # compressed bytes differ between versions of zlib
    return file.getvalue()
