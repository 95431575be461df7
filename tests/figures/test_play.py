"""Playgrounds: what their HTML carries, how they behave in a real browser, and that SIGReg by hand is the package's."""

import base64
import json
import math
import re
import zlib
from contextlib import contextmanager
from functools import cache
from html import escape
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from browser import PHONE, STICKS_OUT, open_browser

from jepa_utils.figures import play
from jepa_utils.figures.play import play_html, script_files, show_play
from jepa_utils.figures.playgrounds import PLAYGROUNDS
from jepa_utils.objectives.sigreg import epps_pulley, sigreg
from jepa_utils.objectives.vicreg import covariance_penalty, variance_penalty
from jepa_utils.objectives.visreg import visreg

ROOT = Path(__file__).resolve().parents[2]
CAPTION = "Drag a point; </script><b>and</b> look at its shadow."
ALT = 'The "ring" looks right to VICReg, </script> and wrong to SIGReg'
STILL = '<svg viewBox="0 0 300 90" width="300" height="90"><circle cx="45" cy="45" r="40"/></svg>'


def html(name="sigreg", data=None, **change):
    return play_html(name, data, **dict(still=STILL, caption=CAPTION, alt=ALT) | change)


def data_of(text):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])


def decoded(packed):
    raw = zlib.decompress(base64.b64decode(packed["__array__"]))
    whole = np.frombuffer(raw, dtype=f"<u{packed['bits'] // 8}").reshape(packed["shape"])
    return packed["low"] + whole * packed["step"]


# --- data


@pytest.mark.parametrize("bits", [8, 16])
def test_floats_come_back_to_half_a_step(bits):
    array = np.random.default_rng(0).normal(size=(7, 3, 2)) * 40
    packed = data_of(html(data={"a": [{"deep": array}]}, bits=bits))["a"][0]["deep"]
    step = np.ptp(array) / (2**bits - 1)
    error = np.abs(decoded(packed) - array).max()
    assert packed["shape"] == [7, 3, 2] and step / 10 < error <= step / 2 * (1 + 1e-9)


@pytest.mark.parametrize(
    "array, bits",
    [
        (np.array([[-3, 252], [0, 7]]), 8),
        (np.arange(-5, 60_000, 777), 16),
        (np.array([True, False, True]), 8),
        (np.array([0, 255], dtype=np.uint8), 8),
        (np.array([0, 256]), 16),
    ],
)
def test_whole_numbers_are_exact(array, bits):
    packed = data_of(html(data={"a": array}, bits=8))["a"]
    assert packed["bits"] == bits and (decoded(packed) == array).all()


def test_an_array_of_one_value_comes_back():
    assert (decoded(data_of(html(data={"a": np.full(4, 0.3)}))["a"]) == 0.3).all()


def test_other_data_is_kept_as_it_is():
    data = {"t": "</script><b>", "n": None, "x": [1, 2.5, True], "np": np.float32(0.5)}
    assert data_of(html(data=data)) == data


@pytest.mark.parametrize(
    "change, error, words",
    [
        (
            dict(name="sigreg.js"),
            ValueError,
            r"name must be one of hero, lambdas, passages, photo_search, shadow, sigreg, spread, wordmap, got 'sigreg.js'",
        ),
        (dict(name="losses"), ValueError, r"name must be one of .*, got 'losses'"),
        (dict(name="../play"), ValueError, r"got '../play'"),
        (dict(bits=12), ValueError, "bits must be 8 or 16, got 12"),
        (dict(caption="short"), ValueError, "caption.*'short'"),
        (dict(alt=" " * 30), ValueError, "alt.*20 characters"),
        (dict(still="<p>no picture</p>"), TypeError, "still.*got str"),
        (dict(still=None), TypeError, "still.*got NoneType"),
        (
            dict(data={"a": {"b": np.array([1.0, math.nan])}}),
            ValueError,
            r"data\['a'\]\['b'\].*NaN",
        ),
        (
            dict(data={"a": [1.0, math.inf]}),
            ValueError,
            r"data\['a'\]\[1\] must be finite, got inf",
        ),
        (dict(data={"a": np.zeros((0, 2))}), ValueError, r"data\['a'\].*not empty.*\(0, 2\)"),
        (dict(data={"a": np.array(["x"])}), ValueError, r"data\['a'\].*numbers"),
        (dict(data={"a": {1, 2}}), TypeError, r"data\['a'\].*got set"),
        (dict(data={"a": {1: 2}}), TypeError, r"data\['a'\].*texts as keys, got 1"),
    ],
)
def test_bad_input_is_named_and_nothing_is_shown(change, error, words, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *args, **_: shown.append(args))
    settings = dict(name="sigreg", data=None, still=STILL, caption=CAPTION, alt=ALT) | change
    with pytest.raises(error, match=words):
        show_play(**settings)
    assert shown == []


