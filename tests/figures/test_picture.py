"""Figures in a page: what they look like on a phone, and how they are enlarged, in a real browser."""

import base64
import io
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from browser import STICKS_OUT, open_browser
from matplotlib.text import Text
from PIL import Image

from jepa_utils.figures._picture import LEGIBLE, WIDTH, narrow, picture_html
from jepa_utils.figures.style import figure_style, plot_dots, plot_map, plot_runs

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"
ALT = 'The "loss" falls by half in the first three steps'


def three(**settings):
    """Three panels in a row; the legend is in the last, the label of what they share at the first."""
    with figure_style():
        fig, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, **settings)
        for name, ax in zip("abc", axes):
            plot_runs(ax, {"a long name": [[0, 1, 2]], "another long name": [[2, 1, 0]]})
            ax.set(title=f"panel {name}", xlabel="epoch")
        axes[0].set_ylabel("score")
        axes[2].legend(fontsize=8)
    return fig


def dots():
    names = ["a name of a row that is far too long for a phone", "short", "TF-IDF"]
    with figure_style():
        fig, ax = plt.subplots(figsize=(8, 3))
        plot_dots(ax, {"seen": {n: [0.1, 0.2] for n in names}, "unseen": {n: [1] for n in names}})
        ax.set(xlabel="share of the five nearest words that are of one and the same class")
        ax.legend()
    return fig


def pictures():
    """Three rows of ten small pictures; names stand above the first."""
    with figure_style():
        fig, axes = plt.subplots(3, 10, figsize=(9, 3))
        for number, ax in enumerate(axes.flat):
            ax.imshow(np.full((4, 4, 3), number / 30))
            ax.set(xticks=[], yticks=[])
        for name, ax in enumerate(axes[0]):
            ax.set_title(f"class {name}", fontsize=8)
    return fig


def maps():
    with figure_style():
        fig, axes = plt.subplots(1, 2, figsize=(8, 3))
        for ax in axes:
            shown = ax.imshow(np.eye(8))
            ax.set(xlabel="column", ylabel="row")
            fig.colorbar(shown, ax=ax, label="share")
    return fig


def grid():
    with figure_style():
        fig, axes = plt.subplots(2, 4, figsize=(10, 5))
        for ax in axes.flat:
            ax.plot([1e4, 5e4])
            ax.set(xlabel="a label of some length", title="a title of some length as well")
            ax.set_xticks(
                [0, 0.2, 0.4, 0.6, 0.8, 1], ["one", "two", "three", "four", "five", "six"]
            )
    return fig


def solid():
    with figure_style():
        fig = plt.figure(figsize=(8, 3.6))
        fig.add_subplot(1, 2, 1, projection="3d").scatter([1, 2], [1, 2], [1, 2])
        fig.add_subplot(1, 2, 2).plot([1, 2])
    return fig


def nested():
    fig = plt.figure(figsize=(20, 4), layout="constrained")
    left, right = fig.subfigures(1, 2)
    left.subplots().plot([1, 2])
    right.subplots().plot([1, 2])
    return fig


def inches(artist, fig):
    box = artist.get_window_extent()
    return np.array([box.x0, box.y0, box.x1, box.y1]) / fig.dpi


def drawn_narrow(draw):
    fig = draw()
    assert narrow(fig)
    fig.draw_without_rendering()
    plt.close(fig)
    return fig


