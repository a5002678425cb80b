"""The encoders: figures of their vectors, how far they agree, and some items with their nearest in each."""

from __future__ import annotations

from collections.abc import Mapping

from sidflow.report.data import ReportData
from sidflow.report.glossary import Glossary
from sidflow.report.markup import Markup, number, percent, tag
from sidflow.report.sections.examples import Gallery

COOCCURRENCE = "cooccurrence"  # the audit's name for what users did


def embeddings_section(data: ReportData, gallery: Gallery, glossary: Glossary) -> Markup | None:
    """Return the audit of the embeddings; None where no encoder ran."""
    audit = data.embeddings
    if not audit or not audit["encoders"]:
        return None
    cards = [_card(entry, gallery) for entry in audit["gallery"] if entry["nearest"]]
    note = "Evenly spaced through the catalogue. Nearest first, by the cosine of the encoder's vectors."
    return tag(
        "section",
        tag("h2", "Embeddings"),
        tag("div", _figures(audit["encoders"], glossary), class_="wide"),
        tag("h3", glossary.link("agreement", "Agreement"), f" on the {audit['neighbours']} nearest items"),
        tag("div", _agreement(audit["agreement"]), class_="wide"),
        tag("h3", "Nearest items") if cards else None,
        tag("p", note, class_="note") if cards else None,
        *cards,
    )


def _figures(encoders: Mapping[str, Mapping], glossary: Glossary) -> Markup:
    columns = {
        "items": "items",
        "vectors": "vectors",
        "width": "dimensions",
        "effective_rank": glossary.link("effective rank"),
        "mean_cosine": glossary.link("mean cosine"),
        "duplicates": glossary.link("duplicates"),
        "norm_spread": glossary.link("spread of lengths"),
    }
    digits = {"effective_rank": 1, "mean_cosine": 3, "norm_spread": 3}
    rows = []
    for name, figures in encoders.items():
        values = (_value(figures[column], digits.get(column)) for column in columns)
        rows.append(tag("tr", tag("th", name, scope="row"), *(tag("td", value) for value in values)))
    head = tag("tr", tag("th", ""), *(tag("th", title, scope="col") for title in columns.values()))
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="plain")


def _value(value: object, digits: int | None) -> str:
    return number(value) if digits is None or value is None else number(float(str(value)), digits)


def _agreement(agreement: Mapping[str, Mapping[str, float | None]]) -> Markup:
    """Return the matrix of agreement, co-occurrence last."""
    names = sorted(agreement, key=lambda name: name == COOCCURRENCE)
    rows = []
    for name in names:
        cells = [tag("td", "" if other == name else percent(agreement[name].get(other))) for other in names]
        rows.append(tag("tr", tag("th", _shown(name), scope="row"), *cells))
    head = tag("tr", tag("th", ""), *(tag("th", _shown(name), scope="col") for name in names))
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="plain")


def _shown(name: str) -> str:
    return "co-occurrence" if name == COOCCURRENCE else name


def _card(entry: Mapping, gallery: Gallery) -> Markup:
    item, nearest = entry["item"], entry["nearest"]
    rows = [tag("div", gallery.tile(item), class_="strip")]
    for name in sorted(nearest, key=lambda name: name == COOCCURRENCE):
        rows.append(tag("h4", _shown(name)))
        tiles = [gallery.tile(near) for near in nearest[name]]
        rows.append(tag("div", *tiles, class_="strip") if tiles else tag("p", "Nothing near.", class_="absent"))
    return tag("article", tag("h3", gallery.title(item)), *rows, class_="card")
