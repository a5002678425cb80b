"""A copy of the project in a folder of its own, with a catalogue so small that the whole DAG takes a minute."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML
from tests.pipeline.warm import Warm

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny.yaml")
LEFT_OUT = ("artifacts/", "experiments/", "docs/", "tests/", ".dvc/", ".ci/", "dvc.lock")


def merged(base: dict, patch: dict) -> dict:
    """JSON merge patch: nested dicts merge, null deletes, anything else replaces."""
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(base[key] if isinstance(base.get(key), dict) else {}, value)
        else:
            result[key] = value
    return result


class Project:
    """A git and DVC project in `folder`, and the commands that a person types there."""

    def __init__(self, folder: Path, cache: Path, warm: Warm | None = None) -> None:
        """Of `warm` come the commands `python`, `sidflow` and `dvc`; without one every stage loads its libraries."""
        self.folder = folder
        self.warm = warm
        commands = Path(sys.executable).parent if warm is None else warm.folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SIDFLOW_", "DVC_"))},
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "SIDFLOW_CACHE": str(cache),
            "SIDFLOW_DEVICE": "cpu",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
        }  # fmt: skip

    @classmethod
    def create(cls, folder: Path, cache: Path, warm: Warm | None = None) -> Project:
        """Copy the files of this project, shrink the params, and commit."""
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in listed.stdout.splitlines():
            if not name.startswith(LEFT_OUT) and (ROOT / name).is_file():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        project = cls(folder, cache, warm)
        yaml = YAML(typ="safe")
        project.set_params(yaml.load(TINY.read_text()))
        project.run("git", "init", "-q", "-b", "main")
        project.run("dvc", "init", "-q")
        shutil.copy2(ROOT / ".dvc/config", folder / ".dvc/config")
        project.commit("a tiny catalogue")
        return project

    def copy(self, folder: Path) -> Project:
        """Copy everything but DVC's cache, which both share from then on."""
        shutil.copytree(self.folder, folder, symlinks=True, ignore=_cache_and_scratch)
        (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {self.folder}/.dvc/cache\n")
        return Project(folder, Path(self.environment["SIDFLOW_CACHE"]), self.warm)

    def run(self, *command: str, check: bool = True, **environment: str) -> str:
        """Run `command` in the project and return what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def repro(self, *arguments: str, **environment: str) -> set[str]:
        """Run `dvc repro` and return the stages that ran, restored ones not counted."""
        return ran(self.run("dvc", "repro", *arguments, **environment))

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def params(self) -> dict:
        """Return params.yaml."""
        return YAML(typ="safe").load((self.folder / "params.yaml").read_text())

    def set_params(self, patch: dict) -> None:
        """Merge `patch` into params.yaml."""
        with (self.folder / "params.yaml").open("r+") as handle:
            content = merged(YAML(typ="safe").load(handle), patch)
            handle.seek(0)
            handle.truncate()
            YAML().dump(content, handle)

    def lock(self) -> dict:
        """Return the stages of dvc.lock."""
        return YAML(typ="safe").load((self.folder / "dvc.lock").read_text())["stages"]

    def hashes(self) -> dict[str, str]:
        """Return the hash of every artifact in dvc.lock."""
        return {out["path"]: out["md5"] for stage in self.lock().values() for out in stage.get("outs", [])}


def _cache_and_scratch(folder: str, names: list[str]) -> set[str]:
    return {"cache", "tmp"} & set(names) if Path(folder).name == ".dvc" else set()


def ran(output: str) -> set[str]:
    """Return the stages that DVC says it ran."""
    return set(re.findall(r"Running stage '([^']+)'", output))
