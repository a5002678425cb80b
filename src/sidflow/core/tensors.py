"""Tensor artifacts: safetensors with numpy arrays, metadata as one JSON string, shapes checked by axis names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sidflow.core.errors import InputError
from sidflow.core.files import VersionedArtifact, atomic_path, note_write

METADATA_KEY = "sidflow"  # with two keys or more the bytes of a safetensors file are not stable


def schema_of(path: Path) -> str:
    """Return the name of the schema of a tensor file; empty where it is no tensor file of ours."""
    try:
        with safe_open(path, framework="numpy") as handle:
            return str(json.loads((handle.metadata() or {}).get(METADATA_KEY, "{}")).get("schema", ""))
    except (OSError, SafetensorError, ValueError, AttributeError):
        return ""


class Tensors(NamedTuple):
    """The content of a tensor file."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]


@dataclass(frozen=True)
class TensorFile(VersionedArtifact):
    """One tensor artifact: its path, and the dtype and named axes of each array.

    `arrays` maps a name to "dtype axis axis ...", for example "float32 n d". An axis name has the same size
    everywhere in one file. "float32|float16 n d" may be stored as either, and is read as the first. `optional` names
    may be absent. With `free` the file may have further arrays (a model's weights), only checked to be finite.
    """

    arrays: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    free: bool = False

    def write(self, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, object], **names: str) -> Path:
        """Check and write the artifact; return its path.

        Raises:
            InputError: an array is missing, unknown, of another dtype or shape, or not finite.
        """
        path = self.at(**names)
        self._verify(arrays, path)
        text = json.dumps({"schema": self.name, "version": self.version, **metadata}, sort_keys=True)
        with atomic_path(path) as temporary:
            ordered = {key: np.ascontiguousarray(arrays[key]) for key in sorted(arrays)}
            save_file(ordered, temporary, metadata={METADATA_KEY: text})
        note_write(path)
        return path

    def read(self, **names: str) -> Tensors:
        """Return the artifact at its path, checked."""
        return self.read_from(self.at(**names))

    def read_from(self, path: Path) -> Tensors:
        """Return the artifact of this kind at `path`, checked.

        Raises:
            InputError: the file is absent, of another schema or version, or fails a check.
        """
        self.require_file(path, "tensors")
        try:
            with safe_open(path, framework="numpy") as handle:
                metadata = json.loads((handle.metadata() or {}).get(METADATA_KEY, "{}"))
                arrays = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise InputError(
                str(path), expected="a safetensors file", found=str(error), remedy="delete it and run `dvc repro`"
            ) from error
        self.check_schema(path, metadata)
        self._verify(arrays, path)
        return Tensors({name: self._as_read(name, array) for name, array in arrays.items()}, metadata)

    def _as_read(self, name: str, array: np.ndarray) -> np.ndarray:
        """Return an array in the first dtype that it may be stored in."""
        if name not in self.arrays:
            return array
        return array.astype(self.arrays[name].split()[0].partition("|")[0], copy=False)

    def _verify(self, arrays: Mapping[str, np.ndarray], path: Path) -> None:
        remedy = "rerun the stage that writes it; if that repeats, report a defect"
        missing = [name for name in self.arrays if name not in arrays and name not in self.optional]
        unknown = [] if self.free else [name for name in arrays if name not in self.arrays]
        if missing or unknown:
            raise InputError(
                str(path),
                expected=f"arrays {sorted(self.arrays)}",
                found=f"missing {missing}, unknown {unknown}",
                remedy=remedy,
            )
        sizes: dict[str, int] = {}
        for name, array in arrays.items():
            if name in self.arrays:
                dtypes, *axes = self.arrays[name].split()
                shape = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=False))
                if array.dtype.name not in dtypes.split("|") or len(axes) != array.ndim or shape != array.shape:
                    raise InputError(
                        str(path),
                        expected=f"{name} as {dtypes} {axes} with sizes {sizes}",
                        found=f"{array.dtype} {array.shape}",
                        remedy=remedy,
                    )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = np.argwhere(~np.isfinite(array))
                raise InputError(
                    str(path),
                    expected=f"finite values in {name}",
                    found="NaN or infinity",
                    count=len(bad),
                    example=tuple(int(index) for index in bad[0]),
                    remedy=remedy,
                )
