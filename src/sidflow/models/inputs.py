"""What a model of transformers reads: a question and a picture as tensors, and several of them as one batch.

Most families bring a processor. Where it asks for a library that is not here (Qwen's needs torchvision for videos),
the image processor and the tokenizer are used by themselves, and the picture's tokens are written by hand.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, PretrainedConfig

from sidflow.core.errors import InputError
from sidflow.models.shrink import shrunk_jpeg

BY_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")  # [1, t]; padded on the left
Inputs = dict[str, Tensor]


class ModelInputs:
    """Turns prompts and pictures into the inputs of one model."""

    def __init__(self, folder: Path, config: PretrainedConfig, parameters: frozenset[str], sees: bool) -> None:
        """Read the processor, or the tokenizer alone where the model sees no pictures.

        Args:
            folder: of the model.
            config: of the model.
            parameters: names of what the model's `forward` takes.
            sees: whether the model takes pictures.

        Raises:
            InputError: neither the processor nor its parts can be used, or no chat template is the default one.
        """
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        self._config, self._parameters = config, parameters
        self._processor: Any = None
        self._pictures: Any = None  # the image processor, where there is no processor
        if sees:
            self._read_processor(folder, options)
        templates = getattr(self._processor, "chat_template", None) or self.tokenizer.chat_template
        self._template = _default_template(templates, folder)
        token_id = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
        self._image_token_id = token_id
        token = self.tokenizer.convert_ids_to_tokens(token_id) if token_id is not None else None
        self._image_token = getattr(self._processor, "image_token", None) or token or "<image>"
        self._written_token = getattr(self._processor, "boi_token", None) or self._image_token
        added = [str(token) for token in self.tokenizer.get_added_vocab()]
        special = {*self.tokenizer.all_special_tokens, *added, str(self._image_token), str(self._written_token)}
        self._special = sorted((token for token in special if len(token) > 1 and token.strip()), key=len, reverse=True)

    def _read_processor(self, folder: Path, options: dict[str, Any]) -> None:
        processor: Any
        try:
            processor = AutoProcessor.from_pretrained(folder, **options)
            if not hasattr(processor, "image_processor"):
                raise ValueError("a processor without pictures")
        except Exception as error:
            self._pictures = AutoImageProcessor.from_pretrained(folder, **options)
            if self._config.model_type in ("smolvlm", "idefics3"):
                from transformers import Idefics3Processor

                side = self._config.vision_config.image_size // self._config.vision_config.patch_size
                processor = Idefics3Processor(
                    self._pictures,
                    self.tokenizer,
                    image_seq_len=side**2 // self._config.scale_factor**2,
                    chat_template=self.tokenizer.chat_template,
                )
            elif hasattr(self._pictures, "merge_size"):
                return
            else:
                raise InputError(
                    str(folder),
                    expected="a processor that transformers reads on this machine",
                    found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
                    remedy="install what it names, or use another model",
                ) from error
        vision = getattr(self._config, "vision_config", None)
        if getattr(processor, "patch_size", 0) is None and vision is not None:  # old LLaVA repositories leave it out
            processor.patch_size = vision.patch_size
            strategy = getattr(self._config, "vision_feature_select_strategy", "default")
            processor.vision_feature_select_strategy = strategy
        self._processor, self.tokenizer = processor, processor.tokenizer

    def encode(self, prompt: str, jpeg: bytes | None, side: int) -> Inputs:
        """Return the inputs of one request: [1, t] of tokens, and what the family makes of a picture.

        Args:
            prompt: what is asked.
            jpeg: the picture that it is asked about, or none.
            side: pixels; a larger picture is shrunk to this longer side.
        """
        picture = None
        if jpeg is not None:
            with Image.open(io.BytesIO(shrunk_jpeg(jpeg, side)), formats=["JPEG"]) as opened:
                picture = opened.convert("RGB")
        text, templated = self._conversation(self._without_special_tokens(prompt), picture is not None)
        start = self.tokenizer.bos_token
        options = {"add_special_tokens": not templated and not (start and text.startswith(start))}
        if self._processor is not None and templated:  # as transformers does: a template may leave out the first token
            options["add_special_tokens"] = not (start and text.startswith(start))
        if self._processor is not None:
            encoded = self._processor(
                text=[text], images=None if picture is None else [picture], return_tensors="pt", **options
            )
        else:
            encoded = self._by_hand(text, picture, options)
        inputs = {name: value for name, value in encoded.items() if isinstance(value, Tensor)}
        return {name: value for name, value in inputs.items() if name in self._parameters or name in BY_TOKEN[:2]}

    def _by_hand(self, text: str, picture: Image.Image | None, options: dict[str, bool]) -> dict[str, Tensor]:
        """Return the inputs without a processor; a picture takes t * h * w / merge_size^2 tokens."""
        pixels: dict[str, Tensor] = {}
        if picture is not None:
            pixels = dict(self._pictures(images=[picture], return_tensors="pt"))
            count = int(pixels["image_grid_thw"].prod()) // self._pictures.merge_size**2
            text = text.replace(self._image_token, self._image_token * count, 1)
        encoded = self.tokenizer([text], return_tensors="pt", **options)
        ids = encoded["input_ids"]
        inputs: dict[str, Tensor] = {"input_ids": ids, "attention_mask": encoded["attention_mask"]} | pixels
        if self._image_token_id is not None:
            inputs["mm_token_type_ids"] = (ids == self._image_token_id).int()
        return inputs

    def _conversation(self, prompt: str, with_picture: bool) -> tuple[str, bool]:
        """Return the text that asks `prompt`, and whether the model's chat template wrote it."""
        if self._template is None:
            return (f"{self._written_token}\n{prompt}\n" if with_picture else f"{prompt}\n"), False
        content: Any = prompt
        if self._processor is not None or self._pictures is not None:
            content = [{"type": "image"}] * with_picture + [{"type": "text", "text": prompt}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self._template,
            tokenize=False,
            add_generation_prompt=True,
        )
        return str(text), True

    def _without_special_tokens(self, prompt: str) -> str:
        """Return `prompt` where an item's words cannot end the question or stand for a picture."""
        for token in self._special:
            if token in prompt:
                prompt = prompt.replace(token, f"{token[0]} {token[1:]}")
        return prompt


