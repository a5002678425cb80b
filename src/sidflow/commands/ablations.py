"""`sidflow ablations`: MME-SID's ablation table as DVC experiments, one per row and seed, under the present commit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidflow.commands.dvc import LOCK_PATH, run_dvc
from sidflow.commands.git import git_output, run_git
from sidflow.commands.revisions import cached_file, code_commit, read_revision, read_workspace, require_up_to_date
from sidflow.contracts import params
from sidflow.contracts.artifacts.evaluations import METRICS
from sidflow.contracts.artifacts.factors import SUMMARY
from sidflow.contracts.artifacts.quantizer import QUANTIZER_SUMMARY
from sidflow.contracts.artifacts.reports import ABLATIONS
from sidflow.contracts.errors import InputError
from sidflow.evaluation.ablation import (
    ABLATION_ROWS,
    FULL_MODEL,
    MODEL,
    AblationRun,
    ParamChanges,
    ablation_metric,
    ablation_table,
    applicable_rows,
    mean_per_user,
    model_diagnostics,
)
from sidflow.evaluation.params import CompareParams


class Experiment(NamedTuple):
    """One row of the table under one seed."""

    row: str
    seed: int

    @property
    def name(self) -> str:
        """Its name in `dvc exp show`."""
        return f"ablation-{self.row.lower().replace(' ', '-')}-seed-{self.seed}"


def run_ablations(seeds: Sequence[int] | None, only: Sequence[str] | None) -> Iterator[str]:
    """Run the missing experiments in copies of the project, then write the table; yield lines of progress.

    An experiment that ran under the present commit is not run again.

    Args:
        seeds: the one in params.yaml if absent.
        only: rows of the table; all that apply to the preset if absent.

    Raises:
        InputError: a row is unknown, something is not committed or not up to date, or an experiment failed.
    """
    settings = params.load_params()
    rows = _selected_rows(only)
    _require_committed_params()
    code_commit()
    require_up_to_date(f"evaluate@{MODEL}")  # not the report, which the table itself makes stale
    project_seed = int(settings["seed"])
    wanted = [Experiment(row, seed) for row in rows for seed in seeds or [project_seed]]
    missing = [one for one in wanted if one != (FULL_MODEL, project_seed) and _experiment_commit(one) is None]
    yield f"{len(wanted)} runs, {len(missing)} of them missing"
    for number, experiment in enumerate(missing, 1):
        progress = f"{number}/{len(missing)} {experiment.row}, seed {experiment.seed}"
        yield f"{progress} ..."
        started = time.monotonic()
        _run_experiment(experiment, rows[experiment.row])
        yield f"{progress}: done in {time.monotonic() - started:.0f} s"
    yield write_ablation_table()


def write_ablation_table() -> str:
    """Write the artifact ABLATIONS from the workspace's run and all experiments under the present commit.

    Returns:
        A line with the path and the number of rows.

    Raises:
        InputError: the results of an experiment are not in DVC's cache.
    """
    settings = params.load_params()
    workspace = Experiment(FULL_MODEL, int(settings["seed"]))
    runs: dict[str, list[AblationRun]] = {FULL_MODEL: [_workspace_run()]}
    refs = git_output("for-each-ref", "--format=%(refname)", _experiment_refs()).split()
    names = [ref.rsplit("/", 1)[1] for ref in refs]
    for row in ABLATION_ROWS:
        prefix = Experiment(row, 0).name.removesuffix("0")
        for name in sorted(name for name in names if name.startswith(prefix)):
            if name != workspace.name:
                runs.setdefault(row, []).append(_experiment_run(name))
    path = ABLATIONS.write(
        {
            "preset": settings["preset"],
            "metric": ablation_metric(read_workspace((MODEL,)).tests[MODEL]),
            "commit": _head(),
            "rows": ablation_table(runs, params.load_section("compare", CompareParams)),
        }
    )
    return f"{path}: {len(runs)} rows; `dvc repro report` shows them"


def _selected_rows(only: Sequence[str] | None) -> dict[str, ParamChanges]:
    rows = applicable_rows(list(QUANTIZER_SUMMARY.read()["modalities"]))
    unknown = [name for name in only or () if name not in rows]
    if unknown:
        raise InputError(
            "--only", expected=f"rows out of {list(rows)}", found=repr(unknown[0]), remedy="name one of them"
        )
    return {name: rows[name] for name in only or rows}


def _require_committed_params() -> None:
    if git_output("status", "--porcelain", "--", str(params.PARAMS_PATH)).strip():
        raise InputError(
            str(params.PARAMS_PATH),
            expected="as committed: an experiment records its difference to the commit",
            found="uncommitted changes",
            remedy=f"`git commit {params.PARAMS_PATH} {LOCK_PATH}`",
        )


def _run_experiment(experiment: Experiment, changes: ParamChanges) -> None:
    settings = [f"{name}={json.dumps(value).replace(chr(34), '')}" for name, value in changes.items()]
    overrides = [part for setting in (f"seed={experiment.seed}", *settings) for part in ("--set-param", setting)]
    done = run_dvc("exp", "run", "--temp", "--name", experiment.name, *overrides)
    if done.returncode or _experiment_commit(experiment) is None:
        raise InputError(
            f"the experiment {experiment.name}",
            expected="a run that ends",
            found=(done.stderr.strip() or done.stdout.strip() or "nothing")[-500:],
            remedy=f"`dvc exp run --temp {' '.join(overrides)}` shows all of it; finished experiments are kept",
        )


def _head() -> str:
    return git_output("rev-parse", "HEAD").strip()


def _experiment_refs() -> str:
    head = _head()
    return f"refs/exps/{head[:2]}/{head[2:]}/"


def _experiment_commit(experiment: Experiment) -> str | None:
    ref = f"{_experiment_refs()}{experiment.name}"
    return run_git("rev-parse", "--verify", "--quiet", ref).stdout.strip() or None


def _workspace_run() -> AblationRun:
    tests = read_workspace((MODEL,)).tests[MODEL]
    return AblationRun(mean_per_user(tests), model_diagnostics(METRICS.read(model=MODEL), SUMMARY.read(model=MODEL)))


def _experiment_run(name: str) -> AblationRun:
    commit = git_output("rev-parse", f"{_experiment_refs()}{name}").strip()
    tests = read_revision(commit, (MODEL,)).tests[MODEL]
    metrics = json.loads(git_output("show", f"{commit}:./{METRICS.at(model=MODEL).as_posix()}"))
    summary = json.loads(cached_file(commit, SUMMARY.at(model=MODEL)).read_text())
    return AblationRun(mean_per_user(tests), model_diagnostics(metrics, summary))
