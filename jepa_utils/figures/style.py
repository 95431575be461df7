"""One figure style, and the plots that chapters share.

Every series differs in colour, marker and line, so that nothing rests on colour alone.
`show_figure` adds caption and alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from jepa_utils.figures._picture import picture_html

__all__ = ["figure_style", "plot_dots", "plot_map", "plot_runs", "show_figure"]


# Okabe and Ito's palette: told apart with every common kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7f7f7f")


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)), (0, (5, 1)), (0, (1, 1)), "-")


def figure_style() -> AbstractContextManager:
    """The book's look, as a context: ``with figure_style(): fig, ax = plt.subplots()``."""
    return plt.rc_context(
        {
            "figure.figsize": (7, 3.6),
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
        }
    )


def check_description(caption: str, alt: str) -> None:
    """Raise `ValueError` if a figure's `caption` or `alt` is too short to say anything."""
    for name, text in (("caption", caption), ("alt", alt)):
        if len(text.strip()) < 20:
            raise ValueError(
                f"{name} must say what is shown, in at least 20 characters, got {text!r}"
            )


def show_figure(fig: Figure, *, caption: str, alt: str) -> None:
    """Show a figure with its caption and alt text, and close it.

    On a phone its panels stand below each other.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        The figure: one panel, or panels that are the cells of one grid.
    caption : str
        What is drawn, and how to read it; shown below.
    alt : str
        What one would learn from looking, for those who cannot: the finding, not the layout. At
        least 20 characters.

    Raises
    ------
    ValueError
        If `caption` or `alt` is too short to say anything.
    """
    from IPython.display import display

    check_description(caption, alt)
    html = f"<figure>{picture_html(fig, alt)}<figcaption>{escape(caption)}</figcaption></figure>"
    display({"text/html": html, "text/plain": f"[figure] {caption}"}, raw=True)


def _check_series(name: str, series: Mapping[str, object]) -> None:
    """Raise `ValueError` if there is no series, or no colour for each."""
    if not 1 <= len(series) <= len(COLOURS):
        raise ValueError(f"{name} must be between 1 and {len(COLOURS)}, got {len(series)}")


def plot_runs(ax: Axes, runs: Mapping[str, Sequence[Sequence[float]]], *, start: int = 0) -> None:
    """Draw several seeds per label as their mean, with a band from the lowest to the highest.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    runs : mapping of str to sequence (seeds) of sequence (steps) of float
        Values over steps, equally long within a label.
    start : int, default 0
        Number of the first step on the x axis.

    Raises
    ------
    ValueError
        If there are too many labels, or one has no seeds, no steps or unequal lengths.
    """
    _check_series("runs", runs)
    for label, seeds in runs.items():
        lengths = [np.shape(steps) for steps in seeds]
        if len(set(lengths)) != 1 or len(lengths[0]) != 1 or lengths[0] == (0,):
            raise ValueError(
                f"runs[{label!r}] must hold seeds of equally many steps, got shapes {lengths}"
            )
    for index, (label, seeds) in enumerate(runs.items()):
        values = np.asarray(seeds, dtype=float)  # (seeds, steps)
        x = np.arange(start, start + values.shape[1])
        style = dict(
            color=COLOURS[index], marker=MARKERS[index], linestyle=LINES[index], markersize=4
        )
        ax.plot(x, values.mean(axis=0), label=label, **style)
        ax.fill_between(
            x, values.min(axis=0), values.max(axis=0), color=COLOURS[index], alpha=0.2, linewidth=0
        )
    ax.xaxis.get_major_locator().set_params(integer=True)


def plot_dots(ax: Axes, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draw each item's mean over seeds in a row, with a bar of one standard deviation.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    scores : mapping of series to mapping of item to sequence (seeds) of float
        All series with the same items.

    Raises
    ------
    ValueError
        If there are no series or too many, or one lacks an item or has no seeds for it.
    """
    _check_series("scores", scores)
    items = list(next(iter(scores.values())))
    for series, values in scores.items():
        counts = {item: len(seeds) for item, seeds in values.items()}
        if set(items) - set(counts) or 0 in counts.values():
            raise ValueError(
                f"scores[{series!r}] must have seeds for each of {items}, got {counts} of them"
            )
    height = 0.5 / max(1, len(scores) - 1)
    for index, (series, values) in enumerate(scores.items()):
        mean = [np.mean(values[item]) for item in items]
        spread = [np.std(values[item], ddof=1) if len(values[item]) > 1 else 0 for item in items]
        y = np.arange(len(items)) + (index - (len(scores) - 1) / 2) * height
        ax.errorbar(
            mean,
            y,
            xerr=spread,
            fmt=MARKERS[index],
            color=COLOURS[index],
            label=series,
            markersize=5,
            capsize=2,
        )
    ax.set_yticks(range(len(items)), items)
    ax.invert_yaxis()


def plot_map(
    ax: Axes, points: np.ndarray, words: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> None:
    """Draw words at their places, each group with its own colour and marker, the others in grey.

    A word that would run into others is left out, its mark stays; words of a group come first.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    points : array, shape (V, 2)
        A place for each word.
    words : sequence of str, length V
        The words.
    groups : mapping of str to sequence of str
        Words of each group; words that are not in `words` are passed over.

    Raises
    ------
    ValueError
        If there is not one place for each word, or there are too many groups.
    """
    points = np.asarray(points)
    if points.shape != (len(words), 2):
        raise ValueError(f"points must have shape ({len(words)}, 2), got {points.shape}")
    if groups:
        _check_series("groups", groups)
    group_of = {word: index for index, group in enumerate(groups.values()) for word in group}
    index = np.array([group_of.get(word, -1) for word in words])
    ax.scatter(*points[index == -1].T, color="#999999", s=8, marker=".", label="other words")
    for number, name in enumerate(groups):
        ax.scatter(
            *points[index == number].T,
            color=COLOURS[number],
            s=26,
            marker=MARKERS[number],
            label=name,
        )
    labels = [
        ax.annotate(
            word,
            place,
            fontsize=8,
            color="#666666" if group < 0 else COLOURS[group],
            xytext=(0, 0),
            textcoords="offset points",
        )
        for word, place, group in zip(words, points, index, strict=True)
    ]
    ax.add_artist(_Labels([labels[i] for i in np.argsort(index < 0, kind="stable")]))


class _Labels(Artist):
    """Lets no label run into another: before they are drawn, at whatever size, each is put right or
    left of its place, above or below it, where there is room, and hidden where there is none."""

    def __init__(self, labels: Sequence[Annotation]):
        super().__init__()
        self.labels = labels  # those first that come first to a free place
        self.set_zorder(min((label.get_zorder() for label in labels), default=0) - 0.1)

    def draw(self, renderer) -> None:
        taken = np.empty((0, 4))
        for label in self.labels:
            label.set_visible(True)
            for side, height in (("left", 3), ("right", 3), ("left", -9), ("right", -9)):
                label.set(ha=side, position=(3 if side == "left" else -3, height))
                x0, y0, x1, y1 = label.get_window_extent(renderer).extents
                inside = self.axes.bbox.x0 <= x0 and x1 <= self.axes.bbox.x1
                apart = (taken[:, 0] > x1) | (taken[:, 2] < x0) | (taken[:, 1] > y1)
                if inside and (apart | (taken[:, 3] < y0)).all():
                    taken = np.vstack([taken, (x0, y0, x1, y1)])
                    break
            else:
                label.set_visible(False)
