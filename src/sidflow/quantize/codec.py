"""A trained quantizer without torch: encode, choose codes, sum code vectors, decode, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sidflow.contracts.artifacts.quantizer import QUANTIZER, code_counts, codebooks_of
from sidflow.contracts.errors import InputError
from sidflow.contracts.tensors import Tensors

if TYPE_CHECKING:
    from jaxtyping import Float, Int

BLOCK = 4096  # rows at a time


class Codec:
    """One modality of a trained quantizer."""

    def __init__(self, quantizer: Tensors, modality: str) -> None:
        """Take the arrays of `modality`.

        Raises:
            InputError: the quantizer has no such modality.
        """
        self.modality = modality
        counts = code_counts(quantizer, modality)
        padded = codebooks_of(quantizer, modality).astype(np.float64)
        self.codebooks = [padded[level, :count] for level, count in enumerate(counts)]
        self.mean = quantizer.arrays[f"mean.{modality}"].astype(np.float64)
        self.scale = float(quantizer.arrays[f"scale.{modality}"][0])
        self.towers = {side: _tower(quantizer, f"{side}.{modality}.") for side in ("encoder", "decoder")}

    @property
    def levels(self) -> int:
        """Codes per item."""
        return len(self.codebooks)

    def normalised(self, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Return what the towers see.

        Raises:
            InputError: rows of another width than the quantizer was trained on.
        """
        if values.shape[1] != len(self.mean):
            raise InputError(
                f"artifacts/modalities/{self.modality}.safetensors",
                expected=f"rows of {len(self.mean)} dimensions, as {QUANTIZER.at()} was trained on",
                found=f"{values.shape[1]} dimensions",
                remedy="embed with the same encoder, or `dvc repro quantize`",
            )
        return (values.astype(np.float64) - self.mean) / self.scale

    def encode(self, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n c"]:
        """Return the encoder's output for rows of the modality."""
        return _through(self.towers["encoder"], self.normalised(values))

    def codes(self, z: Float[np.ndarray, "n c"]) -> Int[np.ndarray, "n l"]:
        """Return the codes, int32: at each level the one nearest to the residual, the lowest of equally near ones."""
        found = np.empty((len(z), self.levels), dtype=np.int32)
        for start in range(0, len(z), BLOCK):
            residual = z[start : start + BLOCK].copy()
            for level, codebook in enumerate(self.codebooks):
                distances = np.square(codebook).sum(1)[None, :] - 2 * residual @ codebook.T
                chosen = distances.argmin(1)
                found[start : start + BLOCK, level] = chosen
                residual -= codebook[chosen]
        return found

    def vectors(self, codes: Int[np.ndarray, "n l"]) -> Float[np.ndarray, "n c"]:
        """Return the sum of the code vectors of each row of codes."""
        return sum(
            (codebook[codes[:, level]] for level, codebook in enumerate(self.codebooks)),
            start=np.zeros((len(codes), self.codebooks[0].shape[1])),
        )

    def decode(self, vectors: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n d"]:
        """Return rows of the modality, in its own scale."""
        return _through(self.towers["decoder"], vectors) * self.scale + self.mean


Tower = tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray | None]


def _tower(quantizer: Tensors, prefix: str) -> Tower:
    layers = []
    while (weight := quantizer.arrays.get(f"{prefix}{len(layers)}.weight")) is not None:
        layers.append((weight.astype(np.float64), quantizer.arrays[f"{prefix}{len(layers)}.bias"].astype(np.float64)))
    skip = quantizer.arrays.get(f"{prefix}skip.weight")
    return layers, None if skip is None else skip.astype(np.float64)


def _through(tower: Tower, x: np.ndarray) -> np.ndarray:
    layers, skip = tower
    if not layers:
        return x
    hidden = x
    for index, (weight, bias) in enumerate(layers):
        hidden = hidden @ weight.T + bias
        if index + 1 < len(layers):
            hidden = np.maximum(hidden, 0)
    return hidden if skip is None else hidden + x @ skip.T
