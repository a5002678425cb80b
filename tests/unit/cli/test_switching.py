"""Another preset and back, with real DVC: nothing reruns, nothing is left over, nothing is lost."""

from pathlib import Path

import pytest

from sidflow.cli import presets, switching
from sidflow.cli.dvc import run_dvc
from sidflow.core.errors import InputError


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _repro() -> str:
    ran = run_dvc("repro")
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


@pytest.mark.pipeline
def test_three_seeds_share_what_does_not_depend_on_them_and_none_is_lost(dvc_project: Path) -> None:
    data, text, first = dvc_project.parent / "data/other", Path("params.yaml").read_text(), _files(Path("artifacts"))
    train = Path("train.py").read_text()
    seeded = "open('params.yaml').read().split('seed: ')[1][:2] + sys.argv[1] + pathlib.Path"
    Path("train.py").write_text(train.replace("sys.argv[1] + pathlib.Path", seeded))
    assert run_dvc("repro", "-f", "train@quick", "train@slow").returncode == 0  # their script is no dep of theirs
    made = {}
    for seed in (42, 43, 44):
        applied = switching.apply("embedded", seed=seed)
        assert (applied.left, applied.removed, applied.aside, applied.edits_kept) == ("embedded", 0, (), None)
        assert Path("params.yaml").read_text() == text.replace("seed: 42", f"seed: {seed}")
        told = _repro()
        assert "Running stage 'ingest'" not in told
        assert seed == 42 or "Running stage 'train@quick'" in told
        made[seed] = _files(Path("artifacts"))
        Path("docs").mkdir(exist_ok=True)
        Path(f"docs/seed-{seed}.json").write_text("added")
    model = "artifacts/recommenders/quick/model.txt"
    assert {seed: files[model][:2] for seed, files in made.items()} == {42: b"42", 43: b"43", 44: b"44"}
    assert made[42].keys() == first.keys()

    switching.apply("other", data, seed=44)
    _repro()
    switching.apply("embedded", seed=43)
    assert "Running stage" not in _repro()
    assert _files(Path("artifacts")) == made[43]
    switching.apply("embedded")
    assert "Running stage" not in _repro()
    assert _files(Path("artifacts")) == made[42]
    assert Path("params.yaml").read_text() == text
    assert len(list(Path("docs").iterdir())) == 3


def test_another_seed_beside_an_edit_by_hand_keeps_the_edit(dvc_project: Path) -> None:
    edited = Path("params.yaml").read_text().replace("size: 8", "size: 9")
    Path("params.yaml").write_text(edited)
    applied = switching.apply("embedded", seed=43)
    assert applied.edits_kept is not None
    assert applied.edits_kept.read_text() == edited


def test_a_seed_of_an_overlay_is_that_line_alone(dvc_project: Path) -> None:
    data = dvc_project.parent / "data/other"
    plain, seeded = presets.preset_text("other", data), presets.preset_text("other", data, seed=17)
    assert seeded == plain.replace("seed: 42", "seed: 17")
    assert seeded != plain


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
    Path("presets/other.yaml").write_text("extends: embedded\ningest: {path: artifacts/unknown}\n")
    with pytest.raises(InputError, match="none that makes artifacts/unknown"):
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


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("semantic_ids: [shared]", "# a version without this knob"),
        lambda text: text.replace("# per step", "# in another version's words"),
        lambda text: text + "\n# a remark\n",
    ],
)
def test_what_no_value_was_edited_in_is_not_called_an_edit(small_project: Path, change) -> None:
    before = Path("params.yaml").read_text()
    Path("params.yaml").write_text(change(before))
    assert Path("params.yaml").read_text() != before
    assert switching.apply("embedded").edits_kept is None


def test_an_entry_that_was_added_is_an_edit_though_its_data_is_gone(small_project: Path) -> None:
    data = small_project.parent / "data/other"
    switching.apply("other", data)
    data.rename(data.with_name("moved"))
    assert switching.apply("embedded").edits_kept is None
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "  extra: {rate: 1}\n")
    assert switching.apply("embedded").edits_kept is not None


