"""What git and DVC leave of a revision: commits, a cache, a lock."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sidflow.cli.dvc import LOCK_PATH, cached_object
from sidflow.core.files import file_md5


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def somebody(monkeypatch) -> None:
    """Commit under a name of our own, whatever this machine's settings are."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")


def lock(outs: Mapping[str, Path], cache: Path) -> None:
    """Do what DVC does with the out of each stage: a file, or a folder of one file."""
    lines = ["schema: '2.0'", "stages:"]
    for stage, path in outs.items():
        lines += [f"  {stage}:", "    outs:", f"    - {{path: {path}, md5: {_kept(path, cache)}}}"]
    LOCK_PATH.write_text("\n".join(lines) + "\n")


def _kept(path: Path, cache: Path) -> str:
    if path.is_file():
        return _store(path, cache)
    (file,) = path.iterdir()
    listing = Path("listing")
    listing.write_text(json.dumps([{"md5": _store(file, cache), "relpath": file.name}]))
    md5 = _store(listing, cache, ".dir")
    listing.unlink()
    return md5


def _store(path: Path, cache: Path, suffix: str = "") -> str:
    md5 = file_md5(path) + suffix
    target = cached_object(cache, md5)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())
    return md5
