"""Files: written whole or not at all, and paths against the project's root."""

import pytest

from sidflow.core.files import atomic_path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_torn_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "deep" / "file"
    with atomic_path(target) as temporary:
        temporary.write_text("old")

    def torn():
        with atomic_path(target) as temporary:
            temporary.write_text("ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        torn()
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
