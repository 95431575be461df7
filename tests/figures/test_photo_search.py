"""The search box for photographs: its tables are the encoder's, and the page finds what the encoder finds."""

import base64
import io
import re
import unicodedata
from functools import cache

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from browser import STICKS_OUT, open_browser
from PIL import Image
from torch.nn import functional as F

import jepa_utils as ju
from jepa_utils.data.words import tokenize
from jepa_utils.figures.photo_search import (
    photo_search_data,
    photo_search_still,
    search_photographs,
)
from jepa_utils.figures.play import play_html

NUMBER, DIMENSIONS, LONGEST, FIRST = 90, 32, 14, 12
WORDS = dict(caption="Photographs to be searched.", alt="Whatever its picture may show.")
LIMIT = 3_000_000  # bytes of a page's search box


@cache
def world(positions=True, weights=False):
    """Photographs, and an encoder that finds some of them by their captions."""
    splits, _ = ju.sample_photos(0, numbers=(1, 1, NUMBER))
    table = splits["test"]
    photos = torch.stack(
        [
            torch.from_numpy(np.array(Image.open(io.BytesIO(cell["bytes"])))).permute(2, 0, 1)
            for cell in table["image"]
        ]
    )
    captions = [list(row) for row in zip(*(table[f"caption_{i}"] for i in range(5)))]
    captions[3][1] = "$2 \t jeux d'été , <b>très</b> chers !"  # rare words, signs, white space
    captions[5][0] = captions[4][0]  # two photographs with one caption
    tokenizer = ju.CaptionTokenizer.from_captions(
        [c for row in captions for c in row], min_count=3, max_length=LONGEST
    )
    torch.manual_seed(0)
    encoder = ju.TextEncoder(
        len(tokenizer),
        dimensions=DIMENSIONS,
        layers=0,
        max_length=20,
        positions=positions,
        weights=torch.rand(len(tokenizer)) + 0.2 if weights else None,
    )
    with torch.no_grad():
        encoder.norm.weight.uniform_(0.3, 2)
        encoder.norm.bias.normal_(0, 0.3)
        told = encoder.eval()(*tokenizer([row[0] for row in captions]))
        pictures = F.normalize(told, dim=1) + 0.14 * torch.randn(NUMBER, DIMENSIONS)
    encoder.train()  # whoever calls may leave dropout on
    return dict(
        photographs=photos,
        captions=captions,
        pictures=pictures,
        tokenizer=tokenizer,
        encoder=encoder,
        examples=[(0, 0), (7, 2), "a small red disc"],
    )


@cache
def made(**kind):
    return photo_search_data(**world(**kind), side=32)


@torch.no_grad()
def true_cosines(query, **kind):
    """As the encoder has it, nothing rounded."""
    found = world(**kind)
    sentence = found["encoder"].eval()(*found["tokenizer"]([query]))
    return F.cosine_similarity(sentence, found["pictures"]).numpy()


def queries():
    captions = [row[i % 5] for i, row in enumerate(world()["captions"])][::3]
    return [*captions, "disc", "a qwerty disc , red !", "RED\tCircle...", " the " * 30 + "disc"]


KINDS = [{}, dict(positions=False), dict(weights=True), dict(positions=False, weights=True)]


# --- data


@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_find_as_the_encoder_does(kind):
    shared = []
    for query in queries():
        found, true = search_photographs(made(**kind), query), true_cosines(query, **kind)
        np.testing.assert_allclose(found, true, atol=0.01, err_msg=query)
        shared.append(len({*np.argsort(-found)[:10]} & {*np.argsort(-true)[:10]}))
    assert np.mean(shared) > 9.5


def test_a_photograph_finds_those_like_it():
    pictures = world()["pictures"]
    true = F.cosine_similarity(pictures[8:9], pictures).numpy()
    np.testing.assert_allclose(search_photographs(made(), 8), true, atol=0.01)


def test_words_without_any_that_is_known_are_refused():
    with pytest.raises(ValueError, match="query must have a word .* got 'qwerty xyzzy'"):
        search_photographs(made(), "qwerty xyzzy")
    with pytest.raises(ValueError, match="query must have a word"):
        search_photographs(made(), " ")
    with pytest.raises(ValueError, match="query must number photographs 0 to 89, got 90"):
        search_photographs(made(), NUMBER)
    late = "qwerty " * LONGEST + "disc"  # cut off before the first word that is known
    with pytest.raises(ValueError, match="query must have a word"):
        search_photographs(made(), late)


