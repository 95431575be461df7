"""A figure as pictures in a page: as drawn, and laid out anew for a phone.

For a phone, panels stand below each other, the legend above them, and long words are broken into
lines. Both pictures have two pixels for each of CSS, and the page chooses."""

from __future__ import annotations

import base64
import io
import itertools
import math
import textwrap
from html import escape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from PIL import Image

SCALE = 100  # CSS pixels per inch, so that a font of 10 points is 14 pixels high
DENSITY = 2  # pixels per CSS pixel
LEGIBLE = 9  # CSS pixels: no text is shown smaller
PHONE = "screen and (max-width: 600px)"  # paper gets the figure as drawn

WIDTH = 3.6  # inches: what a phone has room for
HEIGHT = 2.6  # of a panel that has others above or below it, in inches
SMALLEST = 0.6  # a picture without labels stays recognisable down to this width, in inches
EDGE = 10  # pixels around what is drawn
MANY = 4  # more panels than these stand in two columns, or the figure would never end


def picture_html(fig: Figure, alt: str) -> str:
    """A figure as a ``<picture>`` that holds its data itself; the figure is closed.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        The figure.
    alt : str
        Its alternative text.

    Returns
    -------
    str
        HTML: the figure as drawn, and for narrow screens the same with its panels stacked. A figure
        that cannot be stacked does not get so small there that it cannot be read; it scrolls.
    """
    fig.set(dpi=SCALE * DENSITY, facecolor="white")
    canvas = FigureCanvasAgg(fig)
    data, wide = _encoded(fig, canvas)
    smallest = min(map(Text.get_fontsize, filter(_says, fig.findobj(Text))), default=LEGIBLE)
    least = math.ceil(wide[0] * LEGIBLE / (smallest / 72 * SCALE))
    stacked = style = ""
    try:
        if narrow(fig):
            small, size = _encoded(fig, canvas, cropped=True)
            stacked = (
                f'<source media="{PHONE}" srcset="{small}" width="{size[0]}" height="{size[1]}">'
            )
        else:
            style = f' style="min-width:{min(wide[0], least)}px"'
    finally:
        plt.close(fig)
    return (
        f'<picture>{stacked}<img src="{data}" alt="{escape(alt)}" width="{wide[0]}"'
        f' height="{wide[1]}" decoding="async"{style}></picture>'
    )


def _encoded(fig: Figure, canvas, cropped: bool = False) -> tuple[str, tuple[int, int]]:
    """A figure as a data address, and its width and height in CSS pixels."""
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    if cropped:  # without what is empty above and below
        drawn = np.flatnonzero((pixels != 255).any(axis=(1, 2)))
        pixels = pixels[max(0, drawn[0] - EDGE) : drawn[-1] + EDGE]
    picture, buffer = Image.fromarray(pixels), io.BytesIO()
    if any(image.get_array().ndim == 3 for ax in fig.axes for image in ax.images):  # photographs
        kind = "webp"
        picture.save(buffer, kind, quality=85)
    else:
        kind = "png"
        picture = picture.quantize(256, Image.Quantize.FASTOCTREE)
        # it makes 254 of white, which would show on a white page
        picture.putpalette([255 if value > 252 else value for value in picture.getpalette()])
        picture.save(buffer, kind, compress_level=9)
    size = round(picture.width / DENSITY), round(picture.height / DENSITY)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", size


def _says(text: Text) -> bool:
    return text.get_visible() and bool(text.get_text().strip())