# --- HTML


def test_shown_is_the_html_with_words_where_there_is_none(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append((data, raw)))
    show_play("sigreg", {"a": 1}, still=STILL, caption=CAPTION, alt=ALT)
    assert shown == [
        ({"text/html": html(data={"a": 1}), "text/plain": f"[playground sigreg] {CAPTION}"}, True)
    ]


@pytest.mark.parametrize("name", PLAYGROUNDS)
def test_nothing_comes_from_outside_and_nothing_is_evaluated(name):
    text = made(name)
    assert not re.search(
        r"https?:|url\(|@import|import\(|fetch\(|<link|<iframe|\beval\b|new Function|XMLHttp", text
    )
    sources = re.findall(r'\b(?:src|href)\s*=\s*["\']?([^"\'\s>]+)', text)
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    assert base64.b64decode(sources[0].partition(",")[2]).startswith(b"\x89PNG")
    assert not plt.get_fignums() and len(text) < 160_000


def test_words_are_escaped():
    text = html(data={"t": "</script><b>"})
    assert text.count("</script>") == text.count("<script") == 2 and "<b>" not in text
    assert (
        escape(CAPTION) in text and text.count(escape(ALT)) == 2
    )  # the picture and the playground


def test_shared_parts_come_first():
    shared = ["play.js", "playgrounds/losses.js", "playgrounds/shadows.js"]
    assert script_files("sigreg") == [*shared, "playgrounds/sigreg.js"]


# --- in a browser

EXAMPLE = re.search(r"   ```js\n(.*?)   ```\n", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[1]
COLOURS = """figure => { const style = getComputedStyle(figure)
  return Object.fromEntries(['back', 'ink', 'soft', 'key', 'edge', 1, 2, 3, 4, 5, 6].map(n => [n, style.getPropertyValue('--play-' + n).trim()])) }"""
SMALL = """figure => [...figure.querySelectorAll('button, input, select')]
  .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()]).filter(([, b]) => b.width < 24 || b.height < 24).map(([e]) => e)"""
NAMELESS = """figure => [...figure.querySelectorAll('button, input, select')]
  .filter(e => !(e.getAttribute('aria-label') || e.textContent || '').trim() && !e.closest('label')?.textContent.trim()).length"""
READ = "figure => Object.fromEntries([...figure.querySelectorAll('dd')].map(e => [e.dataset.name, [+e.dataset.value, e.textContent]]))"


@pytest.fixture(scope="module")
def browser():
    with open_browser() as found:
        yield found


@cache
def made(name):
    return play_html(name, **PLAYGROUNDS[name]())


@contextmanager
def opened(browser, folder, names=("sigreg", "sigreg", "hero"), scripts=True, setup="", **context):
    """A page of playgrounds, from a file, and what it said and asked for."""
    body = "".join(map(made, names))
    path = folder / "page.html"
    path.write_text(
        '<!doctype html><html data-theme="light"><head><title>Playgrounds</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"</head><body>{body}</body></html>"
    )
    page = browser.new_context(
        java_script_enabled=scripts, **{"viewport": {"width": 390, "height": 844}} | context
    ).new_page()
    page.errors, page.requests = [], []
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda r: page.requests.append(r.url))
    if setup:
        page.add_init_script(setup)
    page.goto(path.as_uri())
    page.own = path.as_uri()
    if scripts and not setup:
        page.wait_for_function(
            "n => [...document.querySelectorAll('figure')].filter(f => f.play).length === n",
            arg=len(names),
        )
        settle(page)
    yield page
    page.context.close()


def settle(page):
    """Until what was asked to be drawn is drawn."""
    page.evaluate("() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))")


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    with opened(browser, tmp_path_factory.mktemp("play")) as found:
        yield found
        assert found.errors == []  # to the end, whatever the tests did


