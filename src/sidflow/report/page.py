"""The whole page: one file, no network, no script; light or dark as the reader's machine is."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report import ablation, code_use, dimensions, headline, leaderboard, learning, people, slices
from sidflow.report.gather import Gathered
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, join, number, tag
from sidflow.report.params import ReportParams
from sidflow.report.pictures import Gallery
from sidflow.report.style import CSS


def page(given: Gathered, settings: ReportParams) -> str:
    """Return the report as one self-contained HTML page, the same bytes for the same artifacts."""
    named = given.items.select("item_id", "title", "item_key").iter_rows()
    names = {item: title or f"item {key}" for item, title, key in named}
    words = Glossary(given)
    gallery = Gallery(given.pictures, names, settings.thumbnail, settings.quality)
    body = [
        headline.headline(given, words),
        leaderboard.leaderboard(given, words),
        slices.slices(given, words),
        ablation.ablations(given, words),
        people.users(given, gallery, settings),
        people.items(given, gallery, settings),
        learning.curves(given),
        code_use.codes(given, words),
        dimensions.spectra(given, words),
        _data(given, words),
        words.section(),
    ]
    style = CSS + gallery.style()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"sidflow: {given.preset}"),
        tag("style", Markup(style)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *body)), lang="en") + "\n"


def _data(given: Gathered, words: Glossary) -> Markup:
    return tag(
        "section",
        tag("h2", "What was run"),
        tag(
            "div",
            *[
                tag("div", tag("h3", name), _figures(document, words))
                for name, document in (("ingest", given.ingest), ("split", given.split), ("semantic IDs", given.audit))
            ],
            class_="thirds",
        ),
    )


def _figures(document: Mapping[str, object], words: Glossary) -> Markup:
    rows = [
        join(tag("dt", words.begin(name.replace("_", " "))), tag("dd", _value(value)))
        for name, value in document.items()
        if value not in ("", None)
    ]
    return tag("dl", *rows, class_="figures") if rows else tag("p", "Nothing was reported.", class_="absent")


def _value(value: object) -> str:
    if isinstance(value, float):
        return number(value, 4).rstrip("0").rstrip(".") if abs(value) >= 1e-4 else number(value, 0)
    return number(value) if isinstance(value, int) else str(value)
