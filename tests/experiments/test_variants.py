"""A preset against the one that it extends, from recorded ranks."""

import json

import numpy as np
import polars as pl
import pytest
from experiments.tables.results import variants_table

from experiments import paired, results, variants
from sidflow.cli import presets
from sidflow.core.errors import InputError

USERS = 60


@pytest.fixture
def record(monkeypatch, tmp_path):
    """Write runs into the lab notebook: `richer` extends `middle`, which extends `plain`."""
    folder = tmp_path / "presets"
    folder.mkdir()
    for name, extends in (("plain", ""), ("middle", "extends: plain\n"), ("richer", "extends: middle\n")):
        (folder / f"{name}.yaml").write_text(f"# A preset.\n{extends}threads: 1\n")
    monkeypatch.setattr(presets, "FOLDER", folder)
    monkeypatch.setattr(presets.names, "__defaults__", (folder,))
    monkeypatch.setattr(presets.path_of, "__defaults__", (folder,))
    monkeypatch.setattr(results, "FOLDER", tmp_path)

    def write(preset, seed, data="one", split="leave_one_out", users=USERS, commit="a" * 40, **ranks):
        (tmp_path / preset).mkdir(exist_ok=True)
        content = {"seed": seed, "data": data, "params": {"split": {"method": split}, "ingest": {"source": "files"}}}
        content["commit"] = commit
        (tmp_path / f"{preset}.json").write_text("{}")
        (tmp_path / preset / f"seed-{seed}.json").write_text(json.dumps(content))
        keys = {"query_id": np.arange(users), "user_id": np.arange(users), "candidates": np.full(users, 90)}
        columns = {f"{name}.rank": np.broadcast_to(values, users).astype(np.int32) for name, values in ranks.items()}
        pl.DataFrame(keys | columns).write_parquet(tmp_path / preset / f"seed-{seed}.parquet")

    return write


def test_what_changed_is_compared_with_the_extended_preset_on_the_seeds_of_both(record):
    record("plain", 42, mme_sid=3, sasrec=5)
    record("plain", 43, mme_sid=1, sasrec=5)
    record("richer", 42, mme_sid=1, sasrec=5, tiger=2)
    (answer,) = variants.answers("ndcg_at_10")
    assert (answer.preset, answer.extended, answer.seeds, answer.recommender) == ("richer", "plain", (42,), "mme_sid")
    assert answer.comparison.difference == pytest.approx(1 - 0.5)
    assert answer.comparison.verdict == "shown"


def test_seeds_are_averaged_first(record):
    record("plain", 42, mme_sid=3)
    record("plain", 43, mme_sid=3)
    record("middle", 42, mme_sid=1)
    record("middle", 43, mme_sid=80)
    (answer,) = variants.answers("ndcg_at_10")
    assert answer.seeds == (42, 43) and answer.comparison.difference == pytest.approx(0.5 - 0.5)


def test_the_nearest_extended_preset_with_results_counts(record):
    record("plain", 42, mme_sid=3)
    record("middle", 42, mme_sid=2)
    record("richer", 42, mme_sid=1)
    assert [(answer.preset, answer.extended) for answer in variants.answers("ndcg_at_10")] == [
        ("middle", "plain"), ("richer", "middle"),
    ]  # fmt: skip
    assert results.independent_presets() == ["plain"]


def test_a_split_is_compared_with_todays_defaults(record, tmp_path):
    """An older record lacks knobs of the split that came later."""
    record("plain", 42, mme_sid=3)
    record("richer", 42, mme_sid=1)
    path = tmp_path / "richer/seed-42.json"
    content = json.loads(path.read_text())
    content["params"]["split"] |= {"held_out_items": 0.0}
    path.write_text(json.dumps(content))
    assert results.extended_preset("richer") == "plain"
    content["params"]["split"] |= {"held_out_items": 0.2}
    path.write_text(json.dumps(content))
    assert results.extended_preset("richer") is None


@pytest.mark.parametrize("other", [{"data": "two"}, {"split": "sample_ratio"}])
def test_presets_of_other_data_or_split_are_independent(record, other):
    record("plain", 42, mme_sid=3)
    record("middle", 42, mme_sid=2, **other)
    assert variants.answers("ndcg_at_10") == []
    assert results.independent_presets() == ["middle", "plain"]


def test_only_independent_presets_are_pooled_and_compared_among_themselves(record):
    for preset in ("plain", "middle"):
        record(preset, 42, mme_sid=2, sasrec=np.arange(1, USERS + 1))
    assert {answer.preset for answer in paired.answer_questions(["ndcg_at_10"])} == {"plain"}
    assert paired.answer_pooled_questions() == []


def test_other_queries_are_an_error(record):
    record("plain", 42, mme_sid=3)
    record("middle", 42, users=USERS - 1, mme_sid=2)
    with pytest.raises(InputError, match="queries of plain"):
        variants.answers("ndcg_at_10")


def test_the_table_names_the_commits_where_code_differs(record):
    record("plain", 42, mme_sid=3)
    record("middle", 42, mme_sid=2)
    record("richer", 42, mme_sid=1, commit="b" * 40)
    _, _, of_one_commit, of_two = [row.split(" | ") for row in variants_table().splitlines()]
    assert of_one_commit[:3] == ["| middle", "plain", "the same"]
    assert of_two[:3] == ["| richer", "middle", "`bbbbbbbb`, not `aaaaaaaa`"]