def _default_template(templates: str | Mapping[str, str] | None, folder: Path) -> str | None:
    """Return the chat template of a model: its only one, or of several the one named `default`; None without any.

    Raises:
        InputError: there are several, none of which is the default one.
    """
    if not templates:
        return None
    if isinstance(templates, str):
        return templates
    if "default" not in templates:
        raise InputError(
            str(folder),
            expected="one chat template, or several with one that is named `default`",
            found=f"templates named {', '.join(sorted(templates))}",
            remedy="save the one to use as chat_template.jinja in a copy of the folder",
        )
    return templates["default"]


def batch_shape(inputs: Inputs) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return what inputs have to share to stand in one batch: the shapes of what a picture became."""
    return tuple(
        (name, tuple(value.shape[1:]) if name != "image_grid_thw" else ())
        for name, value in sorted(inputs.items())
        if name not in BY_TOKEN
    )


def collate(batch: Sequence[Inputs], pad: int) -> Inputs:
    """Return inputs of the same `batch_shape` as one batch: tokens padded on the left, pictures one after another.

    Args:
        batch: inputs of single requests.
        pad: id of the token that pads.
    """
    longest = max(inputs["input_ids"].shape[1] for inputs in batch)
    joined: Inputs = {}
    for name in batch[0]:
        if name not in BY_TOKEN:
            joined[name] = torch.cat([inputs[name] for inputs in batch])
            continue
        fill = pad if name == "input_ids" else 0
        rows = [
            torch.nn.functional.pad(inputs[name], (longest - inputs[name].shape[1], 0), value=fill) for inputs in batch
        ]
        joined[name] = torch.cat(rows)
    return joined
