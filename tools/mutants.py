"""Plant faults in the modules that decide results and count those that the tests find. Run: make mutants.

mutmut makes the mutants (`[tool.mutmut]` in pyproject.toml says of which modules) and runs for each the tests that
reach its function, quick ones first. All of them would take hours: a sample, equally many from each module where it has
as many, is drawn by a seed. The score is recorded with the commit.

A run that was stopped goes on where it was, as long as code and tests are the same. After tests were added,
`--survivors` tests again only the mutants that no test found.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

RECORD = Path("experiments/results/mutants.json")
EQUIVALENT = Path("tools/equivalent_mutants.json")  # faults that change no result, each with the reason
WORK = Path("mutants")  # where mutmut works
FIRST = "sidflow.metrics.ranking.x_gini__mutmut_1"  # any mutant: a run of it alone makes all of them
TEXT = re.compile(r"""(["'])(?:\\.|(?!\1).)*\1""")
KILLED = ("killed", "timeout", "segfault")  # a hang and a crash are found, too


def main() -> None:
    """Make the mutants, test a sample of them, print and record the share that was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=400, help="mutants to test; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", default="", help="part of module names: test these, record nothing")
    parser.add_argument("--survivors", action="store_true", help="tests were added: those found before stay found")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="mutants that are tested at a time")
    arguments = parser.parse_args()
    remove_broken(WORK / "src")
    if not outcomes_hold(WORK, digest()):
        forget(WORK / "src", keep=KILLED if arguments.survivors else ())
        (WORK / "mutmut-stats.json").unlink(missing_ok=True)  # which tests reach which function
        _mutmut(1, FIRST)
        (WORK / "digest.txt").write_text(digest())
    names = {module: mutants for module, mutants in mutants_by_module().items() if arguments.only in module}
    drawn = f"{arguments.sample} {arguments.seed} {arguments.only}"
    chosen = kept_sample(names, WORK / "sample.json", drawn)
    chosen = chosen or sample_of(names, arguments.sample, arguments.seed)
    (WORK / "sample.json").write_text(json.dumps({"drawn": drawn, "names": chosen}))
    missing = sorted(set(chosen) - statuses().keys())
    print(f"{len(chosen)} of {sum(map(len, names.values()))} mutants, {len(missing)} to be tested", flush=True)
    if missing:
        _mutmut(arguments.workers, *missing)
    record = score(names, chosen, statuses())
    record |= without_equivalents(record, json.loads(EQUIVALENT.read_text()), WORK / "src")
    print(json.dumps(record, indent=1))
    if not arguments.only:
        origin = {"commit": _commit(), "mutmut": importlib.metadata.version("mutmut"), "seed": arguments.seed}
        RECORD.write_text(json.dumps(origin | record, indent=1) + "\n")
        print(f"recorded in {RECORD}")


def mutants_by_module(root: Path = WORK / "src") -> dict[str, list[str]]:
    """Return the names of all mutants by module; in the report those that change wording alone are left out."""
    modules: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.py.meta")):
        module = ".".join(path.relative_to(root).with_name(path.name.removesuffix(".py.meta")).parts)
        names = sorted(json.loads(path.read_text())["exit_code_by_key"])
        if ".report." in module:
            codes = sources(path.with_suffix(""))
            names = [name for name in names if not is_wording(*_pair(name.removeprefix(f"{module}."), codes))]
        if names:
            modules[module] = names
    return modules


def kept_sample(modules: Mapping[str, list[str]], path: Path, drawn: str) -> list[str]:
    """Return what is left of the sample that an earlier run drew: it stays while code changes; empty without one."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    existing = {name for names in modules.values() for name in names}
    return [name for name in kept.get("names", ()) if name in existing] if kept.get("drawn") == drawn else []


def sources(mutated: Path) -> dict[str, str]:
    """Return the code of every function that mutmut made in a mutated file, by its name there."""
    lines = mutated.read_text().splitlines(keepends=True)
    spans = json.loads(mutated.with_name(f"{mutated.name}.spans").read_text())["spans"]
    return {name: "".join(lines[start - 1 : end]) for name, (start, end) in spans.items()}


def _pair(name: str, codes: Mapping[str, str]) -> tuple[str, str]:
    """Return a function as it was and as the mutant `name`, both under one name."""
    function, _, number = name.rpartition("__mutmut_")
    original = f"{function}__mutmut_orig"
    return codes[original].replace(original, function), codes[name].replace(
        f"{function}__mutmut_{number}(", f"{function}("
    )


def is_wording(original: str, mutant: str) -> bool:
    """Return whether two codes differ in nothing but what stands between quotes."""
    return TEXT.sub('""', original) == TEXT.sub('""', mutant)


def sample_of(modules: Mapping[str, list[str]], size: int, seed: int) -> list[str]:
    """Return `size` mutants drawn by `seed`, equally many from each module that has as many; all where size is 0."""
    generator = random.Random(seed)
    queues = {module: generator.sample(names, len(names)) for module, names in modules.items()}
    limit = size or sum(map(len, modules.values()))
    chosen: list[str] = []
    while len(chosen) < limit and any(queues.values()):
        chosen += [queue.pop() for queue in queues.values() if queue]
    return chosen[:limit]


def statuses(root: Path = WORK / "src") -> dict[str, str]:
    """Return what became of each mutant that was tested."""
    from mutmut.stats import status_by_exit_code  # type: ignore[import-not-found]

    return {
        name: status_by_exit_code[code]
        for path in root.rglob("*.py.meta")
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items()
        if code is not None
    }


def score(modules: Mapping[str, list[str]], chosen: list[str], status: Mapping[str, str]) -> dict[str, object]:
    """Return the share of the chosen mutants that were found, by module too, and those that were not."""
    tested = {name: status.get(name, "not checked") for name in chosen}
    found = {name for name, outcome in tested.items() if outcome in KILLED}
    by_module = {}
    for module, names in modules.items():
        of_module = [name for name in names if name in tested]
        if of_module:
            outcomes = Counter(tested[name] for name in of_module)
            killed = sum(name in found for name in of_module)
            by_module[module] = {"mutants": len(names), "tested": len(of_module), "killed": killed} | {
                "outcomes": dict(sorted(outcomes.items()))
            }
    return {
        "score": round(len(found) / max(1, len(tested)), 4),
        "mutants": sum(map(len, modules.values())),
        "tested": len(tested),
        "killed": len(found),
        "outcomes": dict(sorted(Counter(tested.values()).items())),
        "modules": by_module,
        "not_killed": sorted(name for name in tested if name not in found),
    }


def without_equivalents(
    record: Mapping[str, object], known: list[dict[str, str]], root: Path = WORK / "src"
) -> dict[str, object]:
    """Return the equivalents among the mutants of a record that were not found, and the score without them.

    Args:
        record: of `score`.
        known: for each equivalent its `module`, the code `before` and `after`, and `why` it changes no result.
        root: of the mutated files.
    """
    reasons = {(one["module"], one["before"], one["after"]): one["why"] for one in known}
    equivalent = {}
    for name in record["not_killed"]:  # type: ignore[union-attr]
        module, _, function = name.rpartition(".")
        codes = sources((root / module.replace(".", "/")).with_suffix(".py"))
        before, after = ([line.strip() for line in code.splitlines()] for code in _pair(function, codes))
        removed, added = (
            [line for line in one if line not in other] for one, other in ((before, after), (after, before))
        )
        why = reasons.get((module, " ".join(removed), " ".join(added)))
        if why is not None:
            equivalent[name] = why
    tested, killed = int(str(record["tested"])), int(str(record["killed"]))
    share = round(killed / max(1, tested - len(equivalent)), 4)
    return {"equivalent": equivalent, "score_without_equivalents": share}


def digest(root: Path = Path()) -> str:
    """Return a hash of the code, the tests and the settings that an outcome depends on."""
    files = [root / "pyproject.toml", *sorted((root / "src").rglob("*.py")), *sorted((root / "tests").rglob("*.py"))]
    hashed = hashlib.sha256()
    for path in files:
        hashed.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return hashed.hexdigest()


def outcomes_hold(work: Path, now: str) -> bool:
    """Return whether what an earlier run left in `work` is of the same code and tests."""
    path = work / "digest.txt"
    return path.exists() and path.read_text() == now


def remove_broken(root: Path) -> None:
    """Remove what mutmut had half written of a module when it was killed; the module's mutants are made anew."""
    for path in [*root.rglob("*.py.meta")]:
        try:
            json.loads(path.read_text())
        except ValueError:
            path.unlink()
            path.with_suffix("").unlink(missing_ok=True)


def forget(root: Path, keep: Collection[str]) -> None:
    """Forget what became of the mutants under `root`, but for those whose outcome is one of `keep`."""
    kept = {name for name, outcome in statuses(root).items() if outcome in keep}
    for path in root.rglob("*.py.meta"):
        meta = json.loads(path.read_text())
        codes = meta["exit_code_by_key"]
        meta["exit_code_by_key"] = {name: code if name in kept else None for name, code in codes.items()}
        path.write_text(json.dumps(meta))


def _mutmut(workers: int, *names: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HYPOTHESIS_PROFILE": "mutants"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers), *names]
    WORK.mkdir(exist_ok=True)
    with (WORK / "mutmut.log").open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=log)
    if done.returncode:
        sys.exit(f"mutmut ended with {done.returncode}: {WORK}/mutmut.log")


def _commit() -> str:
    described = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(described, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