@pytest.mark.parametrize("draw", [three, dots, pictures, maps, grid, solid])
def test_on_a_phone_no_word_is_cut_off_and_none_runs_into_another(draw):
    fig = drawn_narrow(draw)
    assert fig.get_figwidth() == WIDTH
    for ax in fig.axes:
        if ax.name == "3d":
            continue
        below, beside = ([t.label1 for t in a._update_ticks()] for a in (ax.xaxis, ax.yaxis))
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *below, *beside):
            if text.get_text() and text.get_visible():
                x0, y0, x1, y1 = inches(text, fig)
                assert -0.02 <= x0 and x1 <= WIDTH + 0.02, text
                assert -0.02 <= y0 and y1 <= fig.get_figheight() + 0.02, text
        ticks = [text for text in below if text.get_text() and text.get_visible()]
        if ticks and not ticks[0].get_rotation():
            boxes = sorted(inches(t, fig)[[0, 2]].tolist() for t in ticks)
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(boxes))
    boxes = [ax.get_position() for ax in fig.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_panels_are_stacked_with_what_they_shared_and_the_legend_above_all():
    fig = drawn_narrow(three)
    places = [ax.get_position() for ax in fig.axes]
    assert all(a.y0 > b.y1 for a, b in itertools.pairwise(places))
    for ax in fig.axes:
        assert ax.get_ylabel() == "score" and ax.get_legend() is None
        assert any(text.get_visible() and text.get_text() for text in ax.get_yticklabels())
    (legend,) = fig.legends
    assert inches(legend, fig)[1] >= inches(fig.axes[0].title, fig)[3]
    assert [t.get_text() for t in legend.get_texts()] == ["a long name", "another long name"]


def test_long_names_of_rows_are_broken_and_their_panel_stays_wide():
    fig = drawn_narrow(dots)
    names = [text.get_text() for text in fig.axes[0].get_yticklabels()]
    assert "\n" in names[0] and names[1:] == ["short", "TF-IDF"]
    assert fig.axes[0].get_position().width > 0.45


def test_small_pictures_stay_side_by_side_with_their_names():
    fig = drawn_narrow(pictures)
    rows = {}
    for ax in fig.axes:
        rows.setdefault(round(ax.get_position().y0, 2), []).append(
            int(30 * ax.images[0].get_array()[0, 0, 0] + 0.5)
        )
    assert [rows[y] for y in sorted(rows, reverse=True)] == [
        [*range(0, 5)], [*range(10, 15)], [*range(20, 25)],
        [*range(5, 10)], [*range(15, 20)], [*range(25, 30)],
    ]  # fmt: skip


def test_many_panels_stand_in_two_columns():
    assert len({round(ax.get_position().x0, 2) for ax in drawn_narrow(grid).axes}) == 2


def test_a_bar_of_colours_goes_with_its_panel():
    first, second, *bars = drawn_narrow(maps).axes
    for ax, bar in zip((first, second), bars):
        a, b = ax.get_position(), bar.get_position()
        assert a.x1 < b.x0 and a.y0 < (b.y0 + b.y1) / 2 < a.y1


def test_labels_of_a_map_never_overlap_and_groups_come_first():
    rng = np.random.default_rng(0)
    words = [f"word{n}" for n in range(150)]
    with figure_style():
        fig, ax = plt.subplots(figsize=(7, 6))
        plot_map(ax, rng.normal(size=(150, 2)), words, {"group": words[-12:]})
    shown = {}
    for lay in (lambda fig: None, narrow):
        lay(fig)
        fig.draw_without_rendering()
        texts = [text for text in ax.texts if text.get_visible()]
        boxes = [Text.get_window_extent(text) for text in texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(text.get_fontsize() >= 8 for text in texts)
        shown[lay] = {text.get_text() for text in texts}
    plt.close(fig)
    wide, small = shown.values()
    assert 40 < len(small) < len(wide) < 150 and set(words[-12:]) <= wide


def test_a_sentence_above_a_row_of_pictures_is_broken_and_moves_none_of_them():
    with figure_style():
        fig, axes = plt.subplots(2, 5, figsize=(8, 4))
        for ax in axes.flat:
            ax.imshow(np.zeros((4, 4, 3)))
            ax.set(xticks=[], yticks=[])
        for row in axes:
            row[0].set_title("a sentence of a person " * 4, loc="left", fontsize=8)
    assert narrow(fig)
    fig.draw_without_rendering()
    plt.close(fig)
    for row in axes:
        gaps = [b.get_position().x0 - a.get_position().x1 for a, b in itertools.pairwise(row)]
        assert np.ptp(gaps) < 0.01
        (said,) = row[0].texts
        x0, y0, x1, y1 = inches(said, fig)
        assert 0 <= x0 and x1 <= WIDTH and said.get_text().count("\n") == 1
        assert y0 >= row[0].get_position().y1 * fig.get_figheight()
        assert y1 <= fig.get_figheight()
        assert row[0] is axes[0, 0] or y1 <= axes[0, 0].get_position().y0 * fig.get_figheight()


def decoded(address):
    return Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))


def test_both_pictures_are_twice_as_dense_as_shown_and_small():
    html = picture_html(three(), ALT)
    small, wide = re.findall(r'(?:srcset|src)="([^"]+)"', html)
    sizes = [tuple(map(int, size)) for size in re.findall(r'width="(\d+)" height="(\d+)"', html)]
    assert sizes[0][0] == 360 and sizes[1] == (1000, 300)
    for address, size in zip((small, wide), sizes):
        picture = decoded(address)
        assert np.abs(np.array(picture.size) / 2 - size).max() <= 0.5
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255) and len(address) < 60_000
    assert not plt.get_fignums() and html == picture_html(three(), ALT)


