import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch.nn import functional

from sidflow.backbones.models import Backbone
from sidflow.backbones.params import LoraParams
from sidflow.core.errors import InputError
from sidflow.metrics.geometry import tau_over_histories
from sidflow.mme_sid.fit import forgetting
from sidflow.mme_sid.fusion import TABLE_STD, cold_rows
from sidflow.mme_sid.model import MmeSid, MmeSidTask
from sidflow.mme_sid.params import FinetuneLoop, FinetuneParams
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training
from sidflow.training.loop import fit, trained_state

LOOP = FinetuneLoop(epochs=2, patience=0, learning_rate=1e-2, warmup_steps=0, schedule="constant")
# An adapter scaled as large as the default swings this tiny model about.
BASE = {"batch_size": 16, "token_dropout": 0.0, "loop": LOOP, "lora": LoraParams(alpha=32)}


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setenv("SIDFLOW_DEVICE", "cpu")


def build(tiny, backbone, **changes):
    params = FinetuneParams(**{**BASE, **changes})
    past = tiny.histories()
    inputs = tiny.inputs()
    kept = {name: one for name, one in inputs.modalities.items() if name not in params.without}
    device = prepare_training(3, 1)
    model = MmeSid(backbone, inputs._replace(modalities=kept), past, params)
    return model, MmeSidTask(model, past, params), params, device


def test_a_history_longer_than_the_backbone_reads_is_refused_before_training(tiny, backbone):
    with pytest.raises(InputError, match=r"prompt and 256 items; found 256 .*max_length"):
        build(tiny, backbone, max_length=256)


def test_it_learns_what_is_obvious(tiny, backbone):
    loop = LOOP.model_copy(update={"epochs": 12})
    _, task, params, device = build(tiny, backbone, loop=loop, lora=LoraParams(rank=8, dropout=0.0))
    before = task.validate()["valid_ndcg_at_10"]
    fitted = fit("t", task, params.loop, seed=3, device=device)
    assert before < 0.6
    assert fitted.best_value is not None and fitted.best_value > 0.95


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("readout", ["last_item", "response"])
def test_the_loss_is_the_mean_over_all_positions_of_a_full_softmax(tiny, backbone, readout, tied):
    model, _, _, _ = build(tiny, backbone, readout=readout, tie_item_embeddings=tied)
    model.eval()
    rows = torch.tensor([0, 3, 5])
    model.windows.lengths[3] = 5
    tokens, matrix = model.all_tokens(), model.fusion.item_matrix()
    losses = []
    for row in rows.tolist():
        start, length = model.windows.starts[row], model.windows.lengths[row]
        for end in range(1, length):
            history = model.windows.items[start : start + end]
            state = model.backbone(tokens[history][None], torch.tensor([[end - 1]]))[0, 0]
            target = model.windows.items[start + end]
            losses.append(functional.cross_entropy(state @ matrix.T, target))
    torch.testing.assert_close(model(rows)["loss"], torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_only_adapter_and_heads_are_trained(tiny, backbone):
    frozen = {name: p.clone() for name, p in backbone.model.named_parameters()}
    model, task, params, device = build(tiny, backbone)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora" in name or name.startswith(("item_tokens", "fusion")) for name in trained)
    fit("t", task, params.loop, seed=3, device=device)
    after = {name.replace(".base_layer", ""): p for name, p in model.backbone.model.get_base_model().named_parameters()}
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())


ABLATIONS = [
    {"without": ("collaborative",)},
    {"without": ("text",)},
    {"without": ("image",)},
    {"codes": False},
    {"raw": False},
    {"part_weights": "equal"},
    {"part_weights": "one", "tie_item_embeddings": True},
    {"lora": LoraParams(enabled=False)},
    {"codebook_init": "random"},
    {"train_codes": False},
    {"readout": "response"},
    {"max_length": 3},
    {"temperature": 1e-3},
    {"tie_item_embeddings": True},
    {"tie_item_embeddings": True, "row_scale": 8.0},
]


@pytest.mark.parametrize("change", ABLATIONS, ids=lambda change: "-".join(map(str, change)))
def test_every_ablation_runs_and_learns(tiny, backbone, change):
    _, task, params, device = build(tiny, backbone, **change)
    fitted = fit("t", task, params.loop, seed=3, device=device)
    assert fitted.curves[1]["loss"] < fitted.curves[0]["loss"]


@pytest.mark.parametrize("row_scale", [1.0, 8.0])
def test_a_tied_token_has_the_row_that_scores_the_item_added(tiny, backbone, row_scale):
    model, _, _, _ = build(tiny, backbone, tie_item_embeddings=True, row_scale=row_scale)
    words = backbone.model.get_input_embeddings().weight
    cold = cold_rows(model.fusion, model.inputs).values
    rows = np.concatenate([model.item_matrix().detach().numpy(), cold])
    alone = model.item_tokens(torch.arange(model.inputs.items)).detach().numpy()
    scale = row_scale * float(words.square().mean().sqrt()) / TABLE_STD
    np.testing.assert_allclose(model.all_tokens().numpy(), alone + scale * rows, rtol=1e-5, atol=1e-6)
    assert len(cold) and np.abs(cold).sum() > 0


