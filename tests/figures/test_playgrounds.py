"""The chapters' playgrounds in a real browser: their numbers are the package's, and hands and keys reach everything."""

import json
import re
from functools import cache

import numpy as np
import pytest
from browser import STICKS_OUT, open_browser

from jepa_utils.evaluation.neighbours import nearest_neighbours
from jepa_utils.figures.play import play_html

STILL = '<svg viewBox="0 0 300 90" width="300" height="90"><circle cx="45" cy="45" r="40"/></svg>'
WORDS = dict(caption="A playground in a test of the book.", alt="Whatever its picture may show.")
READ = "f => Object.fromEntries([...f.querySelectorAll('dd')].map(e => [e.dataset.name, [+e.dataset.value, e.textContent]]))"
OUT_OF_VIEW = """f => [...f.querySelectorAll('button, input, select')].map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
  .filter(([, b]) => b.left < 0 || b.right > document.documentElement.clientWidth || b.width < 24 || b.height < 24).map(([e]) => e)"""
NAMELESS = """f => [...f.querySelectorAll('button, input, select')]
  .filter(e => !(e.getAttribute('aria-label') || e.textContent || '').trim() && !e.closest('label')?.textContent.trim()).length"""


# --- data


def principal(vectors):
    centred = vectors - vectors.mean(axis=0)
    return centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T


@cache
def wordmap():
    rng = np.random.default_rng(0)
    words = [a + b + c for a in "kqmtrs" for b in "aeiou" for c in ("", "ng", "st", "lo", "ree")]
    classes = {f"class {n}": words[12 * n : 12 * n + 12] for n in range(8)}
    centre = 1.5 * rng.normal(size=(8, 10))
    vectors = rng.normal(size=(len(words), 10))
    vectors[:96] += centre.repeat(12, axis=0)
    whole = np.rint(vectors).astype(int)  # packed exactly
    whole[-1] = 0  # at a right angle to every other
    runs = dict(plain=vectors, collapsed=0.01 * (vectors + rng.normal(size=10)), whole=whole)
    return dict(
        words=words,
        classes=classes,
        runs={name: dict(vectors=v, places=principal(v)) for name, v in runs.items()},
    )


DATA = {"wordmap": wordmap}


def html(name, data=None):
    return play_html(name, DATA[name]() if data is None else data, still=STILL, **WORDS)


# --- the page


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


def open_page(browser, folder, body, **context):
    path = folder / "page.html"
    path.write_text(
        '<!doctype html><html data-theme="light"><head><title>Playgrounds</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"</head><body>{body}</body></html>"
    )
    settings = {"viewport": {"width": 390, "height": 844}} | context
    page = browser.new_context(**settings).new_page()
    page.errors = []
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(path.as_uri())
    if settings.get("java_script_enabled", True):
        page.wait_for_function(
            "() => [...document.querySelectorAll('figure')].every(figure => figure.play)"
        )
        settle(page)
    return page


def settle(page):
    """Until what was asked to be drawn is drawn."""
    page.evaluate("() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    found = open_page(browser, tmp_path_factory.mktemp("page"), "".join(map(html, DATA)))
    yield found
    found.context.close()
    assert found.errors == []  # to the end, whatever the tests did


@pytest.fixture
def figure(page, request):
    """The playground that the test's name begins with."""
    name = request.function.__name__.removeprefix("test_").partition("_")[0]
    return page.locator(f"figure[data-play={name}]")


def put(figure, **changes):
    """Change a playground, and return its state once it is drawn."""
    figure.evaluate("(figure, changes) => figure.play.set(changes)", changes)
    return state(figure)


def state(figure):
    settle(figure.page)
    return figure.evaluate("figure => figure.play.state()")


def read(figure):
    return {key: value for key, (value, _) in figure.evaluate(READ).items()}


# --- all of them


def test_each_has_a_name_an_edge_and_targets(page):
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        settle(page)
        assert page.evaluate(STICKS_OUT) == []
        for figure in page.locator("figure").all():
            assert figure.evaluate(OUT_OF_VIEW) == [] and figure.evaluate(NAMELESS) == 0
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)


