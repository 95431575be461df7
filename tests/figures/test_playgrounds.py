"""The chapters' playgrounds in a real browser: their numbers are the package's, and hands and keys reach everything."""

import json
import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from browser import STICKS_OUT, open_browser

from jepa_utils.evaluation.neighbours import nearest_neighbours
from jepa_utils.figures.play import play_html
from jepa_utils.objectives.sigreg import epps_pulley, sigreg
from jepa_utils.objectives.vicreg import covariance_penalty, variance_penalty
from jepa_utils.objectives.visreg import visreg

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


@cache
def shadow():
    cigar = np.random.default_rng(0).normal(size=(300, 2)) * np.sqrt([4.1, 0.02])
    return {"points": cigar, "angle": 20}


@cache
def spread():
    return {"points": np.random.default_rng(0).normal(size=(96, 2)) * 3 + 1}


@cache
def lambdas():
    rng = np.random.default_rng(0)
    grown = rng.normal(size=(3, 4, 1, 1)) * rng.normal(size=(3, 4, 50, 2))
    scores = dict(r2=rng.uniform(-0.1, 1, size=(3, 4)), isotropy=rng.uniform(size=(3, 4)))
    weights, times = [0, 0.01, 1.0], [0, 5, 10, 40]
    return dict(lambdas=weights, epochs=times, places=grown, colour=np.arange(50) / 50, **scores)


DATA = {"wordmap": wordmap, "shadow": shadow, "spread": spread, "lambdas": lambdas}


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
    put(figure, run="plain", word="ka")
    stage = figure.locator(".play-stage")
    stage.press("0")
    whole = state(figure)
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
    put(figure, run="plain", word="ka")
    page, stage = figure.page, figure.locator(".play-stage")
    figure.get_by_role("button", name="Show all").click()
    whole = state(figure)
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
    assert state(figure)["run"] == "collapsed" and state(figure)["times"] >= 1


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


def test_wordmap_begins_where_most_words_are_and_brings_a_word_into_view(figure):
    places = wordmap()["runs"]["plain"]["places"]
    far = wordmap()["words"][places[:, 0].argmax()]
    near = wordmap()["words"][np.abs(places - np.median(places, axis=0)).sum(axis=1).argmin()]

    def inside(seen):
        return np.all(
            (places > [seen["x"][0], seen["y"][0]]) & (places < [seen["x"][1], seen["y"][1]]),
            axis=1,
        )

    seen = put(figure, run="plain", word=near)
    assert seen["times"] > 1 and 0.9 < inside(seen).mean()
    stage = figure.locator(".play-stage")
    assert stage.evaluate("e => e.style.touchAction") == "pan-y"  # a finger scrolls the page
    for _ in range(6):
        stage.press("+")
    assert stage.evaluate("e => e.style.touchAction") == "none"
    assert not inside(state(figure))[places[:, 0].argmax()]
    figure.get_by_label("Find a word").fill(far)
    figure.get_by_label("Find a word").press("Enter")
    after = state(figure)
    assert after["word"] == far and after["x"][0] < places[:, 0].max() <= after["x"][1]


def test_wordmap_is_pinched_by_two_fingers(browser, tmp_path):
    page = open_page(browser, tmp_path, html("wordmap"), has_touch=True)
    figure = page.locator("figure")
    box = figure.locator(".play-stage").bounding_box()
    figure.locator(".play-stage").press("0")
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
    figure.get_by_role("button", name="Show all").click()
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


# --- the shadow


def line(angle):
    return torch.tensor([[math.cos(angle)], [math.sin(angle)]], dtype=torch.float64)


DIRECTIONS = torch.cat([line(math.pi * j / 64) for j in range(64)], dim=1)


def test_shadow_shows_the_penalty_of_its_direction(figure):
    for angle in (0.0, 0.7, 2.5, math.acos(math.sqrt(0.98 / 4.08))):
        seen = put(figure, angle=angle)
        points = torch.tensor(seen["points"], dtype=torch.float64)
        half = np.ptp(shadow()["points"]) / (2**16 - 1) / 2
        np.testing.assert_allclose(points, shadow()["points"], atol=half * 1.001)
        shown = read(figure)
        assert shown["statistic"] == pytest.approx(
            float(sigreg(points, directions=line(angle))), abs=1e-4
        )
        np.testing.assert_allclose(seen["shadow"], (points @ line(angle))[:, 0], atol=1e-12)
        assert shown["variance"] == pytest.approx(np.var(seen["shadow"], ddof=1), abs=1e-9)
        assert shown["sigreg"] == pytest.approx(
            float(sigreg(points, directions=DIRECTIONS)), abs=1e-4
        )