def test_what_was_kept_before_is_not_overwritten(dvc_project: Path) -> None:
    data, model = dvc_project.parent / "data/other", Path("artifacts/recommenders/slow/model.txt")
    plain, said = Path("params.yaml").read_text(), []
    for threads in (3, 5, 5):
        Path("params.yaml").write_text(plain.replace("threads: 2", f"threads: {threads}"))
        model.parent.mkdir(parents=True, exist_ok=True)
        model.write_text(f"by hand, {threads}")
        said.append("\n".join(switching.next_step_lines("other", switching.apply("other", data))))
        switching.apply("embedded")
    kept = Path(".sidflow/presets/embedded")
    assert sorted(path.name for path in kept.glob("params*.yaml")) == ["params-2.yaml", "params.yaml"]
    assert "threads: 3" in (kept / "params.yaml").read_text()
    assert "threads: 5" in (kept / "params-2.yaml").read_text()
    assert (kept / "aside" / model).read_text() == "by hand, 3"
    assert (kept / "aside-2" / model).read_text() == "by hand, 5"
    assert not (kept / "aside-3").exists()
    assert f"kept in {kept}/params.yaml." in said[0] and f"are in {kept}/aside, " in said[0]
    assert f"kept in {kept}/params-2.yaml." in said[1] and f"are in {kept}/aside-2, " in said[1]


def test_lock_and_metrics_of_an_earlier_run_stay_beside_those_of_a_later_one(dvc_project: Path) -> None:
    data, report = dvc_project.parent / "data/other", Path("artifacts/reports/slow.json")
    locked, first = Path("dvc.lock").read_text(), report.read_text()
    switching.apply("other", data)
    switching.apply("embedded")
    assert report.read_text() == first
    report.write_text("later")
    Path("dvc.lock").write_text(f"{locked}# later\n")
    applied = switching.apply("other", data)
    earlier = Path(".sidflow/presets/embedded/earlier")
    assert applied.replaced_in == earlier
    assert ((earlier / "dvc.lock").read_text(), (earlier / report).read_text()) == (locked, first)
    assert f"are in {earlier}." in "\n".join(switching.next_step_lines("other", applied))
    switching.apply("embedded")
    assert report.read_text() == "later"


def test_lock_and_metrics_beside_unreadable_params_are_kept(dvc_project: Path) -> None:
    data, report = dvc_project.parent / "data/other", Path("artifacts/reports/slow.json")
    switching.apply("other", data)
    switching.apply("embedded")
    kept = Path(".sidflow/presets/unreadable")
    for folder, text in ((kept, "first"), (kept.with_name("unreadable-2"), "second")):
        locked, conflict = f"{Path('dvc.lock').read_text()}# {text}\n", f"<<<<<<< {text}\npreset: embedded\n"
        Path("dvc.lock").write_text(locked)
        report.write_text(text)
        Path("params.yaml").write_text(conflict)
        applied = switching.apply("embedded")
        assert (applied.edits_kept, applied.replaced_in, applied.restored) == (folder / "params.yaml", folder, True)
        assert (folder / "params.yaml").read_text() == conflict
        assert ((folder / "dvc.lock").read_text(), (folder / report).read_text()) == (locked, text)
        assert f"are in {folder}." in "\n".join(switching.next_step_lines("embedded", applied))
    assert report.read_text() == Path(".sidflow/presets/embedded", report).read_text()


def test_a_run_that_nothing_replaces_stays_beside_unreadable_params(dvc_project: Path) -> None:
    locked, files = Path("dvc.lock").read_bytes(), _files(Path("artifacts"))
    Path("params.yaml").write_bytes(b"\xff")
    applied = switching.apply("embedded")
    assert applied.edits_kept is not None and applied.edits_kept.read_bytes() == b"\xff"
    assert applied.replaced_in is None
    assert (Path("dvc.lock").read_bytes(), _files(Path("artifacts"))) == (locked, files)


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("rate: 0.1,", "rate: 0.2,", True),  # of the entry that is left out
        ("  slow:", "  extra: {rate: 1}\n  slow:", True),  # no entry of the preset
        ("rate: 0.0003 ", "rate: 0.0004 ", False),  # of the entry that stays
        ("# per step", "# a remark", False),
    ],
)
def test_edits_of_what_a_choice_of_recommenders_leaves_out_are_kept(small_project: Path, old, new, kept) -> None:
    before = Path("params.yaml").read_text()
    assert old in before
    Path("params.yaml").write_text(before.replace(old, new))
    edited, backup = Path("params.yaml").read_text(), Path(".sidflow/presets/embedded/params.yaml")
    said = "\n".join(switching.choose_recommenders(["quick"]))
    assert (str(backup) in said, backup.is_file()) == (kept, kept)
    if kept:
        assert backup.read_text() == edited
    assert "slow" not in Path("params.yaml").read_text()
    assert ("rate: 0.0004 " in Path("params.yaml").read_text()) == ("0.0004" in new)
    again = switching.choose_recommenders(["quick", "slow"])
    assert "rate: 0.1," in Path("params.yaml").read_text()
    assert str(backup) not in "\n".join(again)
