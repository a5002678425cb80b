"""The ablation table of MME-SID: one part off at a time, each row an experiment of DVC.

Source: the ablation study of MME-SID (arXiv 2509.02017); the last two rows are ours.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from sidflow.artifacts.evaluation import ABLATIONS, METRICS
from sidflow.artifacts.recommenders import SUMMARY
from sidflow.artifacts.semantic_ids import QUANTIZER_SUMMARY
from sidflow.cli.dvc import LOCK_PATH, git_output, run_dvc, run_git
from sidflow.cli.revisions import cached_file, code_commit, read_revision, read_workspace, require_up_to_date
from sidflow.core import params
from sidflow.core.errors import InputError
from sidflow.evaluation.compare import paired_bootstrap, per_query_values
from sidflow.evaluation.params import CompareParams
from sidflow.mme_sid.params import FinetuneParams

if TYPE_CHECKING:
    from jaxtyping import Float


MODEL = "mme_sid"
FULL_MODEL = "whole"
WITHOUT = f"finetune.{MODEL}.without"
ParamChanges = Mapping[str, bool | str | float | list[str]]  # values by dotted names of params.yaml
ABLATION_ROWS: dict[str, ParamChanges] = {
    FULL_MODEL: {},
    "without collaborative": {WITHOUT: ["collaborative"]},
    "without text": {WITHOUT: ["text"]},
    "without image": {WITHOUT: ["image"]},
    "without codes": {f"finetune.{MODEL}.codes": False},
    "without raw rows": {f"finetune.{MODEL}.raw": False},
    "codebooks at random": {f"finetune.{MODEL}.codebook_init": "random"},
    "without alignment": {"quantize.alignment": "none"},
    "without MMD": {"quantize.reconstruction": "mse"},
    "without frequency-aware fusion": {f"finetune.{MODEL}.part_weights": "equal"},
    "without LoRA": {f"finetune.{MODEL}.lora.enabled": False},
    "item tokens four times as large": {f"finetune.{MODEL}.token_scale": 4.0, f"finetune.{MODEL}.lora.alpha": 32},
    "collaborative rows alone": {WITHOUT: ["text", "image"], f"finetune.{MODEL}.codes": False},
}
DIAGNOSTICS = ("valid_ndcg_at_10", "effective_rank", "alive_share", "tau_of_codes")


class AblationRun(NamedTuple):
    """The results of one row under one seed."""

    seed: int
    user_values: Float[np.ndarray, " users"]  # in the metric of the table, users in the same order in all runs
    diagnostics: Mapping[str, float | None]


def applicable_rows(modalities: Sequence[str], settings: FinetuneParams) -> dict[str, ParamChanges]:
    """Return the rows of the table that change the model of `settings` where items have `modalities`.

    A row that removes modalities applies if the model reads at least one of them, and at least one other.
    """
    read = [modality for modality in modalities if modality not in settings.without]
    rows: dict[str, ParamChanges] = {}
    for name, changes in ABLATION_ROWS.items():
        without = changes.get(WITHOUT)
        removed = [modality for modality in read if isinstance(without, list) and modality in without]
        if without is None:
            rows[name] = changes
        elif removed and len(removed) < len(read):
            rows[name] = {**changes, WITHOUT: [*settings.without, *removed]}
    if settings.part_weights != "frequency":
        del rows["without frequency-aware fusion"]
    return rows


def ablation_metric(tests: pl.DataFrame) -> str:
    """Return the metric of the table: expected nDCG@10 where the catalogue has the truth, else nDCG@10.

    Args:
        tests: test queries of PER_QUERY.
    """
    return "ndcg_at_10" if tests["expected_ndcg_at_10"].null_count() else "expected_ndcg_at_10"


def mean_per_user(tests: pl.DataFrame) -> Float[np.ndarray, " users"]:
    """Return the mean over each user's test queries, by user_id, in the metric of the table.

    Args:
        tests: test queries of PER_QUERY.
    """
    values = pl.Series("value", per_query_values(tests)[ablation_metric(tests)])
    return tests.select("user_id").with_columns(values).group_by("user_id").mean().sort("user_id")["value"].to_numpy()


def model_diagnostics(metrics: Mapping[str, float], summary: Mapping) -> dict[str, float | None]:
    """Return DIAGNOSTICS from the model's METRICS and the summary of its training."""
    taus = [tau for modality in summary["forgetting"].values() if (tau := modality["tau_finetuned"]) is not None]
    return {
        "valid_ndcg_at_10": summary["valid_ndcg_at_10"],
        "effective_rank": metrics.get("item_table_effective_rank"),
        "alive_share": metrics.get("item_table_alive_share"),
        "tau_of_codes": float(np.mean(taus)) if taus else None,
    }


