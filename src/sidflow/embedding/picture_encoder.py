"""Pictures as vectors without any weights to download: descriptors, each block of equal say, then PCA."""

from __future__ import annotations

import numpy as np
import polars as pl

from sidflow.contracts.pictures import decode_thumbnails, rgb_to_lab
from sidflow.contracts.running import say
from sidflow.embedding.descriptors import BLOCKS
from sidflow.embedding.params import PictureDescriptors
from sidflow.embedding.projection import principal_components
from sidflow.embedding.text_space import Vectors

BATCH = 512  # pictures at a time


def encode_pictures(images: pl.DataFrame, items: int, params: PictureDescriptors) -> Vectors:
    """Return a row per item of the catalogue; PCA coordinates, centred, where the item has a picture.

    Every block is centred and divided by one number, the root of its total variance, so that no block outweighs
    another by its width or unit. The width is `params.dim`, or the rank where that is less; one where no item has a
    picture.
    """
    present = np.zeros(items, dtype=bool)
    present[images["item_id"].to_numpy()] = True
    if images.height == 0:
        return Vectors(np.zeros((items, 1), dtype=np.float32), present)
    described = np.concatenate([_balanced(block) for block in _describe(images, params)], axis=1)
    made = principal_components(described, params.dim).apply(described)
    values = np.zeros((items, made.shape[1]), dtype=np.float32)
    values[images["item_id"].to_numpy()] = made
    return Vectors(values, present)


def _describe(images: pl.DataFrame, params: PictureDescriptors) -> list[np.ndarray]:
    """Return each block's rows in the order of `images`."""
    made: list[list[np.ndarray]] = [[] for _ in params.blocks]
    done = 0
    for batch in images.iter_slices(BATCH):
        values = rgb_to_lab(decode_thumbnails(batch["picture"], params.side))
        for parts, block in zip(made, params.blocks, strict=True):
            parts.append(BLOCKS[block](values))
        done += batch.height
        say(f"pictures encoded: {done} of {images.height}")
    return [np.concatenate(parts) for parts in made]


def _balanced(block: np.ndarray) -> np.ndarray:
    centred = block - block.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.square(centred).sum(axis=1).mean())
    return centred / spread if spread > 1e-9 else np.zeros_like(centred)
