import pytest
from pydantic import Field

from sidflow.core import params
from sidflow.core.documents import Curve, Document
from sidflow.core.errors import InputError
from sidflow.core.params import Params
from sidflow.core.runtime import RUNTIME_PATH, Runtime, load_runtime, runtime_source


class Knobs(Params):
    rate: float = Field(1e-3, gt=0)
    name: str = "a"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in Runtime.model_fields:
        monkeypatch.delenv(f"SIDFLOW_{name.upper()}", raising=False)


def write(text):
    params.PARAMS_PATH.write_text(text)


@pytest.mark.parametrize("name", ["listed", "base", "added", "read"])
def test_what_somebody_asks_for_is_trained(name):
    write(
        "recommenders: [listed]\nblend: {sum: {base: base, added: added}, broken: 5}\n"
        "modality: {fused: {source: artifacts/recommenders/read/content.safetensors}}\n"
    )
    params.require_listed(name, "train_sequential")
    with pytest.raises(InputError, match=r"train_sequential.other: expected entries that `recommenders` lists"):
        params.require_listed("other", "train_sequential")


def test_a_section_by_its_dotted_name():
    write("seed: 3\ntrain:\n  one: {rate: 3e-4}\n  two:\n")
    assert params.load_section("train.one", Knobs) == Knobs(rate=3e-4)  # `3e-4` is a float here, as for DVC
    assert params.load_section("train.two", Knobs) == Knobs()
    assert params.load_param("seed") == params.load_seed() == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: -1", r"params.yaml:seed: expected .*; found -1"),
        ("seed: 4294967296", r"params.yaml:seed: expected .*; found 4294967296"),
        ("seed: x", r"params.yaml:seed: expected .*; found 'x'"),
        ("seed: 4.5", r"params.yaml:seed: expected .*; found 4.5"),
        ("threads: 0", r"params.yaml:threads: expected .*; found 0"),
        ("threads: two", r"params.yaml:threads: expected .*; found 'two'"),
    ],
)
def test_a_seed_or_threads_that_no_training_can_have_are_one_line(text, message):
    write(text)
    with pytest.raises(InputError, match=message):
        params.load_seed() if text.startswith("seed") else params.load_threads()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("train: {one: {raet: 1}}", "params.yaml:train.one: expected one of the names rate, name; found `raet`. "),
        ("train: {one: {rate: -1}}", "params.yaml:train.one.rate: expected a number > 0; found -1. "),
        (
            "train: {one: {rate: fast, name: 3}}",
            "expected a number > 0; found 'fast' (2 affected). Remedy: edit",
        ),
        ("train: {one: 3}", "params.yaml:train.one: expected a mapping of names to values; found 3. "),
        ("train: {}", "no `one`"),
        ("[1]", "params.yaml: expected lines of `name: value`; found a list. Remedy: correct params.yaml by hand"),
        ("a: 1\n b: 2", "params.yaml, line 2, column 3: expected YAML; found mapping values are not allowed"),
        ("a: 1\nb: 2\na: 3", 'params.yaml, line 3, column 1: expected every name once; found duplicate key "a"'),
        ("train: {one: {rate: .inf}}", "params.yaml:train.one.rate: expected a number > 0; found inf"),
        ("train: {one: {rate: .nan}}", "params.yaml:train.one.rate: expected a number > 0; found nan"),
    ],
)
def test_a_mistake_is_one_line(text, complaint):
    write(text)
    with pytest.raises(InputError) as caught:
        params.load_section("train.one", Knobs)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "preset apply" not in str(caught.value)  # which would write over what is there


def test_params_are_frozen_and_their_absence_has_a_remedy():
    with pytest.raises(ValueError, match="frozen"):
        Knobs().rate = 2.0
    with pytest.raises(InputError, match="sidflow preset apply embedded"):
        params.load_section("train.one", Knobs)


def test_the_environment_wins_over_the_file(monkeypatch):
    assert load_runtime().device == "auto"
    RUNTIME_PATH.write_text("device: cpu\ncheckpoint_seconds: 3\n")
    monkeypatch.setenv("SIDFLOW_CHECKPOINT_SECONDS", "5")
    assert (load_runtime().device, load_runtime().checkpoint_seconds) == ("cpu", 5)
    RUNTIME_PATH.write_text("devise: cpu\n")
    with pytest.raises(InputError, match=r"^runtime\.yaml: expected one of the names device, .*found `devise`"):
        load_runtime()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        (
            "CHECKPOINT_SECONDS",
            "many",
            "SIDFLOW_CHECKPOINT_SECONDS: expected a number >= 0; found 'many'. Remedy: set SIDFLOW_CHECKPOINT",
        ),
        (
            "DEVICE",
            "gpu",
            "SIDFLOW_DEVICE: expected one of auto, cpu, cuda; found 'gpu'. Remedy: set",
        ),
        ("DEVISE", "cpu", "SIDFLOW_DEVISE: expected one of the names SIDFLOW_DEVICE, "),
    ],
)
def test_a_bad_variable_is_named_with_its_remedy(monkeypatch, name, value, complaint):
    RUNTIME_PATH.write_text("device: cpu\n")
    monkeypatch.setenv(f"SIDFLOW_{name}", value)
    with pytest.raises(InputError) as caught:
        load_runtime()
    assert str(caught.value).startswith(complaint)


def test_a_bad_runtime_file_is_named_with_its_remedy():
    RUNTIME_PATH.write_text("device: gpu\n")
    with pytest.raises(InputError, match=r"^runtime\.yaml:device: expected one of auto, cpu, cuda.*edit runtime\.yaml"):
        load_runtime()
    RUNTIME_PATH.write_text("device: [\n")
    with pytest.raises(InputError, match=r"^runtime\.yaml, line 2, column 1: expected YAML"):
        load_runtime()


def test_each_setting_tells_where_it_is_from(monkeypatch):
    RUNTIME_PATH.write_text("# device: cuda\ncheckpoint_seconds: 2\n")
    monkeypatch.setenv("SIDFLOW_CACHE", "/tmp")
    found = [runtime_source(name) for name in ("device", "checkpoint_seconds", "cache")]
    assert found == ["default", "runtime.yaml", "SIDFLOW_CACHE"]


def test_a_file_of_another_encoding_is_told():
    params.PARAMS_PATH.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(InputError, match=r"text in UTF-8; found byte 0xe9 at offset 9"):
        params.load_params()


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
