"""What is installed and usable here, a line each: for a bug report, and before a long run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from sidflow.cli.dvc import LOCK_PATH, dag_stages, dvc_cache_folder, dvc_executable, read_lock, run_dvc
from sidflow.cli.usage import PROJECT_FILES, is_project, require_project_files
from sidflow.core import params
from sidflow.core.errors import InputError, without_secrets
from sidflow.core.faiss import import_faiss
from sidflow.core.runtime import RUNTIME_PATH, Runtime, environment_variable, load_runtime, runtime_source

Mark = Literal["ok", "info", "optional", "warning", "BROKEN"]  # optional: not here, and not needed
OLDEST_PYTHON = (3, 11)
NEEDED_GB = 2.0
ARTIFACTS = Path("artifacts")
RWLOCK_PATH = Path(".dvc/tmp/rwlock")  # who reads and writes what at the moment


class Finding(NamedTuple):
    """The result of one check."""

    mark: Mark
    name: str
    text: str

    @property
    def broken(self) -> bool:
        """Whether it stops the pipeline from running."""
        return self.mark == "BROKEN"


def examine() -> list[Finding]:
    """Run every check. One that fails becomes a finding, and the others still run."""
    findings: list[Finding] = []
    for check in (*CHECKS, *(PROJECT_CHECKS if is_project() else ())):
        try:
            findings.extend(check())
        except InputError as error:
            findings.append(Finding("BROKEN", check.__name__.strip("_"), error.line()))
    return findings


def finding_lines(findings: list[Finding]) -> list[str]:
    """Return the lines to print, the summary last."""
    width = max(len(finding.name) for finding in findings)
    lines = [
        without_secrets(f"{finding.mark:<8} {finding.name:<{width}}  {finding.text}".rstrip()) for finding in findings
    ]
    broken = sum(finding.broken for finding in findings)
    warnings = sum(finding.mark == "warning" for finding in findings)
    warning_text = f" {warnings} warning{'s' if warnings > 1 else ''}." if warnings else ""
    broken_text = "1 required thing is" if broken == 1 else f"{broken} required things are"
    return [*lines, (f"{broken_text} broken." if broken else "Everything required is in place.") + warning_text]


def _python() -> Iterator[Finding]:
    supported = sys.version_info[:2] >= OLDEST_PYTHON
    oldest = ".".join(map(str, OLDEST_PYTHON))
    yield Finding(
        "ok" if supported else "BROKEN", "python", f"{platform.python_version()} (required: {oldest} or newer)"
    )


def _machine() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("info", "cores", str(cores))
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        yield Finding("info", "memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB")
    free = shutil.disk_usage(".").free / 1e9
    mark: Mark = "ok" if free > NEEDED_GB else "warning"
    yield Finding(mark, "disk", f"{free:.1f} GB free here (a run wants {NEEDED_GB:g} GB)")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("BROKEN", "torch", f"{error}; `make` installs the one that fits this machine")
        return
    yield Finding("ok", "torch", str(torch.__version__))
    if not torch.cuda.is_available():
        yield Finding("optional", "cuda", "no GPU that torch can use: everything runs on the CPU, training slower")
        return
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        yield Finding("ok", f"cuda:{index}", f"{card.name}, {card.total_memory / 1e9:.0f} GB")
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    yield Finding("ok" if bf16 else "optional", "bf16", "native" if bf16 else "not native to this GPU")


def _faiss() -> Iterator[Finding]:
    try:
        faiss = import_faiss()
    except (InputError, ImportError) as error:
        yield Finding("BROKEN", "faiss", str(error))
        return
    cards = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    yield Finding("ok", "faiss", f"{faiss.__version__}, {f'{cards} GPUs' if cards else 'CPU'}")


def _libraries() -> Iterator[Finding]:
    for name, use in {
        "polars": None,
        "pyarrow": None,
        "safetensors": None,
        "scikit-learn": None,
        "transformers": None,
        "peft": None,
        "accelerate": None,
        "bitsandbytes": "not installed; only `weights: nf4` of finetune (a 4-bit language model on a GPU) needs it",
    }.items():
        try:
            yield Finding("ok", name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("optional" if use else "BROKEN", name, use or "not installed; `make` installs it")


def _dvc() -> Iterator[Finding]:
    program = dvc_executable()
    if program is None:
        yield Finding("BROKEN", "dvc", "not installed; `make` installs it")
        return
    try:
        version = f"{importlib.metadata.version('dvc')} at "
    except importlib.metadata.PackageNotFoundError:  # it is of another environment
        version = ""
    yield Finding("ok", "dvc", f"{version}{program}")


def _project() -> Iterator[Finding]:
    if is_project():
        yield Finding("ok", "project", str(Path.cwd()))
    elif not any(Path(file).is_file() for file in PROJECT_FILES):
        yield Finding("info", "project", "none in this folder; `cd` to one to check its params, data and artifacts")
    else:
        require_project_files()


def _code() -> Iterator[Finding]:
    import sidflow

    running = Path(str(sidflow.__file__)).resolve().parents[1]
    own = Path("src").resolve()
    checkout = running.parent if running.name == "src" else running
    if is_project() and (own / "sidflow").is_dir() and own != running:
        text = f"this command runs the code of {checkout}, not that of this folder, which `dvc repro` runs"
        yield Finding("warning", "code", f"{text}; `make setup` here, or PYTHONPATH=src, makes them one")
    else:
        yield Finding("ok", "code", f"of {checkout}")


def _dvc_project() -> Iterator[Finding]:
    if dvc_executable() is None:
        return
    cache = dvc_cache_folder()
    if cache is None:
        yield Finding("BROKEN", "dvc cache", "this is no DVC project yet; `git init` and `dvc init` make it one")
        return
    cache_type = run_dvc("config", "cache.type").stdout.strip() or "reflink,copy (DVC's default)"
    safe = "hardlink" not in cache_type and "symlink" not in cache_type
    warning = "" if safe else "; writing to an artifact would corrupt the cache: `dvc config cache.type reflink,copy`"
    yield Finding("ok" if safe else "warning", "dvc cache", f"{cache}, {cache_type}{warning}")
    remotes = [line.split()[0] for line in run_dvc("remote", "list").stdout.splitlines() if line.strip()]
    advice = "none; a team shares artifacts through one, see docs/sharing.md"
    yield Finding("ok" if remotes else "optional", "dvc remote", ", ".join(remotes) or advice)


def _runtime() -> Iterator[Finding]:
    settings = load_runtime()
    for name in Runtime.model_fields:
        source = runtime_source(name)
        origin = (
            f"default; {RUNTIME_PATH} or {environment_variable(name)} sets it"
            if source == "default"
            else f"from {source}"
        )
        value = getattr(settings, name)
        yield Finding("info", f"runtime {name}", f"{'not set' if value in (None, '') else value} ({origin})")
    folder = settings.cache_folder
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    usable = existing.is_dir() and os.access(existing, os.W_OK)
    reason = "is not writable" if existing.is_dir() else f"cannot be made: {existing} is a file"
    yield Finding(
        "ok" if usable else "BROKEN",
        "cache folder",
        f"{folder} is writable" if usable else f"{folder} {reason}; set SIDFLOW_CACHE to a folder that is writable",
    )


def _data() -> Iterator[Finding]:
    folder = os.environ.get("SIDFLOW_DATA")
    if not folder:
        yield Finding("info", "SIDFLOW_DATA", "not set; presets of real data then need `--data` when applied")
        return
    names = sorted(path.name for path in Path(folder).iterdir() if path.is_dir()) if Path(folder).is_dir() else []
    yield Finding("ok" if names else "warning", "SIDFLOW_DATA", f"{folder}: {', '.join(names) or 'no folders there'}")


def _params() -> Iterator[Finding]:
    from sidflow.cli.check import check

    settings = params.load_params()
    check(settings, str(params.PARAMS_PATH))
    yield Finding("ok", "params", f"preset {settings.get('preset')}, {len(dag_stages(settings))} stages, all valid")
    path = (settings.get("ingest") or {}).get("path")
    if path:
        exists = Path(path).exists()
        yield Finding(
            "ok" if exists else "BROKEN",
            "raw data",
            f"{path}{'' if exists else ' is not there; ingest.path in params.yaml names it'}",
        )


def _dvc_locks() -> Iterator[Finding]:
    """Find the files that DVC leaves unreadable where it is killed while it writes them."""
    if RWLOCK_PATH.is_file():
        try:
            json.loads(RWLOCK_PATH.read_text())
        except ValueError:
            text = f"{RWLOCK_PATH} is cut: DVC was killed while it wrote it; remove it, or `make repro`, which does so"
            yield Finding("BROKEN", "dvc lock", text)
    try:
        readable = not LOCK_PATH.is_file() or bool(read_lock())
    except InputError:
        readable = False
    if not readable:
        text = f"{LOCK_PATH} is cut or no YAML; `git checkout {LOCK_PATH}`, then `dvc repro` brings back what ran since"
        yield Finding("BROKEN", "dvc lock", text)


def _artifacts() -> Iterator[Finding]:
    if ARTIFACTS.exists() and not ARTIFACTS.is_dir():
        yield Finding("BROKEN", "artifacts", f"{ARTIFACTS.resolve()} is a file in place of a folder; move it away")
        return
    outs = [out for stage in dag_stages(params.load_params()) for out in stage.outs]
    present = sum(Path(out).exists() for out in outs)
    mark = "ok" if present == len(outs) else "info"
    advice = "" if present == len(outs) else "; `make repro` or `dvc repro` makes the rest"
    yield Finding(mark, "artifacts", f"{present} of {len(outs)} are here{advice}")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _machine,
    _torch,
    _faiss,
    _libraries,
    _dvc,
    _runtime,
    _data,
    _project,
    _code,
)
PROJECT_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_dvc_project, _dvc_locks, _params, _artifacts)
