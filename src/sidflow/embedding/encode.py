"""Every encoder of params, run: words, views and pictures in, arrays for the contracts out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts.artifacts.embeddings import EMBEDDING, UNITS
from sidflow.contracts.artifacts.semantics import IMAGE, JOINT, TEXT
from sidflow.contracts.running import say
from sidflow.contracts.tensors import TensorFile
from sidflow.contracts.words import ItemText, item_texts, split_sentences
from sidflow.embedding.params import Document, EmbedParams, Encoder, PictureDescriptors, TfidfSvd, TfidfSvdUnits
from sidflow.embedding.picture_encoder import encode_pictures
from sidflow.embedding.text_space import Pieces, TextSpace, fit


class Encoded(NamedTuple):
    """What one encoder made, and the kind of file that it goes into."""

    name: str
    contract: TensorFile
    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]


def encode_all(
    items: pl.DataFrame, images: pl.DataFrame, semantics: pl.DataFrame, params: EmbedParams, seed: int
) -> Iterator[Encoded]:
    """Yield what each encoder makes of the catalogue's `items`, `images` and `semantics`.

    Spaces are fitted on content alone, of all items: no interaction is seen, so nothing leaks.
    """
    words = item_texts(items)
    documents: dict[Document, list[Pieces]] = {"item": [one.pieces() for one in words]}
    views: dict[Document, str] = {"view_text": TEXT, "view_image": IMAGE, "view_joint": JOINT}
    for document, view in views.items():
        said = dict(semantics.filter(pl.col("view") == view).select("item_id", "text").iter_rows())
        documents[document] = [split_sentences(said.get(item, "")) for item in range(len(words))]
    spaces = _Spaces(documents, params, seed)
    for name, encoder in params.encoders.items():
        if isinstance(encoder, PictureDescriptors):
            values, present = encode_pictures(images, len(words), encoder)
        elif isinstance(encoder, TfidfSvdUnits):
            values, present = _encode_units(words, spaces[encoder.space], encoder.units)
        else:
            values, present = spaces[encoder.space].encode(documents[encoder.document])
        contract = UNITS if isinstance(encoder, TfidfSvdUnits) else EMBEDDING
        say(f"{name}: {int(present.sum())} of {present.size} present, width {values.shape[-1]}")
        yield Encoded(name, contract, {"values": values, "present": present}, _metadata(encoder, params, seed))


def units_of(words: ItemText, most: int) -> tuple[str, ...]:
    """Return up to `most` pieces: title, brand and categories, then sentences and attributes in turns."""
    general = " ".join((words.brand, *words.categories))
    attributes = (f"{name} {value}" for name, value in words.attributes)
    turns = (piece for pair in zip_longest(words.sentences, attributes, fillvalue="") for piece in pair)
    return tuple(piece for piece in (words.title, general, *turns) if piece)[:most]


class _Spaces:
    """The spaces of params by name, fitted when first asked for; spaces of equal params are one."""

    def __init__(self, documents: dict[Document, list[Pieces]], params: EmbedParams, seed: int) -> None:
        self._documents, self._params, self._seed = documents, params, seed
        self._fitted: dict[str, TextSpace] = {}

    def __getitem__(self, name: str) -> TextSpace:
        params = self._params.spaces[name]
        key = params.model_dump_json()
        if key not in self._fitted:
            corpus = [document for kind in params.documents for document in self._documents[kind]]
            space = fit(corpus, params, self._seed)
            short = "" if space.width == params.dim else f" (all that the documents have; {params.dim} were asked for)"
            say(f"space {name}: {len(space.vocabulary)} terms, width {space.width}{short}")
            self._fitted[key] = space
        return self._fitted[key]


def _encode_units(words: list[ItemText], space: TextSpace, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return values [n, most, d] and present [n, most]."""
    chosen = [units_of(one, most) for one in words]
    flat = [(row, place) for row, units in enumerate(chosen) for place in range(len(units))]
    vectors = space.encode([(unit,) for units in chosen for unit in units])
    values = np.zeros((len(words), most, space.width), dtype=np.float32)
    present = np.zeros((len(words), most), dtype=bool)
    if flat:
        rows, places = np.array(flat).T
        values[rows, places], present[rows, places] = vectors
    return values, present


def _metadata(encoder: Encoder, params: EmbedParams, seed: int) -> dict[str, object]:
    """Say how the vectors were made: no trained weights, unlike those of a language or vision model."""
    told: dict[str, object] = {"encoder": encoder.model_dump(mode="json"), "trained_weights": False}
    if isinstance(encoder, (TfidfSvd, TfidfSvdUnits)):
        told |= {"space": params.spaces[encoder.space].model_dump(mode="json"), "seed": seed}
    return told
