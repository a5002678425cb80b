"""MME-SID with a sampled softmax: the full one's estimate, made of the drawn items alone."""

import numpy as np
import pytest
import torch

from sidflow.backbones.models import Backbone
from sidflow.core.errors import InputError
from sidflow.mme_sid.fit import score_prior
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneParams
from sidflow.sequences.windows import SeededBatch
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import epoch_generator, prepare_training
from sidflow.training.loop import fit, trained_state

CORE = 12
KINDS = ["none", "content", "cooccurrence", "both"]
ROWS = torch.tensor([0, 3, 5, 8])


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")


def build(tiny, backbone, kind="none", **changes):
    params = FinetuneParams(
        **{"loss": "sampled", "negatives": 4, "logq": True, "batch_size": 16, "token_dropout": 0.0, **changes},
        anchor=kind,
        anchoring={"folds": 3, "last": 3, "dropout": 0.0},
        lora={"rank": 2, "alpha": 8},
        loop={"epochs": 2, "patience": 0, "learning_rate": 1e-2, "warmup_steps": 0, "schedule": "constant"},
    )
    past, known = tiny.histories(), tiny.inputs()
    device = prepare_training(3, 1)
    model = MmeSid(backbone, known, past, params)
    with torch.no_grad():
        model.fusion.table.mul_(10)  # so that items score unlike
    return model, MmeSidTask(model, past, params, score_prior(past, known, params)), device


