"""Train a sequential recommender and write its artifacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sidflow.artifacts.catalog import core_count
from sidflow.artifacts.features import CONTENT_TABLE, ITEM_TABLE
from sidflow.artifacts.recommenders import CURVES, FACTORS, SUMMARY, WEIGHTS, ScoreFactors, refit_metadata
from sidflow.core import params
from sidflow.hybrid.prior import ScorePrior
from sidflow.hybrid.task import RankingTask, validation_choice
from sidflow.sequences.histories import Histories, load_histories_for_ranking, require_next_items
from sidflow.sequences.refit import Refitted, fit_and_refit
from sidflow.sequences.windows import query_windows, shuffled_batches, training_windows
from sidflow.sequential.model import IdEmbedding, ItemEmbedding, SequenceModel, WindowLosses
from sidflow.sequential.params import Bert4recParams, SequenceParams
from sidflow.sequential.serve import prior_to_arrays, query_states, readable_length
from sidflow.training.checkpoint import Checkpoint, weights_to_arrays
from sidflow.training.devices import prepare_training
from sidflow.training.loop import FitResult, fit

if TYPE_CHECKING:
    from jaxtyping import Float


PriorMaker = Callable[[Histories], ScorePrior]


class TrainingSetup(NamedTuple):
    """What every stage that trains a sequential recommender starts from."""

    stage: str
    histories: Histories
    count: int  # core items
    seed: int
    threads: int
    device: torch.device


def load_setup(stage: str) -> TrainingSetup:
    """Read the split, seed the generators and pick the device of `stage`; do this before item vectors are made."""
    seed, threads = params.load_seed(), params.load_threads()
    histories, device = load_histories_for_ranking(), prepare_training(seed, threads)
    return TrainingSetup(stage, histories, core_count(), seed, threads, device)


class Trained(NamedTuple):
    """A trained recommender, and how it was trained."""

    model: SequenceModel
    fitted: FitResult
    windows: int  # training windows
    prior: ScorePrior | None = None  # of a hybrid


def train_and_write(
    setup: TrainingSetup,
    settings: SequenceParams,
    make_items: Callable[[], ItemEmbedding],
    stage_params: dict[str, Any],
    make_prior: PriorMaker | None = None,
) -> None:
    """Train the recommender of `settings`, write its artifacts, and remove its checkpoints.

    With `settings.refit` a second, fresh fit follows, on training and validation events, for as many epochs as
    validation chose in the first one. It answers the test queries and encodes new histories. The second fit of a
    hybrid also takes over the weight of the base model that validation chose.

    Args:
        setup: of the stage; everything that training depends on has been read since.
        settings: of the sequence model.
        make_items: returns a fresh item embedding module, its weights sampled by the global generator.
        stage_params: for the summary and the checkpoints' fingerprints.
        make_prior: returns the score prior of a hybrid for the histories of a fit; None: no hybrid.
    """
    metadata: dict[str, object] = {"params": stage_params, "seed": setup.seed}
    metadata["exclude_history"] = setup.histories.exclude_history
    checkpoints: list[Checkpoint] = []

    def fit_once(histories: Histories, first: Trained | None) -> Trained:
        name, choice = setup.stage, None
        if first is not None:
            name, choice = f"{setup.stage}-refit", validation_choice(first.fitted, first.prior)
        checkpoints.append(Checkpoint(name, metadata | {"threads": setup.threads, "chosen": choice}))
        prepare_training(setup.seed, setup.threads)
        prior = make_prior(histories) if make_prior else None
        if choice is not None:
            choice.set_weight(prior)
        return train_recommender(
            name,
            settings,
            make_items(),
            histories,
            setup.count,
            prior,
            seed=setup.seed,
            device=setup.device,
            checkpoint=checkpoints[-1],
            stop_after=choice.epochs if choice else None,
        )

    refitted = fit_and_refit(
        setup.histories,
        settings.refit,
        fit_once,
        answer=lambda trained: answer_queries(trained.model, setup.histories, trained.prior),
        choose=lambda trained: trained,
    )
    name = setup.stage.partition("@")[2]
    write_recommender(name, refitted, setup.histories, threads=setup.threads, metadata=metadata)
    for checkpoint in checkpoints:
        checkpoint.discard()


class NextItemTask(RankingTask):
    """Train on windows of histories, validate by nDCG@10 of the validation queries."""

    def __init__(self, model: SequenceModel, histories: Histories, count: int, prior: ScorePrior | None = None) -> None:
        """Cut `histories` into windows for `model` over `count` items; with a `prior` it is the base of a hybrid.

        Raises:
            InputError: no user has two training items.
        """
        settings = model.settings
        bidirectional = isinstance(settings, Bert4recParams)
        longest, overlap = (settings.max_length, 0) if bidirectional else (settings.max_length + 1, 1)
        self.model = model
        self.windows = training_windows(histories, longest, overlap=overlap)
        require_next_items(len(self.windows.lengths))
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


def train_recommender(
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

    `stop_after` is as in `fit`. The caller has seeded the global generators (`prepare_training`)
    before it made `items`. With a `prior`, which starts from counts in `histories`, it is the base of a hybrid.
    """
    model = SequenceModel(settings, items, torch.from_numpy(histories.training_counts(count)))
    task = NextItemTask(model, histories, count, prior)
    fitted = fit(name, task, settings.loop, seed=seed, device=device, checkpoint=checkpoint, stop_after=stop_after)
    return Trained(model, fitted, len(task.windows.lengths), prior)


