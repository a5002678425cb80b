"""The benchmarks' published way: the same targets and the same states as our own code with the same readout."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from sidflow.backbones.params import LoraParams
from sidflow.mme_sid.model import MmeSid
from sidflow.mme_sid.params import FinetuneParams

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "experiments/benchmarks"


@pytest.fixture
def published(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mme_sid_published

    return mme_sid_published


@pytest.fixture
def model(tiny, backbone):
    past = tiny.histories()
    past.train_end[3], past.train_end[5] = 2, 1  # the latter has nothing to foretell but its first item
    torch.manual_seed(0)
    params = FinetuneParams(readout="response", max_length=4, token_dropout=0.0, lora=LoraParams(rank=2))
    return MmeSid(backbone, tiny.inputs(), past, params).eval()


def test_both_ways_learn_the_same_targets(model, published):
    found = published.samples(model.histories, model.max_length)
    windows = model.windows
    targets = [
        start + step
        for start, length in zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)
        for step in range(1, length)
    ]
    assert sorted(found.start + found.length) == sorted(targets)
    assert found.length.min() == 1 and found.length.max() == model.max_length


def test_rows_padded_on_the_left_have_the_states_of_the_response_readout(model, published):
    way = published.Published(model).eval()
    queries = np.arange(model.histories.query_count)
    model.histories.query_end[:] = queries % 9  # none, fewer than the model reads, and more
    torch.testing.assert_close(
        way.query_states(queries), model.query_states(model.histories, queries), atol=1e-4, rtol=1e-4
    )


def test_the_loss_is_a_plain_softmax_over_the_samples(model, published):
    way = published.Published(model).eval()
    rows = torch.arange(10)
    start, length = way.samples.start[rows.numpy()], way.samples.length[rows.numpy()]
    states = torch.cat([way.states(model.histories.items, start[[n]], length[[n]]) for n in range(len(rows))])
    target = torch.from_numpy(model.histories.items[start + length].astype(np.int64))
    wanted = functional.cross_entropy(states @ model.fusion.item_matrix().T, target)
    torch.testing.assert_close(way(rows)["loss"], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "prompt", [FinetuneParams().prompt, "a {history} b", "bought: {history} Next, after all of these:"]
)
def test_one_pass_a_history_has_the_loss_and_gradients_of_one_sample_a_prefix(tiny, backbone, published, prompt):
    past = tiny.histories(users=9)
    past.train_end[3], past.train_end[5] = 2, 3
    params = FinetuneParams(prompt=prompt, readout="response", max_length=9, lora=LoraParams(rank=2, alpha=4))
    torch.manual_seed(0)
    model = MmeSid(backbone, tiny.inputs(), past, params).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    way = published.Published(model).eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    losses = (
        model(torch.arange(len(model.windows.lengths)))["loss"],
        way(torch.arange(len(way.samples.start)))["loss"],
    )
    ours, theirs = (torch.autograd.grad(loss, trained) for loss in losses)
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_scores_from_the_parts_are_those_of_the_folded_matrix(model, published):
    states = torch.randn(5, model.fusion.table.shape[1])
    torch.testing.assert_close(
        published.scores_from_parts(model.fusion, states), states @ model.item_matrix().T, atol=1e-4, rtol=1e-4
    )


def _gpu(*more):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "mme_sid_gpu.py"), *more], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_the_gpu_benchmark_refuses_in_one_line_without_a_gpu():
    done = _gpu()
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "expected a CUDA device" in done.stderr


def test_the_gpu_benchmark_runs_whole_in_a_tiny_shape():
    before = sorted((ROOT / "experiments/results/benchmarks").glob("mme_sid_gpu*"))
    done = _gpu("--tiny", "--steps", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert found["steps_timed"] == 2
    assert found["ours"] == pytest.approx(found["item_tokens_an_epoch"] / found["tokens_per_second"], abs=0.01)
    assert found["operations"] == 4 * found["item_tokens_an_epoch"] * found["parameters"]
    assert len(found["claim"]) <= 120
    assert sorted((ROOT / "experiments/results/benchmarks").glob("mme_sid_gpu*")) == before
