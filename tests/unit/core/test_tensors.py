import numpy as np
import pytest

from sidflow.core.errors import InputError
from sidflow.core.tensors import TensorFile

PAIR = TensorFile(
    name="pair",
    version=1,
    path="{name}.safetensors",
    arrays={"a": "float32 n d", "b": "bool n", "c": "int32 d"},
    optional=frozenset({"c"}),
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pair(**changes):
    return {"a": np.ones((2, 3), dtype=np.float32), "b": np.zeros(2, dtype=bool), **changes}


def test_round_trip_with_metadata_and_stable_bytes():
    path = PAIR.write(pair(), {"z": 1, "y": [2]}, name="x")
    first = path.read_bytes()
    arrays, metadata = PAIR.read(name="x")
    assert np.array_equal(arrays["a"], np.ones((2, 3)))
    assert metadata == {"schema": "pair", "version": 1, "z": 1, "y": [2]}
    again = PAIR.write(dict(reversed(pair().items())), {"y": [2], "z": 1}, name="w")
    assert again.read_bytes() == first


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"a": np.ones((2, 3), dtype=np.float32)}, "missing ['b']"),
        (pair(d=np.ones(1)), "unknown ['d']"),
        (pair(a=np.ones((2, 3))), "found float64"),
        (pair(b=np.zeros(3, dtype=bool)), "sizes {'n': 2, 'd': 3}"),
        (pair(c=np.zeros(4, dtype=np.int32)), "c as int32 ['d']"),
        (pair(a=np.full((2, 3), np.nan, dtype=np.float32)), "NaN or infinity (6 affected), for example (0, 0)"),
    ],
)
def test_what_breaks_the_contract_is_not_written(arrays, complaint, tmp_path):
    with pytest.raises(InputError) as caught:
        PAIR.write(arrays, {}, name="x")
    assert complaint in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_reading_checks_presence_kind_and_bytes(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        PAIR.read(name="x")
    PAIR.write(pair(), {}, name="x")
    other = TensorFile(name="other", version=1, path="{name}.safetensors", arrays={}, free=True)
    with pytest.raises(InputError, match="schema other version 1; found pair version 1"):
        other.read(name="x")
    (tmp_path / "x.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="a safetensors file"):
        PAIR.read(name="x")