def test_shadow_dials_the_penalty_of_every_direction(figure):
    seen = state(figure)
    points = torch.tensor(seen["points"], dtype=torch.float64)
    wanted = [float(sigreg(points, directions=line(math.radians(d)))) for d in range(180)]
    np.testing.assert_allclose(seen["all"], wanted, atol=1e-4)
    for name, best in (("Lowest T", np.argmin), ("Highest T", np.argmax)):
        figure.get_by_role("button", name=name).click()
        assert math.degrees(state(figure)["angle"]) == pytest.approx(best(wanted))
        assert read(figure)["statistic"] == pytest.approx(wanted[best(wanted)], abs=1e-4)


def test_shadow_knows_what_a_gaussian_sample_gets(figure):
    samples = torch.randn(20, 1000, 50, 1, generator=torch.Generator().manual_seed(0)).double()
    along = torch.ones(1, 1, dtype=torch.float64)
    values = np.array([float(sigreg(some, directions=along)) for some in samples])
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert read(figure)["bell"] == pytest.approx(values.mean(), abs=4 * error)


def test_shadow_turns_by_key_hand_and_slider(figure):
    put(figure, angle=0)
    knobs = figure.get_by_role("button", name="Direction at 0 degrees")
    assert knobs.count() == 2  # on the cloud and on the dial
    for n in range(2):
        figure.locator(".play-knob").nth(n).press("ArrowUp")
    assert math.degrees(state(figure)["angle"]) == pytest.approx(4)
    figure.get_by_role("slider", name="Direction").press("ArrowRight")
    assert math.degrees(state(figure)["angle"]) == pytest.approx(5)
    page, stage = figure.page, figure.locator(".play-stage").first
    put(figure, angle=0)
    stage.scroll_into_view_if_needed()
    box, knob = stage.bounding_box(), figure.locator(".play-knob").first.bounding_box()
    x, y = knob["x"] + knob["width"] / 2, knob["y"] + knob["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, box["y"] + 10, steps=5)
    page.mouse.up()
    assert 30 < math.degrees(state(figure)["angle"]) < 60


# --- the spread

PENALTIES = {
    "sigreg": lambda x: sigreg(x, directions=DIRECTIONS),
    "vicreg": lambda x: 25 * variance_penalty(x) + covariance_penalty(x),
    "visreg": lambda x: visreg(x, directions=DIRECTIONS),
}


def penalty_and_push(of, base, value):
    size = torch.tensor(float(value), dtype=torch.float64, requires_grad=True)
    penalty = of(size * torch.tensor(base, dtype=torch.float64))
    penalty.backward()
    return float(penalty.detach()), -float(size.grad)


@pytest.mark.parametrize("value", [0, 0.001, 0.05, 0.5, 1, 2])
def test_spread_pushes_as_the_package_does(value, figure):
    seen = put(figure, spread=value)
    assert set(seen["losses"]) == set(PENALTIES)  # each loss of losses.js is compared
    base, shown = np.array(seen["base"]), read(figure)
    given = spread()["points"] - spread()["points"].mean(axis=0)
    given /= math.sqrt(given.var(axis=0, ddof=1).mean())
    np.testing.assert_allclose(base, given, atol=2e-4)
    for key in PENALTIES:
        penalty, push = penalty_and_push(PENALTIES[key], base, value)
        assert shown[key] == pytest.approx(penalty, abs=1e-4)
        assert shown[f"{key}-push"] == pytest.approx(push, abs=1e-4)
    flat = torch.tensor(value * base[:, 0])
    assert shown["area"] == pytest.approx(float(epps_pulley(flat)) / len(base), abs=1e-6)
    waves = np.exp(0.9j * value * base[:, 0]).mean()
    np.testing.assert_allclose(seen["mean"], [waves.real, waves.imag], atol=1e-9)


def test_spread_of_one_term_is_the_package_s(browser, tmp_path):
    terms = {
        "vicreg.variance": variance_penalty,
        "visreg.scale": lambda x: visreg(x, directions=DIRECTIONS, shape=0, center=0),
    }
    page = open_page(browser, tmp_path, html("spread", spread() | {"losses": list(terms)}))
    figure = page.locator("figure")
    base = put(figure, spread=0.05)["base"]
    for key, term in terms.items():
        penalty, push = penalty_and_push(term, base, 0.05)
        assert read(figure)[key] == pytest.approx(penalty, abs=1e-4)
        assert read(figure)[f"{key}-push"] == pytest.approx(push, abs=1e-4)
    assert figure.get_by_text("VISReg's scale term", exact=True).count() == 2
    page.context.close()


def test_spread_curves_are_relative_to_that_at_a_half(figure):
    seen = state(figure)
    for key in PENALTIES:
        half = abs(penalty_and_push(PENALTIES[key], seen["base"], 0.5)[1])
        for i in (0, 20, 44):
            push = penalty_and_push(PENALTIES[key], seen["base"], 10 ** seen["powers"][i])[1]
            assert seen["curves"][key][i] == pytest.approx(push / half, abs=1e-4)


def test_spread_at_a_hundredth_sigreg_is_faint_and_vicreg_is_not(figure):
    """As the picture is to show."""
    shown = {value: (put(figure, spread=value), read(figure))[1] for value in (0, 0.01, 0.5)}
    sigreg_left, vicreg_left = (
        shown[0.01][f"{key}-push"] / shown[0.5][f"{key}-push"] for key in ("sigreg", "vicreg")
    )
    assert sigreg_left < 0.1 and vicreg_left > 0.5
    assert shown[0]["sigreg-push"] == 0


def test_spread_is_pulled_by_key_hand_slider_and_button(figure):
    put(figure, spread=1)
    knob = figure.locator(".play-knob")
    knob.press("ArrowUp")
    assert state(figure)["spread"] == pytest.approx(10**0.05)
    slider = figure.get_by_role("slider", name="Spread")
    slider.press("Home")
    assert state(figure)["spread"] == 0
    figure.locator(".play-said", has_text="SIGReg exactly 0").wait_for()
    slider.press("End")
    assert state(figure)["spread"] == 2
    figure.get_by_role("button", name="0.5").click()
    assert state(figure)["spread"] == 0.5
    page = figure.page
    knob.scroll_into_view_if_needed()
    box, stage = knob.bounding_box(), figure.locator(".play-stage").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.05 * stage["width"], y - 0.05 * stage["width"], steps=4)
    page.mouse.up()
    assert 0.8 < state(figure)["spread"] < 1.5


