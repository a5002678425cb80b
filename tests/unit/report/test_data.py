"""The key figures that `dvc metrics diff` compares."""

import re

import pytest
from tests.unit.report.cases import report_data

from sidflow.artifacts.evaluation import FIGURES
from sidflow.report.data import key_figures

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
        ingest={**made.ingest, "interactions": 72}, split={**made.split, **SPLIT}, audit={**AUDIT, **UNLISTED}
    )


def test_key_figures_are_few_flat_and_named_after_their_owner(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    FIGURES.write(key_figures(data))
    figures = FIGURES.read()
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
