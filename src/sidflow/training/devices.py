"""Where training runs: device, seeds, and one training on several processes.

Every process holds the whole trained part and sees the same batches as one process would; it computes its rows of
each batch. Losses are weighed by what they are means over, so that the gradient is that of the whole batch up to the
order of sums (DDP averages over processes). Each process samples its dropout from a random stream of
its own: with dropout, runs on different numbers of processes differ as runs with different seeds do.

Sharding `fsdp` also splits the frozen linear layers of a language model (`fully_shard`, FSDP2). Accelerate's own FSDP
plugin wraps a whole model, whose parts then work inside its `forward` alone; here item tokens, keys and values of the
instruction and query states are computed outside of it too. Each linear layer is a unit of its own: whatever needs its
weight goes through its output, which is not so for whole decoder layers, whose cached keys are used elsewhere.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from sidflow.core import params
from sidflow.core.devices import pick_device
from sidflow.core.errors import InputError
from sidflow.core.runtime import load_runtime, process_count, process_rank, report_error
from sidflow.core.stage import errors_in_one_line

PATIENCE = timedelta(hours=6)  # how long a process waits for the others


def prepare_training(seed: int, threads: int) -> torch.device:
    """Seed every generator, fix the thread count, ask for deterministic kernels, and return the device."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products on CUDA are not repeatable
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pick_device()


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context without autocast: in bf16, scores that decide ranks and codes would tie.

    Autocast casts what goes into a matrix product, whatever the caller made of it before.
    """
    return torch.autocast(device.type, enabled=False)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the CPU generator that draws epoch `epoch`'s batches and negatives."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (2**63 - 1))


def relaunch_in_processes(stage: str, script: str, *arguments: str) -> bool:
    """Run `script` in as many processes as the runtime settings say; False where that is this one alone.

    Ends this process, with their exit code and one error line, where they fail.
    """
    with errors_in_one_line(stage):
        count = load_runtime().processes
        if count == 1 or process_count() > 1:
            return False
        cards = torch.cuda.device_count() if pick_device().type == "cuda" else count
        if count > cards:
            raise InputError(
                "runtime processes",
                expected=f"one for each CUDA device at most, {cards}",
                found=str(count),
                remedy="set SIDFLOW_PROCESSES or `processes` in runtime.yaml to that, or SIDFLOW_DEVICE=cpu",
            )
    launch_processes(count, script, *arguments)
    return True


def launch_processes(count: int, *command: str) -> None:
    """Run `python COMMAND` in `count` processes; where one of them fails, end this process with its exit code."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # each process prints its own errors
    os.environ.setdefault("OMP_NUM_THREADS", str(params.load_threads()))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        # the launcher ends the other processes by a signal, which is no failure of theirs
        failure = min(error.failures.values(), key=lambda one: (one.exitcode < 0, one.timestamp))
        if failure.exitcode == 2 and failure.error_file != "<N/A>":
            report_error(failure.message)
        raise SystemExit(failure.exitcode if failure.exitcode > 0 else 1) from None
    except SignalException as error:
        raise SystemExit(128 + signal.Signals(error.sigval).value) from None


def join_process_group(device: torch.device, threads: int) -> None:
    """Join the process group of this stage, if there are several processes; `device` becomes this one's own."""
    if process_count() > 1:
        PartialState(cpu=device.type == "cpu", timeout=PATIENCE)
        torch.set_num_threads(threads)


