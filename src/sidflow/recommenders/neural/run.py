"""Train a sequential recommender and write what every recommender leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sidflow.contracts import params, refits
from sidflow.contracts.artifacts.embeddings import ITEM_TABLE
from sidflow.contracts.artifacts.factors import CURVES, FACTORS, SUMMARY, WEIGHTS
from sidflow.contracts.artifacts.items import core_count
from sidflow.contracts.errors import InputError
from sidflow.contracts.factored import Factored, by_part
from sidflow.contracts.histories import Histories, load_histories_for_ranking
from sidflow.hybrid.evidence import query_histories
from sidflow.hybrid.prior import ScorePrior
from sidflow.hybrid.task import RankingTask
from sidflow.recommenders.neural.encoding import query_states, readable_length, saved_prior
from sidflow.recommenders.neural.items import IdEmbedding, ItemEmbedding
from sidflow.recommenders.neural.model import SequenceModel, WindowLosses
from sidflow.recommenders.neural.params import Bert4recParams, SequenceParams
from sidflow.sequences.windows import query_windows, shuffled_batches, training_windows
from sidflow.training.checkpoint import Checkpoint
from sidflow.training.device import prepare_training
from sidflow.training.loop import FitResult, fit
from sidflow.training.weights import weights_to_arrays

if TYPE_CHECKING:
    from jaxtyping import Float

PriorMaker = Callable[[Histories], ScorePrior]


class NextItemTask(RankingTask):
    """Training windows in, NDCG@10 on the validation queries out."""

    def __init__(self, model: SequenceModel, histories: Histories, count: int, prior: ScorePrior | None = None) -> None:
        """Cut `histories` into windows for `model` over `count` items; with a `prior` it is the base of a hybrid.

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
        super().__init__(WindowLosses(model, self.windows), histories, count, prior)
        self.size = settings.batch_size
        self.queries = query_windows(histories, self.validation.queries, readable_length(model.encoder))

    def batches(self, epoch: int, generator: torch.Generator) -> Sequence[Tensor]:
        """Return the epoch's batches of window numbers, of similar length each."""
        return shuffled_batches(self.windows.lengths, self.size, generator)

    def validation_factors(self) -> tuple[Float[Tensor, "q d"], Float[Tensor, "n d"]]:
        """Return the states of the validation queries, and the item rows."""
        item_matrix = self.model.items()
        return query_states(self.model.encoder, item_matrix, self.queries), item_matrix


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
    begun: Begun,
    settings: SequenceParams,
    make_items: Callable[[], ItemEmbedding],
    described: dict[str, Any],
    make_prior: PriorMaker | None = None,
) -> None:
    """Train the recommender of `settings`, write it, and drop its checkpoints.

    With `settings.refit` a second, fresh fit follows, on training and validation events, for as many epochs as
    validation chose in the first one: it answers the test queries and encodes new histories. The second fit of a
    hybrid also takes over the weight of the base model that validation chose.

    Args:
        begun: what `begin` returned; everything that training depends on has been read since.
        settings: of the sequence model.
        make_items: makes the item embedding module, drawn by the global generator.
        described: the stage's params, for the summary and the checkpoints' fingerprints.
        make_prior: makes the score prior of a hybrid from the histories of a fit; None: no hybrid.
    """
    facts: dict[str, object] = {"params": described, "seed": begun.seed}
    facts["exclude_history"] = begun.histories.exclude_history
    checkpoints: list[Checkpoint] = []

    def fresh(
        name: str, histories: Histories, stop_after: int | None = None, own_weight: float | None = None
    ) -> Trained:
        chosen = {"threads": begun.threads, "stop_after": stop_after, "own_weight": own_weight}
        checkpoints.append(Checkpoint(name, facts | chosen))
        prepare_training(begun.seed, begun.threads)
        prior = make_prior(histories) if make_prior else None
        if prior is not None and own_weight is not None:
            prior.own.fill_(own_weight)
        return train(
            name,
            settings,
            make_items(),
            histories,
            begun.count,
            prior,
            seed=begun.seed,
            device=begun.device,
            checkpoint=checkpoints[-1],
            stop_after=stop_after,
        )

    first, second = fresh(begun.stage, begun.histories), None
    if settings.refit:
        own_weight = None if first.prior is None else first.prior.own.item()
        epochs = first.fitted.best_epoch + 1
        second = fresh(f"{begun.stage}-refit", begun.histories.before_test(), epochs, own_weight)
    name = begun.stage.partition("@")[2]
    write(name, first, begun.histories, second, threads=begun.threads, facts=facts)
    for checkpoint in checkpoints:
        checkpoint.discard()


