"""A disk that is full, read-only or otherwise in the way ends in one line that names the path."""

import errno
import resource
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from sidflow.cli.app import app
from sidflow.core.disk import check_file_target, check_folder_target, disk_error, disk_errors
from sidflow.core.documents import Document
from sidflow.core.errors import InputError
from sidflow.core.files import atomic_folder
from sidflow.core.stage import stage
from sidflow.core.tables import Table
from sidflow.core.tensors import TensorFile

NUMBERS = np.random.default_rng(0).random(100_000).astype(np.float32)
DOCUMENT = Document("artifacts/a.json")
TABLE = Table(name="t", version=1, path="artifacts/a.parquet", columns={"x": pa.float32()}, key=())
TENSORS = TensorFile(name="t", version=1, path="artifacts/a.safetensors", arrays={"x": "float32 n"})
WRITES = {
    "document": (DOCUMENT.path, lambda: DOCUMENT.write({"x": "x" * 400_000})),
    "table": (TABLE.path, lambda: TABLE.write(pl.DataFrame({"x": NUMBERS}))),
    "tensors": (TENSORS.path, lambda: TENSORS.write({"x": NUMBERS}, {})),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "x"), "room on the disk; found no space left on the device. Remedy: free disk space"),
        (ValueError("I/O error: No space left (os error 28)"), "no space left on the device"),
        (OSError(errno.EROFS, "x"), "a read-only file system"),
        (PermissionError(errno.EACCES, "x"), "permission denied"),
        (IsADirectoryError(errno.EISDIR, "x"), "a folder of that name"),
    ],
)
def test_each_failure_has_its_remedy(error, says):
    failure = disk_error(error, "some/file")
    assert failure is not None
    assert failure.line().startswith("some/file: ")
    assert says in failure.line()


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyError("x"), FileNotFoundError(errno.ENOENT, "x")])
def test_other_errors_stay_what_they_are(error):
    assert disk_error(error) is None
    with pytest.raises(type(error)), disk_errors("some/file"):
        raise error


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_that_finds_no_room_leaves_the_old_file_and_nothing_else(kind):
    """The limit of a file's size stands for the full disk: it fails in the same system call."""
    path, write = WRITES[kind]
    Path("artifacts").mkdir()
    Path(path).write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(InputError) as raised:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.artifact == path
    assert "the limit of a file's size" in raised.value.line()
    assert Path(path).read_text() == "old"
    assert list(Path("artifacts").iterdir()) == [Path(path)]


def test_a_folder_is_replaced_whole_or_not_at_all():
    target = Path("artifacts/adapter")
    for text in ("old", "new"):
        with atomic_folder(target) as folder:
            folder.mkdir()
            (folder / "file").write_text(text)
    with pytest.raises(InputError, match="artifacts/adapter: expected room"), atomic_folder(target) as folder:
        folder.mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (target / "file").read_text() == "new"
    assert list(Path("artifacts").iterdir()) == [target]


@pytest.mark.parametrize("kind", WRITES)
def test_artifacts_that_is_a_file_is_named(kind):
    Path("artifacts").write_text("notes")
    with pytest.raises(InputError, match="artifacts: expected folders on the way to it; found a file"):
        WRITES[kind][1]()
    assert Path("artifacts").read_text() == "notes"


def test_a_folder_in_the_place_of_a_file_is_named():
    Path("artifacts/a.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"artifacts/a\.json: expected a file; found a folder"):
        DOCUMENT.write({"x": 1})
    with pytest.raises(InputError, match=r"a\.json: expected a file; found a folder"):
        check_file_target(Path("artifacts/a.json"))
    check_file_target(Path("artifacts/new/b.json"))
    Path("notes").touch()
    with pytest.raises(InputError, match="notes: expected folders on the way"):
        check_folder_target(Path("notes/below/it"))


def test_a_stage_and_a_command_end_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended, stage("train@x"):
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/file")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("train@x: /cache/file: expected room on the disk")
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", [["assign-new", "EARLIER", "--out", "."], ["merge", "--out", "notes"]])
def test_out_of_the_wrong_kind_is_told_before_anything_is_read(command):
    for name in ("notes", "params.yaml", "dvc.yaml"):
        Path(name).write_text("finetune: {mme_sid: {}}\n")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert done.stderr.startswith(("notes: ", ".: "))
    assert "Remedy: " in done.stderr
