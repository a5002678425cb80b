"""Training and its resume after a kill: bytes, steps, best epoch, learning rate."""

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from sidflow.core.errors import InputError
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.devices import prepare_training
from sidflow.training.loop import LoopParams, fit, learning_rate_at, trained_state


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.x = nn.Parameter(torch.randn(64, 8, generator=generator), requires_grad=False)
        self.y = nn.Parameter(torch.randn(64, 1, generator=generator), requires_grad=False)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, rows):
        self.seen += len(rows)
        loss = ((self.net(self.x[rows]) - self.y[rows]) ** 2).mean()
        return {"loss": loss, "half": loss / 2}


class Task:
    def __init__(self, validate=True):
        self.module = Regression()
        self.with_validation = validate

    def batches(self, epoch, generator):
        return torch.randperm(64, generator=generator).split(16)

    def validate(self):
        error = ((self.module.net(self.module.x) - self.module.y) ** 2).mean()
        return {"valid_error": float(error)} if self.with_validation else {}


class Killed(Exception):
    pass


LOOP = LoopParams(epochs=4, patience=0, learning_rate=0.05, weight_decay=0.1, warmup_steps=3, schedule="cosine")


def run(checkpoint=None, kill_at=None, stop_after=None, **overrides):
    device = prepare_training(3, 1)
    task = Task()

    def on_step(steps):
        if steps == kill_at:
            raise Killed

    loop = LOOP.model_copy(update=overrides)
    ways = {"higher_is_better": False, "stop_after": stop_after, "on_step": on_step}
    fitted = fit("t", task, loop, seed=3, device=device, checkpoint=checkpoint, **ways)
    return fitted, {name: value.numpy().tobytes() for name, value in trained_state(task.module).items()}


@pytest.mark.parametrize("kill_at", [1, 4, 7, 15])
def test_killed_and_resumed_training_ends_in_the_same_bytes(cache, kill_at):
    whole, expected = run()
    checkpoint = Checkpoint("t", {"a": 1}, code=[])
    with pytest.raises(Killed):
        run(checkpoint, kill_at=kill_at)
    torch.manual_seed(999)
    resumed, found = run(checkpoint)
    assert found == expected
    assert resumed == whole
    checkpoint.discard()
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize("epochs", [0, 2, 4, 9])
def test_stopped_after_some_epochs_it_is_the_beginning_of_the_whole(cache, epochs):
    whole, _ = run()
    stopped, _ = run(stop_after=epochs)
    assert stopped.curves == whole.curves[:epochs]
    assert stopped.steps == 4 * min(epochs, 4)
    assert run(epochs=2)[0].curves != whole.curves[:2]  # a shorter schedule is another one


def test_a_resume_does_not_repeat_steps(cache):
    checkpoint = Checkpoint("t", {"a": 1}, code=[])
    with pytest.raises(Killed):
        run(checkpoint, kill_at=9)
    steps = []
    prepare_training(3, 1)
    fit("t", Task(), LOOP, seed=3, device=torch.device("cpu"), checkpoint=checkpoint, on_step=steps.append)
    assert steps[0] == 9  # the kill came after step 9 but before its checkpoint: step 8 was the last one saved


@pytest.mark.parametrize(("seconds", "expected"), [("1000", [False] * 16), ("0.000001", [False] + [True] * 15)])
def test_checkpoints_are_as_far_apart_as_the_runtime_says(cache, monkeypatch, seconds, expected):
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", seconds)
    clock = itertools.count(50_000)  # seconds: one more at every look
    monkeypatch.setattr("sidflow.training.loop.time.monotonic", lambda: next(clock))
    checkpoint, written = Checkpoint("t", {"a": 1}, code=[]), []
    device = prepare_training(3, 1)
    fit(
        "t",
        Task(),
        LOOP,
        seed=3,
        device=device,
        checkpoint=checkpoint,
        on_step=lambda _: written.append(checkpoint.path.exists()),
    )
    assert written == expected  # before the step's own checkpoint
    assert checkpoint.path.exists()  # a finished training is kept until its artifacts are written


def test_a_torn_checkpoint_is_forgotten(cache):
    checkpoint = Checkpoint("t", {"a": 1}, code=[])
    with pytest.raises(Killed):
        run(checkpoint, kill_at=5)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:100])
    assert run(checkpoint)[1] == run()[1]


def test_the_best_epoch_wins_and_patience_ends(cache):
    class Worsening(Task):
        def validate(self):
            return {"valid_error": float(self.module.seen)}  # lowest after the first epoch

    prepare_training(0, 1)
    task = Worsening()
    fitted = fit(
        "t",
        task,
        LOOP.model_copy(update={"epochs": 9, "patience": 2}),
        seed=0,
        device=torch.device("cpu"),
        higher_is_better=False,
    )
    assert (fitted.best_epoch, len(fitted.curves)) == (0, 3)
    assert int(task.module.seen) == 64  # the buffer of the best epoch is back
    assert fitted.curves[0]["half"] == pytest.approx(fitted.curves[0]["loss"] / 2)


