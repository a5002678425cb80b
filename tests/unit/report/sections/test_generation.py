"""The section of generated IDs: every number is one of the summary or the metrics, at its own place."""

from tests.unit.report.cases import report_data
from tests.unit.report.reading import fixed, heads_of, rows_of, section, share, text_of

from sidflow.report.glossary import Glossary
from sidflow.report.sections.generation import generation_section

RECALL = "beam_recall_of_exact_top_10"


def test_each_figure_stands_under_its_name(data, page):
    part = section(page, "Generated semantic IDs")
    assert heads_of(part) == [
        "",
        "items with an ID",
        "items that share an ID",
        "nDCG@10",
        "nDCG@10 by ID",
        "beam recall, 5",
        "beam recall, 20",
        "beam recall, 100",
        "nDCG@10 on validation, exact",
        "nDCG@10 on validation, beam",
        "Recall@10 on validation, exact",
        "Recall@10 on validation, beam",
        "new items",
        "their share of the first ten",
    ]
    rows = rows_of(part)
    assert list(rows) == ["sasrecbeam ranking", "mme_sidexact ranking"]
    for cells, name in zip(rows.values(), ("sasrec", "mme_sid"), strict=True):
        summary, metrics = data.summaries[name], data.metrics[name]
        recall, new = summary[RECALL], summary["new_items"]
        exact, beam = summary["audit_exact"], summary["audit_beam"]  # empty without validation queries
        audited = [side.get(f"valid_{metric}") for metric in ("ndcg_at_10", "recall_at_10") for side in (exact, beam)]
        # without items that share an ID, both figures are one
        by_id = metrics["ndcg_at_10_by_id"] if name == "mme_sid" else metrics["ndcg_at_10"]
        assert [text_of(cell) for cell in cells] == [
            f"{summary['items_with_id']} of {summary['items']}",
            share(summary["id_collision_rate"]),
            fixed(metrics["ndcg_at_10"]),
            fixed(by_id),
            *(share(recall[width]) if width in recall else "\u2013" for width in ("5", "20", "100")),
            *("\u2013" if value is None else fixed(value) for value in audited),
            str(new["items"]),
            share(new["share_of_top_10"]) if name == "mme_sid" else "\u2013",
        ]
    note = text_of(part.findall("p")[-1])
    assert note.startswith("Where several items share an ID, a hit is one among that many")


def test_without_such_recommenders_there_is_no_section():
    data = report_data()
    assert generation_section(data, Glossary(data)) is None
