"""Encoders, batches and objectives: what may see what."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from sidflow.sequences.negatives import Candidates
from sidflow.sequences.windows import Windows, recent_windows
from sidflow.sequential.model import IdEmbedding, SequenceModel, build_encoder, masked_items, next_items
from sidflow.sequential.params import Bert4recParams, from_content
from sidflow.sequential.serve import SequentialRecommender, query_states
from sidflow.training.softmax import TrainingScores

VARIANTS = [
    ("sasrec", {}),
    ("sasrec", {"pre_norm": False, "positions": "end"}),
    ("sasrec", {"positions": "none", "heads": 1, "blocks": 1}),
    ("sasrec", {"positions": "relative"}),
    ("sasrec", {"block": "ligr", "feedforward": 2}),
    ("sasrec", {"block": "ligr", "positions": "end", "blocks": 1}),
    ("gru4rec", {}),
    ("gru4rec", {"layers": 2, "hidden": 8}),
    ("bert4rec", {}),
    ("bert4rec", {"positions": "start", "pre_norm": False}),
    ("bert4rec", {"positions": "relative", "feedforward": 1}),
    ("bert4rec", {"block": "ligr"}),
]
CAUSAL = [variant for variant in VARIANTS if variant[0] != "bert4rec"]
ITEMS = 30


def settings_of(name, extra, **more):
    return from_content({"dimensions": 16, "max_length": 12, "init_std": 0.5, **extra, **more}, name, "test")


def encoder_of(name, extra):
    torch.manual_seed(5)
    return build_encoder(settings_of(name, extra)).eval()


def table():
    return torch.randn(ITEMS, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("name", "extra"), CAUSAL)
def test_a_future_item_does_not_change_a_past_state(name, extra):
    encoder = encoder_of(name, extra)
    items = torch.arange(8)[None]
    changed = items.clone()
    changed[0, 5] = 20
    lengths = torch.tensor([8])
    before, after = (encoder(functional.embedding(one, table()), lengths) for one in (items, changed))
    assert torch.equal(before[0, :5], after[0, :5])
    assert (before[0, 5:] - after[0, 5:]).abs().amax(1).min() > 1e-4  # but every later one sees it


def test_masked_items_are_read_both_ways():
    encoder = encoder_of("bert4rec", {})
    items = torch.arange(8)[None]
    changed = items.clone()
    changed[0, 5] = 20
    before, after = (encoder(functional.embedding(one, table()), torch.tensor([8])) for one in (items, changed))
    assert (before - after).abs().amax(2).min() > 1e-4


def test_a_masked_place_starts_as_what_stands_near_it():
    encoder = encoder_of("bert4rec", {"positions": "relative", "blocks": 1, "heads": 1})
    vectors = functional.embedding(torch.arange(8)[None], table())
    vectors[0, 4] = encoder.mask_vector
    state = encoder(vectors, torch.tensor([8]))[0, 4]
    near, far = (functional.cosine_similarity(state, vectors[0, [a, b]].sum(0), dim=0) for a, b in ((3, 5), (0, 7)))
    assert near > 0.7
    assert near > far + 0.3


def test_a_gated_block_written_out():
    """Source: LiGR (arXiv 2502.03417) for the gates, arXiv 2002.05202 for SwiGLU."""
    block = encoder_of("sasrec", {"block": "ligr", "heads": 1, "blocks": 1, "feedforward": 2}).blocks[0]
    x = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(1))
    first, second = block.norms
    query, key, value = block.mix(first(x)).split(16, dim=2)
    logits = (query @ key.transpose(1, 2) / 4).masked_fill(torch.ones(3, 3).triu(1) > 0, -torch.inf)
    once = x + block.join(logits.softmax(2) @ value) * block.gates[0](x).sigmoid()
    opened = block.open(second(once))
    twice = once + block.narrow(opened * opened.sigmoid() * block.widen(second(once))) * block.gates[1](once).sigmoid()
    torch.testing.assert_close(block(x, None), twice)


def test_shut_gates_pass_the_input_on():
    block = encoder_of("sasrec", {"block": "ligr"}).blocks[0]
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    for gate in block.gates:
        torch.nn.init.constant_(gate.bias, -200.0)
    assert torch.equal(block(x, None), x)


@pytest.mark.parametrize(("name", "extra"), VARIANTS)
def test_padding_is_never_read(name, extra):
    encoder = encoder_of(name, extra)
    vectors = functional.embedding(torch.tensor([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]]), table())
    lengths = torch.tensor([3, 6])
    rubbish = vectors.clone()
    rubbish[0, 3:] = 1e4
    expected, found = encoder(vectors, lengths), encoder(rubbish, lengths)
    assert torch.equal(expected[0, :3], found[0, :3])
    alone = encoder(vectors[:1, :3], lengths[:1])
    torch.testing.assert_close(alone[0], expected[0, :3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "extra"), VARIANTS)
def test_a_query_state_does_not_depend_on_its_batch(name, extra):
    recommender = SequentialRecommender(encoder_of(name, extra), table())
    rng = np.random.default_rng(0)
    histories = [rng.integers(ITEMS, size=size) for size in (3, 1, 40, 12, 0, 11, 7, 2)]
    together = recommender.encode(histories)
    alone = np.concatenate([recommender.encode([one]) for one in histories])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    recent = recommender.encode([histories[2][-12:] if name != "bert4rec" else histories[2][-11:]])
    np.testing.assert_allclose(together[2], recent[0], rtol=1e-4, atol=1e-5)
    if name != "bert4rec":
        assert not together[4].any()


def columns_of(rows, width):
    return torch.arange(width).expand(rows, width)


@pytest.mark.parametrize(("name", "extra"), VARIANTS)
def test_no_gradient_reaches_padding_and_all_positions_are_trained(name, extra):
    torch.manual_seed(0)
    settings = settings_of(name, extra, dropout=0, item_dropout=0, loss="sampled", negatives=4)
    model = SequenceModel(settings, IdEmbedding(ITEMS, 16), torch.ones(ITEMS))
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
    model = SequenceModel(settings, IdEmbedding(ITEMS, 16), torch.ones(ITEMS))
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
    items = torch.randint(1, ITEMS, (64, 9))
    lengths = torch.randint(1, 10, (64,))
    found = masked_items(items, lengths, columns_of(64, 9), 0.3, 0.4)
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
    items = torch.randint(1, ITEMS, (4000, 6))
    found = masked_items(items, torch.full((4000,), 6), columns_of(*items.shape), 0.3, 1.0)
    assert found.masked is not None
    assert torch.equal(found.masked.long().argmax(1), found.lengths - 1) and (found.masked.sum(1) == 1).all()
    shares = torch.bincount(found.lengths, minlength=7)[2:] / 4000
    assert (shares - 0.2).abs().max() < 0.03 and found.lengths.min() == 2
    assert (masked_items(items, torch.full((4000,), 6), columns_of(*items.shape), 0.3, 0.0).lengths == 6).all()


def test_bert4rec_loss_cannot_see_what_it_predicts():
    """With the targets' own vectors changed, the states that predict them stay the same."""
    settings = settings_of("bert4rec", {}, dropout=0, item_dropout=0)
    assert isinstance(settings, Bert4recParams)
    torch.manual_seed(3)
    model = SequenceModel(settings, IdEmbedding(ITEMS, 16, 0.5), torch.ones(ITEMS)).eval()
    items = torch.arange(1, 19).view(2, 9)
    examples = masked_items(items, torch.tensor([9, 9]), columns_of(2, 9), 0.4, 0.0)
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
    model = SequenceModel(settings, IdEmbedding(ITEMS, 16, 0.5), torch.arange(ITEMS)).eval()
    items, lengths = torch.tensor([[9, 8, 7, 0, 0], [5, 4, 3, 2, 9]]), torch.tensor([3, 5])
    torch.manual_seed(7)
    found = model(items, lengths)["loss"]
    torch.manual_seed(7)
    examples, candidates = model.examples(items, lengths), None
    if loss != "full":
        negatives = model.objective.negatives.sample()
        log_expected = model.objective.negatives.log_expected(negatives)
        candidates = Candidates(torch.arange(ITEMS), examples.targets, negatives, log_expected)
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
        model = SequenceModel(settings, IdEmbedding(ITEMS, 16, 0.5), torch.arange(ITEMS)).eval()
        found[name] = model(items, lengths)["loss"].item()
    assert found["corrected"] == pytest.approx(found["full"], abs=0.02)
    assert found["plain"] > found["full"] + 1


def test_no_history_at_all_is_encoded():
    assert query_states(encoder_of("sasrec", {}), table(), recent_windows([], 5)).shape == (0, 16)
    nothing = Windows(torch.zeros(1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), torch.zeros(2).long())
    assert not query_states(encoder_of("gru4rec", {}), table(), nothing).any()
