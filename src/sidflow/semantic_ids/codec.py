"""A trained quantizer without torch, and the published file form of semantic IDs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sidflow.artifacts.semantic_ids import QUANTIZER, code_counts, modality_codebooks
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_path, note_read, note_write
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids.residual_pass import residual_levels

if TYPE_CHECKING:
    from jaxtyping import Float, Int


TOKEN = re.compile(r"<([a-z])_(\d+)>")  # of an index file: the level's letter and the code
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
        self.mean = quantizer.arrays[f"mean.{modality}"].astype(np.float64)
        self.scale = float(quantizer.arrays[f"scale.{modality}"][0])
        self.encoder, self.decoder = (
            _tower_weights(quantizer, f"{side}.{modality}.") for side in ("encoder", "decoder")
        )

    @property
    def levels(self) -> int:
        """Codes per item."""
        return len(self.codebooks)

    def normalise(self, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Return the encoder's input for rows of the modality.

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
        """Return the encoder's output for rows of the modality.

        Raises:
            InputError: rows of another width than the quantizer was trained on.
        """
        return _apply_tower(self.encoder, self.normalise(values))

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
        """Return rows of the modality, in its own scale."""
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


class IndexFile(NamedTuple):
    """Codes by item key; where collisions are resolved by a level of their own, it is the last."""

    item_keys: list[str]
    codes: Int[np.ndarray, "n l"]


def read_index_file(path: Path) -> IndexFile:
    """Return published IDs.

    Raises:
        InputError: not a JSON object, a token of another form, or items with different numbers of codes.
    """
    note_read(path)
    remedy = 'give a file of the form {"0": ["<a_12>", "<b_7>"], ...}'
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(str(path), expected="an .index.json file", found=str(error), remedy=remedy) from error
    if not isinstance(content, dict) or not content:
        raise InputError(str(path), expected="an object of items", found=type(content).__name__, remedy=remedy)
    rows, malformed = [], []
    width = len(next(iter(content.values())))
    for key, tokens in content.items():
        matches = [TOKEN.fullmatch(str(token)) for token in tokens]
        levels = [match[1] for match in matches if match]
        if len(levels) != width or levels != [chr(ord("a") + level) for level in range(width)]:
            malformed.append((key, tokens))
        rows.append([int(match[2]) for match in matches if match])
    if malformed:
        raise InputError(
            str(path),
            expected=f"{width} codes <a_..>, <b_..>, ... an item",
            found="others",
            count=len(malformed),
            example=malformed[0],
            remedy=remedy,
        )
    return IndexFile(list(content), np.array(rows, dtype=np.int32))


def write_index_file(path: Path, ids: Mapping[str, tuple[list[int], int]]) -> Path:
    """Write codes and suffix of each item key and return the path.

    The suffix is a last level of its own if any item has one above 0.
    """
    with_suffix = any(suffix for _, suffix in ids.values())
    content = {
        key: [f"<{chr(ord('a') + level)}_{code}>" for level, code in enumerate([*codes, *([suffix] * with_suffix)])]
        for key, (codes, suffix) in ids.items()
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    note_write(path)
    return path