def leave_process_group() -> None:
    """Leave the process group."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def shard_frozen_layers(model: nn.Module, device: torch.device) -> None:
    """Split the frozen linear layers inside `model` over the processes, where the runtime settings say `fsdp`.

    What trains, embeddings and norms stay whole everywhere. A layer's weight is whole while the layer computes.

    Raises:
        InputError: weights are packed as integers.
    """
    if process_count() == 1 or load_runtime().sharding != "fsdp":
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (process_count(),))
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and not any(parameter.requires_grad for parameter in layer.parameters()):
            if not layer.weight.is_floating_point():
                raise InputError(
                    "runtime sharding",
                    expected="ddp, since `weights: nf4` of finetune cannot be split",
                    found=f"fsdp, and {layer.weight.dtype} in {name}",
                    remedy="set SIDFLOW_SHARDING=ddp, or finetune's weights to bf16",
                )
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)


class SplittableTask(Protocol):
    """A task whose batches can be split."""

    def split_batch(self, batch: Any, rank: int, count: int) -> tuple[Any, float]:
        """Return process `rank`'s part of `batch`, and its share of what the losses are means over, in [0, 1].

        Shares sum to 1. A part is never empty, since all processes have to meet: where none is left, it is any row
        of the batch with share 0.
        """
        ...


class ProcessGroup:
    """The processes of one training. With one process its methods change nothing."""

    def __init__(self, name: str, task: Any) -> None:
        """Count the processes of training `name`.

        Raises:
            InputError: there are several, and the task's batches cannot be split.
        """
        self.task, self.rank, self.count = task, process_rank(), process_count()
        if self.count > 1 and not hasattr(task, "split_batch"):
            raise InputError(
                f"{name} training", expected="one process", found=str(self.count), remedy="start it without a launcher"
            )

    def ignore_frozen(self, module: nn.Module) -> None:
        """Exclude frozen parameters and buffers of `module` from DDP: they are equal on all processes, or sharded."""
        if self.count > 1:
            trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
            names = [*dict(module.named_parameters()), *dict(module.named_buffers())]
            ignored = [name for name in names if name not in trained]
            nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, ignored)

    def random_states(self) -> dict[str, Tensor]:
        """Return the state of every process's random generators, by kind and rank."""
        kinds = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            kinds["cuda"] = torch.cuda.get_rng_state()
        return {
            f"{kind}/{rank}": gathered
            for kind, state in kinds.items()
            for rank, gathered in enumerate(self._gather(state))
        }

    def set_random_states(self, seed: int, steps: int, streams: Mapping[str, Tensor]) -> None:
        """Go on with the random stream that is this process's among `streams`.

        Where there is none (a fresh start, or the checkpoint of fewer processes) each but the first process gets one
        by rank and number of `steps` done; the first goes on as it is.
        """
        if self.rank:
            torch.manual_seed((seed * 1_000_003 + self.rank * 7_368_787 + steps * 15_485_863) % (2**63 - 1))
        if f"cpu/{self.rank}" in streams:
            torch.set_rng_state(streams[f"cpu/{self.rank}"])
        if f"cuda/{self.rank}" in streams and torch.cuda.is_available():
            torch.cuda.set_rng_state(streams[f"cuda/{self.rank}"])

    def split_batch(self, batch: Any) -> tuple[Any, float]:
        """Return this process's part of `batch` and its share, as `SplittableTask.split_batch`."""
        return self.task.split_batch(batch, self.rank, self.count) if self.count > 1 else (batch, 1.0)

    def reduce_losses(self, losses: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return the losses of the whole batch, detached."""
        detached = {name: loss.detach() for name, loss in losses.items()}
        if self.count == 1:
            return detached
        sums = torch.stack([loss.double() * share for loss in detached.values()])
        distributed.all_reduce(sums)
        return dict(zip(detached, sums, strict=True))

    def broadcast_metrics(self, metrics: Mapping[str, float], state: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the first process's `metrics`; write its `state` over that of the others."""
        if self.count == 1:
            return dict(metrics)
        values = torch.tensor(list(metrics.values()), dtype=torch.float64, device=PartialState().device)
        for tensor in (values, *state.values()):
            distributed.broadcast(tensor, 0)
        return dict(zip(metrics, values.tolist(), strict=True))

    def _gather(self, state: Tensor) -> list[Tensor]:
        if self.count == 1:
            return [state]
        local = state.to(PartialState().device)
        states = [torch.empty_like(local) for _ in range(self.count)]
        distributed.all_gather(states, local)
        return [gathered.cpu() for gathered in states]
