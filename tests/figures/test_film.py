"""The film: what its HTML carries, and how it behaves in a real browser, with scripts and without."""

import base64
import json
import math
import re
from html import escape
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from browser import PHONE, STICKS_OUT, open_browser

from jepa_utils.figures.film import SHADES, show_player
from jepa_utils.figures.style import LINES

FRAMES, POINTS, LIMIT = 11, 40, 2.0
NAMES = ("plain", "</script><b>bold & co")
CAPTION = "Each dot is a point; </script><b>axes</b> are in units of its spread."
ALT = 'The "cloud" opens up in the first three epochs'


def film(**change):
    """Two runs: one within the axes, one that leaves them."""
    rng = np.random.default_rng(0)
    views = dict(
        zip(
            NAMES,
            rng.uniform(-LIMIT, LIMIT, size=(2, FRAMES, POINTS, 2))
            * np.array([1, 3])[:, None, None, None],
        )
    )
    ramp = np.linspace(0, 1, FRAMES)
    readings = {
        name: {"rank": ramp, "loss </script>": 10 - ramp * (1 + i)} for i, name in enumerate(views)
    }
    settings = dict(
        views=views,
        colour=np.arange(POINTS),
        readings=readings,
        track="rank",
        limit=LIMIT,
        unit="epoch",
    )
    return settings | dict(caption=CAPTION, alt=ALT) | change


def render(monkeypatch, **change):
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, **_: outputs.append(data))
    show_player(**film(**change))
    (output,) = outputs
    return output


def data_of(html):
    return json.JSONDecoder().raw_decode(html, html.index("DATA = ") + len("DATA = "))[0]


def decoded(text, *shape):
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(shape)


def test_nothing_comes_from_outside(monkeypatch):
    html = render(monkeypatch)["text/html"]
    assert not re.search(r"https?:|url\(|@import|import\(|fetch\(|<link|<iframe", html)
    sources = re.findall(r'\b(?:src|href)\s*=\s*["\']?([^"\'\s>]+)', html)
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    assert base64.b64decode(sources[0].partition(",")[2]).startswith(b"\x89PNG")


def test_bytes_give_back_the_coordinates_and_stop_at_the_limit(monkeypatch):
    settings = film()
    outside = np.abs(settings["views"][NAMES[1]]) > LIMIT
    assert outside.any()
    for name, view in zip(NAMES, data_of(render(monkeypatch)["text/html"])["views"], strict=True):
        places = decoded(view["points"], FRAMES, POINTS, 2) / 255 * 2 * LIMIT - LIMIT
        expected = np.clip(settings["views"][name], -LIMIT, LIMIT)
        assert np.abs(places - expected).max() <= 2 * LIMIT / 255 / 2 + 1e-9
    assert (np.abs(places[outside]) == LIMIT).all() and (np.sign(places) == np.sign(expected))[
        outside
    ].all()


def test_a_limit_may_follow_a_run_as_it_shrinks(monkeypatch):
    size = 0.0123456 * 0.5 ** np.arange(FRAMES)
    shrinking = {NAMES[1]: GOOD[NAMES[0]] / LIMIT * size[:, None, None]}
    limit = {NAMES[0]: LIMIT, NAMES[1]: size}
    html = render(monkeypatch, views=GOOD | shrinking, limit=limit)["text/html"]
    same, magnified = data_of(html)["views"]
    assert same["points"] == magnified["points"] and same["limit"] == [LIMIT] * FRAMES
    assert magnified["limit"][:2] == [0.012, 0.0062]  # what the axes say


