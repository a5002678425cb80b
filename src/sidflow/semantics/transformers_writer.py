"""A writer that runs a model of transformers on this machine: image-text-to-text, or text alone.

Requests are sorted by picture size and length and generated in batches, padded on the left. Each batch's responses are
handed over, and so kept, at once. No code of a model's folder runs, and its weights are safetensors.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import io
import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
)

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.core.stage import print_progress
from sidflow.models.files import file_hashes, model_folder, require_model_files
from sidflow.models.loading import load_errors_as_input_errors, load_pretrained, untrained, without_library_output
from sidflow.models.params import ModelParams
from sidflow.semantics.params import TransformersParams
from sidflow.semantics.requests import Request
from sidflow.semantics.store import Response
from sidflow.semantics.transformers_inputs import Encoder, Inputs, batch_shape, collate
from sidflow.semantics.writers import Writer

SLOT = "describe.writer.model"
EXPECTED = "an image-text-to-text or causal language model that transformers reads"
REMEDY = "name a folder as transformers saves it, with safetensors weights and a tokenizer"
WINDOW = 128  # requests whose pictures are in memory at a time
BATCH_REQUESTS = 64
BATCH_TOKENS = {"cpu": 8192, "cuda": 65_536}  # of prompts, padded, and answers


class TransformersWriter(Writer):
    """Generates the answers here; the model is loaded when the first is asked for."""

    def __init__(self, params: TransformersParams, runtime: Runtime) -> None:
        """Locate the model and read its config.

        Raises:
            InputError: the model is not here, is of another kind, or the device is not.
        """
        self._params, self._device = params, _device(runtime)
        self._folder = model_folder(params.model, SLOT)
        files = file_hashes(self._folder)
        require_model_files(self._folder, files, REMEDY)
        self.model, self.revision = _name_and_revision(params.model, self._folder, files)
        with load_errors_as_input_errors(self._folder, EXPECTED, REMEDY), without_library_output():
            self._config = AutoConfig.from_pretrained(self._folder, trust_remote_code=False, local_files_only=True)
        self._sees = type(self._config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        if not self._sees and type(self._config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            found = f"a model of type {self._config.model_type}"
            raise InputError(str(self._folder), expected=EXPECTED, found=found, remedy=REMEDY)
        self._largest_batch = BATCH_REQUESTS  # requests; halved where memory does not suffice
        self._network: Any = None
        self._encoder: Encoder | None = None
        self._answered = self._tokens = 0

    def respond(self, requests: Mapping[str, Request]) -> Iterator[list[Response]]:
        """Yield the responses of each batch.

        Raises:
            InputError: a request has a picture and the model takes none, the model cannot be loaded, or memory does
                not suffice for one request.
        """
        if not requests:
            return
        with_pictures = [request for request in requests.values() if request.picture is not None]
        if with_pictures and not self._sees:
            raise InputError(
                f"params.yaml:{SLOT}",
                expected=f"a model that sees, for the {with_pictures[0].view} view",
                found=f"{self.model}, a {self._config.model_type} that reads text alone",
                count=len(with_pictures),
                example=f"item {with_pictures[0].item_id}",
                remedy="name an image-text-to-text model, or take the views image and joint out of describe.views",
            )
        encoder = self._loaded_encoder()
        ordered = sorted(requests.items(), key=lambda entry: (*_picture_size(entry[1]), len(entry[1].prompt), entry[0]))
        for start in range(0, len(ordered), WINDOW):
            encoded: list[tuple[str, Inputs]] = []
            rejected: list[Response] = []
            for key, request in ordered[start : start + WINDOW]:
                with load_errors_as_input_errors(self._folder, "a processor that takes the request", REMEDY):
                    inputs = encoder.encode(request, self._params.picture_side)
                message = self._too_long(inputs)
                if message:
                    rejected.append(Response(key, message, "rejected", 0, 0, f"{self.model}@{self.revision}"))
                else:
                    encoded.append((key, inputs))
            if rejected:
                yield rejected
            encoded.sort(key=lambda entry: (repr(batch_shape(entry[1])), entry[1]["input_ids"].shape[1], entry[0]))
            for _, group in groupby(encoded, key=lambda entry: batch_shape(entry[1])):
                yield from self._group_responses(list(group))

    def _group_responses(self, waiting: list[tuple[str, Inputs]]) -> Iterator[list[Response]]:
        """Yield the responses to requests of one batch shape, the shortest first."""
        while waiting:
            count = self._batch_count(waiting)
            responses = self._generate_or_none(waiting[:count])
            if responses is None:  # out of memory; its tensors are free by now
                if count == 1:
                    raise InputError(
                        f"{self.model} on {self._device.type}",
                        expected="memory for one request",
                        found="less",
                        remedy="set describe.writer.picture_side or max_characters lower, or take a smaller model",
                    )
                self._largest_batch = count // 2
                gc.collect()
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            del waiting[:count]
            self._answered += len(responses)
            self._tokens += sum(response.input_tokens + response.output_tokens for response in responses)
            yield responses

    def _batch_count(self, waiting: list[tuple[str, Inputs]]) -> int:
        """Return how many of the first requests, sorted by length, make a batch."""
        count = 1
        while count < min(len(waiting), self._largest_batch):
            tokens = waiting[count][1]["input_ids"].shape[1] + self._params.max_tokens
            if (count + 1) * tokens > BATCH_TOKENS[self._device.type]:
                break
            count += 1
        return count

    def _generate_or_none(self, batch: list[tuple[str, Inputs]]) -> list[Response] | None:
        try:
            return self._generate(batch)
        except torch.OutOfMemoryError:
            return None
        except RuntimeError as error:
            if "can't allocate memory" in str(error) or "not enough memory" in str(error):
                return None
            raise self._generation_error(error) from error
        except (ValueError, IndexError, TypeError) as error:
            raise self._generation_error(error) from error

    def _generation_error(self, error: Exception) -> InputError:
        return InputError(
            str(self._folder),
            expected="a model that generates from its own processor's inputs",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            remedy="check the folder's processor files against the model's, or use another model",
        )

    @torch.inference_mode()
    def _generate(self, batch: list[tuple[str, Inputs]]) -> list[Response]:
        assert self._encoder is not None
        settings = self._network.generation_config
        inputs = {
            name: value.to(self._device, self._network.dtype) if value.is_floating_point() else value.to(self._device)
            for name, value in collate([inputs for _, inputs in batch], settings.pad_token_id).items()
        }
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), without_library_output():
            torch.manual_seed(int(batch[0][0][:15], 16))  # for a temperature above 0
            tokens = self._network.generate(**inputs)[:, inputs["input_ids"].shape[1] :].cpu()
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

    def _too_long(self, inputs: Inputs) -> str:
        """Return why the model cannot read so long a request, or nothing."""
        limit = getattr(self._config.get_text_config(), "max_position_embeddings", None)
        tokens = inputs["input_ids"].shape[1] + self._params.max_tokens
        if limit is None or tokens <= limit:
            return ""
        return f"prompt and answer may take {tokens} tokens, the model has {limit}"

    def _loaded_encoder(self) -> Encoder:
        """Return the encoder; the first call loads the model."""
        if self._encoder is None:
            auto = AutoModelForImageTextToText if self._sees else AutoModelForCausalLM
            dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
            with load_errors_as_input_errors(self._folder, EXPECTED, REMEDY), without_library_output():
                if self._params.model.weights == "random":
                    network: Any = untrained(auto, self._config, 0, dtype=dtype)
                else:
                    network = load_pretrained(auto, self._folder, self._config, REMEDY, dtype=dtype)
                parameters = frozenset(inspect.signature(network.forward).parameters)
                self._encoder = Encoder(self._folder, self._config, parameters, self._sees)
                network.generation_config = self._decoding(network, self._encoder)
                self._network = network.eval().to(self._device)
        return self._encoder

    def _decoding(self, network: Any, encoder: Encoder) -> GenerationConfig:
        """Return how answers are decoded: by params alone; the model says only which tokens end one."""
        ends = {encoder.tokenizer.eos_token_id}
        for config in (network.generation_config, self._config, self._config.get_text_config()):
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


def _device(runtime: Runtime) -> torch.device:
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "runtime.yaml:device", expected="a CUDA device", found="none that torch can use", remedy="set it to auto"
        )
    return torch.device("cuda" if runtime.device != "cpu" and torch.cuda.is_available() else "cpu")


def _name_and_revision(model: ModelParams, folder: Path, files: Mapping[str, str]) -> tuple[str, str]:
    """Return the model and the revision of a response's key."""
    if model.kind == "hub":
        name, revision = model.repo, model.commit
    elif model.kind == "package":
        name, revision = model.package, _digest(model.sha256)
    else:
        name, revision = folder.resolve().name, _digest(files)  # template and processor move answers too
    return name, revision if model.weights == "pretrained" else f"{revision}, random weights"


def _digest(hashes: Mapping[str, str]) -> str:
    """Return the only hash, or that of all."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256(json.dumps(sorted(hashes.items())).encode()).hexdigest()


def _picture_size(request: Request) -> tuple[int, int]:
    if request.picture is None:
        return (0, 0)
    with Image.open(io.BytesIO(request.picture), formats=["JPEG"]) as opened:
        return opened.size
