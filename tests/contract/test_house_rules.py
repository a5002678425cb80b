"""The rules of the house that no linter knows."""

import ast
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.code_deps import closure, code_deps

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
# What each package imports beside itself and `core`; docs/design.md has the same arrows. They make no cycle.
ARROWS = {
    "core": set(),
    "artifacts": set(),
    "metrics": set(),
    "catalog": {"artifacts"},
    "semantics": {"artifacts", "models"},
    "models": set(),
    "small_writer": {"artifacts", "catalog", "models", "semantics", "training"},
    "features": {"artifacts", "metrics", "models", "sequences", "training"},
    "sequences": {"artifacts"},
    "training": {"metrics", "sequences"},
    "counting": {"artifacts", "metrics", "sequences"},
    "hybrid": {"artifacts", "metrics", "sequences", "training"},
    "candidate_ranking": {"artifacts", "metrics", "sequences", "training"},
    "blending": {"artifacts", "counting", "metrics", "ranking", "sequences"},
    "semantic_ids": {"artifacts", "metrics", "sequences", "training"},
    "backbones": {"artifacts", "models", "sequences", "training"},
    "sequential": {"artifacts", "hybrid", "sequences", "training"},
    "multimodal": {"artifacts", "hybrid", "sequential", "training"},
    "mme_sid": {"artifacts", "backbones", "hybrid", "metrics", "models", "sequences", "training"},
    "generative": {"artifacts", "backbones", "models", "sequences", "training"},
    "ranking": {"artifacts", "sequences"},
    "evaluation": {"artifacts", "metrics", "sequences"},
    "report": {"artifacts", "evaluation", "metrics", "sequences"},
}
TOP = {"serving", "api", "cli"}  # they may import any package; no package imports them
FREE_OF_TORCH = [
    "ingest",
    "split",
    "describe",
    "audit_embeddings",
    "train_counting",
    "train_content",
    "assign",
    "blend",
    "rank",
    "evaluate",
    "compare",
    "report",
]
LAZILY_WITH_TORCH = {"describe"}  # only where params name a model that runs here


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


def runtime_imports(path: Path) -> set[str]:
    """Return the modules that importing `path` imports: those at its top level, but for type checkers' alone."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def packages(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("sidflow.")}


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: p.relative_to(SRC / "sidflow").as_posix())
def test_who_may_import_whom(path):
    parts = path.relative_to(SRC / "sidflow").with_suffix("").parts
    home, names = parts[0], imports_of(path)
    roots = {name.split(".")[0] for name in names}
    assert not roots & {"stages", "tools", "experiments", "dvc"}
    if home != "cli":
        assert "typer" not in roots
    if home in ARROWS:
        assert packages(names) <= ARROWS[home] | {"core", home}


def test_every_package_has_its_arrows_and_they_make_no_cycle():
    present = {path.stem for path in (SRC / "sidflow").iterdir() if path.stem not in {"__init__", "__pycache__"}}
    assert present == ARROWS.keys() | TOP
    assert set(graphlib.TopologicalSorter(ARROWS).static_order()) == ARROWS.keys()


def test_every_arrow_is_used_and_the_design_page_has_the_same():
    for home, arrows in ARROWS.items():
        assert arrows <= set().union(*(packages(imports_of(path)) for path in (SRC / "sidflow" / home).rglob("*.py")))
    page = (ROOT / "docs/design.md").read_text().partition("## Packages and arrows")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    names = re.compile(r"`([a-z_]+)`")
    drawn = {home: set(names.findall(imported)) for homes, imported in rows for home in names.findall(homes)}
    assert {home: drawn.get(home) for home in ARROWS if home != "core"} == {
        home: arrows for home, arrows in ARROWS.items() if home != "core"
    }


def test_modules_of_a_package_import_one_another_in_one_direction():
    modules = {".".join(path.relative_to(SRC).with_suffix("").parts): path for path in SRC.rglob("*.py")}
    needs = {name: runtime_imports(path) & modules.keys() - {name} for name, path in modules.items()}
    needs.pop("sidflow.__init__")
    graphlib.TopologicalSorter(needs).prepare()  # raises on a cycle


def test_a_change_in_one_family_of_recommenders_reruns_no_other():
    families = {
        "train_counting": "counting",
        "train_sequential": "sequential",
        "quantize": "semantic_ids",
        "finetune": "mme_sid",
        "generate": "generative",
    }
    for stage in families:
        others = {f"src/sidflow/{package}" for name, package in families.items() if name != stage}
        assert not others & set(code_deps(ROOT / f"stages/{stage}.py")), stage


def test_light_stages_never_import_torch():
    """In one process: a stage that imports it is the last that is run."""
    code = """import runpy, sys
for stage in sys.argv[1:]:
    runpy.run_path(f"stages/{stage}.py")
    if "torch" in sys.modules:
        sys.exit(f"{stage} imports torch")"""
    own = os.environ | {"PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, "-c", code, *FREE_OF_TORCH], cwd=ROOT, env=own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", [stage for stage in FREE_OF_TORCH if stage not in LAZILY_WITH_TORCH])
def test_light_stages_have_no_use_for_torch(stage):
    lazily = {name.split(".")[0] for file in closure(ROOT / f"stages/{stage}.py", SRC) for name in imports_of(file)}
    assert not lazily & {"torch", "transformers", "peft", "accelerate"}


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda p: p.stem)
def test_a_stage_reads_top_to_bottom_in_a_minute(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert "Run: dvc repro" in doc


def test_nothing_unsafe():
    for path in [*SRC.rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        names, text = imports_of(path), path.read_text()
        assert not names & {"pickle", "joblib", "dill", "cloudpickle"}, path
        for word in ("torch.load(", "torch.save(", "os.system(", "trust_remote_code=True", "allow_pickle=True"):
            assert word not in text, f"{path}: {word}"
