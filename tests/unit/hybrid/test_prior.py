"""A score prior around a base model that does not know of it."""

import numpy as np
import pytest
import torch
from tests.unit.counting.cases import leave_one_out
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from sidflow.artifacts.features import ItemRows
from sidflow.hybrid import content as hybrid_content
from sidflow.hybrid.content import COSINE_BYTES, ContentScores
from sidflow.hybrid.evidence import count_cooccurrence, training_positions
from sidflow.hybrid.params import HybridParams
from sidflow.hybrid.prior import ScorePrior, before_softplus, prior_from_arrays, prior_inputs
from sidflow.hybrid.task import HybridModel, HybridValidation, RankingTask, validation_choice
from sidflow.sequences.negatives import SampledCandidates
from sidflow.sequences.slices import new_histories
from sidflow.training import softmax
from sidflow.training.loop import FitResult
from sidflow.training.softmax import TrainingScores

ITEMS = 8
LINES = [
    [0, 1, 2, 3, 6, 7],
    [1, 2, 3, 0, 6, 7],
    [4, 5, 1, 2, 7, 6],
    [5, 4, 0, 1, 7, 6],
]
PLAIN = {"folds": 2, "window": 1, "decay": 0.0, "last": 2, "recency": 1.0, "backward": 0.0, "damping": 0.0}


class ToyBase(nn.Module):
    """Every user's last training item is predicted from the one before it, by the product of two tables."""

    def __init__(self, histories, width=3):
        super().__init__()
        torch.manual_seed(0)
        self.histories = histories
        self.reads, self.rows = (nn.Parameter(torch.randn(ITEMS, width)) for _ in range(2))

    def forward(self, users, rank_loss):
        target = torch.from_numpy(self.histories.offsets[:-1] + self.histories.train_end - 1)[users]
        items = torch.from_numpy(self.histories.items.astype(np.int64))
        scores = TrainingScores(self.reads[items[target - 1]], self.rows, items[target], None, target - 1, target)
        return {"loss": rank_loss(scores)}


class ToyTask(RankingTask):
    def validation_factors(self):
        histories = self.validation.queries
        last = [self.base.histories.history(query)[-1] for query in histories]
        return self.base.reads.detach()[torch.tensor(last)], self.base.rows.detach()

    @property
    def base(self):
        return self.module.base


def content_of(prior, histories):
    return ContentScores(prior.content_rows, ITEMS, histories)


def content(width=4, missing=5):
    values = np.random.default_rng(1).normal(size=(ITEMS, width)).astype(np.float32)
    return {"text": ItemRows(values, np.arange(ITEMS) != missing)}


def built(params=None, width=4, **changes):
    histories = leave_one_out(LINES)
    params = params or HybridParams(**{**PLAIN, "dropout": 0.0, "discount_popularity": False, **changes})
    rows = content(width) if params.content else {}
    prior = ScorePrior(prior_inputs(histories, ITEMS, rows, params), params)
    return histories, prior, HybridModel(ToyBase(histories), prior, content_of(prior, histories), histories)


def test_the_score_of_one_pair_by_hand():
    """History 4, 0, 1: item 2 followed item 1 three times in the training parts, and nothing followed 0 but 1."""
    _, prior, model = built(cooccurrence_weight=1.5, epsilon=0.5, content_weight=0.7, own_weight=0.4)
    states, rows = torch.tensor([[1.0, -2.0, 0.5]]), model.base.rows.detach()
    scores = prior.factors(states, rows, new_histories([[4, 0, 1]])).scores(np.array([0]))[0]
    text = content()["text"].values
    cosine = [text[2] @ text[back] / np.linalg.norm(text[2]) / np.linalg.norm(text[back]) for back in (1, 0)]
    expected = 0.4 * float(states[0] @ rows[2]) + 1.5 * np.log(1 + 3 / 0.5) + 0.7 * (cosine[0] + cosine[1] / 2)
    assert scores[2] == pytest.approx(expected, rel=1e-5)
    without_content = prior.factors(states, rows, new_histories([[5]])).scores(np.array([0]))[0]
    assert without_content[7] == pytest.approx(0.4 * float(states[0] @ rows[7]), rel=1e-5)


