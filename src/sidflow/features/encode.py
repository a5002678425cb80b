"""Runs the encoders of params on item texts, views and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.features import EMBEDDING, IMAGE, JOINT, TEXT, UNITS
from sidflow.artifacts.item_content import ItemText, item_texts, split_sentences
from sidflow.core.stage import print_progress
from sidflow.core.tensors import TensorFile
from sidflow.features.params import (
    Document,
    EmbedParams,
    Encoder,
    PictureDescriptors,
    TfidfSvd,
    TfidfSvdUnits,
    TransformerEncoder,
)
from sidflow.features.pictures import encode_pictures
from sidflow.features.tfidf import Pieces, TextSpace, fit_text_space


class EncoderOutput(NamedTuple):
    """The arrays of one encoder, and the kind of file that holds them."""

    name: str
    file: TensorFile
    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]


def run_encoders(
    items: pl.DataFrame, images: pl.DataFrame, semantics: pl.DataFrame, params: EmbedParams, seed: int
) -> Iterator[EncoderOutput]:
    """Yield the output of each encoder of params, for all catalogue items.

    Text spaces are fitted on the content of all items. They use no interactions, so that nothing leaks.
    """
    texts = item_texts(items)
    documents: dict[Document, list[Pieces]] = {"item": [text.pieces() for text in texts]}
    views: dict[Document, str] = {"view_text": TEXT, "view_image": IMAGE, "view_joint": JOINT}
    for document, view in views.items():
        views_by_item = dict(semantics.filter(pl.col("view") == view).select("item_id", "text").iter_rows())
        documents[document] = [split_sentences(views_by_item.get(item, "")) for item in range(len(texts))]
    spaces = _FittedSpaces(documents, params, seed)
    for name, encoder in params.encoders.items():
        record: dict[str, object] = {}
        if isinstance(encoder, PictureDescriptors):
            values, present = encode_pictures(images, len(texts), encoder)
        elif isinstance(encoder, TfidfSvdUnits):
            values, present = _encode_units(texts, spaces[encoder.space], encoder.units)
        elif isinstance(encoder, TransformerEncoder):
            from sidflow.features.transformer import encode_documents  # imports torch

            values, present, record = encode_documents(documents[encoder.document], encoder, name, seed)
        else:
            values, present = spaces[encoder.space].encode(documents[encoder.document])
        file = UNITS if isinstance(encoder, TfidfSvdUnits) else EMBEDDING
        print_progress(f"{name}: {int(present.sum())} of {present.size} present, width {values.shape[-1]}")
        yield EncoderOutput(
            name, file, {"values": values, "present": present}, _metadata(encoder, params, seed) | record
        )


def text_units(texts: ItemText, max_units: int) -> tuple[str, ...]:
    """Return up to `max_units` texts of an item: title, brand and categories, then sentence, attribute, and so on."""
    brand_and_categories = " ".join((texts.brand, *texts.categories))
    attributes = (f"{name} {value}" for name, value in texts.attributes)
    alternating = (piece for pair in zip_longest(texts.sentences, attributes, fillvalue="") for piece in pair)
    return tuple(piece for piece in (texts.title, brand_and_categories, *alternating) if piece)[:max_units]


class _FittedSpaces:
    """The text spaces of params by name, fitted on first use; spaces with equal params are fitted once."""

    def __init__(self, documents: dict[Document, list[Pieces]], params: EmbedParams, seed: int) -> None:
        self._documents, self._params, self._seed = documents, params, seed
        self._fitted: dict[str, TextSpace] = {}

    def __getitem__(self, name: str) -> TextSpace:
        params = self._params.spaces[name]
        key = params.model_dump_json()
        if key not in self._fitted:
            corpus = [document for kind in params.documents for document in self._documents[kind]]
            space = fit_text_space(corpus, params, self._seed)
            shortfall = "" if space.width == params.dim else f" (the documents' rank; params ask for {params.dim})"
            print_progress(f"space {name}: {len(space.vocabulary)} terms, width {space.width}{shortfall}")
            self._fitted[key] = space
        return self._fitted[key]


def _encode_units(texts: list[ItemText], space: TextSpace, max_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return values [n, max_units, d] and present [n, max_units]."""
    units_by_item = [text_units(text, max_units) for text in texts]
    positions = [(row, column) for row, units in enumerate(units_by_item) for column in range(len(units))]
    vectors = space.encode([(unit,) for units in units_by_item for unit in units])
    values = np.zeros((len(texts), max_units, space.width), dtype=np.float32)
    present = np.zeros((len(texts), max_units), dtype=bool)
    if positions:
        rows, columns = np.array(positions).T
        values[rows, columns], present[rows, columns] = vectors
    return values, present


def _metadata(encoder: Encoder, params: EmbedParams, seed: int) -> dict[str, object]:
    """Return the encoder's params and seed, and whether its weights are trained elsewhere."""
    metadata: dict[str, object] = {"encoder": encoder.model_dump(mode="json"), "trained_weights": False}
    if isinstance(encoder, (TfidfSvd, TfidfSvdUnits)):
        metadata |= {"space": params.spaces[encoder.space].model_dump(mode="json"), "seed": seed}
    return metadata
