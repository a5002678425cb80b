"""The one training loop, on accelerate: epochs, early stop on validation, exact resume after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn

from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.core.runtime import load_runtime
from sidflow.core.stage import print_progress
from sidflow.training.checkpoint import Checkpoint, Snapshot, restore_state, trained_buffers, trained_state
from sidflow.training.devices import ProcessGroup, epoch_generator


class LoopParams(Params):
    """How long and how fast to train."""

    epochs: int = Field(default=100, ge=0, description="epochs at most")
    patience: int = Field(default=10, ge=0, description="epochs without a better validation before the end; 0 = never")
    learning_rate: float = Field(default=1e-3, gt=0, description="of AdamW, per step, at its largest")
    weight_decay: float = Field(
        default=0.0, ge=0, description="of AdamW: share of a weight taken off per step, in learning rates"
    )
    warmup_steps: int = Field(default=0, ge=0, description="steps over which the learning rate rises to its full size")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="constant | cosine (ends at zero): the learning rate after the warm-up"
    )
    clip_norm: float = Field(default=0.0, ge=0, description="largest norm of all gradients together; 0 = no clipping")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="fp32 | bf16, of the arithmetic; weights stay fp32"
    )


class Task(Protocol):
    """What is trained.

    `module(batch)` returns named losses as scalars; the one named `loss` is minimised, the others are logged. A task
    that is also `devices.SplittableTask` can be trained on several processes.
    """

    module: nn.Module

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Any]:
        """Return the epoch's batches in order, cheap to build: row numbers rather than data."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Return validation metrics of the module as it is; the first one decides when to stop (empty: none does)."""
        ...


class FitResult(NamedTuple):
    """What a training did. The module is left with its best weights."""

    curves: list[dict[str, float]]
    best_epoch: int
    best_value: float | None
    steps: int


class _Progress:
    """The state of a training that a resume needs besides tensors."""

    def __init__(self) -> None:
        self.epoch, self.step, self.steps = 0, 0, 0
        self.sums: dict[str, float] = {}
        self.curves: list[dict[str, float]] = []
        self.best_epoch = -1
        self.best_value: float | None = None
        self.finished = False


def learning_rate_at(step: int, total: int, loop: LoopParams) -> float:
    """Return the learning rate of `step` of `total`: linear warm-up, then constant or a cosine to zero."""
    if step < loop.warmup_steps:
        return loop.learning_rate * (step + 1) / loop.warmup_steps
    if loop.schedule == "constant":
        return loop.learning_rate
    progress = (step - loop.warmup_steps) / max(1, total - loop.warmup_steps)
    return loop.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class _Trainer:
    def __init__(
        self,
        name: str,
        task: Task,
        loop: LoopParams,
        seed: int,
        device: torch.device,
        higher_is_better: bool,
        stop_after: int | None,
    ) -> None:
        self.name, self.task, self.loop, self.seed = name, task, loop, seed
        self.epochs = loop.epochs if stop_after is None else min(stop_after, loop.epochs)
        self.sign = 1.0 if higher_is_better else -1.0
        self.group = ProcessGroup(name, task)
        self.accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="bf16" if loop.precision == "bf16" else "no"
        )
        groups = getattr(task, "parameter_groups", None)
        parameters = groups() if groups else [p for p in task.module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=loop.learning_rate, weight_decay=loop.weight_decay, fused=True)
        self.group.ignore_frozen(task.module)
        self.module, self.optimizer = self.accelerator.prepare(task.module.to(device), optimizer)
        self.progress = _Progress()
        self.best: dict[str, Tensor] = {}
        self.group.set_random_states(seed, 0, {})
        self.pause, self.saved = load_runtime().checkpoint_seconds, time.monotonic()

    def snapshot(self) -> Snapshot:
        inner = self.optimizer.state_dict()
        tensors = {f"module/{key}": value for key, value in trained_state(self.task.module).items()}
        tensors |= {f"best/{key}": value for key, value in self.best.items()}
        for index, state in inner["state"].items():
            tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
        tensors |= {f"random/{key}": value for key, value in self.group.random_states().items()}
        return Snapshot(tensors, dict(vars(self.progress)))

    def resume(self, snapshot: Snapshot) -> None:
        groups: dict[str, dict] = {"module": {}, "best": {}, "optimizer": {}, "random": {}}
        for key, tensor in snapshot.tensors.items():
            kind, _, name = key.partition("/")
            groups[kind][name] = tensor
        restore_state(self.task.module, groups["module"])
        self.best = groups["best"]
        inner = self.optimizer.state_dict()
        for key, tensor in groups["optimizer"].items():
            index, _, field = key.partition("/")
            inner["state"].setdefault(int(index), {})[field] = tensor
        self.optimizer.load_state_dict(inner)
        vars(self.progress).update(snapshot.values)
        self.group.set_random_states(self.seed, self.progress.steps, groups["random"])
        print_progress(f"{self.name}: resumed at epoch {self.progress.epoch + 1}, step {self.progress.step}")

    def save(self, checkpoint: Checkpoint | None, force: bool = False) -> None:
        """Write a checkpoint if there is one to write and it is due."""
        if checkpoint is None:
            return
        due = float(force or time.monotonic() - self.saved >= self.pause)
        if self.group.broadcast_metrics({"due": due}, {})["due"]:
            checkpoint.save(self.snapshot())
            self.saved = time.monotonic()

    def step(self, batch: Any, total: int) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            rate = learning_rate_at(self.progress.steps, total, self.loop)
            group["lr"] = rate * group.get("rate_factor", 1.0)
        part, share = self.group.split_batch(batch)
        with self.accelerator.autocast():
            losses = self.module(part)
        batch_losses = self.group.reduce_losses(losses, share)
        if not torch.isfinite(batch_losses["loss"]):
            raise InputError(
                f"{self.name} training",
                expected="a finite loss",
                found=f"{batch_losses['loss'].item()} at epoch {self.progress.epoch + 1}, step {self.progress.step}",
                remedy="lower the learning rate, or set clip_norm, in params.yaml",
            )
        self.optimizer.zero_grad()
        self.accelerator.backward(losses["loss"] * (share * self.group.count))
        if self.loop.clip_norm:
            self.accelerator.clip_grad_norm_(self.module.parameters(), self.loop.clip_norm)
        self.optimizer.step()
        return {name: float(loss) for name, loss in batch_losses.items()}

    def end_epoch(self, count: int, seconds: float) -> None:
        progress = self.progress
        row = {"epoch": progress.epoch + 1, **{name: value / max(1, count) for name, value in progress.sums.items()}}
        self.task.module.eval()
        with torch.no_grad(), self.accelerator.autocast():
            metrics = self.group.broadcast_metrics(self.task.validate(), trained_buffers(self.task.module))
        self.task.module.train()
        row |= metrics
        progress.curves.append(row)
        value = next(iter(metrics.values()), None)
        if value is not None and not math.isfinite(value):
            raise InputError(
                f"{self.name} training",
                expected="a finite validation figure",
                found=f"{value} after epoch {progress.epoch + 1}",
                remedy="lower the learning rate, or set clip_norm, in params.yaml",
            )
        if value is None or progress.best_value is None or self.sign * value > self.sign * progress.best_value:
            progress.best_epoch, progress.best_value = progress.epoch, value
            if value is not None:
                self.best = {k: tensor.detach().clone() for k, tensor in trained_state(self.task.module).items()}
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        stopped = (
            bool(self.loop.patience)
            and value is not None
            and progress.epoch - 1 - progress.best_epoch >= self.loop.patience
        )
        progress.finished = stopped or progress.epoch >= self.epochs
        report = "  ".join(f"{name} {figure:.5g}" for name, figure in row.items() if name != "epoch")
        print_progress(
            f"{self.name}: epoch {progress.epoch}/{self.epochs}  {report}  "
            f"best at {progress.best_epoch + 1}  {seconds:.1f} s"
        )