def test_a_transition_that_one_user_alone_made_is_no_evidence_in_training():
    """By construction: users 1, 2 and 3 alone made the transitions 3 -> 0, 5 -> 1 and 4 -> 0."""
    histories, prior, _ = built(content=())
    counts = count_cooccurrence(histories, ITEMS, prior.params)
    for user, before, after in ((1, 3, 0), (2, 5, 1), (3, 4, 0)):
        last_items = np.array([[before, -1]])
        assert counts.evidence(last_items, counts.fold[[user]]).toarray()[0, after] == 0
        assert counts.evidence(last_items, counts.all_users).toarray()[0, after] == 1


def test_gradient_reaches_every_weight_and_the_base():
    _, prior, model = built(discount_popularity=True, mask_history=True)
    model(torch.arange(4))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert {name for name, _ in prior.named_parameters()} == {
        "cooccurrence_raw",
        "epsilon_raw",
        "popularity_raw",
        "content_raw.text",
    }


def test_with_weights_of_zero_it_is_its_base():
    histories, prior, model = built(own_weight=1.0, mask_history=False)
    with torch.no_grad():
        for raw in (prior.cooccurrence_raw, *prior.content_raw.values()):
            raw.fill_(-1e4)  # whose softplus is 0
    queries = np.arange(histories.query_count)
    states, rows = torch.randn(len(queries), 3), model.base.rows.detach()
    factors = prior.factors(states, rows, histories.query_slices(queries))
    np.testing.assert_allclose(factors.scores(queries), (states @ rows.T).numpy(), rtol=1e-5, atol=1e-6)
    alone = model.base(torch.arange(4), lambda scores: functional.cross_entropy(
        scores.states @ scores.item_matrix.T, scores.targets
    ))  # fmt: skip
    torch.testing.assert_close(model(torch.arange(4))["loss"], alone["loss"])


@pytest.mark.parametrize("cosine_bytes", [COSINE_BYTES, 0], ids=["cosines once", "a product each time"])
def test_the_weight_of_the_base_is_chosen_on_validation(monkeypatch, cosine_bytes):
    monkeypatch.setattr(hybrid_content, "COSINE_BYTES", cosine_bytes)
    histories, prior, model = built(own_weights=(0.0, 0.3, 1.0, 5.0))
    validation = HybridValidation(histories, ITEMS, prior, model.content)
    queries = validation.queries
    states, rows = torch.randn(len(queries), 3), model.base.rows.detach()
    ndcg = []
    for weight in prior.params.own_weights:
        prior.own.fill_(weight)
        scores = prior.factors(states, rows, histories.query_slices(queries)).scores(np.arange(len(queries)))
        scores[histories.seen(ITEMS, queries).toarray()] = -np.inf
        ranks = (scores >= scores[np.arange(len(queries)), histories.targets[queries]][:, None]).sum(1)
        ndcg.append((1 / np.log2(1 + ranks)).mean())
    assert validation.metrics(states, rows)["valid_ndcg_at_10"] == pytest.approx(max(ndcg), rel=1e-6)
    assert float(prior.own) == pytest.approx(prior.params.own_weights[int(np.argmax(ndcg))])


def test_of_equally_good_weights_of_the_base_the_first_is_taken():
    histories, prior, model = built(own_weights=(0.3, 0.0, 1.0))
    validation = HybridValidation(histories, ITEMS, prior, model.content)
    validation.metrics(torch.zeros(len(validation.queries), 3), model.base.rows.detach())
    assert float(prior.own) == pytest.approx(0.3)


@pytest.mark.parametrize("cosine_bytes", [COSINE_BYTES, 0], ids=["cosines once", "a product each time"])
def test_content_follows_its_weights(monkeypatch, cosine_bytes):
    """Scores of histories that are empty, short or with an item without content, before and after weights change."""
    monkeypatch.setattr(hybrid_content, "COSINE_BYTES", cosine_bytes)
    _, prior, model = built()
    last_items = torch.from_numpy(new_histories([[], [0], [5, 2], [4, 0, 1]]).last_items(prior.params.last))
    for shift in (0.0, 1.5):
        with torch.no_grad():
            prior.content_raw["text"] += shift
            weights = prior.content_weights()
            wanted = prior.content_states(last_items, weights) @ prior.rows_text[:ITEMS].T
            torch.testing.assert_close(model.content.of(last_items, weights), wanted)
    assert wanted[0].eq(0).all() and wanted[2].ne(0).any()