def put(page, **changes):
    """Change the first playground, and return its state once it is drawn."""
    figure = page.locator("figure").first
    figure.evaluate("(figure, changes) => figure.play.set(changes)", changes)
    settle(page)
    return figure.evaluate("figure => figure.play.state()")


def shown(page, which="still"):
    return [f.is_visible() for f in page.locator(f".play-{which}").all()]


RNG = np.random.default_rng(1)
SETS = {
    "three": RNG.normal(size=(3, 2)),
    "sample": RNG.normal(size=(24, 2)),
    "shifted line": RNG.normal(size=(17, 1)) * [1.5, -0.7] + [1.0, 0.6],
    "nearly one spot": 0.01 * RNG.normal(size=(24, 2)) - [2.0, 1.0],
    "wide": RNG.uniform(-3.4, 3.4, size=(60, 2)),
    "zero": np.zeros((24, 2)),
}
# of equal shadows, rounding would say which comes first
SETS["shifted line"] += 0.02 * np.random.default_rng(2).normal(size=(17, 2))
ANGLES = torch.arange(64, dtype=torch.float64) * math.pi / 64
DIRECTIONS = torch.stack([ANGLES.cos(), ANGLES.sin()])


def torch_penalty(loss, points):
    if loss == "sigreg":
        return sigreg(points, directions=DIRECTIONS)
    if loss == "visreg":
        return visreg(points, directions=DIRECTIONS)
    return 25 * variance_penalty(points) + covariance_penalty(points)