def gradients(model, batch):
    model.zero_grad()
    loss = model(batch)["loss"]
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_every_item_drawn_once_is_the_full_softmax(tiny, backbone, kind, monkeypatch):
    model, task, _ = build(tiny, backbone, kind, negatives=CORE, logq=False)
    monkeypatch.setattr(model.negatives, "sample", lambda generator: torch.randperm(CORE, generator=generator))
    full, sampled = gradients(task.module, ROWS), gradients(task.module, SeededBatch(ROWS, 1))
    torch.testing.assert_close(sampled[0], full[0], atol=1e-5, rtol=1e-5)
    assert set(sampled[1]) == set(full[1])
    for name, gradient in full[1].items():
        torch.testing.assert_close(sampled[1][name], gradient, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("kind", ["content", "cooccurrence", "both"])
def test_some_items_drawn_once_are_the_softmax_over_those_alone(tiny, backbone, kind, monkeypatch):
    model, task, _ = build(tiny, backbone, kind, logq=False)
    rows, some = torch.tensor([0, 1]), torch.tensor([10, 2, 7, 3, 1])
    model.windows.lengths[:2] = 3  # the windows are 0, 1, 2 and 1, 2, 3
    monkeypatch.setattr(model.negatives, "sample", lambda generator: some)
    found = task.module(SeededBatch(rows, 1))["loss"]
    others = torch.ones(CORE, dtype=torch.bool).index_fill(0, some, False)
    task.prior.popularity[others] = -1e6  # out of the full softmax
    torch.testing.assert_close(found, task.module(rows)["loss"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_with_logq_many_draws_tend_to_the_full_softmax(tiny, backbone, kind):
    model, task, _ = build(tiny, backbone, kind, negatives=50_000, negatives_power=0.5)
    full = task.module(ROWS)["loss"].item()
    assert task.module(SeededBatch(ROWS, 1))["loss"].item() == pytest.approx(full, abs=0.01)
    model.negatives.settings = model.negatives.settings.model_copy(update={"logq": False})
    assert task.module(SeededBatch(ROWS, 1))["loss"].item() > full + 1


def test_rows_are_made_and_learned_of_the_drawn_items_alone(tiny, backbone):
    model, _, _ = build(tiny, backbone, negatives=3, item_dropout=0.2, cold_dropout=0.3)
    rows = torch.tensor([0, 1])
    model.windows.lengths[:2] = 3
    made = []
    for project in model.fusion.project.values():
        project.register_forward_pre_hook(lambda _, given: made.append(len(given[0])))
    _, found = gradients(model, SeededBatch(rows, 5))
    at_hand = model.negatives.candidates(torch.tensor([1, 2, 3]), 5).items  # the windows are 0, 1, 2 and 1, 2, 3
    assert {1, 2, 3} <= set(at_hand.tolist()) and len(at_hand) < CORE
    assert made == [len(at_hand)] * 3
    touched = found["fusion.table"].abs().sum(1).nonzero()[:, 0]
    assert touched.tolist() == at_hand.tolist()


def test_a_seed_decides_the_negatives_whatever_was_drawn_before(tiny, backbone):
    model, _, _ = build(tiny, backbone)
    targets = torch.arange(3)
    first = model.negatives.candidates(targets, 7)
    torch.rand(5)
    assert first.negative_ids().tolist() == model.negatives.candidates(targets, 7).negative_ids().tolist()
    others = {tuple(model.negatives.candidates(targets, seed).negative_ids()) for seed in range(8)}
    assert len(others) > 4
    assert first.items[first.targets].tolist() == [0, 1, 2]


def test_each_batch_has_a_seed_of_its_own_and_the_rows_of_the_full_loss(tiny, backbone):
    model, sampled, _ = build(tiny, backbone)
    full = MmeSidTask(model, sampled.histories, sampled.params.model_copy(update={"loss": "full"}))
    rows = full.batches(0, epoch_generator(3, 0))
    drawn = [sampled.batches(epoch, epoch_generator(3, epoch)) for epoch in (0, 0, 1)]
    assert all(torch.equal(one.rows, other) for one, other in zip(drawn[0], rows, strict=True))
    assert [one.seed for one in drawn[0]] == [one.seed for one in drawn[1]]
    assert len({one.seed for epoch in (0, 2) for one in drawn[epoch]}) == 2 * len(rows)
    parts = [sampled.split_batch(drawn[0][0], rank, 2)[0] for rank in (0, 1)]
    assert [part.seed for part in parts] == [drawn[0][0].seed] * 2
    assert sorted(torch.cat([part.rows for part in parts]).tolist()) == sorted(rows[0].tolist())


def test_a_process_counts_by_the_positions_that_its_rows_predict(tiny, backbone):
    model, task, _ = build(tiny, backbone)
    rows, predicted = torch.arange(5), [1, 6, 2, 4, 3]
    model.windows = model.windows._replace(lengths=torch.tensor([2, 7, 3, 5, 4]))
    shares = [task.split_batch(rows, rank, 2) for rank in (0, 1)]
    assert [part.tolist() for part, _ in shares] == [[0, 2, 4], [1, 3]]
    assert [share for _, share in shares] == [sum(predicted[rank::2]) / sum(predicted) for rank in (0, 1)]
    idle, share = task.split_batch(
        rows[:2], 2, 3
    )  # more processes than rows: the first row again, which counts nothing
    assert (idle.tolist(), share) == ([0], 0)


@pytest.mark.parametrize("loss", ["full", "sampled"])
def test_processes_that_skip_items_count_by_what_each_predicts_then(tiny, backbone, loss):
    """The loss of the whole batch is the sum of the parts' losses by their shares, whatever is skipped."""
    past = tiny.histories()
    params = FinetuneParams(loss=loss, skip_share=0.5, token_dropout=0.0, max_length=6, batch_size=13)
    model = MmeSid(backbone, tiny.inputs(), past, params).train()
    task = MmeSidTask(model, past, params)
    batch = task.batches(0, epoch_generator(3, 0))[0]
    whole, all_of_it = task.split_batch(batch, 0, 1)
    assert all_of_it == 1 and whole.kept is not None
    assert int(whole.kept.lengths.sum()) < int(model.windows.lengths[batch.rows].sum())
    for count in (2, 3, 20):
        parts = [task.split_batch(batch, rank, count) for rank in range(count)]
        assert sum(share for _, share in parts) == pytest.approx(1)
        lengths = torch.cat([part.kept.lengths for part, share in parts if share])
        assert sorted(lengths.tolist()) == sorted(whole.kept.lengths.tolist())
        for part, share in parts:
            assert share in (0, pytest.approx(int((part.kept.lengths - 1).sum()) / int((whole.kept.lengths - 1).sum())))
        if loss == "full":
            losses = [float(model(part)["loss"].detach()) * share for part, share in parts]
            assert sum(losses) == pytest.approx(float(model(whole)["loss"].detach()), rel=1e-4)


def test_histories_without_a_second_item_are_one_clear_line(tiny, backbone):
    past = tiny.histories()
    past = past._replace(train_end=np.minimum(past.train_end, 1))
    params = FinetuneParams()
    with pytest.raises(InputError, match="expected users with two training items or more; found none"):
        MmeSidTask(MmeSid(backbone, tiny.inputs(), past, params), past, params)


@pytest.mark.parametrize("kind", ["none", "both"])
def test_it_learns_and_validates_on_all_items(tiny, backbone, kind):
    model, task, device = build(tiny, backbone, kind)
    before = float(task.module(ROWS)["loss"].detach())
    fitted = fit("t", task, task.params.loop, seed=3, device=device)
    task.module.train()
    assert float(task.module(ROWS)["loss"].detach()) < before
    scores = model.query_states(task.histories, task.validation.queries) @ model.item_matrix().T
    assert scores.shape[1] == CORE
    assert fitted.best_value is not None


def test_a_killed_training_resumes_to_the_same_bytes(tiny, tokenizer, monkeypatch):
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")

    def run(checkpoint=None, kill_at=None):
        _, task, device = build(tiny, Backbone(tiny.model("llama", len(tokenizer)), tokenizer), "both")

        def on_step(steps):
            if steps == kill_at:
                raise KeyboardInterrupt

        fit("t", task, task.params.loop, seed=3, device=device, checkpoint=checkpoint, on_step=on_step)
        return {name: np.asarray(tensor).tobytes() for name, tensor in trained_state(task.module).items()}

    expected = run()
    checkpoint = Checkpoint("t", {}, code=[])
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, kill_at=6)
    torch.manual_seed(99)
    assert run(checkpoint) == expected
