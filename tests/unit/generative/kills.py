"""`kill -9` of the stage at chosen moments. Run in the folder of a shop: python -m tests.unit.generative.kills NAME.

Nothing is computed before a fork, so that each run starts as a process of its own does.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tests.unit.generative.shop import stage_main

from sidflow.generative import fit
from sidflow.training import checkpoint

EPOCHS = 3


def _die(*_args: object, **_more: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at_call(number: int, whole: Callable, instead: Callable) -> Callable:
    """Return `whole`, whose call of that number is one of `instead`."""
    calls = []

    def one(*args, **more):
        calls.append(args)
        return (instead if len(calls) == number else whole)(*args, **more)

    return one


def in_a_checkpoint() -> None:
    """Die when half of the fourth checkpoint is written, in an epoch."""
    save = checkpoint.save_file

    def half(tensors, path, metadata):
        save(tensors, path, metadata=metadata)
        os.truncate(path, Path(path).stat().st_size // 2)
        _die()

    checkpoint.save_file = _at_call(4, save, half)


def in_a_validation() -> None:
    """Die at the end of the second epoch: some queries have been answered, and nothing is kept of it."""
    validate = fit.GenerativeTask.validate

    def some(task):
        task.queries = task.queries[:2]
        validate(task)
        _die()

    fit.GenerativeTask.validate = _at_call(2, validate, some)


def behind_the_last_epoch() -> None:
    """Die when the last epoch is in the checkpoint, before the queries are answered."""
    fit.answer_all = _die


def in_the_adapter() -> None:
    """Die while the artifacts are written: the adapter is there, with rows of IDs, and weights are not."""
    save = fit.save_adapter

    def then_die(*args):
        save(*args)
        _die()

    fit.save_adapter = then_die


MOMENTS: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (in_a_checkpoint, in_a_validation, behind_the_last_epoch, in_the_adapter)
}


def forked(run: Callable[[], None], said: Path) -> int:
    """Call `run` in a fork whose output goes to a file, and return how it ended, minus the signal if by one."""
    child = os.fork()
    if not child:
        code = 1
        try:
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            run()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def main(name: str) -> None:
    """Run the stage, then kill it at every moment and run it again; print what each left."""
    folder, said, run_stage = Path("artifacts/recommenders", name), Path("said"), stage_main()

    def run(before: Callable[[], object] = lambda: None, seed: int = 0) -> int:
        shutil.rmtree(folder, ignore_errors=True)  # as DVC does

        def stage() -> None:
            torch.manual_seed(seed)  # what the process drew before is of no effect
            before()
            run_stage(name)

        return forked(stage, said)

    code, killed = run(), {}
    found = {"code": code, "hashes": hashes(folder), "killed": killed}
    for moment, prepare in MOMENTS.items():
        code = run(prepare)
        kept = sorted(path.name for path in Path("cache/checkpoints").iterdir())
        again = run(seed=1)
        left = [path.name for path in Path("cache/checkpoints").iterdir()]
        after = {"code": code, "kept": kept, "again": again, "said": said.read_text(), "left": left}
        killed[moment] = after | {"hashes": hashes(folder)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
