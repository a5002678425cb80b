"""The ablation table as experiments: what is run, what is kept, what stands in the table, what is refused."""

import shlex
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.unit.cli.revision_cases import git, lock, somebody
from typer.testing import CliRunner

from sidflow.artifacts.evaluation import ABLATIONS, EXPECTED, METRICS, PER_QUERY
from sidflow.artifacts.recommenders import SUMMARY
from sidflow.artifacts.semantic_ids import QUANTIZER_SUMMARY
from sidflow.cli import ablations
from sidflow.cli.app import app
from sidflow.core.errors import InputError

USERS = 80
PARAMS = "preset: tiny\nseed: 42\nfinetune: {mme_sid: {}}\nrecommenders: [mme_sid, markov]\ncompare: {draws: 400}\n"


def _table(worse: int = 0) -> pl.DataFrame:
    ranks = np.random.default_rng(0).integers(1, 12, USERS * 2) + worse
    return pl.DataFrame(
        {
            "query_id": range(USERS * 2),
            "user_id": np.repeat(np.arange(USERS), 2),
            "part": ["valid", "test"] * USERS,
            "rank": ranks,
            "candidates": [100] * (USERS * 2),
            "sampled_rank": ranks,
            "tied": [False] * (USERS * 2),
            "history_length": [3] * (USERS * 2),
            "target_count": [5] * (USERS * 2),
        }
    ).with_columns(pl.lit(None, dtype=pl.Float32).alias(name) for name in EXPECTED)


def _finish(cache: Path, worse: int = 0, rank: float = 50.0, taus: tuple[float | None, ...] = (0.5, None, 0.7)) -> None:
    """Leave what the stages of a run leave: artifacts, cache and lock."""
    PER_QUERY.write(_table(worse), model="mme_sid")
    METRICS.write({"item_table_effective_rank": rank, "item_table_alive_share": 1.0}, model="mme_sid")
    forgetting = {str(place): {"tau_finetuned": tau} for place, tau in enumerate(taus)}
    SUMMARY.write({"valid_ndcg_at_10": 0.3, "forgetting": forgetting}, model="mme_sid")
    evaluated, tuned = PER_QUERY.at(model="mme_sid").parent, SUMMARY.at(model="mme_sid")
    lock({"evaluate@mme_sid": evaluated, "finetune@mme_sid": tuned}, cache)


class Dvc:
    """Stands for `dvc status` and `dvc exp run`: a run without codes is worse, one at another seed is the same."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.asked, self.status = cache, [], "{}"

    def __call__(self, *arguments: str, folder: Path = Path()) -> subprocess.CompletedProcess[str]:
        if arguments[0] == "status":
            assert arguments[-1] == "evaluate@mme_sid"  # the table makes the report stale
            return subprocess.CompletedProcess(arguments, 0, self.status, "")
        assert arguments[:3] == ("exp", "run", "--temp")
        self.asked.append(arguments[3:])
        if "finetune.mme_sid.raw=false" in arguments:
            return subprocess.CompletedProcess(arguments, 1, "", "finetune: out of memory")
        _finish(self.cache, worse=3 if "finetune.mme_sid.codes=false" in arguments else 0, rank=40.0, taus=())
        git("add", "-f", "dvc.lock", "artifacts/reports")
        commit = git("commit-tree", git("write-tree"), "-p", "HEAD", "-m", "an experiment")
        head = git("rev-parse", "HEAD")
        git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{arguments[4]}", commit)
        _finish(self.cache)
        git("add", "-f", "dvc.lock", "artifacts/reports")
        return subprocess.CompletedProcess(arguments, 0, "", "")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A committed project whose whole model has run."""
    monkeypatch.chdir(tmp_path)
    somebody(monkeypatch)
    monkeypatch.setattr("sidflow.cli.program.require_project_files", lambda *files: None)
    monkeypatch.setattr("sidflow.cli.revisions.dvc_cache_folder", lambda: tmp_path / "cache")
    stands = Dvc(tmp_path / "cache")
    for user in ("ablations", "revisions"):
        monkeypatch.setattr(f"sidflow.cli.{user}.run_dvc", stands)
    Path("params.yaml").write_text(PARAMS)
    Path(".gitignore").write_text("/artifacts/*\n!/artifacts/reports\n/cache\n")
    QUANTIZER_SUMMARY.write({"modalities": {"collaborative": {}, "text": {}}})
    _finish(tmp_path / "cache")
    for folder in ("src", "stages"):
        Path(folder).mkdir()
        Path(folder, "code").write_text("")
    Path("dvc.yaml").write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "whole")
    return stands