def test_captions_are_read_more_easily_and_cut_alike():
    lines = made()["captions"].tobytes().decode().split("\n")
    assert lines[3].split("\t")[1] == "$2 jeux d'été, <b>très</b> chers!"
    for line, row in zip(lines, world()["captions"], strict=True):
        assert [tokenize(c) for c in line.split("\t")] == [tokenize(c) for c in row]
    assert tokenize(made()["examples"][1]) == tokenize(world()["captions"][7][2])


def test_the_sheet_shows_each_photograph_in_its_place():
    sheet = Image.open(io.BytesIO(base64.b64decode(made()["sheet"].partition(",")[2])))
    assert sheet.size == (40 * 32, 3 * 32)
    cells = np.asarray(sheet).reshape(3, 32, 40, 32, 3).swapaxes(1, 2).reshape(120, 32, 32, 3)
    photos = world()["photographs"].permute(0, 2, 3, 1).numpy()
    off = np.abs(cells[:NUMBER].astype(float) - photos).mean(axis=(1, 2, 3))
    others = np.abs(cells[:NUMBER].astype(float) - np.roll(photos, 1, axis=0)).mean(axis=(1, 2, 3))
    assert off.max() < 16 and (off < others).all()


def photographs_of_texture(number):
    """About as rough as photographs are: noise of every size, the finer the fainter."""
    torch.manual_seed(0)
    sizes = (2, 4, 8, 16, 32, 64)
    noise = [F.interpolate(torch.randn(number, 3, n, n), 96) / n**0.45 for n in sizes]
    return (128 + 90 * sum(noise)).clamp(0, 255).to(torch.uint8)


def test_a_thousand_photographs_fit():
    """Flickr8k's sizes: 3,500 words of 128 numbers; of the photographs a twentieth."""
    words = [f"word{i}" for i in range(3500)]
    tokenizer = ju.CaptionTokenizer.from_captions([" ".join(words)], max_length=24)
    rng = np.random.default_rng(0)
    captions = [[" ".join(rng.choice(words, 11)) for _ in range(5)] for _ in range(50)]
    data = photo_search_data(
        photographs_of_texture(50),
        captions,
        torch.randn(50, 128),
        tokenizer=tokenizer,
        encoder=ju.TextEncoder(len(tokenizer), dimensions=128, layers=0, max_length=24),
        examples=captions[0][:4],
    )
    html = play_html("photo_search", data, still=photo_search_still(data), **WORDS)
    grows = len(data["sheet"]) + 50 * 128 * 4 / 3 + data["captions"].size
    assert len(html) + 19 * grows < LIMIT
    assert len(data["sheet"]) / 50 > 900  # as Flickr8k's


def wrong_encoder(**change):
    settings = dict(dimensions=DIMENSIONS, layers=0) | change
    vocabulary = settings.pop("vocabulary", len(world()["tokenizer"]))
    return ju.TextEncoder(vocabulary, **settings)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda w: dict(photographs=w["photographs"].float()), "photographs must be of uint8"),
        (lambda w: dict(photographs=w["photographs"][:, :1]), r"photographs .* got .*\(90, 1, 32"),
        (lambda w: dict(photographs=w["photographs"][:0]), "photographs must .* not empty"),
        (lambda w: dict(captions=w["captions"][1:]), "captions must be 90 lists, .* got 89"),
        (lambda w: dict(captions=[[], *w["captions"][1:]]), r"none empty, got \[\] as captions\[0"),
        (lambda w: dict(captions=["red", *w["captions"][1:]]), "got 'red' as captions"),
        (lambda w: dict(captions=[[" "], *w["captions"][1:]]), "captions must be lists of texts"),
        (lambda w: dict(pictures=w["pictures"][:, 1:]), r"pictures .* \(90, 32\), .* \(90, 31\)"),
        (lambda w: dict(pictures=w["pictures"][1:]), r"pictures must .* got \(89, 32\)"),
        (lambda w: dict(pictures=0 * w["pictures"]), "pictures must be finite and no row zero"),
        (lambda w: dict(pictures=w["pictures"] / 0), "pictures must be finite"),
        (lambda w: dict(encoder=torch.nn.Linear(2, 2)), "encoder must be a TextEncoder, got Lin"),
        (lambda w: dict(encoder=wrong_encoder(layers=2)), "encoder must have no layers, got 2"),
        (lambda w: dict(encoder=wrong_encoder(vocabulary=9)), "encoder must know .* one of 9"),
        (lambda w: dict(encoder=wrong_encoder(max_length=5)), "tokenizer .* at most .* 5, got 14"),
        (lambda w: dict(examples=[]), "examples must hold at least one"),
        (lambda w: dict(examples=["disc", "qwerty"]), "examples must have words .* got 'qwerty'"),
        (lambda w: dict(examples=[(90, 0)]), r"examples must number .* of 90 .* got \(90, 0\)"),
        (lambda w: dict(examples=[(0, 5)]), r"examples must number .* got \(0, 5\)"),
        (lambda w: dict(side=0), "side must be an integer of at least 1, got 0"),
        (lambda w: dict(quality=101), "quality must be an integer between 1 and 100, got 101"),
    ],
)
def test_bad_input_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        photo_search_data(**(world() | change(world())))