def test_data_carries_shades_readings_and_track(monkeypatch):
    data = data_of(render(monkeypatch)["text/html"])
    assert (data["frames"], data["unit"], data["track"]) == (FRAMES, "epoch", "rank")
    assert [view["limit"] for view in data["views"]] == [[LIMIT] * FRAMES] * 2
    shades = decoded(data["shade"], POINTS)
    assert (
        shades[0] == 0
        and shades[-1] == SHADES - 1 == len(data["palette"]) - 1
        and (np.diff(shades.astype(int)) >= 0).all()
    )
    assert [view["track"] for view in data["views"]] == [
        [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    ] * 2
    assert data["views"][1]["readings"][2] == "rank 0.2, loss </script> 9.6"
    assert (
        data["views"][0]["colour"] != data["views"][1]["colour"]
        and data["views"][0]["dash"] != data["views"][1]["dash"]
    )


def test_lines_of_the_film_are_those_of_the_still(monkeypatch):
    names = [str(n) for n in range(len(LINES))]
    html = render(
        monkeypatch, views=dict.fromkeys(names, GOOD["plain"]), readings=dict.fromkeys(names, RAMP)
    )["text/html"]
    dash = dict(zip(LINES, (view["dash"] for view in data_of(html)["views"]), strict=True))
    assert (dash["-"], dash["--"], dash[0, (3, 1, 1, 1)]) == (
        [],
        [7.4, 3.2],
        [6, 2, 2, 2],
    )  # for lines 2 pixels wide
    assert len(set(map(tuple, dash.values()))) == len(dash) == len(set(LINES))


def test_one_colour_for_all_is_fine(monkeypatch):
    data = data_of(render(monkeypatch, colour=np.full(POINTS, 3.0))["text/html"])
    assert (decoded(data["shade"], POINTS) == 0).all()


def test_names_captions_and_units_are_escaped(monkeypatch):
    html = render(monkeypatch, unit='"><i>epoch')["text/html"]
    assert html.count("</script>") == html.count("<script>") == 1 and html.endswith("</script>")
    assert not re.search(r"<b>|<i>", html)
    for text in (NAMES[1], CAPTION, ALT, '"><i>epoch'):
        assert escape(text) in html


def test_the_same_film_gives_the_same_output(monkeypatch):
    first = render(monkeypatch)
    assert first == render(monkeypatch)
    other = render(monkeypatch, limit=3.0)["text/html"]
    identities = [
        re.search(r'<figure id="([^"]+)"', html)[1] for html in (first["text/html"], other)
    ]
    assert identities[0] != identities[1] and all(
        f'ID = "{i}"' in h for i, h in zip(identities, (first["text/html"], other))
    )


def test_text_stands_in_where_no_html_is_shown_and_no_figure_stays_open(monkeypatch):
    output = render(monkeypatch)
    assert output["text/plain"] == f"[film of {FRAMES} frames, {POINTS} points] {CAPTION}"
    assert not plt.get_fignums()


def changed(array, where, value):
    array = np.array(array, dtype=float)
    array[where] = value
    return array


GOOD = film()["views"]
RAMP = {"rank": np.linspace(0, 1, FRAMES)}


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(views={}), r"views.*\{\}"),
        (
            dict(views={"a": GOOD["plain"], "b": GOOD["plain"][:, :5]}),
            r"views.*one shape.*\(11, 5, 2\)",
        ),
        (dict(views={"a": np.zeros((6, 2))}), r"views.*\(6, 2\)"),
        (dict(views={"a": np.zeros((1, 40, 2))}), r"views.*at least 2 frames.*\(1, 40, 2\)"),
        (dict(views={"a": np.zeros((6, 40, 3))}), r"views.*\(6, 40, 3\)"),
        (dict(views=GOOD | {"plain": changed(GOOD["plain"], (0, 0, 0), math.nan)}), "views.*NaN"),
        (
            dict(views=GOOD | {"plain": changed(GOOD["plain"], (5, 3, 1), math.inf)}),
            "views.*infinity",
        ),
        (dict(colour=np.arange(39)), r"colour.*\(40,\).*\(39,\)"),
        (dict(colour=np.zeros((40, 3))), r"colour.*\(40, 3\)"),
        (dict(limit=0.0), "limit.*0.0"),
        (dict(limit={"plain": 1.0}), r"^limit must name the views .*got \['plain'\]"),
        (dict(limit=dict.fromkeys(NAMES, [1.0] * 5)), r"^limit of 'plain' .* 11, got \(5,\)"),
        (dict(limit=dict.fromkeys(NAMES, [1.0] * 10 + [0.0])), "^limit must be positive"),
        (dict(limit=-1.0), "limit.*-1.0"),
        (dict(limit=math.nan), "limit.*nan"),
        (dict(limit=math.inf), "^limit.*inf"),
        (
            dict(views={name: np.zeros((11, 0, 2)) for name in NAMES}, colour=np.zeros(0)),
            r"^views.*point.*\(11, 0, 2\)",
        ),
        (dict(track="absent"), "readings of 'plain'.*'absent'"),
        (dict(readings={"plain": RAMP}), "readings of '</script><b>bold & co'.*'rank'"),
        (
            dict(readings={name: {"rank": [0.0] * 5} for name in NAMES}),
            "readings of 'plain'.*11 values.*5",
        ),
        (
            dict(readings={name: RAMP | {"loss": [0.0] * 7} for name in NAMES}),
            "readings of 'plain'.*11 values.*7",
        ),
        (dict(caption="short"), "caption.*'short'"),
        (dict(alt=" " * 30), "alt.*20 characters"),
    ],
)
def test_bad_input_is_named_and_nothing_is_shown(change, words, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *args, **_: shown.append(args))
    with pytest.raises(ValueError, match=words):
        show_player(**film(**change))
    assert shown == [] and not plt.get_fignums()


