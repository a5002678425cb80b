"""What encoders by trained models share: where a model lies, how it is loaded and recorded, and its rows' scale."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PretrainedConfig, PreTrainedModel

from sidflow.core.devices import pick_device
from sidflow.core.errors import InputError
from sidflow.features.params import ModelEncoder
from sidflow.models.files import file_hashes, model_folder, origin, require_model_files
from sidflow.models.loading import load_pretrained, untrained

THREADS = 1  # of torch in each worker: bits that depend on no setting
Batch = TypeVar("Batch")
Result = TypeVar("Result")
OPTIONS: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}  # of everything that is read


class ModelFolder:
    """The folder of an encoder's model; weights are not read yet."""

    def __init__(self, params: ModelEncoder, name: str, seed: int, further: tuple[str, str], remedy: str) -> None:
        """Locate the model and check that its files are there.

        Args:
            params: of the encoder.
            name: of the encoder.
            seed: of random weights, where params ask for them.
            further: a file beside config and weights, in words, and how its name begins.
            remedy: of the message.

        Raises:
            InputError: the model is not here, or a file is missing.
        """
        self.slot = f"embed.encoders.{name}.model"
        self.folder = model_folder(params.model, self.slot)
        files = file_hashes(self.folder)
        require_model_files(self.folder, files, remedy, *further)
        self._model, self._seed, self._remedy = params.model, seed, remedy
        self.device = pick_device()
        self._digest = hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
        pretrained = params.model.weights == "pretrained"
        self.record = {"trained_weights": pretrained, "model": origin(params.model) | {"files": files}}

    def base_recipe(self) -> dict[str, object]:
        """Return what a vector of this model depends on, whatever is encoded."""
        weights = "pretrained" if self._model.weights == "pretrained" else f"random, seed {self._seed}"
        return {
            "files": self._digest,
            "weights": weights,
            "torch": torch.__version__,
            "device": self.device.type,
        }

    def load(self, auto: Any, config: PretrainedConfig, unused: str = "") -> PreTrainedModel:
        """Return the model in fp32, or one of its shape with random weights, frozen.

        Raises:
            InputError: a weight is missing.
        """
        if self._model.weights == "random":
            model = untrained(auto, config, self._seed, dtype=torch.float32)
        else:
            model = load_pretrained(auto, self.folder, config, self._remedy, unused=unused, dtype=torch.float32)
        model.requires_grad_(False).eval()
        torch.nn.Module.to(model, self.device)
        return model


@contextmanager
def one_thread() -> Iterator[int]:
    """Run torch on one thread; yield how many it had."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def by_workers(
    run: Callable[[Batch], Result], batches: Iterable[Batch], workers: int
) -> Iterator[tuple[Batch, Result]]:
    """Yield each batch with what `run` makes of it, in order; `workers` batches run at a time, each on one thread.

    Two batches on one thread each take less time than one after the other on two threads, and have the bits of one
    thread.
    """
    waiting: deque[tuple[Batch, Future[Result]]] = deque()
    left = iter(batches)
    with ThreadPoolExecutor(workers, "encode", torch.set_num_threads, (THREADS,)) as pool:
        try:
            waiting.extend((batch, pool.submit(run, batch)) for batch in islice(left, 2 * workers))
            while waiting:
                batch, future = waiting.popleft()
                result = future.result()
                waiting.extend((later, pool.submit(run, later)) for later in islice(left, 1))
                yield batch, result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def rows_of_unit_length(values: np.ndarray, present: np.ndarray, centre: bool, folder: Path) -> np.ndarray:
    """Return the present rows at length 1, float32, those of `values` [n, d] in float64; absent rows are zero.

    Args:
        values: vectors of a model.
        present: which rows are there.
        centre: whether the mean of the present rows is subtracted first.
        folder: of the model, for the message.

    Raises:
        InputError: a vector is not finite.
    """
    rows = values[present]
    if not np.isfinite(rows).all():
        raise InputError(
            str(folder), expected="finite vectors", found="NaN or infinity", remedy="use another model for this encoder"
        )
    if centre and len(rows):
        rows = rows - rows.mean(axis=0)
    scaled = np.zeros(values.shape, dtype=np.float32)
    scaled[present] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled
