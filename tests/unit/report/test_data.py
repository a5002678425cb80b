"""The key figures that `dvc metrics diff` compares."""

import json
import re
from pathlib import Path

import pytest

from sidflow.artifacts.evaluation import FIGURES
from sidflow.core.params import load_params
from sidflow.report.data import ReportData, key_figures

REPORTS = Path(__file__).parents[3] / "artifacts/reports"


def _committed() -> ReportData:
    """Return the parts of the report data that key figures use, from the committed reports."""
    names = load_params()["recommenders"]
    read = {path.stem: json.loads(path.read_text()) for path in REPORTS.glob("*.json")}
    parts = {"ingest": "ingest", "split": "split", "leaderboard": "leaderboard", "audit": "semantic_ids"}
    nothing = dict.fromkeys(ReportData._fields)
    return ReportData(
        **nothing
        | {part: read[name] for part, name in parts.items()}
        | {"metrics": {name: read[name] for name in names}}
    )


def test_key_figures_are_few_flat_and_named_after_their_owner(tmp_path, monkeypatch):
    data = _committed()
    monkeypatch.chdir(tmp_path)
    FIGURES.write(key_figures(data))
    figures = FIGURES.read()
    assert 40 < len(figures) < 80
    for name, value in figures.items():
        assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)
        assert isinstance(value, int | float), name
        assert value == round(value, 4)
    assert {name.split(".")[0] for name in figures} == {"data", "semantic_ids", *data.metrics}


def test_key_figures_equal_those_of_the_reports():
    data = _committed()
    figures = key_figures(data)
    assert figures["mme_sid.ndcg_at_10"] == pytest.approx(data.metrics["mme_sid"]["ndcg_at_10"], abs=1e-4)
    assert figures["sasrec.coverage_at_10"] == pytest.approx(data.metrics["sasrec"]["coverage_at_10"], abs=1e-4)
    assert figures["data.items"] == data.ingest["items_core"]
    assert figures["data.test_queries"] == data.split["queries_test"]
    for name in ("targets_in_history_test", "sequences_in_training_test"):
        assert figures[f"data.test_{name.removesuffix('_test')}"] == data.split[name]
    assert figures["data.duplicated_sequences"] == data.split["duplicated_sequences"]
    assert figures["semantic_ids.collision_rate"] == pytest.approx(data.audit["collision_rate"], abs=1e-4)
    relative = data.leaderboard["differences"]["mme_sid"][data.leaderboard["primary"]]["relative"]
    assert figures["mme_sid.gain"] == pytest.approx(relative, abs=1e-4)
    assert "sasrec.gain" not in figures  # a baseline claims none
