"""Picture embeddings without trained weights: descriptor blocks of equal variance, then PCA."""

from __future__ import annotations

import numpy as np
import polars as pl

from sidflow.contracts.pictures import decode_thumbnails, rgb_to_lab
from sidflow.contracts.running import print_progress
from sidflow.embedding.descriptors import BLOCKS
from sidflow.embedding.params import PictureDescriptors
from sidflow.embedding.projection import principal_components
from sidflow.embedding.text_space import EncodedRows

BATCH = 512  # pictures at a time


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
    done = 0
    for batch in images.iter_slices(BATCH):
        values = rgb_to_lab(decode_thumbnails(batch["picture"], params.side))
        for parts, block in zip(rows, params.blocks, strict=True):
            parts.append(BLOCKS[block](values))
        done += batch.height
        print_progress(f"pictures encoded: {done} of {images.height}")
    return [np.concatenate(parts) for parts in rows]


def _equal_variance(block: np.ndarray) -> np.ndarray:
    centred = block - block.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.square(centred).sum(axis=1).mean())
    return centred / spread if spread > 1e-9 else np.zeros_like(centred)
