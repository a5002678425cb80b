"""Picture embeddings by a trained model: the image towers of CLIP and SigLIP, DINOv2, ViT and others.

Pictures are prepared by the model's own processor, through Pillow. Batches have one shape, so that a vector's bits
depend on its own picture and on params.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PretrainedConfig

from sidflow.core.errors import InputError
from sidflow.features.model_vectors import OPTIONS, ModelFolder, one_thread, rows_of_unit_length
from sidflow.features.params import VisionEncoder
from sidflow.features.tfidf import EncodedRows
from sidflow.features.vector_store import Batches, stored_vectors
from sidflow.models.loading import load_errors_as_input_errors, without_library_output

EXPECTED = "an image model and its processor that transformers reads without remote code"
REMEDY = "point embed.encoders.*.model at a CLIP, SigLIP, DINOv2 or ViT folder saved by transformers with safetensors"
PROCESSOR = ("an image processor", "preprocessor_config.json")
POOLER = "pooler."  # weights that only `own` needs
MASKING = "vit_mae"  # leaves out patches at random, outside of training too, unless it is told otherwise
WITHOUT_CLS = ("siglip", "siglip_vision_model", "siglip2", "siglip2_vision_model")


def encode_pictures_by_model(
    images: pl.DataFrame, items: int, params: VisionEncoder, name: str, seed: int
) -> tuple[EncodedRows, dict[str, object]]:
    """Return a row per catalogue item, at length 1, zero where it has no picture; and what is recorded of the model.

    Args:
        images: the pictures, as JPEG.
        items: of the catalogue.
        params: of the encoder.
        name: of the encoder, for messages.
        seed: of random weights, where params ask for them.

    Raises:
        InputError: the model is not here, cannot be read, or gives no numbers.
    """
    model = ImageModel(params, name, seed)
    rows, pictures = images["item_id"].to_numpy().astype(np.int64), images["picture"].to_list()
    vectors = stored_vectors(
        pictures, model.recipe(), lambda missing: model.encode([pictures[row] for row in missing], missing), name
    )
    present = np.zeros(items, dtype=bool)
    present[rows] = True
    values = np.zeros((items, len(vectors[0]) if vectors else 1))
    if vectors:
        values[rows] = np.stack(vectors)
    return EncodedRows(rows_of_unit_length(values, present, params.centre, model.folder), present), model.record


class ImageModel(ModelFolder):
    """An image model and its processor; weights are read when the first picture is encoded."""

    def __init__(self, params: VisionEncoder, name: str, seed: int) -> None:
        """Locate the model, and read its config and processor.

        Raises:
            InputError: the model is not here or cannot be read, or has no such vector.
        """
        super().__init__(params, name, seed, PROCESSOR, REMEDY)
        with load_errors_as_input_errors(self.folder, EXPECTED, REMEDY), without_library_output():
            self.config: PretrainedConfig = AutoConfig.from_pretrained(self.folder, **OPTIONS)
            self._processor: Any = AutoImageProcessor.from_pretrained(self.folder, backend="pil", **OPTIONS)
        self._params, self._name = params, name
        if self.config.model_type == MASKING:
            self.config.mask_ratio = 0.0
        if params.pooling == "cls" and self.config.model_type in WITHOUT_CLS:
            raise self._no_such_vector("SigLIP has no first token of its own")

    def recipe(self) -> dict[str, object]:
        """Return what a picture's vector depends on beside its bytes."""
        whole = {"mask_ratio": 0.0} if self.config.model_type == MASKING else {}
        own = {"batch_size": self._params.batch_size, "pooling": self._params.pooling}
        return self.base_recipe() | own | whole

    def encode(self, pictures: Sequence[bytes], positions: Sequence[int]) -> Batches:
        """Yield the vectors of JPEG pictures, batch by batch.

        Args:
            pictures: the bytes of each.
            positions: what each is called in the batches.
        """
        with load_errors_as_input_errors(self.folder, EXPECTED, REMEDY), without_library_output(), one_thread():
            unused = "" if self._params.pooling == "own" else POOLER
            network = self.load(AutoModel, self.config, unused=unused)
            for start in range(0, len(pictures), self._params.batch_size):
                batch = pictures[start : start + self._params.batch_size]
                pixels = self._pixels(batch)
                filler = torch.zeros((self._params.batch_size - len(batch), *pixels.shape[1:]))
                vectors = self._vectors(network, torch.cat([pixels, filler]).to(self.device)).cpu()
                yield positions[start : start + len(batch)], vectors[: len(batch)].numpy()

    def _pixels(self, batch: Sequence[bytes]) -> Tensor:
        """Return the pictures as the model wants them, float32 [b, 3, h, w]."""
        pixels = self._processor(images=list(_decoded(batch)), return_tensors="pt")["pixel_values"]
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            raise InputError(
                str(self.folder),
                expected="a processor that makes every picture as large as the next",
                found="pictures of several sizes",
                remedy="use a model with a fixed resolution",
            )
        return pixels.float()

    @torch.inference_mode()
    def _vectors(self, network: Any, pixels: Tensor) -> Tensor:
        """Return one vector a picture, float32 [b, d]."""
        if self._params.pooling == "own":
            features = getattr(network, "get_image_features", network)(pixel_values=pixels)
            pooled = features if isinstance(features, Tensor) else getattr(features, "pooler_output", None)
            if pooled is None or pooled.ndim != 2:
                raise self._no_such_vector(f"a {self.config.model_type} has no pooled vector")
            return pooled
        ordered: dict[str, Tensor] = {}
        if self.config.model_type == MASKING:  # it sorts patches by noise
            ordered["noise"] = torch.arange(self._patches(pixels), device=pixels.device).expand(len(pixels), -1)
        states = getattr(network, "vision_model", network)(pixel_values=pixels, **ordered).last_hidden_state
        if states.ndim != 3:
            raise self._no_such_vector(f"a {self.config.model_type} has no tokens")
        if self._params.pooling == "cls":
            return states[:, 0]
        return states[:, states.shape[1] - self._patches(pixels) :].mean(1)  # without the tokens before the patches

    def _patches(self, pixels: Tensor) -> int:
        side = getattr(self.config, "vision_config", self.config).patch_size
        return (pixels.shape[2] // side) * (pixels.shape[3] // side)

    def _no_such_vector(self, found: str) -> InputError:
        return InputError(
            f"params.yaml:embed.encoders.{self._name}.pooling",
            expected="a vector that the model has",
            found=found,
            remedy="set pooling to own, cls or mean, as the model has it",
        )


def _decoded(pictures: Sequence[bytes]) -> Iterator[Image.Image]:
    for data in pictures:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            yield picture.convert("RGB")