def ablation_table(runs: Mapping[str, Sequence[AblationRun]], settings: CompareParams) -> list[dict[str, object]]:
    """Return one entry per row: mean, paired difference to the full model with its interval, and diagnostics.

    Seeds are averaged per user first; users are resampled. A difference is over the seeds that the row and the full
    model share; without any there is none.

    Args:
        runs: the seeds of every row.
        settings: level, power, draws and seed of the bootstrap.
    """
    full = {run.seed for run in runs.get(FULL_MODEL, [])}
    shared = {
        row: seeds
        for row, done in runs.items()
        if row != FULL_MODEL and (seeds := frozenset(run.seed for run in done) & full)
    }
    means = {
        (row, seeds): _mean_over_seeds([run for run in runs[row] if run.seed in seeds])
        for compared, seeds in shared.items()
        for row in (compared, FULL_MODEL)
    }
    bootstrap = paired_bootstrap(means, np.arange(len(next(iter(means.values())))), settings) if means else None
    table: list[dict[str, object]] = []
    for row, seeds in runs.items():
        entry: dict[str, object] = {"row": row, "seeds": len(seeds), "mean": float(_mean_over_seeds(seeds).mean())}
        if bootstrap and row in shared:
            difference = bootstrap.difference((row, shared[row]), (FULL_MODEL, shared[row]))
            entry |= {name: getattr(difference, name) for name in ("difference", "low", "high", "detectable")}
        for key in DIAGNOSTICS:
            values = [value for run in seeds if (value := run.diagnostics.get(key)) is not None]
            entry[key] = float(np.mean(values)) if values else None
        table.append(entry)
    return table


def _mean_over_seeds(runs: Sequence[AblationRun]) -> Float[np.ndarray, " users"]:
    return np.stack([run.user_values for run in runs]).mean(0, np.float64)


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
    experiments = [Experiment(row, seed) for row in rows for seed in dict.fromkeys(seeds or [project_seed])]
    missing = [
        experiment
        for experiment in experiments
        if experiment != (FULL_MODEL, project_seed) and _experiment_commit(experiment) is None
    ]
    yield f"{len(experiments)} runs, {len(missing)} of them missing"
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
    runs: dict[str, list[AblationRun]] = {FULL_MODEL: [_workspace_run(workspace.seed)]}
    refs = git_output("for-each-ref", "--format=%(refname)", _experiment_refs()).split()
    names = [ref.rsplit("/", 1)[1] for ref in refs]
    for row in ABLATION_ROWS:
        prefix = Experiment(row, 0).name.removesuffix("0")
        for name in sorted(name for name in names if name.startswith(prefix)):
            seed = name.removeprefix(prefix)
            if name != workspace.name and seed.isdigit():
                runs.setdefault(row, []).append(_experiment_run(Experiment(row, int(seed))))
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
    settings = params.load_section(f"finetune.{MODEL}", FinetuneParams)
    rows = applicable_rows(list(QUANTIZER_SUMMARY.read()["modalities"]), settings)
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
    completed = run_dvc("exp", "run", "--temp", "--name", experiment.name, *overrides)
    if completed.returncode or _experiment_commit(experiment) is None:
        raise InputError(
            f"the experiment {experiment.name}",
            expected="a run that ends",
            found=(completed.stderr.strip() or completed.stdout.strip() or "nothing")[-500:],
            remedy=f"`dvc exp run --temp {shlex.join(overrides)}` shows all of it; finished experiments are kept",
        )


def _head() -> str:
    return git_output("rev-parse", "HEAD").strip()


def _experiment_refs() -> str:
    head = _head()
    return f"refs/exps/{head[:2]}/{head[2:]}/"


def _experiment_commit(experiment: Experiment) -> str | None:
    ref = f"{_experiment_refs()}{experiment.name}"
    return run_git("rev-parse", "--verify", "--quiet", ref).stdout.strip() or None


def _workspace_run(seed: int) -> AblationRun:
    tests = read_workspace((MODEL,)).tests[MODEL]
    diagnostics = model_diagnostics(METRICS.read(model=MODEL), SUMMARY.read(model=MODEL))
    return AblationRun(seed, mean_per_user(tests), diagnostics)


def _experiment_run(experiment: Experiment) -> AblationRun:
    commit = git_output("rev-parse", f"{_experiment_refs()}{experiment.name}").strip()
    tests = read_revision(commit, (MODEL,)).tests[MODEL]
    metrics = json.loads(git_output("show", f"{commit}:./{METRICS.at(model=MODEL).as_posix()}"))
    summary = json.loads(cached_file(commit, SUMMARY.at(model=MODEL)).read_text())
    return AblationRun(experiment.seed, mean_per_user(tests), model_diagnostics(metrics, summary))
