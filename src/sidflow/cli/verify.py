"""`sidflow verify`: reruns the whole DAG in a temporary copy and compares the hash of every artifact with dvc.lock."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from sidflow.cli.dvc import LOCK_PATH, dvc_environment, dvc_executable, git_output, locked_outs
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.core.runtime import RUNTIME_PATH


class Compared(NamedTuple):
    """One artifact's two hashes; empty where it is on one side only."""

    path: str
    committed: str
    remade: str


class Verified(NamedTuple):
    """The result of a verification."""

    artifacts: list[Compared]
    failure: str  # the end of what a failed stage printed; empty where all ran
    copy: Path | None  # where the copy lies, if it was kept

    @property
    def same(self) -> bool:
        """Whether everything was made again, bit for bit."""
        return not self.failure and all(artifact.committed == artifact.remade for artifact in self.artifacts)


def verify(*, here: bool = False, keep: bool = False) -> Verified:
    """Rerun the DAG in a copy of the last commit (of the working tree with `here`), no cache shared, and compare.

    Raises:
        InputError: there is no commit or no lock to compare with.
    """
    folder = Path(tempfile.mkdtemp(prefix="sidflow-verify-"))
    copy = folder / "copy"
    try:
        _copy_tree(copy) if here else _clone(copy)
        committed = {out.path: out.md5 for out in locked_outs(copy / LOCK_PATH)}
        if not committed:
            raise InputError(
                str(LOCK_PATH),
                expected="a lock to compare with",
                found="no outs in it",
                remedy="`dvc repro`" + ("" if here else " and commit dvc.lock, or `sidflow verify --here`"),
            )
        _add_ignored_files(copy)
        failure = _rerun(copy, folder)
        remade = {out.path: out.md5 for out in locked_outs(copy / LOCK_PATH)} if not failure else {}
        paths = sorted(committed.keys() | remade.keys())
        artifacts = [Compared(path, committed.get(path, ""), remade.get(path, "")) for path in paths]
        return Verified([] if failure else artifacts, failure, folder if keep else None)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def verification_lines(verified: Verified) -> list[str]:
    """Return a line per artifact and a summary."""
    if verified.failure:
        lines = [f"The rerun failed: {verified.failure}"]
    else:
        width = max(len(artifact.path) for artifact in verified.artifacts)
        lines = [_line(artifact, width) for artifact in verified.artifacts]
        differing = sum(artifact.committed != artifact.remade for artifact in verified.artifacts)
        lines.append(f"{len(lines) - differing} artifacts are the same, {differing} differ.")
    return [*lines, f"The copy is kept in {verified.copy}."] if verified.copy else lines


def _line(artifact: Compared, width: int) -> str:
    if artifact.committed == artifact.remade:
        return f"same     {artifact.path:<{width}}  {artifact.remade}"
    committed, remade = artifact.committed or "not in the lock", artifact.remade or "not made"
    return f"DIFFERS  {artifact.path:<{width}}  {committed} -> {remade}"


def _clone(copy: Path) -> None:
    git_output("clone", "--quiet", "--no-tags", ".", str(copy))


def _copy_tree(copy: Path) -> None:
    names = git_output("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, [*names, LOCK_PATH.as_posix()]):
        if Path(name).is_file() and not (copy / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, copy / name)
    git_output("init", "--quiet", folder=copy)


def _add_ignored_files(copy: Path) -> None:
    """Add the runtime settings to the copy, and raw data that lies inside the project."""
    if RUNTIME_PATH.is_file():
        shutil.copyfile(RUNTIME_PATH, copy / RUNTIME_PATH)
    path = (params.load_params(copy / params.PARAMS_PATH).get("ingest") or {}).get("path")
    if path and not (copy / path).exists() and Path(path).exists():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).symlink_to(Path(path).resolve())


def _rerun(copy: Path, folder: Path) -> str:
    program = dvc_executable()
    if program is None or not (copy / ".dvc").is_dir():
        raise InputError("dvc", expected="DVC and a project of it", found="none", remedy="`make` sets it up")
    environment = dvc_environment({"SIDFLOW_CACHE": str(folder / "cache")})
    for arguments in (["config", "--local", "cache.dir", "own-cache"], ["repro", "--force", "--no-run-cache"]):
        last_line = ""
        with subprocess.Popen(
            [str(program), *arguments],
            cwd=copy,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", file=sys.stderr, flush=True)
                last_line = line.strip() or last_line
        if process.returncode:
            return f"`dvc {' '.join(arguments)}` ended with code {process.returncode}: {last_line}"
    return ""
