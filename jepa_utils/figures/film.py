"""A film of embeddings in training that plays inside the published page: no server, no library, nothing loaded from elsewhere.

`show_player` writes the frames, one byte per coordinate, and a short script into the output. Where
scripts are off, a still picture of the last frame stands in its place."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from jepa_utils.figures.style import COLOURS, LINES, check_description, figure_style

__all__ = ["show_player"]


SHADES = 32  # of the colour map: as many as an eye tells apart


# It goes with every film: a cell of a notebook cannot know what other cells show, and may be run
# alone.
STYLE = """
.film { background: #fff; color: #1a1a1a; border-radius: 0.25rem; padding: 0.5rem; }
.film-views { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 11rem), 1fr)); gap: 0.5rem; }
.film-views p { margin: 0; font-size: 0.85em; line-height: 1.35; color: #1a1a1a; }
.film canvas { width: 100%; display: block; }
.film-bar { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; font-size: 0.9em; }
.film-bar button { min-width: 4.5rem; padding: 0.2rem 0.6rem; color: #1a1a1a; background: #eee; border: 1px solid #767676; border-radius: 0.25rem; }
.film-bar input { flex: 1 1 8rem; min-width: 6rem; }
"""


# The body of a function of ID and DATA: a page may hold several films, and none may see the names
# of another.
SCRIPT = """
const root = document.getElementById(ID), film = root.querySelector(".film"), still = root.querySelector("img");
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const shade = bytes(DATA.shade), views = DATA.views.map((v) => ({ ...v, bytes: bytes(v.points) }));
const canvases = [...film.querySelectorAll(".film-views canvas")], texts = [...film.querySelectorAll(".film-reading")];
const chart = film.querySelector(".film-chart"), slider = film.querySelector("input");
const button = film.querySelector("button"), count = film.querySelector(".film-count");
let timer = null;

function sharp(canvas, ratio) {  // as many pixels as the screen has; sizes in CSS pixels come back
  const width = canvas.clientWidth || 300, height = Math.round(width * ratio), dense = window.devicePixelRatio || 1;
  canvas.style.height = height + "px";
  canvas.width = width * dense; canvas.height = height * dense;
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  return [pen, width, height];
}

function drawCloud(canvas, view, frame) {
  const [pen, width, height] = sharp(canvas, 1), n = shade.length, start = frame * 2 * n;
  pen.strokeStyle = "#999"; pen.strokeRect(0.5, 0.5, width - 1, height - 1);
  pen.fillStyle = "#555"; pen.font = "11px sans-serif";
  pen.fillText("\\u2212" + DATA.limit, 3, height - 4); pen.fillText("+" + DATA.limit, width - 26, height - 4);
  for (let i = 0; i < n; i++) {
    pen.fillStyle = DATA.palette[shade[i]];
    pen.beginPath();
    pen.arc(view.bytes[start + 2 * i] / 255 * width, (1 - view.bytes[start + 2 * i + 1] / 255) * height, 2, 0, 7);
    pen.fill();
  }
}

function drawChart(frame) {
  const [pen, width, height] = sharp(chart, Math.max(0.18, Math.min(0.45, 110 / (chart.clientWidth || 300))));
  const last = DATA.frames - 1, left = 34, right = 8, top = 8, bottom = 18;
  const x = (f) => left + f / last * (width - left - right);
  const y = (v) => top + (1 - Math.max(0, Math.min(1, v))) * (height - top - bottom);
  pen.font = "11px sans-serif"; pen.fillStyle = "#555"; pen.strokeStyle = "#ccc"; pen.lineWidth = 1;
  for (const v of [0, 0.5, 1]) {
    pen.beginPath(); pen.moveTo(left, y(v)); pen.lineTo(width - right, y(v)); pen.stroke();
    pen.fillText(v.toFixed(1), 10, y(v) + 4);
  }
  pen.fillText(DATA.track + " over " + DATA.unit + "s", left + 4, height - 4);
  views.forEach((view) => {
    pen.strokeStyle = pen.fillStyle = view.colour; pen.lineWidth = 2; pen.setLineDash(view.dash);
    pen.beginPath(); view.track.forEach((v, f) => f ? pen.lineTo(x(f), y(v)) : pen.moveTo(x(f), y(v))); pen.stroke();
    pen.setLineDash([]);
    pen.beginPath(); pen.arc(x(frame), y(view.track[frame]), 4, 0, 7); pen.fill();
  });
}

function show(frame) {
  slider.value = frame;
  count.textContent = DATA.unit + " " + frame + " of " + (DATA.frames - 1);
  slider.setAttribute("aria-valuetext", count.textContent);
  views.forEach((view, i) => { drawCloud(canvases[i], view, frame); texts[i].textContent = view.readings[frame]; });
  drawChart(frame);
}

function stop() { clearInterval(timer); timer = null; button.textContent = "Play"; }

button.addEventListener("click", () => {
  if (timer) return stop();
  if (+slider.value === DATA.frames - 1) show(0);
  button.textContent = "Pause";
  timer = setInterval(() => { +slider.value < DATA.frames - 1 ? show(+slider.value + 1) : stop(); }, 180);
});
slider.addEventListener("input", () => { stop(); show(+slider.value); });
window.addEventListener("resize", () => show(+slider.value));
still.hidden = true; still.style.display = "none"; film.hidden = false;
show(DATA.frames - 1);
"""


def show_player(
    views: Mapping[str, np.ndarray],
    colour: np.ndarray,
    readings: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    track: str,
    limit: float,
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
    limit : float
        The axes run from -limit to +limit, in units of the points; points outside lie on the edge.
    unit : str
        What a frame is, such as "epoch"; the first frame is number 0.
    caption : str
        What is shown, and how to read it.
    alt : str
        The finding, for those who cannot see it. At least 20 characters.

    Raises
    ------
    ValueError
        If shapes do not agree, there are fewer than 2 frames, a number is not finite, `track` is no
        reading, or `caption` or `alt` is too short to say anything.
    """
    from IPython.display import display

    frames, points = _check(views, colour, readings, track, limit)
    check_description(caption, alt)
    span = np.ptp(colour) or 1.0
    shade = np.rint((np.asarray(colour) - np.min(colour)) / span * (SHADES - 1)).astype(np.uint8)
    data = {
        "frames": frames,
        "unit": unit,
        "limit": float(limit),
        "track": track,
        "palette": [to_hex(c) for c in colormaps["viridis"](np.linspace(0, 0.95, SHADES))],
        "shade": base64.b64encode(shade.tobytes()).decode(),
        "views": [
            {
                "points": _encode(places, limit),
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
        f'<div><p><svg width="28" height="8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" stroke-width="3"'
        f' stroke="{view["colour"]}" stroke-dasharray="{" ".join(map(str, view["dash"]))}"/></svg>'
        f' <strong>{escape(name)}</strong></p><canvas aria-hidden="true"></canvas><p class="film-reading"></p></div>'
        for name, view in zip(views, data["views"], strict=True)
    )
    still = _still(views, colour, readings, track, limit, unit)
    html = (
        f'<figure id="{identity}"><style>{STYLE}</style>'
        f'<img src="data:image/png;base64,{still}" alt="{escape(alt)}">'
        f'<div class="film" role="group" aria-label="{escape(alt)}" hidden><div class="film-views">{panels}</div>'
        f'<canvas class="film-chart" aria-hidden="true"></canvas><div class="film-bar"><button type="button">Play</button>'
        f'<input type="range" min="0" max="{frames - 1}" step="1" value="{frames - 1}" aria-label="{escape(unit)}">'
        f'<span class="film-count"></span></div></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        f"<script>(function () {{ const ID = {json.dumps(identity)}, DATA = {body};{SCRIPT}}})();</script>"
    )
    display(
        {"text/html": html, "text/plain": f"[film of {frames} frames, {points} points] {caption}"},
        raw=True,
    )


def _check(views, colour, readings, track: str, limit: float) -> tuple[int, int]:
    shapes = {name: np.shape(places) for name, places in views.items()}
    if not views or len(set(shapes.values())) != 1:
        raise ValueError(f"views must all have one shape (F, N, 2), got {shapes}")
    shape = next(iter(shapes.values()))
    if len(shape) != 3 or shape[0] < 2 or shape[2] != 2:
        raise ValueError(f"views must have shape (F, N, 2) with at least 2 frames, got {shape}")
    if np.shape(colour) != (shape[1],):
        raise ValueError(
            f"colour must have shape ({shape[1]},), one number per point, got {np.shape(colour)}"
        )
    if len(views) > len(COLOURS):
        raise ValueError(f"views must be at most {len(COLOURS)}, got {len(views)}")
    if not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}")
    numbers = [values for name in views for values in readings.get(name, {}).values()]
    for argument, parts in (("views", views.values()), ("colour", [colour]), ("readings", numbers)):
        if not all(np.isfinite(np.asarray(part, dtype=float)).all() for part in parts):
            raise ValueError(f"{argument} must be finite, got NaN or infinity")
    for name in views:
        lengths = {label: len(values) for label, values in readings.get(name, {}).items()}
        if track not in lengths or set(lengths.values()) != {shape[0]}:
            raise ValueError(
                f"readings of {name!r} must hold {track!r} and have {shape[0]} values each, got lengths {lengths}"
            )
    return shape[0], shape[1]


def _dash(line: str | tuple) -> list[float]:
    """A line style of Matplotlib as lengths in pixels of dashes and gaps, so that the film's lines look like the still's."""
    if line == "-":
        return []
    names = {"--": "dashed", "-.": "dashdot", ":": "dotted"}
    pattern = line[1] if isinstance(line, tuple) else plt.rcParams[f"lines.{names[line]}_pattern"]
    return [
        2 * length for length in pattern
    ]  # Matplotlib counts in widths of the line, and the film's is 2 pixels wide


def _encode(places: np.ndarray, limit: float) -> str:
    """Coordinates as bytes, 0 to 255 from -limit to +limit."""
    scaled = np.clip(np.asarray(places, dtype=float) / limit, -1, 1)
    return base64.b64encode(np.rint((scaled + 1) / 2 * 255).astype(np.uint8).tobytes()).decode()


def _still(views, colour, readings, track: str, limit: float, unit: str) -> str:
    """The last frame as a PNG."""
    with figure_style():
        fig, axes = plt.subplots(1, len(views) + 1, figsize=(3.2 * (len(views) + 1), 3.4))
    for index, (name, places) in enumerate(views.items()):
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
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=100)
    plt.close(fig)
    return base64.b64encode(buffer.getvalue()).decode()