def test_each_follows_the_theme(page):
    canvases = page.locator("canvas").all()
    drawn = {}
    for theme in ("dark", "light"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        settle(page)
        drawn[theme] = [canvas.evaluate("c => c.toDataURL()") for canvas in canvases]
    assert all(a != b for a, b in zip(drawn["dark"], drawn["light"], strict=True))


@pytest.mark.parametrize("name", DATA)
def test_each_is_whole_in_itself(name):
    assert not re.search(
        r"https?:|url\(|@import|import\(|fetch\(|<link|\beval\b|new Function|XMLHttp", html(name)
    )


def test_each_leaves_its_still_where_scripts_are_off(browser, tmp_path):
    body = "".join(map(html, DATA))
    page = open_page(browser, tmp_path, body, java_script_enabled=False)
    assert all(still.is_visible() for still in page.locator(".play-still").all())
    assert not any(live.is_visible() for live in page.locator(".play-live").all())
    page.context.close()


def test_each_stands_still_until_it_is_touched(page):
    figures = page.locator("figure").all()
    before = [json.dumps(state(figure)) for figure in figures]
    page.wait_for_timeout(300)
    assert [json.dumps(state(figure)) for figure in figures] == before


# --- the word map


def test_wordmap_ranks_as_the_package_does(figure):
    data = wordmap()
    words = data["words"]
    for run, arrays in data["runs"].items():
        for word in (words[0], words[40], words[100], words[-1]):
            seen = put(figure, run=run, word=word)
            (found,), (far,) = nearest_neighbours(
                arrays["vectors"], [words.index(word)], k=10, metric="cosine"
            )
            if run != "whole" or word == words[-1]:  # among whole numbers some are equally near
                assert [w for w, _ in seen["near"]] == [words[i] for i in found], (run, word)
            np.testing.assert_allclose([c for _, c in seen["near"]], 1 - far, atol=1e-4)
            (flat,), _ = nearest_neighbours(arrays["places"], [words.index(word)], k=10)
            assert set(seen["flat"]) == {words[i] for i in flat}
            listed = figure.locator(".play-list li")
            assert listed.locator("button").all_inner_texts() == [w for w, _ in seen["near"]]
            shown = listed.locator("[data-value]").evaluate_all("l => l.map(e => +e.dataset.value)")
            np.testing.assert_allclose(shown, 1 - far, atol=1e-4)
            assert read(figure)["flat"] == len({w for w, _ in seen["near"]} & set(seen["flat"]))


def test_wordmap_counts_the_words_of_the_class(figure):
    data = wordmap()
    near = put(figure, run="plain", word=data["words"][0])["near"]
    own = data["classes"]["class 0"]
    assert read(figure)["same"] == sum(word in own for word, _ in near) >= 3


def test_wordmap_finds_a_word_by_its_beginning(figure):
    put(figure, run="plain", word="ka")
    field, offers = figure.get_by_label("Find a word"), figure.locator(".play-offers")
    field.press_sequentially("mI")
    assert offers.locator("button").all_inner_texts() == ["mi", "ming", "mist", "milo", "miree"]
    field.press("ArrowDown")
    figure.page.keyboard.press("ArrowRight")
    figure.page.keyboard.press("Enter")
    assert state(figure)["word"] == "ming" and offers.locator("button").count() == 0
    field.press_sequentially("tolo")
    field.press("Enter")
    assert state(figure)["word"] == "tolo"
    field.press_sequentially("xyz")
    assert offers.inner_text() == "No word begins like this."
    field.press("Enter")
    assert state(figure)["word"] == "tolo"
    field.fill("")
    figure.locator(".play-said", has_text="nearest are").wait_for()


def test_wordmap_goes_from_neighbour_to_neighbour_by_key(figure):
    second = put(figure, run="plain", word="ka")["near"][1][0]
    figure.locator(".play-list button").nth(1).press("Enter")
    assert state(figure)["word"] == second
    assert figure.page.evaluate("() => document.activeElement.closest('.play-list') !== null")


def test_wordmap_moves_and_zooms_by_key(figure):
    whole = put(figure, run="plain", word="ka")
    stage = figure.locator(".play-stage")
    stage.press("+")
    near = state(figure)
    assert near["times"] == pytest.approx(1.5)
    assert np.ptp(near["x"]) == pytest.approx(np.ptp(whole["x"]) / 1.5)
    stage.press("ArrowRight")
    assert state(figure)["x"][0] > near["x"][0] and state(figure)["y"] == near["y"]
    for _ in range(9):
        stage.press("ArrowRight")  # to the edge, not beyond
    assert state(figure)["x"][1] == pytest.approx(whole["x"][1])
    stage.press("0")
    assert state(figure)["x"] == whole["x"] and state(figure)["y"] == whole["y"]


def test_wordmap_zooms_by_button_wheel_and_choice_of_run(figure):
    whole = put(figure, run="plain", word="ka")
    page, stage = figure.page, figure.locator(".play-stage")
    figure.get_by_role("button", name="Zoom in").click()
    assert state(figure)["times"] == pytest.approx(1.5)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.wheel(0, -200)  # the map has not been clicked: the page is scrolled, if at all
    page.wait_for_timeout(50)
    assert state(figure)["times"] == pytest.approx(1.5)
    stage.focus()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    before = state(figure)
    fixed = before["x"][0] + np.ptp(before["x"]) / 4
    page.mouse.wheel(0, -200)
    page.wait_for_timeout(50)
    after = state(figure)
    assert after["times"] == pytest.approx(3)
    assert after["x"][0] + np.ptp(after["x"]) / 4 == pytest.approx(fixed)  # stays below the hand
    figure.get_by_role("button", name="Show all").click()
    assert state(figure)["x"] == whole["x"]
    figure.get_by_label("Run").select_option("collapsed")
    assert state(figure)["run"] == "collapsed" and state(figure)["times"] == 1


def test_wordmap_is_dragged_and_a_click_chooses_a_word(figure):
    put(figure, run="plain", word="ka")
    page, stage = figure.page, figure.locator(".play-stage")
    for _ in range(3):
        stage.press("+")
    before = state(figure)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y - 10, steps=4)
    page.mouse.up()
    after = state(figure)
    unit = np.ptp(before["x"]) / before["width"]
    np.testing.assert_allclose(np.subtract(after["x"], before["x"]), -20 * unit, atol=0.01 * unit)
    np.testing.assert_allclose(np.subtract(after["y"], before["y"]), -10 * unit, atol=0.01 * unit)
    assert after["word"] == "ka"
    places = dict(zip(wordmap()["words"], wordmap()["runs"]["plain"]["places"], strict=True))
    inside = {w: p for w, p in places.items() if after["x"][0] < p[0] < after["x"][1]}
    middle = [np.mean(after["x"]), np.mean(after["y"])]
    nearest = min(inside, key=lambda w: np.hypot(*(inside[w] - middle)))
    page.mouse.click(
        box["x"] + (places[nearest][0] - after["x"][0]) / unit,
        box["y"] + (after["y"][1] - places[nearest][1]) / unit,
    )
    assert state(figure)["word"] == nearest


