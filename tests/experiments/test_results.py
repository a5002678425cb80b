"""Results: their arithmetic, what refuses to mix, and the tables made of them."""

import json
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from experiments.tables import markers, measurements
from experiments.tables import results as tables
from ruamel.yaml import YAML

from experiments import results, runs
from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.evaluation import LEADERBOARD, PER_QUERY
from sidflow.cli import presets, revisions
from sidflow.cli.selection import WITHOUT_IDS
from sidflow.core.costs import costs_folder
from sidflow.core.errors import InputError
from sidflow.core.files import file_md5

ROOT = Path(__file__).resolve().parents[2]

PIPELINE = """
stages:
  ingest:
    cmd: none
    deps: ["${ingest.path}"]
    outs: [artifacts/catalog]
  train:
    foreach: ${recommenders}
    do:
      cmd: none
      deps: [artifacts/catalog]
      outs: ["artifacts/recommenders/${item}"]
  rank:
    foreach: ${recommenders}
    do:
      cmd: none
      outs: ["artifacts/rankings/${item}"]
"""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def _measured(stage: str, seconds: float, megabytes: float) -> Path:
    """Write the cost of a stage, as if it had made the leaderboard; return its file."""
    path = costs_folder(stage) / "0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    outputs = {str(LEADERBOARD.at()): file_md5(LEADERBOARD.at())}
    cost = {"stage": stage, "wall_seconds": seconds, "peak_memory_mb": megabytes, "outputs": outputs}
    cost |= {"cpus": 2, "threads": 1, "processes": 1, "device": "cpu"}
    if not stage.startswith("ingest"):
        cost |= {"serving": {stage: {"histories": 8, "seconds": 0.5}}}
    path.write_text(json.dumps(cost))
    return path


@pytest.fixture
def finished_run(catalogue, monkeypatch):
    """A run that is committed, measured and (DVC being left out) up to date."""
    for name, value in {"AUTHOR": "a", "COMMITTER": "a"}.items():
        monkeypatch.setenv(f"GIT_{name}_NAME", value)
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    Path("dvc.yaml").write_text(PIPELINE)
    Path("dvc.lock").write_text("stages: {ingest: {deps: [{path: words.txt, md5: abc}]}}\n")
    Path("src").mkdir()
    Path("src/code.py").write_text("1\n")
    LEADERBOARD.write({"best_baseline": "popularity"})
    IMAGES.write(IMAGES.empty())
    _measured("ingest", 1.5, 100)
    for name, seconds, megabytes in (("popularity", 2, 300), ("sasrec", 0.5, 200)):
        _measured(f"train@{name}", 0.0, megabytes - 50)
        _measured(f"rank@{name}", seconds, megabytes)
    _git("init", "-q")
    _git("add", "src", "dvc.yaml")
    _git("commit", "-qm", "code")
    monkeypatch.setattr(runs, "require_up_to_date", lambda: None)
    return catalogue


def _another_seed(ranks: list[int]) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("seed: 42", "seed: 43", 1))
    table = PER_QUERY.read(model="sasrec")
    PER_QUERY.write(table.with_columns(pl.Series("rank", [1, 1, 1, *ranks], dtype=pl.Int32)), model="sasrec")


def _written() -> dict:
    return json.loads(Path("experiments/results/presets/embedded.json").read_text())


