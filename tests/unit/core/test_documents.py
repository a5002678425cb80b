"""Documents that are no JSON end in one line."""

import pytest

from sidflow.core.documents import Document
from sidflow.core.errors import InputError


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 200_000], ids=["cut", "empty", "bytes", "deep"])
def test_what_is_no_json_is_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json: expected JSON"):
        Document(str(tmp_path / "a.json")).read()
