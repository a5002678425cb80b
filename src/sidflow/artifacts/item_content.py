"""Item content: its text as short pieces, its picture as an array."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from PIL import Image, UnidentifiedImageError

from sidflow.core.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8


_SENTENCE_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\s*[\r\n•·]+\s*")
_ABBREVIATION_END = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|No|Nos|Vol|Fig|Inc|Ltd|Co|Corp|vs|approx|incl|e\.g|i\.e|etc|oz|in|ft|lb|lbs"
    r"|U\.S)\.$"
)


class ItemText(NamedTuple):
    """One item's text; empty strings and tuples where the source has none."""

    title: str
    brand: str
    categories: tuple[str, ...]  # most general first
    attributes: tuple[tuple[str, str], ...]  # (name, value)
    sentences: tuple[str, ...]  # of the description, in order, distinct, without the title

    def pieces(self) -> tuple[str, ...]:
        """Return the text as separate pieces, title first; of attributes the values alone."""
        values = (value for _, value in self.attributes)
        return tuple(piece for piece in (self.title, self.brand, *self.categories, *values, *self.sentences) if piece)


def split_sentences(text: str) -> tuple[str, ...]:
    """Return the distinct sentences of a text, split at sentence ends and line breaks.

    >>> split_sentences("Made by Dr. Kay. Weighs 5 lbs. and more! It glows.")
    ('Made by Dr. Kay.', 'Weighs 5 lbs. and more!', 'It glows.')
    """
    sentences: list[str] = []
    unfinished = ""  # a part that ends in an abbreviation: the sentence goes on
    for part in _SENTENCE_BREAK.split(text):
        sentence = " ".join(f"{unfinished} {part}".split())
        if _ABBREVIATION_END.search(sentence):
            unfinished = sentence
            continue
        unfinished = ""
        sentences.append(sentence)
    sentences.append(unfinished)
    return tuple(dict.fromkeys(sentence for sentence in sentences if sentence))


def truncate_at_word(text: str, max_characters: int, trailing: str = " ,;:-") -> str:
    """Return at most `max_characters`, cut at a word where there is one, without `trailing` characters at the cut."""
    if len(text) <= max_characters:
        return text
    head = text[: max_characters + 1]
    return (head.rsplit(" ", 1)[0] if " " in head else head[:-1]).rstrip(trailing)


def item_texts(items: pl.DataFrame) -> list[ItemText]:
    """Return the text of every row of the `items` table, in its order."""
    columns = ["title", "brand", "categories", "attributes", "description"]
    return [
        ItemText(
            title=_collapse_spaces(title),
            brand=_collapse_spaces(brand),
            categories=tuple(dict.fromkeys(name for name in map(_collapse_spaces, categories) if name)),
            attributes=tuple(
                (_collapse_spaces(entry["name"]), _collapse_spaces(entry["value"]))
                for entry in attributes
                if _collapse_spaces(entry["value"])
            ),
            sentences=tuple(
                part for part in split_sentences(description) if part.rstrip(".!") != _collapse_spaces(title)
            ),
        )
        for title, brand, categories, attributes, description in items.select(columns).iter_rows()
    ]


def _collapse_spaces(text: str) -> str:
    return " ".join(text.split())


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
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
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
