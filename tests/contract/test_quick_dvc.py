"""The lock that libyaml writes is, byte for byte, the one that DVC would write."""

import io
from collections import OrderedDict
from pathlib import Path

import pytest
from dvc.utils.serialize._yaml import dumps_yaml, modify_yaml, parse_yaml_for_update
from dvc_objects.fs.local import LocalFileSystem
from tools import quick_dvc

LOCK = Path(__file__).resolve().parents[2] / "dvc.lock"
TRICKY = {
    "numbers": [3e-05, 1e17, 0.1, -2.0, 5, float("inf")],
    "numbers in words": ["3e-05", "1e5", "5", "012", "0x1f", "1_000", "1:30", ".5"],
    "words that YAML 1.1 takes for others": ["on", "off", "yes", "no", "y", "=", "2026-01-01"],
    "words of YAML 1.2": ["true", "null", "~", ""],
    "md5": ["01234567890123456789012345678901", "12345e67890123456789012345678901"],
    "marks": [
        "a: b",
        "# c",
        "- d",
        "'e'",
        '"f"',
        "{g}",
        "[h]",
        "*i",
        "&j",
        "!k",
        "%l",
        "@m",
        "`n`",
        " o ",
        "p\nq",
        "é",
        "it's",
    ],
    "long": ["word " * 40, "x" * 200],
    "empty": {"list": [], "mapping": {}, "nothing": None},
    "order": OrderedDict([("b", 1), ("a", {"z": None, "y": True})]),
}


def quickly(data) -> str:
    stream = io.StringIO()
    quick_dvc.write(data, stream)
    return stream.getvalue()


def test_the_committed_lock_comes_back_as_it_is():
    text = LOCK.read_text()
    assert quickly(quick_dvc.read(text, LOCK)) == text


@pytest.mark.parametrize("key", TRICKY)
def test_what_yaml_may_mistake_is_written_as_dvc_writes_it(key):
    assert quickly({key: TRICKY[key]}) == dumps_yaml({key: TRICKY[key]})


@pytest.mark.parametrize("key", TRICKY)
def test_what_is_read_is_what_dvc_reads(key):
    text = dumps_yaml({key: TRICKY[key]})
    assert quick_dvc.read(text, "") == parse_yaml_for_update(text, "")


def test_only_the_lock_is_read_quickly(tmp_path):
    definition = tmp_path / "dvc.yaml"
    definition.write_text("stages: {}  # kept\n")
    with quick_dvc.modify(definition) as data:
        data["vars"] = [1]
    assert "# kept" in definition.read_text()


def test_the_lock_after_several_stages_is_the_one_that_dvc_writes(tmp_path):
    ours, theirs = tmp_path / "ours" / "dvc.lock", tmp_path / "theirs" / "dvc.lock"
    for path, modify in ((ours, quick_dvc.modify), (theirs, modify_yaml)):
        path.parent.mkdir()
        for stage, figure in (("b", 3e-05), ("a", 2.0), ("b", "1e5")):
            with modify(path) as data:
                data.setdefault("stages", {})[stage] = OrderedDict(params={"figure": figure}, deps=[{"path": stage}])
    assert ours.read_text() == theirs.read_text()


def test_what_another_wrote_into_the_lock_meanwhile_counts(tmp_path):
    lock = tmp_path / "dvc.lock"
    with quick_dvc.modify(lock) as data:
        data["stages"] = {"a": 1}
    lock.write_text("stages: {c: 3}\n")
    with quick_dvc.modify(lock) as data:
        assert data == {"stages": {"c": 3}}


def test_params_are_parsed_anew_once_they_change_and_belong_to_who_asked(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\nloop: {rate: 3e-05}\n")
    first = quick_dvc.load_path(str(path), LocalFileSystem())
    first["loop"]["rate"] = 7
    assert quick_dvc.load_path(str(path), LocalFileSystem()) == {"seed": 1, "loop": {"rate": 3e-05}}
    path.write_text("seed: 22\n")
    assert quick_dvc.load_path(str(path), LocalFileSystem()) == {"seed": 22}