def test_rows_run_once_and_the_table_says_what_each_is_worth(fake):
    said = list(ablations.run_ablations([42, 43], ["whole", "without codes"]))
    assert [asked[1] for asked in fake.asked] == [
        "ablation-whole-seed-43",
        "ablation-without-codes-seed-42",
        "ablation-without-codes-seed-43",
    ]
    assert fake.asked[1][2:] == ("--set-param", "seed=42", "--set-param", "finetune.mme_sid.codes=false")
    assert said[0] == "4 runs, 3 of them missing"
    found = ABLATIONS.read()
    assert (found["preset"], found["metric"], found["commit"]) == ("tiny", "ndcg_at_10", git("rev-parse", "HEAD"))
    whole, less = found["rows"]
    assert (whole["row"], whole["seeds"], whole["effective_rank"]) == ("whole", 2, 45.0)
    assert whole["tau_of_codes"] == pytest.approx(0.6)
    assert (less["row"], less["seeds"], less["tau_of_codes"]) == ("without codes", 2, None)
    assert less["low"] <= less["difference"] <= less["high"] < 0
    assert less["difference"] == pytest.approx(less["mean"] - whole["mean"], abs=1e-6)

    assert next(ablations.run_ablations([42, 43], ["whole", "without codes"])) == "4 runs, 0 of them missing"
    assert len(fake.asked) == 3


def test_lists_are_written_as_dvc_reads_them(fake):
    list(ablations.run_ablations(None, ["without text"]))
    assert fake.asked[0][-1] == "finetune.mme_sid.without=[text]"


def test_a_seed_that_is_named_twice_runs_once(fake):
    assert next(ablations.run_ablations([43, 43], ["without codes"])) == "1 runs, 1 of them missing"


def test_the_remedy_of_a_failed_row_can_be_pasted_into_a_shell(fake):
    changes = {ablations.WITHOUT: ["text", "image"], "finetune.mme_sid.raw": False}
    with pytest.raises(InputError, match="out of memory") as caught:
        ablations._run_experiment(ablations.Experiment("without raw rows", 42), changes)
    command = shlex.split(caught.value.remedy.split("`")[1])
    assert command[-3] == "finetune.mme_sid.without=[text, image]"


def test_what_ran_under_another_commit_does_not_count(fake):
    list(ablations.run_ablations(None, ["without codes"]))
    Path("src/code").write_text("new")
    git("commit", "-qam", "new")
    assert next(ablations.run_ablations(None, ["without codes"])) == "1 runs, 1 of them missing"


def test_a_failed_row_says_why_and_what_ran_is_kept(fake):
    with pytest.raises(InputError, match="out of memory"):
        list(ablations.run_ablations(None, ["without codes", "without raw rows"]))
    assert next(ablations.run_ablations(None, ["without codes"])) == "1 runs, 0 of them missing"


@pytest.mark.parametrize(
    ("only", "change", "said"),
    [
        ("without image", None, "rows out of"),
        ("nothing", None, "rows out of"),
        ("whole", "params.yaml", "uncommitted changes"),
        ("whole", "src/code", "uncommitted changes"),
        ("whole", "status", "out of date"),
    ],
)
def test_what_cannot_be_named_or_repeated_is_refused(fake, only, change, said):
    if change == "status":
        fake.status = '{"finetune@mme_sid": []}'
    elif change:
        Path(change).write_text(f"{Path(change).read_text()}# new\n")
    done = CliRunner().invoke(app, ["ablations", "--only", only])
    assert done.exit_code == 2 and said in done.output
    assert not fake.asked


def test_differences_are_over_the_seeds_of_both(fake, monkeypatch):
    compared = {}
    monkeypatch.setattr(ablations, "ablation_table", lambda runs, _: compared.update(runs) or [])
    list(ablations.run_ablations([43, 44], ["whole", "without codes"]))
    assert {row: [run.seed for run in runs] for row, runs in compared.items()} == {
        "whole": [42, 43, 44],
        "without codes": [43, 44],
    }
