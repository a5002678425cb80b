"""From artifacts to artifacts: factors, summaries, refits, the same bytes, and errors in one line."""

import re
from pathlib import Path

import numpy as np
import pytest
from tests.unit.counting.cases import leave_one_out, random_sequences, write_split

from sidflow import counting
from sidflow.artifacts import recommenders
from sidflow.artifacts.catalog import TRUTH
from sidflow.artifacts.features import EMBEDDING, MODALITY, read_core_rows
from sidflow.artifacts.recommenders import FACTORS, SUMMARY, served_matrix
from sidflow.core.errors import InputError
from sidflow.counting import fit
from sidflow.counting.cooccurrence import ContentParams, CooccurrenceParams, content_factors
from sidflow.counting.ease import EaseParams
from sidflow.counting.item_knn import ItemKnnParams
from sidflow.counting.search import dense_ranks, mean_ndcg
from sidflow.counting.simple import OracleParams
from sidflow.metrics.geometry import unit_rows
from sidflow.sequences.cooccurrence import training_events
from sidflow.sequences.histories import load_histories, load_histories_for_ranking

ROOT = Path(__file__).parents[3]
ITEMS = 15


@pytest.fixture
def split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sequences = random_sequences(users=40, items=ITEMS)
    write_split(sequences, ITEMS)
    Path("params.yaml").write_text("rank: {exclude_history: true}\n")
    return sequences


def scores_of(model):
    from scipy.sparse import csr_matrix

    arrays = FACTORS.read(model=model).arrays
    total = arrays["query_states"] @ arrays["item_matrix"].T
    if "query_indptr" in arrays:
        width = len(arrays["item_indptr"]) - 1
        sides = []
        for side, shape in (("query", (len(total), width)), ("item", (width, ITEMS))):
            parts = (arrays[f"{side}_values"], arrays[f"{side}_indices"], arrays[f"{side}_indptr"])
            sides.append(csr_matrix(parts, shape=shape))
        total = total + (sides[0] @ sides[1]).toarray()
    return total


@pytest.mark.parametrize("model", sorted(fit.METHODS))
def test_a_refit_answers_test_queries_from_more_and_leaves_validation_alone(split, model):
    kind = fit.METHODS[model].params
    fit.fit_counting(model, kind())
    plain, chosen = scores_of(model), SUMMARY.read(model=model)["chosen"]
    fit.fit_counting(model, kind(refit=True))
    refitted, valid = scores_of(model), leave_one_out(split).query_valid
    assert SUMMARY.read(model=model)["chosen"] == chosen
    assert np.allclose(plain[valid], refitted[valid], atol=1e-6)
    assert not np.allclose(plain[~valid], refitted[~valid], atol=1e-3)
    longer = leave_one_out(split)._replace(train_end=load_histories().train_end + 1)
    method = fit.METHODS[model]
    expected = method.factors(longer, training_events(longer, ITEMS), *([chosen] if method.choose else []))
    assert np.allclose(refitted[~valid], expected.scores(np.flatnonzero(~valid)), atol=1e-6)


def test_the_fact_and_the_item_rows_of_the_second_fit_go_with_the_factors(split):
    fit.fit_counting("popularity", fit.METHODS["popularity"].params())
    plain = FACTORS.read(model="popularity")
    assert recommenders.refit_in(plain.metadata) is False and served_matrix(plain).shape == (ITEMS, 1)
    fit.fit_counting("popularity", fit.METHODS["popularity"].params(refit=True))
    both = FACTORS.read(model="popularity")
    assert recommenders.refit_in(both.metadata) is True and both.arrays["item_matrix"].shape == (ITEMS, 2)
    wide = training_events(leave_one_out(split)._replace(train_end=load_histories().train_end + 1), ITEMS)
    assert np.array_equal(
        served_matrix(both)[:, 0].argsort(),
        fit.METHODS["popularity"].factors(load_histories(), wide).matrix[:, 0].argsort(),
    )


def test_who_has_nothing_to_fit_says_so(split):
    TRUTH.write(TRUTH.empty(ITEMS))
    fit.fit_counting("oracle", OracleParams())
    assert recommenders.refit_in(FACTORS.read(model="oracle").metadata) is None


@pytest.mark.parametrize("model", sorted(fit.METHODS))
def test_the_same_input_gives_the_same_bytes(split, model):
    runs = []
    for _ in range(2):
        fit.fit_counting(model, fit.METHODS[model].params())
        runs.append((FACTORS.at(model=model).read_bytes(), SUMMARY.at(model=model).read_bytes()))
    assert runs[0] == runs[1]


