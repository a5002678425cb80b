"""Kill every stage and `dvc repro` at random moments, and let writes fail. Run: python -m tests.faults --help."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.kills import kill_repro, kill_stage, moments
from tests.faults.limits import SmallDisk, enter_namespace, has_namespaces, limit_stage
from tests.faults.runs import Stage, reference_of, stages_of
from tests.pipeline.project import ROOT, Project
from tests.pipeline.warm import Warm

RECORD = ROOT / "experiments/results/faults.json"
LC_REC = {
    "architecture": "language_model",
    "lora": {"rank": 4},
    "alignment": {"id_from_title": 0.3, "title_from_id": 0.3, "next_title": 0.1},
    "loop": {"epochs": 2},
}


def main() -> int:
    """Print a line for each stage, and the counts; return 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=20, help="kills of each stage and of `dvc repro` (20)")
    parser.add_argument("--writes", type=int, default=10, help="failing writes of each stage (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    parser.add_argument("--stages", nargs="*", help="stages, and `repro`; by default the slowest of each script and it")
    parser.add_argument("--finished", type=Path, help="a tiny project that has run, to be copied, instead of a new one")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")
    args = parser.parse_args()
    enter_namespace("tests.faults")
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as scratch:
        for row in tried_rows(args, Path(scratch)):
            print(
                f"{row['stage']}: {row['kills']} kills, {row['writes']} failing writes, {row['lost']} lost", flush=True
            )
            for problem in row.pop("problems"):
                print(f"  {problem}", flush=True)
            rows.append(row)
            if args.record:
                record(rows, args)
    tried, lost = sum(row["kills"] + row["writes"] for row in rows), sum(row["lost"] for row in rows)
    print(f"{tried} moments tried, {lost} results lost")
    return 1 if lost else 0


def tried_rows(args: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield the counts and the problems of each stage, and of `dvc repro` at the end."""
    generator, cache, warm = random.Random(args.seed), scratch / "cache", Warm(scratch / "w")
    if args.finished:
        finished = Project(args.finished.resolve(), cache, warm)
    else:
        finished = Project.create(scratch / "finished", cache, warm)
        add_lc_rec(finished)
        finished.repro()
        finished.commit("results")
    project = finished.copy(scratch / "copy")
    disk = SmallDisk.mount(project, scratch / "disk") if has_namespaces() else None
    for stage in chosen(stages_of(project), args.stages):
        reference = reference_of(project, stage)
        faults = [(f"kill at {moment}", kill_stage(project, reference, moment))
                  for moment in moments(args.moments, generator)]  # fmt: skip
        faults += [("failing write", limit_stage(project, reference, generator, disk)) for _ in range(args.writes)]
        yield {
            "stage": stage.name,
            "kills": args.moments,
            "writes": args.writes,
            "lost": sum(bool(problems) for _, problems in faults),
            "problems": [f"{fault}: {problem}" for fault, problems in faults for problem in problems],
        }
    if disk is not None:
        disk.unmount(project)
    if not args.stages or "repro" in args.stages:
        project = finished.copy(scratch / "whole")
        (project.folder / ".dvc/config.local").unlink()  # a cache of DVC of its own, to be emptied
        killed, problems, mended = kill_repro(project, args.moments, generator, longest=20.0)
        counts = {"kills": killed, "writes": 0, "lost": len(problems), "locks_mended": mended}
        yield {"stage": "dvc repro", **counts, "problems": problems}
    warm.close()


def add_lc_rec(project: Project) -> None:
    """Let the project train `lc_rec`, too, which `embedded` is without."""
    listed = [*project.params()["recommenders"], "lc_rec"]
    project.set_params({"recommenders": listed, "generate": {"lc_rec": LC_REC}})


def chosen(stages: list[Stage], names: list[str] | None) -> list[Stage]:
    """Return the stages of those names; without names the slowest one of each script."""
    if names:
        return [stage for stage in stages if stage.name in names]
    slowest: dict[str, Stage] = {}
    for stage in stages:
        script = stage.command[1]
        if script not in slowest or stage.seconds > slowest[script].seconds:
            slowest[script] = stage
    return list(slowest.values())


def record(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Write the counts, each row with the commit of the code that was tried; rows of other stages stay."""
    head = subprocess.run(
        ("git", "rev-parse", "--short", "HEAD"), cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    kept = json.loads(RECORD.read_text())["rows"] if RECORD.is_file() else []
    own = {row["stage"] for row in rows}
    every = [*(row for row in kept if row["stage"] not in own), *({**row, "commit": head} for row in rows)]
    numbers = f"--moments {args.moments} --writes {args.writes} --seed {args.seed}"
    result = {
        "command": f"python -m tests.faults {numbers} --record",
        "writes": "a tmpfs with little room left" if has_namespaces() else "a limit of a file's size",
        "tried": sum(row["kills"] + row["writes"] for row in every),
        "lost": sum(row["lost"] for row in every),
        "rows": every,
    }
    RECORD.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
