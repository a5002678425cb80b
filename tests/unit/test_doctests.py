"""The examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"


def modules_with_examples():
    """The modules whose docstrings have examples that run, such as `sidflow.semantics.audit`.

    Pytest's own `--doctest-modules` would import every module of src, and every helper of tests, to find them.
    """
    for path in sorted(SOURCE.rglob("*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        if any(line.lstrip().startswith(">>> ") and "doctest: +SKIP" not in line for line in lines):
            yield ".".join(path.relative_to(SOURCE).with_suffix("").parts)


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_are_right(name, capsys):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted and not failed, capsys.readouterr().out


def test_examples_are_collected():
    assert "sidflow.semantics.audit" in set(modules_with_examples())
