"""The leaderboard with costs: what is added up for a recommender, and what is said where nothing was measured."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from sidflow.artifacts.evaluation import LEADERBOARD, PAGE, PER_QUERY
from sidflow.artifacts.recommenders import SUMMARY
from sidflow.cli.app import app
from sidflow.cli.costs import RecommenderCost, machine_of, recommender_costs
from sidflow.cli.dvc import dag_stages, with_inputs
from sidflow.cli.leaderboard import NOT_MEASURED, cost_texts
from sidflow.core.costs import costs_folder
from sidflow.core.files import file_md5
from sidflow.core.params import load_params
from sidflow.evaluation.compare import build_leaderboard
from sidflow.evaluation.params import CompareParams
from sidflow.report.costs import COSTS_SHEET, run_key

PIPELINE = """
stages:
  ingest: {cmd: none, deps: ["${ingest.path}"], outs: [artifacts/catalog/items.parquet]}
  embed: {cmd: none, deps: [artifacts/catalog/items.parquet], outs: [artifacts/embeddings]}
  train:
    foreach: [popularity, sasrec]
    do: {cmd: none, deps: [artifacts/catalog/items.parquet], outs: ["artifacts/recommenders/${item}"]}
  modality: {cmd: none, deps: [artifacts/recommenders/sasrec/items.safetensors], outs: [artifacts/modalities/x]}
  finetune: {cmd: none, deps: [artifacts/modalities, artifacts/embeddings], outs: [artifacts/recommenders/mme_sid]}
  blend:
    cmd: none
    deps: [artifacts/recommenders/sasrec, artifacts/recommenders/mme_sid]
    outs: [artifacts/recommenders/mix]
  rank:
    foreach: ${recommenders}
    do: {cmd: none, deps: ["artifacts/recommenders/${item}"], outs: ["artifacts/rankings/${item}"]}