def test_the_task_has_a_group_for_the_prior_and_none_without_one():
    histories, prior, model = built()
    hybrid = ToyTask(model.base, histories, ITEMS, prior)
    base, own = hybrid.parameter_groups()
    assert [id(one) for one in base["params"]] == [id(one) for one in model.base.parameters()]
    assert [id(one) for one in own["params"]] == [id(one) for one in prior.parameters()]
    assert own["weight_decay"] == 0 and own["rate_factor"] == prior.params.rate_factor
    assert hybrid.validate()["valid_ndcg_at_10"] > 0
    alone = ToyTask(model.base, histories, ITEMS)
    (group,) = alone.parameter_groups()
    assert alone.module is model.base and len(group["params"]) == 2


@pytest.mark.parametrize("terms", [{}, {"content": ()}, {"cooccurrence": False}])
def test_a_saved_prior_scores_as_before(terms):
    histories, prior, model = built(**terms)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    prior.own.fill_(0.8)
    again = prior_from_arrays(prior.arrays(), ITEMS, prior.params)
    again.load_state_dict(prior.state_dict())
    queries = np.arange(histories.query_count)
    states, rows = torch.randn(len(queries), 3), model.base.rows.detach()
    new = new_histories([histories.history(query) for query in queries])
    expected = prior.factors(states, rows, histories.query_slices(queries)).scores(queries)
    np.testing.assert_array_equal(again.factors(states, rows, new).scores(queries), expected)


@pytest.mark.parametrize("name", ["values", "type", "training", "text-v2"])
def test_content_of_any_name_is_a_term_and_is_saved(name):
    histories, (rows,) = leave_one_out(LINES), content().values()
    params = HybridParams(**{**PLAIN, "dropout": 0.0})
    _, text, _ = built(params)
    named = ScorePrior(prior_inputs(histories, ITEMS, {name: rows}, params), params)
    again = prior_from_arrays(named.arrays(), ITEMS, params)
    again.load_state_dict(named.state_dict())
    state, matrix, history = torch.ones(1, 3), torch.ones(ITEMS, 3), new_histories([[4, 0, 1]])
    scores = [prior.factors(state, matrix, history).scores(np.array([0])) for prior in (text, named, again)]
    np.testing.assert_array_equal(scores[1], scores[0])
    np.testing.assert_array_equal(scores[2], scores[0])
    assert "content_raw.text" in text.state_dict()  # the names of earlier runs


def test_learned_weights_are_named_by_their_content():
    histories, (rows,) = leave_one_out(LINES), content().values()
    params = HybridParams(**{**PLAIN, "discount_popularity": True})
    kinds = dict.fromkeys(("text", "text_raw", "values"), rows)
    weights = ScorePrior(prior_inputs(histories, ITEMS, kinds, params), params).learned_weights()
    assert set(weights) == {
        "own", "cooccurrence", "epsilon", "popularity", "content_text", "content_text_raw", "content_values"
    }  # fmt: skip


def test_what_is_saved_are_the_weights_and_not_what_was_counted():
    _, prior, _ = built(discount_popularity=True)
    assert set(prior.state_dict()) == {"own", *(name for name, _ in prior.named_parameters())}
    types = {"indptr": np.int64, "indices": np.int32, "values": np.float32}
    arrays = prior.arrays()
    assert all(arrays[f"relation_{part}"].dtype == kind for part, kind in types.items())


def test_a_prior_of_nothing_is_refused():
    with pytest.raises(ValueError, match="cooccurrence: true"):
        HybridParams(cooccurrence=False, content=())


