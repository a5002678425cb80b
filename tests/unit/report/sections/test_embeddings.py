"""The section of the encoders: every number is one of the audit, at its own place."""

import re

from tests.unit.report.cases import report_data

from sidflow.report.glossary import Glossary
from sidflow.report.sections.embeddings import embeddings_section
from sidflow.report.sections.examples import Gallery

FIGURES = ("items", "vectors", "width", "effective_rank", "mean_cosine", "duplicates", "norm_spread")
AUDIT = {
    "neighbours": 7,
    "encoders": {
        "text": dict(zip(FIGURES, (21, 22, 64, 31.25, 0.125, 3, 0.5), strict=True)),
        "words<": dict(zip(FIGURES, (11, 12, 9876, None, -0.25, 0, 0.0625), strict=True)),
    },
    "agreement": {
        "cooccurrence": {"text": 0.13, "words<": 0.14},
        "text": {"cooccurrence": 0.13, "words<": 0.58},
        "words<": {"cooccurrence": 0.14, "text": 0.58},
    },
    "gallery": [
        {"item": 2, "nearest": {"cooccurrence": [5], "text": [3, 4], "words<": []}},
        {"item": 9, "nearest": {}},
    ],
}


def section(audit):
    data = report_data()._replace(embeddings=audit)
    titles = {item: f"title <{item}>" for item in data.items["item_id"].to_list()}
    return embeddings_section(data, Gallery({}, titles, 32, 80), Glossary(data))


def cells(text):
    rows = re.findall(r"<tr>(.*?)</tr>", text)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


def test_every_number_stands_in_its_row_and_column():
    figures, agreement = (cells(table) for table in re.findall(r"<table.*?</table>", section(AUDIT)))
    assert figures[0][1:] == [
        "items", "vectors", "dimensions", "effective rank", "mean cosine", "duplicates", "spread of lengths",
    ]  # fmt: skip
    assert figures[1:] == [
        ["text", "21", "22", "64", "31.2", "0.125", "3", "0.500"],
        ["words&lt;", "11", "12", "9\u2009876", "\u2013", "\u22120.250", "0", "0.062"],
    ]
    assert agreement == [
        ["", "text", "words&lt;", "co-occurrence"],
        ["text", "", "58\u2009%", "13\u2009%"],
        ["words&lt;", "58\u2009%", "", "14\u2009%"],
        ["co-occurrence", "13\u2009%", "14\u2009%", ""],
    ]


def test_items_stand_above_their_nearest_in_each_encoder():
    text = section(AUDIT)
    assert " on the 7 nearest items" in text
    (card,) = re.findall(r"<article.*?</article>", text)  # one item has no nearest in any
    parts = re.split(r"<h4>(.*?)</h4>", card)
    captions = [re.findall(r"<figcaption[^>]*>title &lt;(\d+)&gt;", part) for part in parts[2::2]]
    tiles = dict(zip(parts[1::2], captions, strict=True))
    assert tiles == {"text": ["3", "4"], "words&lt;": [], "co-occurrence": ["5"]}
    assert re.findall(r"<h3>title &lt;(\d+)&gt;", parts[0]) == ["2"]
    assert "Nothing near." in parts[4]


def test_without_encoders_there_is_no_section():
    assert section({}) is None
    assert section({"encoders": {}, "agreement": {}, "gallery": [], "neighbours": 10}) is None
