"""dvc.yaml, the artifacts, the stages' imports and params.yaml say the same."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tests.committed import base_params
from tests.contract.code_deps import code_deps, with_code_deps

from sidflow.artifacts.evaluation import FIGURES, SINGULAR_VALUES_PLOT, SLICES_PLOT, VALIDATION_PLOT
from sidflow.artifacts.semantic_ids import QUANTIZER_CURVES
from sidflow.cli.dvc import dag_stages
from sidflow.core import params
from sidflow.report.data import COLUMNS, write_plots

ROOT = Path(__file__).parents[2]
DAG = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = base_params()


def body(name):
    return DAG[name].get("do", DAG[name])


@pytest.mark.parametrize("name", sorted(DAG))
def test_code_deps_are_the_packages_of_the_import_closure(name):
    listed = [dep for dep in body(name)["deps"] if dep.startswith(("src/", "stages/"))]
    assert listed == code_deps(ROOT / f"stages/{name}.py"), "Remedy: python -m tests.contract.code_deps --write"


def test_the_packages_of_a_stage_are_those_of_its_imports(tmp_path):
    for name, text in {
        "stages/a.py": "from typing import TYPE_CHECKING\nfrom sidflow.x import f\nif TYPE_CHECKING:\n"
        "    from sidflow.types import T\nelse:\n    import sidflow.other.deep.leaf\n",
        "src/sidflow/__init__.py": "from sidflow.unused import g\n",
        "src/sidflow/x.py": "def f():\n    from sidflow.pack import y\n",
        "src/sidflow/pack/__init__.py": "import sidflow.behind.z\n",
        "src/sidflow/pack/y.py": "",
        "src/sidflow/other/deep/leaf.py": "",
        "src/sidflow/behind/z.py": "import os.path\n",
        "src/sidflow/types.py": "",
        "src/sidflow/unused.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    folders = ["src/sidflow/behind", "src/sidflow/other", "src/sidflow/pack", "src/sidflow/x.py"]
    assert code_deps(tmp_path / "stages/a.py", tmp_path) == [*folders, "stages/a.py"]
    dag = "  a:\n    cmd: PYTHONPATH=src python stages/a.py\n    deps:\n      - data\n{}    outs:\n      - o\n"
    lines = "".join(f"      - {dep}\n" for dep in (*folders, "stages/a.py"))
    assert with_code_deps(dag.format("      - src/sidflow/old\n"), tmp_path) == dag.format(lines)


@pytest.mark.parametrize("name", sorted(DAG))
def test_the_command_never_changes_and_runs_its_own_code(name):
    script = name
    command = body(name)["cmd"]
    assert re.fullmatch(rf"PYTHONPATH=src python stages/{script}\.py( \$\{{(key|item)\}})?", command)
    assert (ROOT / f"stages/{script}.py").is_file()


def test_every_section_belongs_to_a_stage():
    declared = {one.split(".")[0] for name in DAG for one in body(name).get("params", [])}
    assert set(PARAMS) == declared | {"preset", "sized_for"}


def test_one_small_file_is_what_dvc_metrics_compares():
    declared = [path for name in DAG for entry in body(name).get("metrics", []) for path in entry]
    assert declared == [FIGURES.path]


def test_reports_are_committed_rather_than_cached():
    outs = [entry for name in DAG for entry in body(name).get("outs", [])]
    reports = [entry for entry in outs if "artifacts/reports/" in str(entry)]
    assert len(reports) == 7
    assert all(options == {"cache": False} for entry in reports for options in entry.values())


def test_plots_are_of_files_that_stages_write_and_of_columns_that_they_have():
    """No plot names a recommender: tables have a column for it, and so do the templates."""
    columns = {plot.path: set(names) for plot, names in COLUMNS.items()}
    columns[QUANTIZER_CURVES.path] = {"epoch", "all_objective"}
    outs = {out for stage in dag_stages(PARAMS, ROOT / "dvc.yaml") for out in stage.outs}
    plots = [options for plot in params.read_yaml_mapping(ROOT / "dvc.yaml")["plots"] for options in plot.values()]
    assert {path for options in plots for path in options["y"]} == set(columns)
    for options in plots:
        ((path, y),) = options["y"].items()
        assert {options["x"], y} <= columns[path]
        assert outs & {path, *map(str, Path(path).parents)}, path
        assert ("recommender" in columns[path]) == ("template" in options)
        if "template" in options:
            template = json.loads((ROOT / f".dvc/plots/{options['template']}.json").read_text())
            assert template["encoding"]["color"]["field"] == "recommender"


def test_a_row_of_a_plot_is_one_point_of_one_recommender(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    curve = [{"epoch": "1", "loss": "2.5", "valid_ndcg_at_10": "0.25"}, {"epoch": "2", "valid_ndcg_at_10": ""}]
    spectrum = [{"matrix": name, "dimension": "1", "singular_value": "3.5"} for name in ("item_matrix", "item_table")]
    write_plots(
        {"a": curve, "b": []},
        {name: [{"slice": "all", "users": "7", "ndcg_at_10": "0.5"}] for name in ("a", "b")},
        {"a": spectrum, "b": spectrum},
    )
    assert VALIDATION_PLOT.at().read_text() == "recommender,epoch,valid_ndcg_at_10\na,1,0.25\n"
    assert SLICES_PLOT.at().read_text() == "recommender,slice,ndcg_at_10\na,all,0.5\nb,all,0.5\n"
    assert SINGULAR_VALUES_PLOT.at().read_text() == "recommender,dimension,singular_value\na,1,3.5\n"


def test_metrics_and_plots_are_committed_rather_than_cached():
    for name in DAG:
        for kind in ("metrics", "plots"):
            for entry in body(name).get(kind, []):
                assert isinstance(entry, dict), entry
                assert all(options["cache"] is False for options in entry.values()), entry