def test_an_encoder_without_positions_reads_sentences_of_any_length():
    encoder = wrong_encoder(positions=False, max_length=5)
    assert photo_search_data(**(world() | dict(encoder=encoder)), side=8)["positions"] is None


def test_the_still_has_a_row_for_each_query_and_frames_what_was_meant():
    data = made()
    meant = [0, 7, None]
    fig = photo_search_still(data)
    rows = np.array(fig.axes).reshape(3, 6)
    for row, query, photo in zip(rows, data["examples"], meant, strict=True):
        near = search_photographs(data, query)
        assert row[0].get_title("left") == f"“{query}”"
        labels = [ax.get_xlabel() for ax in row[:5]]
        assert labels == [f"{near[i]:.2f}" for i in np.argsort(-near)[:5]]
        assert row[5].get_visible() == (photo is not None)
        if photo is not None:
            assert row[5].get_xlabel() == f"place {1 + (near > near[photo]).sum()}"
        framed = [i for i, ax in zip(np.argsort(-near), row[:5]) if ax.spines["top"].get_visible()]
        assert framed == [i for i in np.argsort(-near)[:5] if i == photo]
    plt.close(fig)
    fig = photo_search_still(data, ["disc"])
    assert len(fig.axes) == 6
    plt.close(fig)


# --- in a browser: one page for all tests, with two search boxes

BOXES = ({}, dict(positions=False, weights=True))
ASK = """(figure, queries) => queries.map(query => {
  figure.play.set(typeof query === 'string' ? {words: query} : {photo: query})
  return figure.play.state() })"""
SMALL = """f => [...f.querySelectorAll('.play-live *')].filter(e => e.checkVisibility() && !e.matches('canvas, style')
  && (parseFloat(getComputedStyle(e).fontSize) < 9
      || e.matches('button, input') && Math.min(e.offsetWidth, e.offsetHeight) < 24)).map(e => e.outerHTML.slice(0, 90))"""
