"""What docs/faults.md says of the places and the clock that a run meets: each with its documented result."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.faults.kills import Moment, kill_stage
from tests.faults.limits import NAMESPACE, has_namespaces
from tests.faults.runs import TARGET, remove_outs

pytestmark = pytest.mark.pipeline
FAR = 2_208_988_800  # 2040-01-01: the time of files that were written before the clock was set back


def forget_what_ran(project):
    """Remove the lock and DVC's own memory of runs, so that every stage runs again."""
    (project.folder / "dvc.lock").unlink()
    shutil.rmtree(project.folder / ".dvc/cache/runs")


def test_of_two_repros_at_once_neither_does_harm(project):
    expected = project.hashes()
    forget_what_ran(project)
    both = [
        subprocess.Popen(
            ("dvc", "repro", TARGET), cwd=project.folder, env=project.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]  # fmt: skip
    printed = [one.communicate()[0] for one in both]
    assert any(one.returncode == 0 for one in both), printed
    for one, text in zip(both, printed, strict=True):
        assert one.returncode == 0 or "Unable to acquire lock" in text or "is busy" in text, text[-2000:]
    project.run("dvc", "repro", TARGET)
    assert project.hashes() == expected


@pytest.mark.skipif(not has_namespaces(), reason="no mount without root here")
def test_a_read_only_cache_is_one_line_before_the_training(project, references):
    stage = references[TARGET].stage
    place = Path(project.environment["SIDFLOW_CACHE"]) / "read-only"
    place.mkdir(parents=True, exist_ok=True)
    script = 'mount -t tmpfs -o ro none "$SIDFLOW_CACHE" && exec "$@"'
    done = subprocess.run(
        (*NAMESPACE, "sh", "-c", script, "sh", sys.executable, *stage.command[1:]),
        cwd=project.folder, capture_output=True, text=True, check=False,
        env=project.environment | {"PYTHONPATH": "src", "SIDFLOW_CACHE": str(place)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"{place}/checkpoints: expected a cache folder that checkpoints can be written to; found" in line
    assert "Remedy: set SIDFLOW_CACHE" in line
    assert "epoch" not in done.stdout


@pytest.fixture
def other_file_system(tmp_path):
    """A folder on another file system than the workspace's."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_both_caches_may_lie_on_another_file_system(project, references, other_file_system, monkeypatch):
    monkeypatch.setitem(project.environment, "SIDFLOW_CACHE", str(other_file_system / "sidflow"))
    assert kill_stage(project, references[TARGET], Moment(None, 2)) == []
    expected = project.hashes()
    project.run("dvc", "config", "--local", "cache.dir", str(other_file_system / "dvc"))
    try:
        project.run("dvc", "commit", "-f", "-q", "-d", TARGET)
        remove_outs(project.folder, references[TARGET].stage.outs)
        project.run("dvc", "checkout", "-q", TARGET)
        assert not project.repro(TARGET)
    finally:
        (project.folder / ".dvc/config.local").unlink()
    assert project.hashes() == expected


def test_files_from_the_future_are_not_taken_for_changed_or_unchanged(project):
    """DVC looks at a file's time only together with its size and inode; the stages look at none."""
    expected = project.hashes()
    for path in project.folder.rglob("*"):
        if path.is_file() and ".git" not in path.parts and ".dvc" not in path.parts:
            os.utime(path, (FAR, FAR))
    assert not project.repro(TARGET)
    project.set_params({"split": {"min_history": 2}})
    os.utime(project.folder / "params.yaml", (FAR, FAR))
    assert "split" in project.repro(TARGET)
    project.run("git", "checkout", "-q", "params.yaml")
    os.utime(project.folder / "params.yaml", (FAR - 86_400, FAR - 86_400))
    project.run("dvc", "repro", TARGET)
    assert project.hashes() == expected
