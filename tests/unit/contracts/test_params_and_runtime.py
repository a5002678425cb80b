import pytest
from pydantic import Field

from sidflow.contracts import params, runtime
from sidflow.contracts.documents import Curve, Document
from sidflow.contracts.errors import InputError
from sidflow.contracts.params import Params


class Knobs(Params):
    rate: float = Field(1e-3, gt=0)
    name: str = "a"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in runtime.Runtime.model_fields:
        monkeypatch.delenv(f"SIDFLOW_{name.upper()}", raising=False)


def write(text):
    params.PATH.write_text(text)


def test_a_section_by_its_dotted_name():
    write("seed: 3\ntrain:\n  one: {rate: 3e-4}\n  two:\n")
    assert params.load("train.one", Knobs) == Knobs(rate=3e-4)  # `3e-4` is a float here, as for DVC
    assert params.load("train.two", Knobs) == Knobs()
    assert params.load_value("seed") == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("train: {one: {speed: 1}}", "params.yaml:train.one.speed: expected Extra inputs are not permitted; found 1"),
        ("train: {one: {rate: -1}}", "train.one.rate: expected Input should be greater than 0; found -1"),
        ("train: {}", "no `one`"),
        ("[1]", "expected a mapping"),
        ("a: [", "expected YAML"),
    ],
)
def test_a_mistake_is_one_line(text, complaint):
    write(text)
    with pytest.raises(InputError) as caught:
        params.load("train.one", Knobs)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_params_are_frozen_and_their_absence_has_a_remedy():
    with pytest.raises(ValueError, match="frozen"):
        Knobs().rate = 2.0
    with pytest.raises(InputError, match="sidflow preset apply embedded"):
        params.load("train.one", Knobs)


def test_the_environment_wins_over_the_file(monkeypatch):
    assert runtime.load().device == "auto"
    runtime.PATH.write_text("device: cpu\nworkers: 3\n")
    monkeypatch.setenv("SIDFLOW_WORKERS", "5")
    assert (runtime.load().device, runtime.load().workers) == ("cpu", 5)
    runtime.PATH.write_text("devise: cpu\n")
    with pytest.raises(InputError, match=r"runtime\.yaml\.devise"):
        runtime.load()


def test_flat_metrics_stay_flat_and_round():
    flat = Document("m.json", flat=True)
    flat.write({"b_1": 1 / 3, "a": float("nan"), "n": 7})
    assert flat.at().read_text() == '{\n  "a": null,\n  "b_1": 0.333333,\n  "n": 7\n}\n'
    for content in ({"Upper": 1}, {"a b": 1}, {"a": {"b": 1}}):
        with pytest.raises(InputError, match="flat lower_snake_case"):
            flat.write(content)


def test_curves_are_csv_with_gaps():
    curve = Curve("c.csv")
    assert curve.read() == []
    curve.write([{"epoch": 1, "loss": 0.5}, {"epoch": 2}], ["epoch", "loss"])
    assert curve.read() == [{"epoch": "1", "loss": "0.5"}, {"epoch": "2", "loss": ""}]