def test_one_run_is_exported_in_the_agreed_shape(finished_run) -> None:
    results.add_result()
    content = _written()
    assert content["preset"] == "embedded"
    assert content["commit"] == _git("rev-parse", "HEAD")
    assert (content["seeds"], content["users"], content["items"]) == ([42], 3, 5)
    assert (content["wall_seconds"], content["peak_memory_mb"], content["cpus"]) == (4.0, 300, 2)
    metrics = content["recommenders"]["popularity"]["metrics"]  # test ranks 3, 2, 1
    assert metrics["mrr_at_10"]["mean"] == pytest.approx((1 / 3 + 1 / 2 + 1) / 3, rel=1e-5)
    assert metrics["ndcg_at_5"]["mean"] == pytest.approx((0.5 + 1 / np.log2(3) + 1) / 3, rel=1e-5)
    assert metrics["recall_at_5"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "per_seed": [1.0]}
    assert metrics["mrr_at_10"]["low"] < metrics["mrr_at_10"]["mean"] < metrics["mrr_at_10"]["high"]
    assert "expected_ndcg_at_10" not in metrics
    assert content["recommenders"]["sasrec"]["metrics"]["expected_ndcg_at_10"]["mean"] == 0.25
    assert results.read_runs("embedded")[0].record["best_baseline"] == "popularity"


def test_seeds_are_averaged_per_user_before_the_bootstrap(finished_run) -> None:
    results.add_result()
    _another_seed([1, 1, 3])  # seed 42 had 3, 3, 1: users' mean reciprocal ranks are then all 2/3
    _measured("rank@sasrec", 99, 200)
    results.add_result()
    content = _written()
    found = content["recommenders"]["sasrec"]["metrics"]["mrr_at_10"]
    assert (content["seeds"], content["wall_seconds"]) == ([42, 43], 4.0)
    assert found["mean"] == found["low"] == found["high"] == pytest.approx(2 / 3, rel=1e-5)
    assert found["per_seed"] == pytest.approx([(1 / 3 + 1 / 3 + 1) / 3, (1 + 1 + 1 / 3) / 3], rel=1e-5)
    kept = pl.read_parquet("experiments/results/presets/embedded/seed-42.parquet")
    assert kept["sasrec.rank"].to_list() == [3, 3, 1]


def test_where_items_share_ids_a_record_keeps_the_tie_and_the_rank_of_the_id(finished_run) -> None:
    """Test ranks of sasrec are 3, 3, 1; the first is the last of a tie of three, the second that of two."""
    table = PER_QUERY.read(model="sasrec")
    shared = {"sharing": [0, 0, 0, 2, 1, 0], "id_rank": [1, 1, 1, 1, 2, 1], "sampled_sharing": [0] * 6}
    columns = [pl.Series(name, values, dtype=pl.Int32) for name, values in shared.items()]
    PER_QUERY.write(table.with_columns(columns), model="sasrec")
    results.add_result()
    recommenders = _written()["recommenders"]
    assert sorted(name for name in recommenders["sasrec"]["metrics"] if name.endswith("by_id")) == [
        "ndcg_at_10_by_id",
        "recall_at_10_by_id",
    ]
    gains = [1, 1 / np.log2(3), 0.5]
    tied = [np.mean(gains), np.mean(gains[1:]), 1]
    assert recommenders["sasrec"]["metrics"]["ndcg_at_10"]["mean"] == pytest.approx(np.mean(tied), rel=1e-5)
    by_id = np.mean([1, 1 / np.log2(3), 1])
    assert recommenders["sasrec"]["metrics"]["ndcg_at_10_by_id"]["mean"] == pytest.approx(by_id, rel=1e-5)
    assert not [name for name in recommenders["popularity"]["metrics"] if name.endswith("by_id")]
    assert "| ndcg_at_10 | ndcg_at_10_by_id | mrr_at_10 |" in tables.results_full_table()
    assert f"(by ID {by_id:.4f})" in tables.results_overview_table()
    path = Path("experiments/results/presets/embedded/seed-42.parquet")
    kept = pl.read_parquet(path)
    assert kept["sasrec.sharing"].to_list() == [2, 1, 0] and kept["sasrec.id_rank"].to_list() == [1, 2, 1]
    older = kept.drop("sasrec.sharing", "sasrec.id_rank")
    older.write_parquet(path)
    runs_ = results.read_runs("embedded")
    assert results.values_per_seed(runs_, "sasrec", "ndcg_at_10")[0] == pytest.approx([0.5, 0.5, 1])
    assert results.values_per_seed(runs_, "sasrec", "ndcg_at_10_by_id") is None
    assert "ndcg_at_10_by_id" not in results.summarise(runs_)["recommenders"]["sasrec"]["metrics"]