# --- the film with a lambda


def test_lambdas_shows_the_frame_and_its_scores(figure):
    data = lambdas()
    for weight, epoch in ((0, 0), (1, 3), (2, 2)):
        seen = put(figure, **{"lambda": weight, "epoch": epoch})
        step = np.ptp(data["places"]) / (2**16 - 1)
        np.testing.assert_allclose(seen["points"], data["places"][weight, epoch], atol=step)
        shown = read(figure)
        assert shown["lambda"] == data["lambdas"][weight]
        assert shown["epoch"] == data["epochs"][epoch]
        for name in ("r2", "isotropy"):
            assert shown[name] == pytest.approx(data[name][weight, epoch], abs=1e-4)


def test_lambdas_begins_at_the_end_of_the_first(browser, tmp_path):
    page = open_page(
        browser, tmp_path, html("lambdas") + html("lambdas", lambdas() | {"lambda": 1})
    )
    first, second = (state(figure) for figure in page.locator("figure").all())
    assert (first["lambda"], first["epoch"]) == (0, 3) and second["lambda"] == 2
    page.context.close()


def test_lambdas_sliders_take_keys(figure):
    put(figure, **{"lambda": 0, "epoch": 0})
    figure.get_by_role("slider", name="λ").press("ArrowRight")
    for _ in range(2):
        figure.get_by_role("slider", name="Epoch").press("ArrowRight")
    seen = state(figure)
    assert (seen["lambda"], seen["epoch"]) == (1, 2)
    figure.locator(".play-said", has_text="λ = 0.01, epoch 10").wait_for()


def test_lambdas_plays_when_asked_and_to_the_end(figure):
    put(figure, **{"lambda": 0, "epoch": 3})
    seen = figure.evaluate("""figure => new Promise(done => {
      const button = [...figure.querySelectorAll('button')].find(b => b.textContent === 'Play'), seen = []
      button.click()
      const timer = setInterval(() => {
        seen.push(figure.play.state().epoch)
        if (button.textContent === 'Play') { clearInterval(timer); done(seen) }
      }, 10) })""")
    assert sorted(set(seen)) == [0, 1, 2, 3] and seen[-1] == 3
    assert [epoch for epoch in dict.fromkeys(seen) if epoch < 3] == [0, 1, 2]
    figure.get_by_role("button", name="Step").click()
    assert state(figure)["epoch"] == 0


def test_lambdas_shows_the_end_where_less_motion_is_wanted(browser, tmp_path):
    page = open_page(browser, tmp_path, html("lambdas"), reduced_motion="reduce")
    figure = page.locator("figure")
    put(figure, epoch=1)
    figure.get_by_role("button", name="Play").click()
    assert state(figure)["epoch"] == 3 and figure.get_by_role("button", name="Play").count() == 1
    page.context.close()


def test_lambdas_magnifies(figure):
    seen = put(figure, **{"lambda": 1, "epoch": 1})
    largest = np.abs(lambdas()["places"]).max()
    assert seen["limit"] == pytest.approx(1.05 * largest, rel=1e-3)
    figure.get_by_role("button", name="Magnify").click()
    assert state(figure)["limit"] == pytest.approx(
        1.1 * np.abs(lambdas()["places"][1, 1]).max(), rel=1e-3
    )
    figure.get_by_role("button", name="Magnify").click()
    assert state(figure)["limit"] == seen["limit"]
