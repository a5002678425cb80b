"""The section of generated IDs: every number is one of the summary or the metrics, at its own place."""

import re

from tests.unit.report.cases import report_data

from sidflow.report.glossary import Glossary
from sidflow.report.markup import ABSENT
from sidflow.report.sections.generation import generation_section

SUMMARY = {
    "items": 40,
    "items_with_id": 37,
    "id_collision_rate": 0.125,
    "beam_recall_of_exact_top_10": {"10": 0.75, "100": 0.875},
    "new_items": {"items": 5, "share_of_top_10": 0.0625},
    "ranking": "exact",
}


def rows(**summaries):
    data = report_data()
    names = list(data.metrics)[: len(summaries)]
    metrics = {name: dict(data.metrics[name]) for name in data.metrics}
    metrics[names[0]] |= {"ndcg_at_10": 0.3125, "ndcg_at_10_by_id": 0.4375}
    metrics[names[-1]] |= {"ndcg_at_10": 0.1875} if len(names) > 1 else {}
    own = dict(zip(names, summaries.values(), strict=True))
    data = data._replace(summaries={**data.summaries, **own}, metrics=metrics)
    text = generation_section(data, Glossary(data))
    found = re.findall(r"<tr>(.*?)</tr>", text or "")
    return names, [[re.sub(r"<.*?>", "", c) for c in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in found]


def test_each_figure_stands_under_its_name():
    without = {**SUMMARY, "new_items": {"items": 0}, "beam_recall_of_exact_top_10": {}, "ranking": "beam"}
    names, (head, first, second) = rows(one=SUMMARY, other=without)
    assert head == [
        "",
        "items with an ID",
        "items that share an ID",
        "nDCG@10",
        "nDCG@10 by ID",
        "beam recall, 10",
        "beam recall, 100",
        "new items",
        "their share of the first ten",
    ]
    thin = "\u2009%"
    assert first == [
        f"{names[0]}exact ranking",
        "37 of 40",
        f"12.5{thin}",
        "0.3125",
        "0.4375",
        f"75.0{thin}",
        f"87.5{thin}",
        "5",
        f"6.2{thin}",
    ]
    assert second[0] == f"{names[1]}beam ranking"
    # no two items share an ID: both figures are one
    assert second[3:] == [
        "0.1875",
        "0.1875",
        ABSENT,
        ABSENT,
        "0",
        ABSENT,
    ]


def test_without_such_recommenders_there_is_no_section():
    data = report_data()
    assert generation_section(data, Glossary(data)) is None
