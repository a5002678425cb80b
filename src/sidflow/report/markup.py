"""HTML and SVG as text, everything escaped unless it was made here; names and colours of recommenders."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from sidflow.report.data import ReportData

MINUS, ABSENT, THIN = "\u2212", "\u2013", "\u2009"


# Neither is text of an item or a user: control characters, marks that turn the direction of the text after them, and
# characters that nobody sees. Joiners that scripts and emoji need (U+200C, U+200D) are text.
_NOT_TEXT = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
    r"|[\U000e0000-\U000e007f]"
)


class Markup(str):
    """Text that is markup already; `tag` and `join` escape every other string."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element. Children that are not Markup are escaped; children and attributes that are None are left out.

    In names of attributes a trailing underscore is dropped and other underscores become hyphens (`class_`,
    `stroke_width`).

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    attribute_text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "br", "meta", "link"):
        return Markup(f"<{name}{attribute_text}>")
    return Markup(f"<{name}{attribute_text}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Return children one after the other; those that are not Markup are escaped."""
    return Markup(
        "".join(child if isinstance(child, Markup) else _escape(child) for child in children if child is not None)
    )


def _escape(value: object) -> str:
    return html.escape(_NOT_TEXT.sub("\ufffd", format_value(value)), quote=True)


def format_value(value: object) -> str:
    """Return a value as text; floats get at most two decimals, enough for coordinates."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def number(value: object, digits: int = 4) -> str:
    """Return a number with fixed decimals, or an integer with separated thousands; an en dash for None."""
    if value is None:
        return ABSENT
    if isinstance(value, int):
        return f"{value:,}".replace(",", THIN)
    return f"{round(float(str(value)), digits) + 0.0:.{digits}f}".replace("-", MINUS)


def percent(value: float | None, signed: bool = False, digits: int = 0) -> str:
    """Return a share as a percentage with a true minus sign; an en dash for None."""
    if value is None:
        return ABSENT
    return f"{100 * value:{'+' if signed else ''}.{digits}f}{THIN}%".replace("-", MINUS)


def metric_title(metric: str) -> str:
    """Return a metric's name as papers write it.

    >>> metric_title("ndcg_at_10")
    'nDCG@10'
    """
    parts = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "expected": "expected"}
    name, _, k = metric.partition("_at_")
    return " ".join(parts.get(part, part) for part in name.split("_")) + (f"@{k.replace('_', ' ')}" if k else "")


def style_class(name: str, board: Mapping) -> str:
    """Return a recommender's CSS class: `method`, `best` (the best baseline), `reference` or `other`."""
    if name == board["best_baseline"]:
        return "best"
    kind = board["recommenders"][name]["kind"]
    return "other" if kind == "baseline" else kind


def role_label(name: str, board: Mapping) -> str:
    """Return a recommender's role in the comparison."""
    if name == board["best_baseline"]:
        return "best baseline"
    kind = board["recommenders"][name]["kind"]
    return {"method": "under test", "reference": "upper bound"}.get(kind, "baseline")


def best_first(data: ReportData) -> list[str]:
    """Return recommenders from best to worst on the test part, references last."""
    board = data.leaderboard
    primary = board["primary"]

    def sort_key(name: str) -> tuple[bool, float, str]:
        entry = board["recommenders"][name]
        return entry["kind"] == "reference", -entry["metrics"][primary]["mean"], name

    return sorted(board["recommenders"], key=sort_key)
