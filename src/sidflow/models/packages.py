"""Models whose files an installed Python package carries. The package is never imported.

Its files are located through its installed metadata and checked against the sha256 in params. A folder with safetensors
is read where it is. A GGUF file or a zip is turned once into such a folder, under `models/` in the cache folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path, PurePosixPath

from sidflow.core.errors import InputError
from sidflow.core.files import atomic_folder
from sidflow.core.runtime import load_runtime
from sidflow.core.stage import print_progress
from sidflow.models.params import ModelParams

CONTENT = "CONTENT"  # in a folder that was made here: the sha256 of its files, as JSON
MAKER = 1  # raised where the way that folders are made changes
WEIGHTS = (".safetensors", ".gguf", ".zip")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5")
UNPACKED = (".safetensors", ".json", ".jinja", ".model", ".txt")  # files taken out of a zip
MAX_UNPACKED = 50e9  # bytes


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def find_package(requirement: str, slot: str) -> importlib.metadata.Distribution:
    """Return the installed package `name==version`, without importing it.

    Raises:
        InputError: no such package is installed, or another version.
    """
    name, separator, version = requirement.partition("==")
    if not (name and separator and version):
        raise InputError(
            f"params.yaml:{slot}.package",
            expected="name==version of an installed package",
            found=repr(requirement),
            remedy=f"set {slot}.package, or another kind",
        )
    try:
        package = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        package = None
    if package is None or package.version != version:
        raise InputError(
            f"params.yaml:{slot}.package",
            expected=f"the installed package {requirement}",
            found="none" if package is None else f"version {package.version}",
            remedy=f"`make pretrained`, or `python -m pip install --no-deps {requirement}`",
        )
    return package


def weight_files(model: ModelParams, slot: str) -> dict[str, Path]:
    """Return the weight files that `model` names in its package, by name, unchecked.

    Raises:
        InputError: the package is not installed, or has no such file, or only pickled weights.
    """
    package = find_package(model.package, slot)
    inside = PurePosixPath(model.file)
    listed = [PurePosixPath(str(file)) for file in package.files or ()]
    files = [file for file in listed if model.file and inside in (file, file.parent)]
    weights = {file.name: file for file in files if file.suffix in WEIGHTS}
    if not weights:
        pickled = [file.name for file in files if file.suffix in PICKLES]
        raise InputError(
            f"params.yaml:{slot}.file",
            expected=f"a folder with safetensors, a .gguf or a .zip in {model.package}",
            found=f"pickled weights, which run code when they are read: {pickled[0]}" if pickled else repr(model.file),
            remedy="name another file" if not pickled else "use a package with safetensors or GGUF weights",
        )
    return {name: Path(str(package.locate_file(file))) for name, file in sorted(weights.items())}


def package_folder(model: ModelParams, slot: str) -> Path:
    """Return a folder as transformers saves it, with the checked weights of a package.

    Args:
        model: of kind package.
        slot: the section of params.yaml, for messages.

    Raises:
        InputError: the package or file is not here, its weights are others than params say, or they cannot be turned
            into a folder.
    """
    weights = weight_files(model, slot)
    for name in sorted({*weights, *model.sha256}):
        _check_hash(name, weights.get(name), model, slot)
    first = next(iter(weights.values()))
    if first.suffix == ".safetensors":
        return first.parent
    if len(weights) > 1:
        raise InputError(
            f"params.yaml:{slot}.file",
            expected="one .gguf or .zip",
            found="several",
            count=len(weights),
            example=first.name,
            remedy="name the file itself",
        )
    return _made_folder(first, model, slot)


def _check_hash(name: str, path: Path | None, model: ModelParams, slot: str) -> None:
    expected = model.sha256.get(name)
    if path is None or not path.is_file():
        found = "no such file"
    else:
        found = sha256_of(path)
        if found == expected:
            return
    raise InputError(
        f"params.yaml:{slot}.sha256, {name} of {model.package}",
        expected=expected or "the sha256 of every weight file",
        found=found if expected else f"none given; the file has {found}",
        remedy=f"`python -m pip install --no-deps --force-reinstall {model.package}`, or correct the hash",
    )


def _made_folder(source: Path, model: ModelParams, slot: str) -> Path:
    """Return the folder made of a .gguf or .zip, from the cache where it is there unharmed.

    One process makes it at a time; the lock ends with its process. What a killed one left is removed.
    """
    made_of = [MAKER, sorted(model.sha256.items()), importlib.metadata.version("transformers")]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    folder = load_runtime().cache_folder / "models" / f"{model.package.replace('==', '-')}-{digest}"
    with _locked(folder):
        if _is_whole(folder):
            return folder
        for leftover in folder.parent.glob(f".{folder.name}.*"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
        print_progress(f"{slot}: {source.name} becomes a folder with safetensors in the cache, once")
        with atomic_folder(folder) as temporary:
            temporary.mkdir()
            (_unzip if source.suffix == ".zip" else _dequantize)(source, temporary, slot)
            hashes = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
            (temporary / CONTENT).write_text(json.dumps(hashes, indent=2) + "\n")
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_whole(folder: Path) -> bool:
    """Return whether the folder was made here and its files are those of then."""
    try:
        hashes = json.loads((folder / CONTENT).read_text())
        return {path.name for path in folder.iterdir()} == {CONTENT, *hashes} and all(
            sha256_of(folder / name) == digest for name, digest in hashes.items()
        )
    except (OSError, ValueError, AttributeError):
        return False


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
    """Write the files of the archive's model folder, that of its only config.json, to `folder`.

    Raises:
        InputError: it is no zip, has no or several models, no safetensors, or would become too large.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            homes = {PurePosixPath(member.filename).parent for member in members if _name(member) == "config.json"}
            homes = {home for home in homes if any(_is_weight(member, home) for member in members)}
            if len(homes) != 1:
                raise _bad_zip(source, slot, f"{len(homes)} folders with config.json and *.safetensors")
            home = homes.pop()
            chosen = [m for m in members if PurePosixPath(m.filename).parent == home and _name(m).endswith(UNPACKED)]
            if sum(member.file_size for member in chosen) > MAX_UNPACKED:
                raise _bad_zip(source, slot, f"more than {MAX_UNPACKED / 1e9:.0f} GB")
            for member in chosen:
                with archive.open(member) as packed, (folder / _name(member)).open("wb") as target:
                    shutil.copyfileobj(packed, target)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _bad_zip(source, slot, f"{type(error).__name__}: {error}") from error


def _name(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename).name


def _is_weight(member: zipfile.ZipInfo, home: PurePosixPath) -> bool:
    return PurePosixPath(member.filename).parent == home and member.filename.endswith(".safetensors")


def _bad_zip(source: Path, slot: str, found: str) -> InputError:
    return InputError(
        str(source),
        expected="a zip with one model folder: config.json and *.safetensors",
        found=found,
        remedy=f"name another file in params.yaml:{slot}.file",
    )