def test_a_user_who_is_dropped_sees_the_base_alone_in_that_step(monkeypatch):
    _, _, model = built(dropout=0.5, own_weight=0.4, mask_history=False)
    draws = [0.5, 0.49, 0.9, 0.0]  # a draw below the share drops the prior
    model.eval()
    whole = [model(torch.tensor([user]))["loss"] for user in range(4)]
    alone = [
        model.base(
            torch.tensor([user]), lambda one: functional.cross_entropy(one.states @ one.item_matrix.T, one.targets)
        )
        for user in range(4)
    ]
    expected = torch.stack([whole[0], alone[1]["loss"], whole[2], alone[3]["loss"]]).mean()
    monkeypatch.setattr(torch, "rand", lambda count: torch.tensor(draws[:count]))
    torch.testing.assert_close(model.train()(torch.arange(4))["loss"], expected)
    torch.testing.assert_close(model.eval()(torch.arange(4))["loss"], torch.stack(whole).mean())


def test_start_values_come_back_through_softplus():
    values = [1e-6, 0.1, 1.0, 30.0]
    torch.testing.assert_close(functional.softplus(before_softplus(values)), torch.tensor(values))


def popularity_loss(sampled, **changes):
    """Return the hybrid's loss at two positions, without content and evidence, and the same written out."""
    histories, prior, model = built(
        content=(), cooccurrence_weight=1e-9, own_weight=1.0, discount_popularity=True, mask_history=False, **changes
    )
    states, rows = torch.randn(2, 3), model.base.rows.detach()
    targets, events = torch.tensor([2, 7]), (np.array([1, 1]), np.array([2, 2]))
    negatives = torch.tensor([0, 1, 4, 6])
    if sampled:  # items out of order: a column is that of the item, not of its place
        items, places = torch.unique(torch.cat([targets, negatives]), return_inverse=True)
        candidates, matrix = SampledCandidates(items, places[:2], places[2:], None), rows[items]
    else:
        candidates, matrix = None, rows
    found = prior.loss(
        TrainingScores(states, matrix, targets, candidates, *map(torch.from_numpy, events)),
        training_positions(histories, *events)._replace(target=np.array([2, 7])),
        content_of(prior, histories),
    )
    counts = np.bincount(histories.training_events()[1], minlength=ITEMS)
    weight = functional.softplus(prior.popularity_raw)
    scores = states @ rows.T + weight * torch.from_numpy(np.log(1 + counts)).float()
    if sampled:
        columns = [torch.cat([targets[row : row + 1], negatives]) for row in range(2)]
        losses = [functional.cross_entropy(scores[row, columns[row]], torch.tensor(0)) for row in range(2)]
        return found, torch.stack(losses).mean()
    return found, functional.cross_entropy(scores, targets)


@pytest.mark.parametrize("sampled", [False, True])
def test_each_item_has_its_own_popularity_in_training(sampled):
    _, prior, _ = built(discount_popularity=True)
    counts = [0] * ITEMS
    for line in LINES:
        for item in line[:-2]:
            counts[item] += 1
    assert counts == [3, 4, 3, 2, 2, 2, 0, 0]
    np.testing.assert_allclose(prior.popularity.numpy(), np.log1p(counts), rtol=1e-6)
    torch.manual_seed(1)
    found, expected = popularity_loss(sampled)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_second_fit_takes_over_the_epochs_and_the_weight_of_the_base_that_validation_chose():
    fitted = FitResult({}, 3, {}, [])
    _, prior, _ = built(own_weight=0.4)
    prior.own.fill_(2.5)
    chosen = validation_choice(fitted, prior)
    assert (chosen.epochs, chosen.own_weight) == (4, 2.5)
    _, again, _ = built(own_weight=0.4)
    chosen.set_weight(again)
    assert again.own.item() == 2.5
    alone = validation_choice(fitted, None)
    assert alone == (4, None)
    alone.set_weight(again)
    alone.set_weight(None)
    assert again.own.item() == 2.5


def test_what_is_candidate_when_ranking_is_candidate_in_training():
    histories = leave_one_out(LINES)
    params = HybridParams(**PLAIN)
    made = [
        ScorePrior(prior_inputs(past, ITEMS, content(), params), params)
        for past in (histories, histories._replace(exclude_history=False))
    ]
    assert [prior.mask_history for prior in made] == [True, False]