def answer_queries(model: SequenceModel, histories: Histories, prior: ScorePrior | None = None) -> ScoreFactors:
    """Return the two sides of the scores of all queries of `histories`, with a `prior` those of the hybrid."""
    model.eval()
    with torch.no_grad():
        matrix = model.items().detach().float()
    queries = np.arange(histories.query_count)
    states = query_states(model.encoder, matrix, query_windows(histories, queries, readable_length(model.encoder)))
    if prior is not None:
        return prior.factors(states, matrix, histories.query_slices(queries))
    return ScoreFactors(states.cpu().numpy(), matrix.cpu().numpy())


def write_recommender(
    name: str,
    refitted: Refitted[Trained, Trained],
    histories: Histories,
    *,
    threads: int,
    metadata: dict[str, object],
) -> None:
    """Write factors, item vectors, what content brings to them, weights, summary and curves of recommender `name`.

    Curves, summary and the two tables of item vectors are of the fit on training parts. Later stages choose on
    validation, which these tables must not have seen; they may read them as modalities. Weights are those of the last
    fit; factors are of both.

    Args:
        name: the recommender.
        refitted: one fit, or two.
        histories: the queries to be answered.
        threads: as used.
        metadata: further entries of the summary, params among them.
    """
    trained, last, is_refit = refitted.choice, refitted.model, refitted.model is not refitted.choice
    fitted, first, second = trained.fitted, refitted.first, refitted.last
    FACTORS.write(refitted.factored.arrays(), refit_metadata(is_refit), model=name)
    assert first.matrix is not None and second.matrix is not None
    present = histories.training_counts(len(first.matrix)) > 0
    base_columns = slice(trained.model.settings.dimensions)  # a hybrid has content rows to the right of them
    ITEM_TABLE.write(
        {"values": first.matrix[:, base_columns] * present[:, None], "present": present}, {"encoder": name}, model=name
    )
    if (content := trained.model.items.content()) is not None:
        values, with_content = (part.cpu().numpy() for part in content)
        CONTENT_TABLE.write({"values": values, "present": with_content}, {"encoder": name}, model=name)
    arrays = {
        "item_matrix": np.ascontiguousarray(second.matrix[:, base_columns]),
        **weights_to_arrays(last.model.encoder, "encoder."),
    }
    if not isinstance(last.model.items, IdEmbedding):
        arrays |= weights_to_arrays(last.model.items, "items.")
    weights_metadata: dict[str, object] = {"settings": last.model.settings.model_dump(mode="json")}
    if last.prior is not None:
        arrays |= prior_to_arrays(last.prior)
        weights_metadata |= {"hybrid": last.prior.params.model_dump(mode="json")}
    WEIGHTS.write(arrays, weights_metadata, model=name)
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
    if is_refit:
        summary |= {"refit_epochs": len(last.fitted.curves)}
    if last.prior is not None:
        summary |= {"prior": last.prior.learned_weights()}
    SUMMARY.write(summary | metadata, model=name)
