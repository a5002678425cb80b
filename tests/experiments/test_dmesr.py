"""DMESR against its alternatives, from recorded ranks: on all queries and on slices."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from experiments.runs import Run
from experiments.tables import dmesr as tables
from ruamel.yaml import YAML

from experiments import dmesr
from sidflow.cli import presets

ROOT = Path(__file__).resolve().parents[2]
USERS = 120


def keep(monkeypatch, seeds):
    """Let the records of the preset be runs with these columns."""
    record = {"preset": dmesr.PRESET, "params": {"ingest": {"source": "synthetic"}}}
    runs = [Run(dict(record), pl.DataFrame({"user_id": np.arange(USERS)} | columns)) for columns in seeds]
    monkeypatch.setattr(dmesr, "read_runs", lambda preset: runs if preset == dmesr.PRESET else [])


def ranks(**by_name):
    return {f"{name}.rank": np.broadcast_to(values, USERS).astype(np.int32) for name, values in by_name.items()}


def test_every_recommender_of_a_question_and_of_a_row_is_in_the_preset(monkeypatch):
    monkeypatch.chdir(ROOT)
    listed = set(YAML(typ="safe").load(presets.preset_text(dmesr.PRESET))["recommenders"])
    main = {name for question in dmesr.main_questions() for name in question}
    assert main <= listed
    sasrec = [one for one in dmesr.ablation_questions() + dmesr.alternative_questions() if one[0] == "dmesr_sasrec"]
    assert {name for question in sasrec for name in question} <= listed
    in_table = {name(base) for name in tables._ROWS.values() for base in dmesr.BASES}
    others = {"popularity", "markov", "cooccurrence", "cooccurrence_content", "oracle", "mme_sid", "mme_sid_fused"}
    assert listed - others <= in_table


def test_a_slice_has_its_own_difference_and_its_own_number_of_queries(monkeypatch):
    tail = np.arange(USERS) < 30
    columns = ranks(dmesr_sasrec=np.where(tail, 1, 3), sasrec=np.where(tail, 3, 1))
    keep(monkeypatch, [columns | {"in_tail": tail, "in_cold": np.zeros(USERS, bool)}])
    (whole,) = dmesr.answers(dmesr.main_questions(), "ndcg_at_10")
    (on_tail,) = dmesr.slice_answers("ndcg_at_10")
    assert (whole.slice, whole.queries, on_tail.slice, on_tail.queries) == ("all", USERS, "tail", 30)
    assert whole.comparison.difference == pytest.approx(-0.25)
    assert on_tail.comparison.difference == pytest.approx(0.5)
    assert (whole.comparison.verdict, on_tail.comparison.verdict) == ("behind", "shown")


def test_seeds_are_averaged_first_on_a_slice_too(monkeypatch):
    tail = np.arange(USERS) % 2 == 0
    first, second = ranks(dmesr_sasrec=1, sasrec=3), ranks(dmesr_sasrec=3, sasrec=3)
    keep(monkeypatch, [one | {"in_tail": tail} for one in (first, second)])
    (answer,) = dmesr.slice_answers("ndcg_at_10")
    assert answer.comparison.difference == pytest.approx(0.25)
    assert answer.comparison.low == answer.comparison.high == pytest.approx(0.25)  # every user is alike


def test_p_is_corrected_for_all_rows_of_the_table(monkeypatch):
    generator = np.random.default_rng(0)
    columns = ranks(dmesr_sasrec=generator.integers(1, 9, USERS), sasrec=generator.integers(1, 9, USERS))
    masks = {f"in_{name}": generator.random(USERS) < 0.5 for name in ("tail", "without_text")}
    keep(monkeypatch, [columns | masks])
    together = {one.slice: one.comparison for one in dmesr.slice_answers("ndcg_at_10")}
    keep(monkeypatch, [columns | {"in_tail": masks["in_tail"]}])
    (alone,) = dmesr.slice_answers("ndcg_at_10")
    assert together["tail"].difference == alone.comparison.difference
    assert together["tail"].p == alone.comparison.p
    assert together["tail"].p_corrected > alone.comparison.p_corrected or alone.comparison.p_corrected == 1


def test_records_without_slices_have_none(monkeypatch):
    keep(monkeypatch, [ranks(dmesr_sasrec=1, sasrec=2)])
    assert dmesr.slice_answers("ndcg_at_10") == []
    assert tables.dmesr_slices_table() == ""


def test_the_tables_show_each_recommender_under_its_base_model(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    monkeypatch.setattr(dmesr, "read_runs", lambda preset: [])
    assert tables.dmesr_table() == tables.dmesr_differences_table() == ""
    value = {"mean": 0.25, "low": 0.2, "high": 0.3}
    content = {"recommenders": {"dmesr_gru4rec_hybrid": {"metrics": {"ndcg_at_10": value}}}}
    (tmp_path / f"{dmesr.PRESET}.json").write_text(json.dumps(content))
    assert "| DMESR with the prior |  | .2500 ±.0500 |  |" in tables.dmesr_table()
    keep(monkeypatch, [ranks(dmesr_bert4rec=1, bert4rec_joint=3) | {"in_tail": np.ones(USERS, bool)}])
    assert (
        "| dmesr_bert4rec - bert4rec_joint | +0.5000 [+0.5000, +0.5000] | +100.0% |" in tables.dmesr_differences_table()
    )
