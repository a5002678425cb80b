"""The rules of the house that no linter knows."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.code_deps import closure

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
SHARED = {"contracts", "counting", "hybrid", "losses", "measures", "sequences", "training"}
DOMAINS = {"catalog", "splits", "semantics", "embedding", "quantize", "recommenders", "llm", "ranking", "evaluation"}
TOP = {
    "report",
    "serving",
    "api",
    "commands",
    "cli",
}  # read every domain's artifacts; only the command line may call domains
FREE_OF_TORCH = [
    "ingest",
    "split",
    "describe",
    "train_counting",
    "train_content",
    "assign",
    "rank",
    "evaluate",
    "compare",
    "report",
]


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("sidflow.")}


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: p.relative_to(SRC / "sidflow").as_posix())
def test_who_may_import_whom(path):
    parts = path.relative_to(SRC / "sidflow").with_suffix("").parts
    home, names = parts[0], imports_of(path)
    roots = {name.split(".")[0] for name in names}
    assert "stages" not in roots
    assert "dvc" not in roots
    if home != "cli":
        assert "typer" not in roots
    if home == "contracts":
        assert packages(names) <= {"contracts"}
    elif home in SHARED:
        assert packages(names) <= SHARED
    elif home in DOMAINS or home == "report":
        assert packages(names) <= SHARED | {home}, "domains meet through artifacts"


def test_every_package_is_known():
    found = {path.stem for path in (SRC / "sidflow").iterdir() if path.stem not in {"__init__", "__pycache__"}}
    assert found <= SHARED | DOMAINS | TOP


@pytest.mark.parametrize("stage", FREE_OF_TORCH)
def test_light_stages_never_import_torch(stage):
    code = f"import runpy, sys; runpy.run_path('stages/{stage}.py'); print('torch' in sys.modules)"
    own = os.environ | {"PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    lazily = {name.split(".")[0] for file in closure(ROOT / f"stages/{stage}.py", SRC) for name in imports_of(file)}
    assert not lazily & {"torch", "transformers", "peft", "accelerate"}


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda p: p.stem)
def test_a_stage_reads_top_to_bottom_in_a_minute(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 75
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert "Run: dvc repro" in doc


def test_nothing_unsafe():
    for path in [*SRC.rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        names, text = imports_of(path), path.read_text()
        assert not names & {"pickle", "joblib", "dill", "cloudpickle"}, path
        for word in ("torch.load(", "torch.save(", "os.system(", "trust_remote_code=True", "allow_pickle=True"):
            assert word not in text, f"{path}: {word}"
