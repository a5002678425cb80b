import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix, random_array

from sidflow.core.errors import InputError
from sidflow.ranking import scores
from sidflow.ranking.rank import RankParams, rank_targets, sample_negatives
from sidflow.ranking.scores import TopK
from sidflow.sequences.histories import Histories


def world(users: int = 30, items: int = 60, longest: int = 12, seed: int = 0, repeats: bool = False) -> Histories:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, longest + 1, size=users)
    rows = [generator.choice(items, size=length, replace=repeats) for length in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ends = np.stack([lengths - 2, lengths - 1], axis=1).ravel()
    user = np.repeat(np.arange(users), 2)
    flat = np.concatenate(rows).astype(np.int32)
    return Histories(
        flat, offsets, lengths - 2, user, ends, np.tile([True, False], users), flat[offsets[user] + ends].astype(int)
    )


def dense(histories: Histories, items: int, d: int = 8, seed: int = 1, levels: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    draw = (
        (lambda size: generator.integers(levels, size=size)) if levels else (lambda size: generator.normal(size=size))
    )
    return {
        "query_states": draw(size=(histories.query_count, d)).astype(np.float32),
        "item_matrix": draw(size=(items, d)).astype(np.float32),
    }


def sparse(histories: Histories, items: int, seed: int = 2) -> dict[str, np.ndarray]:
    parts = {}
    for side, shape in (("query", (histories.query_count, 25)), ("item", (25, items))):
        matrix = csr_matrix(random_array(shape, density=0.2, rng=np.random.default_rng(seed), dtype=np.float32))
        parts |= {
            f"{side}_indptr": matrix.indptr.astype(np.int64),
            f"{side}_indices": matrix.indices.astype(np.int32),
            f"{side}_values": matrix.data,
        }
    return parts


def brute_force(table: np.ndarray, histories: Histories, query: int, k: int, exclude: bool) -> tuple[int, list[int]]:
    """Loops and sorted(), nothing shared with what is tested."""
    seen = set(histories.history(query).tolist()) if exclude else set()
    allowed = [item for item in range(table.shape[1]) if item not in seen]
    target = int(histories.targets[query])
    best = sorted(allowed, key=lambda item: (-table[query, item], item))[:k]
    if target in seen:
        return len(allowed) + 1, best
    return 1 + sum(table[query, item] >= table[query, target] for item in allowed if item != target), best


def full_table(arrays: dict[str, np.ndarray], histories: Histories, items: int) -> np.ndarray:
    total = np.zeros((histories.query_count, items))
    if "item_matrix" in arrays:
        total += arrays["query_states"].astype(float) @ arrays["item_matrix"].astype(float).T
    if "item_indptr" in arrays:
        left, right = (
            csr_matrix((arrays[f"{s}_values"].astype(float), arrays[f"{s}_indices"], arrays[f"{s}_indptr"]), shape)
            for s, shape in (("query", (histories.query_count, 25)), ("item", (25, items)))
        )
        total += csr_matrix(left @ right).toarray()
    return total.astype(np.float32)


@pytest.mark.parametrize("kind", ["dense", "tied", "constant", "sparse", "both"])
@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("repeats", [True, False])
def test_equals_brute_force(kind, exclude, repeats):
    items = 60
    histories = world(items=items, repeats=repeats)
    arrays = {
        "dense": lambda: dense(histories, items),
        "tied": lambda: dense(histories, items, d=2, levels=3),
        "constant": lambda: {
            "query_states": np.ones((histories.query_count, 1), np.float32),
            "item_matrix": np.ones((items, 1), np.float32),
        },
        "sparse": lambda: sparse(histories, items),
        "both": lambda: dense(histories, items) | sparse(histories, items),
    }[kind]()
    found = rank_targets(arrays, histories._replace(exclude_history=exclude), items, RankParams())
    table = full_table(arrays, histories, items)
    for query in range(histories.query_count):
        rank, best = brute_force(table, histories, query, 20, exclude)
        assert found.rank[query] == rank
        assert found.top.items[query].tolist() == best
        np.testing.assert_array_equal(found.top.scores[query], table[query, best])


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from([1, 3, 7, 10_000]))
def test_blocks_change_nothing_even_under_ties(seed, levels, rows):
    histories = world(users=9, items=25, longest=25, seed=seed, repeats=True)
    arrays = dense(histories, 25, d=3, seed=seed, levels=levels)
    whole = rank_targets(arrays, histories, 25, RankParams())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_BLOCK_BYTES", 8 * 25 * rows)
        parts = rank_targets(arrays, histories, 25, RankParams())
    for one, other in zip((*whole.top, *whole[1:]), (*parts.top, *parts[1:]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_items_that_only_rounding_tells_apart_are_in_order():
    items = 500
    histories = world(users=40, items=items)
    arrays = dense(histories, items, d=16)
    arrays["item_matrix"][1::2] = arrays["item_matrix"][::2] * np.float32(1 + 1e-7)
    arrays["item_matrix"][2::4] = arrays["item_matrix"][::4]
    found = rank_targets(arrays, histories, items, RankParams())
    table = full_table(arrays, histories, items)
    for query in range(histories.query_count):
        assert found.top.items[query].tolist() == brute_force(table, histories, query, 20, True)[1]


def test_fewer_candidates_than_asked_for_end_in_minus_one():
    histories = world(users=6, items=15, longest=12)
    found = rank_targets(dense(histories, 15), histories, 15, RankParams())
    for query in range(histories.query_count):
        left = 15 - len(set(histories.history(query).tolist()))
        assert (found.top.items[query] >= 0).sum() == left == found.candidates[query]
        assert (found.top.items[query, left:] == -1).all()
        assert np.isfinite(found.top.scores[query]).all()


def test_a_recommender_that_sees_the_target_puts_it_first():
    histories = world(items=60)
    arrays = {
        "item_matrix": np.eye(60, dtype=np.float32),
        "query_states": np.eye(60, dtype=np.float32)[histories.targets],
    }
    found = rank_targets(arrays, histories, 60, RankParams())
    assert (found.rank == 1).all()
    assert (found.sampled_rank == 1).all()
    np.testing.assert_array_equal(found.top.items[:, 0], histories.targets)


def test_all_equal_scores_put_the_target_last():
    histories = world(items=60)
    arrays = {
        "item_matrix": np.ones((60, 2), np.float32),
        "query_states": np.zeros((histories.query_count, 2), np.float32),
    }
    found = rank_targets(arrays, histories, 60, RankParams(negatives=10))
    np.testing.assert_array_equal(found.rank, found.candidates)
    assert (found.sampled_rank == 11).all()


def test_a_target_that_was_seen_can_never_be_recommended():
    histories = world(items=60)
    seen = histories._replace(targets=np.array([histories.history(query)[0] for query in range(histories.query_count)]))
    found = rank_targets(dense(histories, 60), seen, 60, RankParams(negatives=10))
    np.testing.assert_array_equal(found.rank, found.candidates + 1)
    assert (found.sampled_rank == RankParams().top + 1).all()  # beyond every cutoff, few negatives or not


@pytest.mark.parametrize("broken", [np.nan, np.inf, 1e38])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_no_numbers_are_refused_with_an_example(broken):
    histories = world(items=60)
    arrays = dense(histories, 60)
    arrays["query_states"][3] = broken
    arrays["item_matrix"][7] = 1e3
    with pytest.raises(InputError, match="'query_id': 3"):
        rank_targets(arrays, histories, 60, RankParams())


@pytest.mark.parametrize("break_it", ["queries", "items", "half"])
def test_factors_of_another_split_are_refused(break_it):
    histories = world(items=60)
    arrays = dense(histories, 60 if break_it != "items" else 59)
    if break_it == "queries":
        arrays["query_states"] = arrays["query_states"][1:]
    if break_it == "half":
        del arrays["item_matrix"]
    for name, where in (((), "factors"), (("recommenders/x",), "recommenders/x")):
        with pytest.raises(InputError, match=rf"^{where}: .*dvc repro"):
            rank_targets(arrays, histories, 60, RankParams(), *name)


def test_empty_lists_have_the_types_of_the_artifact():
    top = TopK.empty(2, 3)
    assert (top.items.dtype, top.scores.dtype) == (np.int32, np.float32)
    assert (top.items == -1).all() and (top.scores == np.finfo(np.float32).min).all()
    assert top.items.shape == top.scores.shape == (2, 3)


def test_negatives_are_distinct_unseen_and_uniform():
    histories = world(users=400, items=60, longest=20)
    drawn = sample_negatives(histories, 60, 10, seed=5)
    for query in range(histories.query_count):
        assert len(set(drawn[query])) == 10
        assert not set(drawn[query]) & (set(histories.history(query)) | {histories.targets[query]})
    counts = np.bincount(drawn.ravel(), minlength=60)
    free = histories.seen(60).toarray()
    free[np.arange(histories.query_count), histories.targets] = True
    expected = ((~free) * (10 / (~free).sum(axis=1, keepdims=True))).sum(axis=0)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_negatives_are_the_first_fitting_ones_of_the_seeds_integers():
    """So that figures of the sampled protocol can be compared with those of earlier runs."""
    histories = world(users=30, items=60)
    proposals = np.random.default_rng(5).integers(60, size=(histories.query_count, 2 * 10 + 16))
    drawn = sample_negatives(histories, 60, 10, seed=5)
    for query in range(histories.query_count):
        barred = {*histories.history(query).tolist(), int(histories.targets[query])}
        fitting = [item for item in dict.fromkeys(proposals[query].tolist()) if item not in barred]
        assert len(fitting) >= 10
        assert drawn[query].tolist() == fitting[:10]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([5, 20, 60, 1_000]), st.sampled_from([1, 10, 100]))
def test_negatives_are_those_that_a_table_of_all_items_gives(seed, items, count):
    """What is excluded stands in a table here, and every row is sampled by loops."""
    histories = world(users=9, items=items, longest=25, seed=seed, repeats=True)
    excluded = histories.seen(items).toarray()
    excluded[np.arange(histories.query_count), histories.targets] = True
    generator = np.random.default_rng(seed)
    proposals = generator.integers(items, size=(histories.query_count, 2 * count + 16))
    drawn = sample_negatives(histories, items, count, seed)
    for query in range(histories.query_count):
        fitting = [item for item in dict.fromkeys(proposals[query].tolist()) if not excluded[query, item]]
        if len(fitting) < count:
            fitting = generator.permutation(np.flatnonzero(~excluded[query])).tolist()
        expected = fitting[:count] + [-1] * (count - len(fitting))
        assert drawn[query].tolist() == expected


def test_sampling_negatives_holds_no_table_of_all_items():
    histories = world(users=500, items=20_000)
    tracemalloc.start()
    sample_negatives(histories, 20_000, 10, seed=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < histories.query_count * 20_000 / 4


def test_negatives_depend_on_the_seed_and_on_nothing_else():
    histories = world(users=50, items=200)
    np.testing.assert_array_equal(sample_negatives(histories, 200, 100, 5), sample_negatives(histories, 200, 100, 5))
    assert (sample_negatives(histories, 200, 100, 5) != sample_negatives(histories, 200, 100, 6)).any()


def test_where_few_items_are_left_all_are_negatives():
    histories = world(users=10, items=15, longest=12)
    drawn = sample_negatives(histories, 15, 100, seed=5)
    for query in range(histories.query_count):
        free = set(range(15)) - set(histories.history(query).tolist()) - {int(histories.targets[query])}
        assert set(drawn[query][drawn[query] >= 0].tolist()) == free
        assert (drawn[query][len(free) :] == -1).all()


def test_sampled_rank_counts_the_drawn_only():
    histories = world(items=60)
    arrays = dense(histories, 60, d=2, levels=3)
    settings_ = RankParams(negatives=15, seed=9)
    found, table = rank_targets(arrays, histories, 60, settings_), full_table(arrays, histories, 60)
    drawn = sample_negatives(histories, 60, 15, 9)
    for query in range(histories.query_count):
        better = sum(table[query, item] >= table[query, histories.targets[query]] for item in drawn[query])
        assert found.sampled_rank[query] == 1 + better


@pytest.mark.parametrize("exclude", [True, False])
def test_items_that_share_an_id_share_their_rank(exclude):
    histories, items = world(users=60, repeats=True)._replace(exclude_history=exclude), 60
    arrays = dense(histories, items)
    ids = (np.arange(items) % 23).astype(np.int32)  # two or three items to an ID
    arrays["item_matrix"] = arrays["item_matrix"][ids]
    ranking = rank_targets({**arrays, "ids": ids}, histories, items, RankParams(exclude_history=exclude))
    without = rank_targets(arrays, histories, items, RankParams(exclude_history=exclude))
    assert ranking.sharing is not None and ranking.id_rank is not None and ranking.sampled_sharing is not None
    drawn = sample_negatives(histories, items, 100, RankParams().seed)
    assert (ranking.rank == without.rank).all() and without.sharing is None
    table, excluded = full_table(arrays, histories, items), 0
    for query in range(histories.query_count):
        target, seen = histories.targets[query], set(histories.history(query).tolist())
        if exclude and target in seen:
            assert ranking.id_rank[query] == max(20, items - len(seen)) + 1  # a miss at every cutoff
            assert ranking.sharing[query] == ranking.sampled_sharing[query] == 0
            excluded += 1
            continue
        candidates = [item for item in range(items) if not exclude or item not in seen]
        better = {ids[item] for item in candidates if table[query, item] > table[query, target]}
        assert ranking.id_rank[query] == len(better) + 1
        assert ranking.sharing[query] == sum(ids[item] == ids[target] for item in candidates) - 1
        assert ranking.sampled_sharing[query] == sum(ids[item] == ids[target] for item in drawn[query] if item >= 0)
    assert (excluded > 0) == exclude
    assert {part.dtype for part in ranking if isinstance(part, np.ndarray)} == {np.dtype(np.int32)}
    columns = ranking.tables()[1].columns
    assert columns == [*without.tables()[1].columns, "sharing", "id_rank", "sampled_sharing"]


@pytest.mark.parametrize("exclude", [True, False])
def test_held_out_targets_are_ranked_among_held_out_items_too(exclude):
    histories, items = world(users=200, repeats=True)._replace(exclude_history=exclude), 60
    arrays, held_out = dense(histories, items, d=2, levels=3), np.arange(items) % 4 == 1
    settings_ = RankParams(exclude_history=exclude)
    ranking = rank_targets(arrays, histories, items, settings_, held_out=held_out)
    without, table = rank_targets(arrays, histories, items, settings_), full_table(arrays, histories, items)
    assert ranking.held_out_rank is not None and without.held_out_rank is None
    assert (ranking.rank == without.rank).all()
    excluded = 0
    for query in range(histories.query_count):
        target, seen = histories.targets[query], set(histories.history(query).tolist())
        if not held_out[target]:
            assert ranking.held_out_rank[query] == 0
        elif exclude and target in seen:
            assert ranking.held_out_rank[query] == max(20, items - len(seen)) + 1  # a miss at every cutoff
            excluded += 1
        else:
            rivals = [item for item in np.flatnonzero(held_out) if not exclude or item not in seen]
            better = sum(table[query, item] >= table[query, target] for item in rivals)
            assert ranking.held_out_rank[query] == better
    assert (excluded > 0) == exclude
    assert ranking.tables()[1].columns == [*without.tables()[1].columns, "held_out_rank"]


@pytest.mark.parametrize("exclude", [True, False])
def test_a_target_that_no_list_has_is_a_miss(exclude):
    """Scores of a beam: those of listed items are above 0, those of the others are 0."""
    histories, items = world(users=60, repeats=True)._replace(exclude_history=exclude), 60
    draw = np.random.default_rng(3)
    table = np.where(draw.random((histories.query_count, items)) < 0.4, draw.random((1, items)) + 1, 0)
    arrays = {"query_states": table.astype(np.float32), "item_matrix": np.eye(items, dtype=np.float32)}
    ids, held_out = np.arange(items, dtype=np.int32), np.arange(items) % 2 == 0
    given = {**arrays, "ids": ids}, histories, items, RankParams(exclude_history=exclude)
    ranking, whole = (rank_targets(*given, held_out=held_out, lists=lists) for lists in (True, False))
    assert ranking.listed is not None and whole.listed is None and ranking.held_out_rank is not None
    assert whole.id_rank is not None and whole.sharing is not None
    listed = table[np.arange(histories.query_count), histories.targets] > 0
    if exclude:
        listed &= ~histories.targets_seen(items)
    assert (ranking.listed == listed).all() and 0 < listed.mean() < 1
    last = np.maximum(ranking.candidates, 20) + 1
    assert (ranking.rank == np.where(listed, whole.rank, last)).all() and (whole.rank[~listed] < last[~listed]).any()
    assert (ranking.id_rank == np.where(listed, whole.id_rank, last)).all()
    assert (ranking.sharing == np.where(listed, whole.sharing, 0)).all()
    assert (ranking.held_out_rank[~listed] == np.where(held_out[histories.targets], last, 0)[~listed]).all()
    assert (ranking.sampled_rank[listed] == whole.sampled_rank[listed]).all()
    for query, top in enumerate(ranking.top.items):
        seen = histories.history(query) if exclude else []
        left = set(np.flatnonzero(table[query] > 0)) - set(seen)
        assert set(top) - {-1} <= left and (top >= 0).sum() == min(20, len(left))
    columns = ranking.tables()[1]
    assert columns["listed"].to_list() == listed.tolist() and "listed" not in whole.tables()[1].columns