"""
TRAINED = {"train@popularity": 4, "train@sasrec": 8, "finetune": 32, "blend": 64}
SECONDS = {"ingest": 1, "embed": 2, "modality": 16, **TRAINED}
runner = CliRunner()


@pytest.fixture
def measured(catalogue: Path) -> Path:
    """Return the folder of a project in which each stage has a cost, and four recommenders a row."""
    Path("dvc.yaml").write_text(PIPELINE)
    text = Path("params.yaml").read_text()
    names = ["popularity", "sasrec", "mme_sid", "mix"]
    Path("params.yaml").write_text(text.replace("[popularity, sasrec]", f"[{', '.join(names)}]"))
    table = PER_QUERY.read(model="popularity")
    tables = {name: table.with_columns(pl.col("rank") + row) for row, name in enumerate(names)}
    LEADERBOARD.write(build_leaderboard(tables, CompareParams(draws=200)))
    for stage in (*SECONDS, *(f"rank@{name}" for name in names)):
        serving = {"rank": {"histories": 10, "seconds": 5.0}} if stage.startswith("rank") else {}
        if stage in ("train@sasrec", "finetune"):
            serving = {"answer": {"histories": 20, "seconds": 30.0 if stage == "finetune" else 10.0}}
        _measure(stage, wall_seconds=SECONDS.get(stage, 0.5), **({"serving": serving} if serving else {}))
    return catalogue


def _measure(stage: str, **cost: object) -> None:
    machine = {"peak_memory_mb": 321.4, "cpus": 2, "threads": 1, "processes": 1, "device": "cpu"}
    path = costs_folder(stage) / "0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    outputs = {str(LEADERBOARD.at()): file_md5(LEADERBOARD.at())}
    path.write_text(json.dumps({"stage": stage, **machine, **cost, "outputs": outputs}))


def test_a_cost_is_that_of_the_training_and_of_all_that_it_reads_each_once(measured):
    costs = recommender_costs(load_params())
    assert {name: cost.train_seconds for name, cost in costs.items()} == {
        "popularity": 4, "sasrec": 8, "mme_sid": 32, "mix": 64,
    }  # fmt: skip
    assert {name: cost.seconds_with_inputs for name, cost in costs.items()} == {
        "popularity": 1 + 4,
        "sasrec": 1 + 8,
        "mme_sid": 1 + 2 + 8 + 16 + 32,
        "mix": 1 + 2 + 8 + 16 + 32 + 64,
    }
    assert costs["sasrec"].peak_memory_mb == 321.4
    assert costs["sasrec"].machine == "cpu, 1 thread of 2 CPUs"


def test_serving_is_answering_and_ranking_and_a_blend_answers_by_both(measured):
    rates = {name: cost.users_per_second for name, cost in recommender_costs(load_params()).items()}
    assert rates == {
        "popularity": pytest.approx(1 / 0.5),
        "sasrec": pytest.approx(1 / (0.5 + 0.5)),
        "mme_sid": pytest.approx(1 / (1.5 + 0.5)),
        "mix": pytest.approx(1 / (1.5 + 0.5 + 0.5)),
    }


def test_what_reads_nothing_of_a_stage_does_not_pay_for_it(measured):
    stages = dag_stages(load_params())
    by_name = {stage.name: stage for stage in stages}
    assert [stage.name for stage in with_inputs([by_name["rank@sasrec"]], stages)] == [
        "ingest", "train@sasrec", "rank@sasrec",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "lacking"),
    [
        ("embed", {"seconds_with_inputs"}),
        ("rank@mme_sid", {"users_per_second"}),
        ("finetune", set(RecommenderCost._fields)),
    ],
)
def test_a_stage_that_was_not_measured_leaves_out_what_needs_it(measured, stage, lacking):
    (costs_folder(stage) / "0.json").unlink()
    costs = recommender_costs(load_params())
    gpu = {"peak_gpu_memory_mb"}  # none here has one
    assert {field for field, value in costs["mme_sid"]._asdict().items() if value is None} - gpu == lacking - gpu
    assert costs["sasrec"].seconds_with_inputs == 9


@pytest.mark.parametrize(("listed", "named"), [("sasrec, none", {"sasrec", "none"}), ("", set())])
def test_names_that_no_stage_makes_cost_nothing_known(measured, listed, named):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("popularity, sasrec, mme_sid, mix", listed))
    costs = recommender_costs(load_params())
    assert set(costs) == named
    assert all(cost == RecommenderCost() for name, cost in costs.items() if name != "sasrec")
    assert runner.invoke(app, ["leaderboard"]).exit_code == 0


def test_without_a_list_of_recommenders_there_are_no_costs(measured):
    settings = load_params() | {"recommenders": None}
    Path("dvc.yaml").write_text("stages: {}\n")
    assert recommender_costs(settings) == {}


def test_the_command_prints_all_recommenders_best_first_with_their_costs(measured):
    (costs_folder("train@popularity") / "0.json").unlink()
    done = runner.invoke(app, ["leaderboard"])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    board = LEADERBOARD.read()["recommenders"]
    means = [board[line.split()[0]]["metrics"]["ndcg_at_10"]["mean"] for line in lines[1:5]]
    assert means == sorted(means, reverse=True)
    row = {line.split()[0]: line for line in lines[1:5]}
    assert row["mme_sid"].split()[-4:] == ["32", "59", "321", "0.5"]
    assert row["popularity"].split()[-4:] == ["-"] * 4
    assert f"-: {NOT_MEASURED}" in lines[-2]
    assert "GPU" not in lines[0]
    assert lines[-1] == "Trained on: cpu, 1 thread of 2 CPUs"


def test_a_blend_of_the_weight_0_is_its_base_alone(measured):
    sentence = "mix is sasrec alone: validation gave mme_sid the weight 0, so it adds nothing here."
    for weight in (0.0, 0.5):
        params = {"base": "sasrec", "added": "mme_sid"}
        SUMMARY.write({"name": "mix", "params": params, "chosen": {"weight": weight}}, model="mix")
        assert (sentence in runner.invoke(app, ["leaderboard"]).output.splitlines()) == (weight == 0)


def test_as_json_a_cost_that_is_missing_is_null(measured):
    (costs_folder("train@popularity") / "0.json").unlink()
    rows = {row["recommender"]: row for row in json.loads(runner.invoke(app, ["leaderboard", "--json"]).stdout)}
    assert rows["popularity"]["train_seconds"] is None
    assert (rows["mix"]["train_seconds"], rows["mix"]["seconds_with_inputs"]) == (64, 123)
    other = json.loads(runner.invoke(app, ["leaderboard", "--json", "--metric", "recall_at_10"]).stdout)
    assert {row["metric"] for row in other} == {"recall_at_10"}


def test_costs_are_written_beside_the_page_of_this_leaderboard(measured):
    done = runner.invoke(app, ["leaderboard", "--page"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "report.html: expected the report page" in done.stderr
    PAGE.write("<html></html>")
    done = runner.invoke(app, ["leaderboard", "--page"])
    assert done.stdout == f"costs of 4 of 4 recommenders: {COSTS_SHEET}\n"
    sheet = COSTS_SHEET.read_text()
    rule = f'[data-run="{run_key(LEADERBOARD.read())}"] [data-recommender="mme_sid"] [data-cost="inputs"]'
    assert f'{rule}::after{{content:"59 s with inputs"' in sheet
    (costs_folder("finetune") / "0.json").unlink()
    runner.invoke(app, ["leaderboard", "--page"])
    assert "mme_sid" not in COSTS_SHEET.read_text()
    assert "inputs not measured" in COSTS_SHEET.read_text()  # of the blend


@pytest.mark.parametrize("option", [["--json"], ["--metric", "recall_at_10"]])
def test_what_is_written_beside_the_page_has_no_other_form(measured, option):
    done = runner.invoke(app, ["leaderboard", "--page", *option])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"--page: expected no other option; found {option[0]}.")


def test_a_metric_that_there_is_not_is_one_line(measured):
    done = runner.invoke(app, ["leaderboard", "--metric", "auc"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("metric: expected one of ")


def test_without_a_leaderboard_the_remedy_is_a_run(catalogue):
    done = runner.invoke(app, ["leaderboard"])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "dvc repro" in done.stderr


def test_figures_have_two_digits_or_more():
    row = RecommenderCost(0.123, 1234.5, 99.9, 5000.0, 12345.6)._asdict()
    assert list(cost_texts(row).values()) == ["0.12 s", "1,234 s with inputs", "100 MB, GPU 5,000 MB", "12,346 users/s"]
    row = RecommenderCost(9.96, None, 50.0)._asdict()
    assert list(cost_texts(row).values()) == ["10 s", "inputs not measured", "50 MB", "serving not measured"]


def test_the_machine_of_several_processes():
    cost = {"device": "cuda", "threads": 4, "cpus": 16, "processes": 8}
    assert machine_of(cost) == "cuda, 4 threads of 16 CPUs, 8 processes"
