"""What each recommender costs to train and to serve, from what its stages cost on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from sidflow.cli.dvc import RECOMMENDERS, Stage, dag_stages, with_inputs
from sidflow.core.costs import Cost, measured_cost


class RecommenderCost(NamedTuple):
    """The cost of one recommender; None where a stage was not measured on this machine."""

    train_seconds: float | None = None  # wall time of the stage that trains it
    seconds_with_inputs: float | None = None  # and of all stages that it reads from, directly or not
    peak_memory_mb: float | None = None  # resident, of the training
    peak_gpu_memory_mb: float | None = None  # where it trained on a GPU
    users_per_second: float | None = None  # histories answered and ranked over all candidates
    machine: str | None = None  # that it trained on, such as `cpu, 1 thread of 2 CPUs`


def recommender_costs(params: Mapping[str, Any]) -> dict[str, RecommenderCost]:
    """Return the cost of every recommender that params list, as far as its stages were measured.

    Raises:
        InputError: a cost in the cache is no JSON.
    """
    stages = dag_stages(params)
    cost_of = cache(measured_cost)
    makers = {out: stage for stage in stages for out in stage.outs if PurePosixPath(out).parent == RECOMMENDERS}
    costs: dict[str, RecommenderCost] = {}
    for name in params.get("recommenders") or []:
        maker = makers.get(str(RECOMMENDERS / str(name)))
        trained = cost_of(maker.name) if maker else None
        if maker is None or trained is None:
            costs[name] = RecommenderCost()
            continue
        answering = [cost_of(stage.name) for stage in _answering(maker, makers)]
        seconds = _sum([_seconds_per_history(cost) for cost in [*answering, cost_of(f"rank@{name}")]])
        inputs = [cost_of(stage.name) for stage in with_inputs([maker], stages)]
        costs[name] = RecommenderCost(
            train_seconds=trained["wall_seconds"],
            seconds_with_inputs=_sum([None if cost is None else cost["wall_seconds"] for cost in inputs]),
            peak_memory_mb=trained["peak_memory_mb"],
            peak_gpu_memory_mb=trained.get("peak_gpu_memory_mb"),
            users_per_second=1 / seconds if seconds else None,
            machine=machine_of(trained),
        )
    return costs


def _answering(maker: Stage, makers: Mapping[str, Stage]) -> Iterator[Stage]:
    """Yield the stages whose models answer a history: a blend's are those of the recommenders that it adds."""
    yield maker
    for dep in maker.deps:
        if dep in makers:
            yield from _answering(makers[dep], makers)


def _seconds_per_history(cost: Cost | None) -> float | None:
    """Return the seconds for one history; 0 for a stage that answers none, None where it was not measured."""
    if cost is None:
        return None
    return sum(part["seconds"] / max(1, part["histories"]) for part in cost.get("serving", {}).values())


def _sum(parts: Sequence[float | None]) -> float | None:
    measured = [part for part in parts if part is not None]
    return sum(measured) if len(measured) == len(parts) else None


def machine_of(cost: Cost) -> str:
    """Return what a stage ran on, such as `cpu, 1 thread of 2 CPUs`."""
    threads, processes = cost["threads"], cost["processes"]
    parts = [f"{threads} thread{'s' if threads > 1 else ''} of {cost['cpus']} CPUs"]
    parts += [f"{processes} processes"] if processes > 1 else []
    return ", ".join([cost["device"], *parts])
