"""`make mutants`: which planted faults are tested, and how they are counted."""

import json

import pytest
from tools import mutants

MODULES = {"a.one": [f"a.one.m{index}" for index in range(9)], "a.two": ["a.two.m0", "a.two.m1"]}


def test_a_sample_is_as_even_as_modules_allow_and_of_its_seed():
    chosen = mutants.sample_of(MODULES, 6, 0)
    assert len(set(chosen)) == 6
    assert [sum(name in chosen for name in names) for names in MODULES.values()] == [4, 2]
    assert chosen == mutants.sample_of(MODULES, 6, 0) != mutants.sample_of(MODULES, 6, 1)
    assert sorted(mutants.sample_of(MODULES, 0, 0)) == sorted(name for names in MODULES.values() for name in names)


@pytest.mark.parametrize(
    ("removed", "added", "wording"),
    [
        ('tag("td", value)', 'tag("XXtdXX", value)', True),
        ('f(x, "a \\" b")', "f(x, 'c')", True),
        ('tag("td", value)', 'tag("td", None)', False),
        ("low, high", "high, low", False),
    ],
)
def test_what_changes_between_quotes_alone_is_wording(removed, added, wording):
    diff = f"--- a.py\n+++ a.py\n@@ -1,2 +1,2 @@\n def f():\n-    {removed}\n+    {added}\n"
    assert mutants.is_wording(diff) == wording


def test_the_score_counts_what_was_found_and_names_the_rest():
    chosen = ["a.one.m0", "a.one.m1", "a.one.m2", "a.two.m1"]
    outcomes = {"a.one.m0": "killed", "a.one.m1": "survived", "a.one.m2": "timeout", "a.one.m3": "killed"}
    record = mutants.score(MODULES, chosen, outcomes)
    assert (record["score"], record["mutants"], record["tested"], record["killed"]) == (0.5, 11, 4, 2)
    assert record["outcomes"] == {"killed": 1, "not checked": 1, "survived": 1, "timeout": 1}
    assert record["modules"] == {
        "a.one": {"mutants": 9, "tested": 3, "killed": 2},
        "a.two": {"mutants": 2, "tested": 1, "killed": 0},
    }
    assert record["not_killed"] == ["a.one.m1", "a.two.m1"]
    json.dumps(record)
