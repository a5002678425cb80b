"""Sums of two recommenders' scores, the weight that validation chooses, and what is refused."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from tests.unit.counting.cases import leave_one_out, random_sequences, write_split

from sidflow.artifacts.recommenders import FACTORS, SUMMARY, ScoreFactors, refit_metadata
from sidflow.blending.fit import fit_blend, weighted_sum
from sidflow.blending.params import BlendParams
from sidflow.core.errors import InputError
from sidflow.metrics.ranking import metric_at_k
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