def test_photographs_keep_their_colours():
    kinds = re.findall(r"data:image/(\w+);", picture_html(pictures(), ALT))
    assert kinds == ["webp", "webp"]


def test_what_cannot_be_stacked_scrolls_and_stays_legible():
    html = picture_html(nested(), ALT)
    assert "<source" not in html
    least = int(re.search(r"min-width:(\d+)px", html)[1])
    assert least / 2000 * 10 / 72 * 100 == pytest.approx(LEGIBLE, abs=0.05)


# ---- in a browser

PAGE = """<!doctype html><html data-theme="light"><head><title>Figures</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"><style>body { margin: 16px } %s</style>
<script>%s</script></head><body class="bd-article">
<div class="cell_output"><figure>%s<figcaption>New.</figcaption></figure></div>
<div class="cell_output"><figure>%s<figcaption>As earlier runs stored it.</figcaption></figure></div>
<div class="cell_output"><figure><img src="data:," alt="still"><div class="film"></div></figure></div>
</body></html>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Notes of one visit: on a phone, on a desk, enlarged by keys and by a click, on paper."""
    css, script = ((STATIC / name).read_text() for name in ("custom.css", "enlarge.js"))
    picture = picture_html(three(), ALT)
    old = re.sub(r"<source[^>]*>|</?picture>| (?:width|height)=\"\d+\"", "", picture)
    path = tmp_path_factory.mktemp("figures") / "page.html"
    path.write_text(PAGE % (css, script, picture, old))
    notes = SimpleNamespace(errors=[], shape={}, out={}, states={})
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("pageerror", lambda error: notes.errors.append(str(error)))
        page.goto(path.as_uri())
        image, button, view = (
            page.locator("img").first,
            page.locator(".enlarge"),
            page.locator("dialog"),
        )

        def look(name):
            page.wait_for_function("() => document.images[0].complete")
            box = image.bounding_box()
            notes.shape[name], notes.out[name] = (
                (box["width"], box["height"]),
                page.evaluate(STICKS_OUT),
            )

        def note(name):
            notes.states[name] = view.evaluate(
                """view => ({ open: view.open, focus: document.activeElement.textContent, alt: view.querySelector('img').alt,
                  width: view.querySelector('img').clientWidth, room: view.querySelector('.enlarged-ground').clientWidth,
                  fills: view.getBoundingClientRect().width === innerWidth })"""
            )

        look("phone")
        button.first.focus()
        page.keyboard.press("Enter")
        note("opened by Enter")
        page.keyboard.press("+")
        note("larger")
        page.keyboard.press("Escape")
        page.wait_for_function("() => !document.querySelector('dialog').open")
        note("closed by Escape")
        page.set_viewport_size({"width": 1280, "height": 800})
        look("desk")
        page.locator("img").nth(1).click()
        note("an old figure, by a click")
        page.locator(".enlarged-ground").click()
        note("closed by a click")
        notes.buttons = button.count()
        page.set_viewport_size({"width": 390, "height": 844})
        page.emulate_media(media="print")
        look("paper")
        notes.printed = [button.first.is_visible(), view.is_visible()]
    return notes


def test_a_phone_gets_the_stacked_picture_and_others_the_figure_as_drawn(seen):
    assert seen.errors == [] and not any(seen.out.values())
    assert seen.shape["phone"][1] > 1.5 * seen.shape["phone"][0] > 1.5 * 340
    for place in ("desk", "paper"):
        width, height = seen.shape[place]
        assert height / width == pytest.approx(0.3, abs=0.01)


def test_a_figure_is_enlarged_and_put_back_by_keys(seen):
    opened, larger, closed = (
        seen.states[n] for n in ("opened by Enter", "larger", "closed by Escape")
    )
    assert (
        opened["open"] and opened["fills"] and opened["focus"] == "Close" and opened["alt"] == ALT
    )
    assert opened["width"] == 1000 > opened["room"]  # as drawn: it scrolls
    assert larger["width"] == pytest.approx(1400, abs=2)
    assert not closed["open"] and closed["focus"] == "\u2922"


def test_so_is_one_of_an_earlier_run_by_a_click(seen):
    opened, closed = seen.states["an old figure, by a click"], seen.states["closed by a click"]
    assert opened["open"] and opened["alt"] == ALT and opened["width"] > 1000
    assert not closed["open"] and closed["focus"] == "\u2922"


def test_a_film_has_no_button_and_paper_shows_none(seen):
    assert seen.buttons == 2 and seen.printed == [False, False]