def test_a_loss_that_is_not_finite_is_one_clear_line(cache):
    class Broken(Task):
        def batches(self, epoch, generator):
            self.module.x.data[0, 0] = np.nan
            return super().batches(epoch, generator)

    with pytest.raises(InputError, match=r"finite loss.*lower the learning rate"):
        fit("t", Broken(), LOOP, seed=0, device=torch.device("cpu"))


def test_a_validation_that_is_not_finite_is_one_clear_line(cache):
    class Broken(Task):
        def validate(self):
            return {"valid_error": float("nan")}

    with pytest.raises(InputError, match=r"finite validation figure.*nan after epoch 1"):
        fit("t", Broken(), LOOP, seed=0, device=torch.device("cpu"))


def test_warm_up_then_cosine():
    rates = [learning_rate_at(step, 13, LOOP) for step in range(13)]
    assert rates[:3] == pytest.approx([0.05 / 3, 0.1 / 3, 0.05])
    assert rates[8] == pytest.approx(0.025)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_a_task_whose_batches_cannot_be_split_runs_in_one_process(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="t training: expected one process; found 2"):
        run()


def gradient_norms(clip_norm):
    """Return the norm of all gradients together at each of the steps of a training."""
    prepare_training(3, 1)
    task, norms = Task(), []

    def on_step(steps):
        gradients = [parameter.grad.flatten() for parameter in task.module.net.parameters()]
        norms.append(float(torch.cat(gradients).norm()))

    loop = LOOP.model_copy(update={"epochs": 1, "clip_norm": clip_norm})
    fit("t", task, loop, seed=3, device=torch.device("cpu"), higher_is_better=False, on_step=on_step)
    return norms


def test_gradients_are_clipped_to_the_norm_asked_for_and_only_then(cache):
    free = gradient_norms(0.0)
    assert min(free) > 0.1
    assert gradient_norms(0.1) == pytest.approx([0.1] * len(free), rel=1e-4)
    assert gradient_norms(1e6) == pytest.approx(free)


class TwoRates(nn.Module):
    """Two weights with the same gradient."""

    def __init__(self):
        super().__init__()
        self.slow, self.fast = (nn.Parameter(torch.zeros(3)) for _ in range(2))

    def forward(self, rows):
        return {"loss": (self.slow + self.fast).sum()}


def test_a_group_learns_at_its_own_factor_of_the_rate_at_every_step(cache):
    """AdamW's first steps along a constant gradient are as long as the rate, which the warm-up raises to 0.06."""

    class Grouped(Task):
        def __init__(self):
            self.module = TwoRates()

        def validate(self):
            return {}

        def parameter_groups(self):
            return [{"params": [self.module.slow]}, {"params": [self.module.fast], "rate_factor": 7.0}]

    prepare_training(0, 1)
    task, places = Grouped(), []
    loop = LoopParams(epochs=1, learning_rate=0.06, warmup_steps=3)

    def on_step(steps):
        places.append([parameter[0].item() for parameter in (task.module.slow, task.module.fast)])

    fit("t", task, loop, seed=0, device=torch.device("cpu"), on_step=on_step)
    slow, fast = np.diff(np.array([(0.0, 0.0), *places]), axis=0).T
    np.testing.assert_allclose(slow, [-0.02, -0.04, -0.06, -0.06], rtol=1e-4)
    np.testing.assert_allclose(fast, 7 * slow, rtol=1e-4)


def test_every_epoch_has_batches_of_its_own_that_the_seed_decides(cache):
    class Noting(Task):
        def __init__(self):
            super().__init__()
            self.orders = {}

        def batches(self, epoch, generator):
            made = super().batches(epoch, generator)
            self.orders.setdefault(epoch, []).append(torch.cat(list(made)).tolist())
            return made

    def orders(seed):
        prepare_training(seed, 1)
        task = Noting()
        fit("t", task, LOOP, seed=seed, device=torch.device("cpu"), higher_is_better=False)
        return {epoch: made[-1] for epoch, made in task.orders.items()}

    first = orders(3)
    assert len(first) == 4 and all(sorted(order) == list(range(64)) for order in first.values())
    assert len({tuple(order) for order in first.values()}) == 4
    assert first == orders(3)
    assert all(order != first[epoch] for epoch, order in orders(4).items())


@pytest.fixture
def fresh_accelerate():
    """Accelerate keeps the precision that it was first asked for; a stage asks once."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.usefixtures("fresh_accelerate")
def test_a_trained_module_is_freed_with_its_task(precision):
    task = Task()
    gc.collect()
    gc.disable()
    try:
        fit("test", task, LOOP.model_copy(update={"precision": precision}), seed=3, device=prepare_training(3, 1))
        module = weakref.ref(task.module)
        del task
        assert module() is None
    finally:
        gc.enable()
