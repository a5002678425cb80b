import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from sidflow.features.params import SpaceParams
from sidflow.features.tfidf import extract_terms, fit_text_space

WORDS = [f"w{index}" for index in range(60)]


def corpus(documents=80, seed=0):
    rng = np.random.default_rng(seed)
    topics = rng.dirichlet(np.full(len(WORDS), 0.05), size=5)
    return [
        (" ".join(rng.choice(WORDS, 12, p=topics[index % 5])), " ".join(rng.choice(WORDS, 3)))
        for index in range(documents)
    ]


def test_terms_do_not_run_across_pieces():
    space = fit_text_space([("red mug", "blue lamp")] * 2, SpaceParams(ngram=2, min_df=1, max_df=1.0), seed=0)
    assert sorted(space.vocabulary) == ["blue", "blue lamp", "lamp", "mug", "red", "red mug"]


def test_terms_are_folded():
    assert extract_terms("Crème_BRÛLÉE à 3,50", 1) == ("creme", "brulee", "3", "50")


@pytest.mark.parametrize("ngram", [1, 2])
def test_cosines_agree_with_sklearn(ngram):
    documents = corpus()
    params = SpaceParams(dim=200, ngram=ngram, min_df=2, max_df=0.5)
    space = fit_text_space(documents, params, seed=3)
    ours = space.encode(documents).values

    def pieces(document):
        return [term for piece in document for term in extract_terms(piece, ngram)]

    reference = TfidfVectorizer(analyzer=pieces, min_df=2, max_df=0.5, sublinear_tf=True).fit_transform(documents)
    np.testing.assert_allclose(ours @ ours.T, (reference @ reference.T).toarray(), atol=1e-4)  # full rank: exact


def test_the_directions_are_the_leading_ones():
    documents = corpus(200)
    space = fit_text_space(documents, SpaceParams(dim=6, iterations=20), seed=1)
    analyse = TfidfVectorizer(analyzer=lambda d: [t for p in d for t in extract_terms(p, 1)], min_df=2, max_df=0.5,
                              sublinear_tf=True)  # fmt: skip
    matrix = analyse.fit_transform(documents)
    reference = TruncatedSVD(6, algorithm="arpack").fit(matrix).components_
    overlap = np.linalg.svd(space.components.T @ reference.T)[1]  # cosines between the two subspaces
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    np.testing.assert_allclose(space.components.T @ space.components, np.eye(6), atol=1e-5)


def test_width_is_capped_by_rank():
    documents = [("a1 a2",), ("a1 a2",), ("b1 b2",), ("b1 b2",)]
    space = fit_text_space(documents, SpaceParams(dim=64, min_df=1), seed=0)
    assert space.width == 2
    made = space.encode(documents).values
    np.testing.assert_allclose(made @ made.T, np.kron(np.eye(2), np.ones((2, 2))), atol=1e-6)


def test_presence_is_honest():
    documents = [("known words here",), (), ("",), ("unheard",), ("known words there",)]
    space = fit_text_space(documents, SpaceParams(min_df=2, max_df=1.0), seed=0)
    made = space.encode(documents)
    assert made.present.tolist() == [True, False, False, False, True]
    assert not made.values[~made.present].any()
    np.testing.assert_allclose(np.linalg.norm(made.values[made.present], axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("documents", [[], [()], [("", " ")], [("?!",)], [("once",)]])
def test_nothing_to_fit_gives_width_one(documents):
    space = fit_text_space(documents, SpaceParams(), seed=0)
    made = space.encode(documents)
    assert made.values.shape == (len(documents), 1)
    assert not made.present.any()


def test_same_seed_same_bytes_and_signs_do_not_depend_on_it():
    documents = corpus(150)
    params = SpaceParams(dim=5, iterations=30)
    one, again, other = (fit_text_space(documents, params, seed) for seed in (1, 1, 2))
    assert one.components.tobytes() == again.components.tobytes()
    np.testing.assert_allclose(one.components, other.components, atol=1e-3)


@settings(max_examples=40)
@given(st.lists(st.lists(st.text("abc ", max_size=12), max_size=3).map(tuple), max_size=12), st.integers(1, 5))
def test_any_documents_give_unit_or_absent_rows(documents, dim):
    space = fit_text_space(documents, SpaceParams(dim=dim, min_df=1, max_df=1.0), seed=0)
    made = space.encode(documents)
    length = np.linalg.norm(made.values, axis=1)
    assert 1 <= space.width <= dim
    np.testing.assert_allclose(length, made.present.astype(float), atol=1e-5)