def test_wordmap_is_pinched_by_two_fingers(browser, tmp_path):
    page = open_page(browser, tmp_path, html("wordmap"), has_touch=True)
    figure = page.locator("figure")
    box = figure.locator(".play-stage").bounding_box()
    hand, middle = page.context.new_cdp_session(page), box["x"] + box["width"] / 2
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60), ("touchEnd", 0)):
        places = [
            {"x": middle + way * apart, "y": box["y"] + box["height"] / 2, "id": i}
            for i, way in enumerate((-1, 1))
        ]
        hand.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": places if apart else []}
        )
    assert state(figure)["times"] == pytest.approx(3, rel=0.05)
    page.context.close()


def test_wordmap_labels_do_not_overlap_and_grow_with_zoom(figure):
    counts = []
    put(figure, run="plain", word="ka")
    for _ in range(2):
        seen = state(figure)
        labels = seen["labels"]
        counts.append(len(labels) / (np.ptp(seen["x"]) * np.ptp(seen["y"])))
        for i, a in enumerate(labels):
            assert 0 <= a["left"] < a["right"] <= seen["width"]
            assert 0 <= a["top"] < a["bottom"] <= seen["height"]
            for b in labels[:i]:
                beside = a["left"] >= b["right"] or b["left"] >= a["right"]
                assert beside or a["top"] >= b["bottom"] or b["top"] >= a["bottom"], (a, b)
        for _ in range(3):
            figure.get_by_role("button", name="Zoom in").click()
    assert labels and counts[1] > 2 * counts[0]
    figure.get_by_role("button", name="Show all").click()


def test_wordmap_picks_out_a_class(figure):
    put(figure, run="plain", word="ka")
    button = figure.get_by_role("button", name="class 3")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    labelled = {label["word"] for label in state(figure)["labels"]}
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    own = set(wordmap()["classes"]["class 3"])
    assert len(labelled & own) > len({label["word"] for label in state(figure)["labels"]} & own)


def test_wordmap_of_three_thousand_words_is_below_a_megabyte():
    rng = np.random.default_rng(0)
    runs = {
        name: dict(vectors=rng.normal(size=(3000, 10)), places=rng.normal(size=(3000, 2)))
        for name in ("source", "collapsed", "best")
    }
    words = [f"{i:08d}" for i in range(3000)]
    data = dict(words=words, classes={"all": words}, runs=runs)
    assert len(html("wordmap", data)) < 1_000_000
