"""`make mutants`: which planted faults are tested, and how they are counted."""

import json

import pytest
from tools import mutants
from tools.quick_tests_first import quick_first

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
    made = [f"def f(x):\n    # one\n    {line}\n" for line in (removed, added)]
    assert mutants.is_wording(*made) == wording


def test_a_sample_stays_while_code_changes(tmp_path):
    path = tmp_path / "sample.json"
    assert mutants.kept_sample(MODULES, path, "4 0 ") == []
    path.write_text(json.dumps({"drawn": "4 0 ", "names": ["a.one.m8", "a.one.gone", "a.two.m0"]}))
    assert mutants.kept_sample(MODULES, path, "4 0 ") == ["a.one.m8", "a.two.m0"]
    assert mutants.kept_sample(MODULES, path, "5 0 ") == []


def test_wording_is_left_out_of_the_mutants_of_the_report(tmp_path):
    (tmp_path / "a/report").mkdir(parents=True)
    page = tmp_path / "a/report/page.py"
    functions = {"x_f__mutmut_orig": "'low', x", "x_f__mutmut_1": "'XXlowXX', x", "x_f__mutmut_2": "'low', None"}
    page.write_text("".join(f"def {name}(x):\n    return {body}\n" for name, body in functions.items()))
    spans = {name: [2 * place + 1, 2 * place + 2] for place, name in enumerate(functions)}
    page.with_name("page.py.spans").write_text(json.dumps({"spans": spans}))
    codes = {f"a.report.page.{name}": None for name in functions if "orig" not in name}
    page.with_name("page.py.meta").write_text(json.dumps({"exit_code_by_key": codes}))
    assert mutants.mutants_by_module(tmp_path) == {"a.report.page": ["a.report.page.x_f__mutmut_2"]}


def test_the_score_counts_what_was_found_and_names_the_rest():
    chosen = ["a.one.m0", "a.one.m1", "a.one.m2", "a.two.m1"]
    outcomes = {"a.one.m0": "killed", "a.one.m1": "survived", "a.one.m2": "timeout", "a.one.m3": "killed"}
    record = mutants.score(MODULES, chosen, outcomes)
    assert (record["score"], record["mutants"], record["tested"], record["killed"]) == (0.5, 11, 4, 2)
    assert record["outcomes"] == {"killed": 1, "not checked": 1, "survived": 1, "timeout": 1}
    assert record["modules"] == {
        "a.one": {
            "mutants": 9,
            "tested": 3,
            "killed": 2,
            "outcomes": {"killed": 1, "survived": 1, "timeout": 1},
        },
        "a.two": {"mutants": 2, "tested": 1, "killed": 0, "outcomes": {"not checked": 1}},
    }
    assert record["not_killed"] == ["a.one.m1", "a.two.m1"]
    json.dumps(record)


def test_equivalents_are_named_with_the_reason_and_leave_the_score(tmp_path):
    (tmp_path / "a").mkdir()
    page = tmp_path / "a/one.py"
    functions = {"x_f__mutmut_orig": "x >= 0", "x_f__mutmut_1": "x > 0", "x_f__mutmut_2": "x >= 1"}
    page.write_text("".join(f"def {name}(x):\n    return {body}\n" for name, body in functions.items()))
    spans = {name: [2 * place + 1, 2 * place + 2] for place, name in enumerate(functions)}
    page.with_name("one.py.spans").write_text(json.dumps({"spans": spans}))
    record = {"tested": 10, "killed": 8, "not_killed": ["a.one.x_f__mutmut_1", "a.one.x_f__mutmut_2"]}
    known = [{"module": "a.one", "before": "return x >= 0", "after": "return x > 0", "why": "x is never 0"}]
    assert mutants.without_equivalents(record, known, tmp_path) == {
        "equivalent": {"a.one.x_f__mutmut_1": "x is never 0"},
        "score_without_equivalents": round(8 / 9, 4),
    }


def test_what_a_stopped_run_left_holds_while_code_and_tests_stay(tmp_path):
    for name in ("src/a.py", "tests/test_a.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("one = 1\n")
    (tmp_path / "pyproject.toml").write_text("")
    before = mutants.digest(tmp_path)
    work = tmp_path / "mutants"
    assert not mutants.outcomes_hold(work, before)
    work.mkdir()
    (work / "digest.txt").write_text(before)
    assert mutants.outcomes_hold(work, mutants.digest(tmp_path))
    (tmp_path / "tests/test_a.py").write_text("one = 2\n")
    assert not mutants.outcomes_hold(work, mutants.digest(tmp_path))


@pytest.mark.parametrize(("keep", "codes"), [(("killed",), {"a": 1, "b": None, "c": None}), ((), dict.fromkeys("abc"))])
def test_outcomes_are_forgotten_but_for_those_that_are_kept(tmp_path, monkeypatch, keep, codes):
    path = tmp_path / "a.py.meta"
    path.write_text(json.dumps({"exit_code_by_key": {"a": 1, "b": 0, "c": None}, "other": 3}))
    monkeypatch.setattr(mutants, "statuses", lambda _: {"a": "killed", "b": "survived"})
    mutants.forget(tmp_path, keep)
    assert json.loads(path.read_text()) == {"exit_code_by_key": codes, "other": 3}


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path):
    for name, text in (("a.py", '{"exit_code'), ("b.py", "{}")):
        (tmp_path / name).write_text("one = 1")
        (tmp_path / f"{name}.meta").write_text(text)
    mutants.remove_broken(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.py", "b.py.meta"]


def test_quick_tests_and_quick_modules_come_first():
    tests = ["a.py::slow", "a.py::quick", "b.py::one", "c.py::new"]
    order = quick_first(tests, {"a.py::slow": 5.0, "a.py::quick": 0.1, "b.py::one": 1.0})
    assert sorted(tests, key=order.__getitem__) == ["c.py::new", "b.py::one", "a.py::quick", "a.py::slow"]