# Contrast of each text with the nearest ground behind it.
CONTRAST = """f => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 })
                       return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor
                        if (c !== 'rgba(0, 0, 0, 0)') return c } return 'rgb(255, 255, 255)' }
  const said = [...f.querySelectorAll('.play-live :is(p, button, label, span, input)')].filter(e => e.checkVisibility())
  return Math.min(...said.map(e => { const [a, b] = [getComputedStyle(e).color, ground(e)].map(light).sort((x, y) => y - x)
                                     return (a + 0.05) / (b + 0.05) })) }"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    boxes = ""
    for kind in BOXES:
        data = made(**kind)
        still = photo_search_still(data, data["examples"][:1])
        boxes += play_html("photo_search", data, still=still, **WORDS)
    assert not re.search(r"https?:|url\(|@import|import\(|fetch\(|<link|\beval\b|XMLHttp", boxes)
    path = tmp_path_factory.mktemp("photographs") / "page.html"
    path.write_text(
        '<!doctype html><html data-theme="light"><head><title>Photographs</title><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"</head><body>{boxes}</body></html>"
    )
    return path


@pytest.fixture(scope="module")
def page(browser, file):
    found = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True).new_page()
    errors, asked = [], []
    found.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("request", lambda r: asked.append(r.url))
    found.goto(file.as_uri())
    found.wait_for_function(
        "() => [...document.querySelectorAll('figure')].every(f => f.play && f.play.state().drawn)"
    )
    found.untouched = state(found.locator("figure").first)
    yield found
    found.context.close()
    assert errors == []  # to the end, whatever the tests did
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]


@pytest.fixture
def figure(page):
    page.set_viewport_size({"width": 390, "height": 844})
    return page.locator("figure").first


def ask(figure, *queries):
    return figure.evaluate(ASK, queries)


def state(figure):
    return figure.evaluate("figure => figure.play.state()")


def photos(figure):
    """What is listed: number of the photograph, and its similarity."""
    items = figure.locator(".play-photos > li[data-photo]")
    return items.evaluate_all("l => l.map(e => [+e.dataset.photo, +e.dataset.value])")


def hit_and_miss():
    """A photograph that its first caption finds among the first, and one that it does not."""
    places = [
        int((near > near[i]).sum())
        for i, row in enumerate(world()["captions"])
        for near in [search_photographs(made(), row[0])]
    ]
    alone = [i for i in range(NUMBER) if i not in (4, 5)]
    return next(i for i in alone if 0 < places[i] < FIRST), next(
        i for i in alone if places[i] >= FIRST
    )


def test_the_first_example_is_searched_untouched(page):
    first = made()["examples"][0]
    assert page.untouched["words"] == first and page.untouched["meant"] == [0]
    assert page.untouched["found"] == list(np.argsort(-search_photographs(made(), first))[:FIRST])


@pytest.mark.parametrize("box", (0, 1))
def test_the_page_ranks_as_the_package_and_the_encoder_do(box, page):
    kind, asked = BOXES[box], queries()
    shared, times = [], []
    for query, seen in zip(asked, ask(page.locator("figure").nth(box), *asked), strict=True):
        near, true = search_photographs(made(**kind), query), true_cosines(query, **kind)
        np.testing.assert_allclose(seen["near"], near, atol=1e-4, err_msg=query)
        np.testing.assert_allclose(seen["near"], true, atol=0.01, err_msg=query)
        shared.append(len({*seen["found"][:10]} & {*np.argsort(-true)[:10]}))
        assert seen["found"] == sorted(range(NUMBER), key=lambda i: -seen["near"][i])[:FIRST]
        times.append(seen["ms"])
    assert np.mean(shared) > 9.5
    assert np.median(times) < 50


def test_text_is_cut_as_python_cuts_it(figure):
    places = [*range(0x3000), *range(0x3000, 0x20000, 7)]
    known = (chr(c) for c in places if not 0xD800 <= c < 0xE000)
    signs = [c for c in known if unicodedata.category(c) != "Cn"]
    texts = ["".join(f"a{c}b {c}" for c in signs[i : i + 500]) for i in range(0, len(signs), 500)]
    texts += ["", " \t\n", "Don't STOP—it's 3½ €; naïve CAFÉ, ΟΔΟΣ ΣΑΣ İstanbul STRASSE ǅ"]
    texts += ["e\u0301le\u0300ve", "x_y __ 🐕🐕 dog🐕 \ufeffa\x85b\x1cc", "<unk> a.b,c!?"]
    cut = figure.evaluate("(figure, texts) => texts.map(figure.play.cut)", texts)
    for text, found in zip(texts, cut, strict=True):
        assert found == tokenize(text)


def test_thumbnails_are_the_photographs(figure):
    ask(figure, "a small red disc")
    colours = figure.locator(".play-photos canvas").evaluate_all(
        """l => l.map(e => { const { data } = e.getContext('2d').getImageData(0, 0, e.width, e.height), sum = [0, 0, 0]
        data.forEach((v, i) => { if (i % 4 < 3) sum[i % 4] += v }); return sum.map(v => v / (e.width * e.height)) })"""
    )
    true = world()["photographs"].float().mean(dim=(2, 3)).numpy()
    assert len(colours) == FIRST
    np.testing.assert_allclose(colours, true[[i for i, _ in photos(figure)]], atol=8)


def test_what_was_meant_is_marked_among_the_finds_and_shown_apart_beyond(figure):
    captions = world()["captions"]
    for photo, listed in zip(hit_and_miss(), (FIRST, FIRST + 1), strict=True):
        caption = captions[photo][0].upper()  # a caption is known by its words
        (seen,) = ask(figure, caption)
        near = search_photographs(made(), caption)
        place = 1 + int((near > near[photo]).sum())
        assert seen["meant"] == [photo] and seen["place"] == place
        assert len(photos(figure)) == listed and photo in [i for i, _ in photos(figure)]
        marked = figure.locator("button.play-true")
        assert marked.count() == 1 and "meant" in marked.inner_text()
        label = marked.get_attribute("aria-label")
        assert label.startswith(f"Place {place}, similarity") and "the one that was meant" in label
        said = figure.locator(".play-said", has_text=f"is at place {place} of 90.")
        said.wait_for()
        apart = figure.locator(".play-apart")
        assert apart.count() == listed - FIRST
        if listed > FIRST:
            assert f"The one that was meant: place {place} of 90" in apart.inner_text()


def test_of_two_photographs_with_one_caption_both_are_meant(figure):
    (seen,) = ask(figure, world()["captions"][4][0])
    near = search_photographs(made(), world()["captions"][4][0])
    assert seen["meant"] == [4, 5]
    assert seen["place"] == 1 + int((near > max(near[4], near[5])).sum())
    figure.locator(".play-said", has_text="2 photographs have this caption").wait_for()


def test_words_that_are_not_known_are_named_and_the_rest_is_searched(figure):
    field = figure.get_by_label("Look for")
    field.fill("a qwerty disc, Xyzzy qwerty")
    field.press("Enter")
    seen = state(figure)
    assert seen["missing"] == ["qwerty", "xyzzy"] and len(seen["found"]) == FIRST
    figure.locator(".play-said", has_text="I do not know: qwerty, xyzzy.").wait_for()
    (seen,) = ask(figure, "qwerty ")
    assert photos(figure) == [] and seen["found"] == []
    figure.locator(".play-said", has_text="No caption has any of these words.").wait_for()
    ask(figure, "<b>qwerty</b> disc")  # text, not markup
    figure.locator(".play-said", has_text="I do not know: ").wait_for()
    assert figure.locator(".play-said b").count() == 0


def test_an_empty_query_says_what_to_do(figure):
    field = figure.get_by_label("Look for")
    for words in ("", "  \t "):
        field.fill(words)
        field.press("Enter")
        assert photos(figure) == []
        figure.locator(".play-said", has_text="Type what you look for, such as “").wait_for()
        ask(figure, "disc")


def test_what_goes_beyond_the_longest_caption_is_said_to_be_left_out(figure):
    ask(figure, "disc " * LONGEST + "qwerty")
    said = figure.locator(".play-said", has_text=f"Read are the first {LONGEST} words and signs.")
    said.wait_for()
    assert state(figure)["missing"] == []


def test_it_is_searched_while_words_are_typed(figure):
    field = figure.get_by_label("Look for")
    ask(figure, "")
    field.press_sequentially("red")
    assert state(figure)["words"] == "red" and field.input_value() == "red"
    field.press_sequentially(" dis")  # may become a word that is known
    assert state(figure)["words"] == "red "
    field.press_sequentially("c")
    assert state(figure)["words"] == "red disc"
    field.press_sequentially(" zz")  # no word begins so
    assert state(figure)["missing"] == ["zz"]
    field.fill("blue disc")
    figure.get_by_role("button", name="Search", exact=True).click()
    assert state(figure)["words"] == "blue disc"


def test_keys_reach_everything(page, figure):
    field = figure.get_by_label("Look for")
    field.fill(made()["examples"][0])
    field.press("Enter")
    focus = "() => [document.activeElement.className, document.activeElement.textContent]"
    seen = []
    for _ in range(len(made()["examples"]) + 3):  # Search, examples, any caption, photographs
        page.keyboard.press("Tab")
        seen.append(page.evaluate(focus))
    assert [text for _, text in seen][:-1] == ["Search", *made()["examples"], "Any caption"]
    buttons = figure.locator("button.play-photo")
    at = "l => l.indexOf(document.activeElement)"
    assert buttons.evaluate_all(at) == 0
    columns = figure.evaluate(
        "f => getComputedStyle(f.querySelector('.play-photos')).gridTemplateColumns.split(' ').length"
    )
    ways = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowUp", "End", "ArrowRight"]
    last = buttons.count() - 1
    for key, to in zip(ways, (1, 1 + columns, columns, 0, 0, last, last), strict=True):
        page.keyboard.press(key)
        assert buttons.evaluate_all(at) == to, key
    page.keyboard.press("Home")
    assert buttons.evaluate_all("l => l.map(e => e.tabIndex)") == [0] + [-1] * last
    page.keyboard.press("Enter")
    first = photos(figure)[0][0]
    assert state(figure)["open"] == first
    page.keyboard.press("Tab")
    assert page.evaluate(focus)[1] == " ".join(made_captions()[first][0].split())
    page.keyboard.press("Enter")
    assert state(figure)["words"] == made_captions()[first][0]
    assert figure.get_by_label("Look for").input_value() == made_captions()[first][0]
    assert buttons.evaluate_all(at) == 0  # and on from there


def made_captions():
    return [line.split("\t") for line in made()["captions"].tobytes().decode().split("\n")]


def test_a_photograph_shows_what_was_written_of_it_and_finds_others_like_it(figure):
    ask(figure, "a small red disc")
    item = figure.locator(".play-photos > li").nth(4)
    item.locator("button").tap()
    photo = photos(figure)[4][0]
    assert item.locator("button").get_attribute("aria-pressed") == "true"
    panel = figure.locator(".play-chosen")
    assert panel.locator("button").all_inner_texts() == [*made_captions()[photo], "More like this"]
    figure.locator(".play-said", has_text="Written of this one: “").wait_for()
    item.locator("button").click()
    assert panel.count() == 0 and state(figure)["open"] is None
    figure.locator(".play-said", has_text="Found first, with a similarity of").wait_for()
    item.locator("button").click()
    panel.get_by_role("button", name="More like this").click()
    seen, near = state(figure), search_photographs(made(), photo)
    assert seen["photo"] == photo and photo not in seen["found"]
    np.testing.assert_allclose(seen["near"], near, atol=1e-4)
    assert seen["found"] == [i for i in np.argsort(-near) if i != photo][:FIRST]
    assert figure.get_by_text("Photographs near this one").is_visible()
    assert figure.get_by_label("Look for").input_value() == ""
    ask(figure, "disc")
    assert not figure.get_by_text("Photographs near this one").is_visible()


def test_examples_and_any_caption_are_searched(figure):
    figure.get_by_role("button", name=made()["examples"][2], exact=True).tap()
    assert state(figure)["words"] == made()["examples"][2]
    assert figure.get_by_label("Look for").input_value() == made()["examples"][2]
    pressed = figure.locator(".play-try button[aria-pressed=true]")
    assert pressed.all_inner_texts() == [made()["examples"][2]]
    figure.get_by_role("button", name="Any caption").click()
    seen = state(figure)
    assert any(seen["words"] in row for row in made_captions()) and seen["meant"]


def test_it_fits_a_phone_and_a_screen(page, figure):
    miss = world()["captions"][hit_and_miss()[1]][0]
    for width, columns in ((390, 3), (1280, 6)):
        page.set_viewport_size({"width": width, "height": 844})
        ask(figure, miss)
        figure.locator("button.play-photo").nth(1).click()
        assert page.evaluate(STICKS_OUT) == []
        lefts = figure.locator(".play-photos > li:not(.play-apart, .play-chosen)").evaluate_all(
            "l => new Set(l.map(e => Math.round(e.getBoundingClientRect().left))).size"
        )
        assert lefts == columns
        assert figure.evaluate(SMALL) == []
        assert figure.locator(".play-chosen").evaluate(
            "(e, at) => e.offsetTop >= e.parentElement.children[at].offsetTop + e.parentElement.children[at].offsetHeight",
            0,
        )


def test_it_is_legible_by_day_and_by_night(page, figure):
    ask(figure, world()["captions"][hit_and_miss()[1]][0])
    figure.locator("button.play-photo").nth(1).click()
    grounds = []
    for theme in ("dark", "light"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        assert figure.evaluate(CONTRAST) >= 4.5
        grounds.append(
            figure.locator(".play-live").evaluate("e => getComputedStyle(e).backgroundColor")
        )
    assert grounds[0] != grounds[1]


def test_the_still_stands_there_where_scripts_are_off_and_on_paper(browser, file, page):
    quiet = browser.new_context(java_script_enabled=False).new_page()
    quiet.goto(file.as_uri())
    page.emulate_media(media="print")
    for each in (quiet, page):
        assert each.locator(".play-still").first.is_visible()
        assert not each.locator(".play-live").first.is_visible()
    page.emulate_media(media="screen")
    quiet.context.close()