class Trained(NamedTuple):
    """A trained recommender and how it came about."""

    model: SequenceModel
    fitted: FitResult
    windows: int  # training windows
    prior: ScorePrior | None = None  # of a hybrid


def train(
    name: str,
    settings: SequenceParams,
    items: ItemEmbedding,
    histories: Histories,
    count: int,
    prior: ScorePrior | None = None,
    *,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    stop_after: int | None = None,
) -> Trained:
    """Train the recommender of `settings` with item embedding module `items` over `count` core items.

    `stop_after` is as in `training.loop.fit`. The caller has seeded the global generators (`training.device.prepare`)
    before it made `items`. With a `prior`, which starts from counts in `histories`, it is the base of a hybrid.
    """
    model = SequenceModel(settings, items, torch.from_numpy(histories.training_counts(count)))
    task = NextItemTask(model, histories, count, prior)
    fitted = fit(name, task, settings.loop, seed=seed, device=device, checkpoint=checkpoint, stop_after=stop_after)
    return Trained(model, fitted, len(task.windows.lengths), prior)


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
    first = answer(trained.model, histories, trained.prior)
    second = answer(last.model, histories, last.prior) if refitted else first
    factored = by_part(histories.query_valid, first, second) if refitted else first
    FACTORS.write(factored.arrays(), refits.fact(bool(refitted)), model=name)
    assert first.matrix is not None and second.matrix is not None
    present = histories.training_counts(len(first.matrix)) > 0
    own = slice(trained.model.settings.dimensions)  # columns of the base model; a hybrid has content rows beside them
    ITEM_TABLE.write(
        {"values": first.matrix[:, own] * present[:, None], "present": present}, {"encoder": name}, model=name
    )
    arrays = {
        "item_matrix": np.ascontiguousarray(second.matrix[:, own]),
        **weights_to_arrays(last.model.encoder, "encoder."),
    }
    if not isinstance(last.model.items, IdEmbedding):
        arrays |= weights_to_arrays(last.model.items, "items.")
    metadata: dict[str, object] = {"settings": last.model.settings.model_dump(mode="json")}
    if last.prior is not None:
        arrays |= saved_prior(last.prior)
        metadata |= {"hybrid": last.prior.params.model_dump(mode="json")}
    WEIGHTS.write(arrays, metadata, model=name)
    CURVES.write(fitted.curves, list(fitted.curves[0]) if fitted.curves else ["epoch"], model=name)
    modules = [last.model] if last.prior is None else [last.model, last.prior]
    summary: dict[str, object] = {
        "best_epoch": fitted.best_epoch + 1,
        "best_valid_ndcg_at_10": fitted.best_value,
        "device": str(next(last.model.parameters()).device.type),
        "epochs": len(fitted.curves),
        "items": len(first.matrix),
        "parameters": sum(parameter.numel() for module in modules for parameter in module.parameters()),
        "steps": fitted.steps,
        "threads": threads,
        "users": histories.user_count,
        "windows": trained.windows,
    }
    if refitted:
        summary |= {"refit_epochs": len(refitted.fitted.curves)}
    if last.prior is not None:
        summary |= {"prior": last.prior.learned_weights()}
    SUMMARY.write(summary | facts, model=name)


def answer(model: SequenceModel, histories: Histories, prior: ScorePrior | None = None) -> Factored:
    """Return the two sides of the scores of all queries of `histories`, with a `prior` those of the hybrid."""
    model.eval()
    with torch.no_grad():
        matrix = model.items().detach().float()
    queries = np.arange(histories.query_count)
    states = query_states(model.encoder, matrix, query_windows(histories, queries, readable_length(model.encoder)))
    if prior is not None:
        return prior.factors(states, matrix, query_histories(histories, queries))
    return Factored(states.cpu().numpy(), matrix.cpu().numpy())
