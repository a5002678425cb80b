"""Runs the encoders of params on item texts, views and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from sidflow.artifacts.features import EMBEDDING, SPARSE_EMBEDDING, UNITS, ItemRows, sparse_arrays
from sidflow.artifacts.item_content import ItemText, item_texts
from sidflow.core.stage import print_progress
from sidflow.core.tensors import TensorFile
from sidflow.features.concat import concatenate
from sidflow.features.documents import Pieces, item_documents, text_units
from sidflow.features.params import (
    Concat,
    ContrastiveEncoder,
    Document,
    EmbedParams,
    Encoder,
    MllmEncoder,
    PictureDescriptors,
    SpaceEncoder,
    Tfidf,
    TfidfSvd,
    TfidfSvdUnits,
    TransformerEncoder,
    TransformerUnits,
    VisionEncoder,
)
from sidflow.features.pictures import encode_pictures
from sidflow.features.tfidf import TextSpace, fit_text_space


class EncoderOutput(NamedTuple):
    """The arrays of one encoder, and the kind of file that holds them."""

    name: str
    file: TensorFile
    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]


class Content(NamedTuple):
    """What encoders read: the content of all catalogue items."""

    texts: list[ItemText]
    documents: dict[Document, list[Pieces]]
    images: pl.DataFrame
    spaces: Mapping[str, TextSpace]  # by name, fitted on first use
    seed: int


class Rows(NamedTuple):
    """What an encoder returns."""

    values: np.ndarray | csr_matrix  # [n, d], or [n, u, d] of units
    present: np.ndarray  # bool [n], or [n, u]
    record: Mapping[str, object] = {}  # of a model: origin and file hashes


def run_encoders(
    items: pl.DataFrame, images: pl.DataFrame, semantics: pl.DataFrame, params: EmbedParams, seed: int
) -> Iterator[EncoderOutput]:
    """Yield the output of each encoder of params, for all catalogue items; `concat` comes after its parts.

    Text spaces are fitted on the content of all items. They use no interactions, so that nothing leaks.
    """
    texts = item_texts(items)
    documents = item_documents(texts, semantics)
    content = Content(texts, documents, images, _FittedSpaces(documents, params, seed), seed)
    needed = {part for encoder in params.encoders.values() if isinstance(encoder, Concat) for part in encoder.parts}
    parts: dict[str, Rows] = {}
    for name, encoder in params.encoders.items():
        if isinstance(encoder, Concat):
            continue
        rows = ENCODERS[encoder.kind](content, encoder, name)
        if name in needed:
            parts[name] = rows
        yield _output(name, encoder, rows, _metadata(encoder, params, seed))
    for name, encoder in params.encoders.items():
        if isinstance(encoder, Concat):
            own = {part: parts[part] for part in encoder.parts}
            rows = concatenate(
                [ItemRows(one.values, one.present) for one in own.values()], encoder.weights or [1.0] * len(own)
            )
            metadata = _metadata(encoder, params, seed)
            records = {part: _metadata(params.encoders[part], params, seed) | dict(own[part].record) for part in own}
            metadata["trained_weights"] = any(record["trained_weights"] for record in records.values())
            metadata["parts"] = records
            yield _output(name, encoder, Rows(*rows), metadata)


def _output(name: str, encoder: Encoder, rows: Rows, metadata: dict[str, object]) -> EncoderOutput:
    """Return the arrays and the file of an encoder's rows."""
    present = rows.present
    width = (rows.values.shape or (0,))[-1]
    if isinstance(rows.values, csr_matrix):
        file, arrays = SPARSE_EMBEDDING, sparse_arrays(rows.values, present)
        metadata = metadata | {"width": width}
    else:
        file, arrays = UNITS if encoder.of_units else EMBEDDING, {"values": rows.values, "present": present}
    if encoder.storage == "fp16":
        arrays["values"] = arrays["values"].astype(np.float16)
    print_progress(f"{name}: {int(present.sum())} of {present.size} present, width {width}")
    return EncoderOutput(name, file, arrays, metadata | dict(rows.record))


