"""A film of embeddings in training that plays inside the published page.

It needs no server and no library, and loads nothing from elsewhere. `show_player` writes the
frames, one byte per coordinate, and a short script into the output. Where scripts are off, a still
picture of the last frame stands in its place.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from jepa_utils.figures._picture import picture_html
from jepa_utils.figures.style import COLOURS, LINES, check_description, figure_style

__all__ = ["show_player"]


SHADES = 32  # of the colour map: as many as an eye tells apart


def show_player(
    views: Mapping[str, np.ndarray],
    colour: np.ndarray,
    readings: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    track: str,
    limit: float | Mapping[str, float | Sequence[float]],
    unit: str,
    caption: str,
    alt: str,
) -> None:
    """Show clouds of points over training, side by side, with a play button and a slider.

    Parameters
    ----------
    views : mapping of str to array, shape (F, N, 2)
        Places of the N points in each of the F frames, by name of the run. All runs show the same
        points.
    colour : array, shape (N,)
        A number per point that colours it.
    readings : mapping of str to mapping of str to sequence (F,) of float
        For each run, numbers to be read along with the film, by name.
    track : str
        The reading that is also drawn as a curve, on a scale from 0 to 1.
    limit : float, or mapping of str to float or sequence (F,) of float
        The axes run from -limit to +limit, in units of the points, and say so; points outside lie
        on the edge. It may differ by run, and from frame to frame: then the film magnifies.
    unit : str
        What a frame is, such as "epoch"; the first frame is number 0.
    caption : str
        What is shown, and how to read it.
    alt : str
        The finding, for those who cannot see it. At least 20 characters.

    Raises
    ------
    ValueError
        If shapes do not agree, there are fewer than 2 frames or no point, a number is not finite,
        `track` is no reading, or `caption` or `alt` is too short to say anything.
    """
    from IPython.display import display

    frames, points = _check(views, colour, readings, track)
    limits = _limits(limit, views, frames)
    check_description(caption, alt)
    colour = np.asarray(colour, dtype=float)
    span = np.ptp(colour) or 1.0
    shade = np.rint((colour - np.min(colour)) / span * (SHADES - 1)).astype(np.uint8)
    data = {
        "frames": frames,
        "unit": unit,
        "track": track,
        "palette": [to_hex(c) for c in colormaps["viridis"](np.linspace(0, 0.95, SHADES))],
        "shade": base64.b64encode(shade.tobytes()).decode(),
        "views": [
            {
                "points": _encode(places, limits[name]),
                "limit": [float(f"{value:.2g}") for value in limits[name]],
                "colour": COLOURS[index],
                "dash": _dash(LINES[index]),
                "track": [round(float(value), 4) for value in readings[name][track]],
                "readings": [
                    ", ".join(
                        f"{label} {values[frame]:.3g}" for label, values in readings[name].items()
                    )
                    for frame in range(frames)
                ],
            }
            for index, (name, places) in enumerate(views.items())
        ],
    }
    body = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    words = json.dumps([list(views), caption, alt])
    identity = "film-" + hashlib.sha256((body + words).encode()).hexdigest()[:12]
    panels = "".join(
        f'<div><p><svg width="28" height="8" aria-hidden="true">'
        f'<line x1="0" y1="4" x2="28" y2="4" stroke-width="3"'
        f' stroke="{view["colour"]}" stroke-dasharray="{" ".join(map(str, view["dash"]))}"/></svg>'
        f' <strong>{escape(name)}</strong></p><canvas aria-hidden="true"></canvas>'
        f'<p class="film-reading"></p></div>'
        for name, view in zip(views, data["views"], strict=True)
    )
    still = picture_html(_still(views, colour, readings, track, limits, unit), alt)
    html = (
        f'<figure id="{identity}"><style>\n{_part("film.css")}</style>'
        f'<div class="film-still">{still}</div>'
        f'<div class="film" role="group" aria-label="{escape(alt)}" hidden>'
        f'<div class="film-views">{panels}</div>'
        f'<canvas class="film-chart" aria-hidden="true"></canvas>'
        f'<div class="film-bar"><button type="button">Play</button>'
        f'<input type="range" min="0" max="{frames - 1}" step="1" value="{frames - 1}"'
        f' aria-label="{escape(unit)}">'
        f'<span class="film-count"></span></div></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        # a function's body: a page may hold several films, and none may see the names of another
        f"<script>(function () {{ const ID = {json.dumps(identity)}, DATA = {body};\n"
        f"{_part('film.js')}}})();</script>"
    )
    display(
        {"text/html": html, "text/plain": f"[film of {frames} frames, {points} points] {caption}"},
        raw=True,
    )


def _part(name: str) -> str:
    """The player's script or style; both go with every film, as no cell knows the others."""
    return files("jepa_utils.figures").joinpath(name).read_text(encoding="utf-8")


