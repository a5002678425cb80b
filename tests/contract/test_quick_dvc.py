"""The lock that libyaml writes is, byte for byte, the one that DVC would write."""

import io
from collections import OrderedDict
from pathlib import Path

import pytest
from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml_for_update
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
