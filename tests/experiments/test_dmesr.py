"""DMESR against its alternatives, from recorded ranks: on all queries, on slices, and pooled over data sets."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from experiments.runs import Run
from experiments.tables import dmesr as tables
from ruamel.yaml import YAML
from tests.committed import committed_presets

from experiments import dmesr
from sidflow.cli import presets

ROOT = Path(__file__).resolve().parents[2]
USERS = 120
OWN = "embedded-dmesr"


def keep(monkeypatch, seeds, **others):
    """Let the records be runs of `embedded-dmesr` with these columns, a dict a seed; of `others`, of real data."""
    runs = {}
    for preset, columns_of_seeds in {
        OWN: seeds,
        **{name.replace("_", "-"): one for name, one in others.items()},
    }.items():
        record = {"preset": preset, "params": {"ingest": {"source": "synthetic" if preset == OWN else "files"}}}
        runs[preset] = [
            Run(dict(record), pl.DataFrame({"user_id": np.arange(len(next(iter(columns.values()))))} | columns))
            for columns in columns_of_seeds
        ]
    monkeypatch.setattr(dmesr, "read_runs", lambda preset: runs.get(preset, []))
    monkeypatch.setattr(dmesr, "preset_names", lambda: sorted(runs))


def ranks(**by_name):
    return {f"{name}.rank": np.broadcast_to(values, USERS).astype(np.int32) for name, values in by_name.items()}


def hits(better, of=2_000, **more):
    """Return ranks of `of` users: SASRec hits half of them, DMESR `better` more, all at rank 1."""
    return {
        "sasrec.rank": np.where(np.arange(of) < of // 2, 1, 99),
        "dmesr_sasrec.rank": np.where(np.arange(of) < of // 2 + better, 1, 99),
    } | more


def listed(name, tmp_path):
    data = None if name.startswith("embedded") else tmp_path
    return set(YAML(typ="safe").load(presets.preset_text(name, data))["recommenders"])


def test_every_recommender_of_a_question_and_of_a_row_is_in_the_preset(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    asked = {name for question in dmesr.main_questions() for name in question}
    own = listed(OWN, tmp_path)
    assert asked <= own
    questions = dmesr.ablation_questions() + dmesr.alternative_questions()
    assert {name for one in questions if one[0].startswith("dmesr_sasrec") for name in one} <= own
    rows = {name(base) for name in tables._ROWS.values() for base in dmesr.BASES} | set(tables._MME_SID.values())
    counted = {"popularity", "markov", "cooccurrence", "cooccurrence_content", "oracle"}
    compared = [name for name in committed_presets() if name.endswith(dmesr.SUFFIXES[0])]
    assert len(compared) > 1
    for preset in compared:
        assert listed(preset, tmp_path) - counted <= rows
        assert {name for question in dmesr.tail_questions() for name in question} <= listed(preset, tmp_path)
        assert {name for name in asked if not name.endswith("features_hybrid")} <= listed(preset, tmp_path)


def test_each_question_is_asked_once_in_its_family():
    for asked in (dmesr.all_questions(), dmesr.pooled_questions(), dmesr.tail_questions(), dmesr.main_questions()):
        assert len(asked) == len(set(asked))
    for base in dmesr.BASES:
        assert (f"dmesr_{base}", f"{base}_hybrid") in dmesr.main_questions()
        assert (f"dmesr_{base}_hybrid", f"{base}_hybrid") in dmesr.pooled_questions()


def test_presets_made_for_these_comparisons_have_rows_and_no_others(monkeypatch):
    columns = [ranks(dmesr_sasrec=1, sasrec=3, mme_sid=2, mme_sid_fused=1)]
    keep(monkeypatch, columns, amazon_toys=columns, amazon_toys_dmesr=columns, office_products_fused=columns)
    assert dmesr.recorded_presets() == ["amazon-toys-dmesr", OWN, "office-products-fused"]
    table = tables.dmesr_differences_table()
    for preset in dmesr.recorded_presets():
        assert f"| {preset} | dmesr_sasrec - sasrec | +0.5000 [+0.5000, +0.5000] | +100.0% |" in table
        assert f"| {preset} | mme_sid_fused - mme_sid |" in table
    assert "| amazon-toys |" not in table


def test_a_slice_has_its_own_difference_and_its_own_number_of_queries(monkeypatch):
    tail = np.arange(USERS) < 30
    columns = ranks(dmesr_sasrec=np.where(tail, 1, 3), sasrec=np.where(tail, 3, 1))
    none, every = np.zeros(USERS, bool), np.ones(USERS, bool)
    keep(monkeypatch, [columns | {"in_tail": tail, "in_cold": none, "in_without_picture": every}])
    (whole,) = dmesr.answers(OWN, dmesr.main_questions(), "ndcg_at_10")
    (on_tail,) = dmesr.slice_answers(OWN, "ndcg_at_10")
    assert (whole.slice, whole.queries, on_tail.slice, on_tail.queries) == ("all", USERS, "tail", 30)
    assert whole.comparison.difference == pytest.approx(-0.25)
    assert on_tail.comparison.difference == pytest.approx(0.5)
    assert (whole.comparison.verdict, on_tail.comparison.verdict) == ("behind", "shown")


def test_seeds_are_averaged_first_on_a_slice_too(monkeypatch):
    tail = np.arange(USERS) % 2 == 0
    first, second = ranks(dmesr_sasrec=1, sasrec=3), ranks(dmesr_sasrec=3, sasrec=3)
    keep(monkeypatch, [one | {"in_tail": tail} for one in (first, second)])
    (answer,) = dmesr.slice_answers(OWN, "ndcg_at_10")
    assert answer.comparison.difference == pytest.approx(0.25)
    assert answer.comparison.low == answer.comparison.high == pytest.approx(0.25)  # every user is alike


def test_p_is_corrected_for_all_rows_of_the_table(monkeypatch):
    generator = np.random.default_rng(0)
    columns = ranks(dmesr_sasrec=generator.integers(1, 9, USERS), sasrec=generator.integers(1, 9, USERS))
    masks = {f"in_{name}": generator.random(USERS) < 0.5 for name in ("tail", "without_text")}
    keep(monkeypatch, [columns | masks])
    together = {one.slice: one.comparison for one in dmesr.slice_answers(OWN, "ndcg_at_10")}
    keep(monkeypatch, [columns | {"in_tail": masks["in_tail"]}])
    (alone,) = dmesr.slice_answers(OWN, "ndcg_at_10")
    assert together["tail"].difference == alone.comparison.difference
    assert together["tail"].p == alone.comparison.p
    assert together["tail"].p_corrected > alone.comparison.p_corrected or alone.comparison.p_corrected == 1


def test_records_without_slices_have_none(monkeypatch):
    keep(monkeypatch, [ranks(dmesr_sasrec=1, sasrec=2)], a_dmesr=[hits(10)], b_dmesr=[hits(10)])
    assert dmesr.slice_answers(OWN, "ndcg_at_10") == dmesr.tail_answers(OWN, "ndcg_at_10") == []
    assert tables.dmesr_slices_table() == tables.dmesr_tail_table() == tables.NO_RECORD
    assert tables.dmesr_tail_pooled_table().startswith("No two real data sets")


def test_without_a_record_each_table_is_a_line_that_says_so(monkeypatch):
    keep(monkeypatch, [], amazon_toys=[hits(10)])
    monkeypatch.setattr(dmesr, "preset_names", lambda: ["amazon-toys"])
    for table in (
        tables.dmesr_table,
        tables.dmesr_differences_table,
        tables.dmesr_slices_table,
        tables.dmesr_tail_table,
    ):
        assert table() == tables.NO_RECORD
    for table in (tables.dmesr_pooled_table, tables.dmesr_tail_pooled_table):
        assert table().startswith("No two real data sets") and "\n" not in table()


def test_the_pool_is_of_the_real_presets_alone_and_has_a_family_of_its_own(monkeypatch):
    more = {"sasrec_hybrid.rank": hits(-250)["dmesr_sasrec.rank"]}
    keep(
        monkeypatch,
        [hits(1_000)],
        a_dmesr=[hits(200, **more)],
        b_dmesr=[hits(300, **more)],
        c_dmesr=[hits(250, **more)],
        d_fused=[hits(450)],
    )
    plain, hybrid = dmesr.pooled_answers()
    assert (plain.one, plain.other, hybrid.other) == ("dmesr_sasrec", "sasrec", "sasrec_hybrid")
    assert [one.preset for one in plain.effects] == ["a-dmesr", "b-dmesr", "c-dmesr"]
    np.testing.assert_allclose([one.effect for one in plain.effects], np.log([1.2, 1.3, 1.25]))
    assert plain.verdict == "shown"
    row = tables.dmesr_pooled_table().splitlines()[2]
    assert row.startswith("| dmesr_sasrec over sasrec | a-dmesr +20.0%; b-dmesr +30.0%; c-dmesr +25.0% |")
    assert row.endswith("| shown |")


def test_seeds_are_averaged_before_they_are_pooled(monkeypatch):
    keep(monkeypatch, [], a_dmesr=[hits(100), hits(300)], b_dmesr=[hits(200)])
    (answer,) = dmesr.pooled_answers()
    assert answer.effects[0].effect == pytest.approx(answer.effects[1].effect)


def on_tail(better, of=2_000):
    """Return hits of which the even users' targets are tail items; there alone DMESR is ahead, by `better`."""
    tail = np.arange(of) % 2 == 0
    columns = hits(0, of)
    gained = tail & (np.arange(of) >= of // 2) & (np.arange(of) < of // 2 + 2 * better)
    columns["dmesr_sasrec.rank"] = np.where(gained, 1, columns["dmesr_sasrec.rank"])
    return columns | {"in_tail": tail}


def test_the_tail_table_holds_gains_on_tail_targets_against_the_goal(monkeypatch):
    keep(monkeypatch, [on_tail(200)], small_dmesr=[on_tail(30)])
    rows = {line.split(" | ")[0].strip("| "): line for line in tables.dmesr_tail_table().splitlines()[2:]}
    assert "| 1000 | dmesr_sasrec - sasrec | +0.2000 [" in rows[OWN] and "| +40.0% |" in rows[OWN]
    assert "| shown | reached |" in rows[OWN]
    assert "| +6.0% |" in rows["small-dmesr"] and "| shown | excluded |" in rows["small-dmesr"]
    assert "as large as +10%" in tables.dmesr_tail_table()


def test_the_tail_is_pooled_over_the_real_presets(monkeypatch):
    keep(monkeypatch, [on_tail(450)], a_dmesr=[on_tail(200)], b_dmesr=[on_tail(200)], c_dmesr=[hits(10)])
    (answer,) = dmesr.pooled_tail_answers()
    assert [one.preset for one in answer.effects] == ["a-dmesr", "b-dmesr"]
    np.testing.assert_allclose([one.effect for one in answer.effects], np.log([1.4, 1.4]))
    assert "| dmesr_sasrec over sasrec | a-dmesr +40.0%; b-dmesr +40.0% |" in tables.dmesr_tail_pooled_table()
    assert "claim: +10%" in tables.dmesr_tail_pooled_table()
    gains = zip("abcdef", (60, -60, 50, -50, 40, -40), strict=True)
    keep(monkeypatch, [], **{f"{name}_dmesr": [hits(gain, in_tail=np.ones(2_000, bool))] for name, gain in gains})
    (answer,) = dmesr.pooled_tail_answers()
    assert answer.verdict == "contradicted" and np.log(1.04) < answer.pooled.high < np.log(1.10)


def test_the_tables_show_each_recommender_under_its_base_model(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    value = {"mean": 0.25, "low": 0.2, "high": 0.3}
    recommenders = {name: {"metrics": {"ndcg_at_10": value}} for name in ("dmesr_gru4rec_hybrid", "mme_sid_fused")}
    for preset in (OWN, "office-products-dmesr"):
        (tmp_path / f"{preset}.json").write_text(json.dumps({"recommenders": recommenders}))
    keep(monkeypatch, [ranks(dmesr_bert4rec=1, bert4rec_joint=3)], office_products_dmesr=[])
    assert tables.dmesr_table().splitlines()[2:] == [
        f"| {preset} | {row}"
        for preset in (OWN, "office-products-dmesr")
        for row in (
            "DMESR with the prior |  | .2500 ±.0500 |  |",
            "MME-SID with what DMESR fused | .2500 ±.0500 |  |  |",
        )
    ]
    assert f"| {OWN} | dmesr_bert4rec - bert4rec_joint | +0.5000 [+0.5000, +0.5000] | +100.0% |" in (
        tables.dmesr_differences_table()
    )