def narrow(fig: Figure) -> bool:
    """Lay a figure out for a narrow screen, in place.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
        A figure that has been drawn. Pictures without labels stay side by side as long as they are
        wide enough; other panels are stacked.

    Returns
    -------
    bool
        Whether it could be done. If not (panels that are not cells of one grid), the figure is as
        it was.
    """
    panels = [ax for ax in fig.axes if not hasattr(ax, "_colorbar")]
    places = [ax.get_subplotspec() for ax in panels]
    one_grid = len({id(place and place.get_gridspec()) for place in places}) == 1
    if fig.subfigs or not panels or not one_grid or places[0] is None:
        return False
    if any(place.num1 != place.num2 for place in places):
        return False
    rows, columns = places[0].get_gridspec().get_geometry()
    drawn_height = fig.get_figheight() / rows
    kept = _columns_kept(panels, rows, columns)
    grid = _move(fig, panels, rows, columns, kept)
    fig.set_figwidth(WIDTH)
    across = _break_words(fig, panels, kept)
    heights = [0.0] * grid.nrows
    for ax in panels:
        row = ax.get_subplotspec().rowspan.start
        heights[row] = max(heights[row], _height(ax, WIDTH / kept, drawn_height, len(panels) > 1))
    grid.set_height_ratios(heights)
    fig.set_figheight(sum(heights) + across * (grid.nrows + 1))
    for ax in panels:
        _fit(ax.yaxis.label, heights[ax.get_subplotspec().rowspan.start] - 0.2)
    if any(ax.get_aspect() != "auto" and ax.name != "3d" for ax in panels):
        # no empty space between panels of fixed shape
        room = {"h_pad": across / 2} if across else {}
        fig.set_layout_engine("compressed", rect=(0.01, 0, 0.97, 1), **room)
    _raise_legend(fig, panels)
    _mend(fig, panels)
    return True


def _columns_kept(panels: list[Axes], rows: int, columns: int) -> int:
    if any(_labelled(ax) for ax in panels):
        return min(columns, 1 if rows * columns <= MANY else 2)
    words = [word for ax in panels for word in ax.get_title().split()]
    widest = max((_size(ax.title, word)[0] for ax in panels[:1] for word in words), default=0)
    fit = max(1, int(WIDTH / max(SMALLEST, widest + 0.05)))
    return math.ceil(columns / math.ceil(columns / fit))  # 10 that do not fit become 5 and 5


def _labelled(ax: Axes) -> bool:
    """Whether a panel has numbers along its sides, which need room."""
    labels = [*ax.get_xticklabels(), *ax.get_yticklabels()]
    return ax.axison and any(label.get_visible() and label.get_text() for label in labels)


def _move(fig: Figure, panels: list[Axes], rows: int, columns: int, kept: int) -> GridSpec:
    """Put the panels into a grid of fewer columns."""
    bands = math.ceil(columns / kept)
    grid = GridSpec(rows * bands, kept, figure=fig)
    spots = {ax: divmod(ax.get_subplotspec().num1, columns) for ax in panels}
    # names of columns stand above the first row: then a band of columns stays together
    named = {row for ax, (row, _) in spots.items() if ax.get_title() or ax.get_title("left")}
    by_column = rows > 1 and named == {0}
    for ax, (row, column) in spots.items():
        band = column // kept
        ax.set_subplotspec(
            grid[band * rows + row if by_column else row * bands + band, column % kept]
        )
    for ax, (_, column) in spots.items():
        shares_x, shares_y = (
            [other for other in shared.get_siblings(ax) if other is not ax and other in spots]
            for shared in (ax.get_shared_x_axes(), ax.get_shared_y_axes())
        )
        if shares_x and kept < columns:
            ax.tick_params(axis="x", labelbottom=True)
        if shares_y and column % kept == 0:  # its neighbour no longer says it for both
            ax.tick_params(axis="y", labelleft=True)
            said = [other.get_ylabel() for other in shares_y if other.get_ylabel()]
            if said and not ax.get_ylabel():
                ax.set_ylabel(said[0])
    return grid


def _height(ax: Axes, width: float, drawn: float, several: bool) -> float:
    if ax.name == "3d":
        return width
    if ax.get_aspect() == "auto":
        lines = sum(1 + name.get_text().count("\n") for name in ax.get_yticklabels())
        return max(min(drawn, HEIGHT) if several else drawn, 0.21 * lines + 0.6)
    words = (ax.get_title(), ax.get_title("left"), ax.get_xlabel())
    lines = sum(1 + text.count("\n") for text in words if text) + _labelled(ax)
    return width * min(2, ax.get_data_ratio() * ax.get_aspect()) + 0.2 * lines


def _size(like: Text, words: str) -> tuple[float, float]:
    """Width and height in inches of words in the font of another text."""
    text = Text(0, 0, words, fontproperties=like.get_fontproperties())
    text.set_figure(like.get_figure(root=True))
    box = text.get_window_extent()
    return box.width / text.figure.dpi, box.height / text.figure.dpi


