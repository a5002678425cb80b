"""Batches and losses: what is masked, skipped, dropped and sampled."""

import pytest
import torch
from tests.unit.sequential.cases import TABLE_ITEMS, VARIANTS, settings_of

from sidflow.sequences.negatives import SampledCandidates
from sidflow.sequential.model import IdEmbedding, SequenceModel, cloze_items, next_items
from sidflow.sequential.params import Bert4recParams, from_content
from sidflow.training.softmax import TrainingScores


def columns_of(rows, width):
    return torch.arange(width).expand(rows, width)


@pytest.mark.parametrize(("name", "extra"), VARIANTS)
def test_no_gradient_reaches_padding_and_all_positions_are_trained(name, extra):
    torch.manual_seed(0)
    settings = settings_of(name, extra, dropout=0, item_dropout=0, loss="sampled", negatives=4)
    model = SequenceModel(settings, IdEmbedding(TABLE_ITEMS, 16), torch.ones(TABLE_ITEMS))
    seen = []
    model.objective.forward = lambda scores: seen.append(scores.states) or scores.states.pow(3).sum()  # type: ignore[method-assign]
    items, lengths = torch.tensor([[9, 8, 7, 0, 0], [5, 4, 3, 2, 1]]), torch.tensor([3, 5])
    model(items, lengths)["loss"].backward()
    table = next(iter(model.items.parameters()))
    reached = table.grad.abs().sum(1) > 0  # by way of the inputs: candidates are left out
    assert not reached[0]  # item 0 stands in the padding alone
    assert reached.any()
    if name == "bert4rec":
        assert 2 <= len(seen[0]) <= 8
    else:
        assert len(seen[0]) == 2 + 4


