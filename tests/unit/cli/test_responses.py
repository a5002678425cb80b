from typer.testing import CliRunner

import sidflow.cli.app as cli
from sidflow.semantics.store import Response, open_store


def run(*arguments):
    result = CliRunner().invoke(cli.app, ["responses", *map(str, arguments)], prog_name="sidflow")
    return result.exit_code, result.output


def test_a_store_is_exported_and_merged_into_another(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDFLOW_RESPONSES", str(tmp_path / "mine.sqlite"))
    with open_store(tmp_path / "mine.sqlite") as store:
        store.add([Response(f"{number:064x}", "text", "stop", 3, 2, "m@1") for number in range(4)])
    code, output = run("size")
    assert code == 0 and "4 answers, 12 input and 8 output tokens" in output
    assert run("export", tmp_path / "shared.sqlite")[0] == 0
    monkeypatch.setenv("SIDFLOW_RESPONSES", str(tmp_path / "theirs.sqlite"))
    assert "4 answers added" in run("merge", tmp_path / "shared.sqlite")[1]
    assert "0 answers added" in run("merge", tmp_path / "shared.sqlite")[1]


def test_what_is_no_store_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDFLOW_RESPONSES", str(tmp_path / "mine.sqlite"))
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    for arguments in (
        ("merge", tmp_path / "absent"),
        ("merge", tmp_path / "text.sqlite"),
        ("export", tmp_path / "mine.sqlite"),
        ("export", tmp_path / "mistyped" / "shared.sqlite"),
    ):
        code, output = run(*arguments)
        assert code == 2 and output.count("\n") == 1


def test_an_empty_store_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDFLOW_RESPONSES", str(tmp_path / "mine.sqlite"))
    code, output = run("export", tmp_path / "shared.sqlite")
    assert code == 2 and "answers to export" in output and not (tmp_path / "shared.sqlite").exists()
