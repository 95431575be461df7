"""Formulas as a browser shows them without scripts: MathJax's source is not for reading."""

from __future__ import annotations

import re
from html import escape

SYMBOLS = {
    **dict(alpha="α", beta="β", gamma="γ", delta="δ", epsilon="ε", varepsilon="ε", eta="η"),
    **dict(theta="θ", kappa="κ", lambda_="λ", mu="μ", nu="ν", xi="ξ", pi="π", rho="ρ", sigma="σ"),
    **dict(tau="τ", phi="ϕ", varphi="φ", chi="χ", psi="ψ", omega="ω", Gamma="Γ", Delta="Δ"),
    **dict(Theta="Θ", Lambda="Λ", Sigma="Σ", Phi="Φ", Psi="Ψ", Omega="Ω", ell="ℓ", infty="∞"),
    **dict(sum="∑", prod="∏", int="∫", partial="∂", nabla="∇", cdot="·", times="×", dots="…"),
    **dict(ldots="…", cdots="⋯", approx="≈", ne="≠", neq="≠", le="≤", leq="≤", ge="≥", geq="≥"),
    **dict(ll="≪", gg="≫", pm="±", to="→", mapsto="↦", leftarrow="←", rightarrow="→"),
    **dict(top="⊤", mid="|", lVert="‖", rVert="‖", Vert="‖", lvert="|", rvert="|", sim="∼"),
    **dict(langle="⟨", rangle="⟩", lfloor="⌊", rfloor="⌋", propto="∝", circ="∘", odot="⊙"),
}
SYMBOLS["in"], SYMBOLS["lambda"] = "∈", SYMBOLS.pop("lambda_")
ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303", "vec": "\u20d7", "dot": "\u0307"}
FONTS = {"mathbf", "mathbb", "mathcal", "mathrm", "mathit", "boldsymbol"}
WORDS = {"text", "operatorname", "mathrm", "textbf", "textit", "mathtt"}
SPACES = {",", ";", ":", " ", "quad", "qquad", "\\"}
IGNORED = {"left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "!", "limits", "nolimits"}

_TOKENS = re.compile(r"\\[A-Za-z]+|\\.|\s+|.", re.DOTALL)


def readable(tex: str) -> str:
    """A formula as HTML: letters in italics, indices and powers set, symbols as characters.

    Parameters
    ----------
    tex : str
        The formula, without dollar signs.

    Returns
    -------
    str
        HTML. A command that is not known stands as its name.
    """
    tex = re.sub(r"\\(begin|end)\{[^}]*\}(\[[^\]]*\])?|\\label\{[^}]*\}|&", "", tex)
    tokens = [token for token in _TOKENS.findall(tex) if not token.isspace()]
    tokens.reverse()  # the next one is the last: pop takes it
    parts = []
    while tokens:
        parts.append(_next(tokens))
    return "".join(parts)


def _next(tokens: list[str]) -> str:
    """HTML of the next token and what belongs to it; takes them off the list."""
    if not tokens:
        return ""
    token = tokens.pop()
    if token == "{":
        parts = []
        while tokens and tokens[-1] != "}":
            parts.append(_next(tokens))
        if tokens:
            tokens.pop()
        return "".join(parts)
    if token in ("_", "^"):
        tag = "sub" if token == "_" else "sup"
        return f"<{tag}>{_next(tokens)}</{tag}>"
    if not token.startswith("\\"):
        if token.isascii() and token.isalpha():
            return f"<i>{token}</i>"
        return f" {escape(token)} " if token in "=<>+" else escape(token)
    return _command(token[1:], tokens)


def _command(name: str, tokens: list[str]) -> str:
    if name in SYMBOLS:
        return SYMBOLS[name]
    if name in SPACES:
        return " "
    if name in IGNORED:
        return ""
    if name in ("frac", "tfrac", "dfrac"):
        over, under = _next(tokens), _next(tokens)
        return f"{_bracketed(over)}/{_bracketed(under)}"
    if name == "sqrt":
        return f"√{_bracketed(_next(tokens))}"
    if name in ACCENTS:
        return re.sub(r"(\w)(?![^<]*>)", rf"\1{ACCENTS[name]}", _next(tokens), count=1)
    if name in WORDS:
        return re.sub(r"</?i>", "", _next(tokens))
    if name in FONTS:
        return _next(tokens)
    return escape(name) if not name.isalpha() else f" {name} "


def _bracketed(html: str) -> str:
    """In brackets, unless it is one character."""
    return html if len(re.sub(r"<[^>]*>", "", html).strip()) <= 1 else f"({html.strip()})"
