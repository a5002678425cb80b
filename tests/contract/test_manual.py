"""The manual's tables are those of the models, and the commands of its first page run as they are written."""

import csv
import random
import re
import shlex
import shutil
from pathlib import Path

import pytest
from tests.pipeline.project import Project
from tools import manual

from sidflow.catalog.params import SOURCE_NAMES, IngestParams
from sidflow.cli.check import check
from sidflow.cli.presets import compose, plain_values
from sidflow.core.params import Params

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", manual.PAGES)
def test_tables_of_the_manual_are_those_of_the_models(page) -> None:
    text = (ROOT / page).read_text()
    assert manual.filled(text) == text, "`python -m tools.manual` writes them"


def test_every_key_of_every_source_is_in_the_manual() -> None:
    text = (ROOT / "docs/sources.md").read_text()
    for source in SOURCE_NAMES:
        for key in type(getattr(IngestParams(), source)).model_fields:
            assert f"| `ingest.{source}.{key}` | " in text
    own = [name for name in IngestParams.model_fields if not isinstance(getattr(IngestParams(), name), Params)]
    assert all(f"| `ingest.{name}` | " in text for name in own)
    assert set(SOURCE_NAMES) == set(IngestParams.model_json_schema()["properties"]["source"]["enum"])


def _shown_presets() -> list[tuple[str, str]]:
    pages = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
    texts = ((page, (ROOT / page).read_text()) for page in pages)
    blocks = ((page, block) for page, text in texts for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    return [(page, block) for page, block in blocks if "extends:" in block]


@pytest.mark.parametrize(("page", "preset"), _shown_presets())
def test_presets_that_pages_show_can_be_applied(page, preset, tmp_path, monkeypatch) -> None:
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "presets/shown.yaml").write_text(preset)
    monkeypatch.chdir(tmp_path)
    check(plain_values(compose("shown", data=tmp_path)), page)


def _blocks(language: str) -> list[str]:
    text = (ROOT / "docs/first_data_set.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def _shop(folder: Path) -> None:
    """Write a shop with the page's columns: 40 users who go round among 20 items."""
    folder.mkdir(parents=True)
    interactions, items = (block.splitlines()[0].split(",") for block in _blocks("csv"))
    keys = [f"lamp-{number}" for number in range(1, 21)]
    draw = random.Random(1)
    with (folder / "items.csv").open("w", newline="") as handle:
        rows = ([key, f"Blue lamp {key}", "A small lamp for the desk."] for key in keys)
        csv.writer(handle).writerows([items, *rows])
    with (folder / "interactions.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(interactions)
        for user in ["anna", *(f"user-{number}" for number in range(39))]:
            for step, key in enumerate(draw.sample(keys, 9)):
                writer.writerow([user, key, 1_704_103_200 + 86_400 * step + draw.randrange(3600)])


@pytest.mark.pipeline
def test_the_first_own_data_set_runs_from_csv_to_report(tmp_path) -> None:
    project = Project.create(tmp_path / "project", tmp_path / "cache")
    _shop(project.folder / "data/shop")
    (preset,) = _blocks("yaml")
    (project.folder / "presets/shop.yaml").write_text(preset)
    run, look, more = _blocks("sh")
    output = "".join(project.run(*shlex.split(line)) for line in run.splitlines())
    assert "The data has 20 items and 360 events in its core." in output
    assert "Chosen for this size where the preset says nothing (docs/sizes.md): 64 wide, loss full, 30 epochs" in output
    assert re.search(r"A whole run takes roughly \d+ (seconds|minutes) on this machine's CPU", output)
    assert project.params()["sized_for"] == [20, 360]
    trained = {name for name in project.lock() if name.startswith(("train_", "finetune", "quantize")) and "@" in name}
    assert trained == {"train_counting@popularity", "train_counting@cooccurrence", "train_sequential@sasrec"}
    assert (project.folder / "artifacts/report/report.html").is_file()
    shown = "".join(project.run(*shlex.split(line)) for line in look.splitlines())
    assert "Blue lamp lamp-1" in shown
    for line in more.splitlines():
        assert "mme_sid" in project.run(*shlex.split(line))
    assert "finetune@mme_sid" in project.run("dvc", "stage", "list", "--name-only").split()
