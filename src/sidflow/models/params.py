"""How params name a trained model: by folder, by hub commit, or by installed package."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.core.params import Params

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
    package: str = Field(default="", description="of kind package: name==version, installed (`make pretrained`)")
    file: str = Field(default="", description="of kind package: a folder, .gguf or .zip in it, from its root")
    sha256: dict[str, str] = Field(default={}, description="of kind package: the sha256 of each weight file by name")
    licence: str = Field(default="", description="of the weights, as their publisher states it; recorded only")
    weights: Literal["pretrained", "random"] = Field(
        default="pretrained", description="pretrained | random: the same shape, untrained, as a control"
    )

    def unused(self) -> frozenset[str]:
        """The fields of the other kinds."""
        return frozenset(name for kind, names in FIELDS.items() if kind != self.kind for name in names)