def test_a_model_with_content_is_refitted_too_and_chosen_on_the_first_fit(split):
    values = np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32)
    path = EMBEDDING.write({"values": values, "present": np.ones(ITEMS, dtype=bool)}, {}, name="text")
    found = []
    for refit in (False, True):
        params = ContentParams(features=str(path), contents=(0.5, 2.0), refit=refit)
        fit.fit_counting("cooccurrence_content", params)
        found.append((scores_of("cooccurrence_content"), SUMMARY.read(model="cooccurrence_content")["chosen"]))
    (plain, chosen), (refitted, again) = found
    known = leave_one_out(split)
    assert chosen == again
    assert np.allclose(plain[known.query_valid], refitted[known.query_valid], atol=1e-6)
    wide = training_events(known._replace(train_end=load_histories().train_end + 1), ITEMS)
    expected = content_factors(load_histories_for_ranking(), wide, chosen, unit_rows(*read_core_rows(path, ITEMS)))
    tests = np.flatnonzero(~known.query_valid)
    assert np.allclose(refitted[tests], expected.scores(tests), atol=1e-6)
    assert not np.allclose(refitted[tests], plain[tests], atol=1e-3)


@pytest.mark.parametrize(
    ("model", "params"),
    [("ease", EaseParams(ridges=(1.0, 30.0), kept=3)), ("item_knn", ItemKnnParams(neighbours=(2, 5)))],
)
def test_what_is_chosen_has_the_validation_figure_of_the_factors_that_are_written(split, model, params):
    fit.fit_counting(model, params)
    summary, known = SUMMARY.read(model=model), load_histories_for_ranking()
    valid = np.flatnonzero(known.query_valid)
    ranks = dense_ranks(scores_of(model)[valid], known.excluded(ITEMS, valid), known.targets[valid])
    assert summary["valid_ndcg_at_10"] == pytest.approx(mean_ndcg(ranks), rel=1e-5)
    fit.fit_counting(model, params.model_copy(update={"refit": True}))
    assert SUMMARY.read(model=model)["trials"] == summary["trials"]


@pytest.mark.parametrize("exclude", [True, False])
def test_the_summary_tells_what_was_chosen_and_tried(split, exclude):
    Path("params.yaml").write_text(f"rank: {{exclude_history: {str(exclude).lower()}}}\n")
    fit.fit_counting("cooccurrence", CooccurrenceParams(windows=(2, 4), lasts=(3,)))
    summary = SUMMARY.read(model="cooccurrence")
    assert (summary["name"], summary["family"]) == ("cooccurrence", "counting")
    assert summary["chosen"]["window"] in (2, 4)
    assert summary["valid_ndcg_at_10"] == max(trial["valid_ndcg_at_10"] for trial in summary["trials"])
    valid = np.flatnonzero(leave_one_out(split).query_valid)
    histories = load_histories_for_ranking()
    assert (histories.excluded(ITEMS).nnz > 0) == exclude
    excluded, targets = histories.excluded(ITEMS, valid), histories.targets[valid]
    ranks = dense_ranks(scores_of("cooccurrence")[valid], excluded, targets)
    assert summary["valid_ndcg_at_10"] == pytest.approx(mean_ndcg(ranks), rel=1e-5)


def test_content_is_read_from_embeddings_and_from_modalities(split):
    values = np.random.default_rng(0).normal(size=(ITEMS + 3, 4)).astype(np.float32)
    present = np.ones(ITEMS + 3, dtype=bool)
    values[2], present[2] = 0, False
    arrays = {"values": values, "present": present}
    for kind in (EMBEDDING, MODALITY):
        path = kind.write(arrays, {}, name="text")
        rows = unit_rows(*read_core_rows(path, ITEMS))
        assert np.allclose(np.delete(np.linalg.norm(rows, axis=1), 2), 1)
        assert (rows[2] == 0).all()
        params = ContentParams(features=str(path), contents=(2.0,), refit=True)
        fit.fit_counting("cooccurrence_content", params)
        assert SUMMARY.read(model="cooccurrence_content")["chosen"]["content"] == 2
    with pytest.raises(InputError, match="a row for each of 30 core items"):
        read_core_rows(EMBEDDING.at(name="text"), 30)


def test_an_unknown_model_is_told_in_one_line(split):
    with pytest.raises(InputError, match="found sasrec"):
        fit.params_model("train_counting", "sasrec")
    with pytest.raises(InputError, match="found search"):  # a module, but no recommender
        fit.params_model("train_counting", "search")
    with pytest.raises(InputError, match=r"found \.\./x"):
        fit.params_model("train_counting", "../x")


def test_the_recommender_of_the_docs_is_one_module(split, tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), flags=re.DOTALL)
    assert example is not None
    (tmp_path / "recent_popularity.py").write_text(example[1])
    monkeypatch.setattr(counting, "__path__", [*counting.__path__, str(tmp_path)])
    settings = fit.counting_entry("recent_popularity", {"last": 1}, "params.yaml")
    fit.fit_counting("recent_popularity", settings)
    histories = load_histories_for_ranking()
    users, items = histories.training_events()
    last = items[np.append(users[1:] != users[:-1], True)]
    matrix = FACTORS.read(model="recent_popularity").arrays["item_matrix"]
    assert matrix[:, 0].tolist() == np.bincount(last, minlength=len(matrix)).tolist()


@pytest.mark.parametrize("wrong", [{"windows": []}, {"windows": [0]}, {"dampings": [2]}, {"window": 5}])
def test_params_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="validation error"):
        CooccurrenceParams.model_validate(wrong)
