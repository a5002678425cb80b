"""The one reader and writer of tensors: safetensors, metadata as one JSON string, shapes checked by axis names.

Free of torch: arrays are numpy's, so that light stages start fast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sidflow.contracts import trace
from sidflow.contracts.errors import InputError
from sidflow.contracts.files import atomic_path, project_path

METADATA_KEY = "sidflow"  # with two keys or more the bytes of a safetensors file are not stable


class Tensors(NamedTuple):
    """What a tensor file holds."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, object]


@dataclass(frozen=True)
class TensorFile:
    """One tensor artifact: where it lies, and the dtype and named axes of each array.

    `arrays` maps a name to "dtype axis axis ...", for example "float32 n d": the same axis letter is the same
    size everywhere in one file. `optional` names may be absent; with `free` further arrays (a model's weights)
    may be present, unchecked but for being finite.
    """

    name: str
    version: int
    path: str
    arrays: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    free: bool = False

    def at(self, **names: str) -> Path:
        """Return the path with its placeholders filled."""
        return project_path(self.path.format(**names))

    def write(self, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, object], **names: str) -> Path:
        """Check and write atomically.

        Raises:
            InputError: an array is missing, of another dtype or shape, or not finite.
        """
        path = self.at(**names)
        self._verify(arrays, path)
        text = json.dumps({"schema": self.name, "version": self.version, **metadata}, sort_keys=True)
        with atomic_path(path) as temporary:
            ordered = {key: np.ascontiguousarray(arrays[key]) for key in sorted(arrays)}
            save_file(ordered, temporary, metadata={METADATA_KEY: text})
        trace.note_write(path)
        return path

    def read(self, **names: str) -> Tensors:
        """Read and check the artifact at its path."""
        return self.read_from(self.at(**names))

    def read_from(self, path: Path) -> Tensors:
        """Read and check an artifact of this kind that lies at `path`.

        Raises:
            InputError: the file is absent, of another schema or version, or breaks a check.
        """
        trace.note_read(path)
        if not path.is_file():
            raise InputError(
                str(path),
                expected=f"tensors `{self.name}`",
                found="no such file",
                remedy="run `dvc repro` (or `dvc pull`) to make it",
            )
        try:
            with safe_open(path, framework="numpy") as handle:
                metadata = json.loads((handle.metadata() or {}).get(METADATA_KEY, "{}"))
                arrays = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError) as error:
            raise InputError(
                str(path), expected="a safetensors file", found=str(error), remedy="delete it and run `dvc repro`"
            ) from error
        if (metadata.get("schema"), metadata.get("version")) != (self.name, self.version):
            raise InputError(
                str(path),
                expected=f"schema {self.name} version {self.version}",
                found=f"{metadata.get('schema')} version {metadata.get('version')}",
                remedy="run `dvc repro` with this version of sidflow",
            )
        self._verify(arrays, path)
        return Tensors(arrays, metadata)

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
                dtype, *axes = self.arrays[name].split()
                shape = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=False))
                if array.dtype != np.dtype(dtype) or len(axes) != array.ndim or shape != array.shape:
                    raise InputError(
                        str(path),
                        expected=f"{name} as {dtype} {axes} with sizes {sizes}",
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
