"""Requests of a prompted model in batches of like shape and length; too little memory halves them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, TypeVar

import torch

from sidflow.core.errors import InputError
from sidflow.models.inputs import Inputs, batch_shape, collate

BATCH_REQUESTS = 64
BATCH_BYTES = {"cpu": 2 << 30, "cuda": 16 << 30}  # of keys and values, padding and answers included
Keyed = tuple[str, Inputs]  # the key of a request, and what the model reads
Result = TypeVar("Result")


class Batches:
    """Runs requests in batches, and remembers how large one may be."""

    def __init__(
        self,
        device: torch.device,
        answer_tokens: int,
        token_bytes: int,
        error: Callable[[str, str, str], InputError],
    ) -> None:
        """Begin with the largest batch.

        Args:
            device: where the model runs.
            answer_tokens: that each request may get besides its own.
            token_bytes: of the keys and values of a token.
            error: makes an error of what was expected, what was there and the remedy.
        """
        self._device, self._answer_tokens, self._error = device, answer_tokens, error
        self._most_tokens = BATCH_BYTES[device.type] // token_bytes
        self._largest = BATCH_REQUESTS

    def results(self, requests: list[Keyed], run: Callable[[list[Keyed]], Result]) -> Iterator[Result]:
        """Yield what `run` makes of each batch; the requests of one shape go together, the shortest first.

        Raises:
            InputError: memory does not suffice for one request, or the model does not take its inputs.
        """
        ordered = sorted(requests, key=lambda one: (repr(batch_shape(one[1])), one[1]["input_ids"].shape[1], one[0]))
        for _, group in groupby(ordered, key=lambda one: batch_shape(one[1])):
            waiting = list(group)
            while waiting:
                count = self._count(waiting)
                result = self._run_or_none(run, waiting[:count])
                if result is None:  # out of memory; its tensors are free by now
                    self._halve(count)
                    continue
                del waiting[:count]
                yield result

    def _count(self, waiting: list[Keyed]) -> int:
        """Return how many of the first requests, sorted by length, make a batch."""
        count = 1
        while count < min(len(waiting), self._largest):
            tokens = waiting[count][1]["input_ids"].shape[1] + self._answer_tokens
            if (count + 1) * tokens > self._most_tokens:
                break
            count += 1
        return count

    def _halve(self, count: int) -> None:
        if count == 1:
            raise self._error("memory for one request", "less", "shrink pictures and words, or take a smaller model")
        self._largest = count // 2
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _run_or_none(self, run: Callable[[list[Keyed]], Result], batch: list[Keyed]) -> Result | None:
        try:
            return run(batch)
        except torch.OutOfMemoryError:
            return None
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            message = str(error)
            if isinstance(error, RuntimeError) and ("can't allocate" in message or "not enough memory" in message):
                return None
            raise self._error(
                "a model that runs on its own processor's inputs",
                f"{type(error).__name__}: {' '.join(message.split())[:200]}",
                "check the folder's processor files against the model's, or use another model",
            ) from error


def on_device(batch: list[Keyed], network: Any, pad: int, device: torch.device) -> Inputs:
    """Return a batch as the network's inputs on `device`, padded with `pad` on the left."""
    return {
        name: value.to(device, network.dtype) if value.is_floating_point() else value.to(device)
        for name, value in collate([inputs for _, inputs in batch], pad).items()
    }