def test_a_record_of_a_ranking_by_beam_has_no_mean_log_rank(finished_run) -> None:
    table = PER_QUERY.read(model="sasrec")
    PER_QUERY.write(table.with_columns(listed=pl.lit(True)), model="sasrec")
    results.add_result()
    recorded = results.read_runs("embedded")
    assert results.values_per_seed(recorded, "sasrec", "mean_log2_rank") is None
    assert results.values_per_seed(recorded, "popularity", "mean_log2_rank") is not None
    assert results.values_per_seed(recorded, "sasrec", "ndcg_at_10") is not None
    assert "listed" not in _written()["recommenders"]["sasrec"]["metrics"]


def test_a_record_has_the_metrics_among_sampled_negatives(finished_run) -> None:
    """Test ranks of sasrec among its negatives are 12, 2 and 1, the second the last of a tie of two."""
    table = PER_QUERY.read(model="sasrec")
    columns = {"sampled_rank": [1, 1, 1, 12, 2, 1], "sampled_sharing": [0, 0, 0, 0, 1, 0]}
    columns |= {"sharing": [0] * 6, "id_rank": [1] * 6}
    PER_QUERY.write(
        table.with_columns(pl.Series(name, values, dtype=pl.Int32) for name, values in columns.items()), model="sasrec"
    )
    results.add_result()
    metrics = _written()["recommenders"]["sasrec"]["metrics"]
    tied = (1 + 1 / np.log2(3)) / 2
    assert metrics["sampled_ndcg_at_10"]["mean"] == pytest.approx((0 + tied + 1) / 3, rel=1e-5)
    assert metrics["sampled_recall_at_10"]["mean"] == pytest.approx(2 / 3, rel=1e-5)
    assert "| sampled_recall_at_10 | sampled_ndcg_at_10 |" in tables.results_full_table()
    PER_QUERY.write(table.with_columns(listed=pl.lit(True)), model="sasrec")
    results.add_result()
    recommenders = _written()["recommenders"]
    assert "sampled_ndcg_at_10" not in recommenders["sasrec"]["metrics"]  # by beam: no rank of what is not listed
    assert "sampled_ndcg_at_10" in recommenders["popularity"]["metrics"]


def test_each_recommender_has_its_costs_in_the_record_and_the_table(finished_run) -> None:
    _measured("train@sasrec", 6.5, 150)
    results.add_result()
    costs = _written()["recommenders"]["sasrec"]["costs"]
    assert costs == {
        "train_seconds": 6.5,
        "seconds_with_inputs": 8.0,
        "users_per_second": 8.0,
        "peak_memory_mb": 150,
        "machine": "cpu, 1 thread of 2 CPUs",
    }
    _another_seed([1, 1, 1])
    _measured("train@sasrec", 4.5, 170)
    results.add_result()
    costs = _written()["recommenders"]["sasrec"]["costs"]
    assert (costs["train_seconds"], costs["peak_memory_mb"]) == (4.5, 170)
    table = tables.results_full_table()
    assert "| train s | with inputs s | peak MB | users/s |" in table
    assert "| 4.5 | 6 | 170 | 8 |" in table
    record = Path("experiments/results/presets/embedded.json")
    without = json.loads(record.read_text())
    for entry in without["recommenders"].values():
        del entry["costs"]  # older records have none
    record.write_text(json.dumps(without))
    assert "train s" not in tables.results_full_table()


