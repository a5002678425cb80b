"""Packed pictures as arrays: square thumbnails, and their colours in CIE L*a*b*."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from sidflow.contracts.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

_RGB_TO_XYZ = np.array(  # linear sRGB to XYZ, each row divided by the D65 white point
    [
        [0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883],
    ],
    dtype=np.float32,
)
_XYZ_TO_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]], dtype=np.float32)


def decode_thumbnails(pictures: Iterable[bytes], side: int) -> UInt8[np.ndarray, "b side side 3"]:
    """Return each picture as `side` x `side` RGB pixels; its aspect ratio is not kept.

    Raises:
        InputError: one of them cannot be decoded.
    """
    decoded = []
    for row, data in enumerate(pictures):
        try:
            with Image.open(io.BytesIO(data)) as picture:
                picture.draft("RGB", (side, side))  # JPEG: decode no more pixels than are needed
                small = picture.convert("RGB").resize((side, side), Image.Resampling.BOX, reducing_gap=2.0)
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(
                "artifacts/catalog/images.parquet",
                expected="pictures that Pillow can decode",
                found=str(error),
                example=row,
                remedy="run `dvc repro --force ingest`, which leaves out broken pictures",
            ) from error
        decoded.append(np.asarray(small))
    return np.stack(decoded) if decoded else np.zeros((0, side, side, 3), dtype=np.uint8)


def rgb_to_lab(rgb: UInt8[np.ndarray, "*shape 3"]) -> Float32[np.ndarray, "*shape 3"]:
    """Return CIE L*a*b* (D65; L 0 to 100) of 8-bit sRGB; equal distances look about equally large.

    Source: IEC 61966-2-1 (sRGB) and CIE 15 (L*a*b*).
    """
    level = np.arange(256, dtype=np.float64) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)
    xyz = linear[rgb] @ _RGB_TO_XYZ.T
    cube_root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * np.float32((29 / 6) ** 2 / 3) + np.float32(4 / 29))
    values = cube_root @ _XYZ_TO_LAB.T
    values[..., 0] -= 16
    return values
