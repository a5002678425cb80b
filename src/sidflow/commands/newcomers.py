"""`sidflow assign-new`: a file of semantic IDs for new items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sidflow.api import Project
from sidflow.contracts.artifacts.quantizer import quantized_modalities
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path
from sidflow.serving.new_items import assign_new_ids, read_quantizer

_REMEDY = "write --vectors text=new.parquet, a file with the columns item_key and vector (a fixed number of floats)"


def write_new_ids(artifacts: Path, out: Path, vector_files: Sequence[str] | None = None) -> list[str]:
    """Write the IDs of a run, then those of new items, and return a line for each modality.

    Args:
        artifacts: the artifacts folder of the run that trained the quantizer.
        out: a Parquet file; see `assign_new_ids` for its columns.
        vector_files: `MODALITY=FILE` each, Parquet with item_key and vector. Left out, the modalities of the project
            in the current folder are taken.

    Raises:
        InputError: a file is absent or invalid; else see `assign_new_ids`.
    """
    vectors = dict(map(_read_vectors, vector_files)) if vector_files else _project_vectors(artifacts)
    ids = assign_new_ids(artifacts, vectors)
    with atomic_path(out) as temporary:
        ids.write_parquet(temporary)
    lines = []
    for modality in vectors:
        new = ids.filter(pl.col("modality") == modality)["new"]
        lines.append(f"{modality}: {new.sum()} new items, {len(new) - new.sum()} with an ID already")
    return [*lines, f"Wrote {out}."]


def _project_vectors(artifacts: Path) -> dict[str, pl.DataFrame]:
    """Return the current project's embeddings of the modalities that the quantizer was trained on."""
    trained, project = quantized_modalities(read_quantizer(artifacts)), Project.load()
    return {modality: project.embeddings(modality) for modality in project.modalities if modality in trained}


def _read_vectors(argument: str) -> tuple[str, pl.DataFrame]:
    """Read one `MODALITY=FILE`."""
    modality, _, file = argument.partition("=")
    if not file or not Path(file).is_file():
        raise InputError("--vectors", expected="MODALITY=FILE", found=argument, remedy=_REMEDY)
    try:
        frame = pl.read_parquet(file, columns=["item_key", "vector"])
    except pl.exceptions.PolarsError as error:
        raise InputError(
            file, expected="item_key and vector", found=str(error).splitlines()[0], remedy=_REMEDY
        ) from error
    return modality, frame.with_columns(pl.col("item_key").cast(pl.String))