def test_several_queries_of_a_user_are_resampled_together() -> None:
    ranks = np.random.default_rng(0).integers(1, 30, 40)
    bounds = []
    for copies in (1, 4):
        columns = {"user_id": np.tile(np.arange(40), copies), "sasrec.rank": np.tile(ranks, copies)}
        record = dict.fromkeys(("preset", "commit", "seed", "users", "items"), 0)
        record |= {"params": {}, "wall_seconds": 1, "peak_memory_mb": 1, "cpus": 1}
        found = results.summarise([runs.Run(record, pl.DataFrame(columns))])["recommenders"]["sasrec"]["metrics"]
        bounds.append([found["ndcg_at_10"][name] for name in ("mean", "low", "high")])
    assert bounds[0] == pytest.approx(bounds[1])


def test_the_overview_tells_the_number_of_seeds_of_each_preset(finished_run) -> None:
    results.add_result()
    other = Path("experiments/results/presets/other.json")
    other.write_text(json.dumps(_written() | {"preset": "other", "seeds": [42, 43]}))
    assert "Seeds: 2 of other; 1 of embedded." in tables.results_overview_table()


@pytest.mark.parametrize("method", ["sample_ratio", "published"])
def test_a_run_of_minionerecs_protocol_is_recorded_by_itself(finished_run, monkeypatch, method) -> None:
    results.add_result()
    before = tables.results_full_table() + tables.results_overview_table() + tables.costs_table()
    made = runs.run_of_workspace()

    def with_history(excluded: bool) -> None:
        params = made.record["params"] | {"split": {"method": method}, "rank": {"exclude_history": excluded}}
        other = made._replace(record=made.record | {"params": params, "refit": True})  # as no preset beside it
        monkeypatch.setattr(results, "run_of_workspace", lambda: other)

    with_history(True)
    with pytest.raises(
        InputError, match=rf"exclude_history: expected false with split.method: {method}.*minionerec-office"
    ):
        results.add_result()
    with_history(False)
    assert results.add_result() == "experiments/results/minionerec/embedded.json holds seed 42."
    assert Path("experiments/results/minionerec/embedded/seed-42.json").exists()
    assert tables.results_full_table() + tables.results_overview_table() + tables.costs_table() == before
    assert results.preset_names() == ["embedded"]
    assert "refit" not in _written()


def test_adding_a_seed_again_replaces_it(finished_run) -> None:
    results.add_result()
    before = Path("experiments/results/presets/embedded.json").read_bytes()
    results.add_result()
    assert Path("experiments/results/presets/embedded.json").read_bytes() == before


def test_a_run_that_cannot_be_written_leaves_what_was_there(finished_run, monkeypatch) -> None:
    results.add_result()
    before = {path: path.read_bytes() for path in Path("experiments").rglob("*") if path.is_file()}

    def killed(self, path, **_):
        Path(path).write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(pl.DataFrame, "write_parquet", killed)
    _measured("ingest", 9, 1)
    with pytest.raises(KeyboardInterrupt):
        results.add_result()
    assert {path: path.read_bytes() for path in Path("experiments").rglob("*") if path.is_file()} == before