def fit(
    name: str,
    task: Task,
    loop: LoopParams,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    higher_is_better: bool = True,
    stop_after: int | None = None,
    on_step: Callable[[int], None] | None = None,
) -> FitResult:
    """Train `task.module` and leave it with the weights of its best epoch (the last, without validation).

    Args:
        name: the stage, for progress lines.
        task: what is trained.
        loop: how long and how fast.
        seed: of batches and negatives; `prepare_training` seeds the global generators.
        device: of the module.
        checkpoint: from which a killed training resumes. The caller discards it once artifacts are written.
        higher_is_better: of the first validation figure.
        stop_after: epochs after which training ends; the learning rate follows the schedule of all epochs of `loop`.
        on_step: called with the number of steps done, after each.

    Raises:
        InputError: the loss or the validation figure is not finite.
    """
    trainer = _Trainer(name, task, loop, seed, device, higher_is_better, stop_after)
    progress = trainer.progress
    snapshot = checkpoint.load() if checkpoint else None
    if snapshot:
        trainer.resume(snapshot)
    progress.finished = progress.finished or trainer.epochs == 0
    per_epoch = len(task.batches(0, epoch_generator(seed, 0)))
    task.module.train()
    while not progress.finished:
        start_time = time.monotonic()
        batches = task.batches(progress.epoch, epoch_generator(seed, progress.epoch))
        for batch in batches[progress.step :]:
            for key, value in trainer.step(batch, per_epoch * loop.epochs).items():
                progress.sums[key] = progress.sums.get(key, 0.0) + value
            progress.step, progress.steps = progress.step + 1, progress.steps + 1
            if on_step:
                on_step(progress.steps)
            trainer.save(checkpoint)
        trainer.end_epoch(len(batches), time.monotonic() - start_time)
        trainer.save(checkpoint, force=progress.finished)
    if trainer.best:
        restore_state(task.module, trainer.best)
    task.module.eval()
    for name in ("forward", "_original_forward"):  # accelerate's, for bf16: they refer to the module, and keep it alive
        vars(task.module).pop(name, None)
    return FitResult(progress.curves, progress.best_epoch, progress.best_value, progress.steps)
