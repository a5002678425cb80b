"""The whole page: one file, no network, no script; light or dark as the reader's machine is.

Only what the run cost stands in a file beside it, which the page does without (`costs`).
"""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.costs import CSS as COSTS_CSS
from sidflow.report.costs import sheet_link
from sidflow.report.data import ReportData, ReportParams
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, join, number, tag
from sidflow.report.sections.ablations import ablations_section
from sidflow.report.sections.codes import codes_section
from sidflow.report.sections.curves import training_section
from sidflow.report.sections.dimensions import dimensions_section
from sidflow.report.sections.embeddings import embeddings_section
from sidflow.report.sections.examples import Gallery, items_section, users_section
from sidflow.report.sections.generation import generation_section
from sidflow.report.sections.headline import headline_section
from sidflow.report.sections.leaderboard import leaderboard_section
from sidflow.report.sections.order import is_order_figure, order_section
from sidflow.report.sections.slices import slices_section
from sidflow.report.sections.views import views_section
from sidflow.report.style import CSS


def render_page(data: ReportData, settings: ReportParams) -> str:
    """Return the report as one self-contained HTML page; the same artifacts give the same bytes."""
    rows = data.items.select("item_id", "title", "item_key").iter_rows()
    titles = {item: title or f"item {key}" for item, title, key in rows}
    glossary = Glossary(data)
    gallery = Gallery(data.pictures, titles, settings.thumbnail, settings.quality)
    body = [
        headline_section(data, glossary),
        leaderboard_section(data, glossary),
        slices_section(data, glossary),
        ablations_section(data, glossary),
        users_section(data, gallery, settings),
        items_section(data, gallery, settings),
        views_section(data),
        embeddings_section(data, gallery, glossary),
        training_section(data),
        codes_section(data, glossary),
        generation_section(data, glossary),
        dimensions_section(data, glossary),
        order_section(data),
        _run_section(data, glossary),
        glossary.terms_section(),
    ]
    style = CSS + COSTS_CSS + gallery.style()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"sidflow: {data.preset}"),
        tag("style", Markup(style)),
        sheet_link(),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *body)), lang="en") + "\n"


def _run_section(data: ReportData, glossary: Glossary) -> Markup:
    return tag(
        "section",
        tag("h2", "Statistics of the run"),
        tag(
            "div",
            *[
                tag("div", tag("h3", name), _figure_list(document, glossary))
                for name, document in (("ingest", data.ingest), ("split", data.split), ("semantic IDs", data.audit))
            ],
            class_="thirds",
        ),
    )


def _figure_list(document: Mapping[str, object], glossary: Glossary) -> Markup:
    rows = [
        join(tag("dt", glossary.link_prefix(name.replace("_", " "))), tag("dd", _format_figure(value)))
        for name, value in document.items()
        if value not in ("", None) and not is_order_figure(name)
    ]
    return tag("dl", *rows, class_="figures") if rows else tag("p", "No figures.", class_="absent")


def _format_figure(value: object) -> str:
    if isinstance(value, float):
        return number(value, 4).rstrip("0").rstrip(".") if abs(value) >= 1e-4 else number(value, 0)
    return number(value) if isinstance(value, int) else str(value)