def steps_case(sampled, **changes):
    """Return a hybrid in float64, and the scores and positions of a step."""
    histories, prior, _ = built(own_weight=0.5, discount_popularity=True, mask_history=True, **changes)
    prior.double()
    target = np.concatenate([np.arange(start + 1, start + 4) for start in histories.offsets[:-1]])
    targets = torch.from_numpy(histories.items[target].astype(np.int64))
    generator = torch.Generator().manual_seed(4)
    states = torch.randn(len(target), 3, generator=generator, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(ITEMS, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    candidates = None
    if sampled:  # each item once, so that it is the softmax over all
        items, places = torch.unique(torch.cat([targets, torch.randperm(ITEMS)]), return_inverse=True)
        candidates = SampledCandidates(items, *places.split([len(targets), ITEMS]), None)
    scores = TrainingScores(states, matrix, targets, candidates, *map(torch.from_numpy, (target - 1, target)))
    return histories, prior, scores, training_positions(histories, target - 1, target)


def plain_loss(prior, scores, positions, sees_prior):
    """The hybrid's loss with every logit written out."""
    shown = torch.from_numpy(sees_prior)[:, None]
    own = torch.where(shown, torch.tensor(prior.params.own_weight, dtype=torch.float64), 1.0)
    logits = own * (scores.states @ scores.item_matrix.T)
    logits = logits + functional.softplus(prior.popularity_raw) * prior.popularity
    back = positions.histories.last_items(prior.params.last)
    lambdas = functional.softplus(prior.content_raw["text"])
    parts = [lambdas[s] * prior.rows_text[back[:, s]] * (torch.from_numpy(back[:, s]) >= 0)[:, None] for s in range(2)]
    evidence = torch.from_numpy(prior.counts.evidence(back, prior.counts.fold[positions.user]).toarray())
    logits = logits + shown * (sum(parts) @ prior.rows_text.T + prior.evidence_scores(evidence))
    indptr, columns = positions.masked_items()
    masked = torch.zeros(logits.shape, dtype=torch.bool)
    masked[torch.from_numpy(np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))), columns] = True
    return functional.cross_entropy(logits.masked_fill(masked, -torch.inf), scores.targets)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("sampled", [False, True], ids=["full", "sampled"])
@pytest.mark.parametrize("cosine_bytes", [COSINE_BYTES, 0], ids=["cosines once", "a product each time"])
def test_loss_and_gradients_are_those_of_logits_written_out(monkeypatch, cosine_bytes, sampled, dropout):
    monkeypatch.setattr(hybrid_content, "COSINE_BYTES", cosine_bytes)
    monkeypatch.setattr(softmax, "CHUNK_LOGITS", 5 * ITEMS)  # chunks, one of them of positions that see no prior
    histories, prior, scores, positions = steps_case(sampled, dropout=dropout)
    monkeypatch.setattr(torch, "rand", lambda count: torch.tensor([0.9, 0.1, 0.1, 0.6][:count]))
    sees_prior = np.isin(positions.user, [0, 3]) if dropout else np.ones(len(positions.user), dtype=bool)
    inputs = [scores.states, scores.item_matrix, *prior.parameters()]
    ours = prior.loss(scores, positions, content_of(prior, histories))
    expected = plain_loss(prior, scores, positions, sees_prior)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert other.abs().sum() > 0
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sampled", [False, True], ids=["full", "sampled"])
def test_where_nobody_sees_the_prior_its_weights_get_gradients_of_zero(sampled):
    histories, prior, scores, positions = steps_case(sampled, dropout=1.0)
    prior.loss(scores, positions, content_of(prior, histories)).backward()
    for raw in (prior.cooccurrence_raw, *prior.content_raw.values()):
        assert raw.grad is not None and not raw.grad.any()


class Products(TorchDispatchMode):
    """Remembers the shapes of both sides of every matrix product."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm_.default):
            self.shapes.append([tuple(side.shape) for side in args[-2:]])
        return func(*args, **(kwargs or {}))


def test_once_there_are_cosines_no_step_has_a_product_as_wide_as_the_content():
    histories, prior, scores, positions = steps_case(sampled=False, width=50)
    content, widest = content_of(prior, histories), []
    for _ in range(2):
        with Products() as seen:
            prior.loss(scores, positions, content).backward()
        widest.append(max(size for shapes in seen.shapes for shape in shapes for size in shape))
    assert widest == [50, len(positions.target)]
