import os
import sqlite3
import subprocess
import sys
import time

import pytest

from sidflow.cli.responses import size_lines
from sidflow.core.errors import InputError
from sidflow.semantics.store import Response, open_store


def response(number, text="an answer"):
    return Response(f"{number:064x}", text, "stop", 10, 5, "model@1")


def fill(path, numbers):
    with open_store(path) as store:
        store.add([response(number) for number in numbers])
    return path


def test_what_is_added_is_there_after_reopening_and_the_first_answer_stays(tmp_path):
    path = tmp_path / "folder" / "responses.sqlite"
    with open_store(path) as store:
        store.add([response(1, "first"), response(2)])
        store.add([response(1, "second")])
    with open_store(path) as store:
        assert store.get([response(1).key, response(3).key]) == {response(1).key: response(1, "first")}
        assert store.size() == (2, 20, 10)


def test_an_answer_takes_the_place_of_a_rejection_and_nothing_else_does(tmp_path):
    def rejected(number):
        return response(number, "too long")._replace(finish_reason="rejected", input_tokens=0, output_tokens=0)

    other = tmp_path / "other.sqlite"
    with open_store(other) as store:
        store.add([rejected(1), rejected(2), response(3), response(4)])
    with open_store(tmp_path / "s.sqlite") as store:
        store.add([rejected(1)])
        assert not store.has_answer("model@1")
        store.add([rejected(1)._replace(text="another reason"), response(2), rejected(3)])
        assert store.get([response(1).key])[response(1).key] == rejected(1)
        assert store.has_answer("model@1") and not store.has_answer("model@2")
        assert store.merge(other) == 2 and store.size() == (4, 30, 15)
        store.add([response(1, "an answer"), rejected(2)])
        assert store.get([response(number).key for number in (1, 2)]) == {
            response(number).key: response(number) for number in (1, 2)
        }


def test_more_keys_than_one_statement_takes(tmp_path):
    with open_store(tmp_path / "s.sqlite") as store:
        store.add(response(number) for number in range(2500))
        assert len(store.get([response(number).key for number in range(0, 5000, 2)])) == 1250


def test_a_failed_batch_leaves_nothing(tmp_path):
    with open_store(tmp_path / "s.sqlite") as store:
        with pytest.raises(InputError):
            store.add([response(1), response(2)._replace(text=None)])  # type: ignore[arg-type]
        assert store.size().responses == 0


def test_merge_takes_what_is_missing(tmp_path):
    other = fill(tmp_path / "other.sqlite", range(5, 15))
    with open_store(fill(tmp_path / "s.sqlite", range(10))) as store:
        assert store.merge(other) == 5
        assert store.size().responses == 15


def test_an_export_is_one_file_with_the_chosen_responses(tmp_path):
    with open_store(fill(tmp_path / "s.sqlite", range(10))) as store:
        assert store.export(tmp_path / "out" / "part.sqlite", [response(3).key, response(99).key]) == 1
        assert store.export(tmp_path / "out" / "all.sqlite") == 10
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["all.sqlite", "part.sqlite"]
    with open_store(tmp_path / "out" / "part.sqlite", read_only=True) as part:
        assert list(part.get([response(number).key for number in range(10)])) == [response(3).key]


def test_a_store_that_is_only_read_needs_no_right_to_write(tmp_path):
    path = fill(tmp_path / "s.sqlite", range(3))
    before = path.read_bytes()
    with open_store(path, read_only=True) as store:
        assert store.size().responses == 3
        with pytest.raises(InputError):
            store.add([response(4)])
    assert path.read_bytes() == before
    with open_store(tmp_path / "absent.sqlite", read_only=True) as store:
        assert store.size().responses == 0
    assert not (tmp_path / "absent.sqlite").exists()


def test_a_reader_sees_what_a_writer_has_added_so_far(tmp_path):
    path = tmp_path / "s.sqlite"
    with open_store(path) as writer:
        writer.add([response(1)])
        with open_store(path, read_only=True) as reader:
            assert reader.size().responses == 1


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be one" * 40, b"short"])
def test_another_file_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match="response store"), open_store(path) as store:
        store.size()
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE responses (name TEXT)")
    with pytest.raises(InputError, match="format 0"), open_store(path):
        pass


def test_a_folder_of_that_name_is_refused(tmp_path):
    with pytest.raises(InputError, match=str(tmp_path)), open_store(tmp_path):
        pass
    with pytest.raises(InputError, match=str(tmp_path)), open_store(tmp_path, read_only=True):
        pass


FILLER = """
import sys
from pathlib import Path
from sidflow.semantics.store import Response, open_store
with open_store(Path(sys.argv[1])) as store:
    for number in range(1_000_000):
        store.add([Response(f"{number:064x}", "text " * 50, "stop", 1, 1, "m@1")])
        print(number, flush=True)
"""


def test_a_kill_loses_nothing_that_was_added(tmp_path):
    path = tmp_path / "s.sqlite"
    reported = -1
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", FILLER, str(path)], stdout=subprocess.PIPE, env=os.environ, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.2)
            process.kill()
            lines = process.stdout.read().split("\n")
        reported = max([reported, *(int(line) for line in lines[:-1] if line)])
        with open_store(path) as store:
            keys = [f"{number:064x}" for number in range(reported + 1)]
            assert len(store.get(keys)) == len(keys)


def test_the_ledger_has_tokens_and_cost_of_each_model(tmp_path, monkeypatch):
    path = fill(tmp_path / "s.sqlite", range(3))
    with open_store(path) as store:
        store.add([response(7)._replace(model="other@2", input_tokens=1_000_000)])
        assert store.size("other@2") == (1, 1_000_000, 5) and store.size("model@2") == (0, 0, 0)
    monkeypatch.setenv("SIDFLOW_RESPONSES", str(path))
    assert size_lines().splitlines()[1:] == [
        "  model@1: 3 answers, 30 input and 15 output tokens",
        "  other@2: 1 answers, 1000000 input and 5 output tokens",
    ]
    monkeypatch.setenv("SIDFLOW_INPUT_PRICE", "0.5")
    assert size_lines().splitlines()[2].endswith("tokens, 0.50 at the prices of runtime.yaml")
