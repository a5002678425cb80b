"""The `openai` writer against a real server, `transformers serve`, on a tiny model that sees."""

import pytest
from tests.unit.semantics import tiny_models
from tests.unit.semantics.describing import ITEMS, PICTURES, file_hash
from tests.unit.semantics.model_server import transformers_serve
from transformers.utils.import_utils import is_serve_available

from sidflow.core.runtime import Runtime
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, OpenAIParams, ReplayParams, TransformersParams
from sidflow.semantics.store import open_store

pytestmark = [
    pytest.mark.usefixtures("project"),
    pytest.mark.skipif(not is_serve_available(), reason="`transformers serve` needs fastapi and uvicorn"),
]


def test_a_server_of_transformers_answers_as_the_model_does_here(tmp_path):
    """The server takes no JSON schema and random weights write none, so that every answer is a failure that is kept."""
    folder = tiny_models.llava(tmp_path / "llava")
    limits = {"max_tokens": 16, "attempts": 2}
    served = OpenAIParams(backend="openai", model=str(folder), revision="tiny", json_schema=False, **limits)
    params = DescribeParams(writer=served, max_failed_share=1.0)
    with transformers_serve(folder, tmp_path / "log") as url:
        runtime = Runtime(cache=tmp_path / "cache", server=url, concurrency=3)
        first = describe_items(ITEMS, PICTURES, params, runtime)
        asked = (tmp_path / "log").read_text().count("POST /v1/chat/completions")
        again = describe_items(ITEMS, PICTURES, params, runtime)
        assert (tmp_path / "log").read_text().count("POST /v1/chat/completions") == asked
    assert first.report == again.report
    failed = sum(first.report[f"{view}_failed"] for view in params.views)
    assert first.report["output_tokens"] > 0 and failed + first.semantics.height == 6
    here = TransformersParams(backend="transformers", model={"kind": "path", "path": str(folder)}, **limits)
    local = Runtime(cache=tmp_path / "local", device="cpu")
    describe_items(ITEMS, PICTURES, params.model_copy(update={"writer": here}), local)
    with open_store(runtime.responses_path) as remote, open_store(local.responses_path) as own:
        counts = [store.size() for store in (remote, own)]
        texts = [sorted(response.text for batch in store._batches() for response in batch) for store in (remote, own)]
    assert asked == len(texts[0]) and counts[0] == counts[1]
    assert texts[0] == texts[1] and len(set(texts[0])) > 3
    replay = ReplayParams(backend="replay", model=str(folder), revision="tiny", json_schema=False, **limits)
    offline = Runtime(cache=tmp_path / "cache")
    assert file_hash(describe_items(ITEMS, PICTURES, params.model_copy(update={"writer": replay}), offline)) == (
        file_hash(first)
    )