@pytest.mark.parametrize(
    "change",
    [
        dict(colour=changed(np.arange(POINTS), 3, math.nan)),
        dict(readings={name: {"rank": changed(RAMP["rank"], 2, math.nan)} for name in NAMES}),
        dict(readings={name: {"rank": changed(RAMP["rank"], 2, math.inf)} for name in NAMES}),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_number_that_is_not_finite_is_an_error(change, monkeypatch):
    with pytest.raises(ValueError, match=next(iter(change))):
        render(monkeypatch, **change)


def test_colours_may_be_true_and_false(monkeypatch):
    marks = np.arange(POINTS) < 7
    assert render(monkeypatch, colour=marks) == render(monkeypatch, colour=marks * 1.0)


def test_nine_views_are_an_error_that_says_so(monkeypatch):
    names = list("abcdefghi")
    with pytest.raises(ValueError, match="views"):
        render(
            monkeypatch,
            views=dict.fromkeys(names, GOOD["plain"]),
            readings=dict.fromkeys(names, RAMP),
        )


# ---- in a browser

STATE = """figure => ({
  still: figure.querySelector('.film-still img').checkVisibility(), film: figure.querySelector('.film').checkVisibility(),
  count: figure.querySelector('.film-count').textContent, value: +figure.querySelector('input').value,
  spoken: figure.querySelector('input').getAttribute('aria-valuetext'), button: figure.querySelector('button').textContent,
  readings: [...figure.querySelectorAll('.film-reading')].map(e => e.textContent),
  pictures: [...figure.querySelectorAll('canvas')].map(c => c.toDataURL()),
  names: [...figure.querySelectorAll('strong')].map(e => e.textContent), bold: figure.querySelectorAll('b').length })"""

# Colour of a canvas at a place from 0 to 1, from the left and from the top.
PIXEL = """(canvas, [x, y]) =>
  [...canvas.getContext('2d').getImageData(Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data]"""


# Size of a film, how many clouds stand in its first row, and its filter: light, dark, and on paper.
TRIO = """async film => {
  await new Promise(requestAnimationFrame)
  const box = film.getBoundingClientRect(), tops = [...film.querySelectorAll('.film-views canvas')].map(c => c.getBoundingClientRect().top)
  const parts = [...film.querySelectorAll('canvas, button, input')].map(e => e.getBoundingClientRect())
  const light = getComputedStyle(film).filter
  document.documentElement.dataset.theme = 'dark'
  const dark = getComputedStyle(film).filter
  delete document.documentElement.dataset.theme
  return { height: box.height, row: tops.filter(t => t === tops[0]).length, light, dark,
           within: parts.every(p => p.top >= box.top && p.bottom <= box.bottom) }
}"""


def drive(page, seen):
    """Use the film as a reader would, and note its state after each act."""
    figure, slider, button = (
        page.locator(f"#film {name}".strip()) for name in ("figure", "input", "button")
    )
    moved = "value => +document.querySelector('#film input').value >= value"

    def note(name):
        seen.states[name] = figure.evaluate(STATE)

    note("at first")
    slider.focus()
    for key in ("ArrowLeft", "Home", "ArrowRight"):
        page.keyboard.press(key)
        note(key)
    button.click()
    page.wait_for_function(moved, arg=3)
    note("playing")
    button.click()
    note("paused")
    page.wait_for_timeout(450)  # more than two frames
    note("still paused")
    button.click()
    page.wait_for_function("() => document.querySelector('#film button').textContent === 'Play'")
    note("at the end")
    button.click()
    note("from the start")
    slider.focus()
    page.keyboard.press("ArrowRight")
    note("moved while playing")
    page.wait_for_timeout(300)
    note("after the move")


def place_and_look(page, seen):
    """One dot, left and high in the first frame, right and low in the last."""
    canvas = page.locator("#dot canvas").first
    for key in ("Home", "End"):
        page.locator("#dot input").focus()
        page.keyboard.press(key)
        seen.pixels[key] = [
            canvas.evaluate(PIXEL, place) for place in ([0.25, 0.25], [0.75, 0.75], [0.25, 0.75])
        ]


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """Notes of one visit with scripts and one without, to a page of four films: two unlike, and two that differ in words."""
    dot = dict(
        views={"dot": np.array([[[-1.0, 1.0]], [[1.0, -1.0]]])},
        colour=np.zeros(1),
        readings={"dot": {"rank": [0, 1]}},
    )
    twin = film(views={"twin": GOOD["plain"]}, readings={"twin": RAMP})
    names = ("SIGReg", "prediction alone", "prediction alone, magnified")
    more = {"R²": RAMP["rank"], "spread": RAMP["rank"], "effective rank": RAMP["rank"]}
    trio = film(
        views=dict.fromkeys(names, GOOD["plain"]),
        readings=dict.fromkeys(names, more | {"SIGReg": 212 + RAMP["rank"]}),
        track="R²",
    )
    films = {"film": film(), "dot": film(**dot), "twin": twin, "trio": trio}
    films["sibling"] = twin | dict(
        views={"sibling": GOOD["plain"]}, readings={"sibling": RAMP}, caption=CAPTION + " Again."
    )
    with pytest.MonkeyPatch.context() as patch:
        body = "".join(
            f'<div id="{name}">{render(patch, **settings)["text/html"]}</div>'
            for name, settings in films.items()
        )
    path = tmp_path_factory.mktemp("player") / "page.html"
    head = '<head><title>Films</title><link rel="icon" href="data:,"></head>'
    path.write_text(f"<!doctype html><html>{head}<body>{body}</body></html>")
    notes = {}
    with open_browser() as browser:
        for scripts in (True, False):
            seen = notes[scripts] = SimpleNamespace(
                console=[], requests=[], states={}, pixels={}, wide={}, shown={}
            )
            context = browser.new_context(
                viewport={"width": PHONE, "height": 800}, java_script_enabled=scripts
            )
            page = context.new_page()
            page.on(
                "console",
                lambda m, seen=seen: seen.console.append(m.text) if m.type == "error" else None,
            )
            page.on("pageerror", lambda error, seen=seen: seen.console.append(str(error)))
            page.on("request", lambda r, seen=seen: seen.requests.append(r.url))
            page.goto(path.as_uri())
            for name in films:
                parts = ("img", ".film", "figcaption", "button")
                seen.shown[name] = [
                    part for part in parts if page.locator(f"#{name} {part}").is_visible()
                ]
            if scripts:
                drive(page, seen)
                place_and_look(page, seen)
                page.set_viewport_size({"width": 390, "height": 844})
                seen.trio = page.locator("#trio .film").evaluate(TRIO)
                page.evaluate(
                    "() => document.getElementById('sibling').remove()"
                )  # its still is as wide as it was drawn
                for width in (PHONE, 1280):
                    page.set_viewport_size({"width": width, "height": 800})
                    page.wait_for_timeout(50)
                    seen.wide[width] = page.evaluate(STICKS_OUT)
            context.close()
    return SimpleNamespace(on=notes[True], off=notes[False], own=path.as_uri())


@pytest.mark.parametrize("name", ["film", "dot", "twin"])
def test_film_is_shown_with_scripts_and_the_still_without(name, visits):
    assert visits.on.shown[name] == [".film", "figcaption", "button"]
    assert visits.off.shown[name] == ["img", "figcaption"]


def test_films_that_differ_in_words_alone_both_play(visits):
    assert visits.on.shown["sibling"] == [".film", "figcaption", "button"]


def test_no_error_and_no_request(visits):
    assert visits.on.console == visits.off.console == []
    for seen in (visits.on, visits.off):
        assert seen.requests[0] == visits.own
        assert [url for url in seen.requests[1:] if not url.startswith("data:")] == []


def test_no_sideways_scroll(visits):
    assert visits.on.wide == {PHONE: [], 1280: []}


HEADER = 64  # pixels of the page's own bar


def test_on_a_phone_the_whole_film_and_its_controls_are_in_view(visits):
    assert visits.on.trio["within"] and visits.on.trio["height"] <= 844 - HEADER
    assert visits.on.trio["row"] == 2  # side by side, as large as fits


def test_a_film_is_dimmed_in_dark_mode(visits):
    assert visits.on.trio["light"] == "none" and "brightness(0.8)" in visits.on.trio["dark"]


def test_film_starts_at_the_last_frame(visits):
    state = visits.on.states["at first"]
    assert (state["value"], state["count"], state["button"]) == (10, "epoch 10 of 10", "Play")
    assert state["readings"] == ["rank 1, loss </script> 9", "rank 1, loss </script> 8"]
    assert state["names"] == list(NAMES) and state["bold"] == 0


def test_keys_move_the_slider_and_all_that_hangs_on_it(visits):
    states = [visits.on.states[name] for name in ("at first", "ArrowLeft", "Home", "ArrowRight")]
    assert [state["value"] for state in states] == [10, 9, 0, 1]
    for state in states:
        assert state["count"] == state["spoken"] == f"epoch {state['value']} of 10"
        rank = state["value"] / 10
        assert state["readings"] == [
            f"rank {rank:.3g}, loss </script> {10 - rank * (1 + i):.3g}" for i in range(2)
        ]
    for pictures in zip(*(state["pictures"] for state in states)):
        assert len(set(pictures)) == 4  # both clouds and the curve's mark


def test_play_advances_and_pause_stops(visits):
    playing, paused, later = (
        visits.on.states[name] for name in ("playing", "paused", "still paused")
    )
    assert playing["button"] == "Pause" and playing["readings"][0].startswith(
        f"rank {playing['value'] / 10}"
    )
    assert paused["button"] == "Play" and 3 <= paused["value"] < 10
    assert later == paused


def test_play_stops_at_the_end_and_starts_anew(visits):
    assert visits.on.states["at the end"]["value"] == 10
    assert (
        visits.on.states["from the start"]["button"] == "Pause"
        and visits.on.states["from the start"]["value"] < 5
    )


def test_moving_the_slider_stops_the_film(visits):
    moved, later = visits.on.states["moved while playing"], visits.on.states["after the move"]
    assert (
        moved["button"] == "Play"
        and moved["value"] > visits.on.states["from the start"]["value"]
        and later == moved
    )


def test_a_point_is_drawn_where_it_lies(visits):
    dot, empty = [0x44, 0x01, 0x54, 255], [0, 0, 0, 0]  # the first of viridis; nothing painted
    assert visits.on.pixels == {"Home": [dot, empty, empty], "End": [empty, dot, empty]}
