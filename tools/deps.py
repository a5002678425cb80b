"""Write each stage's code deps into dvc.yaml: the import closure of its script. Run: make deps."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sidflow.contracts.imports import closure

ROOT = Path(__file__).resolve().parents[1]
CODE = ("stages/", "src/")


def with_code_deps(text: str, root: Path = ROOT) -> str:
    """Return dvc.yaml's `text` with the code deps of every stage renewed."""
    lines: list[str] = []
    script: Path | None = None
    indent: str | None = None  # of the `deps:` list that we are in

    def close() -> None:
        nonlocal indent
        if indent is not None and script is not None:
            files = [file.relative_to(root).as_posix() for file in closure(root / script, root / "src")]
            lines.extend(f"{indent}- {file}" for file in files)
        indent = None

    for line in text.splitlines():
        command = re.match(r"\s+cmd: .*python (stages/\w+\.py)", line)
        if command:
            script = Path(command.group(1))
        item = re.match(r"(\s+)- (\S+)$", line)
        if indent is not None and not (item and item.group(1) == indent):
            close()
        if indent is not None and item and item.group(2).startswith(CODE):
            continue
        lines.append(line)
        begins = re.match(r"(\s+)deps:$", line)
        if begins:
            indent = begins.group(1) + "  "
    close()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = ROOT / "dvc.yaml"
    before = path.read_text()
    after = with_code_deps(before)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if before == after else "dvc.yaml: code deps differ from the import closures. Remedy: make deps")
    path.write_text(after)