@pytest.mark.parametrize("loss", ["sigreg", "vicreg", "visreg"])
@pytest.mark.parametrize("name", SETS)
def test_numbers_are_those_of_the_package(name, loss, page):
    angle, weight = 0.7, 0.3
    state = put(page, points=SETS[name].tolist(), angle=angle, loss=loss, **{"lambda": weight})
    points = torch.tensor(SETS[name], requires_grad=True)
    penalty = torch_penalty(loss, points)
    (penalty_gradient,) = torch.autograd.grad(penalty, points)
    again = torch.tensor(SETS[name], requires_grad=True)
    pull = (again - again.mean(dim=0)).square().mean()
    total = pull + weight * torch_penalty(loss, again)
    (gradient,) = torch.autograd.grad(total, again)
    close = dict(rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(state["penaltyGradient"], penalty_gradient, **close)
    np.testing.assert_allclose(state["gradient"], gradient, **close)
    shadow = points.detach() @ torch.tensor([math.cos(angle), math.sin(angle)], dtype=points.dtype)
    wanted = dict(
        count=len(points),
        statistic=epps_pulley(shadow),
        sigreg=sigreg(points.detach(), directions=DIRECTIONS),
        variance=variance_penalty(points.detach()),
        covariance=covariance_penalty(points.detach()),
        visreg=visreg(points.detach(), directions=DIRECTIONS),
        pull=pull.detach(),
        penalty=penalty.detach(),
        total=total.detach(),
    )
    read = page.locator("figure").first.evaluate(READ)
    assert set(read) == set(wanted)
    for key, value in {key: float(value) for key, value in wanted.items()}.items():
        assert read[key][0] == pytest.approx(value, abs=1e-6), key
        assert float(read[key][1].replace("\u2212", "-")) == pytest.approx(
            value, abs=0.0005, rel=0.01
        )


def test_terms_and_their_gradients_are_those_of_the_package(page):
    state = put(page, points=SETS["sample"].tolist(), loss="vicreg")
    for key, of in (("variance", variance_penalty), ("covariance", covariance_penalty)):
        points = torch.tensor(SETS["sample"], requires_grad=True)
        value = of(points)
        value.backward()
        assert state["terms"][key]["value"] == pytest.approx(value.item(), abs=1e-9)
        np.testing.assert_allclose(state["terms"][key]["gradient"], points.grad, atol=1e-9)


def test_terms_of_visreg_and_their_gradients_are_those_of_the_package(page):
    state = put(page, points=SETS["shifted line"].tolist(), loss="visreg")
    terms = ("scale", "shape", "center")
    assert set(state["terms"]) == set(terms)
    for key in terms:
        points = torch.tensor(SETS["shifted line"], requires_grad=True)
        value = visreg(points, directions=DIRECTIONS, **{t: float(t == key) for t in terms})
        value.backward()
        assert state["terms"][key]["value"] == pytest.approx(value.item(), abs=1e-9)
        np.testing.assert_allclose(state["terms"][key]["gradient"], points.grad, atol=1e-9)


def test_characteristic_function_is_that_of_the_shadow(page):
    angle = 2.5
    state = put(page, points=SETS["wide"].tolist(), angle=angle)
    shadow = SETS["wide"] @ [math.cos(angle), math.sin(angle)]
    t = np.linspace(-5, 5, 17)
    waves = np.exp(1j * np.outer(t, shadow)).mean(axis=1)
    np.testing.assert_allclose(
        state["characteristic"], np.stack([t, waves.real, waves.imag], axis=1), atol=1e-12
    )


def test_in_two_dimensions_64_directions_are_enough():
    """As the page says."""
    angles = torch.arange(1000, dtype=torch.float64) * math.pi / 1000
    many = torch.stack([angles.cos(), angles.sin()])
    for points in map(torch.tensor, SETS.values()):
        assert float(sigreg(points, directions=DIRECTIONS)) == pytest.approx(
            float(sigreg(points, directions=many)), abs=1e-6
        )


def test_four_corners_are_right_to_vicreg_and_wrong_to_sigreg(page):
    """As the page says; and at 0 no arrow is left."""
    put(page, loss="sigreg")
    figure = page.locator("figure").first
    figure.get_by_role("button", name="four corners").click()
    read = figure.evaluate(READ)
    assert read["variance"][0] < 0.01 and read["covariance"][0] < 0.01 and read["sigreg"][0] > 1.06
    figure.get_by_role("button", name="all at 0").click()
    state = figure.evaluate("figure => figure.play.state()")
    assert state["values"]["sigreg"] == pytest.approx(0.409 * 24, abs=0.01)
    assert np.abs(state["gradient"]).max() < 1e-12
    figure.locator(".play-said", has_text="The gradient is 0").wait_for()


def test_presets_replace_the_points(page):
    figure = page.locator("figure").first
    presets = PLAYGROUNDS["sigreg"]()["data"]["presets"]
    plt.close("all")
    for name, label in {"round": "round", "collapsed": "collapsed", "line": "line"}.items():
        figure.get_by_role("button", name=label, exact=True).click()
        points = figure.evaluate("figure => figure.play.state().points")
        np.testing.assert_allclose(points, presets[name], atol=1e-4)


# --- hands and keys


def handle(page, name):
    return page.locator("figure").first.get_by_role("button", name=re.compile(name))


def test_keys_move_a_point_and_go_to_the_next(page):
    put(page, points=[[0, 0], [1, 1], [-1, 2], [2, -1]])
    handle(page, "^Point 1 of 4").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown"):
        page.keyboard.press(key)
    settle(page)
    state = page.locator("figure").first.evaluate("figure => figure.play.state()")
    np.testing.assert_allclose(state["points"][0], [0.2, 0.09], atol=1e-9)
    assert handle(page, "^Point 1 of 4 at 0.2, 0.1").count() == 1
    page.keyboard.press("PageDown")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Delete")
    settle(page)
    points = page.locator("figure").first.evaluate("figure => figure.play.state().points")
    np.testing.assert_allclose(points, [[0.2, 0.09], [-1, 2], [2, -1]], atol=1e-9)
    assert page.evaluate("() => document.activeElement.className") == "play-handle"
    page.keyboard.press("Delete")  # three is the least
    assert handle(page, "^Point").count() == 3


def test_keys_stop_at_the_edge(page):
    put(page, points=[[3.45, 0], [1, 1], [-1, 2]])
    handle(page, "^Point 1 of 3").focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    points = page.locator("figure").first.evaluate("figure => figure.play.state().points")
    assert points[0] == [3.5, 0]


def test_the_points_are_one_stop_of_the_tab_key(page):
    put(page, points=SETS["sample"].tolist())
    stops = page.locator("figure").first.locator(".play-handle:not(.play-knob)[tabindex='0']")
    assert stops.count() == 1 and handle(page, "^Point").count() == 24


def test_a_point_is_dragged_to_where_the_hand_goes(page):
    put(page, points=[[0, 0], [2, 2], [-2, -2]])
    target = handle(page, "^Point 1")
    target.scroll_into_view_if_needed()
    box, other = target.bounding_box(), handle(page, "^Point 2").bounding_box()
    unit = (other["x"] - box["x"]) / 2  # pixels
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x + 3, y + 3)  # not quite in the middle: the point must not jump
    page.mouse.down()
    page.mouse.move(x + 3 + unit, y + 3)
    page.mouse.move(x + 3 + 1.5 * unit, y + 3 - unit, steps=3)
    page.mouse.up()
    page.mouse.move(x, y)
    settle(page)
    points = page.locator("figure").first.evaluate("figure => figure.play.state().points")
    np.testing.assert_allclose(points, [[1.5, 1], [2, 2], [-2, -2]], atol=0.02)
    assert target.evaluate("e => getComputedStyle(e).touchAction") == "none"


