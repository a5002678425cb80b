"""What stages cost on this machine, kept in the cache folder beside the hashes of what they wrote.

Times differ from run to run, so that no artifact holds them. A cost belongs to the run whose files have those hashes:
of files that another machine made, or that nobody measured, there is none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sidflow.core.documents import Document
from sidflow.core.files import atomic_path, file_md5, paths_written, project_path
from sidflow.core.memory import peak_memory_mb
from sidflow.core.runtime import load_runtime, process_count

Cost = dict[str, Any]  # as `write_cost` says

_answered: dict[str, list[float]] = {}  # by part: histories answered, and seconds


@contextmanager
def timed_answers(part: str, histories: int) -> Iterator[None]:
    """Time the block as `part` of serving, in which so many histories are answered; several blocks add up."""
    start = time.monotonic()
    yield
    total = _answered.setdefault(part, [0.0, 0.0])
    total[0] += histories
    total[1] += time.monotonic() - start


def costs_folder(stage: str) -> Path:
    """Return the folder of a stage's costs in the cache, one file for each content of its outputs."""
    return load_runtime().cache_folder / "costs" / stage


def write_cost(stage: str, seconds: float) -> Path:
    """Write what this process cost, as the cost of the files that it wrote as artifacts.

    Keys: stage, wall_seconds, peak_memory_mb (resident, of this process), cpus (of the machine), threads, processes,
    device, with CUDA peak_gpu_memory_mb, serving (by part, see `timed_answers`), outputs (md5 by path).

    Args:
        stage: DVC's name, for example `train_sequential@sasrec`.
        seconds: wall time, of the killed runs too that this one resumed.
    """
    outputs = {
        path.as_posix(): file_md5(project_path(path)) for path in paths_written() if project_path(path).is_file()
    }
    serving = {part: {"histories": int(count), "seconds": spent} for part, (count, spent) in _answered.items()}
    cost: Cost = {
        "stage": stage,
        "wall_seconds": round(seconds, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "cpus": os.cpu_count(),
        "processes": process_count(),
        **_torch_facts(),
        **({"serving": serving} if serving else {}),
        "outputs": outputs,
    }
    key = hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()[:16]
    path = costs_folder(stage) / f"{key}.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(cost) + "\n")
    return path


def _torch_facts() -> Cost:
    """Return threads and device, of torch where it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1), "device": "cpu"}
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() and torch.cuda.is_initialized() else 0
    device = {"device": "cuda", "peak_gpu_memory_mb": round(gpu / 1e6, 1)} if gpu else {"device": "cpu"}
    return {"threads": torch.get_num_threads(), **device}


def measured_cost(stage: str) -> Cost | None:
    """Return what the run cost here that wrote the present outputs of `stage`; None where that was not measured.

    Raises:
        InputError: a file in the cache is not JSON.
    """
    present: dict[str, str] = {}
    files = sorted(costs_folder(stage).glob("*.json"), key=lambda path: -path.stat().st_mtime)
    for cost in (Document(str(path)).read() for path in files):
        if cost["outputs"] and _are_present(cost["outputs"], present):
            return cost
    return None


def _are_present(outputs: Mapping[str, str], present: dict[str, str]) -> bool:
    """Return whether all files have these hashes; `present` keeps those that were computed."""
    for name, md5 in outputs.items():
        if name not in present:
            path = project_path(name)
            present[name] = file_md5(path) if path.is_file() else ""
        if present[name] != md5:
            return False
    return True
