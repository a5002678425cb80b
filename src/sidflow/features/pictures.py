"""Picture encoder without weights: hand-made descriptors, then principal components.

Every descriptor takes square thumbnails in L*a*b* and returns one row per picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sidflow.artifacts.item_content import decode_thumbnails, rgb_to_lab
from sidflow.core.stage import print_progress
from sidflow.features.params import PictureDescriptors
from sidflow.features.tfidf import EncodedRows
from sidflow.metrics.principal_components import principal_components

if TYPE_CHECKING:
    from jaxtyping import Float32


BATCH = 512  # pictures encoded at a time
CELLS = 4  # cells of the colour grid along each side
GRADIENT_CELLS = 8  # cells of the gradient histograms along each side
ORIENTATIONS = 8  # bins of half a turn
RINGS = 6  # frequency bands, each twice as high as the one before


def colour_histogram(values: Float32[np.ndarray, "b s s 3"]) -> Float32[np.ndarray, "b bins"]:
    """Return the square roots of a 6 x 5 x 5 histogram of L*a*b*, independent of position."""
    light = np.clip((values[..., 0] / 100 * 6).astype(np.int64), 0, 5)
    green_red = np.digitize(values[..., 1], (-24.0, -8.0, 8.0, 24.0))
    blue_yellow = np.digitize(values[..., 2], (-24.0, -8.0, 8.0, 24.0))
    bins = ((light * 5 + green_red) * 5 + blue_yellow).reshape(len(values), -1)
    return _histogram(bins, 150)


def colour_grid(values: Float32[np.ndarray, "b s s 3"]) -> Float32[np.ndarray, "b cells_x_6"]:
    """Return mean and spread of L*, a* and b* in each cell of a grid."""
    cells = _split_into_cells(values, CELLS)
    statistics = np.concatenate([cells.mean(axis=3), cells.std(axis=3)], axis=-1)
    return statistics.reshape(len(values), -1).astype(np.float32)


def gradient_histograms(values: Float32[np.ndarray, "b s s 3"]) -> Float32[np.ndarray, "b cells_x_bins"]:
    """Return histograms of gradient orientation in each cell, normalised by cell and picture: coarse shape.

    Source: Dalal and Triggs 2005, "Histograms of oriented gradients"; without overlapping blocks.
    """
    down, right = np.gradient(values[..., 0], axis=(1, 2))
    strength = np.hypot(down, right)
    bin_position = np.mod(np.arctan2(down, right), np.pi) / np.pi * ORIENTATIONS
    low = np.floor(bin_position).astype(np.int64)
    share = bin_position - low
    batch = len(values)
    cell = np.arange(GRADIENT_CELLS**2).reshape(1, GRADIENT_CELLS, GRADIENT_CELLS, 1) * ORIENTATIONS
    total = np.zeros((batch, GRADIENT_CELLS**2 * ORIENTATIONS))
    for offset, weight in ((0, strength * (1 - share)), (1, strength * share)):  # between the two nearest bins
        bins = _split_into_cells((low + offset)[..., None] % ORIENTATIONS, GRADIENT_CELLS)[..., 0] + cell
        weights = _split_into_cells(weight[..., None], GRADIENT_CELLS)[..., 0]
        total += _weighted_counts(bins.reshape(batch, -1), weights.reshape(batch, -1), total.shape[1])
    cells = total.reshape(batch, GRADIENT_CELLS**2, ORIENTATIONS)
    length = np.linalg.norm(cells, axis=-1, keepdims=True)
    usual = length.mean(axis=1, keepdims=True)
    return np.sqrt(cells / np.maximum(length + usual, 1e-6)).reshape(batch, -1).astype(np.float32)


def binary_pattern_histograms(values: Float32[np.ndarray, "b s s 3"]) -> Float32[np.ndarray, "b quarters_x_10"]:
    """Return histograms of uniform local binary patterns (8 neighbours, any rotation) in each quarter: fine texture.

    Source: Ojala et al. 2002, "Multiresolution gray-scale and rotation invariant texture classification".
    """
    light = values[..., 0]
    middle = light[:, 1:-1, 1:-1]
    around = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    size = light.shape[1] - 2
    ring = np.stack([light[:, y : y + size, x : x + size] > middle + 1 for y, x in around])
    changes = (ring != np.roll(ring, 1, axis=0)).sum(axis=0)
    code = np.where(changes <= 2, ring.sum(axis=0), 9)
    half = size // 2
    quarters = [code[:, y : y + half, x : x + half] for y in (0, size - half) for x in (0, size - half)]
    flat = [quarter.reshape(len(values), -1) for quarter in quarters]
    return np.concatenate([_histogram(bins, 10) for bins in flat], axis=1)


def spectral_power(values: Float32[np.ndarray, "b s s 3"]) -> Float32[np.ndarray, "b rings_x_bins"]:
    """Return the log spectral power in bands of frequency and direction: texture.

    Source: Oliva and Torralba 2001, "Modeling the shape of the scene", its spectral template.
    """
    light = values[..., 0]
    side = light.shape[1]
    window = np.hanning(side)
    flat = (light - light.mean(axis=(1, 2), keepdims=True)) * (window[:, None] * window[None, :])
    power = np.abs(np.fft.fft2(flat)) ** 2 / side**2
    row, column = np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.fftfreq(side, 1 / side), indexing="ij")
    radius = np.hypot(row, column)
    ring = np.clip(np.floor(np.log2(np.maximum(radius, 1)) / np.log2(side / 2) * RINGS), 0, RINGS - 1).astype(np.int64)
    orientation = (
        np.round(np.mod(np.arctan2(row, column), np.pi) / np.pi * ORIENTATIONS).astype(np.int64) % ORIENTATIONS
    )
    in_band = (radius >= 1) & (radius <= side / 2)
    bins = np.broadcast_to((ring * ORIENTATIONS + orientation)[in_band], (len(light), int(in_band.sum())))
    total = _weighted_counts(bins, power[:, in_band], RINGS * ORIENTATIONS)
    count = np.maximum(np.bincount(bins[0], minlength=RINGS * ORIENTATIONS) if len(bins) else 1, 1)
    return np.log1p(total / count).astype(np.float32)


BLOCKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "colour": colour_histogram,
    "colour_grid": colour_grid,
    "gradients": gradient_histograms,
    "patterns": binary_pattern_histograms,
    "frequencies": spectral_power,
}


def _split_into_cells(values: np.ndarray, cells: int) -> np.ndarray:
    """Cut [b, s, s, c] into [b, cells, cells, pixels, c]; an incomplete cell at the far edges is left out."""
    batch, side, channels = len(values), values.shape[1] // cells, values.shape[3]
    blocks = values[:, : side * cells, : side * cells].reshape(batch, cells, side, cells, side, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, cells, cells, side * side, channels)


def _weighted_counts(bins: np.ndarray, weights: np.ndarray, width: int) -> np.ndarray:
    """Return [b, width]: per row, the weights that fall into each bin."""
    flat = (bins + np.arange(len(bins))[:, None] * width).ravel()
    return np.bincount(flat, weights.ravel(), minlength=len(bins) * width).reshape(len(bins), width)


def _histogram(bins: np.ndarray, width: int) -> np.ndarray:
    """Return [b, width]: the square roots of each row's shares, so that distances are Hellinger's."""
    return np.sqrt(_weighted_counts(bins, np.ones(bins.shape), width) / bins.shape[1]).astype(np.float32)


def encode_pictures(images: pl.DataFrame, items: int, params: PictureDescriptors) -> EncodedRows:
    """Return a row per catalogue item: centred PCA coordinates where it has a picture, zero elsewhere.

    Every descriptor block is centred and divided by the root of its total variance, so that its width and unit do not
    matter. The width is `params.dim`, or the rank where that is less; 1 where no item has a picture.
    """
    present = np.zeros(items, dtype=bool)
    present[images["item_id"].to_numpy()] = True
    if images.height == 0:
        return EncodedRows(np.zeros((items, 1), dtype=np.float32), present)
    descriptors = np.concatenate([_equal_variance(block) for block in _describe_pictures(images, params)], axis=1)
    rows = principal_components(descriptors, params.dim).apply(descriptors)
    values = np.zeros((items, rows.shape[1]), dtype=np.float32)
    values[images["item_id"].to_numpy()] = rows
    return EncodedRows(values, present)


def _describe_pictures(images: pl.DataFrame, params: PictureDescriptors) -> list[np.ndarray]:
    """Return the rows of each descriptor block, in the order of `images`."""
    rows: list[list[np.ndarray]] = [[] for _ in params.blocks]
    encoded = 0
    for batch in images.iter_slices(BATCH):
        values = rgb_to_lab(decode_thumbnails(batch["picture"], params.side))
        for parts, block in zip(rows, params.blocks, strict=True):
            parts.append(BLOCKS[block](values))
        encoded += batch.height
        print_progress(f"pictures encoded: {encoded} of {images.height}")
    return [np.concatenate(parts) for parts in rows]


def _equal_variance(block: np.ndarray) -> np.ndarray:
    centred = block - block.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.square(centred).sum(axis=1).mean())
    return centred / spread if spread > 1e-9 else np.zeros_like(centred)