def test_a_finger_drags_a_point_and_the_page_stays(browser, tmp_path):
    with opened(browser, tmp_path, ["sigreg"], has_touch=True) as page:
        put(page, points=[[0, 0], [2, 2], [-2, -2]])
        box, other = (handle(page, f"^Point {n}").bounding_box() for n in (1, 2))
        unit = (other["x"] - box["x"]) / 2
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        hand = page.context.new_cdp_session(page)
        for kind, up in (
            ("touchStart", 0),
            ("touchMove", 0.5),
            ("touchMove", 1),
            ("touchEnd", None),
        ):
            places = [] if up is None else [{"x": x, "y": y - up * unit}]
            hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})
        settle(page)
        points = page.locator("figure").evaluate("figure => figure.play.state().points")
        np.testing.assert_allclose(points, [[0, 1], [2, 2], [-2, -2]], atol=0.02)
        assert page.evaluate("() => window.scrollY") == 0


def test_direction_turns_by_hand_key_and_slider(page):
    put(page, points=SETS["sample"].tolist(), angle=0)
    figure = page.locator("figure").first
    knob = handle(page, "^Direction at 0 degrees")
    knob.focus()
    page.keyboard.press("ArrowUp")
    settle(page)
    assert handle(page, "^Direction at 2 degrees").count() == 1
    slider = figure.locator("label", has_text="Direction").locator("input")
    assert slider.input_value() == "2"
    slider.fill("90")
    settle(page)
    state = figure.evaluate("figure => figure.play.state()")
    assert state["angle"] == pytest.approx(math.pi / 2)
    assert state["values"]["statistic"] == pytest.approx(
        float(epps_pulley(torch.tensor(SETS["sample"][:, 1]))), abs=1e-6
    )


def test_points_are_added_and_removed(page):
    put(page, points=SETS["three"].tolist())
    figure = page.locator("figure").first
    for name, count in (
        ("Remove one", 3),
        ("Add a point", 4),
        ("Add a point", 5),
        ("Remove one", 4),
    ):
        figure.get_by_role("button", name=name).click()
        settle(page)
        assert handle(page, "^Point").count() == figure.evaluate(READ)["count"][0] == count


def test_lambda_goes_from_nothing_to_ten(page):
    figure = page.locator("figure").first
    label = figure.locator("label", has_text="λ").locator("input").first
    seen = []
    for key in ("Home", "ArrowRight", "End"):
        label.press(key)
        seen.append(figure.evaluate("figure => figure.play.state().lambda"))
    assert seen == [0, pytest.approx(10**-3.05), 10]
    figure.get_by_role("button", name="λ = 0.02").click()
    assert figure.evaluate("figure => figure.play.state().lambda") == 0.02


@pytest.mark.parametrize("loss", ["sigreg", "vicreg", "visreg"])
def test_a_step_follows_the_gradient(loss, page):
    before = put(page, points=SETS["sample"].tolist(), loss=loss, **{"lambda": 1})
    figure = page.locator("figure").first
    figure.get_by_role("button", name="Step").first.click()
    after = figure.evaluate("figure => figure.play.state()")
    moved = np.subtract(after["points"], before["points"])
    down = -np.array(before["gradient"])
    size = (moved * down).sum() / (down * down).sum()
    assert size > 0
    np.testing.assert_allclose(moved, size * down, atol=1e-9)
    assert after["values"]["total"] < before["values"]["total"]


