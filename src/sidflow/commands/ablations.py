"""The ablation table of MME-SID as experiments of DVC: one a row and seed, kept under the present commit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidflow.commands import dvc, git, revisions, runs
from sidflow.contracts import params
from sidflow.contracts.artifacts.evaluations import METRICS
from sidflow.contracts.artifacts.factors import SUMMARY
from sidflow.contracts.artifacts.quantizer import SUMMARY as QUANTIZER
from sidflow.contracts.artifacts.reports import ABLATIONS
from sidflow.contracts.errors import InputError
from sidflow.evaluation import ablation
from sidflow.evaluation.ablation import MODEL, WHOLE, Changes, Measured
from sidflow.evaluation.params import CompareParams


class Experiment(NamedTuple):
    """One row under one seed."""

    row: str
    seed: int

    @property
    def name(self) -> str:
        """What `dvc exp show` calls it."""
        return f"ablation-{self.row.lower().replace(' ', '-')}-seed-{self.seed}"


def run(seeds: Sequence[int] | None, only: Sequence[str] | None) -> Iterator[str]:
    """Run what is missing, in copies of the project; yield a line before and after each, write the table at the end.

    What ran under the present commit is not run again.

    Raises:
        InputError: a row is unknown, something is not committed or not up to date, or an experiment failed.
    """
    settings = params.load_all()
    rows = _rows(only)
    _require_committed()
    runs.require_up_to_date(f"evaluate@{MODEL}")  # not the report, which the table itself makes stale
    own = int(settings["seed"])
    wanted = [Experiment(row, seed) for row in rows for seed in seeds or [own]]
    missing = [one for one in wanted if one != (WHOLE, own) and _commit(one) is None]
    yield f"{len(wanted)} runs, {len(missing)} of them missing"
    for place, one in enumerate(missing, 1):
        yield f"{place}/{len(missing)} {one.row}, seed {one.seed} ..."
        began = time.monotonic()
        _experiment(one, rows[one.row])
        yield f"{place}/{len(missing)} {one.row}, seed {one.seed}: done in {time.monotonic() - began:.0f} s"
    yield write()


def write() -> str:
    """Put all experiments under the present commit, and the workspace's own run as the whole, into one table.

    Raises:
        InputError: the results of one are not in DVC's cache.
    """
    settings = params.load_all()
    own = Experiment(WHOLE, int(settings["seed"]))
    found: dict[str, list[Measured]] = {WHOLE: [_of_workspace()]}
    names = [name.rsplit("/", 1)[1] for name in git.output("for-each-ref", "--format=%(refname)", _refs()).split()]
    for row in ablation.ROWS:
        prefix = Experiment(row, 0).name.removesuffix("0")
        for name in sorted(name for name in names if name.startswith(prefix)):
            if name != own.name:
                found.setdefault(row, []).append(_of_experiment(name))
    path = ABLATIONS.write(
        {
            "preset": settings["preset"],
            "metric": ablation.metric_of(revisions.workspace((MODEL,)).tests[MODEL]),
            "commit": _head(),
            "rows": ablation.table(found, params.load("compare", CompareParams)),
        }
    )
    return f"{path}: {len(found)} rows; `dvc repro report` shows them"


def _rows(only: Sequence[str] | None) -> dict[str, Changes]:
    rows = ablation.rows(list(QUANTIZER.read()["modalities"]))
    unknown = [name for name in only or () if name not in rows]
    if unknown:
        raise InputError(
            "--only", expected=f"rows out of {list(rows)}", found=repr(unknown[0]), remedy="name one of them"
        )
    return {name: rows[name] for name in only or rows}


def _require_committed() -> None:
    runs.code_commit()
    if git.output("status", "--porcelain", "--", str(params.PATH)).strip():
        raise InputError(
            str(params.PATH),
            expected="as committed, so that an experiment says what it differs from",
            found="uncommitted changes",
            remedy=f"`git commit {params.PATH} {dvc.LOCK}`",
        )


def _experiment(one: Experiment, changes: Changes) -> None:
    settings = [f"{name}={json.dumps(value).replace(chr(34), '')}" for name, value in changes.items()]
    overrides = [part for setting in (f"seed={one.seed}", *settings) for part in ("--set-param", setting)]
    done = dvc.run("exp", "run", "--temp", "--name", one.name, *overrides)
    if done.returncode or _commit(one) is None:
        raise InputError(
            f"the experiment {one.name}",
            expected="a run that ends",
            found=(done.stderr.strip() or done.stdout.strip() or "nothing")[-500:],
            remedy=f"`dvc exp run --temp {' '.join(overrides)}` shows all of it; what ran before is kept",
        )


def _head() -> str:
    return git.output("rev-parse", "HEAD").strip()


def _refs() -> str:
    head = _head()
    return f"refs/exps/{head[:2]}/{head[2:]}/"


def _commit(one: Experiment) -> str | None:
    return git.run("rev-parse", "--verify", "--quiet", f"{_refs()}{one.name}").stdout.strip() or None


def _of_workspace() -> Measured:
    tests = revisions.workspace((MODEL,)).tests[MODEL]
    return Measured(ablation.gains(tests), ablation.diagnostics(METRICS.read(model=MODEL), SUMMARY.read(model=MODEL)))


def _of_experiment(name: str) -> Measured:
    commit = git.output("rev-parse", f"{_refs()}{name}").strip()
    tests = revisions.committed(commit, (MODEL,)).tests[MODEL]
    metrics = json.loads(git.output("show", f"{commit}:./{METRICS.at(model=MODEL).as_posix()}"))
    summary = json.loads(revisions.cached_file(commit, SUMMARY.at(model=MODEL)).read_text())
    return Measured(ablation.gains(tests), ablation.diagnostics(metrics, summary))
