"""HTML and SVG as text, everything escaped unless it was made here."""

from __future__ import annotations

import html

MINUS, ABSENT, THIN = "\u2212", "\u2013", "\u2009"


class Markup(str):
    """Text that is already markup; plain strings are escaped where they enter a tag."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element; children that are not Markup are escaped, None children and attributes left out.

    Attribute names: a trailing underscore is dropped, other underscores become hyphens (`class_`, `stroke_width`).

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(text(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "br", "meta"):
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Return children one after the other, escaped unless Markup."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(text(child), quote=True)
            for child in children
            if child is not None
        )
    )


def text(value: object) -> str:
    """Return a value as text; floats with at most two decimals, as coordinates need."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def number(value: object, digits: int = 4) -> str:
    """Return a metric as readers write it: thousands apart, fixed decimals; an en dash where there is none."""
    if value is None:
        return ABSENT
    if isinstance(value, int):
        return f"{value:,}".replace(",", THIN)
    return f"{round(float(str(value)), digits) + 0.0:.{digits}f}".replace("-", MINUS)


def percent(value: float | None, signed: bool = False, digits: int = 0) -> str:
    """Return a share as percent with a real minus sign; an en dash where there is none."""
    if value is None:
        return ABSENT
    return f"{100 * value:{'+' if signed else ''}.{digits}f}{THIN}%".replace("-", MINUS)