@pytest.mark.parametrize("by", ["place", "item"])
def test_item_dropout_is_drawn_for_each_place_or_for_each_item(by):
    torch.manual_seed(0)
    settings = settings_of("sasrec", {}, dropout=0, item_dropout=0.5, item_dropout_by=by, loss="full")
    model = SequenceModel(settings, IdEmbedding(TABLE_ITEMS, 16), torch.ones(TABLE_ITEMS))
    read, scored = [], []
    encode, score = model.encoder.forward, model.objective.forward
    model.encoder.forward = lambda vectors, *rest: read.append(vectors) or encode(vectors, *rest)  # type: ignore[method-assign]
    model.objective.forward = lambda scores: scored.append(scores.item_matrix) or score(scores)  # type: ignore[method-assign]
    model(torch.tensor([[9, 9, 9]]), torch.tensor([3]))
    masks = [read[0][0, 0] == 0, read[0][0, 1] == 0, scored[0][9] == 0]
    assert all(0 < int(mask.sum()) < 16 for mask in masks)
    alike = [torch.equal(masks[a], masks[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert alike == [by == "item"] * 3


def test_next_items_are_the_shifted_window():
    found = next_items(torch.tensor([[9, 8, 7, 0], [5, 4, 3, 2]]), torch.tensor([3, 4]), columns_of(2, 4))
    assert found.items().tolist() == [2, 3, 4, 5, 7, 8, 9]
    assert found.inputs.tolist() == [[9, 8, 7], [5, 4, 3]]
    assert found.lengths.tolist() == [2, 3]
    assert found.positions.tolist() == [0, 1, 3, 4, 5]
    assert found.targets.tolist() == [8, 7, 4, 3, 2]
    assert (found.last.tolist(), found.predicted.tolist()) == ([0, 1, 0, 1, 2], [1, 2, 1, 2, 3])


def test_a_hidden_item_is_nowhere_in_the_input():
    torch.manual_seed(0)
    items = torch.randint(1, TABLE_ITEMS, (64, 9))
    lengths = torch.randint(1, 10, (64,))
    found = cloze_items(items, lengths, columns_of(64, 9), 0.3, 0.4)
    assert found.masked is not None
    assert torch.equal(found.masked.flatten().nonzero()[:, 0], found.positions)
    assert torch.equal(items.flatten()[found.positions], found.targets)
    assert not found.inputs.flatten()[found.positions].any()
    inside = torch.arange(9)[None] < found.lengths[:, None]
    assert not (found.masked & ~inside).any() and not found.inputs[~inside].any()
    assert found.masked.any(1).all() and (found.lengths <= lengths).all()
    shown = inside & ~found.masked
    assert torch.equal(found.inputs[shown], items[shown])
    assert torch.equal(found.items(), items[inside].unique())  # hidden ones, too, as targets; no padding


def test_rows_that_look_like_queries_end_anywhere():
    torch.manual_seed(0)
    items = torch.randint(1, TABLE_ITEMS, (4000, 6))
    found = cloze_items(items, torch.full((4000,), 6), columns_of(*items.shape), 0.3, 1.0)
    assert found.masked is not None
    assert torch.equal(found.masked.long().argmax(1), found.lengths - 1) and (found.masked.sum(1) == 1).all()
    shares = torch.bincount(found.lengths, minlength=7)[2:] / 4000
    assert (shares - 0.2).abs().max() < 0.03 and found.lengths.min() == 2
    assert (cloze_items(items, torch.full((4000,), 6), columns_of(*items.shape), 0.3, 0.0).lengths == 6).all()


def test_bert4rec_loss_cannot_see_what_it_predicts():
    """With the targets' own vectors changed, the states that predict them stay the same."""
    settings = settings_of("bert4rec", {}, dropout=0, item_dropout=0)
    assert isinstance(settings, Bert4recParams)
    torch.manual_seed(3)
    model = SequenceModel(settings, IdEmbedding(TABLE_ITEMS, 16, 0.5), torch.ones(TABLE_ITEMS)).eval()
    items = torch.arange(1, 19).view(2, 9)
    examples = cloze_items(items, torch.tensor([9, 9]), columns_of(2, 9), 0.4, 0.0)
    before = model.states(examples.inputs, model.items(), examples)
    other = model.items().detach().clone()
    other[examples.targets] += 100.0
    assert torch.equal(before, model.states(examples.inputs, other, examples))


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "bert4rec"])
def test_items_are_skipped_in_training_alone(name):
    whole = {"query_share": 0.0} if name == "bert4rec" else {}  # it cuts no row
    settings = from_content({"skip_share": 0.5, "dimensions": 8, **whole}, name, "x")
    model = SequenceModel(settings, IdEmbedding(50, 8, 0.02), torch.ones(50, dtype=torch.int64))
    lengths = torch.full((20,), 30)
    items = torch.randint(50, (20, 30))
    assert (model.train().examples(items, lengths).lengths < 25).all()
    assert (model.eval().examples(items, lengths).lengths == (30 if whole else 29)).all()


@pytest.mark.parametrize("loss", ["full", "sampled", "bce"])
def test_item_vectors_at_hand_give_the_loss_of_all(loss):
    """Sampled losses look up only the items of the batch; the outcome is that of the whole table."""
    settings = settings_of("sasrec", {}, loss=loss, negatives=7, negatives_power=0.5, logq=True)
    torch.manual_seed(0)
    model = SequenceModel(settings, IdEmbedding(TABLE_ITEMS, 16, 0.5), torch.arange(TABLE_ITEMS)).eval()
    items, lengths = torch.tensor([[9, 8, 7, 0, 0], [5, 4, 3, 2, 9]]), torch.tensor([3, 5])
    torch.manual_seed(7)
    found = model(items, lengths)["loss"]
    torch.manual_seed(7)
    examples, candidates = model.examples(items, lengths), None
    if loss != "full":
        negatives = model.objective.negatives.sample()
        log_expected = model.objective.negatives.log_expected(negatives)
        candidates = SampledCandidates(torch.arange(TABLE_ITEMS), examples.targets, negatives, log_expected)
    states = model.states(examples.inputs, model.items(), examples).flatten(0, 1)[examples.positions]
    scores = TrainingScores(states, model.items(), examples.targets, candidates, examples.last, examples.predicted)
    expected = model.objective(scores)
    torch.testing.assert_close(found, expected)


def test_logq_makes_many_draws_tend_to_the_full_softmax():
    items, lengths = torch.tensor([[9, 8, 7, 0, 0], [5, 4, 3, 2, 9]]), torch.tensor([3, 5])
    found = {}
    for name, loss, logq in (("full", "full", False), ("corrected", "sampled", True), ("plain", "sampled", False)):
        settings = settings_of("sasrec", {}, loss=loss, negatives=50_000, negatives_power=0.5, logq=logq)
        torch.manual_seed(0)
        model = SequenceModel(settings, IdEmbedding(TABLE_ITEMS, 16, 0.5), torch.arange(TABLE_ITEMS)).eval()
        found[name] = model(items, lengths)["loss"].item()
    assert found["corrected"] == pytest.approx(found["full"], abs=0.02)
    assert found["plain"] > found["full"] + 1


def test_free_vectors_have_the_deviation_asked_for():
    torch.manual_seed(0)
    assert IdEmbedding(400, 16, 0.1).weight.std().item() == pytest.approx(0.1, rel=0.05)
    assert IdEmbedding(400, 16).weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_a_loss_without_others_beside_it_stands_alone():
    model = SequenceModel(settings_of("sasrec", {}), IdEmbedding(TABLE_ITEMS, 16), torch.ones(TABLE_ITEMS))
    assert list(model(torch.tensor([[1, 2, 3]]), torch.tensor([3]))) == ["loss"]
