"""The ablation table: which rows mean something, and what stands in them."""

import numpy as np
import polars as pl
import pytest

from sidflow.cli import ablations
from sidflow.cli.ablations import FULL_MODEL, WITHOUT, AblationRun
from sidflow.core.params import load_params
from sidflow.evaluation.params import CompareParams
from sidflow.mme_sid.params import FinetuneParams


def test_every_change_is_a_param():
    settings = load_params()
    for changes in ablations.ABLATION_ROWS.values():
        for name in changes:
            node = settings
            for section in name.split("."):
                node = node[section]


def test_only_rows_where_something_goes_and_something_stays():
    whole = FinetuneParams()
    assert set(ablations.applicable_rows(["collaborative", "text", "image"], whole)) == set(ablations.ABLATION_ROWS)
    two = ablations.applicable_rows(["collaborative", "text"], whole)
    assert "without image" not in two
    assert two["collaborative rows alone"][WITHOUT] == ["text"]
    one = ablations.applicable_rows(["collaborative"], whole)
    assert not {"without collaborative", "collaborative rows alone"} & set(one)
    assert "without codes" in one


def test_what_the_preset_leaves_out_stays_out():
    tied = FinetuneParams(without=("collaborative",), part_weights="one")
    rows = ablations.applicable_rows(["collaborative", "text", "image"], tied)
    assert rows["without text"][WITHOUT] == ["collaborative", "text"]
    assert not {"without collaborative", "collaborative rows alone", "without frequency-aware fusion"} & set(rows)
    assert not {"without text", "without image"} & set(ablations.applicable_rows(["collaborative", "text"], tied))


def test_a_row_is_the_paired_difference_from_the_whole_over_users_seeds_averaged_first():
    draw = np.random.default_rng(0)
    users = draw.random(400)
    noise = [draw.normal(0, 0.3, 400) for _ in range(2)]
    runs = {
        FULL_MODEL: [AblationRun(seed, users + one, {"alive_share": 1.0}) for seed, one in enumerate(noise)],
        "less": [AblationRun(seed, users + one - 0.05, {"alive_share": 0.5}) for seed, one in enumerate(noise)],
        "once": [AblationRun(0, users, {})],
    }
    whole, less, once = ablations.ablation_table(runs, CompareParams(draws=400))
    assert "difference" not in whole
    assert less["difference"] == pytest.approx(-0.05)
    assert less["low"] == pytest.approx(-0.05) and less["high"] == pytest.approx(-0.05)
    assert "detectable" not in whole
    assert less["detectable"] == pytest.approx(0)
    error = noise[0].std() / np.sqrt(400)  # of the one seed that both have
    assert once["detectable"] == pytest.approx((1.960 + 0.842) * error, rel=0.1)  # at 80% power
    assert less["seeds"] == 2 and less["alive_share"] == 0.5
    assert once["low"] < once["difference"] < once["high"]
    assert once["difference"] == pytest.approx(-np.mean(noise[0]))
    assert once["alive_share"] is None


def test_a_difference_is_over_the_seeds_that_both_have():
    draw = np.random.default_rng(0)
    users = {seed: draw.random(200) + seed for seed in (42, 43, 44, 45)}
    runs = {
        FULL_MODEL: [AblationRun(seed, users[seed], {}) for seed in (42, 43, 44)],
        "less": [AblationRun(seed, users[seed] - 0.05, {}) for seed in (44, 43)],
        "other": [AblationRun(seed, users[seed] - 0.1, {}) for seed in (42, 45)],
        "alone": [AblationRun(45, users[45], {})],
    }
    _, less, other, alone = ablations.ablation_table(runs, CompareParams(draws=200))
    assert (less["seeds"], less["difference"]) == (2, pytest.approx(-0.05))
    assert (other["seeds"], other["difference"]) == (2, pytest.approx(-0.1))
    assert "difference" not in alone and "detectable" not in alone
    assert alone["mean"] == pytest.approx(users[45].mean())


def test_without_a_seed_in_common_the_table_has_no_difference():
    users = np.zeros(20)
    runs = {FULL_MODEL: [AblationRun(1, users, {})], "less": [AblationRun(2, users, {})]}
    assert not any("difference" in row for row in ablations.ablation_table(runs, CompareParams(draws=200)))
    assert "difference" not in ablations.ablation_table({"less": runs["less"]}, CompareParams(draws=200))[0]


def _tests(expected):
    return pl.DataFrame(
        {
            "user_id": [1, 0, 1],
            "rank": [1, 20, 3],
            "sampled_rank": [1, 1, 1],
            "expected_recall_at_10": pl.Series(expected, dtype=pl.Float32),
            "expected_ndcg_at_10": pl.Series(expected, dtype=pl.Float32),
        }
    )


def test_gains_are_the_mean_of_each_users_queries_by_user():
    realised, known = _tests([None] * 3), _tests([0.2, 0.4, 0.4])
    assert ablations.ablation_metric(realised) == "ndcg_at_10"
    assert ablations.mean_per_user(realised).tolist() == pytest.approx([0.0, 0.75])
    assert ablations.ablation_metric(known) == "expected_ndcg_at_10"
    assert ablations.mean_per_user(known).tolist() == pytest.approx([0.4, 0.3])


def test_diagnostics_take_the_mean_tau_of_the_modalities_with_codes():
    summary = {"valid_ndcg_at_10": 0.1, "forgetting": {"text": {"tau_finetuned": 0.2}, "x": {"tau_finetuned": 0.4}}}
    found = ablations.model_diagnostics({"item_table_alive_share": 1.0}, summary)
    assert found == {
        "valid_ndcg_at_10": 0.1,
        "effective_rank": None,
        "alive_share": 1.0,
        "tau_of_codes": pytest.approx(0.3),
    }
    assert ablations.model_diagnostics({}, {**summary, "forgetting": {}})["tau_of_codes"] is None
