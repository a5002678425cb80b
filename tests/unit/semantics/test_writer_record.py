"""What the report says of a writer: name, origin and licence, from params alone."""

import pytest
from tests.unit.semantics.describing import ITEMS, PICTURES

from sidflow.core.runtime import Runtime
from sidflow.models.params import ModelParams
from sidflow.semantics.describe import describe_items, writer_record
from sidflow.semantics.params import DescribeParams, OpenAIParams, ReplayParams, TransformersParams

HUB = ModelParams(kind="hub", repo="owner/name", commit="0" * 40, licence="MIT")
PACKAGE = ModelParams(kind="package", package="a==1", file="a/m.gguf", sha256={"m.gguf": "12"}, licence="Gemma")
PARTS = ModelParams(
    kind="package", package=("a==1", "b==2"), file=("a/m.1", "b/m.2"), sha256={"m.1": "1", "m.2": "2", "joined": "3"}
)


@pytest.mark.parametrize(
    ("model", "origin", "licence"),
    [
        (HUB, f"hub owner/name@{'0' * 40}", "MIT"),
        (PACKAGE, "package a==1; file a/m.gguf; sha256 m.gguf 12", "Gemma"),
        (PARTS, "package a==1, b==2; file a/m.1, b/m.2; sha256 joined 3, m.1 1, m.2 2", "not stated"),
        (ModelParams(kind="path", path="models/writer", licence="MIT"), "folder models/writer", "MIT"),
        (ModelParams(kind="path", path="/home/someone/models/writer"), "folder writer", "not stated"),
        (ModelParams(kind="path", path="~/models/writer"), "folder writer", "not stated"),
    ],
)
def test_a_named_model_has_origin_and_licence_and_no_path_of_a_machine(model, origin, licence):
    record = writer_record(TransformersParams(backend="transformers", model=model), "writer@1")
    assert record == {
        "writer": "writer@1", "writer_backend": "transformers", "writer_origin": origin, "writer_licence": licence
    }  # fmt: skip


def test_other_writers_say_what_they_are():
    for params, origin in [
        (OpenAIParams(backend="openai", model="vl", revision="1"), "a server"),
        (ReplayParams(backend="replay", model="vl", revision="1"), "the response store"),
    ]:
        assert writer_record(params, "vl@1")["writer_origin"] == origin
    report = describe_items(ITEMS, PICTURES, DescribeParams(), Runtime()).report
    assert (report["writer"], report["writer_origin"]) == ("rules", "no model")
