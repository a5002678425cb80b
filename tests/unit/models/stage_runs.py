"""Real stages on a catalogue of four items, in a folder of their own."""

import importlib.util
import json
from pathlib import Path

from ruamel.yaml import YAML
from tests.unit.semantics.describing import ITEMS, PICTURES

from sidflow.artifacts.catalog import IMAGES, ITEM_TRUTH
from sidflow.artifacts.catalog import ITEMS as ITEMS_TABLE
from sidflow.artifacts.features import SEMANTICS

ROOT = Path(__file__).parents[3]


def write_project(folder, monkeypatch, **sections):
    """Write a catalogue and params.yaml to `folder`, and work there."""
    monkeypatch.chdir(folder)
    if not Path("prompts").exists():
        Path("prompts").symlink_to(ROOT / "prompts")
    ITEMS_TABLE.write(ITEMS)
    IMAGES.write(PICTURES)
    ITEM_TRUTH.write(ITEM_TRUTH.empty())
    SEMANTICS.write(SEMANTICS.empty())
    content = json.loads(json.dumps({"preset": "t", "seed": 1, "threads": 1, **sections}))
    with Path("params.yaml").open("w") as file:
        YAML().dump(content, file)


def run_stage(name):
    """Run the main function of stages/NAME.py."""
    spec = importlib.util.spec_from_file_location(f"stage_{name}", ROOT / f"stages/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main()
