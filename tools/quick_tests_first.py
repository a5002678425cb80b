"""A plugin of pytest for `make mutants`: of the tests that reach a fault the quick ones come first.

Most faults are found by the first tests that run. Tests of a module stay together, since they share fixtures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

DURATIONS = Path("mutmut-stats.json")  # in mutmut's folder, which is the working directory


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by how long mutmut saw their module take, then by how long it saw themselves take."""
    if DURATIONS.exists():
        seconds = json.loads(DURATIONS.read_text())["duration_by_test"]
        order = quick_first([item.nodeid for item in items], seconds)
        items.sort(key=lambda item: order[item.nodeid])


def quick_first(tests: list[str], seconds: Mapping[str, float]) -> dict[str, int]:
    """Return the position of each test; tests without a duration count as immediate."""
    modules: dict[str, float] = {}
    for test in tests:
        module = test.partition("::")[0]
        modules[module] = modules.get(module, 0.0) + seconds.get(test, 0.0)

    def key(test: str) -> tuple[float, str, float]:
        module = test.partition("::")[0]
        return modules[module], module, seconds.get(test, 0.0)

    return {test: position for position, test in enumerate(sorted(tests, key=key))}
