import math

import numpy as np
import polars as pl
import pytest

from sidflow.artifacts.evaluation import METRICS, PER_QUERY
from sidflow.core.errors import InputError
from sidflow.core.tensors import Tensors
from sidflow.evaluation import compare, metrics, slices
from sidflow.evaluation.evaluate import EvaluationInputs, evaluate, scoring_item_matrix
from sidflow.evaluation.params import CompareParams, EvaluateParams
from sidflow.metrics.geometry import compute_spectrum
from sidflow.sequences.histories import Histories

ITEMS, USERS = 30, 25


def _world(seed: int = 0) -> Histories:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(4, 12, size=USERS)
    flat = np.concatenate([generator.permutation(ITEMS - 2)[:n] for n in lengths]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    user, end = np.repeat(np.arange(USERS), 2), np.stack([lengths - 2, lengths - 1], axis=1).ravel()
    valid = np.tile([True, False], USERS)
    return Histories(flat, offsets, lengths - 2, user, end, valid, flat[offsets[user] + end].astype(np.int64))


def _two_tests_each() -> Histories:
    """Return the same users with their last two events as test queries."""
    histories = _world()
    return histories._replace(query_valid=np.zeros(histories.query_count, dtype=bool))


def _given(histories: Histories, seed: int = 1, truth: bool = True, rank: np.ndarray | None = None) -> EvaluationInputs:
    generator = np.random.default_rng(seed)
    q = histories.query_count
    ranks = generator.integers(1, ITEMS - 10, size=q) if rank is None else rank
    top = np.array([generator.permutation(ITEMS)[:20] for _ in range(q)], dtype=np.int32)
    top[3, 15:] = -1
    probabilities = generator.dirichlet(np.ones(ITEMS), size=q).astype(np.float32)
    order = generator.permutation(q)  # the truth is not in the order of queries
    table = pl.DataFrame(
        {"user_id": histories.query_user[order], "position": histories.query_end[order]},
        schema={"user_id": pl.Int32, "position": pl.Int32},
    ).with_columns(pl.Series("probabilities", probabilities[order], dtype=pl.Array(pl.Float32, ITEMS)))
    matrix = generator.normal(size=(ITEMS, 5)).astype(np.float32)
    return EvaluationInputs(
        histories=histories,
        tied=generator.random(q) < 0.3,
        ranks=pl.DataFrame(
            {
                "query_id": np.arange(q),
                "rank": ranks,
                "candidates": np.full(q, ITEMS - 10),
                "sampled_rank": (ranks + 1) // 2,
            },
            schema=dict.fromkeys(("query_id", "rank", "candidates", "sampled_rank"), pl.Int32),
        ),
        top=pl.DataFrame({"query_id": np.arange(q)}).with_columns(
            pl.Series("items", top, dtype=pl.Array(pl.Int32, 20))
        ),
        truth=table if truth else table.clear(),
        content=slices.ContentPresence(text=np.arange(ITEMS) % 5 > 0, picture=np.arange(ITEMS) % 2 > 0),
        item_matrix=matrix,
        item_table=np.vstack([matrix, np.zeros((2, 5), np.float32)]),
        present=np.arange(ITEMS + 2) < ITEMS,
        summary={"device": "cpu", "tau_after_finetuning": 0.5, "epochs": 3},
    )


def _earned(rank: int, metric: str, k: int) -> float:
    return 0.0 if rank > k else {"recall": 1.0, "ndcg": 1 / math.log2(rank + 1), "mrr": 1 / rank}[metric]


def test_every_ranking_metric_equals_a_loop():
    given = _given(_world())
    found = evaluate(given, EvaluateParams())
    for prefix, valid in (("", False), ("valid_", True)):
        rows = np.flatnonzero(given.histories.query_valid == valid)
        for metric in ("recall", "ndcg", "mrr"):
            for k in (1, 5, 10, 20):
                by_hand = np.mean([_earned(int(given.ranks["rank"][int(row)]), metric, k) for row in rows])
                assert found.metrics[f"{prefix}{metric}_at_{k}"] == pytest.approx(by_hand)
                if not valid:
                    by_hand = np.mean([_earned(int(given.ranks["sampled_rank"][int(row)]), metric, k) for row in rows])
                    assert found.metrics[f"sampled_{metric}_at_{k}"] == pytest.approx(by_hand)
        assert found.metrics[f"{prefix}users_evaluated"] == USERS
        assert found.metrics[f"{prefix}queries_evaluated"] == USERS
    tests = np.flatnonzero(~given.histories.query_valid)
    by_hand = np.mean([math.log2(given.ranks["rank"][int(row)]) for row in tests])
    assert found.metrics["mean_log2_rank"] == pytest.approx(by_hand)
    untied = [row for row in np.flatnonzero(~given.histories.query_valid) if not given.tied[row]]
    by_hand = np.mean([_earned(int(given.ranks["rank"][int(row)]), "ndcg", 10) for row in untied])
    assert found.metrics["untied_ndcg_at_10"] == pytest.approx(by_hand)
    assert found.metrics["untied_queries"] == len(untied)


def test_where_items_share_ids_a_metric_is_the_mean_over_the_ranks_of_the_tie():
    given = _given(_world())
    q = given.ranks.height
    ranks = given.ranks["rank"].to_numpy()
    sharing, by_id = np.minimum(np.arange(q) % 4, ranks - 1), 1 + np.arange(q) % 13
    sampled = given.ranks["sampled_rank"].to_numpy()
    sampled_sharing = np.minimum(np.arange(q) % 3, sampled - 1)
    shared = {"sharing": sharing, "id_rank": by_id, "sampled_sharing": sampled_sharing}
    columns = [pl.Series(name, one, dtype=pl.Int32) for name, one in shared.items()]
    found = evaluate(given._replace(ranks=given.ranks.with_columns(columns)), EvaluateParams())
    assert found.slices[0]["slice"] == "all"
    for prefix, valid in (("", False), ("valid_", True)):
        rows = np.flatnonzero(given.histories.query_valid == valid)
        for name in metrics.METRIC_NAMES:
            metric, k = name.split("_at_")
            tied, tied_sampled = (
                [
                    np.mean([_earned(rank, metric, int(k)) for rank in range(last[row] - others[row], last[row] + 1)])
                    for row in rows
                ]
                for last, others in ((ranks, sharing), (sampled, sampled_sharing))
            )
            assert found.metrics[f"{prefix}{name}"] == pytest.approx(np.mean(tied))
            if not valid:
                values = compare.per_query_values(found.per_query.filter(pl.col("part") == "test"))
                assert values[name] == pytest.approx(tied)
                assert values[f"sampled_{name}"] == pytest.approx(tied_sampled)
                assert found.metrics[f"sampled_{name}"] == pytest.approx(np.mean(tied_sampled))
                if k == "10":
                    assert found.slices[0][name] == pytest.approx(np.mean(tied))
        for metric in ("recall", "ndcg"):
            by_hand = np.mean([_earned(int(by_id[row]), metric, 10) for row in rows])
            assert found.metrics[f"{prefix}{metric}_at_10_by_id"] == pytest.approx(by_hand)
        assert found.metrics[f"{prefix}targets_sharing_an_id"] == sum(sharing[row] > 0 for row in rows)
    test = found.per_query.filter(pl.col("part") == "test")
    of_tests = zip(test["rank"].to_list(), test["sharing"].to_list(), strict=True)
    logs = [np.log2(np.arange(last - others, last + 1)).mean() for last, others in of_tests]
    assert compare.per_query_values(test)["mean_log2_rank"] == pytest.approx(logs)
    assert found.metrics["mean_log2_rank"] == pytest.approx(np.mean(logs))
    assert not [name for name in evaluate(given, EvaluateParams()).metrics if name.endswith(("by_id", "an_id"))]


def test_held_out_metrics_are_of_held_out_targets_alone():
    given = _given(_world())
    q = given.ranks.height
    among = np.where(np.arange(q) % 3 == 0, 1 + np.arange(q) % 14, 0)
    ranks = given.ranks.with_columns(pl.Series("held_out_rank", among, dtype=pl.Int32))
    found = evaluate(given._replace(ranks=ranks), EvaluateParams())
    rows = [row for row in np.flatnonzero(~given.histories.query_valid) if among[row]]
    assert 0 < len(rows) == found.metrics["held_out_queries"]
    for metric in ("recall", "ndcg"):
        by_hand = np.mean([_earned(int(among[row]), metric, 10) for row in rows])
        assert found.metrics[f"held_out_{metric}_at_10"] == pytest.approx(by_hand)
    assert not [name for name in evaluate(given, EvaluateParams()).metrics if name.startswith("held_out")]


def test_expected_metrics_find_their_query_and_equal_a_loop():
    given = _given(_world())
    found = evaluate(given, EvaluateParams())
    histories, total, best = given.histories, 0.0, 0.0
    for query in np.flatnonzero(~histories.query_valid):
        row = given.truth.filter(
            (pl.col("user_id") == histories.query_user[query]) & (pl.col("position") == histories.query_end[query])
        )
        truth = row["probabilities"][0].to_list()
        one = sum(
            truth[item] * _earned(r, "ndcg", 10)
            for r, item in enumerate(given.top["items"][int(query)], start=1)
            if item >= 0
        )
        assert found.per_query["expected_ndcg_at_10"][int(query)] == pytest.approx(one, rel=1e-5)
        total += one
        best += sum(p * _earned(r, "ndcg", 10) for r, p in enumerate(sorted(truth, reverse=True), start=1))
    assert found.metrics["expected_ndcg_at_10"] == pytest.approx(total / USERS, rel=1e-5)
    assert found.metrics["expected_ndcg_at_10_of_best"] == pytest.approx(total / best, rel=1e-5)


def test_without_a_truth_nothing_is_expected():
    found = evaluate(_given(_world(), truth=False), EvaluateParams())
    assert not [name for name in found.metrics if name.startswith("expected")]
    assert found.per_query["expected_ndcg_at_10"].null_count() == found.per_query.height


def test_what_is_written_fits_its_contract(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = evaluate(_given(_world()), EvaluateParams())
    PER_QUERY.write(found.per_query, model="sasrec")
    METRICS.write(found.metrics, model="sasrec")
    read = PER_QUERY.read(model="sasrec")
    assert read.equals(found.per_query) and read.schema == found.per_query.schema
    assert found.metrics["device"] == "cpu"
    assert found.metrics["tau_after_finetuning"] == 0.5
    assert "epochs" not in found.metrics
    assert "tau_item_table_to_item_matrix" not in found.metrics  # the tables are tied


def test_spectra_are_of_what_they_are_named_after():
    given = _given(_world())
    generator = np.random.default_rng(5)
    learned = generator.normal(size=(ITEMS + 2, 7)).astype(np.float32)
    found = evaluate(given._replace(item_table=learned), EvaluateParams())
    assert given.item_matrix is not None and given.present is not None
    for name, table in (("item_matrix", given.item_matrix), ("item_table", learned[given.present])):
        by_hand = compute_spectrum(table)
        assert found.metrics[f"{name}_effective_rank"] == by_hand.effective_rank
        assert found.metrics[f"{name}_mean_cosine"] == by_hand.mean_cosine
        rows = [row for row in found.spectrum if row["matrix"] == name]
        assert [row["dimension"] for row in rows] == list(range(1, len(rows) + 1))
        curve = [row["singular_value"] for row in rows]
        assert curve == pytest.approx(by_hand.singular_values.tolist())


def test_tau_is_that_of_distances_before_and_after():
    given = _given(_world())
    assert given.item_matrix is not None and given.item_table is not None
    name = "tau_item_table_to_item_matrix"
    turned = given.item_matrix @ np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0].astype(np.float32)
    kept = evaluate(given._replace(item_matrix=turned), EvaluateParams()).metrics[name]
    assert kept == pytest.approx(1)  # a rotation keeps every distance
    other = np.random.default_rng(7).normal(size=(ITEMS, 5)).astype(np.float32)
    lost = evaluate(given._replace(item_matrix=other), EvaluateParams()).metrics[name]
    assert abs(float(str(lost))) < 0.5


def test_a_matrix_that_does_not_score_alone_is_not_looked_at():
    dense = {"query_states": np.ones((2, 1)), "item_matrix": np.arange(3.0)[:, None]}
    assert scoring_item_matrix(Tensors(dense, {})) is dense["item_matrix"]
    sparse = {"query_indptr": np.zeros(3), "item_indptr": np.zeros(2)}
    assert scoring_item_matrix(Tensors(sparse, {})) is None
    assert scoring_item_matrix(Tensors(dense | sparse, {})) is None
    found = evaluate(_given(_world())._replace(item_matrix=None), EvaluateParams())
    assert not [name for name in found.metrics if "item_matrix" in name]
    assert {row["matrix"] for row in found.spectrum} == {"item_table"}


def test_a_perfect_recommender_gets_one():
    histories = _world()
    found = evaluate(_given(histories, rank=np.ones(histories.query_count, dtype=int)), EvaluateParams())
    assert all(found.metrics[name] == 1 for name in metrics.METRIC_NAMES)
    assert all(row["ndcg_at_10"] in (1, None) for row in found.slices)


def test_popularity_slices_cut_training_events_into_thirds_and_cold_items_out():
    counts = np.array([0, 3, 1, 1, 1, 0, 3])
    assert slices.popularity_groups(counts, 1 / 3, 1 / 3).tolist() == [
        "cold",
        "head",
        "tail",
        "tail",
        "tail",
        "cold",
        "middle",
    ]
    assert slices.popularity_groups(np.zeros(3, dtype=int), 0.3, 0.3).tolist() == ["cold"] * 3


def test_popularity_looks_at_training_parts_only():
    histories = _world()
    shuffled = histories.items.copy()
    for user in range(USERS):
        start = histories.offsets[user] + histories.train_end[user]
        shuffled[start : histories.offsets[user + 1]] = 0
    later = histories._replace(items=shuffled)
    np.testing.assert_array_equal(histories.training_counts(ITEMS), later.training_counts(ITEMS))


def test_what_happens_after_the_training_parts_makes_no_item_popular():
    given = _given(_world())
    histories = given.histories
    counts = histories.training_counts(ITEMS)
    by_hand = slices.popularity_groups(counts, EvaluateParams().head_share, EvaluateParams().tail_share)[
        histories.targets
    ]
    found = evaluate(given, EvaluateParams())
    rows = {row["slice"]: row["queries"] for row in found.slices}
    for name in slices.POPULARITY:
        assert rows[name] == (by_hand[~histories.query_valid] == name).sum()
    np.testing.assert_array_equal(found.per_query["target_count"], counts[histories.targets])
    bits = -np.log2((counts + 1) / (counts + 1).sum())
    top = given.top["items"].to_numpy()[~histories.query_valid]
    assert found.metrics["novelty_at_5"] == pytest.approx(bits[top[:, :5]].mean(), rel=1e-3)


def test_a_history_is_short_up_to_one_knob_and_long_above_the_other():
    given = _given(_world())
    histories = given.histories
    before = histories.query_end[~histories.query_valid]
    rows = {row["slice"]: row for row in evaluate(given, EvaluateParams(short_history=5, long_history=8)).slices}
    assert (before == 5).any() and (before == 8).any()
    assert rows["short_history"]["queries"] == (before <= 5).sum()
    assert rows["long_history"]["queries"] == (before > 8).sum()


@pytest.mark.parametrize("bar", [True, False])
def test_targets_that_the_user_has_had_are_counted_whether_or_not_histories_are_a_bar(bar):
    histories = _world()._replace(exclude_history=bar)
    again = histories.targets.copy()
    tests = np.flatnonzero(~histories.query_valid)[:7]
    again[tests] = [histories.history(query)[0] for query in tests]
    given = _given(histories._replace(targets=again))
    assert evaluate(given, EvaluateParams()).metrics["targets_in_history"] == 7


def test_slices_partition_the_test_users():
    given = _given(_world())
    rows = {row["slice"]: row for row in evaluate(given, EvaluateParams(short_history=5, long_history=8)).slices}
    for parts in (
        slices.POPULARITY,
        ("short_history", "medium_history", "long_history"),
        ("last_event", "earlier_event"),
        ("seen_transition", "new_transition"),
    ):
        assert sum(int(str(rows[part]["queries"])) for part in parts) == USERS == rows["all"]["queries"]


def test_a_seen_transition_is_one_that_somebody_made_in_training():
    histories = _world()
    found = slices.transition_seen(histories, ITEMS)
    steps = {
        (int(a), int(b))
        for user in range(USERS)
        for a, b in zip(histories.training_items(user)[:-1], histories.training_items(user)[1:], strict=True)
    }
    for query in range(histories.query_count):
        assert found[query] == ((int(histories.history(query)[-1]), int(histories.targets[query])) in steps)


def test_slices_of_content_and_place_equal_a_loop():
    given = _given(_two_tests_each())
    histories, content = given.histories, given.content
    tests = np.flatnonzero(~histories.query_valid)
    lengths = np.diff(histories.offsets)
    by_hand = {
        "without_text": [query for query in tests if not content.text[histories.targets[query]]],
        "without_picture": [query for query in tests if not content.picture[histories.targets[query]]],
        "last_event": [q for q in tests if histories.query_end[q] == lengths[histories.query_user[q]] - 1],
        "earlier_event": [q for q in tests if histories.query_end[q] < lengths[histories.query_user[q]] - 1],
    }
    rows = {row["slice"]: row for row in evaluate(given, EvaluateParams()).slices}
    for name, chosen in by_hand.items():
        ranks = given.ranks["rank"].to_numpy()[chosen]
        assert rows[name]["queries"] == len(chosen) > 0
        assert rows[name]["users"] == len({int(histories.query_user[query]) for query in chosen})
        assert rows[name]["ndcg_at_10"] == pytest.approx(np.mean([_earned(rank, "ndcg", 10) for rank in ranks]))


def _last_three() -> Histories:
    """Return users whose last events, up to three, are test queries; the shortest have no more than one to ask."""
    histories = _world()
    lengths = np.diff(histories.offsets)
    asked = np.minimum(3, lengths - 3)
    user = np.repeat(np.arange(USERS), asked)
    end = np.concatenate([np.arange(n - k, n) for n, k in zip(lengths, asked, strict=True)])
    return histories._replace(
        query_user=user,
        query_end=end,
        query_valid=np.zeros(len(user), dtype=bool),
        targets=histories.items[histories.offsets[user] + end].astype(np.int64),
    )


def test_each_of_the_last_events_is_a_slice_with_its_users():
    given = _given(_last_three())
    histories = given.histories
    lengths = np.diff(histories.offsets)
    rows = {row["slice"]: row for row in evaluate(given, EvaluateParams()).slices}
    assert [name for name in rows if "from_end" in name] == ["event_2_from_end", "event_3_from_end"]
    users = []
    for name, place in (("last_event", 1), ("event_2_from_end", 2), ("event_3_from_end", 3)):
        chosen = [
            q
            for q in range(histories.query_count)
            if lengths[histories.query_user[q]] - histories.query_end[q] == place
        ]
        ranks = given.ranks["rank"].to_numpy()[chosen]
        assert rows[name]["ndcg_at_10"] == pytest.approx(np.mean([_earned(rank, "ndcg", 10) for rank in ranks]))
        assert rows[name]["users"] == rows[name]["queries"] == len(chosen)
        users.append(len(chosen))
    assert USERS == users[0] > users[1] > users[2] > 0
    assert rows["earlier_event"]["queries"] == users[1] + users[2]


def test_places_from_the_end_are_no_slices_where_one_event_or_a_point_in_time_is_asked_for():
    assert slices.earlier_event_slices(_world()) == {}
    histories = _last_three()
    later = histories._replace(query_valid=histories.query_end == np.diff(histories.offsets)[histories.query_user] - 1)
    assert slices.earlier_event_slices(later) == {}


def test_memorising_and_generalising_are_in_the_metrics_with_their_users():
    found = evaluate(_given(_world()), EvaluateParams())
    rows = {row["slice"]: row for row in found.slices}
    for name in (*slices.POPULARITY, *slices.TRANSITION):
        assert found.metrics[f"{name}_users"] == rows[name]["users"]
        assert found.metrics.get(f"{name}_ndcg_at_10") == rows[name]["ndcg_at_10"]


def test_lists_are_looked_at_down_to_every_cutoff():
    given = _given(_world())
    found = evaluate(given, EvaluateParams()).metrics
    tests = given.top["items"].to_numpy()[~given.histories.query_valid]
    for k in (1, 5, 10, 20):
        listed = tests[:, :k][tests[:, :k] >= 0]
        assert found[f"coverage_at_{k}"] == pytest.approx(len(set(listed.tolist())) / ITEMS)
        assert 0 <= found[f"gini_at_{k}"] < 1
        assert found[f"novelty_at_{k}"] > 0


def test_content_is_known_of_core_items_alone():
    nothing = {"title": " ", "description": "", "brand": "", "categories": [], "attributes": [], "in_core": True}
    items = pl.DataFrame(
        [
            nothing | {"item_id": 0, "title": "Lamp"},
            nothing | {"item_id": 1},
            nothing | {"item_id": 2, "attributes": [{"name": "colour", "value": "red"}]},
            nothing | {"item_id": 3, "in_core": False},
        ]
    )
    found = slices.content_presence(items, np.array([1, 3]))
    assert found.text.tolist() == [True, False, True]
    assert found.picture.tolist() == [False, True, False]


def test_a_ranking_of_another_split_is_refused():
    given = _given(_world())
    with pytest.raises(InputError, match="older than the split"):
        evaluate(given._replace(ranks=given.ranks[:-1]), EvaluateParams())


def _tables(**ranks: np.ndarray) -> dict[str, pl.DataFrame]:
    histories = _world()
    return {
        name: evaluate(_given(histories, rank=rank, truth=False), EvaluateParams()).per_query
        for name, rank in ranks.items()
    }


def test_the_best_baseline_is_chosen_on_validation_never_on_test_nor_among_methods():
    test_star = np.tile([20, 1], USERS)  # queries alternate: validation, test
    valid_star = np.tile([1, 10], USERS)
    found = compare.build_leaderboard(
        _tables(markov=test_star, sasrec=valid_star, mme_sid=np.ones(2 * USERS, int), oracle=np.ones(2 * USERS, int)),
        CompareParams(draws=200),
    )
    assert found["best_baseline"] == "sasrec"
    assert set(found["differences"]) == {"markov", "mme_sid"}
    assert found["differences"]["mme_sid"]["ndcg_at_10"]["verdict"] == "shown"
    assert found["differences"]["mme_sid"]["ndcg_at_10"]["claim"] == "reached"


def test_no_gain_is_claimed_over_a_baseline_that_has_nothing():
    nothing, one = np.full(2 * USERS, 20), np.tile([20, 1], USERS)
    found = compare.build_leaderboard(_tables(sasrec=nothing, mme_sid=one), CompareParams(draws=200))
    difference = found["differences"]["mme_sid"]["ndcg_at_10"]
    assert (difference["verdict"], difference["relative"]) == ("shown", None)
    assert "claim" not in difference  # 4% of nothing


def test_only_methods_get_a_verdict_and_all_count_in_the_correction():
    generator = np.random.default_rng(0)
    names = ("markov", "sasrec", "gru4rec", "mme_sid")
    found = compare.build_leaderboard(
        _tables(**{name: generator.integers(1, 20, 2 * USERS) for name in names}), CompareParams(draws=200)
    )
    judged = {name for name, one in found["differences"].items() for row in one.values() if "verdict" in row}
    assert judged == {"mme_sid"}
    rows = [one["ndcg_at_10"] for one in found["differences"].values()]
    assert len(rows) == 3
    assert min(row["p_corrected"] for row in rows) == pytest.approx(min(1.0, 3 * min(row["p"] for row in rows)))


def test_lower_log_ranks_are_better_ones():
    ranks = np.random.default_rng(0).integers(2, 20, 2 * USERS)
    board = compare.build_leaderboard(_tables(sasrec=ranks, mme_sid=ranks // 2), CompareParams(draws=200))
    better = board["differences"]["mme_sid"]["mean_log2_rank"]
    by_hand = np.mean(np.log2(ranks[1::2] // 2) - np.log2(ranks[1::2]))
    assert better["difference"] == pytest.approx(by_hand)
    assert better["low"] < by_hand < better["high"] < 0
    assert better["verdict"] == "shown"
    assert "claim" not in better  # the claimed gain is one of accuracy
    worse = compare.build_leaderboard(_tables(sasrec=ranks, mme_sid=2 * ranks), CompareParams(draws=200))
    assert worse["differences"]["mme_sid"]["mean_log2_rank"]["verdict"] == "behind"


def test_what_is_averaged_is_what_the_metrics_are():
    given = _given(_world())
    found = evaluate(given, EvaluateParams())
    averaged = compare.per_query_values(found.per_query.filter(pl.col("part") == "test"))
    assert {*metrics.METRIC_NAMES, *(f"sampled_{name}" for name in metrics.METRIC_NAMES), "mean_log2_rank"} <= set(
        averaged
    )
    for name, values in averaged.items():
        assert found.metrics[name] == pytest.approx(values.mean()), name


def test_recommenders_with_the_same_ranks_are_named():
    same, other = (np.random.default_rng(seed).integers(1, 20, 2 * USERS) for seed in (0, 1))
    tables = _tables(b=same, c=other, a=same)
    assert compare.build_leaderboard(tables, CompareParams(draws=200))["equal"] == [["a", "b"]]
    assert compare.build_leaderboard(_tables(a=same, c=other), CompareParams(draws=200))["equal"] == []


def test_a_recommender_compared_with_its_twin_is_undecided_or_contradicted_never_shown():
    same = np.random.default_rng(0).integers(1, 20, 2 * USERS)
    found = compare.build_leaderboard(_tables(sasrec=same, mme_sid=same), CompareParams(draws=200))
    for metric, one in found["differences"]["mme_sid"].items():
        assert (one["difference"], one["low"], one["high"]) == (0, 0, 0)
        assert one["p"] == 1
        assert one["verdict"] == ("undecided" if metric == "mean_log2_rank" else "contradicted")  # a claimed gain


def test_means_are_the_metrics_and_intervals_hold_them():
    ranks = np.random.default_rng(0).integers(1, 20, 2 * USERS)
    found = compare.build_leaderboard(_tables(sasrec=ranks), CompareParams(draws=300))
    measured = found["recommenders"]["sasrec"]["metrics"]
    by_hand = np.mean([_earned(int(rank), "ndcg", 10) for rank in ranks[1::2]])
    assert measured["ndcg_at_10"]["mean"] == pytest.approx(by_hand)
    assert all(one["low"] <= one["mean"] <= one["high"] for one in measured.values())
    assert found["differences"] == {}


def test_the_interval_of_a_slice_is_the_one_of_its_queries_alone():
    generator, settings = np.random.default_rng(0), CompareParams(draws=200)
    tables = _tables(**{name: generator.integers(1, 20, 2 * USERS) for name in ("markov", "sasrec")})
    masks = {
        "some": generator.random(2 * USERS) < 0.5,
        "every": np.ones(2 * USERS, bool),
        "valid": _world().query_valid,
    }
    intervals = compare.slice_intervals(tables, masks, settings)
    alone = compare.build_leaderboard({n: one.filter(pl.Series(masks["some"])) for n, one in tables.items()}, settings)
    for name in tables:
        assert intervals[name] == {"some": alone["recommenders"][name]["metrics"]["ndcg_at_10"]}
        assert 0 <= intervals[name]["some"]["low"] < intervals[name]["some"]["mean"] < intervals[name]["some"]["high"]


def test_recommenders_of_two_splits_do_not_mix():
    tables = _tables(sasrec=np.ones(2 * USERS, int))
    other = evaluate(_given(_world(seed=9), truth=False), EvaluateParams()).per_query
    with pytest.raises(InputError, match="older split"):
        compare.build_leaderboard({**tables, "markov": other}, CompareParams(draws=200))


def test_comparison_does_not_depend_on_the_order_of_recommenders():
    generator = np.random.default_rng(0)
    tables = _tables(**{name: generator.integers(1, 20, 2 * USERS) for name in ("sasrec", "markov", "mme_sid")})
    forward = compare.build_leaderboard(tables, CompareParams(draws=200))
    backward = compare.build_leaderboard(dict(reversed(tables.items())), CompareParams(draws=200))
    assert str(sorted(forward["differences"])) == str(sorted(backward["differences"]))
    for name, one in forward["recommenders"].items():
        assert backward["recommenders"][name]["metrics"]["ndcg_at_10"] == pytest.approx(one["metrics"]["ndcg_at_10"])


def test_validation_and_test_queries_of_a_user_have_each_their_own_truth():
    """By hand: one user, whose third event and fourth event are drawn from different distributions."""
    histories = Histories(
        items=np.array([0, 1, 2, 3], dtype=np.int32),
        offsets=np.array([0, 4]),
        train_end=np.array([2]),
        query_user=np.array([0, 0]),
        query_end=np.array([2, 3]),
        query_valid=np.array([True, False]),
        targets=np.array([2, 3]),
    )
    truth = pl.DataFrame(
        {
            "user_id": pl.Series([0, 0, 0], dtype=pl.Int32),
            "position": pl.Series([3, 1, 2], dtype=pl.Int32),  # of the test query, of none, of the validation query
            "probabilities": pl.Series(
                [[0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0.7, 0.1, 0.1, 0.1]], dtype=pl.Array(pl.Float32, 4)
            ),
        }
    )
    found = metrics.match_truth(truth, histories)
    assert found is not None and found.query.tolist() == [1, -1, 0]
    top = np.array([[0, 1], [0, 1]], dtype=np.int32)
    expected = metrics.expected_columns(top, found)["expected_ndcg_at_10"]
    assert expected.to_list() == pytest.approx([0.7 + 0.1 / math.log2(3), 0.1 + 0.2 / math.log2(3)])


def test_the_gini_index_counts_items_that_are_never_shown():
    """By hand: two of four items have one place each: (2 * 3 - 5 + 2 * 4 - 5) / (4 * 2) = 1/2, not 0."""
    found = metrics.exposure_metrics(np.array([[0], [1]], dtype=np.int32), np.ones(4, dtype=np.int64))
    assert found["gini_at_1"] == pytest.approx(0.5)
    assert found["coverage_at_1"] == pytest.approx(0.5)
    assert found["novelty_at_1"] == pytest.approx(2)  # one in four


def test_each_target_is_in_the_slice_of_its_own_item():
    """By hand: 8 events; item 3 holds the first half of them, item 1 a quarter, 2 and 4 the last quarter, 0 none."""
    counts = np.array([0, 2, 1, 4, 1])
    groups = slices.popularity_groups(counts, head=0.5, tail=0.25)
    assert groups.tolist() == ["cold", "middle", "tail", "head", "tail"]
    histories = Histories(
        items=np.array([3, 3, 3, 3, 1, 1, 2, 4, 0, 3], dtype=np.int32),
        offsets=np.array([0, 10]),
        train_end=np.array([8]),
        query_user=np.array([0, 0]),
        query_end=np.array([8, 9]),
        query_valid=np.array([True, False]),
        targets=np.array([0, 3]),
    )
    content = slices.ContentPresence(text=np.ones(5, dtype=bool), picture=np.array([True, True, True, False, True]))
    settings = EvaluateParams(head_share=0.5, tail_share=0.25)
    masks = slices.slice_masks(histories, histories.training_counts(5), content, settings)
    held = {name: mask.tolist() for name, mask in masks.items() if name in (*slices.POPULARITY, "without_picture")}
    assert held == {
        "head": [False, True],
        "middle": [False, False],
        "tail": [False, False],
        "cold": [True, False],
        "without_picture": [False, True],
    }


def test_a_ranking_by_beam_has_no_figures_that_need_every_rank():
    given = _given(_world())
    listed = given.ranks.with_columns(listed=pl.col("rank") <= 10)
    found = evaluate(given._replace(ranks=listed), EvaluateParams())
    whole = evaluate(given, EvaluateParams())
    assert "not_measured" not in whole.metrics
    left_out = {name for name in whole.metrics if found.metrics[name] is None and whole.metrics[name] is not None}
    assert left_out == {"mean_log2_rank", *(f"sampled_{name}" for name in metrics.METRIC_NAMES)}
    assert "no score" in str(found.metrics["not_measured"])
    assert found.metrics["ndcg_at_10"] == whole.metrics["ndcg_at_10"]
    for best in ("whole", "beam"):  # the best baseline is the one or the other
        better = whole.per_query.with_columns(rank=pl.when(pl.col("part") == "valid").then(1).otherwise(pl.col("rank")))
        tables = {"whole": whole.per_query, "beam": found.per_query, "mme_sid": whole.per_query}
        tables[best] = better.with_columns(found.per_query["listed"]) if best == "beam" else better
        board = compare.build_leaderboard(tables, CompareParams())
        assert board["best_baseline"] == best
        entry = board["recommenders"]["beam"]["metrics"]
        for name in left_out:
            assert entry[name]["mean"] is entry[name]["low"] is entry[name]["high"] is None
            assert "beam" in entry[name]["reason"]
            assert board["recommenders"]["whole"]["metrics"][name]["mean"] is not None
        tested = {other for other, rows in board["differences"].items() if "mean_log2_rank" in rows}
        assert tested == ({"mme_sid"} if best == "whole" else set())
        assert all("ndcg_at_10" in rows for rows in board["differences"].values())