@pytest.mark.parametrize("tied", [False, True])
def test_histories_train_the_table_that_scores_where_it_is_tied(tiny, backbone, tied):
    model, _, _, _ = build(tiny, backbone, tie_item_embeddings=tied)
    model(torch.arange(4), lambda scores: scores.states.square().sum())["loss"].backward()
    assert (model.fusion.table.grad is not None) == tied


def test_frozen_codes_stay(tiny, backbone):
    model, task, params, device = build(tiny, backbone, train_codes=False)
    fit("t", task, params.loop, seed=3, device=device)
    found = model.item_tokens.codes["image"].vectors.detach().numpy()
    np.testing.assert_array_equal(found, tiny.inputs().modalities["image"].codebooks)


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps the precision that it was first asked for; a stage asks once."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(("weights", "precision"), [("bf16", "fp32"), ("fp32", "bf16"), ("bf16", "bf16")])
def test_half_precision_learns(tiny, backbone, weights, precision, fresh_accelerate):
    if weights == "bf16":
        backbone.model.to(torch.bfloat16)
    loop = LOOP.model_copy(update={"precision": precision})
    model, task, params, device = build(tiny, backbone, loop=loop)
    kinds = set()
    product = model.backbone.decoder.layers[0].mlp
    product.register_forward_hook(lambda _, given, found: kinds.add(found.dtype))
    fitted = fit("t", task, params.loop, seed=3, device=device)
    assert kinds == {torch.bfloat16}
    assert fitted.curves[1]["loss"] < fitted.curves[0]["loss"]
    assert model.fusion.table.dtype == torch.float32


def test_the_instruction_is_read_once_a_step_and_once_an_evaluation(tiny, backbone, monkeypatch):
    monkeypatch.setattr("sidflow.mme_sid.model.BLOCK_TOKENS", 1000)
    model, task, _, _ = build(tiny, backbone)
    read = []
    model.backbone.decoder.register_forward_pre_hook(
        lambda _, args, given: read.append(tuple(given["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    instruction = (1, model.backbone.instruction.shape[1])
    model(torch.arange(5))
    inputs = int((model.windows.lengths[:5] - 1).sum())
    assert read == [(1, instruction[1] + inputs)]
    read.clear()
    past = task.histories._replace(query_end=np.arange(task.histories.query_count) % 7 + 1)
    model.query_states(past, np.arange(past.query_count))
    assert read.count(instruction) == 1 and len(read) > 2  # once, for several blocks
    assert sum(width for _, width in read) == instruction[1] + int(past.query_end.sum())


@torch.no_grad()
def test_what_is_forgotten_is_told_of_the_codes_as_they_are_now(tiny, backbone):
    model, task, _, _ = build(tiny, backbone)
    past, known = task.histories, tiny.inputs()
    before = forgetting(model, past, known)
    assert all(told["tau_finetuned"] == pytest.approx(told["tau_quantized"]) for told in before.values())
    part = model.item_tokens.codes["image"]
    part.vectors.copy_(torch.randn(part.vectors.shape, generator=torch.Generator().manual_seed(8)))
    after = forgetting(model, past, known)
    queries = np.flatnonzero(past.query_valid)
    histories, targets = [past.history(query) for query in queries], past.targets[queries]
    tuned = part.sums(torch.arange(model.inputs.items)).numpy()
    expected = tau_over_histories(known.modalities["image"].raw, tuned, histories, targets).value
    assert after["image"]["tau_finetuned"] == pytest.approx(expected)
    assert abs(after["image"]["tau_finetuned"] - after["image"]["tau_quantized"]) > 0.05
    assert after["image"]["tau_quantized"] == before["image"]["tau_quantized"]
    assert after["text"] == before["text"]


def test_queries_of_any_order_and_length_are_encoded_alike(tiny, backbone):
    model, task, _, _ = build(tiny, backbone)
    model.eval()
    past = task.histories
    cut_short = past._replace(query_end=np.arange(past.query_count) % 8)
    queries = np.array([5, 0, 7, 2, 9])
    together = model.query_states(cut_short, queries)
    alone = torch.cat([model.query_states(cut_short, queries[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert not together[1].any()  # an empty history


def test_a_killed_training_resumes_to_the_same_bytes(tiny, tokenizer, monkeypatch):
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "0.000001")
    lora = LoraParams(rank=4, dropout=0.1)

    def run(checkpoint=None, kill_at=None):
        model, task, params, device = build(
            tiny, Backbone(tiny.model("llama", len(tokenizer)), tokenizer), lora=lora, token_dropout=0.3
        )

        def on_step(steps):
            if steps == kill_at:
                raise KeyboardInterrupt

        fit("t", task, params.loop, seed=3, device=device, checkpoint=checkpoint, on_step=on_step)
        return {name: tensor.numpy().tobytes() for name, tensor in trained_state(model).items()}

    expected = run()
    checkpoint = Checkpoint("t", {}, code=[])
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, kill_at=6)
    torch.manual_seed(99)
    assert run(checkpoint) == expected
