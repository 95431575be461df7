"""The search of passages: its tables are the encoders', and the page finds what the package finds."""

import json
import re
from functools import cache

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from browser import STICKS_OUT, open_browser
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

import jepa_utils as ju
from jepa_utils.figures.passages import ENCODERS, passage_data, passage_still, search_passages
from jepa_utils.figures.play import play_html

GALLERY, LENGTH, DIMENSIONS = 40, 64, 16
WORDS = dict(caption="Passages to be searched, in a test.", alt="Whatever its picture may show.")


@cache
def world():
    """A tiny gallery and encoders of it; they have not seen all of its tokens."""
    tokenizer = ju.load_tokenizer(source="sample").tokenizer
    lines = ju.load_data("wikitext-2", source="sample").data
    train, test = (
        ju.token_chunks(lines[split]["text"], tokenizer, length=LENGTH, progress=False)
        for split in ("train", "test")
    )
    chunks, halves = test[:GALLERY], train[:200].view(-1, LENGTH // 2)
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    encoder = ju.TextEncoder(
        len(tokenizer),
        dimensions=DIMENSIONS,
        layers=0,
        positions=False,
        weights=torch.rand(len(tokenizer), generator=rng) + 0.2,
    ).eval()
    with torch.no_grad():
        encoder.norm.weight.uniform_(0.3, 2)
        encoder.norm.bias.normal_()
    counts = TfidfVectorizer(analyzer=lambda ids: ids, sublinear_tf=True).fit(halves.tolist())
    svd = TruncatedSVD(DIMENSIONS, random_state=0).fit(counts.transform(halves.tolist()))

    @torch.no_grad()
    def bag(ids):
        return encoder(ids, torch.ones_like(ids, dtype=torch.bool))

    def lsa(ids):
        return torch.tensor(svd.transform(counts.transform(ids.tolist())))

    return dict(
        chunks=chunks,
        articles=torch.arange(GALLERY) // 4 + 1,
        titles=["", *(f"Article {i} of @-@ <unk>" for i in range(GALLERY // 4))],
        tokenizer=tokenizer,
        encoder=encoder,
        counts=counts,
        svd=svd,
        encoder_standard=(bag(halves).mean(0), bag(halves).std(0)),
        svd_standard=(lsa(halves).mean(0), lsa(halves).std(0)),
        examples=[3, known_words()],
    ), (bag, lsa)


@cache
def known_words():
    """Three words of the gallery."""
    tokenizer = ju.load_tokenizer(source="sample").tokenizer
    lines = ju.load_data("wikitext-2", source="sample").data["test"]["text"]
    chunks = ju.token_chunks(lines, tokenizer, length=LENGTH, progress=False)
    text = tokenizer.decode(chunks[7].tolist())
    return " ".join(re.findall(r"(?<= )[a-z]{4,}(?= )", text)[:3])


def made(**change):
    return passage_data(**(world()[0] | change))


def true_cosines(first):
    """As the encoders themselves have it, for first halves (1, L/2)."""
    settings, (bag, lsa) = world()
    second = settings["chunks"][:, LENGTH // 2 :]
    found = {}
    for key, of in (("lejepa", bag), ("lsa", lsa)):
        mean, std = settings[{"lejepa": "encoder_standard", "lsa": "svd_standard"}[key]]
        a, b = ((of(ids) - mean) / std for ids in (first, second))
        found[key] = torch.cosine_similarity(a, b).numpy()
    rows = [settings["counts"].transform(ids.tolist()) for ids in (second, first)]
    return found | {"tfidf": (rows[0] @ rows[1].T).toarray()[:, 0]}


# --- data


def test_the_tables_find_as_the_encoders_do():
    data, chunks = made(), world()[0]["chunks"]
    assert (data["idf"] == 0).any()  # tokens that the counting ones have not seen
    for passage in (0, 11, GALLERY - 1):
        found = search_passages(data, passage)
        for key, true in true_cosines(chunks[passage : passage + 1, : LENGTH // 2]).items():
            np.testing.assert_allclose(found[key], true, atol=0.02, err_msg=key)


def test_words_are_found_as_the_tokenizer_writes_them():
    data, words = made(), known_words()
    ids = world()[0]["tokenizer"](f" {words}", return_tensors="pt")["input_ids"]
    assert len(words.split()) == 3
    for query in (words, words.capitalize(), f"“{words}”, xyzzyx", words.replace(" ", "-")):
        found = search_passages(data, query)
        for key, true in true_cosines(ids).items():
            np.testing.assert_allclose(found[key], true, atol=0.02, err_msg=key)


def test_an_encoder_without_weights_counts_all_alike():
    encoder = ju.TextEncoder(
        len(world()[0]["tokenizer"]), dimensions=DIMENSIONS, layers=0, positions=False
    )
    assert (made(encoder=encoder)["lejepaWeight"] == 1).all()


def test_texts_and_titles_are_whole():
    data, settings = made(), world()[0]
    text = "".join(data["strings"][token] for token in data["ids"][5])
    assert text == settings["tokenizer"].decode(settings["chunks"][5].tolist())
    assert data["titles"][data["articles"][5]] == "Article 1 of-□"
    assert made(titles=["<unk>"] * 11)["titles"][0] == "□ (article 1)"


def wrong_encoder(**change):
    settings = dict(dimensions=DIMENSIONS, layers=0, positions=False) | change
    return ju.TextEncoder(len(world()[0]["tokenizer"]), **settings)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda w: dict(chunks=w["chunks"][:, :63]), r"chunks must .* L even, got \(40, 63\)"),
        (lambda w: dict(chunks=w["chunks"][:0]), r"chunks must .* not empty"),
        (lambda w: dict(chunks=w["chunks"] + 10**6), "encoder must know all tokens of chunks"),
        (lambda w: dict(articles=w["articles"][1:]), r"articles must be 40 .* got \(39,\)"),
        (lambda w: dict(articles=w["articles"] + 0.5), "articles must be 40 whole numbers"),
        (lambda w: dict(titles=w["titles"][:-1]), "titles must name articles 1 to 10, got 10"),
        (lambda w: dict(encoder=wrong_encoder(layers=1)), "encoder .* no layers .* got 1 layers"),
        (lambda w: dict(encoder=wrong_encoder(positions=True)), "encoder .* and positions"),
        (lambda w: dict(counts=TfidfVectorizer()), "counts must have sublinear_tf=True"),
        (
            lambda w: dict(svd=TruncatedSVD(2).fit(np.random.default_rng(0).normal(size=(9, 5)))),
            r"svd must have a column .* got \(2, 5\)",
        ),
        (
            lambda w: dict(encoder_standard=(torch.zeros(3), torch.ones(3))),
            r"encoder_standard must .* \(16,\), got \[\(3,\), \(3,\)\]",
        ),
        (lambda w: dict(svd_standard=(torch.zeros(16),) * 2), "svd_standard .* positive"),
        (lambda w: dict(examples=[]), "examples must hold at least one"),
        (lambda w: dict(examples=["xyzzyx"]), "examples must have words .* got 'xyzzyx'"),
        (lambda w: dict(examples=[GALLERY]), "examples must number passages from 0 to 39, got 40"),
    ],
)
def test_bad_input_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        made(**change(world()[0]))


def test_the_still_has_a_panel_for_each_encoder():
    data = made()
    for query in (None, known_words()):
        fig = passage_still(data, query)
        assert [ax.get_title() for ax in fig.axes] == list(ENCODERS.values())
        for ax, cosines in zip(
            fig.axes, search_passages(data, 3 if query is None else query).values()
        ):
            title = data["titles"][data["articles"][np.argmax(cosines)]]
            (text,) = ax.texts
            assert re.match(rf"1\. (own half: |same article: )?{re.escape(title)}", text.get_text())
        plt.close(fig)


# --- in a browser


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


def opened(browser, folder, width=390, data=None, scripts=True):
    data = made() if data is None else data
    html = play_html("passages", data, still=passage_still(data), **WORDS)
    assert not re.search(r"https?:|url\(|@import|import\(|fetch\(|<link|\beval\b|XMLHttp", html)
    path = folder / "page.html"
    path.write_text(
        '<!doctype html><html data-theme="light"><head><title>Passages</title><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"</head><body>{html}</body></html>"
    )
    page = browser.new_context(
        viewport={"width": width, "height": 844}, java_script_enabled=scripts
    ).new_page()
    page.errors = []
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(path.as_uri())
    if scripts:
        page.wait_for_function("() => document.querySelector('figure').play")
    return page


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    found = opened(browser, tmp_path_factory.mktemp("page"))
    yield found
    found.context.close()
    assert found.errors == []  # to the end, whatever the tests did


@pytest.fixture
def figure(page):
    return page.locator("figure")


def put(figure, **query):
    figure.evaluate("(figure, query) => figure.play.set(query)", query)
    return state(figure)


def state(figure):
    return figure.evaluate("figure => figure.play.state()")


def listed(figure, name):
    """What stands on the page: number of the passage and cosine."""
    items = figure.get_by_role("group", name=name, exact=True).locator("li")
    return items.evaluate_all("l => l.map(e => [+e.dataset.passage, +e.dataset.value])")


def check_found(figure, query):
    seen = state(figure)
    for key, cosines in search_passages(made(), query).items():
        order = [i for i in np.argsort(-cosines, kind="stable") if cosines[i] > 0]
        assert [i for i, _ in seen["found"][key]] == order[:5], (key, query)
        np.testing.assert_allclose(
            [v for _, v in seen["found"][key]], cosines[order[:5]], atol=1e-4
        )
        assert listed(figure, ENCODERS[key]) == seen["found"][key]
        if not isinstance(query, str):
            place = 1 + int((cosines > cosines[query]).sum())
            assert seen["place"][key] == place
            shown = figure.locator(f".play-place[data-name={key}]")
            assert shown.inner_text() == f"Its own second half: place {place}"


@pytest.mark.parametrize("passage", [0, 22])
def test_a_passage_is_ranked_as_the_package_does(passage, figure):
    put(figure, passage=passage)
    check_found(figure, passage)
    marks = figure.locator(".play-passages li").evaluate_all(
        "l => l.map(e => [+e.dataset.passage, e.querySelector('strong, em')?.textContent ?? ''])"
    )
    for found, mark in marks:
        same = "same article" if found // 4 == passage // 4 else ""
        assert mark == ("own half" if found == passage else same)


def test_typed_words_are_ranked_as_the_package_does(figure):
    words = known_words()
    field = figure.get_by_label("Words", exact=True)
    field.fill(f"{words.upper()}, xyzzyx")
    field.press("Enter")
    check_found(figure, words)
    seen = state(figure)
    assert "".join(seen["tokens"]) == f" {words}" and seen["missing"] == ["xyzzyx"]
    assert figure.get_by_text("Not in these passages: xyzzyx.").is_visible()
    bold = figure.locator(".play-passages b").all_inner_texts()
    assert bold and {re.sub(r"\W", "", word).lower() for word in bold} <= set(words.split())
    figure.locator(".play-said", has_text="Found first: by LeJEPA a passage of").wait_for()


def test_words_that_no_passage_has_find_nothing(figure):
    put(figure, words="xyzzyx quuxly")
    assert figure.locator(".play-passages li").count() == 0
    assert figure.get_by_text("Not in these passages: xyzzyx, quuxly.").is_visible()
    figure.locator(".play-said", has_text="None of these words").wait_for()


def test_words_that_counting_has_never_seen_are_said_to_be(browser, tmp_path):
    data = made()
    page = opened(browser, tmp_path, data=data | {"idf": np.zeros(len(data["idf"]))})
    seen = put(page.locator("figure"), words=known_words())
    assert (
        len(seen["found"]["lejepa"]) == 5 and seen["found"]["lsa"] == seen["found"]["tfidf"] == []
    )
    assert page.get_by_text("Has never seen any of these words.").count() == 2
    assert page.errors == []
    page.context.close()


def test_the_first_example_is_searched_untouched(browser, tmp_path):
    page = opened(browser, tmp_path)
    check_found(page.locator("figure"), 3)
    pressed = page.locator("button[aria-pressed=true]")
    assert pressed.inner_text() == "passage of “Article 0 of-□”"
    page.context.close()


def test_buttons_and_the_list_of_articles_choose(figure):
    put(figure, passage=GALLERY - 1)
    figure.get_by_role("button", name="Next passage").press("Enter")
    assert state(figure)["passage"] == 0
    figure.get_by_label("Or a passage of").select_option("2")
    assert state(figure)["passage"] == 8
    figure.get_by_role("button", name="Any passage").click()
    assert 0 <= state(figure)["passage"] < GALLERY
    figure.get_by_role("button", name=known_words(), exact=True).click()
    assert state(figure)["words"] == known_words()
    check_found(figure, known_words())
    assert figure.get_by_label("Or a passage of").input_value() == ""


def test_a_title_unfolds_the_text_by_key_and_by_click(figure):
    put(figure, passage=3)
    item = figure.locator(".play-passages li").first
    text, short = item.locator(".play-text"), item.locator(".play-text").inner_text()
    assert short.startswith("…") and short.endswith("…") and 100 < len(short) < 175
    item.locator("button").press("Enter")
    assert item.locator("button").get_attribute("aria-expanded") == "true"
    assert len(text.inner_text()) >= len(short) and not text.inner_text().endswith("…")
    text.click()
    assert text.inner_text() == short
    rest = figure.locator(".play-query .play-text").last
    assert not rest.is_visible()
    figure.get_by_role("button", name="Show its own second half").click()
    assert rest.is_visible()


def test_it_fits_a_phone_and_a_screen_with_text_to_be_read(page, figure):
    for query in (dict(passage=3), dict(words=known_words())):
        put(figure, **query)
        for width, columns in ((390, 1), (780, 3), (1280, 3)):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate(STICKS_OUT) == []
            lefts = figure.locator(".play-passages > div").evaluate_all(
                "l => new Set(l.map(e => e.getBoundingClientRect().left)).size"
            )
            assert lefts == columns
            small = figure.evaluate(
                """f => [...f.querySelectorAll('.play-live *')].filter(e => e.checkVisibility()
                && (parseFloat(getComputedStyle(e).fontSize) < 9 || e.matches('button, select, input')
                && Math.min(e.offsetWidth, e.offsetHeight) < 24)).length"""
            )
            assert small == 0
    page.set_viewport_size({"width": 390, "height": 844})


def test_it_follows_the_theme_and_stands_still_until_touched(page, figure):
    put(figure, passage=3)
    seen = {}
    for theme in ("dark", "light"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        seen[theme] = figure.locator(".play-query").evaluate(
            "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
        )
    assert all(a != b for a, b in zip(seen["dark"], seen["light"], strict=True))
    before = json.dumps(state(figure))
    page.wait_for_timeout(300)
    assert json.dumps(state(figure)) == before


def test_the_still_stands_there_where_scripts_are_off(browser, tmp_path):
    page = opened(browser, tmp_path, scripts=False)
    assert page.locator(".play-still").is_visible() and not page.locator(".play-live").is_visible()
    page.context.close()
