"""Sums of two recommenders' scores, the weight that validation chooses, and what is refused."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from tests.unit.counting.cases import leave_one_out, random_sequences, write_split

from sidflow.artifacts.recommenders import FACTORS, IDS, LISTS_KEY, SUMMARY, ScoreFactors, by_part, refit_metadata
from sidflow.blending.fit import fit_blend, weighted_sum
from sidflow.blending.params import BlendParams
from sidflow.core.errors import InputError
from sidflow.evaluation.evaluate import scoring_item_matrix
from sidflow.metrics.ranking import metric_at_k
from sidflow.ranking.rank import RankParams, rank_targets
from sidflow.ranking.scores import Scores
from sidflow.sequences.histories import load_histories

ITEMS = 15


@pytest.fixture
def past(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_split(random_sequences(users=40, items=ITEMS), ITEMS)
    return load_histories()


def draw_factors(past, seed, kind):
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(past.query_count, 3)).astype(np.float32)
    dense = ScoreFactors(states, generator.normal(size=(ITEMS, 3)).astype(np.float32))
    sparse = csr_matrix(generator.random((past.query_count, 4)) * (generator.random((past.query_count, 4)) > 0.5))
    relation = csr_matrix(generator.random((4, ITEMS)).astype(np.float32))
    counted = ScoreFactors(evidence=sparse.astype(np.float32), relation=relation)
    return {"dense": dense, "sparse": counted, "both": dense._replace(evidence=counted.evidence, relation=relation)}[
        kind
    ]


def write(name, factors, refit=False):
    FACTORS.write(factors.arrays(), refit_metadata(refit), model=name)


def read_scores(past, name):
    return Scores(FACTORS.read(model=name).arrays, past.query_count, ITEMS).for_queries(np.arange(past.query_count))


@pytest.mark.parametrize("base", ["dense", "sparse", "both"])
@pytest.mark.parametrize("added", ["dense", "sparse", "both"])
def test_scores_of_the_sum_are_the_weighted_sum_of_scores(past, base, added):
    one, two = draw_factors(past, 1, base), draw_factors(past, 2, added)
    queries = np.arange(past.query_count)
    summed = weighted_sum(one, two, 0.7).scores(queries)
    np.testing.assert_allclose(summed, one.scores(queries) + 0.7 * two.scores(queries), rtol=1e-5, atol=1e-5)
    write("one", one)
    again = ScoreFactors.from_arrays(FACTORS.read(model="one").arrays, ITEMS)
    np.testing.assert_allclose(again.scores(queries), one.scores(queries), rtol=1e-6)


def test_validation_chooses_the_weight(past):
    write("one", draw_factors(past, 1, "dense"))
    write("two", draw_factors(past, 2, "both"))
    settings = BlendParams(base="one", added="two", weights=(0.0, 0.5, 1.0, 2.0))
    fit_blend("sum", settings, past, ITEMS)
    one, two = read_scores(past, "one"), read_scores(past, "two")
    values = []
    for weight in settings.weights:
        scores = one + weight * two
        scores[past.seen(ITEMS).toarray()] = -np.inf
        own = scores[np.arange(len(scores)), past.targets]
        rank = np.where(np.isneginf(own), ITEMS + 1, (scores >= own[:, None]).sum(1))
        values.append(metric_at_k(rank[past.query_valid], "ndcg", 10).mean())
    summary = SUMMARY.read(model="sum")
    assert summary["megabytes"] == sum(array.nbytes for array in FACTORS.read(model="sum").arrays.values()) / 1e6
    np.testing.assert_allclose([trial["valid_ndcg_at_10"] for trial in summary["trials"]], values, atol=1e-6)
    assert summary["chosen"]["weight"] == settings.weights[int(np.argmax(values))]
    assert np.isclose(summary["best_valid_ndcg_at_10"], max(values), atol=1e-6)
    expected = one + summary["chosen"]["weight"] * two
    np.testing.assert_allclose(read_scores(past, "sum"), expected, rtol=1e-5, atol=1e-5)


def test_a_blend_is_blended_like_any_recommender(past):
    for name, seed, kind in (("one", 1, "sparse"), ("two", 2, "both"), ("three", 3, "dense")):
        write(name, draw_factors(past, seed, kind))
    fit_blend("pair", BlendParams(base="one", added="two", weights=(0.5,)), past, ITEMS)
    fit_blend("sum", BlendParams(base="pair", added="three", weights=(2.0,)), past, ITEMS)
    expected = read_scores(past, "one") + 0.5 * read_scores(past, "two") + 2 * read_scores(past, "three")
    np.testing.assert_allclose(read_scores(past, "sum"), expected, rtol=1e-5, atol=1e-5)


def test_of_equally_good_weights_the_first_is_taken(past):
    write("one", draw_factors(past, 1, "dense"))
    fit_blend("sum", BlendParams(base="one", added="one", weights=(0.5, 0.0, 3.0)), past, ITEMS)
    assert SUMMARY.read(model="sum")["chosen"]["weight"] == 0.5  # the same order with every weight


def test_test_targets_choose_nothing(past):
    write("one", draw_factors(past, 1, "dense"))
    write("two", draw_factors(past, 2, "dense"))
    settings = BlendParams(base="one", added="two")
    fit_blend("sum", settings, past, ITEMS)
    other = past._replace(targets=np.where(past.query_valid, past.targets, 0))
    fit_blend("other", settings, other, ITEMS)
    assert SUMMARY.read(model="sum")["trials"] == SUMMARY.read(model="other")["trials"]


def test_a_refitted_recommender_beside_one_that_is_not_is_refused(past):
    write("one", draw_factors(past, 1, "dense"))
    write("two", draw_factors(past, 2, "dense"), refit=True)
    with pytest.raises(InputError, match="`refit` alike in one and two; found true in two alone"):
        fit_blend("sum", BlendParams(base="one", added="two"), past, ITEMS)
    write("fixed", draw_factors(past, 3, "dense"), refit=None)  # nothing is fitted: it goes with both
    fit_blend("sum", BlendParams(base="fixed", added="two"), past, ITEMS)
    assert FACTORS.read(model="sum").metadata["refit"] is True


@pytest.mark.parametrize("refit", [False, True])
def test_the_item_rows_of_a_blend_are_not_measured(past, refit):
    for name in ("one", "two"):
        fits = [draw_factors(past, seed, "dense") for seed in (len(name), 9)]
        write(name, by_part(past.query_valid, *fits) if refit else fits[0], refit)
        measured = scoring_item_matrix(FACTORS.read(model=name))
        assert measured is not None and measured.shape == (ITEMS, 3)
    fit_blend("sum", BlendParams(base="one", added="two"), past, ITEMS)
    assert scoring_item_matrix(FACTORS.read(model="sum")) is None


def test_factors_of_another_split_and_absent_ones_are_one_line(past):
    shorter = leave_one_out(random_sequences(users=10, items=ITEMS))
    write("one", draw_factors(past, 1, "dense"))
    write("old", draw_factors(shorter, 2, "dense"))
    with pytest.raises(InputError, match=r"factors of old: expected a dense or a sparse pair .* over 80 queries"):
        fit_blend("sum", BlendParams(base="one", added="old"), past, ITEMS)
    with pytest.raises(InputError, match=r"recommenders/none/factors\.safetensors"):
        fit_blend("sum", BlendParams(base="one", added="none"), past, ITEMS)


def test_the_stage_reads_its_own_section(past):
    write("one", draw_factors(past, 1, "dense"))
    write("two", draw_factors(past, 2, "dense"))
    Path("params.yaml").write_text(
        "rank: {exclude_history: true}\npreset: test\nrecommenders: [sum]\nblend: {sum: {base: one, added: two}}\n"
    )
    stage = Path(__file__).parents[3] / "stages/blend.py"
    runpy.run_path(str(stage))["main"]("sum")
    written = FACTORS.at(model="sum").read_bytes()
    fit_blend("sum", BlendParams(base="one", added="two"), past, ITEMS)
    assert written == FACTORS.at(model="sum").read_bytes()


def by_ids(past, ids, seed):
    """Factors that give the items of one ID one score, as a recommender that generates IDs does."""
    drawn = np.random.default_rng(seed).random((past.query_count, ids.max() + 1)).astype(np.float32)
    relation = csr_matrix((np.ones(ITEMS, dtype=np.float32), (ids, np.arange(ITEMS))), shape=(ids.max() + 1, ITEMS))
    return ScoreFactors(evidence=csr_matrix(drawn), relation=relation)


def expected_ndcg(scores, target, excluded, ids):
    """The mean over all orders of the candidates of the target's ID and score."""
    scores = np.where(excluded, -np.inf, scores)
    if np.isneginf(scores[target]):
        return 0.0
    tied = int(((ids == ids[target]) & (scores == scores[target])).sum())
    last = int((scores >= scores[target]).sum())
    ranks = np.arange(last - tied + 1, last + 1)
    return float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean())


