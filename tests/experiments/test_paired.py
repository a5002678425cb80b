"""Recommenders against one another, query by query."""

import json

import numpy as np
import polars as pl
import pytest
from experiments.runs import Run
from experiments.tables.results import pooled_answers_table

from experiments import paired, results
from sidflow.evaluation import pooling


def kept(monkeypatch, tmp_path, seeds):
    """Let experiments/results/presets hold runs whose ranks are `seeds`: one dict of columns each."""
    (tmp_path / "tiny.json").write_text(json.dumps({}))
    frames = [pl.DataFrame({"user_id": np.arange(40)} | columns) for columns in seeds]
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(paired, "read_runs", lambda preset: [Run({"preset": preset}, frame) for frame in frames])


def test_a_difference_is_the_mean_over_queries_with_seeds_averaged_first(monkeypatch, tmp_path):
    first = {"mme_sid.rank": np.full(40, 1), "sasrec.rank": np.full(40, 3)}
    second = {"mme_sid.rank": np.full(40, 3), "sasrec.rank": np.full(40, 11)}
    kept(monkeypatch, tmp_path, [first, second])
    (answer,) = paired.answer_questions()
    assert (answer.preset, answer.one, answer.other) == ("tiny", "mme_sid", "sasrec")
    assert answer.comparison.difference == pytest.approx((1 + 0.5) / 2 - (0.5 + 0) / 2)
    assert answer.comparison.relative == pytest.approx(2)
    assert answer.comparison.low == answer.comparison.high == answer.comparison.difference  # every user is alike


def test_the_same_resamples_serve_both_sides(monkeypatch, tmp_path):
    ranks = np.random.default_rng(0).integers(1, 30, size=40)
    kept(monkeypatch, tmp_path, [{"mme_sid.rank": ranks, "sasrec.rank": ranks}])
    (answer,) = paired.answer_questions()
    assert (answer.comparison.low, answer.comparison.high) == (0, 0)


@pytest.mark.parametrize("answers", [paired.answer_questions, paired.answer_pooled_questions])
def test_several_queries_of_a_user_are_one_piece_of_evidence(monkeypatch, tmp_path, answers):
    ranks = np.random.default_rng(0).integers(1, 30, size=(2, 40))
    widths = []
    for copies in (1, 4):
        columns = {name: np.tile(row, copies) for name, row in zip(("mme_sid.rank", "sasrec.rank"), ranks, strict=True)}
        columns["user_id"] = np.tile(np.arange(40), copies)
        real(monkeypatch, tmp_path, {name: [columns] for name in "ab"})
        found = answers()[0]
        widths.append(
            [share.standard_error for share in found.effects]
            if answers is paired.answer_pooled_questions
            else found.comparison.standard_error
        )
    assert widths[0] == pytest.approx(widths[1])


def test_expected_figures_count_where_they_are_known(monkeypatch, tmp_path):
    ranks, gains = np.full(40, 20), np.where(np.arange(40) < 10, np.nan, 0.5)
    columns = {"sasrec.rank": ranks, "markov.rank": ranks}
    kept(
        monkeypatch,
        tmp_path,
        [columns | {"sasrec.expected_ndcg_at_10": gains, "markov.expected_ndcg_at_10": gains / 2}],
    )
    realised, expected = paired.answer_questions()
    assert realised.comparison.difference == 0
    assert (expected.metric, expected.comparison.difference) == ("expected_ndcg_at_10", pytest.approx(0.25))


def test_log_ranks_are_compared_too_and_the_lower_is_the_better(monkeypatch, tmp_path):
    ranks = np.random.default_rng(0).integers(2, 30, size=40)
    columns = {"mme_sid.rank": ranks * 2, "sasrec.rank": ranks, "markov.rank": ranks * 8}
    kept(monkeypatch, tmp_path, [columns, columns])
    worse, better = paired.answer_questions(["mean_log2_rank"])
    assert (worse.one, worse.other, worse.comparison.verdict) == ("mme_sid", "sasrec", "behind")
    assert worse.comparison.difference == pytest.approx(1)
    assert (better.one, better.other, better.comparison.verdict) == ("sasrec", "markov", "shown")
    assert better.comparison.difference == pytest.approx(-3)