def _check(views, colour, readings, track: str) -> tuple[int, int]:
    shapes = {name: np.shape(places) for name, places in views.items()}
    if not views or len(set(shapes.values())) != 1:
        raise ValueError(f"views must all have one shape (F, N, 2), got {shapes}")
    shape = next(iter(shapes.values()))
    if len(shape) != 3 or shape[0] < 2 or shape[1] < 1 or shape[2] != 2:
        raise ValueError(
            f"views must have shape (F, N, 2) with at least 2 frames and a point, got {shape}"
        )
    if np.shape(colour) != (shape[1],):
        raise ValueError(
            f"colour must have shape ({shape[1]},), one number per point, got {np.shape(colour)}"
        )
    if len(views) > len(COLOURS):
        raise ValueError(f"views must be at most {len(COLOURS)}, got {len(views)}")
    numbers = [values for name in views for values in readings.get(name, {}).values()]
    for argument, parts in (("views", views.values()), ("colour", [colour]), ("readings", numbers)):
        if not all(np.isfinite(np.asarray(part, dtype=float)).all() for part in parts):
            raise ValueError(f"{argument} must be finite, got NaN or infinity")
    for name in views:
        lengths = {label: len(values) for label, values in readings.get(name, {}).items()}
        if track not in lengths or set(lengths.values()) != {shape[0]}:
            raise ValueError(
                f"readings of {name!r} must hold {track!r} and have {shape[0]} values each, "
                f"got lengths {lengths}"
            )
    return shape[0], shape[1]


def _limits(limit, views, frames: int) -> dict[str, np.ndarray]:
    """The limit of each view in each frame."""
    given = limit if isinstance(limit, Mapping) else dict.fromkeys(views, limit)
    if set(given) != set(views):
        raise ValueError(f"limit must name the views {sorted(views)}, got {sorted(given)}")
    for name, values in given.items():
        numbers = np.asarray(values, dtype=float)
        if numbers.shape not in ((), (frames,)):
            raise ValueError(f"limit of {name!r} must be one or {frames}, got {numbers.shape}")
        if not ((numbers > 0) & (numbers < np.inf)).all():
            raise ValueError(f"limit must be positive and finite, got {values}")
    return {name: np.broadcast_to(np.asarray(given[name], float), frames) for name in views}


def _dash(line: str | tuple) -> list[float]:
    """A line style of Matplotlib as pixels of dashes and gaps; film and still look alike."""
    if line == "-":
        return []
    names = {"--": "dashed", "-.": "dashdot", ":": "dotted"}
    pattern = line[1] if isinstance(line, tuple) else plt.rcParams[f"lines.{names[line]}_pattern"]
    # Matplotlib counts in widths of the line, and the film's is 2 pixels wide
    return [2 * length for length in pattern]


def _encode(places: np.ndarray, limits: np.ndarray) -> str:
    """Coordinates as bytes, 0 to 255 from -limit to +limit of their frame."""
    scaled = np.clip(np.asarray(places, dtype=float) / limits[:, None, None], -1, 1)
    return base64.b64encode(np.rint((scaled + 1) / 2 * 255).astype(np.uint8).tobytes()).decode()


def _still(views, colour, readings, track: str, limits, unit: str) -> Figure:
    """The last frame."""
    with figure_style():
        fig, axes = plt.subplots(1, len(views) + 1, figsize=(3.2 * (len(views) + 1), 3.4))
    for index, (name, places) in enumerate(views.items()):
        limit = limits[name][-1]
        axes[index].scatter(*np.clip(places[-1], -limit, limit).T, c=colour, s=4, cmap="viridis")
        axes[index].set(
            title=name.replace("$", r"\$"),
            xlim=(-limit, limit),
            ylim=(-limit, limit),
            aspect="equal",
        )
        axes[-1].plot(
            readings[name][track],
            color=COLOURS[index],
            linestyle=LINES[index],
            label=name.replace("$", r"\$"),
        )
    axes[-1].set(xlabel=unit, ylabel=track, ylim=(0, 1.02))
    axes[-1].legend()
    return fig
