"""Stages as forks of a process that has the libraries loaded: a run of a tiny catalogue spends its time on imports.

A folder at the front of PATH has a `python` that hands `python stages/X.py` to the loaded process; every other command
goes to the real Python. Nothing of sidflow is loaded before the fork, so that a stage runs the code of its own project.
Whoever kills the `python` of a stage kills its fork.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    "numpy", "polars", "pyarrow.parquet", "pydantic", "ruamel.yaml", "typer", "psutil", "PIL.Image", "scipy.stats",
    "sklearn.feature_extraction.text", "faiss", "torch", "torch.nn.functional", "safetensors.torch", "tokenizers",
    "transformers", "transformers.models.qwen2.modeling_qwen2", "peft", "accelerate",
)  # fmt: skip
CLIENT = """#!{python} -IS
import array, json, os, resource, signal, socket, sys
script = sys.argv[1] if len(sys.argv) > 1 else ""
if not (script.startswith("stages/") and script.endswith(".py")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), limit]).encode()
link.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
link.sendall(request)
answer = link.recv(4)
code = int.from_bytes(answer, "big", signed=True) if len(answer) == 4 else -signal.SIGKILL
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
SIDFLOW = """#!{python}
import sys
sys.executable = {shim!r}  # DVC's `python`, too, is the one beside this file
from sidflow.cli.app import app
sys.exit(app())
"""


class Warm:
    """The loaded process and the folder for PATH; `close` ends it."""

    def __init__(self, folder: Path, hash_seed: int = 0) -> None:
        """Write the commands into `folder` and start the process.

        Args:
            folder: a new one, with a short path (that of a socket has at most 100 bytes).
            hash_seed: of Python's hashes, which its forks share: two processes of two seeds show whether the order
                of a set gets into a result.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        address, shim = str(folder / "socket"), folder / "python"
        for path, text in (
            (shim, CLIENT.format(python=sys.executable, address=address)),
            (folder / "sidflow", SIDFLOW.format(python=sys.executable, shim=str(shim))),
        ):
            path.write_text(text)
            path.chmod(0o755)
        (folder / "dvc").symlink_to(Path(sys.executable).with_name("dvc"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIDFLOW_", "PYTHON"))}
        self.process = subprocess.Popen(
            [sys.executable, __file__, address], cwd=folder, stdin=subprocess.PIPE,
            env=kept | {"PYTHONHASHSEED": str(hash_seed), "GOMP_SPINCOUNT": "1000"},
        )  # fmt: skip
        while not Path(address).exists():
            assert self.process.poll() is None, "the process with the libraries has ended"
            time.sleep(0.01)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


def serve(address: str) -> None:
    """Load the libraries, then fork for every request, until the process that started this one is gone."""
    for name in LIBRARIES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork is waited for
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address + ".new")
    listener.listen(64)
    Path(address + ".new").rename(address)
    parent = os.getppid()
    listener.settimeout(5.0)
    while os.getppid() == parent:
        try:
            link, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            link.settimeout(None)
            _supervise(link)
            os._exit(0)
        link.close()


def _supervise(link: socket.socket) -> None:
    """Run the requested stage in a fork, and kill it once the other side has gone."""
    head, ancillary, _, _ = link.recvmsg(4, socket.CMSG_SPACE(12))
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2][:12])
    length, body = int.from_bytes(head, "big"), b""
    while len(body) < length:
        body += link.recv(length - len(body))
    arguments, folder, environment, limit = json.loads(body)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stage = os.fork()
    if stage == 0:
        link.close()
        os.setsid()
        for source, target in zip(descriptors, (0, 1, 2), strict=True):
            os.dup2(source, target)
            os.close(source)
        resource.setrlimit(resource.RLIMIT_FSIZE, tuple(limit))
        _run(arguments, folder, environment)
    for descriptor in descriptors:
        os.close(descriptor)
    handle = os.pidfd_open(stage)
    ready, _, _ = select.select([link, handle], [], [])
    if handle not in ready:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(stage, signal.SIGKILL)
    _, status = os.waitpid(stage, 0)
    with contextlib.suppress(OSError):
        link.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run a script as `python` runs it, and end."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    added = [str(Path(part).resolve()) for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [str(Path(arguments[0]).resolve().parent), *added, *sys.path[1:]]
    code = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
