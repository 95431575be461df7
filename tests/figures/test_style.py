"""What a figure carries besides its picture, and what a listing shows."""

import sys
from operator import attrgetter

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from jepa_utils.figures import style as plots
from jepa_utils.figures.source import show_source


@pytest.fixture
def shown(monkeypatch):
    """What the code under test displays."""
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, **_: outputs.append(data))
    return outputs


ALT = "The loss falls by half in the first three steps"


def test_figure_carries_caption_and_alt_text(shown):
    with plots.figure_style():
        fig, ax = plt.subplots()
        plots.plot_runs(ax, {"a": [[3, 2, 1], [3, 2.5, 2]], "b": [[1, 1, 1]]}, start=1)
    plots.show_figure(fig, caption="Loss over steps, <two> runs.", alt=ALT)
    (output,) = shown
    assert f'alt="{ALT}"' in output["text/html"] and "base64," in output["text/html"]
    assert "&lt;two&gt;" in output["text/html"]
    assert not plt.get_fignums()  # closed, so that no second copy appears


@pytest.mark.parametrize("change", [{"alt": ""}, {"alt": "a plot"}, {"caption": " "}])
def test_figure_without_words_is_refused(change, shown):
    fig, _ = plt.subplots()
    with pytest.raises(ValueError, match=next(iter(change))):
        plots.show_figure(
            fig, **({"caption": "What one can see in this figure.", "alt": ALT} | change)
        )
    plt.close(fig)
    assert shown == []


def test_runs_are_drawn_as_mean_and_range():
    fig, ax = plt.subplots()
    plots.plot_runs(ax, {"a": [[3, 2, 1], [5, 4, 3]]}, start=1)
    (line,) = ax.get_lines()
    assert line.get_xdata().tolist() == [1, 2, 3] and line.get_ydata().tolist() == [4, 3, 2]
    assert ax.collections[0].get_datalim(ax.transData).intervaly.tolist() == [1, 5]
    plt.close(fig)


def test_series_differ_without_colour():
    fig, ax = plt.subplots()
    plots.plot_runs(ax, {str(n): [[n, n + 1]] for n in range(6)})
    assert len({line.get_marker() for line in ax.get_lines()}) == 6
    plt.close(fig)


def test_dots_stand_at_mean_and_spread():
    fig, ax = plt.subplots()
    plots.plot_dots(ax, {"a": {"x": [1, 3], "y": [5.0]}, "b": {"x": [0, 0], "y": [1, 1]}})
    first = ax.containers[0]
    assert first.lines[0].get_xdata().tolist() == [2, 5]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "y"]
    plt.close(fig)


def test_map_groups_words():
    fig, ax = plt.subplots()
    plots.plot_map(ax, np.arange(6.0).reshape(3, 2), ["a", "b", "c"], {"group": ["b", "absent"]})
    others, group = ax.collections
    assert len(others.get_offsets()) == 2 and group.get_offsets().tolist() == [[2, 3]]
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    plt.close(fig)


class Shown:
    def method(self):
        return self


def documented(x):
    """Not shown."""
    # shown: a comment says why
    return x


def test_listing_leaves_out_the_docstring_only(shown):
    show_source(documented)
    code = shown[0]["text/plain"]
    assert code.splitlines() == [
        "def documented(x):",
        "    # shown: a comment says why",
        "    return x",
    ]
    assert shown[0]["text/markdown"].startswith("```python\n")
    show_source(plots.plot_runs)
    assert "Parameters" not in shown[1]["text/plain"] and "fill_between" in shown[1]["text/plain"]


@pytest.mark.parametrize("obj", [plots.plot_runs, Shown.method])
def test_listing_says_where_its_code_lies(obj, monkeypatch):
    found = {}
    monkeypatch.setattr("IPython.display.display", lambda data, **more: found.update(more))
    show_source(obj)
    module, _, name = found["metadata"]["jepa"]["source"].partition(":")
    assert attrgetter(name)(sys.modules[module]) is obj


def test_listing_of_what_has_no_source():
    with pytest.raises(TypeError):
        show_source(len)


NINE = "abcdefghi"


@pytest.mark.parametrize(
    "draw, words",
    [
        (lambda ax: plots.plot_runs(ax, {}), "^runs must be between 1 and 8, got 0"),
        (lambda ax: plots.plot_runs(ax, {n: [[1, 2]] for n in NINE}), "^runs must be .* got 9"),
        (lambda ax: plots.plot_runs(ax, {"a": []}), r"^runs\['a'\] must hold seeds"),
        (lambda ax: plots.plot_runs(ax, {"a": [[]]}), r"^runs\['a'\] must hold seeds"),
        (lambda ax: plots.plot_runs(ax, {"a": [1, 2]}), r"^runs\['a'\] must hold seeds"),
        (
            lambda ax: plots.plot_runs(ax, {"a": [[1, 2]], "b": [[1, 2], [1]]}),
            r"^runs\['b'\] must hold seeds of equally many steps.*\(2,\), \(1,\)",
        ),
        (lambda ax: plots.plot_dots(ax, {}), "^scores must be between 1 and 8, got 0"),
        (lambda ax: plots.plot_dots(ax, {n: {"x": [1]} for n in NINE}), "^scores must .* got 9"),
        (
            lambda ax: plots.plot_dots(ax, {"a": {"x": [1]}, "b": {"y": [1]}}),
            r"^scores\['b'\] must have seeds for each of \['x'\], got {'y': 1}",
        ),
        (lambda ax: plots.plot_dots(ax, {"a": {"x": []}}), r"^scores\['a'\].*{'x': 0}"),
        (
            lambda ax: plots.plot_map(ax, np.zeros((3, 2)), ["a", "b"], {}),
            r"^points must have shape \(2, 2\), got \(3, 2\)",
        ),
        (
            lambda ax: plots.plot_map(ax, np.zeros((1, 3)), ["a"], {}),
            r"^points must have shape \(1, 2\), got \(1, 3\)",
        ),
        (
            lambda ax: plots.plot_map(ax, np.zeros((1, 2)), ["a"], {n: ["a"] for n in NINE}),
            "^groups must be between 1 and 8, got 9",
        ),
    ],
)
def test_data_that_cannot_be_drawn_are_named_and_nothing_is_drawn(draw, words):
    fig, ax = plt.subplots()
    with pytest.raises(ValueError, match=words):
        draw(ax)
    assert not ax.has_data()
    plt.close(fig)
