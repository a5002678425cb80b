"""Kill every stage and `dvc repro` at random moments, and let writes fail. Run: python -m tests.faults --help."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.kills import kill_repro, kill_stage, moments
from tests.faults.limits import limit_stage
from tests.faults.runs import LEAST_SECONDS, reference_of, stages_of
from tests.pipeline.project import Project


def main() -> int:
    """Print a line for each stage, and the counts; return 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=20, help="kills of each stage and of `dvc repro` (20)")
    parser.add_argument("--writes", type=int, default=10, help="failing writes of each stage (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    parser.add_argument("--stages", nargs="*", help="names of stages; by default all of a second or more, and `repro`")
    parser.add_argument("--finished", type=Path, help="a tiny project that has run, to be copied, instead of a new one")
    args = parser.parse_args()
    generator, tried, lost = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        if args.finished:
            finished = Project(args.finished.resolve(), cache)
        else:
            finished = Project.create(Path(scratch) / "finished", cache)
            finished.repro()
            finished.commit("results")
        project = finished.copy(Path(scratch) / "copy")
        for stage in stages_of(project, LEAST_SECONDS):
            if args.stages and stage.name not in args.stages:
                continue
            reference = reference_of(project, stage)
            faults = [(f"kill at {moment}", kill_stage(project, reference, moment))
                      for moment in moments(args.moments, generator)]  # fmt: skip
            faults += [("failing write", limit_stage(project, reference, generator)) for _ in range(args.writes)]
            tried, lost = tried + len(faults), lost + _print(stage.name, faults)
        if not args.stages or "repro" in args.stages:
            (project.folder / ".dvc/config.local").unlink()  # a cache of DVC of its own, to be emptied
            killed, problems = kill_repro(project, args.moments, generator, longest=20.0)
            tried, lost = tried + killed, lost + _print("dvc repro", [("kills", problems)])
    print(f"{tried} moments tried, {lost} results lost")
    return 1 if lost else 0


def _print(name: str, faults: list[tuple[str, list[str]]]) -> int:
    bad = [(fault, problems) for fault, problems in faults if problems]
    print(f"{name}: {len(faults)} tried, {len(bad)} lost", flush=True)
    for fault, problems in bad:
        print(*(f"  {fault}: {problem}" for problem in problems), sep="\n", flush=True)
    return len(bad)


if __name__ == "__main__":
    sys.exit(main())
