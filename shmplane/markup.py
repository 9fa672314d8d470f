"""HTML as a notebook shows it: the few pieces that everything which shows itself there is made of.

Rule 1. Only ``div`` and ``table`` with inline styles: what else there is becomes plain text in a notebook that is not trusted.
Widths are parts of at most 760 px; nothing depends on a font.
Rule 2. Text has the front end's own colour, and coloured areas are of a middle brightness, so that light and dark look right.
Colour is never the only sign: whoever draws a bar or a cell gives it a letter or a word as well.
Rule 3. Names are anybody's choice: ``text`` cuts and escapes what is not of this library. The others take HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ["QUIET", "bar", "box", "div", "facts", "text", "warning"]

#: the style of what is said besides
QUIET = "opacity:0.75"

_BOX = "max-width:760px;font-size:13px;line-height:1.4;text-align:left"
_WIDE = "font-size:13px;width:100%;table-layout:fixed;border-collapse:collapse;margin:0;border:0"
_EDGE = "1px solid rgba(128,128,128,0.6)"
_FACTS = "font-size:13px;border-collapse:collapse;margin:4px 0;border:0"
_FACT = "text-align:left;vertical-align:top;border:0;padding:1px 12px 1px 0"
_LONGEST = 60
_LONGEST_ADVICE = 200
#: a part of a bar that nobody would see: of a hundred
_LEAST = 0.4


def box(parts: Iterable[str]) -> str:
    """All of what is shown, in one box."""
    return div(_BOX, "".join(parts))


def div(style: str, inner: str) -> str:
    """A line, or a part of the page."""
    return f'<div style="{style}">{inner}</div>'


def text(said: str, longest: int = _LONGEST) -> str:
    """Somebody's text: cut, escaped, and without characters that turn what follows them around or are not seen."""
    cut = said if len(said) <= longest else f"{said[: longest - 1]}…"
    if not cut.isprintable():
        cut = "".join(" " if mark.isspace() else mark if mark.isprintable() else "?" for mark in cut)
    return escape(cut)


def bar(parts: Iterable[tuple[float, str, str]]) -> str:
    """A bar of the whole width; each part with its size, a short text, and a style.

    A part without a text is left out where it would be too thin to be seen.
    """
    parts = [part for part in parts if part[0] > 0]
    total = sum(size for size, _, _ in parts)
    cells = "".join(
        f'<td style="width:{100 * size / total:.2f}%;height:14px;padding:0 2px;border:{_EDGE};text-align:left;'
        f'font-size:11px;line-height:14px;overflow:hidden;white-space:nowrap;{style}">{escape(said)}</td>'
        for size, said, style in parts
        if said or 100 * size > _LEAST * total
    )
    return f'<table style="{_WIDE}"><tr style="background:none">{cells}</tr></table>'


def warning(what: str, cure: str = "") -> str:
    """What is to be seen to, with the cure beside it."""
    style = "margin:6px 0;padding:4px 8px;border:1px solid #b0561f;border-left:6px solid #b0561f"
    cured = f" Cure: {text(cure, _LONGEST_ADVICE)}." if cure else ""
    return div(style, f"Warning: {text(what, _LONGEST_ADVICE)}.{cured}")


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of two columns of HTML: what it is, and what there is to say."""
    said = "".join(
        f'<tr style="background:none"><th style="{_FACT};font-weight:normal;opacity:0.7">{what}</th>'
        f'<td style="{_FACT}">{inner}</td></tr>'
        for what, inner in rows
    )
    return f'<table style="{_FACTS}">{said}</table>'
