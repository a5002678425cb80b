"""Turns a GGUF file, a zip, or the parts of one into a folder with safetensors, once, under `models/` in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path, PurePosixPath
from typing import Any

from sidflow.core.errors import InputError
from sidflow.core.files import atomic_folder, atomic_path
from sidflow.core.runtime import load_runtime
from sidflow.core.stage import print_progress
from sidflow.models.params import JOINED, NOT_STATED, ModelParams

CONTENT = "CONTENT"  # in a folder that was made here, as JSON: `files` with their sha256, and what it was made of
MAKER = 2  # raised where the way that folders are made changes
UNPACKED = (".safetensors", ".json", ".jinja", ".model", ".txt")  # files taken out of a zip
MAX_UNPACKED = 50e9  # bytes, of parts together and of what a zip holds
BLOCK = 1 << 20  # bytes that are copied at a time
GGUF, ZIP = b"GGUF", b"PK"  # first bytes of the file


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def unpacked_folder(sources: Sequence[Path], model: ModelParams, slot: str) -> Path:
    """Return the folder made of a .gguf or .zip, from the cache where it is there unharmed.

    One process makes it at a time; the lock ends with its process. What a killed one left is removed.

    Args:
        sources: the file, or its parts in order; their hashes have been checked.
        model: as params name it.
        slot: the section of params.yaml, for messages.

    Raises:
        InputError: the parts do not make the file that params name, or it cannot be turned into a folder.
    """
    made_of = [MAKER, model.parts, sorted(model.sha256.items()), importlib.metadata.version("transformers")]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    folder = load_runtime().cache_folder / "models" / f"{model.packages[0].replace('==', '-')}-{digest}"
    source = {
        "package": list(model.packages),
        "file": list(model.parts) or [model.file],
        "sha256": model.sha256,
        "licence": model.licence or NOT_STATED,
        "transformers": importlib.metadata.version("transformers"),
    }
    with _locked(folder):
        if (content := _whole_content(folder)) is not None:
            if content != content | source:  # params state another licence than they did
                _write_content(folder, source, content["files"])
            return folder
        for leftover in folder.parent.glob(f".{folder.name}.*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
        name = f"a file in {len(sources)} parts" if model.parts else sources[0].name
        print_progress(f"{slot}: {name} becomes a folder with safetensors in the cache, once")
        with atomic_folder(folder) as temporary:
            temporary.mkdir()
            whole = _joined(sources, temporary.parent / "whole", model, slot) if model.parts else sources[0]
            (_dequantize if _kind(whole, slot) == GGUF else _unzip)(whole, temporary, slot)
            _write_content(temporary, source, {name: sha256_of(temporary / name) for name in _file_names(temporary)})
    return folder


def _write_content(folder: Path, source: Mapping[str, Any], files: Mapping[str, str]) -> None:
    with atomic_path(folder / CONTENT) as temporary:
        temporary.write_text(json.dumps({**source, "files": files}, indent=2) + "\n")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _file_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _whole_content(folder: Path) -> dict[str, Any] | None:
    """Return what is recorded of a folder that was made here and whose files are those of then; else None."""
    try:
        content = json.loads((folder / CONTENT).read_text())
        hashes = content["files"]
        unharmed = {*_file_names(folder)} == {CONTENT, *hashes} and all(
            sha256_of(folder / name) == digest for name, digest in hashes.items()
        )
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return None
    return content if unharmed else None


def _joined(parts: Sequence[Path], target: Path, model: ModelParams, slot: str) -> Path:
    """Write the parts one after another, as params order them, and return the file.

    Raises:
        InputError: they are too large, or make another file than the one whose sha256 params give.
    """
    size = sum(part.stat().st_size for part in parts)
    if size > MAX_UNPACKED:
        raise InputError(
            f"params.yaml:{slot}.file",
            expected=f"parts of at most {MAX_UNPACKED / 1e9:.0f} GB together",
            found=f"{size / 1e9:.0f} GB",
            remedy="name a smaller model, or a folder (kind: path)",
        )
    digest = hashlib.sha256()
    with target.open("wb") as whole:
        for part in parts:
            with part.open("rb") as handle:
                while block := handle.read(BLOCK):
                    whole.write(block)
                    digest.update(block)
    if digest.hexdigest() != model.sha256[JOINED]:
        raise InputError(
            f"params.yaml:{slot}.sha256, {JOINED}",
            expected=model.sha256[JOINED],
            found=f"{digest.hexdigest()} of the parts in the order of `file`",
            remedy="name all parts in their order, or correct the hash",
        )
    return target


def _kind(source: Path, slot: str) -> bytes:
    """Return how a file begins: as a GGUF file or as a zip.

    Raises:
        InputError: as neither.
    """
    with source.open("rb") as handle:
        start = handle.read(len(GGUF))
    if start != GGUF and source.suffix != ".gguf":
        if start.startswith(ZIP) or source.suffix == ".zip":
            return ZIP
        raise InputError(
            f"params.yaml:{slot}.file",
            expected="parts that make a GGUF file or a zip",
            found=f"a file that begins with {start!r}",
            remedy="name all parts in their order",
        )
    return GGUF


def _dequantize(source: Path, folder: Path, slot: str) -> None:
    """Write the model and tokenizer of a GGUF file to `folder`, in float32."""
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            f"params.yaml:{slot}.file",
            expected="the package gguf, which reads GGUF files",
            found="none",
            remedy="`make pretrained`, or `python -m pip install --no-deps gguf`",
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from sidflow.models.loading import load_errors_as_input_errors, without_library_output

    remedy = "use a file of another architecture or quantization, or a folder (kind: path)"
    expected = "a GGUF file of a causal LM that transformers reads"
    bars = redirect_stderr(io.StringIO())  # transformers' bar over the tensors cannot be turned off
    with load_errors_as_input_errors(source, expected, remedy), without_library_output(), bars:
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            source.parent, gguf_file=source.name, trust_remote_code=False, local_files_only=True
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _unzip(source: Path, folder: Path, slot: str) -> None:
    """Write the archive's model folder, that of its config.json and safetensors, and the folders in it to `folder`.

    The folders in it hold further layers of sentence-transformers; nothing deeper is taken.

    Raises:
        InputError: it is no zip, has no or several models, names that lead out of it, or would become too large.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = {PurePosixPath(one.filename): one for one in archive.infolist() if not one.is_dir()}
            outside = [path for path in members if path.is_absolute() or ".." in path.parts]
            if outside:
                raise _bad_zip(source, slot, f"a name that leads out of it, {str(outside[0])!r}")
            home = _model_home(list(members), source, slot)
            chosen = {
                path.relative_to(home): member
                for path, member in members.items()
                if home in (path.parent, path.parent.parent) and path.suffix in UNPACKED
            }
            if sum(member.file_size for member in chosen.values()) > MAX_UNPACKED:
                raise _bad_zip(source, slot, f"more than {MAX_UNPACKED / 1e9:.0f} GB")
            for path, member in chosen.items():  # a member yields no more bytes than its `file_size`
                (folder / path.parent).mkdir(exist_ok=True)
                with archive.open(member) as packed, (folder / path).open("wb") as target:
                    shutil.copyfileobj(packed, target)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _bad_zip(source, slot, f"{type(error).__name__}: {error}") from error


def _model_home(paths: Sequence[PurePosixPath], source: Path, slot: str) -> PurePosixPath:
    """Return the folder in an archive that has config.json and safetensors and is in no other such folder."""
    homes = {path.parent for path in paths if path.name == "config.json"}
    homes &= {path.parent for path in paths if path.suffix == ".safetensors"}
    outermost = [home for home in homes if not homes.intersection(home.parents)]
    if len(outermost) != 1:
        raise _bad_zip(source, slot, f"{len(outermost)} folders with config.json and *.safetensors")
    return outermost[0]


def _bad_zip(source: Path, slot: str, found: str) -> InputError:
    return InputError(
        f"params.yaml:{slot}.file",
        expected="a zip with one model folder: config.json and *.safetensors",
        found=found,
        remedy=f"name another file than {source.name}",
    )