def test_a_write_that_is_cut_short_leaves_the_file_as_it_was(finished_run, monkeypatch) -> None:
    results.add_result()
    page, before = Path("page.md"), Path("experiments/results/presets/embedded.json").read_text()
    page.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    whole = Path.write_text

    def killed(self, text, **_):
        whole(self, text[:9])
        raise KeyboardInterrupt

    runs_write = runs.write_run
    monkeypatch.setattr(results, "write_run", lambda run, folder: None)  # that one is tried above
    monkeypatch.setattr(Path, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        results.add_result()
    with pytest.raises(KeyboardInterrupt):
        markers.write_tables(page)
    with pytest.raises(KeyboardInterrupt):
        runs_write(results.read_runs("embedded")[0], Path("experiments/results/presets/embedded"))
    assert Path("experiments/results/presets/embedded.json").read_text() == before
    assert page.read_text() == "<!-- results:begin -->\n<!-- results:end -->\n"
    assert results.read_runs("embedded")[0].record["seed"] == 42


def test_a_run_without_its_ranks_is_named_with_what_to_do(finished_run) -> None:
    results.add_result()
    Path("experiments/results/presets/embedded/seed-42.parquet").unlink()
    with pytest.raises(InputError, match=r"seed-42\.parquet: .*no such file.*git checkout.*add that run again"):
        results.read_runs("embedded")


def test_runs_of_other_commits_params_or_data_refuse_to_mix(finished_run) -> None:
    results.add_result()
    before = Path("experiments/results/presets/embedded.json").read_bytes()
    _another_seed([1, 1, 1])
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("exclude_history: true", "exclude_history: false"))
    with pytest.raises(InputError, match=r"rank\.exclude_history"):
        results.add_result()
    Path("params.yaml").write_text(text)
    lock = Path("dvc.lock").read_text()
    Path("dvc.lock").write_text(lock.replace("abc", "abd"))
    with pytest.raises(InputError, match="one data"):
        results.add_result()
    Path("dvc.lock").write_text(lock)
    Path("src/code.py").write_text("2\n")
    with pytest.raises(InputError, match="uncommitted"):
        results.add_result()
    _git("commit", "-qam", "other code")
    with pytest.raises(InputError, match="one commit"):
        results.add_result()
    assert Path("experiments/results/presets/embedded.json").read_bytes() == before


def test_presets_of_which_one_is_refitted_refuse_to_stand_side_by_side(finished_run) -> None:
    results.add_result()
    assert "refit" not in _written()
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("preset: embedded", "preset: other", 1))
    for model in ("popularity", "sasrec"):
        PER_QUERY.write(PER_QUERY.read(model=model), {"refit": True}, model=model)
    with pytest.raises(InputError, match="refitted: other; not: embedded"):
        results.add_result()
    Path("experiments/results/presets/embedded.json").unlink()
    results.add_result()
    assert json.loads(Path("experiments/results/presets/other.json").read_text())["refit"] is True
    assert "All are refitted on train + validation" in tables.results_overview_table()


def test_a_commit_of_documents_is_no_other_code(finished_run) -> None:
    results.add_result()
    _git("add", "experiments")
    _git("commit", "-qm", "results")
    _another_seed([1, 1, 1])
    results.add_result()
    assert _written()["seeds"] == [42, 43]


def test_where_the_data_lie_is_no_param(finished_run) -> None:
    results.add_result()
    _another_seed([1, 1, 1])
    for path in ("params.yaml", "dvc.lock"):
        Path(path).write_text(Path(path).read_text().replace("words.txt", "elsewhere.txt"))
    results.add_result()


def test_a_stage_that_was_not_measured_is_named(finished_run) -> None:
    _measured("rank@sasrec", 0.5, 200).unlink()
    with pytest.raises(InputError, match=r"rank@sasrec.*dvc repro -f"):
        results.add_result()


def test_artifacts_must_be_up_to_date(dvc_project) -> None:
    revisions.require_up_to_date()
    Path("words.txt").write_text("changed")
    with pytest.raises(InputError, match="ingest"):
        revisions.require_up_to_date()