@pytest.mark.parametrize("weight, reached", [(0, lambda s: s < 0.05), (1, lambda s: 0.7 < s < 1.2)])
def test_play_collapses_without_the_penalty_and_not_with_it(weight, reached, page):
    figure = page.locator("figure").first
    put(page, points=SETS["three"].tolist(), loss="sigreg")
    put(page, points=(0.4 * SETS["sample"]).tolist(), **{"lambda": weight})
    figure.get_by_role("button", name="Play").click()
    assert figure.get_by_role("button", name="Pause").count() == 1
    page.wait_for_timeout(1500)
    button = figure.get_by_role("button", name=re.compile("Pause|Play"))
    if button.inner_text() == "Pause":
        button.click()
    points = figure.evaluate("figure => figure.play.state().points")
    assert reached(np.std(points)) and button.inner_text() == "Play"
    page.wait_for_timeout(150)
    assert figure.evaluate("figure => figure.play.state().points") == points


# --- the page around it


def test_no_request_and_every_playground_is_alive(page):
    assert page.requests[0] == page.own
    assert [url for url in page.requests[1:] if not url.startswith(("data:", "blob:"))] == []
    assert shown(page, "live") == [True] * 3 and shown(page) == [False] * 3


def test_no_id_stands_twice(page):
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_playgrounds_of_one_kind_are_two(page):
    second = page.locator("figure").nth(1)
    before = second.evaluate("figure => figure.play.state().points")
    put(page, points=SETS["three"].tolist())
    assert second.evaluate("figure => figure.play.state().points") == before


