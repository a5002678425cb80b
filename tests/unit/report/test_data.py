"""What the page is made of: where each part is read, the key figures and the plots that DVC compares."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import polars as pl
import pytest
from tests.unit.report.cases import report_data

from sidflow.artifacts.evaluation import FIGURES, SINGULAR_VALUES_PLOT, SLICES_PLOT, VALIDATION_PLOT
from sidflow.report import data as data_module
from sidflow.report.data import key_figures, read_report_data, write_plots

SPLIT = {
    "queries_test": 12,
    "targets_in_history_test": 1,
    "targets_tied_test": 2,
    "sequences_in_training_test": 3,
    "duplicated_sequences": 4,
}
AUDIT = {"collision_rate": 0.12345678, "collision_rate_text": 0.3, "tau_text": 0.5}
UNLISTED = {"tau_anchors_text": 7, "tau_triples_text": 0.4, "code_usage_text_level_0": 1.0}


@pytest.fixture
def data():
    made = report_data()
    return made._replace(
        ingest={**made.ingest, "interactions": 72},
        split={**made.split, **SPLIT},
        audit={**AUDIT, **UNLISTED},
        describe={"image_views": 480, "image_colour_accuracy": 0.91875},
    )


def test_key_figures_are_few_flat_and_named_after_their_owner(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FIGURES.write(key_figures(data))
    figures = FIGURES.read()
    described = [name for name in figures if name.startswith("describe.")]
    assert described == ["describe.image_colour_accuracy"]
    assert figures.pop(described[0]) == 0.9187
    assert len(figures) == 3 + 5 + 2 + 4 * len(data.metrics) + 1
    for name, value in figures.items():
        assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)
        assert isinstance(value, int | float), name
        assert value == round(value, 4)
    assert {name.split(".")[0] for name in figures} == {"data", "semantic_ids", *data.metrics}


def test_key_figures_equal_those_of_the_reports(data):
    figures = key_figures(data)
    for name, metrics in data.metrics.items():
        for metric in ("valid_ndcg_at_10", "ndcg_at_10", "recall_at_10", "coverage_at_10"):
            assert figures[f"{name}.{metric}"] == round(metrics[metric], 4)
    assert [figures[f"data.{name}"] for name in ("users", "items", "interactions")] == [12, 24, 72]
    tests = ("queries", "targets_in_history", "targets_tied", "sequences_in_training")
    assert [figures[f"data.test_{name}"] for name in tests] == [12, 1, 2, 3]
    assert figures["data.duplicated_sequences"] == 4
    assert (figures["semantic_ids.collision_rate"], figures["semantic_ids.tau_text"]) == (0.1235, 0.5)
    relative = data.leaderboard["differences"]["mme_sid"][data.leaderboard["primary"]]["relative"]
    assert figures["mme_sid.gain"] == round(relative, 4)
    assert "sasrec.gain" not in figures  # a baseline claims none


class Read(NamedTuple):
    """What was read, in the place of an artifact's content."""

    artifact: str
    model: str | None


