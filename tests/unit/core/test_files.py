"""Files: written whole or not at all, and paths against the project's root."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sidflow.artifacts.catalog import ITEMS
from sidflow.artifacts.evaluation import LEADERBOARD
from sidflow.artifacts.features import MODALITY
from sidflow.core import files
from sidflow.core.disk import disk_errors
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_folder, atomic_path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_torn_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "deep" / "file"
    with atomic_path(target) as temporary:
        temporary.write_text("old")

    def torn():
        with atomic_path(target) as temporary:
            temporary.write_text("ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        torn()
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


KILLED = """
import os, signal, sys
from pathlib import Path
from sidflow.core.files import atomic_folder, atomic_path
with (atomic_path if sys.argv[1] == "file" else atomic_folder)(Path("folder/target")) as temporary:
    if sys.argv[1] == "file":
        temporary.write_text("half")
        (temporary.parent / ".tmpXyz").write_text("of a library's own")
    else:
        temporary.mkdir()
        (temporary / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_write_leaves_is_one_ignored_name_and_goes_with_the_next(tmp_path, kind):
    source = Path(__file__).parents[3] / "src"
    subprocess.run([sys.executable, "-c", KILLED, kind], env=os.environ | {"PYTHONPATH": str(source)}, check=False)
    (left,) = (tmp_path / "folder").iterdir()
    assert left.name.startswith(".target.")
    assert left.name.endswith(".tmp")
    with atomic_path(tmp_path / "folder/another") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["another"]


def test_only_what_dead_processes_left_is_removed(tmp_path):
    """A process that has ended and that nobody has waited for is dead, though its number is taken."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    left = [
        tmp_path / f".target.{files._MACHINE}-{process}-abc.tmp" for process in (os.getpid(), os.getppid(), dead.pid)
    ]
    for folder in left:
        folder.mkdir()
    files.remove_leftovers(tmp_path)
    dead.wait()
    assert sorted(tmp_path.iterdir()) == sorted(left[:2])


def test_two_writers_at_once_do_not_disturb_each_other(tmp_path):
    with atomic_path(tmp_path / "file") as first, atomic_path(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_that_a_library_makes_on_the_way_stay_out_of_sight(tmp_path):
    with atomic_path(tmp_path / "a.safetensors") as temporary:
        save_file({"a": np.zeros(3)}, temporary)
        assert [path.suffix for path in tmp_path.iterdir()] == [".tmp"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder"

    def write(name, fails):
        with atomic_folder(target) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
            if fails:
                raise RuntimeError

    write("old", fails=False)
    with pytest.raises(RuntimeError):
        write("new", fails=True)
    assert [path.name for path in target.iterdir()] == ["old"]
    write("new", fails=False)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_in_the_place_of_the_artifacts_is_named(tmp_path, monkeypatch):
    """Not `no such file`: its remedy, `dvc repro`, would not help."""
    monkeypatch.chdir(tmp_path)
    Path("artifacts").write_text("")
    for read in (ITEMS.read, LEADERBOARD.read, lambda: MODALITY.read(name="text")):
        with (
            pytest.raises(InputError, match="artifacts: expected folders on the way to it; found a file"),
            disk_errors(),
        ):
            read()
