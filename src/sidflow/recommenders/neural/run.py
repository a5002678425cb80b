"""Train a sequential recommender and write what every recommender leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sidflow.contracts import params, refits
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import CURVES, FACTORS, SUMMARY, WEIGHTS
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import Factored, by_part
from sidflow.contracts.histories import Histories, load_histories_for_ranking
from sidflow.recommenders.neural.batches import query_windows, shuffled, training_windows
from sidflow.recommenders.neural.encoding import query_states, readable_length
from sidflow.recommenders.neural.items import IdEmbedding, ItemEmbedding
from sidflow.recommenders.neural.model import SequenceModel, WindowLosses
from sidflow.recommenders.neural.params import Bert4recParams, SequenceParams
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare_training
from sidflow.training.loop import FitResult, fit
from sidflow.training.validation import Validation
from sidflow.training.weights import weights_to_arrays


class NextItemTask:
    """Training windows in, NDCG@10 on the validation queries out."""

    def __init__(self, model: SequenceModel, histories: Histories, count: int) -> None:
        """Cut `histories` into windows for `model` over `count` items.

        Raises:
            InputError: no user has two training items.
        """
        settings = model.settings
        both_ways = isinstance(settings, Bert4recParams)
        longest, overlap = (settings.max_length, 0) if both_ways else (settings.max_length + 1, 1)
        self.model = model
        self.windows = training_windows(histories, longest, overlap=overlap)
        if not len(self.windows.lengths):
            raise InputError(
                "artifacts/split/sequences.parquet",
                expected="users with two training items or more",
                found="none",
                remedy="lower the k-core threshold, or take more data",
            )
        self.module: nn.Module = WindowLosses(model, self.windows)
        self.size = settings.batch_size
        self.validation = Validation(histories, count)
        self.queries = query_windows(histories, self.validation.queries, readable_length(model.encoder))

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor]:
        """Return the epoch's batches of window numbers, of similar length each."""
        return shuffled(self.windows.lengths, self.size, generator)

    def validate(self) -> dict[str, float]:
        """Return NDCG@10 and recall@10 over all validation queries; nothing where there are none."""
        if not len(self.validation.queries):
            return {}
        item_matrix = self.model.items()
        return self.validation.metrics(query_states(self.model.encoder, item_matrix, self.queries), item_matrix)


class Begun(NamedTuple):
    """A stage that trains one recommender, as far as all of them go the same way."""

    stage: str
    histories: Histories
    count: int  # core items
    seed: int
    threads: int
    device: torch.device


def begin(stage: str) -> Begun:
    """Read the split, seed the generators and choose the device: what comes before item vectors are made."""
    seed, threads = params.load_param("seed"), params.load_param("threads")
    return Begun(stage, load_histories_for_ranking(), core_count(), seed, threads, prepare_training(seed, threads))


def finish(
    begun: Begun, settings: SequenceParams, make_items: Callable[[], ItemEmbedding], described: dict[str, Any]
) -> None:
    """Train the recommender of `settings`, write it, and drop its checkpoints.

    With `settings.refit` a second, fresh fit follows, on training and validation events, for as many epochs as
    validation chose in the first one: it answers the test queries and encodes new histories.

    Args:
        begun: what `begin` returned; everything that training depends on has been read since.
        settings: of the sequence model.
        make_items: makes the item embedding module, drawn by the global generator.
        described: the stage's params, for the summary and the checkpoints' fingerprints.
    """
    facts: dict[str, object] = {"params": described, "seed": begun.seed}
    facts["exclude_history"] = begun.histories.exclude_history
    checkpoints: list[Checkpoint] = []

    def fresh(name: str, histories: Histories, stop_after: int | None = None) -> Trained:
        checkpoints.append(Checkpoint(name, facts | {"threads": begun.threads, "stop_after": stop_after}))
        prepare_training(begun.seed, begun.threads)
        return train(
            name,
            settings,
            make_items(),
            histories,
            begun.count,
            seed=begun.seed,
            device=begun.device,
            checkpoint=checkpoints[-1],
            stop_after=stop_after,
        )

    first, second = fresh(begun.stage, begun.histories), None
    if settings.refit:
        second = fresh(f"{begun.stage}-refit", begun.histories.before_test(), first.fitted.best_epoch + 1)
    name = begun.stage.partition("@")[2]
    write(name, first, begun.histories, second, threads=begun.threads, facts=facts)
    for checkpoint in checkpoints:
        checkpoint.discard()


