"""What the quantizer's benchmarks share: a finished run's modalities, one training, its audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from finished_run import enter_run

from sidflow.artifacts.features import MODALITY
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.assign import assign_ids
from sidflow.semantic_ids.codec import Codec
from sidflow.semantic_ids.fit import TrainedQuantizer, train_quantizer
from sidflow.semantic_ids.inputs import ModalityVectors, normalise
from sidflow.semantic_ids.params import QuantizeParams
from sidflow.semantic_ids.quality import TauQueries, modality_metrics, validation_tau_queries
from sidflow.sequences.histories import load_histories
from sidflow.training.devices import prepare_training

ORDER = ("collaborative", "text", "image")


class Run(NamedTuple):
    """A finished run: what there is to quantize, and what tau is measured over."""

    name: str
    modalities: dict[str, ModalityVectors]
    tau_queries: TauQueries


def load(argument: str, names: list[str] | None = None) -> Run:
    """Read NAME=FOLDER, the folder of a project in which `dvc repro modality` has run."""
    with enter_run(argument) as name:
        metrics = {path.stem for path in Path(MODALITY.path).parent.glob("*.safetensors")}
        modalities = {}
        for one in [one for one in ORDER if one in metrics and (names is None or one in names)]:
            arrays = MODALITY.read(name=one).arrays
            if arrays["present"].any():
                modalities[one] = ModalityVectors(arrays["values"], arrays["present"])
        return Run(name, modalities, validation_tau_queries(load_histories()))


def concatenate(modalities: dict[str, ModalityVectors]) -> dict[str, ModalityVectors]:
    """Return one modality of all: rows normalised each, zero where an item lacks one, side by side."""
    values = np.concatenate([normalise(one).values for one in modalities.values()], axis=1)
    return {"concatenated": ModalityVectors(values, np.any([one.present for one in modalities.values()], axis=0))}


def train(
    modalities: dict[str, ModalityVectors], overrides: dict[str, Any], seed: int, threads: int = 1
) -> TrainedQuantizer:
    return train_quantizer(modalities, QuantizeParams.model_validate(overrides), seed, prepare_training(seed, threads))


def audit(
    result: TrainedQuantizer, modalities: dict[str, ModalityVectors], tau_queries: TauQueries | None
) -> dict[str, dict[str, float]]:
    """Return the stage's own figures, by modality, with the modality's name taken out of theirs."""
    figures = {}
    for name, one in modalities.items():
        codec = Codec(Tensors(result.arrays, result.metadata), name)
        rows = codec.quantized_part(one.values)
        assigned = assign_ids(codec, rows, one.present)
        metrics = modality_metrics(name, codec, assigned, rows, tau_queries)
        figures[name] = {key.replace(f"_{name}", ""): value for key, value in metrics.items()}
    return figures
