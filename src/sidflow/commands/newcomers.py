"""Semantic IDs for items that came after the quantizer was trained, from its frozen codebooks."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from sidflow.contracts import params
from sidflow.contracts.artifacts.embeddings import MODALITY
from sidflow.contracts.artifacts.items import ITEMS
from sidflow.contracts.artifacts.quantizer import QUANTIZER, modalities
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path
from sidflow.contracts.tensors import Tensors
from sidflow.quantize.assignment import assign_new
from sidflow.quantize.codec import Codec
from sidflow.quantize.known import earlier

_REMEDY = "write --vectors text=new.parquet, a file with the columns item_key and vector (a fixed number of floats)"


class Given(NamedTuple):
    """Items of one modality."""

    keys: list[str]
    values: np.ndarray  # [n, d]
    present: np.ndarray  # [n]


def assign(artifacts: Path, out: Path, vectors: list[str] | None = None) -> list[str]:
    """Write the IDs of known and new items to `out` and return what was done, one line a modality.

    The columns are item_key, modality, codes, suffix, new: first all known IDs as they are, then the new ones.

    Args:
        artifacts: the artifacts folder of the run that trained the quantizer.
        out: a Parquet file.
        vectors: `MODALITY=FILE` each, the file being Parquet with item_key and vector, made by the encoder that the
            quantizer was trained on; left out, the catalogue and the modalities in the workspace are taken.

    Raises:
        InputError: a file is absent or not what it should be, or rows have another width than the quantizer knows.
    """
    quantizer = _quantizer(artifacts)
    known = earlier(artifacts)
    given = _from_files(vectors, quantizer) if vectors else _from_workspace(modalities(quantizer))
    frames, told = [known.with_columns(new=pl.lit(False))], []
    for name, one in given.items():
        own = known.filter(pl.col("modality") == name)
        found = assign_new(Codec(quantizer, name), one.values, one.present, one.keys, own).filter("new")
        frames.append(found.with_columns(modality=pl.lit(name)))
        told.append(f"{name}: {found.height} new items beside {own.height} known ones")
    columns = ["item_key", "modality", "codes", "suffix", "new"]
    with atomic_path(out) as temporary:
        pl.concat([frame.select(columns) for frame in frames]).write_parquet(temporary)
    return [*told, f"{out} is written."]


def _quantizer(artifacts: Path) -> Tensors:
    path = artifacts / Path(QUANTIZER.path).relative_to("artifacts")
    if not path.is_file():
        raise InputError(
            str(path),
            expected="the quantizer of an earlier run",
            found="no such file",
            remedy="name the artifacts folder of a run that has it, or `dvc repro assign` there",
        )
    return QUANTIZER.read_from(path)


def _from_files(arguments: list[str], quantizer: Tensors) -> dict[str, Given]:
    """Read `MODALITY=FILE` each."""
    given = {}
    for argument in arguments:
        name, one = _from_file(argument)
        if name not in modalities(quantizer):
            known = ", ".join(modalities(quantizer))
            raise InputError("--vectors", expected=f"a modality of the quantizer: {known}", found=name, remedy=_REMEDY)
        width, found = quantizer.arrays[f"mean.{name}"].shape[0], one.values.shape[1]
        if found != width:
            raise InputError(
                argument.partition("=")[2],
                expected=f"vectors of {width} dimensions, as the quantizer was trained on",
                found=f"{found}",
                remedy="embed them with the encoder of that run",
            )
        given[name] = one
    return given


def _from_workspace(known: list[str]) -> dict[str, Given]:
    keys = ITEMS.read(columns=["item_id", "item_key"]).sort("item_id")["item_key"].to_list()
    given = {}
    for name in params.load_value("modality"):
        if name in known:
            arrays = MODALITY.read(name=name).arrays
            given[name] = Given(keys, arrays["values"], arrays["present"])
    return given


def _from_file(argument: str) -> tuple[str, Given]:
    name, _, file = argument.partition("=")
    path = Path(file)
    if not file or not path.is_file():
        raise InputError("--vectors", expected="MODALITY=FILE", found=argument, remedy=_REMEDY)
    try:
        frame = pl.read_parquet(path, columns=["item_key", "vector"])
        values = np.array(frame["vector"].to_list(), dtype=np.float32).reshape(frame.height, -1)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise InputError(
            str(path), expected="item_key and vector", found=str(error).splitlines()[0], remedy=_REMEDY
        ) from error
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise InputError(
            str(path),
            expected="finite vectors",
            found="NaN or infinity",
            count=len(bad),
            example=frame["item_key"][int(bad[0])],
            remedy="leave these items out, or embed them again",
        )
    return name, Given(frame["item_key"].cast(pl.String).to_list(), values, np.ones(frame.height, dtype=bool))
