"""Playgrounds: things to touch that live inside the published page.

A playground is a JavaScript function in its own file, ``figures/playgrounds/NAME.js``; what it
finds at hand (canvas, axes, draggable points, sliders, theme colours) is in ``play.js``.
`show_play` writes data, script and style into the output. It needs no server and no library, and
loads nothing from elsewhere. Where scripts are off, and on paper, a still picture stands in its
place.
"""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files

import numpy as np
from matplotlib.figure import Figure

from jepa_utils.figures._picture import picture_html
from jepa_utils.figures.style import check_description

__all__ = ["play_html", "show_play"]

FOLDER = files("jepa_utils.figures")


def show_play(
    name: str,
    data: Mapping[str, object] | None = None,
    *,
    still: Figure | str,
    caption: str,
    alt: str,
    bits: int = 16,
) -> None:
    """Show a playground: a picture that the reader of the page can change.

    Parameters
    ----------
    name : str
        The playground's name: that of its file in ``jepa_utils/figures/playgrounds``, without
        ``.js``.
    data : mapping of str to data, optional
        What the playground works on: numbers, texts, lists, mappings and arrays, which are
        compressed.
    still : matplotlib.figure.Figure or str
        What stands in its place where scripts are off, and on paper: a figure, which is closed, or
        an inline ``<svg>``.
    caption : str
        What is shown, and how to use it. At least 20 characters.
    alt : str
        The finding, for those who cannot see it. At least 20 characters.
    bits : int, default 16
        8 or 16: bits per number of an array of floats. A number is off by at most half a step of
        ``2**bits - 1`` from the array's least to its greatest. Whole numbers are exact where they
        span less than ``2**16``.

    Raises
    ------
    TypeError
        If `still` is neither figure nor SVG, or `data` holds something else than named above.
    ValueError
        If there is no playground of this name, a number is not finite, an array is empty, `bits` is
        neither 8 nor 16, or `caption` or `alt` is too short to say anything.
    """
    from IPython.display import display

    html = play_html(name, data, still=still, caption=caption, alt=alt, bits=bits)
    display({"text/html": html, "text/plain": f"[playground {name}] {caption}"}, raw=True)


def play_html(
    name: str,
    data: Mapping[str, object] | None = None,
    *,
    still: Figure | str,
    caption: str,
    alt: str,
    bits: int = 16,
) -> str:
    """The HTML that `show_play` shows; the same arguments and errors.

    Returns
    -------
    str
        A ``<figure>`` and its script. It holds no id, so a page may hold it twice.
    """
    script = "".join(_read(part) for part in script_files(name))
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, got {bits!r}")
    check_description(caption, alt)
    body = json.dumps(_ready("data", {} if data is None else data, bits), ensure_ascii=True)
    body = body.replace("<", "\\u003c")
    picture = _picture(still, alt)
    return (
        f'<figure class="play" data-play="{escape(name)}"><style>\n{_read("play.css")}</style>'
        f'<div class="play-still">{picture}</div>'
        f'<div class="play-live" role="group" aria-label="{escape(alt)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption>"
        f'<script type="application/json">{body}</script></figure>'
        # a function's body: a page may hold several playgrounds, and none may see another's names
        f"<script>(function () {{\n{script}play.start();\n}})();</script>"
    )


def script_files(name: str) -> list[str]:
    """The script files of a playground within this room, in the order in which they run.

    A playground names in its first lines what it shares with others: ``// needs losses.js``.
    """
    folder = FOLDER.joinpath("playgrounds")
    code = {
        file.name.removesuffix(".js"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".js")
    }
    known = sorted(n for n, text in code.items() if f'play.add("{n}"' in text)
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(known)}, got {name!r}")
    needs = re.findall(r"^// needs ([\w.]+)$", code[name], flags=re.M)
    return ["play.js", *(f"playgrounds/{part}" for part in [*needs, f"{name}.js"])]


def _read(part: str) -> str:
    return FOLDER.joinpath(part).read_text(encoding="utf-8")


def _ready(where: str, value: object, bits: int) -> object:
    """The data as JSON can hold it, arrays packed."""
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"{where} must have texts as keys, got {wrong[0]!r}")
        return {key: _ready(f"{where}[{key!r}]", part, bits) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_ready(f"{where}[{i}]", part, bits) for i, part in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return _packed(where, value, bits)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{where} must be a number, text, list, mapping or array, got {type(value).__name__}"
    )


def _packed(where: str, array: np.ndarray, bits: int) -> dict:
    """An array as whole numbers of 8 or 16 bits between its least and greatest, deflated."""
    if not array.size or not array.ndim or array.dtype.kind not in "buif":
        raise ValueError(
            f"{where} must be an array of numbers, not empty, got {array.dtype} {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{where} must be finite, got NaN or infinity")
    values = array.astype(float)
    low, span = values.min(), np.ptp(values)
    if array.dtype.kind != "f" and span < 2**16:
        bits, step = 8 if span < 2**8 else 16, 1.0
    else:
        step = span / (2**bits - 1) or 1.0
    whole = np.rint((values - low) / step).astype(f"<u{bits // 8}")
    return {
        "__array__": base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode(),
        "shape": list(array.shape),
        "bits": bits,
        "low": float(low),
        "step": float(step),
    }


def _picture(still: Figure | str, alt: str) -> str:
    if isinstance(still, str) and still.lstrip().startswith("<svg"):
        return f'<div role="img" aria-label="{escape(alt)}">{still}</div>'
    if not isinstance(still, Figure):
        raise TypeError(f"still must be a figure or an <svg>, got {type(still).__name__}")
    return picture_html(still, alt)
