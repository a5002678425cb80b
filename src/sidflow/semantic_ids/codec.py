"""A trained quantizer without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.artifacts.semantic_ids import QUANTIZER, code_counts, modality_codebooks
from sidflow.core.errors import InputError
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.residual_pass import residual_levels

if TYPE_CHECKING:
    from jaxtyping import Float, Int


ROWS_PER_BLOCK = 4096


class Codec:
    """One modality of a trained quantizer."""

    def __init__(self, quantizer: Tensors, modality: str) -> None:
        """Take the arrays of `modality`.

        Raises:
            InputError: the quantizer has no such modality.
        """
        self.modality = modality
        padded = modality_codebooks(quantizer, modality).astype(np.float64)
        self.counts = code_counts(quantizer, modality)
        self.codebooks = [padded[level, :count] for level, count in enumerate(self.counts)]
        self.projection = quantizer.arrays.get(f"projection.{modality}")
        self.mean = quantizer.arrays[f"mean.{modality}"].astype(np.float64)
        self.width = len(self.mean if self.projection is None else self.projection)
        self.scale = float(quantizer.arrays[f"scale.{modality}"][0])
        self.encoder, self.decoder = (
            _tower_weights(quantizer, f"{side}.{modality}.") for side in ("encoder", "decoder")
        )

    @property
    def levels(self) -> int:
        """Codes per item."""
        return len(self.codebooks)

    def quantized_part(self, values: Float[np.ndarray, "n w"]) -> Float[np.ndarray, "n d"]:
        """Return what is quantized of rows of the modality: their principal components, or the rows themselves.

        Raises:
            InputError: rows of another width than the quantizer was trained on.
        """
        if values.shape[1] != self.width:
            raise InputError(
                f"artifacts/modalities/{self.modality}.safetensors",
                expected=f"rows of {self.width} dimensions, as {QUANTIZER.at()} was trained on",
                found=f"{values.shape[1]} dimensions",
                remedy="embed with the same encoder, or `dvc repro quantize`",
            )
        return values if self.projection is None else values @ self.projection

    def normalise(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Return the encoder's input."""
        return (x.astype(np.float64) - self.mean) / self.scale

    def encode(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Return the encoder's output for what `quantized_part` returns."""
        return _apply_tower(self.encoder, self.normalise(x))

    def quantize(self, z: Float[np.ndarray, "n c"]) -> Int[np.ndarray, "n l"]:
        """Return the codes, int32: at each level the one nearest to the residual, the lowest of equally near ones."""
        codes = np.empty((len(z), self.levels), dtype=np.int32)
        for start in range(0, len(z), ROWS_PER_BLOCK):
            block = slice(start, start + ROWS_PER_BLOCK)
            for level in residual_levels(z[block], self.codebooks, self._nearest_codes):
                codes[block, level.index] = level.codes
        return codes

    def dequantize(self, codes: Int[np.ndarray, "n l"]) -> Float[np.ndarray, "n c"]:
        """Return the sum of the code vectors of each row of codes."""
        return sum(
            (codebook[codes[:, level]] for level, codebook in enumerate(self.codebooks)),
            start=np.zeros((len(codes), self.codebooks[0].shape[1])),
        )

    def decode(self, vectors: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n d"]:
        """Return what is quantized of rows of the modality, in its own scale."""
        return _apply_tower(self.decoder, vectors) * self.scale + self.mean

    def _nearest_codes(self, level: int, residual: Float[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
        codebook = self.codebooks[level]
        return (np.square(codebook).sum(1)[None, :] - 2 * residual @ codebook.T).argmin(1)


class _TowerWeights(NamedTuple):
    """A tower of `sidflow.semantic_ids.mm_rq_vae`, in float64; no layers = the identity."""

    layers: list[tuple[np.ndarray, np.ndarray]]  # weight [out, in] and bias [out] each
    skip: np.ndarray | None  # [out, in]


def _tower_weights(quantizer: Tensors, prefix: str) -> _TowerWeights:
    layers = []
    while (weight := quantizer.arrays.get(f"{prefix}{len(layers)}.weight")) is not None:
        layers.append((weight.astype(np.float64), quantizer.arrays[f"{prefix}{len(layers)}.bias"].astype(np.float64)))
    skip = quantizer.arrays.get(f"{prefix}skip.weight")
    return _TowerWeights(layers, None if skip is None else skip.astype(np.float64))


def _apply_tower(tower: _TowerWeights, x: Float[np.ndarray, "n d_in"]) -> Float[np.ndarray, "n d_out"]:
    if not tower.layers:
        return x
    hidden = x
    for index, (weight, bias) in enumerate(tower.layers):
        hidden = hidden @ weight.T + bias
        if index + 1 < len(tower.layers):
            hidden = np.maximum(hidden, 0)
    return hidden if tower.skip is None else hidden + x @ tower.skip.T
