"""Item pictures: size limits checked before decoding, downsized, re-encoded as RGB JPEG; bad ones are counted."""

from __future__ import annotations

import io
import struct
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageOps, UnidentifiedImageError

from sidflow.artifacts.catalog import IMAGES
from sidflow.catalog.params import PictureParams
from sidflow.catalog.raw import Picture

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # no other decoder is used on untrusted files
DAMAGED_EXIF = (AttributeError, KeyError, IndexError, TypeError, ZeroDivisionError, OverflowError, struct.error)


@dataclass
class PackedPictures:
    """The rows of the table `images`, and the problems of the pictures left out."""

    rows: list[dict[str, object]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)
    example: str = ""

    def item_ids(self) -> list[int]:
        """Return the ids of the items that have a picture."""
        return [int(str(row["item_id"])) for row in self.rows]

    def frame(self) -> pl.DataFrame:
        """Return the table `images`."""
        return pl.DataFrame(self.rows, schema=IMAGES.empty().schema) if self.rows else IMAGES.empty()


class _RejectedPicture(Exception):
    """A picture is left out; args are the kind of problem and its detail."""


def pack_pictures(item_keys: list[str], pictures: Mapping[str, Picture], params: PictureParams) -> PackedPictures:
    """Return the usable pictures of the items; the index in `item_keys` is the item id."""
    packed = PackedPictures()
    for item_id, key in enumerate(item_keys):
        source = pictures.get(key)
        if source is None:
            packed.problems["missing"] += 1
            continue
        try:
            image = source() if callable(source) else _open_picture(source, params)
            data, (width, height) = _encoded(image, params)
            packed.rows.append({"item_id": item_id, "picture": data, "width": width, "height": height})
        except _RejectedPicture as problem:
            kind, detail = problem.args
            packed.problems[kind] += 1
            packed.example = packed.example or f"{key}: {detail}"
    return packed


def _open_picture(path: Path, params: PictureParams) -> Image.Image:
    """Return a decoded picture file; its size in bytes and pixels is checked before decoding."""
    try:
        if not path.is_file():  # opening a named pipe waits for ever
            raise _RejectedPicture("broken", "no file, or no regular one")
        size = path.stat().st_size
        if size > params.max_bytes:
            raise _RejectedPicture("too_large", f"{size} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, laxer limit, and of damaged metadata
            image = Image.open(path, formats=FORMATS)
            pixels = image.width * image.height
            if pixels > params.max_pixels:
                raise _RejectedPicture("too_large", f"{pixels} pixels")
            image.draft("RGB", (params.max_side * 2, params.max_side * 2))  # a JPEG decodes smaller, faster
            _halve_transparency(image)
            image.load()
            return _upright(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise _RejectedPicture("broken", f"{type(error).__name__}: {error}".replace(str(path), path.name)) from error


def _upright(image: Image.Image) -> Image.Image:
    """Return a picture turned as its EXIF says; as it is stored where that is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except (*DAMAGED_EXIF, OSError, SyntaxError, ValueError):
        return image


def _halve_transparency(image: Image.Image) -> None:
    """Bring the transparent colour of a PNG with 16 bits a channel to the 8 bits that its pixels are decoded to."""
    transparency, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    if isinstance(transparency, tuple) and tiles and str(tiles[0][3]).endswith(";16B"):
        image.info["transparency"] = tuple(level >> 8 for level in transparency)


def _encoded(image: Image.Image, params: PictureParams) -> tuple[bytes, tuple[int, int]]:
    try:
        return encode_jpeg(image, params)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise _RejectedPicture("broken", f"{type(error).__name__}: {error}") from error


def _sixteen_bit_grey(image: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits with 8 bits, with an alpha channel where one of its levels is transparent."""
    levels = np.asarray(image)  # uint16; int32 of the mode I, whose levels may lie outside of 16 bits
    high = levels >> 8
    grey = Image.fromarray((np.clip(high, 0, 255) if image.mode == "I" else high).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = np.where(levels == transparent, 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def encode_jpeg(image: Image.Image, params: PictureParams) -> tuple[bytes, tuple[int, int]]:
    """Return the picture as JPEG bytes, RGB on white, no side longer than the limit, without metadata."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = _sixteen_bit_grey(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        image = Image.new("RGB", layered.size, (255, 255, 255))
        image.paste(layered, mask=layered.getchannel("A"))
    else:
        image = image.convert("RGB")
    if max(image.size) > params.max_side:
        image.thumbnail((params.max_side, params.max_side), Image.Resampling.LANCZOS)
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    buffer = io.BytesIO()
    clean.save(buffer, "JPEG", quality=params.quality, optimize=True, subsampling=0)
    return buffer.getvalue(), clean.size