class _FittedSpaces(Mapping[str, TextSpace]):
    """The text spaces of params by name, fitted on first use; spaces with equal params are fitted once."""

    def __init__(self, documents: dict[Document, list[Pieces]], params: EmbedParams, seed: int) -> None:
        self._documents, self._params, self._seed = documents, params, seed
        self._fitted: dict[str, TextSpace] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._params.spaces)

    def __len__(self) -> int:
        return len(self._params.spaces)

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


def _tfidf(content: Content, encoder: Tfidf, name: str) -> Rows:
    values = content.spaces[encoder.space].weigh(content.documents[encoder.document])
    return Rows(values, np.diff(values.indptr) > 0)


def _tfidf_svd(content: Content, encoder: TfidfSvd, name: str) -> Rows:
    return Rows(*content.spaces[encoder.space].encode(content.documents[encoder.document]))


def _tfidf_svd_units(content: Content, encoder: TfidfSvdUnits, name: str) -> Rows:
    space = content.spaces[encoder.space]
    units_by_item = [text_units(text, encoder.units) for text in content.texts]
    positions = [(row, column) for row, units in enumerate(units_by_item) for column in range(len(units))]
    vectors = space.encode([(unit,) for units in units_by_item for unit in units])
    values = np.zeros((len(content.texts), encoder.units, space.width), dtype=np.float32)
    present = np.zeros((len(content.texts), encoder.units), dtype=bool)
    if positions:
        rows, columns = np.array(positions).T
        values[rows, columns], present[rows, columns] = vectors
    return Rows(values, present)


def _picture_descriptors(content: Content, encoder: PictureDescriptors, name: str) -> Rows:
    return Rows(*encode_pictures(content.images, len(content.texts), encoder))


def _transformer(content: Content, encoder: TransformerEncoder, name: str) -> Rows:
    from sidflow.features.text_model import encode_documents  # imports torch

    return Rows(*encode_documents(content.documents[encoder.document], encoder, name, content.seed))


def _transformer_units(content: Content, encoder: TransformerUnits, name: str) -> Rows:
    from sidflow.features.text_model import encode_units  # imports torch

    units_by_item = [text_units(text, encoder.units) for text in content.texts]
    return Rows(*encode_units(units_by_item, encoder.units, encoder, name, content.seed))


def _contrastive(content: Content, encoder: ContrastiveEncoder, name: str) -> Rows:
    from sidflow.features.contrastive import encode_contrastively  # imports torch

    return Rows(*encode_contrastively(content.documents["item"], encoder, name, content.seed))


def _vision(content: Content, encoder: VisionEncoder, name: str) -> Rows:
    from sidflow.features.vision import encode_pictures_by_model  # imports torch

    rows, record = encode_pictures_by_model(content.images, len(content.texts), encoder, name, content.seed)
    return Rows(*rows, record)


def _mllm(content: Content, encoder: MllmEncoder, name: str) -> Rows:
    from sidflow.features.mllm import encode_jointly  # imports torch

    rows, record = encode_jointly(content.texts, content.images, encoder, name)
    return Rows(*rows, record)


ENCODERS: dict[str, Callable[[Content, Any, str], Rows]] = {  # by kind; `concat` reads these
    "tfidf": _tfidf,
    "tfidf_svd": _tfidf_svd,
    "tfidf_svd_units": _tfidf_svd_units,
    "picture_descriptors": _picture_descriptors,
    "transformer": _transformer,
    "transformer_units": _transformer_units,
    "contrastive": _contrastive,
    "vision": _vision,
    "mllm": _mllm,
}


def _metadata(encoder: Encoder, params: EmbedParams, seed: int) -> dict[str, object]:
    """Return the encoder's params and seed, and whether its weights are trained elsewhere; dtypes say the storage."""
    own = encoder.model_dump(mode="json", exclude={"storage"})
    metadata: dict[str, object] = {"encoder": own, "trained_weights": False}
    if isinstance(encoder, SpaceEncoder):
        metadata |= {"space": params.spaces[encoder.space].model_dump(mode="json"), "seed": seed}
    return metadata
