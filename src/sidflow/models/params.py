"""How params name a trained model: by folder, by hub commit, or by installed package."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal, Self

from pydantic import Field, model_validator

from sidflow.core.errors import InvalidValue
from sidflow.core.params import Params

NOT_STATED = "not stated"  # in place of a licence
JOINED = "joined"  # in `sha256`: of the file that parts make together
FIELDS = {"path": {"path"}, "hub": {"repo", "commit"}, "package": {"package", "file", "sha256"}}  # by kind


class ModelParams(Params):
    """A trained model, as every slot that takes one names it."""

    kind: Literal["path", "hub", "package"] = Field(
        description="path: a local folder | hub: a pinned repository | package: files of an installed package"
    )
    path: str = Field(
        default="", description="of kind path: a folder as transformers saves it, safetensors weights only"
    )
    repo: str = Field(default="", description="of kind hub: owner/name")
    commit: str = Field(default="", description="of kind hub: the commit's 40 hex digits, never a branch")
    package: str | tuple[str, ...] = Field(
        default="", description="of kind package: name==version, installed (`make pretrained`); a list: of its parts"
    )
    file: str | tuple[str, ...] = Field(
        default="", description="of kind package: a folder, .gguf or .zip; a list: parts of one, joined in this order"
    )
    sha256: dict[str, str] = Field(
        default={}, description="of kind package: by name, of each weight file; of parts also `joined`"
    )
    licence: str = Field(default="", description="of the weights, as their publisher states it; recorded only")
    weights: Literal["pretrained", "random"] = Field(
        default="pretrained", description="pretrained | random: the same shape, untrained, as a control"
    )

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that have the files."""
        return (self.package,) if isinstance(self.package, str) else self.package

    @property
    def package_name(self) -> str:
        """The package in a line."""
        first, *others = self.packages
        return f"{first} and {len(others)} more" if others else first

    @property
    def origin(self) -> str:
        """Where the model is from, in a line; of a folder outside of the project its name alone."""
        if self.kind == "hub":
            return f"hub {self.repo}@{self.commit}"
        if self.kind == "package":
            files = self.parts or (self.file,)
            hashes = ", ".join(f"{name} {digest}" for name, digest in sorted(self.sha256.items()))
            return f"package {', '.join(self.packages)}; file {', '.join(map(str, files))}; sha256 {hashes}"
        outside = PurePath(self.path).is_absolute() or self.path.startswith(("~", ".."))
        return f"folder {PurePath(self.path).name if outside else self.path}"

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a file, in their order; empty where the file is whole."""
        return () if isinstance(self.file, str) else self.file

    @property
    def part_hashes(self) -> dict[str, str]:
        """The sha256 of each part, by name."""
        return {name: digest for name, digest in self.sha256.items() if name != JOINED}

    @model_validator(mode="after")
    def _parts_are_several(self) -> Self:
        check_parts(self.package, self.file, self.sha256)
        return self

    def unused(self) -> frozenset[str]:
        """The fields of the other kinds."""
        return frozenset(name for kind, names in FIELDS.items() if kind != self.kind for name in names)


def check_parts(package: str | tuple[str, ...], file: str | tuple[str, ...], sha256: dict[str, str]) -> None:
    """Check what params say of a model's parts; the arguments are the fields of `ModelParams`.

    Raises:
        InvalidValue: there are too few, one stands twice, or a package or hash is left over or missing.
    """
    if isinstance(file, str):
        if not isinstance(package, str):
            raise InvalidValue("`package` as one name==version where `file` is no list", "a list")
        return
    names = [path.rpartition("/")[2] for path in file]
    packages = (package,) if isinstance(package, str) else package
    if len(file) < 2 or len(set(names)) < len(names):
        raise InvalidValue("`file` as two or more parts of different names", ", ".join(names) or "none")
    if not packages or len(set(packages)) < len(packages):
        raise InvalidValue("`package` with each package once", ", ".join(packages) or "none")
    if set(sha256) != {*names, JOINED}:
        wrong = sorted({*names, JOINED} ^ set(sha256))[0]
        raise InvalidValue(
            f"`sha256` of each part by name, and of all together as `{JOINED}`",
            f"{'another name' if wrong in sha256 else 'none for'} `{wrong}`",
        )
