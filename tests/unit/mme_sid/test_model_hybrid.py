import numpy as np
import pytest
import torch
from torch.nn import functional

from sidflow.backbones.models import Backbone
from sidflow.core.errors import InputError
from sidflow.mme_sid.fit import answer_queries, score_prior
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import AnchoringParams, FinetuneLoop, FinetuneParams
from sidflow.ranking.scores import Scores
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit, trained_state

LOOP = FinetuneLoop(epochs=2, patience=0, learning_rate=1e-2, warmup_steps=0, schedule="constant")
SETTINGS = {
    "folds": 3,
    "dropout": 0.0,
    "window": 3,
    "last": 3,
    "modalities": ("text", "image"),
    "content_weight": 0.7,
    "epsilon": 0.3,
}
KINDS = ["content", "cooccurrence", "both"]


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")


def build(tiny, backbone, kind="both", loop=LOOP, **changes):
    settings = AnchoringParams(**{**SETTINGS, **changes})
    params = FinetuneParams(anchor=kind, anchoring=settings, batch_size=16, token_dropout=0.0, loop=loop)
    past, inputs = tiny.histories(), tiny.inputs()
    device = prepare_training(3, 1)
    model = MmeSid(backbone, inputs, past, params)
    return model, MmeSidTask(model, past, params, score_prior(past, inputs, params)), params, device