def test_tables_stand_between_their_markers(finished_run) -> None:
    results.add_result()
    benchmark = {
        "claim": "k-core",
        "unit": "s",
        "ours": 2.0,
        "theirs": 4.0,
        "ratio": 2.0,
        "peak_memory_ours": 900,
        "peak_memory_theirs": 1200,
        "command": "python x",
    }
    Path("experiments/results/benchmarks").mkdir(parents=True)
    Path("experiments/results/benchmarks/core.json").write_text(json.dumps(benchmark))
    page = Path("page.md")
    page.write_text(
        "a\n<!-- results:begin -->\n<!-- results:end -->\nb\n<!-- benchmarks:begin -->\nold\n<!-- benchmarks:end -->\n"
    )
    assert "written" in markers.write_tables(page)
    text = page.read_text()
    assert text.startswith("a\n<!-- results:begin -->\n| nDCG@10 | embedded |")
    interval = _written()["recommenders"]["popularity"]["metrics"]["ndcg_at_10"]
    half = f"{(interval['high'] - interval['low']) / 2:.4f}".removeprefix("0")
    assert f"| popularity | .7103 ±{half} |" in text
    assert "| embedded | `make repro` | 3 | 5 | 42 | 4 s | 0.30 GB | 2 |" in tables.costs_table()
    assert "| k-core | 2 s | 4 s | 2.00 | 900 MB / 1,200 MB |" in text
    assert measurements.quality_table() == ""
    quality = benchmark | {"claim": "tau of codes", "unit": "tau"}
    Path("experiments/results/benchmarks/tau.json").write_text(json.dumps(quality))
    assert "tau of codes" in measurements.quality_table()
    assert "tau of codes" not in measurements.benchmarks_table()
    assert "old" not in text
    assert "up to date" in markers.write_tables(page)
    page.write_text("nothing")
    with pytest.raises(InputError, match="no markers"):
        markers.write_tables(page)


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/results.md",
        "docs/figures.md",
        "docs/embeddings.md",
        "docs/faults.md",
        "docs/semantic_ids.md",
        "docs/ablations.md",
        "docs/settings.md",
        "docs/dmesr.md",
        "docs/benchmarks.md",
    ],
)
def test_the_committed_tables_are_those_of_the_json(name, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    if Path(name).is_file():
        text = Path(name).read_text()
        assert markers.fill_markers(text) == text, f"Remedy: python -m experiments.tables {name}"


def test_an_ablation_has_what_could_have_been_detected_where_that_is_known(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(measurements, "ABLATIONS_FOLDER", tmp_path)
    known = {"row": "less", "seeds": 1, "mean": 0.2, "difference": -0.1, "low": -0.2, "high": 0.0}
    known |= {"effective_rank": None, "alive_share": None, "tau_of_codes": None}
    rows = [known | {"detectable": 0.0321}, known]
    (tmp_path / "tiny.json").write_text(json.dumps({"run": "tiny", "rows": rows}))
    head, _, new, old = measurements.ablations_table().splitlines()
    place = head.split(" | ").index("smallest detectable")
    assert (new.split(" | ")[place], old.split(" | ")[place]) == ("0.0321", "")


def test_a_setting_stands_between_its_neighbours(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(measurements, "FOLDER", tmp_path)
    none = {"model": "gru4rec", "knob": None, "standing": None, "value": None, "valid_ndcg_at_10": 0.2}
    up = {"model": "gru4rec", "knob": "epochs", "standing": 8, "value": 16, "valid_ndcg_at_10": 0.21}
    down = up | {"value": 4, "valid_ndcg_at_10": 0.19}
    share = up | {"knob": "dropout", "standing": 0.1, "value": 0.25, "valid_ndcg_at_10": 0.18}
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings/tiny.json").write_text(json.dumps({"run": "tiny", "rows": [none, up, down, share]}))
    *_, epochs, dropout = measurements.settings_table().splitlines()
    assert epochs == "| tiny | gru4rec | epochs | 4: 0.1900 | 8: 0.2000 | **16: 0.2100** |"
    assert dropout == "| tiny | gru4rec | dropout |  | **0.1: 0.2000** | 0.25: 0.1800 |"


def test_a_claim_fits_a_tables_cell() -> None:
    found = {path.name: json.loads(path.read_text()) for path in (ROOT / measurements.FOLDER).glob("*.json")}
    assert found
    assert {name: one["claim"] for name, one in found.items() if len(one["claim"]) > 120} == {}


def test_the_committed_json_is_that_of_the_kept_ranks(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    for path in sorted(results.FOLDER.glob("*.json")):
        assert json.loads(path.read_text()) == json.loads(json.dumps(results.summarise(results.read_runs(path.stem))))


def test_a_broken_results_file_is_one_line(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments/results/presets").mkdir(parents=True)
    (tmp_path / "experiments/results/presets/x.json").write_text("{")
    with pytest.raises(InputError, match=r"experiments/results/presets/x\.json: expected JSON"):
        markers.fill_markers("<!-- results:begin -->\n<!-- results:end -->\n")


def test_the_notebook_runs_without_the_command_line(finished_run, capsys) -> None:
    results.main()
    assert capsys.readouterr().out == "experiments/results/presets/embedded.json holds seed 42.\n"
    Path("page.md").write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    markers.main(["page.md"])
    assert capsys.readouterr().out == "page.md is written.\n"
    markers.main([])
    assert capsys.readouterr().out == markers.all_tables() + "\n"
    Path("page.md").write_text("nothing")
    with pytest.raises(SystemExit, match="2"):
        markers.main(["page.md"])
    assert "no markers" in capsys.readouterr().err
    Path("src/code.py").write_text("2\n")
    with pytest.raises(SystemExit, match="2"):
        results.main()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "experiments/results/presets").glob("*.json")))
def test_committed_results_were_made_with_the_committed_preset(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    makes_its_data = presets.preset_values(presets.layers(name))["ingest"].get("source") == "synthetic"
    text = presets.preset_text(name, None if makes_its_data else tmp_path)
    preset = YAML(typ="safe").load(text)
    recorded = [
        json.loads(path.read_text())["params"] for path in (ROOT / "experiments/results/presets" / name).glob("*.json")
    ]
    assert recorded
    for one in recorded:
        current = runs.with_current_names(one) | {"recommenders": set(one["recommenders"])}  # in any order
        if not _reads_backbone(current):
            current.pop("backbone")
        if not current.get("semantic_ids", True):  # a recommender that came later may need them; none recorded does
            report = {name: value for name, value in current["report"].items() if name not in WITHOUT_IDS}
            current |= {"semantic_ids": set(), "report": report}
        assert not _differences(current, preset)


def test_older_section_names_are_read_as_todays() -> None:
    recorded = {"seed": 1, "train": {"sasrec": {"a": 1}}, "featured": {"x": {}}, "enhance": {"y": {}, "oracle": {}}}
    current = {"seed": 1, "train_sequential": {"sasrec": {"a": 1}}, "train_multimodal": {"x": {}, "y": {}}}
    assert runs.with_current_names(recorded) == current | {"train_counting": {"oracle": {}}}
    assert runs.with_current_names(current) == current


def test_older_weights_of_the_parts_of_a_score_are_read_as_todays() -> None:
    recorded = {"finetune": {"a": {"frequency_aware": True, "x": 1}, "b": {"frequency_aware": False}, "c": {"x": 2}}}
    current = {"finetune": {"a": {"part_weights": "frequency", "x": 1}, "b": {"part_weights": "equal"}, "c": {"x": 2}}}
    assert runs.with_current_names(recorded) == current


def _reads_backbone(params: dict) -> bool:
    generates = [one.get("architecture", "decoder") for one in (params.get("generate") or {}).values()]
    return bool(params.get("finetune")) or "language_model" in generates


def _differences(recorded: dict, preset: dict, prefix: str = "") -> list[str]:
    """Return the recorded values that a preset has otherwise; knobs that came later, and licences, are not compared."""
    differences = []
    for name, value in recorded.items():
        key = f"{prefix}.{name}".lstrip(".")
        if isinstance(value, dict) and isinstance(preset.get(name), dict):
            differences += _differences(value, preset[name], key)
        elif name == "licence" or (isinstance(value, set) and value <= set(preset.get(name, ()))):
            continue
        elif name not in preset or preset[name] != value:
            differences.append(f"{key}: {value}, now {preset.get(name)}")
    return differences
