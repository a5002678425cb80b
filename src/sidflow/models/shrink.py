"""Pictures made small enough for a model."""

from __future__ import annotations

import io

from PIL import Image


def picture_size(picture: bytes | None) -> tuple[int, int]:
    """Return width and height of a JPEG in pixels, from its header alone; (0, 0) for no picture."""
    if picture is None:
        return (0, 0)
    with Image.open(io.BytesIO(picture), formats=["JPEG"]) as opened:
        return opened.size


def shrunk_jpeg(picture: bytes, side: int) -> bytes:
    """Return the picture with at most `side` pixels on its longer side, as JPEG; a smaller one is returned as it is.

    Args:
        picture: a JPEG of the catalogue.
        side: pixels.
    """
    with Image.open(io.BytesIO(picture), formats=["JPEG"]) as opened:
        if max(opened.size) <= side:
            return picture
        opened.draft("RGB", (side, side))
        small = opened.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