class Trained(NamedTuple):
    """A trained recommender and how it came about."""

    model: SequenceModel
    fitted: FitResult
    windows: int  # training windows


def train(
    name: str,
    settings: SequenceParams,
    items: ItemEmbedding,
    histories: Histories,
    count: int,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    stop_after: int | None = None,
) -> Trained:
    """Train the recommender of `settings` with item embedding module `items` over `count` core items.

    `stop_after` is as in `training.loop.fit`. The caller has seeded the global generators (`training.device.prepare`)
    before it made `items`.
    """
    model = SequenceModel(settings, items, torch.from_numpy(histories.training_counts(count)))
    task = NextItemTask(model, histories, count)
    fitted = fit(name, task, settings.loop, seed=seed, device=device, checkpoint=checkpoint, stop_after=stop_after)
    return Trained(model, fitted, len(task.windows.lengths))


def write(
    name: str,
    trained: Trained,
    histories: Histories,
    refitted: Trained | None = None,
    *,
    threads: int,
    facts: dict[str, object],
) -> None:
    """Write factors, item vectors, weights, summary and curves of recommender `name`.

    Curves, summary and the item table are of the fit on training parts: what later stages choose on validation must
    not have seen it, and they may read the table as a modality. Weights are those of the refitted model, if there is
    one; factors are of both.

    Args:
        name: the recommender.
        trained: what was trained on training parts.
        histories: with the queries to be answered.
        refitted: what was trained on more, to answer test queries.
        threads: as used.
        facts: what else the summary is to say, params among it.
    """
    fitted, last = trained.fitted, refitted or trained
    first = answer(trained.model, histories)
    second = answer(last.model, histories) if refitted else first
    factored = by_part(histories.query_valid, first, second) if refitted else first
    FACTORS.write(factored.arrays(), refits.fact(bool(refitted)), model=name)
    assert first.matrix is not None and second.matrix is not None
    present = histories.training_counts(len(first.matrix)) > 0
    ITEM_TABLE.write({"values": first.matrix * present[:, None], "present": present}, {"encoder": name}, model=name)
    arrays = {"item_matrix": second.matrix, **weights_to_arrays(last.model.encoder, "encoder.")}
    if not isinstance(last.model.items, IdEmbedding):
        arrays |= weights_to_arrays(last.model.items, "items.")
    WEIGHTS.write(arrays, {"settings": last.model.settings.model_dump(mode="json")}, model=name)
    CURVES.write(fitted.curves, list(fitted.curves[0]) if fitted.curves else ["epoch"], model=name)
    summary: dict[str, object] = {
        "best_epoch": fitted.best_epoch + 1,
        "best_valid_ndcg_at_10": fitted.best_value,
        "device": str(next(last.model.parameters()).device.type),
        "epochs": len(fitted.curves),
        "items": len(first.matrix),
        "parameters": sum(parameter.numel() for parameter in last.model.parameters()),
        "steps": fitted.steps,
        "threads": threads,
        "users": histories.user_count,
        "windows": trained.windows,
    }
    if refitted:
        summary |= {"refit_epochs": len(refitted.fitted.curves)}
    SUMMARY.write(summary | facts, model=name)


def answer(model: SequenceModel, histories: Histories) -> Factored:
    """Return a query state for each query of `histories`, and the item rows."""
    model.eval()
    with torch.no_grad():
        matrix = model.items().detach().float()
    windows = query_windows(histories, np.arange(histories.query_count), readable_length(model.encoder))
    states = query_states(model.encoder, matrix, windows)
    return Factored(states.cpu().numpy(), matrix.cpu().numpy())