def test_it_fits_a_phone_and_a_desk(page):
    for width in (PHONE, 390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(60)
        assert page.evaluate(STICKS_OUT) == []
    page.set_viewport_size({"width": 390, "height": 844})
    settle(page)


def test_targets_are_large_enough_and_have_names(page):
    for figure in page.locator("figure").all():
        assert figure.evaluate(SMALL) == [] and figure.evaluate(NAMELESS) == 0


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def test_colours_are_legible_and_follow_the_theme(page):
    figure = page.locator("figure").first
    seen = {}
    for theme in ("dark", "light"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        settle(page)
        found = figure.evaluate(COLOURS)
        for name, least in (("ink", 7), ("soft", 4.5), *((str(n), 4.5) for n in range(1, 7))):
            assert contrast(found[name], found["back"]) >= least, (theme, name)
        assert contrast(found["ink"], found["key"]) >= 4.5
        assert contrast(found["edge"], found["back"]) >= 3
        seen[theme] = (found["back"], figure.locator("canvas").first.evaluate("c => c.toDataURL()"))
    assert seen["dark"][0] != seen["light"][0] and seen["dark"][1] != seen["light"][1]


def test_paper_gets_the_still_picture(page):
    page.emulate_media(media="print")
    assert shown(page) == [True] * 3 and shown(page, "live") == [False] * 3
    page.emulate_media(media="screen")
    assert shown(page) == [False] * 3


def test_the_ball_collapses_to_a_dot_and_comes_back(page):
    figure = page.locator("figure").nth(2)
    seen = {}
    for weight in (0, 1):
        figure.evaluate("(figure, weight) => figure.play.set({ lambda: weight })", weight)
        seen[weight] = figure.evaluate("figure => figure.play.state()")
    assert seen[0]["spread"] < 0.03
    # rounder than a sample, to the package's SIGReg
    assert float(sigreg(torch.tensor(seen[1]["points"]), directions=DIRECTIONS)) < 1.06


def test_touching_the_ball_pushes_it(page):
    figure = page.locator("figure").nth(2)
    before = figure.evaluate("figure => figure.play.state().points")
    canvas = figure.locator("canvas")
    canvas.scroll_into_view_if_needed()
    canvas.hover()
    assert figure.evaluate("figure => figure.play.state().points") != before


def test_without_scripts_the_still_stands_there(browser, tmp_path):
    with opened(browser, tmp_path, scripts=False) as page:
        assert shown(page) == [True] * 3 and shown(page, "live") == [False] * 3
        drawn = page.locator(".play-still img").evaluate_all("l => l.map(e => e.naturalWidth > 0)")
        assert drawn == [True] * 3 and page.evaluate(STICKS_OUT) == []


def test_where_data_cannot_be_read_the_still_stands_there(browser, tmp_path):
    with opened(browser, tmp_path, ["sigreg"], setup="delete window.DecompressionStream") as page:
        page.wait_for_function("() => document.querySelector('figure[data-started]')")
        page.wait_for_timeout(100)
        assert shown(page) == [True] and shown(page, "live") == [False]
        assert any("DecompressionStream" in error for error in page.errors)


def test_less_motion_shows_the_end_at_once(browser, tmp_path):
    with opened(browser, tmp_path, ["sigreg"], reduced_motion="reduce") as page:
        figure = page.locator("figure")
        put(page, points=SETS["sample"].tolist(), **{"lambda": 0})
        figure.get_by_role("button", name="Play").click()
        points = figure.evaluate("figure => figure.play.state().points")
        assert np.std(points, axis=0).max() < 0.01
        assert figure.get_by_role("button", name="Play").count() == 1


def test_nothing_plays_unasked(browser, tmp_path):
    with opened(browser, tmp_path) as page:
        before = [f.evaluate("f => f.play.state().points") for f in page.locator("figure").all()]
        page.wait_for_timeout(400)
        after = [f.evaluate("f => f.play.state().points") for f in page.locator("figure").all()]
        assert after == before and page.errors == []


def add_playground(monkeypatch, folder, name, script, data):
    """For one test, a playground in a copy of the room."""
    copy = folder / "figures"
    (copy / "playgrounds").mkdir(parents=True)
    for part in ("play.js", "play.css"):
        (copy / part).write_text(play.FOLDER.joinpath(part).read_text())
    (copy / "playgrounds" / f"{name}.js").write_text(script)
    monkeypatch.setattr(play, "FOLDER", copy)
    settings = dict(data=data, still=STILL, caption=CAPTION, alt=ALT)
    monkeypatch.setitem(PLAYGROUNDS, name, lambda: settings)


def test_the_example_of_the_guide_works(browser, tmp_path, monkeypatch):
    assert len(EXAMPLE.splitlines()) <= 30
    add_playground(monkeypatch, tmp_path, "wave", EXAMPLE, {"times": np.linspace(0, 10, 200)})
    with opened(browser, tmp_path, ["wave"]) as page:
        slider = page.locator("figure input")
        pictures = [page.locator("canvas").evaluate("c => c.toDataURL()")]
        slider.fill("2.5")
        settle(page)
        pictures.append(page.locator("canvas").evaluate("c => c.toDataURL()"))
        assert page.locator("figure").evaluate(READ)["end"][0] == pytest.approx(math.cos(25))
        page.locator(".play-said", has_text="The wave ends at 0.991.").wait_for()
        assert pictures[0] != pictures[1] and page.errors == []


def test_arrays_are_read_in_the_page_as_they_were_written(browser, tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    arrays = {"float": rng.normal(size=(4, 3, 2)), "whole": np.arange(12).reshape(3, 4) * 500 - 7}
    script = """play.add("echo", (root, data) => ({ read: () => Object.fromEntries(Object.entries(data).map(([n, a]) =>
      [n, { values: [...a.values], shape: a.shape, row: [...a.row(1)], at: a.at(...a.shape.map(s => s - 1)) }])) }));"""
    add_playground(monkeypatch, tmp_path, "echo", script, arrays)
    with opened(browser, tmp_path, ["echo"]) as page:
        read = page.locator("figure").evaluate("figure => figure.play.read()")
    for name, array in arrays.items():
        half = 0 if name == "whole" else np.ptp(array) / (2**16 - 1) / 2 + 1e-12
        assert read[name]["shape"] == list(array.shape)
        assert np.abs(np.reshape(read[name]["values"], array.shape) - array).max() <= half
        assert np.abs(np.array(read[name]["row"]) - array[1].ravel()).max() <= half
        assert abs(read[name]["at"] - array.ravel()[-1]) <= half


def test_stills_are_svg_or_png():
    fig = plt.figure()
    image = html(still=fig)
    assert 'src="data:image/png;base64,' in image and not plt.get_fignums()
    assert f'role="img" aria-label="{escape(ALT)}">{STILL}' in html()


def test_where_a_playground_breaks_the_still_stands_there(browser, tmp_path, monkeypatch):
    add_playground(
        monkeypatch, tmp_path, "bad", 'play.add("bad", () => { throw Error("no") });', {}
    )
    with opened(browser, tmp_path, ["bad"], setup="void 0") as page:
        page.wait_for_function("() => document.querySelector('figure[data-started]')")
        page.wait_for_timeout(100)
        assert shown(page) == [True] and shown(page, "live") == [False]
        assert any("Error: no" in error for error in page.errors)
