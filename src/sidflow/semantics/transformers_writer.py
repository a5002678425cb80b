"""A writer that runs a model of transformers on this machine: image-text-to-text, or text alone.

Requests are sorted by picture size and length and generated in batches, padded on the left. A model of text reads once
what all prompts of a batch begin with, and rows that have ended leave the batch. Each batch's responses are handed
over, and so kept, at once. No code of a model's folder runs, and its weights are safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import GenerationConfig

from sidflow.core.devices import pick_device
from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.core.stage import print_progress
from sidflow.models.batching import Batches, Keyed, on_device
from sidflow.models.inputs import ModelInputs
from sidflow.models.loading import load_errors_as_input_errors, without_library_output
from sidflow.models.prefix import batch_inputs
from sidflow.models.prompted import REMEDY, load_prompted, prompted_model
from sidflow.models.rounds import generated_tokens
from sidflow.models.shrink import picture_size
from sidflow.semantics.params import TransformersParams
from sidflow.semantics.requests import Request
from sidflow.semantics.store import REJECTED, Response
from sidflow.semantics.writers import Writer, require_sight

SLOT = "describe.writer.model"
WINDOW = 128  # requests whose pictures are in memory at a time


class TransformersWriter(Writer):
    """Generates the answers here; the model is loaded when the first is asked for."""

    def __init__(self, params: TransformersParams, runtime: Runtime) -> None:
        """Locate the model and read its config.

        Raises:
            InputError: the model is not here, is of another kind, or the device is not.
        """
        self._params, self._device = params, pick_device(runtime)
        self._model = prompted_model(params.model, SLOT)
        self.model, self.revision = self._model.name, self._model.revision
        self._batches = Batches(self._device, params.max_tokens, self._model.token_bytes, self._error)
        self._network: Any = None
        self._encoder: ModelInputs | None = None
        self._answered = self._tokens = 0

    def respond(self, requests: Mapping[str, Request]) -> Iterator[list[Response]]:
        """Yield the responses of each batch.

        Raises:
            InputError: a request has a picture and the model takes none, the model cannot be loaded, memory does not
                suffice for one request, or a budget is spent.
        """
        if not requests:
            return
        if not self._model.sees:
            require_sight(requests, f"{self.model}, a {self._model.config.model_type} that reads text alone")
        encoder = self._loaded_encoder()
        ordered = sorted(
            requests.items(), key=lambda entry: (*picture_size(entry[1].picture), len(entry[1].prompt), entry[0])
        )
        for start in range(0, len(ordered), WINDOW):
            encoded: list[Keyed] = []
            rejected: list[Response] = []
            for key, request in ordered[start : start + WINDOW]:
                with load_errors_as_input_errors(self._model.folder, "a processor that takes the request", REMEDY):
                    inputs = encoder.encode(request.prompt, request.picture, self._params.picture_side)
                message = self._too_long(inputs["input_ids"].shape[1])
                if message:
                    rejected.append(Response(key, message, REJECTED, 0, 0, f"{self.model}@{self.revision}"))
                else:
                    encoded.append((key, inputs))
            if rejected:
                yield rejected
            for responses in self._batches.results(encoded, self._generate):
                self._answered += len(responses)
                self._tokens += sum(response.input_tokens + response.output_tokens for response in responses)
                self.count(responses)
                yield responses
                if (spent := self.spent_budget()) is not None:
                    raise spent

    def _error(self, expected: str, found: str, remedy: str) -> InputError:
        return InputError(f"{self._model.folder} on {self._device.type}", expected=expected, found=found, remedy=remedy)

    @torch.inference_mode()
    def _generate(self, batch: list[Keyed]) -> list[Response]:
        assert self._encoder is not None
        settings = self._network.generation_config
        shaped = (batch, self._network, settings.pad_token_id, self._device)
        inputs = on_device(*shaped) if self._model.sees else batch_inputs(*shaped, settings.max_new_tokens)
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), without_library_output():
            torch.manual_seed(int(batch[0][0][:15], 16))  # for a temperature above 0
            tokens = generated_tokens(self._network, inputs)
        responses = []
        for (key, own), row in zip(batch, tokens, strict=True):
            ends = torch.isin(row, torch.tensor(settings.eos_token_id)).nonzero()
            length = int(ends[0]) + 1 if len(ends) else len(row)
            responses.append(
                Response(
                    key=key,
                    text=str(self._encoder.tokenizer.decode(row[:length], skip_special_tokens=True)),
                    finish_reason="stop" if len(ends) else "length",
                    input_tokens=own["input_ids"].shape[1],
                    output_tokens=length,
                    model=f"{self.model}@{self.revision}",
                )
            )
        return responses

    def _too_long(self, tokens: int) -> str:
        """Return why the model cannot read so long a request, or nothing."""
        tokens, limit = tokens + self._params.max_tokens, self._model.context
        if limit is None or tokens <= limit:
            return ""
        return f"prompt and answer may take {tokens} tokens, the model has {limit}"

    def _loaded_encoder(self) -> ModelInputs:
        """Return the encoder; the first call loads the model."""
        if self._encoder is None:
            self._network, self._encoder = load_prompted(self._model, self._device, self._params.dtype)
            self._network.generation_config = self._decoding(self._network, self._encoder)
        return self._encoder

    def _decoding(self, network: Any, encoder: ModelInputs) -> GenerationConfig:
        """Return how answers are decoded: by params alone; the model says only which tokens end one."""
        ends = {encoder.tokenizer.eos_token_id}
        for config in (network.generation_config, self._model.config, self._model.config.get_text_config()):
            end = getattr(config, "eos_token_id", None)
            ends |= set(end) if isinstance(end, list | tuple) else {end}
        ends_sorted = sorted(end for end in ends if end is not None)
        pad = encoder.tokenizer.pad_token_id
        sampled = {"do_sample": True, "temperature": self._params.temperature, "top_k": 0, "top_p": 1.0}
        return GenerationConfig(
            max_new_tokens=self._params.max_tokens,
            eos_token_id=ends_sorted or [-1],
            pad_token_id=pad if pad is not None else (ends_sorted or [0])[0],
            **(sampled if self._params.temperature > 0 else {"do_sample": False}),
        )

    def close(self) -> None:
        """Free the model, and print what this run generated."""
        self._network = self._encoder = None
        if self._answered:
            print_progress(f"{self._answered} answers of {self.model}, {self._tokens} tokens")
