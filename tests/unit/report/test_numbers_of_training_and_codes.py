"""Training curves, codes, order of the events and statistics: every number of the page against the artifacts."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from tests.unit.report.reading import (
    classed,
    fixed,
    heads_of,
    listed,
    number_of,
    parse,
    points_of,
    section,
    share,
    text_of,
)

from sidflow.artifacts.evaluation import EVENT_PAIRS, ITEM_ORDERS
from sidflow.report.glossary import Glossary
from sidflow.report.sections.codes import codes_section

CAPTIONS = {
    "valid_ndcg_at_10": "validation nDCG@10",
    "valid_recall_at_20": "validation Recall@20",
    "loss": "loss",
    "all_objective": "objective, all items",
    "all_tau": "tau, all items",
}
OF_RECOMMENDERS = ["valid_ndcg_at_10", "valid_recall_at_20", "loss"]  # the figure that selects the epoch comes first


def check_curve(chart, column, rows, kept):
    """220 wide and 92 high: epochs from 4 to 216, the least value at 70 and the largest at 24."""
    values = [float(row[column]) for row in rows]
    low, high = min(values), max(values)
    corners = [
        (4 + 212 * place / (len(rows) - 1), 70 - 46 * (value - low) / (high - low))
        for place, value in enumerate(values)
    ]
    (path,) = classed(chart, "path", "line")
    assert np.array(points_of(path)) == pytest.approx(np.array(corners), abs=0.06)
    first, last = f"{values[0]:.4g}", f"{values[-1]:.4g}"
    told = [text_of(one) for one in chart.iter("text")]
    assert told[:3] == [CAPTIONS[column], first, last]
    assert text_of(chart.find("title")) == f"{CAPTIONS[column]}: from {first} to {last} in {len(rows)} epochs"
    circles = classed(chart, "circle", "kept")
    if kept is None:
        assert told[3:] == [] == circles
        return
    assert told[3:] == [f"kept {values[kept - 1]:.4g}"]
    assert (number_of(circles[0], "cx"), number_of(circles[0], "cy")) == pytest.approx(corners[kept - 1], abs=0.01)


def test_each_curve_is_of_its_own_training(data, page):
    runs = classed(section(page, "Training"), "div", "run")
    names = [run.find("h3").text for run in runs]
    assert names[0] == "quantizer" and sorted(names[1:]) == sorted(data.curves)
    for name, run in zip(names, runs, strict=True):
        rows = data.quantizer_curves if name == "quantizer" else data.curves[name]
        kept = (data.quantizer_summary if name == "quantizer" else data.summaries[name])["best_epoch"]
        columns = ["all_objective", "loss", "all_tau"] if name == "quantizer" else OF_RECOMMENDERS
        assert text_of(run.find("h3/small")) == f"{len(rows)} epochs"
        charts = classed(run, "svg", "spark")
        for chart, column in zip(charts, columns, strict=True):
            check_curve(chart, column, rows, kept if column == columns[0] else None)


def codes_of(data, modality):
    rows = data.semantic_ids.iter_rows()
    return [codes for _, of, codes, _ in rows if of == modality]


def test_each_level_has_its_own_codes(data, page):
    """220 wide and 64 high: one column for each code, the most used first, from 64 at none to 2 at the most."""
    image, text, compared = classed(section(page, "Semantic IDs: use of the codes"), "div", "run")
    assert text_of(compared.find("h3")) == "Compared with residual k-means"
    for modality, run in (("image", image), ("text", text)):
        table = codes_of(data, modality)
        assert text_of(run.find("h3")) == f"{modality}{len(table)} items"
        for level, cell in enumerate(classed(run, "div", "sparks")[0]):
            counts = sorted(Counter(codes[level] for codes in table).values(), reverse=True)
            shares = [count / sum(counts) for count in counts]
            perplexity = f"{math.exp(-sum(one * math.log(one) for one in shares)):.0f}"
            assert text_of(cell.find("p")) == f"level {level}: {len(counts)} codes, perplexity {perplexity}"
            title = f"{modality}, level {level}: {len(counts)} codes in use, perplexity {perplexity}"
            assert text_of(next(cell.iter("title"))) == title
            columns = re.findall(r"M([\d.]+),64V([\d.]+)h([\d.]+)V64Z", classed(cell, "path", "bar")[0].get("d"))
            step = 220 / len(counts)
            expected = [
                (place * step, 64 - 62 * count / counts[0], step - min(1, 0.15 * step))
                for place, count in enumerate(counts)
            ]
            assert np.array(columns, dtype=float) == pytest.approx(np.array(expected), abs=0.006)
            even = classed(cell, "line", "ceiling")[0]
            assert number_of(even, "y1") == pytest.approx(64 - 62 / len(counts) / shares[0], abs=0.01)


def test_collisions_are_those_of_the_modality(data, page):
    part, audit = section(page, "Semantic IDs: use of the codes"), data.audit
    for run, modality in zip(classed(part, "div", "run"), ("image", "text"), strict=False):

        def count(name, modality=modality):
            return f"{audit[f'{name}_{modality}']:,}".replace(",", "\u2009")

        def rate(name, modality=modality):
            return share(audit[f"collision_rate{name}_{modality}"])

        assert text_of(classed(run, "p", "note")[0]) == (
            f"{rate('')} of {count('items')} items share all their codes with another one before suffixes: "
            f"{count('collision_items')} items in {count('collision_groups')} groups. "
            f"Among the {count('items_distinct')} items with distinct inputs: {rate('_distinct')}. "
            f"After reassignment: {rate('_resolved')}."
        )
    note = text_of(part.findall("p")[-1])
    assert note.endswith("Within a group a suffix tells items apart: 0 for the first, then 1, 2, ...")


def test_the_audit_beside_that_of_residual_k_means(data, page):
    part = section(page, "Semantic IDs: use of the codes")
    columns = {
        "neighbour recall": "neighbour_recall_at_10",
        "tau": "tau",
        "tau over triples": "tau_triples",
        "collisions among distinct inputs": "collision_rate_distinct",
        "reconstruction error": "reconstruction_error",
    }
    assert heads_of(part) == ["", *columns]
    rows = {text_of(row.find("th")): row.findall("td") for row in next(part.iter("tbody"))}
    assert len(rows) == 4
    for title, prefix in (("mm-rq-vae", ""), ("rq-kmeans", "reference_")):
        for modality in ("image", "text"):
            values = [fixed(data.audit[f"{prefix}{name}_{modality}"]) for name in columns.values()]
            assert len(set(values)) == 5
            assert [text_of(cell) for cell in rows[f"{modality}{title}"]] == values


def test_ids_whose_method_is_not_on_record_stand_beside_residual_k_means(data):
    unnamed = data._replace(quantizer_summary={"best_epoch": 4})
    part = parse(str(codes_section(unnamed, Glossary(unnamed))))
    assert [text_of(row.find("th/small")) for row in next(part.iter("tbody"))] == ["these IDs", "rq-kmeans"] * 2


def test_each_share_of_ascending_pairs_stands_in_its_row_and_column(data, page):
    part = section(page, "Order of the events")
    assert heads_of(part)[1:] == list(EVENT_PAIRS.values())
    rows = {text_of(row.find("th")): row.findall("td") for row in next(part.iter("tbody"))}
    assert list(rows) == list(ITEM_ORDERS.values())
    for order, title in ITEM_ORDERS.items():
        for pairs, cell in zip(EVENT_PAIRS, rows[title], strict=True):
            name = f"{pairs}_ascending_{order}"
            assert cell.text == share(data.ingest[name])
            assert text_of(cell.find("small")) == share(data.ingest[f"{name}_shuffled"])
    note = text_of(classed(part, "p", "note")[0])
    assert note.endswith(
        "Near 100% or 0%, sequences are sorted by something other than time, and all metrics are inflated."
    )


def test_the_statistics_of_the_run(data, page):
    """Integers with their thousands apart, other numbers with four decimals at most, of every figure that is set."""
    columns = {text_of(one.find("h3")): listed(one) for one in classed(page, "div", "thirds")[0]}
    assert columns["ingest"] == {
        "users": "1\u2009234\u2009567",
        "items core": "24",
        "interactions": "98\u2009765",
        "items with picture": "21",
        "core items with text": "23",
        "density": "0.0273",
        "drift": "\u22120.5",
        "rare": "0",
        "source": "a.csv",
        "pairs count": "345",
    }
    assert columns["split"] == {"queries test": "4\u2009321", "targets tied test": "17", "tie rate": "0.25"}
    audit = {
        name.replace("_", " "): f"{value:,}".replace(",", "\u2009")
        if isinstance(value, int)
        else f"{value:.4f}".rstrip("0").rstrip(".")
        for name, value in data.audit.items()
    }
    assert columns["semantic IDs"] == audit
    assert (audit["items image"], audit["collision rate text"]) == ("1\u2009240", "0.3125")