def unfolded(task, inputs, history, counts):
    """The equation written out for one history, item by item, in float64."""
    model, own = task.model, task.prior
    state = model.backbone(model.all_tokens()[history][None], torch.tensor([[len(history) - 1]]))[0, 0].double()
    scores = own.own.double() * (model.item_matrix().double() @ state)
    back = list(reversed(history))[: SETTINGS["last"]]
    for name, raw in own.content_raw.items():
        modality = inputs.modalities[name]
        rows = torch.from_numpy(modality.raw * modality.present[:, None]).double()
        for weight, item in zip(functional.softplus(raw).double(), back, strict=False):
            for other in range(len(scores)):
                cosine = functional.cosine_similarity(rows[item], rows[other], dim=0)
                scores[other] += weight * cosine
    if counts is not None:
        for other in range(len(scores)):
            found = sum(w * counts[item, other] for w, item in zip(own.counts.recency, back, strict=False))
            epsilon = functional.softplus(own.epsilon_raw).double()
            scores[other] += functional.softplus(own.cooccurrence_raw)[0].double() * torch.log(1 + found / epsilon)[0]
    return scores


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_folded_factors_are_the_equations(tiny, backbone, kind):
    model, task, _, _ = build(tiny, backbone, kind)
    for parameter in task.prior.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    model.eval()
    past, inputs = task.histories, tiny.inputs()
    queries = np.arange(past.query_count)
    factored = answer_queries(model, task.prior, past)
    counts = None
    if kind != "content":
        counts = task.prior.counts.relation().toarray()
    folded = Scores(factored.arrays(), past.query_count, len(inputs.counts)).for_queries(queries[:70])
    for query in (0, 1, 13, 69):
        expected = unfolded(task, inputs, past.history(query).tolist(), counts)
        np.testing.assert_allclose(folded[query], expected.numpy(), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_validation_ranks_by_the_same_scores(tiny, backbone, kind):
    model, task, _, _ = build(tiny, backbone, kind)
    model.eval()
    past, queries = task.histories, task.validation.queries
    scores = torch.from_numpy(answer_queries(model, task.prior, past).scores(queries))
    expected = []
    for row, query in enumerate(queries):
        own = scores[row, past.targets[query]].clone()
        scores[row, past.history(query)] = -torch.inf
        expected.append(int((scores[row] >= own).sum()))
    states, matrix = model.query_states(past, queries), model.item_matrix()
    assert task.validation.ranks_by_weight(states, matrix, [float(task.prior.own)])[0].tolist() == expected


@torch.no_grad()
def test_autocast_changes_no_rank(tiny, backbone):
    model, task, _, _ = build(tiny, backbone)
    model.eval()
    states, matrix = model.query_states(task.histories, task.validation.queries), model.item_matrix()
    matrix = matrix[:1] + 1e-3 * matrix  # which bf16 cannot tell apart
    expected = task.validation.ranks_by_weight(states, matrix, [0.0, 1e4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert task.validation.ranks_by_weight(states, matrix, [0.0, 1e4]).tolist() == expected.tolist()


@torch.no_grad()
def test_the_own_weight_is_the_one_that_does_best_on_validation(tiny, backbone):
    model, task, _, _ = build(tiny, backbone, "content", own_weights=(0.0, 0.5, 2.0))
    model.eval()
    past, queries = task.histories, task.validation.queries
    reached = []
    for weight in (0.0, 0.5, 2.0):
        task.prior.own.fill_(weight)
        scores = torch.from_numpy(answer_queries(model, task.prior, past).scores(queries))
        gain = 0.0
        for row, query in enumerate(queries):
            target = scores[row, past.targets[query]].clone()
            scores[row, past.history(query)] = -torch.inf
            rank = int((scores[row] >= target).sum())
            gain += 1 / np.log2(rank + 1) if rank <= 10 else 0.0
        reached.append(gain / len(queries))
    assert len(set(reached)) == 3
    assert task.validate()["valid_ndcg_at_10"] == pytest.approx(max(reached))
    assert float(task.prior.own) == (0.0, 0.5, 2.0)[int(np.argmax(reached))]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_softmax_of_the_cross_fitted_scores(tiny, backbone, kind):
    model, task, _, _ = build(tiny, backbone, kind, discount_popularity=False)
    model.eval()
    past, own = task.histories, task.prior
    rows = torch.tensor([0, 3, 5])
    losses = []
    for row in rows.tolist():
        part = past.training_items(row).tolist()
        counts = None
        if own.counts is not None:
            fold = int(own.counts.fold[row])
            counts = own.counts.relations[fold * 12 : (fold + 1) * 12].toarray()
        for end in range(1, len(part)):
            scores = unfolded(task, tiny.inputs(), part[:end], counts).float()
            held = [item for item in part[:end] if item != part[end]]
            scores = scores.index_fill(0, torch.tensor(held, dtype=torch.int64), -torch.inf)
            losses.append(functional.cross_entropy(scores, torch.tensor(part[end])))
    torch.testing.assert_close(task.module(rows)["loss"], torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_popularity_helps_in_training_and_is_no_part_of_the_score(tiny, tokenizer):
    with_it, without = (
        build(tiny, Backbone(tiny.model("llama", len(tokenizer)), tokenizer), discount_popularity=discount)[1]
        for discount in (True, False)
    )
    rows = torch.tensor([0, 1])
    for task in (with_it, without):
        task.module.eval()
    scores, same = (answer_queries(task.model, task.prior, task.histories) for task in (with_it, without))
    np.testing.assert_allclose(scores.scores(np.arange(9)), same.scores(np.arange(9)), rtol=1e-6)
    assert with_it.module(rows)["loss"] != without.module(rows)["loss"]
    with_it.module(rows)["loss"].backward()
    assert with_it.prior.popularity_raw.grad is not None


def test_it_starts_where_the_simple_recommender_is(tiny, backbone, tokenizer):
    model, task, _, _ = build(tiny, backbone, "cooccurrence", own_weight=1e-6)
    model.eval()
    own, alone, _, _ = build(tiny, Backbone(tiny.model("llama", len(tokenizer)), tokenizer), "none")
    own.eval()
    assert task.validate()["valid_ndcg_at_10"] > 0.95  # who follows whom is all that there is to know here
    assert alone.validate()["valid_ndcg_at_10"] < 0.7


def test_the_priors_weights_are_learned_without_decay(tiny, backbone):
    model, task, params, device = build(tiny, backbone)
    others, weights = task.parameter_groups()
    assert weights["weight_decay"] == 0 and weights["rate_factor"] == params.anchoring.rate_factor
    assert len(weights["params"]) == len(list(task.prior.parameters())) == 5
    assert {id(p) for p in others["params"]} == {id(p) for p in model.parameters() if p.requires_grad}
    before = task.prior.learned_weights()
    fit("t", task, params.loop, seed=3, device=device)
    after = task.prior.learned_weights()
    assert set(before) == {"own", "cooccurrence", "epsilon", "popularity", "content_text", "content_image"}
    assert all(before[name] != after[name] for name in before if name != "own")
    assert after["own"] == pytest.approx(0.3)  # all do equally well here: the first that was named


def test_without_a_prior_the_base_model_is_what_is_trained(tiny, backbone):
    model, task, _, _ = build(tiny, backbone, "none")
    assert task.module is model and task.prior is None
    (group,) = task.parameter_groups()
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters() if p.requires_grad]


def test_dropout_of_the_prior_leaves_some_histories_without(tiny, backbone):
    _, task, _, _ = build(tiny, backbone, dropout=0.5)
    rows = torch.arange(16)
    losses = {float(task.module(rows)["loss"].detach()) for _ in range(4)}
    assert len(losses) > 1
    task.module.eval()
    assert len({float(task.module(rows)["loss"].detach()) for _ in range(2)}) == 1


def test_a_modality_that_no_item_has_is_told(tiny, backbone):
    with pytest.raises(InputError, match=r"anchoring\.modalities.*found sound"):
        build(tiny, backbone, modalities=("sound",))


def test_a_killed_training_resumes_to_the_same_bytes(tiny, tokenizer, monkeypatch):
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")

    def run(checkpoint=None, kill_at=None):
        backbone = Backbone(tiny.model("llama", len(tokenizer)), tokenizer)
        _, task, params, device = build(tiny, backbone, dropout=0.2)

        def on_step(steps):
            if steps == kill_at:
                raise KeyboardInterrupt

        fit("t", task, params.loop, seed=3, device=device, checkpoint=checkpoint, on_step=on_step)
        return {name: tensor.numpy().tobytes() for name, tensor in trained_state(task.module).items()}

    expected = run()
    assert any(name.startswith("prior.") for name in expected)
    checkpoint = Checkpoint("t", {}, code=[])
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, kill_at=6)
    torch.manual_seed(99)
    assert run(checkpoint) == expected


def test_it_learns(tiny, backbone):
    _, task, params, device = build(tiny, backbone)
    fitted = fit("t", task, params.loop, seed=3, device=device)
    assert fitted.curves[1]["loss"] < fitted.curves[0]["loss"]
