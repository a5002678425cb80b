"""Every kind of validation error in plain words, none of them pydantic's."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from sidflow.core.errors import InputError, InvalidValue, closest_names
from sidflow.core.params import Params, validate_params
from sidflow.core.runtime import Runtime, environment_variable


class Round(Params):
    kind: Literal["round"]
    radius: float = Field(1.0, gt=0, le=5)


class Square(Params):
    kind: Literal["square"]
    side: int = Field(1, ge=1)


class Drawing(Params):
    name: str = Field("a", min_length=1)
    colour: Literal["red", "blue"] = "red"
    codes: int | list[int] | Literal["auto"] = "auto"
    depth: float | None = None
    filled: bool = True
    weights: tuple[Annotated[float, Field(ge=0)], ...] = Field((1.0,), min_length=1)
    shapes: dict[str, Annotated[Round | Square, Field(discriminator="kind")]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _red_is_filled(self) -> "Drawing":
        if self.colour == "red" and not self.filled:
            raise InvalidValue("`filled` where `colour` is red", "false")
        return self


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"nmae": 1}, "p:s: expected one of the names name, colour, codes, depth, filled and 2 more; found `nmae`"),
        ({"name": ""}, "p:s.name: expected text that is not empty; found ''"),
        ({"name": None}, "p:s.name: expected text that is not empty; found null"),
        ({"colour": "green"}, "p:s.colour: expected one of red, blue; found 'green'"),
        ({"codes": "many"}, "p:s.codes: expected an integer or a list, each an integer or auto; found 'many'"),
        ({"codes": [1, "b"]}, "p:s.codes"),
        ({"depth": "deep"}, "p:s.depth: expected a number or null; found 'deep'"),
        ({"filled": "perhaps"}, "p:s.filled: expected true or false; found 'perhaps'"),
        ({"filled": False}, "p:s: expected `filled` where `colour` is red; found false"),
        ({"weights": []}, "p:s.weights: expected a list that is not empty, each a number >= 0; found []"),
        ({"weights": [1, -1]}, "p:s.weights.1: expected a number >= 0; found -1"),
        ({"shapes": {"a": {"kind": "round", "radius": 6}}}, "p:s.shapes.a.radius: expected a number > 0 and <= 5;"),
        ({"shapes": {"a": {"kind": "round", "side": 6}}}, "p:s.shapes.a: expected one of the names kind, radius"),
        ({"shapes": {"a": {"kind": "flat"}}}, "p:s.shapes.a: expected a mapping whose `kind` is one of round, square"),
        ({"shapes": {"a": {}}}, "p:s.shapes.a: expected a mapping whose `kind` is one of round, square; found none"),
        ({"shapes": 3, "depth": "x"}, "p:s.depth: expected a number or null; found 'x' (2 affected)"),
        ([], "p:s: expected a mapping of names to values; found []"),
    ],
)  # fmt: skip
def test_each_kind_of_error_in_words(content, message):
    with pytest.raises(InputError) as caught:
        validate_params(content, Drawing, "p:s")
    line = str(caught.value)
    assert line.startswith(message)
    assert "Input should" not in line
    assert "permitted" not in line


def test_an_absent_name_is_an_error():
    with pytest.raises(InputError, match=r"^p:kind: expected round; found none\. Remedy: draw it$"):
        validate_params({}, Round, "p", "draw it")


def test_the_nearest_names_come_first():
    assert closest_names("rat", ["name", "rate"]) == "one of the names rate, name"
    assert closest_names("x", list("abcdefg")) == "one of the names a, b, c, d, e and 2 more"
    assert closest_names("x", []) == "no names"


@pytest.mark.parametrize("name", ["token", "api-key", "access_token", "X-Amz-Signature", "sig"])
def test_no_token_in_a_url_is_in_a_message(name):
    error = InputError(f"https://me:pass@host/v1?a=b&{name}=abc123", expected="e", found="f", remedy="r")
    assert error.line() == f"https://***@host/v1?a=b&{name}=***: expected e; found f. Remedy: r"


def test_no_secret_is_in_a_message(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef123")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    error = InputError(
        "hub model a/b",
        expected="an answer",
        found="401 for https://me:pass@host/a?token=hf_abcdef123",
        example="hf_abcdef123",
        remedy="check https://host/a",
    )
    for text in (error.line(), str(error)):
        assert "hf_abcdef123" not in text
        assert "pass" not in text
        assert "https://***@host/a?token=***" in text
        assert text.endswith("check https://host/a")


@pytest.mark.parametrize("name", Runtime.model_fields)
def test_a_setting_of_our_own_is_no_secret(monkeypatch, name):
    monkeypatch.setenv(environment_variable(name), "1000000")
    error = InputError("budget", expected="at most 1000000 tokens", found="more", remedy="raise it")
    assert "at most 1000000 tokens" in error.line()
