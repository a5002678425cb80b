"""IDs that a history excludes: beams, lists and ranks without them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from scipy.sparse import csr_matrix
from tests.unit.generative.cases import ALL_KINDS, Decoding, item_ids, node_prefixes, random_codes
from tests.unit.generative.shop import COUNT, LOOP, served_with_beam, stage_main, write_ids, write_params
from tests.unit.sequential.cases import CYCLE

from sidflow.artifacts.catalog import USERS
from sidflow.artifacts.evaluation import CUTOFFS
from sidflow.artifacts.recommenders import FACTORS, IDS, SUMMARY
from sidflow.core.errors import InputError
from sidflow.generative.audit import audit_beams
from sidflow.generative.decoding import Beams, beam_search, exact_log_probs, excluded_nodes
from sidflow.generative.ranking import CandidateTree, Decoder, answer_queries, beam_factors, exact_factors
from sidflow.generative.tree import build_tree
from sidflow.metrics.ranking import metric_at_k
from sidflow.ranking.rank import RankParams, rank_targets
from sidflow.sequences.histories import Histories, load_histories
from sidflow.sequences.windows import query_windows
from sidflow.serving.recommendations import recommend_after, recommend_to_user

SIZES = (4, 3, 2)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("by", ["children", "vocabulary"])
@pytest.mark.parametrize("count", [60, 20])
def test_beams_hold_open_ids_alone(kind, by, count):
    """As many of the best IDs as the beam is wide are excluded: it is wide enough for the next ones."""
    case = Decoding(kind, count=count)
    exact = exact_log_probs(*case.arguments, by=by)
    width = case.tree.leaves // 2
    best = exact.topk(width, dim=1).indices
    rows = torch.arange(2)[:, None].expand(-1, width)  # nothing is excluded for the third history
    excluded = excluded_nodes(case.tree, rows.flatten(), best[:2].flatten())
    beams = beam_search(*case.arguments, width, excluded, by=by)
    exact[rows, best[:2]] = -torch.inf
    for row in range(2):
        left = int((exact[row] > -torch.inf).sum())
        assert (beams.leaves[row] >= 0).sum() == min(width, left)
        assert not set(beams.leaves[row].tolist()) & set(best[row].tolist())
        listed = beams.leaves[row][beams.leaves[row] >= 0].long()
        torch.testing.assert_close(beams.log_probs[row, : len(listed)], exact[row, listed], atol=2e-5, rtol=1e-5)
    assert beams.leaves[2].tolist() == beam_search(*case.arguments, width, by=by).leaves[2].tolist()
    whole = beam_search(*case.arguments, case.tree.leaves, excluded, by=by)
    for row in range(2):
        left = int((exact[row] > -torch.inf).sum())
        assert whole.leaves[row, :left].tolist() == exact[row].argsort(descending=True)[:left].tolist()
        assert (whole.leaves[row, left:] == -1).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_where_every_id_is_excluded_nothing_is_listed(kind):
    case = Decoding(kind)
    leaves = torch.arange(case.tree.leaves)
    beams = beam_search(*case.arguments, 7, excluded_nodes(case.tree, torch.ones_like(leaves), leaves))
    assert (beams.leaves[1] == -1).all()
    assert (beams.leaves[[0, 2]] >= 0).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), count=st.integers(1, 30), share=st.floats(0, 1))
def test_excluded_prefixes_are_those_without_an_open_id(seed, count, share):
    tree = build_tree(random_codes(seed, count, SIZES), SIZES)
    mask = np.random.default_rng(seed).random((3, tree.leaves)) < share
    rows, leaves = (torch.from_numpy(part) for part in csr_matrix(mask).nonzero())
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    ids = node_prefixes(tree, tree.levels)
    for depth, excluded in enumerate(excluded_nodes(tree, rows[order], leaves[order]), 1):
        prefixes = [tuple(prefix) for prefix in node_prefixes(tree, depth).tolist()]
        parents = [tuple(prefix) for prefix in node_prefixes(tree, depth - 1).tolist()]
        expected = {
            (row, prefix)
            for row in range(3)
            for prefix in prefixes
            if mask[row, (ids[:, :depth] == prefix).all(axis=1)].all()
        }
        triples = list(zip(*(part.tolist() for part in excluded), strict=True))
        assert {(row, prefixes[node]) for row, node, _ in triples} == expected
        assert len(triples) == len(expected)
        assert all(parents[parent] == prefixes[node][:-1] for _, node, parent in triples)


def random_beams(draw, candidates, excluded, width):
    """Lists of open IDs, each in an order of its own; the last list is short."""
    closed = candidates.excluded_leaves(excluded).toarray()
    leaves = np.full((len(closed), width), -1, dtype=np.int32)
    for row, one in enumerate(closed):
        listed = draw.permutation(np.flatnonzero(~one))[: 1 if row + 1 == len(closed) else width]
        leaves[row, : len(listed)] = listed
    scores = np.where(leaves >= 0, -(np.arange(width, dtype=np.float32) // 2), -np.inf)  # two by two the same
    return Beams(torch.from_numpy(leaves), torch.from_numpy(scores).float())


def random_histories(draw, items, queries, longest, exclude):
    lengths = draw.integers(1, longest + 1, size=queries)
    return Histories(
        items=draw.integers(items, size=lengths.sum() + queries).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths + 1)]),
        train_end=lengths,
        query_user=np.arange(queries),
        query_end=lengths,
        query_valid=np.ones(queries, dtype=bool),
        targets=draw.integers(items, size=queries),
        exclude_history=exclude,
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), items=st.sampled_from([1, 2, 60]), exclude=st.booleans())
def test_validation_counts_as_the_rank_stage_does(seed, items, exclude):
    """Items share IDs; histories exclude some items of an ID, or all; some targets are excluded, or on no list."""
    draw = np.random.default_rng(seed)
    candidates = CandidateTree(item_ids(random_codes(seed, items, SIZES), SIZES), items, torch.device("cpu"))
    histories = random_histories(draw, items, 40, 30, exclude)
    excluded = histories.excluded(items)
    beams = random_beams(draw, candidates, excluded, 6)
    ranks, sharing = candidates.ranks(beams, histories.targets, excluded)
    arrays = beam_factors(beams, candidates).arrays() | {IDS: candidates.leaf.astype(np.int32)}
    ranking = rank_targets(arrays, histories, items, RankParams(negatives=5))
    listed = (beams.leaves.numpy() == candidates.leaf[histories.targets][:, None]).any(1)
    open_target = listed & ~histories.targets_seen(items) if exclude else listed
    assert (ranks[open_target] == ranking.rank[open_target]).all()
    assert (sharing[open_target] == ranking.sharing[open_target]).all()
    for k in CUTOFFS:
        assert not metric_at_k(ranks, "recall", k, sharing)[~open_target].any()


def test_scores_of_a_query_are_its_own():
    """A blend adds them to other scores, by a weight that validation chooses: test queries must not move them."""
    draw = np.random.default_rng(0)
    candidates = CandidateTree(item_ids(random_codes(0, 30, SIZES), SIZES), 30, torch.device("cpu"))
    log_probs = draw.normal(-9, 5, size=(2, 30)).astype(np.float32)
    log_probs[0, 4] = log_probs[1, :8] = -np.inf  # items without an ID
    beams = random_beams(draw, candidates, csr_matrix((2, 30), dtype=bool), 6)
    beams = beams._replace(log_probs=beams.log_probs - torch.tensor([[3.0], [400.0]]))
    for make in (lambda rows: exact_factors(log_probs[rows]), lambda rows: beam_factors(_of(beams, rows), candidates)):
        both, second = make(slice(0, 2)), make(slice(1, 2))
        assert both.evidence[[1]].toarray().tolist() == second.evidence.toarray().tolist()
        assert second.evidence.data.min() == 1


def _of(beams, rows):
    return Beams(beams.leaves[rows], beams.log_probs[rows])


@pytest.mark.parametrize("ids", [{"suffix": "none"}, {}])
@pytest.mark.parametrize("exclude", [True, False])
def test_training_validates_by_the_ranks_of_the_rank_stage(shop, ids, exclude):
    write_ids([(item % 6 // 2, item % 2) for item in range(COUNT)])  # two items to an ID, 6 apart
    write_params(
        tiger={"ids": ids, "ranking": "beam", "validate_beam": 20, "validate_on": 100, "loop": LOOP | {"epochs": 2}}
    )
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content | {"rank": {"exclude_history": exclude}}, handle)
    stage_main()("tiger")
    histories = load_histories()._replace(exclude_history=exclude)
    ranking = rank_targets(FACTORS.read(model="tiger").arrays, histories, COUNT, RankParams(negatives=5))
    valid = histories.query_valid
    sharing = None if ranking.sharing is None else ranking.sharing[valid]
    assert (sharing is None) == (not ids)
    ndcg = metric_at_k(ranking.rank[valid], "ndcg", 10, sharing)
    assert SUMMARY.read(model="tiger")["best_valid_ndcg_at_10"] == pytest.approx(ndcg.mean(), abs=1e-6)
    assert 0 < ndcg.mean() < 0.9


def test_a_new_history_gets_as_many_items_as_it_asks_for(shop, monkeypatch):
    """The beam is as wide as the history is long, and the history holds what is most probable."""
    write_params(tiger={"loop": LOOP | {"epochs": 1}, "ids": {"suffix": "none"}})
    stage_main()("tiger")
    loaded = served_with_beam("tiger", 4, monkeypatch)
    arrays, _ = loaded.answer([0, 1, 2, 3])
    best = arrays["query_indices"][np.argsort(-arrays["query_values"])]
    keys = [f"i{item:02}" for item in best]
    assert len(keys) == 4
    encoders = {}
    answer = recommend_after(keys, 4, "tiger", encoders=encoders)
    assert len(answer.items) == 4 and not {item.item_key for item in answer.items} & set(keys)
    content = YAML(typ="safe").load(Path("params.yaml").read_text())
    with Path("params.yaml").open("w") as handle:
        YAML().dump(content | {"rank": {"exclude_history": False}}, handle)
    free, _ = loaded.answer([int(key[1:]) for key in keys])
    answer = recommend_after(keys, 4, "tiger", encoders=encoders)
    assert {int(item.item_key[1:]) for item in answer.items} == set(free["query_indices"].tolist())


def test_a_list_longer_than_the_beam_is_asked_for(shop, monkeypatch):
    """The beam is as wide as the list then; up to its own width the list is what it was."""
    write_params(tiger={"loop": LOOP | {"epochs": 1}})
    stage_main()("tiger")
    served_with_beam("tiger", 2, monkeypatch)
    encoders, history = {}, ["i00", "i01"]

    def listed(k):
        return [item.item_key for item in recommend_after(history, k, "tiger", encoders=encoders).items]

    assert len(listed(2)) == 2
    assert len(listed(7)) == 7
    others = [f"i{item:02}" for item in range(COUNT - 1) if item not in (0, 1)]  # the last one has no ID
    assert sorted(listed(COUNT)) == others
    assert listed(1) == listed(2)[:1]


def test_a_user_is_told_where_the_beam_ends_the_evaluated_list(shop):
    """Three items are on no list of a beam; a list of more is not that which was evaluated."""
    write_ids([(item % 4, item // 4) for item in range(COUNT)], absent=(*range(10, CYCLE), CYCLE))
    write_params(tiger={"loop": LOOP | {"epochs": 1}, "ranking": "beam", "beam": 10})
    stage_main()("tiger")
    stage_main("rank")("tiger")
    users = int(load_histories().query_user.max()) + 1
    keys = [f"u{user}" for user in range(users)]
    USERS.write(pl.DataFrame({"user_id": pl.Series(range(users), dtype=pl.Int32), "user_key": keys}))
    assert len(recommend_to_user("u0", 1, "tiger").items) == 1
    with pytest.raises(InputError, match=r"found \d, those of the beam. Remedy: -k \d, or raise `beam` of tiger"):
        recommend_to_user("u0", 8, "tiger")


@pytest.mark.parametrize("sizes", [(6, 5, 4), (4, 3, 2)], ids=["ids of their own", "shared ids"])
def test_beams_are_audited_over_the_open_ids(sizes):
    """A beam as wide as what is left finds it all; beams are searched without what a history excludes."""
    case = Decoding("decoder", count=60, sizes=sizes)
    candidates = CandidateTree(case.ids, 60, torch.device("cpu"))
    decoder = Decoder.of(case.model, case.ids, candidates, "children")
    draw = np.random.default_rng(0)
    queries = np.arange(12)
    histories = random_histories(draw, 60, 12, 30, True)
    scores = decoder.exact(query_windows(histories, queries, 5))
    targets = np.argsort(-scores, axis=1)[queries, draw.integers(20, size=12)]  # some are in the history
    histories = histories._replace(targets=targets)
    audit = audit_beams(decoder, histories, queries, 5, 4)
    assert audit.recall["100"] == 1.0 and 0.3 < audit.recall["10"] <= 1
    expected, exact, beam = [], [], []
    for query in queries:
        closed, target = set(histories.history(query).tolist()), int(histories.targets[query])
        left = [item for item in range(60) if item not in closed]
        leaves = {candidates.leaf[item] for item in left}
        by_leaf = {leaf: scores[query, np.flatnonzero(candidates.leaf == leaf)[0]] for leaf in leaves}
        best = sorted(leaves, key=by_leaf.__getitem__, reverse=True)[:10]
        one = queries[query : query + 1]
        listed = answer_queries(decoder, histories, one, 5, 10).leaves[0].tolist()
        expected.append(len(set(best) & set(listed)) / 10)
        exact.append(mean_over_tie(best, candidates.leaf, left, target))
        narrow = answer_queries(decoder, histories, one, 5, 4).leaves[0].tolist()
        beam.append(mean_over_tie([leaf for leaf in narrow if leaf >= 0], candidates.leaf, left, target))
    assert audit.recall["10"] == pytest.approx(np.mean(expected))
    for found, values in ((audit.exact, exact), (audit.beam, beam)):
        names = ("valid_ndcg_at_10", "valid_recall_at_10")
        assert found == pytest.approx(dict(zip(names, np.mean(values, axis=0), strict=True)))
    assert audit.exact["valid_recall_at_10"] > audit.beam["valid_recall_at_10"] > 0  # the beam misses some
    assert audit_beams(decoder, histories, queries[:0], 5, 4) == ({}, {}, {})
    everything = histories._replace(
        items=np.tile(np.arange(60, dtype=np.int32), 12),
        offsets=60 * np.arange(13),
        query_end=np.full(12, 60),
    )
    nothing = {"valid_ndcg_at_10": 0.0, "valid_recall_at_10": 0.0}
    assert audit_beams(decoder, everything, queries, 5, 4) == ({}, nothing, nothing)


def mean_over_tie(ids, leaf, left, target):
    """nDCG@10 and recall@10 of `target` in the items `left` of a list of IDs, means over the places of its ID."""
    before, gains = 0, []
    for one in ids:
        sharing = sum(leaf[item] == one for item in left)
        if target in left and leaf[target] == one:
            gains = [(1 / np.log2(rank + 1), 1) if rank <= 10 else (0, 0) for rank in before + 1 + np.arange(sharing)]
        before += sharing
    return np.mean(gains, axis=0) if gains else (0.0, 0.0)
