"""From artifacts to artifacts: what is learned, what is held back, resume, refit and errors."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from tests.unit.counting.cases import checkerboard, leave_one_out, random_sequences, write_split

from sidflow.artifacts.features import EMBEDDING
from sidflow.artifacts.recommenders import CURVES, FACTORS, SUMMARY, refit_in
from sidflow.candidate_ranking import fit
from sidflow.candidate_ranking.fit import fit_candidate_ranker, hold_back_last
from sidflow.candidate_ranking.params import CandidateRankerParams
from sidflow.candidate_ranking.ranker import load_ranker
from sidflow.core.errors import InputError
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories

ITEMS = 12
PARAMS = CandidateRankerParams(hidden=8, batch_size=8, loop={"epochs": 5})


@pytest.fixture
def split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    sequences = checkerboard(users=40, items=ITEMS)
    write_split(sequences, ITEMS)
    parity = np.eye(2, dtype=np.float32)[np.arange(ITEMS) % 2]  # what even items have in common, and odd ones
    EMBEDDING.write({"values": parity, "present": np.ones(ITEMS, dtype=bool)}, {"encoder": "test"}, name="text")
    Path("params.yaml").write_text("rank: {exclude_history: true}\n")
    return sequences


def ranks_of(model):
    past = load_histories()
    scores = Scores(FACTORS.read(model=model).arrays, past.query_count, ITEMS).for_queries(np.arange(past.query_count))
    scores[past.seen(ITEMS).toarray()] = -np.inf
    own = scores[np.arange(past.query_count), past.targets]
    return (scores >= own[:, None]).sum(1), past


def fit_once(params=PARAMS, name="ranker", seed=3):
    fit_candidate_ranker(name, params, load_histories(), ITEMS, seed, 1)


@pytest.mark.parametrize("content", [(), ("text",)])
def test_what_is_obvious_is_ranked_first(split, content):
    fit_once(PARAMS.model_copy(update={"content": content}))
    ranks, past = ranks_of("ranker")
    left = 6 - np.array([len(set(past.history(query))) for query in range(past.query_count)])
    assert (ranks <= left).mean() > 0.95, "an item of the same parity, as all that follow are"
    summary, curves = SUMMARY.read(model="ranker"), CURVES.read(model="ranker")
    assert summary["epochs"] == len(curves) == 5 and summary["examples"] == 40
    validation = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0)[past.query_valid].mean()
    assert np.isclose(summary["best_valid_ndcg_at_10"], validation, atol=1e-6), "ranked as validated"
    assert len(summary["features"]) == len(summary["linear_weights"]) == 4 + 7 * len(content)
    assert not list(Path("cache").rglob("*.safetensors")), "the checkpoint is gone"


@pytest.mark.parametrize("refit", [False, True])
def test_new_histories_are_scored_from_the_written_weights_as_queries_were(split, refit):
    fit_once(PARAMS.model_copy(update={"refit": refit}))
    past = load_histories()
    queries = np.flatnonzero(~past.query_valid)
    expected = Scores(FACTORS.read(model="ranker").arrays, past.query_count, ITEMS).for_queries(queries)
    answered = load_ranker("ranker").answer([past.history(query) for query in queries])
    np.testing.assert_allclose(answered.scores(np.arange(len(queries))), expected, rtol=1e-5, atol=1e-5)


def test_the_event_held_back_is_in_no_count_and_no_history():
    past = leave_one_out([[5, 6, 7, 8, 9], [1, 2, 3], [4, 5, 6, 7]])
    held = hold_back_last(past)
    assert held.targets.tolist() == [7, 5]  # the second user has one training event
    bounds = zip(held.before.start, held.before.stop, strict=True)
    histories = [past.items[start:stop].tolist() for start, stop in bounds]
    assert histories == [[5, 6], [4]]
    assert held.shortened.train_end.tolist() == [2, 0, 1]
    assert sorted(held.shortened.training_events()[1].tolist()) == [4, 5, 6]


def test_targets_of_validation_and_test_change_nothing_that_is_learned(split):
    fit_once()
    before = SUMMARY.read(model="ranker")
    past = load_histories()
    other = past._replace(items=past.items.copy(), targets=(past.targets + 1) % ITEMS)
    for user in range(past.user_count):
        other.items[past.offsets[user] + past.train_end[user] : past.offsets[user + 1]] = 0
    fit_candidate_ranker("other", PARAMS, other, ITEMS, 3, 1)
    after = SUMMARY.read(model="other")
    assert before["feature_scales"] == after["feature_scales"]
    losses = [[row["loss"] for row in CURVES.read(model=model)] for model in ("ranker", "other")]
    assert losses[0] == losses[1]


def test_a_killed_fit_ends_in_the_same_bytes(split, monkeypatch):
    fit_once(name="whole")
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0")
    plain = fit.fit

    def killed(*given, **named):
        def stop(step):
            if step == 12:
                raise KeyboardInterrupt

        return plain(*given, **named, on_step=stop)

    monkeypatch.setattr(fit, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_once(name="whole2")
    monkeypatch.setattr(fit, "fit", plain)
    assert list(Path("cache").rglob("*.safetensors"))
    fit_once(name="whole2")
    one, two = (FACTORS.at(model=model).read_bytes() for model in ("whole", "whole2"))
    assert one == two


def test_a_refit_answers_test_queries_from_more_and_leaves_validation_alone(split):
    fit_once(name="plain")
    fit_once(PARAMS.model_copy(update={"refit": True}), name="refit")
    past = load_histories()
    plain, both = (
        Scores(FACTORS.read(model=model).arrays, past.query_count, ITEMS).for_queries(np.arange(past.query_count))
        for model in ("plain", "refit")
    )
    assert np.array_equal(plain[past.query_valid], both[past.query_valid])
    assert not np.allclose(plain[~past.query_valid], both[~past.query_valid], atol=1e-3)
    assert refit_in(FACTORS.read(model="refit").metadata) is True


def test_the_same_seed_gives_the_same_bytes_and_another_others(split):
    fit_once(name="one")
    fit_once(name="two")
    fit_once(name="three", seed=4)
    one, two, three = (FACTORS.at(model=model).read_bytes() for model in ("one", "two", "three"))
    assert one == two != three


def test_what_cannot_be_fitted_is_one_line(split):
    few = {"values": np.ones((5, 2), dtype=np.float32), "present": np.ones(5, dtype=bool)}
    EMBEDDING.write(few, {"encoder": "test"}, name="few")
    with pytest.raises(InputError, match=r"few\.safetensors: expected a row for each of 12 core items; found 5 rows"):
        fit_once(PARAMS.model_copy(update={"content": ("few",)}))
    write_split([[0, 1, 2]] * 3, ITEMS)
    with pytest.raises(InputError, match="expected users with two training items or more; found none"):
        fit_once()


def test_the_stage_reads_its_own_section(split):
    params = "seed: 3\nthreads: 1\nrank: {exclude_history: true}\npreset: test\nrecommenders: [ranker]\n"
    section = "train_ranker: {ranker: {hidden: 8, batch_size: 8, loop: {epochs: 5}}}\n"
    Path("params.yaml").write_text(params + section)
    stage = Path(__file__).parents[3] / "stages/train_ranker.py"
    runpy.run_path(str(stage))["main"]("ranker")
    written = FACTORS.at(model="ranker").read_bytes()
    fit_once()
    assert written == FACTORS.at(model="ranker").read_bytes()


def test_random_data_gives_finite_scores_for_every_query(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    write_split(random_sequences(users=30, items=ITEMS, seed=7), ITEMS)
    fit_candidate_ranker("ranker", PARAMS.model_copy(update={"content": ()}), load_histories(), ITEMS, 3, 1)
    past = load_histories()
    factors = Scores(FACTORS.read(model="ranker").arrays, past.query_count, ITEMS)
    assert np.isfinite(factors.for_queries(np.arange(past.query_count))).all()
    assert SUMMARY.read(model="ranker")["share_of_targets_among_candidates"] > 0


def test_popularity_in_training_knows_no_event_that_is_held_back(split, monkeypatch):
    """By construction: no event but the one held back has item 11."""
    sequences = [*([user % 6, 6 + user % 5, 11, 0, 1] for user in range(20))]
    write_split(sequences, ITEMS)
    made = []
    losses = fit.CandidateLosses
    monkeypatch.setattr(fit, "CandidateLosses", lambda *parts: made.append(losses(*parts)) or made[-1])
    fit_once()
    assert made[0].log_popularity[11] == 0 and made[0].log_popularity[:6].min() > 0


def test_a_user_whose_last_training_event_cannot_be_recommended_teaches_nothing():
    sequences = [[0, 1, 0, 8, 9], [0, 1, 2, 8, 9], [3, 8, 9], [4, 4, 8, 9]]
    histories = leave_one_out(sequences)
    held_back = hold_back_last(histories)
    assert held_back.targets.tolist() == [2] and held_back.before.start.tolist() == [5]
    assert held_back.shortened.train_end.tolist() == [2, 2, 0, 1], "counts are of all users"
    assert hold_back_last(histories._replace(exclude_history=False)).targets.tolist() == [0, 2, 4]
    with pytest.raises(InputError, match="has not had"):
        hold_back_last(leave_one_out([[4, 4, 8, 9]]))


def test_histories_that_hold_nearly_all_items_are_learned_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    write_split([draw.integers(0, ITEMS, draw.integers(8, 25)) for _ in range(60)], ITEMS)
    Path("params.yaml").write_text("rank: {exclude_history: true}\n")
    loop = PARAMS.loop.model_copy(update={"epochs": 30})
    fit_once(PARAMS.model_copy(update={"loop": loop, "content": ()}))
    assert all(float(row["loss"]) >= 0 for row in CURVES.read(model="ranker"))