def _fit(text: Text, room: float) -> None:
    """Break a text into lines of at most `room` inches."""
    words = " ".join(text.get_text().split())
    if words and "$" not in words and (wide := _size(text, words)[0]) > room:
        letters = max(1, int(len(words) * room / wide))
        text.set_text(textwrap.fill(words, letters, break_long_words=False))


def _break_words(fig: Figure, panels: list[Axes], kept: int) -> float:
    """Break titles and labels; the height of titles that stand across a row, in inches."""
    width, across = WIDTH / kept, 0.0
    for ax in panels:
        margin = 0.4 if _labelled(ax) else 0.05
        _fit(ax.title, width - margin)
        _fit(ax.xaxis.label, width - margin)
        if isinstance(ax.yaxis.get_major_locator(), FixedLocator):  # names of rows
            names = ax.get_yticklabels()
            for name in names:
                _fit(name, 0.4 * width)
            ax.set_yticks(ax.get_yticks(), [name.get_text() for name in names])
        title = ax._left_title
        alone = not any(o.get_title("left") for o in panels if o is not ax and _same_row(ax, o))
        _fit(title, WIDTH - 0.5 if alone else width - margin)
        size = _size(title, title.get_text())
        if alone and size[0] > width - margin:
            # as a title it would push the next panel away
            over = dict(xycoords="axes fraction", xytext=(0, 4), textcoords="offset points")
            said = ax.annotate(title.get_text(), (0, 1), fontsize=title.get_fontsize(), **over)
            said.set_in_layout(False)
            title.set_text("")
            across = max(across, size[1] + 0.1)
    for text in (fig._suptitle, fig._supxlabel):
        if text is not None:
            _fit(text, WIDTH - 0.2)
    return across


def _same_row(ax: Axes, other: Axes) -> bool:
    return ax.get_subplotspec().rowspan == other.get_subplotspec().rowspan


def _raise_legend(fig: Figure, panels: list[Axes]) -> None:
    """Put a figure's only legend above all panels, in as many columns as fit."""
    owned = [ax.get_legend() for ax in panels if ax.get_legend()]
    words = {tuple(text.get_text() for text in legend.get_texts()) for legend in owned}
    if len(words) + len(fig.legends) != 1:
        return
    old: Legend = (owned or fig.legends)[0]
    (labels,) = words or [[text.get_text() for text in old.get_texts()]]
    known = {}
    for ax in panels:
        known |= dict(zip(*reversed(ax.get_legend_handles_labels())))
    handles = [known.get(label, made) for label, made in zip(labels, old.legend_handles)]
    for legend in [*owned, *fig.legends]:
        legend.remove()
    look = dict(
        loc="outside upper center",
        fontsize=old.get_texts()[0].get_fontsize(),
        frameon=False,
        title=old.get_title().get_text() or None,
    )
    for columns in range(min(3, len(labels)), 0, -1):
        new = fig.legend(handles, labels, ncols=columns, **look)
        if columns == 1:
            for text in new.get_texts():
                _fit(text, WIDTH - 0.6)
        elif new.get_window_extent().width / fig.dpi > WIDTH:
            new.remove()
            continue
        break
    fig.set_figheight(fig.get_figheight() + new.get_window_extent().height / fig.dpi)


def _mend(fig: Figure, panels: list[Axes]) -> None:
    """Break what still sticks out; turn numbers below a panel that run into each other."""
    fig.draw_without_rendering()
    changed = False
    for ax in panels:
        for text in (ax.title, ax.xaxis.label):
            box = text.get_window_extent()
            if box.width and (box.x0 < 0 or box.x1 > WIDTH * fig.dpi):  # beside long names of rows
                centre = (box.x0 + box.x1) / 2 / fig.dpi
                _fit(text, 2 * min(centre, WIDTH - centre) - 0.1)
                changed = True
        if ax.name == "3d" or not _labelled(ax):
            continue
        shown = [t for t in ax.get_xticklabels() if t.get_visible() and t.get_text()]
        boxes = sorted((t.get_window_extent() for t in shown), key=lambda box: box.x0)
        if any(a.x1 > b.x0 for a, b in itertools.pairwise(boxes)):
            changed = True
            for text in shown:
                text.set(rotation=45, ha="right", rotation_mode="anchor")
    if not changed:
        fig.set_layout_engine("none")  # all is in its place