def test_each_part_of_the_page_is_read_from_its_own_artifact(monkeypatch):
    pictures = pl.DataFrame({"item_id": [3, 5], "picture": [b"three", b"five"]})
    board = {"primary": "ndcg_at_10", "best_baseline": "sasrec"}
    board["recommenders"] = {"sasrec": {"kind": "baseline", "valid_ndcg_at_10": 0.5}}
    known = {
        "IMAGES": pictures,
        "LEADERBOARD": board,
        "USERS": pl.DataFrame({"user_key": ["a", "b"]}),
        "ABLATIONS": {"preset": "shop", "rows": []},
        "TOP": pl.DataFrame({"items": pl.Series([[1, 2]], dtype=pl.Array(pl.Int32, 2))}),
        "TARGET_RANKS": pl.DataFrame({"rank": [7], "candidates": [9]}),
    }
    names = "INGEST SPLIT METRICS SLICES SPECTRUM CURVES SUMMARY QUANTIZER_CURVES QUANTIZER_SUMMARY ITEMS SEMANTICS "
    names += "SEMANTIC_IDS SEMANTIC_ID_AUDIT IMAGES LEADERBOARD USERS ABLATIONS TOP TARGET_RANKS EMBED_REPORT "
    names += "DESCRIBE_REPORT"
    models = {}

    def artifact(name):
        def read(columns=None, model=None):
            models.setdefault(name, []).append(model)
            content = known.get(name, Read(name, model))
            return content.select(columns) if columns else content

        return SimpleNamespace(read=read, at=lambda: Path(__file__), empty=lambda: Read(f"no {name}", None))

    for name in names.split():
        monkeypatch.setattr(data_module, name, artifact(name))
    monkeypatch.setattr(data_module, "load_histories", lambda: Read("histories", None))
    found = read_report_data("shop", ["sasrec", "ease"], {"head_share": 0.5}, {"ease": {"tail": {"low": 0.25}}})
    assert found.slice_intervals == {"ease": {"tail": {"low": 0.25}}}
    assert (found.preset, found.slice_cuts, found.user_keys) == ("shop", {"head_share": 0.5}, ["a", "b"])
    assert found.pictures == {3: b"three", 5: b"five"}
    for field, name in {
        "ingest": "INGEST",
        "split": "SPLIT",
        "quantizer_curves": "QUANTIZER_CURVES",
        "quantizer_summary": "QUANTIZER_SUMMARY",
        "items": "ITEMS",
        "semantics": "SEMANTICS",
        "semantic_ids": "SEMANTIC_IDS",
        "audit": "SEMANTIC_ID_AUDIT",
        "describe": "DESCRIBE_REPORT",
        "embeddings": "EMBED_REPORT",
        "histories": "histories",
    }.items():
        assert getattr(found, field) == Read(name, None)
    assert found.leaderboard == board
    for field in ("metrics", "slices", "spectra", "curves", "summaries"):
        name = {"spectra": "SPECTRUM", "summaries": "SUMMARY"}.get(field, field.upper())
        assert getattr(found, field) == {model: Read(name, model) for model in ("sasrec", "ease")}
    (ranked,) = found.ranked_lists  # there is no method: the best baseline alone
    assert (ranked.name, ranked.top.tolist(), ranked.rank.tolist()) == ("sasrec", [[1, 2]], [7])
    assert models["TOP"] == models["TARGET_RANKS"] == ["sasrec"]
    assert found.ablations == known["ABLATIONS"]
    assert read_report_data("other", [], {}, {}).ablations is None  # they ran with another preset
    without = read_report_data("shop", [], {}, {}, semantic_ids=False)
    assert (without.quantizer_curves, without.quantizer_summary, without.audit) == ([], {}, {})
    assert without.semantic_ids == Read("no SEMANTIC_IDS", None)


def test_the_plots_hold_the_rows_of_each_recommender(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    curves = {"ease": [], "sasrec": [{"epoch": "1", "valid_ndcg_at_10": "0.5", "loss": "3"}, {"epoch": "2"}]}
    slices = {
        name: [{"slice": "all", "ndcg_at_10": value, "users": "4"}, {"slice": "cold", "ndcg_at_10": ""}]
        for name, value in (("ease", "0.25"), ("sasrec", "0.75"))
    }
    spectra = {
        name: [
            {"matrix": matrix, "dimension": "1", "singular_value": value}
            for matrix, value in (("item_table", "9"), ("item_matrix", "8"))
        ]
        for name in ("ease", "sasrec")
    }
    write_plots(curves, slices, spectra)
    assert VALIDATION_PLOT.read() == [{"recommender": "sasrec", "epoch": "1", "valid_ndcg_at_10": "0.5"}]
    assert SLICES_PLOT.read() == [
        {"recommender": "ease", "slice": "all", "ndcg_at_10": "0.25"},
        {"recommender": "sasrec", "slice": "all", "ndcg_at_10": "0.75"},
    ]
    assert SINGULAR_VALUES_PLOT.read() == [{"recommender": "sasrec", "dimension": "1", "singular_value": "8"}]
