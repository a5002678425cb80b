"""faiss is imported where it is needed; without it there is one clear line."""

import sys

import pytest

from sidflow.core.errors import InputError
from sidflow.core.faiss import import_faiss


def test_faiss_is_the_installed_module():
    assert hasattr(import_faiss(), "IndexFlatIP")


def test_without_faiss_one_line_names_both_builds(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as where neither is installed
    with pytest.raises(InputError, match="expected faiss-cpu or faiss-gpu; found neither installed") as caught:
        import_faiss()
    assert "pip install faiss-cpu" in caught.value.line()