@pytest.mark.parametrize("generative", ["base", "added"])
def test_items_that_share_an_id_are_a_tie_where_their_scores_are_one(past, generative):
    ids = (np.arange(ITEMS) // 3).astype(np.int32)
    FACTORS.write(by_ids(past, ids, 1).arrays() | {IDS: ids}, refit_metadata(False), model="generative")
    write("other", draw_factors(past, 2, "dense"))
    other = {"base": "added", "added": "base"}[generative]
    settings = BlendParams(**{generative: "generative", other: "other"}, weights=(0.0, 0.5))
    fit_blend("sum", settings, past, ITEMS)
    first, second = read_scores(past, settings.base), read_scores(past, settings.added)
    excluded = past.seen(ITEMS).toarray().astype(bool)
    queries = np.flatnonzero(past.query_valid)
    for trial in SUMMARY.read(model="sum")["trials"]:
        scores = first + np.float32(trial["weight"]) * second
        values = [expected_ndcg(scores[query], past.targets[query], excluded[query], ids) for query in queries]
        np.testing.assert_allclose(trial["valid_ndcg_at_10"], np.mean(values), atol=1e-6)
    arrays = FACTORS.read(model="sum").arrays
    assert arrays[IDS].tolist() == ids.tolist()
    ranking = rank_targets(arrays, past, ITEMS, RankParams())
    scores = np.where(excluded, -np.inf, read_scores(past, "sum"))
    for query, target in enumerate(past.targets):
        own = scores[query, target]
        if np.isneginf(own):
            continue
        best = [scores[query, ids == number].max() for number in np.unique(ids)]
        assert ranking.id_rank[query] == sum(one >= best[ids[target]] for one in best)
        assert ranking.sharing[query] == ((ids == ids[target]) & (scores[query] == own)).sum() - 1


@pytest.mark.parametrize(
    ("base", "added", "weight", "lists"),
    [(True, True, 0.5, True), (True, False, 0.0, True), (True, False, 0.5, False), (False, True, 0.5, False)],
)
def test_a_sum_of_lists_is_one_of_lists(past, base, added, weight, lists):
    for seed, (name, is_list) in enumerate((("one", base), ("two", added))):
        FACTORS.write(draw_factors(past, seed, "sparse").arrays(), {LISTS_KEY: True} if is_list else {}, model=name)
    fit_blend("sum", BlendParams(base="one", added="two", weights=(weight,)), past, ITEMS)
    assert bool(FACTORS.read(model="sum").metadata.get(LISTS_KEY)) == lists


def test_blending_other_ids_is_refused_and_the_same_are_kept(past):
    ids = (np.arange(ITEMS) // 3).astype(np.int32)
    for name, of_part in (("one", ids), ("two", ids), ("other", ids[::-1].copy())):
        FACTORS.write(by_ids(past, of_part, len(name)).arrays() | {IDS: of_part}, refit_metadata(False), model=name)
    fit_blend("sum", BlendParams(base="one", added="two"), past, ITEMS)
    assert FACTORS.read(model="sum").arrays[IDS].tolist() == ids.tolist()
    with pytest.raises(InputError, match=r"expected the same IDs in one and other.*set `ids` alike in both"):
        fit_blend("sum", BlendParams(base="one", added="other"), past, ITEMS)