def real(monkeypatch, tmp_path, presets):
    """Let the records hold presets, each of the runs whose ranks are passed; `embedded` is the synthetic one."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    runs = {}
    for preset, seeds in presets.items():
        (tmp_path / f"{preset}.json").write_text("{}")
        source = "synthetic" if preset == "embedded" else "files"
        record = {"preset": preset, "params": {"ingest": {"source": source}}}
        users = np.arange(len(next(iter(seeds[0].values()))))
        runs[preset] = [Run(dict(record), pl.DataFrame({"user_id": users} | columns)) for columns in seeds]
    monkeypatch.setattr(paired, "read_runs", runs.get)


def some(better: int, of: int = 200) -> dict[str, np.ndarray]:
    """Return ranks of `of` users: sasrec hits half of them, mme_sid `better` more, all at rank 1."""
    return {
        "sasrec.rank": np.where(np.arange(of) < of // 2, 1, 99),
        "mme_sid.rank": np.where(np.arange(of) < of // 2 + better, 1, 99),
    }


def test_the_pool_is_that_of_each_data_sets_ratio(monkeypatch, tmp_path):
    real(monkeypatch, tmp_path, {"a": [some(10)], "b": [some(20)], "c": [some(40)]})
    (answer,) = paired.answer_pooled_questions()
    effects = np.array([share.effect for share in answer.effects])
    assert (answer.one, answer.other) == ("mme_sid", "sasrec")
    np.testing.assert_allclose(effects, np.log([110 / 100, 120 / 100, 140 / 100]))
    assert answer.pooled == pooling.pool_effects(effects, np.array([share.standard_error for share in answer.effects]))
    # log(1 + extra / hits) with 10 and 100 of the users: by the delta method
    assert answer.effects[0].standard_error == pytest.approx(10 / 110 * np.sqrt(1 / 10 + 1 / 100), rel=0.05)
    assert answer.verdict == "undecided"


def test_gains_that_agree_on_all_data_sets_are_shown(monkeypatch, tmp_path):
    real(monkeypatch, tmp_path, {name: [some(500, 4_000)] for name in "abcd"})
    (answer,) = paired.answer_pooled_questions()
    assert answer.verdict == "shown"
    assert answer.pooled.tau_squared == 0


def test_losses_that_agree_are_shown_to_be_behind(monkeypatch, tmp_path):
    real(monkeypatch, tmp_path, {name: [some(-500, 4_000)] for name in "abcd"})
    assert paired.answer_pooled_questions()[0].verdict == "behind"


def test_seeds_are_averaged_before_the_ratio(monkeypatch, tmp_path):
    real(monkeypatch, tmp_path, {"a": [some(10), some(30)], "b": [some(20)]})
    (answer,) = paired.answer_pooled_questions()
    assert answer.effects[0].effect == pytest.approx(answer.effects[1].effect)


def test_two_forms_of_a_source_count_once_and_the_synthetic_one_never(monkeypatch, tmp_path):
    forms = {"amazon-beauty": [some(10)], "amazon-beauty-mmesid": [some(20)]}
    real(monkeypatch, tmp_path, forms | {"embedded": [some(30)]})
    assert paired.answer_pooled_questions() == []
    real(monkeypatch, tmp_path, forms | {"z": [some(30)]})
    assert [share.preset for share in paired.answer_pooled_questions()[0].effects] == ["amazon-beauty", "z"]
    one_recommender = {"amazon-beauty": [{"sasrec.rank": np.ones(9, dtype=int)}]}
    real(monkeypatch, tmp_path, one_recommender | {"amazon-beauty-mmesid": [some(20)], "z": [some(30)]})
    assert [share.preset for share in paired.answer_pooled_questions()[0].effects] == ["amazon-beauty-mmesid", "z"]


@pytest.mark.parametrize(
    ("presets", "counted"),
    [
        (("amazon-beauty", "amazon-beauty-text-pretrained"), "amazon-beauty-text-pretrained"),
        (("amazon-beauty-mmesid", "amazon-beauty-text-dmesr", "amazon-beauty-text-fused"), "amazon-beauty-text-dmesr"),
        (("amazon-toys-fused", "amazon-toys-pretrained"), "amazon-toys-fused"),
    ],
)
def test_a_data_set_counts_once_whatever_presets_of_it_are_recorded(monkeypatch, tmp_path, presets, counted):
    """None extends a recorded one on the same data."""
    real(monkeypatch, tmp_path, {preset: [some(10)] for preset in presets})
    assert paired.answer_pooled_questions() == []
    real(monkeypatch, tmp_path, {preset: [some(10)] for preset in (*presets, "z")})
    assert [share.preset for share in paired.answer_pooled_questions()[0].effects] == [counted, "z"]


def test_a_data_set_without_a_hit_has_no_ratio(monkeypatch, tmp_path):
    nothing = {"sasrec.rank": np.full(50, 99), "mme_sid.rank": np.ones(50, dtype=int)}
    real(monkeypatch, tmp_path, {"a": [some(10)], "b": [nothing], "c": [some(20)]})
    assert [share.preset for share in paired.answer_pooled_questions()[0].effects] == ["a", "c"]


def test_a_data_set_with_the_same_ranks_is_named_and_not_pooled(monkeypatch, tmp_path):
    real(monkeypatch, tmp_path, {"a": [some(10)], "b": [some(0)]})
    assert paired.answer_pooled_questions() == []
    real(monkeypatch, tmp_path, {"a": [some(10)], "b": [some(0)], "c": [some(20)]})
    (answer,) = paired.answer_pooled_questions()
    assert [(share.preset, share.is_pooled) for share in answer.effects] == [("a", True), ("b", False), ("c", True)]
    assert answer.pooled == pooling.pool_effects(
        *(np.array([getattr(share, name) for share in answer.effects[::2]]) for name in ("effect", "standard_error"))
    )
    *_, row = pooled_answers_table([answer], 0.04).splitlines()
    assert "a +10.0%; b: the same ranks, not pooled; c +20.0%" in row


def test_the_best_baseline_is_the_one_that_validation_chose_most_often(monkeypatch, tmp_path):
    markov = {"markov.rank": np.where(np.arange(200) < 80, 1, 99)}
    presets = {name: [some(10) | markov, some(10) | markov, some(10) | markov] for name in "ab"}
    real(monkeypatch, tmp_path, presets)
    assert paired.BEST_BASELINE not in {
        answer.other for answer in paired.answer_pooled_questions()
    }  # older records name none
    for seed, name in enumerate(("sasrec", "markov", "markov")):
        for preset in presets:
            paired.read_runs(preset)[seed].record["best_baseline"] = name
    (found,) = (answer for answer in paired.answer_pooled_questions() if answer.other == paired.BEST_BASELINE)
    assert {share.opponent for share in found.effects} == {"markov"}
    assert found.effects[0].effect == pytest.approx(np.log(110 / 80))


def test_each_answer_has_its_verdict_and_names_the_best_baseline(monkeypatch, tmp_path):
    ranks = {"mme_sid.rank": np.full(400, 1), "sasrec.rank": np.full(400, 3), "ease.rank": np.full(400, 1)}
    real(monkeypatch, tmp_path, {"a": [ranks]})
    paired.read_runs("a")[0].record["best_baseline"] = "ease"
    shown, behind = paired.answer_questions()
    assert (shown.other, shown.other_is_best_baseline, shown.comparison.verdict) == ("sasrec", False, "shown")
    assert (behind.other, behind.other_is_best_baseline, behind.comparison.verdict) == (
        "ease",
        True,
        "contradicted",
    )  # no gain, and no room for one
