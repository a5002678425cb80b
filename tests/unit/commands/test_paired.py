"""Recommenders against one another, query by query."""

import json

import numpy as np
import polars as pl
import pytest

from sidflow.commands import paired, results
from sidflow.commands.runs import Run


def kept(monkeypatch, tmp_path, seeds):
    """Let docs/results hold runs whose ranks are `seeds`: one dict of columns each."""
    (tmp_path / "tiny.json").write_text(json.dumps({}))
    frames = [pl.DataFrame({"user_id": np.arange(40)} | columns) for columns in seeds]
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "kept", lambda preset: [Run({"preset": preset}, frame) for frame in frames])


def test_a_difference_is_the_mean_over_queries_with_seeds_averaged_first(monkeypatch, tmp_path):
    first = {"mme_sid.rank": np.full(40, 1), "sasrec.rank": np.full(40, 3)}
    second = {"mme_sid.rank": np.full(40, 3), "sasrec.rank": np.full(40, 11)}
    kept(monkeypatch, tmp_path, [first, second])
    (answer,) = paired.answers()
    assert (answer.preset, answer.one, answer.other) == ("tiny", "mme_sid", "sasrec")
    assert answer.found.difference == pytest.approx((1 + 0.5) / 2 - (0.5 + 0) / 2)
    assert answer.relative == pytest.approx(2)
    assert answer.found.low == answer.found.high == answer.found.difference  # every user is alike


def test_the_same_resamples_serve_both_sides(monkeypatch, tmp_path):
    ranks = np.random.default_rng(0).integers(1, 30, size=40)
    kept(monkeypatch, tmp_path, [{"mme_sid.rank": ranks, "sasrec.rank": ranks}])
    (answer,) = paired.answers()
    assert (answer.found.low, answer.found.high) == (0, 0)


def test_expected_figures_count_where_they_are_known(monkeypatch, tmp_path):
    ranks, gains = np.full(40, 20), np.where(np.arange(40) < 10, np.nan, 0.5)
    columns = {"sasrec.rank": ranks, "markov.rank": ranks}
    kept(
        monkeypatch,
        tmp_path,
        [columns | {"sasrec.expected_ndcg_at_10": gains, "markov.expected_ndcg_at_10": gains / 2}],
    )
    realised, expected = paired.answers()
    assert realised.found.difference == 0
    assert (expected.metric, expected.found.difference) == ("expected_ndcg_at_10", pytest.approx(0.25))
