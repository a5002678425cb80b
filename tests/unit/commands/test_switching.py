"""Another preset and back, with real DVC: nothing reruns, nothing is left over, nothing is lost."""

from pathlib import Path

import pytest

from sidflow.commands import dvc, switching
from sidflow.contracts.errors import InputError


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _repro() -> str:
    ran = dvc.run("repro")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.pipeline
def test_another_preset_and_back_runs_no_stage(dvc_project: Path) -> None:
    data = dvc_project.parent / "data/other"
    files, locked = _files(Path("artifacts")), Path("dvc.lock").read_bytes()
    first = switching.apply("other", data)
    assert (first.left, first.aside, first.restored) == ("embedded", (), False)
    assert not _files(Path("artifacts"))
    assert "Running stage 'train@third'" in _repro()
    assert sorted(path.name for path in Path("artifacts/rankings").iterdir()) == ["quick", "third"]
    other_files = _files(Path("artifacts"))

    back = switching.apply("embedded")
    assert (back.left, back.aside, back.restored) == ("other", (), True)
    assert _files(Path("artifacts")) == files
    assert Path("dvc.lock").read_bytes() == locked
    assert "Running stage" not in _repro()
    assert _files(Path("artifacts")) == files
    assert Path("dvc.lock").read_bytes() == locked

    assert switching.apply("other", data).restored
    assert "Running stage" not in _repro()
    assert _files(Path("artifacts")) == other_files


def test_what_dvc_does_not_hold_is_moved_not_deleted(dvc_project: Path) -> None:
    Path("artifacts/recommenders/slow/model.txt").write_text("by hand")
    held = Path("artifacts/rankings/slow")
    for cached in Path(".dvc/cache/files/md5").rglob("*"):
        if cached.is_file() and cached.read_bytes() == (held / "top.txt").read_bytes():
            cached.unlink()
    applied = switching.apply("other", dvc_project.parent / "data/other")
    assert set(applied.aside) == {"artifacts/recommenders/slow", "artifacts/rankings/slow"}
    kept = Path(".sidflow/presets/embedded/aside/artifacts")
    assert (kept / "recommenders/slow/model.txt").read_text() == "by hand"
    assert (kept / "rankings/slow/top.txt").is_file()
    assert not _files(Path("artifacts"))


def test_a_refused_preset_changes_nothing(dvc_project: Path) -> None:
    files, text = _files(Path("artifacts")), Path("params.yaml").read_text()
    Path("presets/other.yaml").write_text("recommenders: [quick, unknown]\n")
    with pytest.raises(InputError, match="artifacts/recommenders/unknown"):
        switching.apply("other")
    assert (_files(Path("artifacts")), Path("params.yaml").read_text()) == (files, text)


@pytest.mark.pipeline
def test_edits_by_hand_are_kept_and_leftovers_of_them_go(dvc_project: Path) -> None:
    edited = Path("params.yaml").read_text().replace("0.1", "0.2").replace("slow]", "slow, extra]")
    edited = edited.replace("  slow:", "  extra: {rate: 1}\n  slow:")
    Path("params.yaml").write_text(edited)
    _repro()
    assert Path("artifacts/rankings/extra").is_dir()
    applied = switching.apply("embedded")
    assert applied.edits_kept is not None
    assert applied.edits_kept.read_text() == edited
    assert not Path("artifacts/rankings/extra").exists()
    assert not Path("artifacts/reports/extra.json").exists()
    assert Path("artifacts/rankings/slow").is_dir()
    assert "Running stage" not in _repro()


def test_without_dvc_only_params_change(small_project: Path) -> None:
    switching.apply("other", small_project.parent / "data/other")
    assert "preset: other" in Path("params.yaml").read_text()
    again = switching.apply("other", small_project.parent / "data/other")
    assert again.edits_kept is None


def test_params_that_cannot_be_read_are_kept_not_lost(small_project):
    Path("params.yaml").write_text("preset: embedded\nseed: 7\nseed: 8\n")
    applied = switching.apply("embedded")
    assert applied.edits_kept is not None
    assert applied.edits_kept.read_text() == "preset: embedded\nseed: 7\nseed: 8\n"
