"""The `ray` writer. Where Ray is installed its datasets are real, and only the engine is a stand-in."""

import base64
import json
import pickle
import subprocess
import sys
from importlib.util import find_spec

import pytest
from tests.unit.semantics import tiny_models
from tests.unit.semantics.describing import ITEMS, PICTURES, file_hash, views
from tests.unit.semantics.test_rules import item, items_table

from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.semantics import ray_writer
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, RayParams
from sidflow.semantics.store import open_store

ERROR = ray_writer.ERROR
pytestmark = pytest.mark.usefixtures("project")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='Ray is not installed: pip install -e ".[ray]"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.llava(tmp_path_factory.mktemp("models") / "llava")


def params_of(folder, **changes):
    settings = {"backend": "ray", "model": {"kind": "path", "path": str(folder)}} | changes
    return DescribeParams(writer=RayParams.model_validate(settings), max_failed_share=1.0)


def engine(row):
    """Answer as a vLLM stage does: columns are added to what the chat was made of."""
    content = row["messages"][0]["content"]
    title = content[-1]["text"].partition("title: ")[2].partition("\n")[0]
    if title == "Blue lamp":
        return row | {"generated_text": "", ERROR: "ValueError: the prompt is too long"}
    if title == "Chair" and row.get("broken"):
        return row | {"generated_text": "", ERROR: "RuntimeError: the engine is out of memory"}
    fields = dict.fromkeys(json.loads(row["sampling_params"]["structured_outputs"]["json"])["properties"], "")
    text = json.dumps(fields | {"category": title or "picture", "colours": [content[0]["type"]]})
    return row | {"generated_text": text, "num_input_tokens": 100, "num_generated_tokens": 20, ERROR: ""}


def blocks_here(rows, _model, params, _runtime, broken=False):
    """Do the rows' way through the cluster in this process, two in a block, the last first."""
    to_engine, from_engine = ray_writer.row_functions(params)
    answered = [engine({**row, **to_engine(row), "broken": broken}) for row in rows][::-1]
    for start in range(0, len(answered), 2):
        yield [row if row[ERROR] else from_engine(row) for row in answered[start : start + 2]]


@pytest.fixture
def local(monkeypatch):
    monkeypatch.setattr(ray_writer, "_require_ray", lambda: None)
    monkeypatch.setattr(ray_writer, "ray_blocks", blocks_here)


EXPECTED = {
    (0, "image"): "Category: picture. Colours: image_url.",
    (0, "joint"): "Category: Red mug. Colours: image_url.",
    (0, "text"): "Category: Red mug. Colours: text.",
    (2, "image"): "Category: picture. Colours: image_url.",
    (3, "text"): "Category: Chair. Colours: text.",
}


def test_answers_come_back_in_any_order_and_a_rejection_is_a_failure_of_its_item(local, folder, tmp_path):
    runtime = Runtime(cache=tmp_path / "cache")
    described = describe_items(ITEMS, PICTURES, params_of(folder), runtime)
    assert views(described) == EXPECTED
    assert described.report["text_failed_rejected"] == 1 and described.report["output_tokens"] == 100
    assert described.semantics["writer"][0].startswith("llava@")


def test_what_an_engine_answered_before_it_broke_is_kept(local, folder, tmp_path, monkeypatch):
    runtime, asked = Runtime(cache=tmp_path / "cache"), []

    def blocks(rows, *others, broken=True):
        rows = list(rows)
        asked.append(len(rows))
        yield from blocks_here(rows, *others, broken=broken)

    monkeypatch.setattr(ray_writer, "ray_blocks", blocks)
    with pytest.raises(InputError, match=r"out of memory.*what was answered is kept") as raised:
        describe_items(ITEMS, PICTURES, params_of(folder), runtime)
    assert "\n" not in raised.value.line()
    with open_store(runtime.responses_path) as store:
        assert store.size().responses == 5
    monkeypatch.setattr(ray_writer, "ray_blocks", lambda *given: blocks(*given, broken=False))
    described = describe_items(ITEMS, PICTURES, params_of(folder), runtime)
    assert views(described) == EXPECTED and asked == [6, 2]  # what failed, and what was rejected
    monkeypatch.setattr(ray_writer, "ray_blocks", blocks_here)
    whole = describe_items(ITEMS, PICTURES, params_of(folder), Runtime(cache=tmp_path / "other"))
    assert file_hash(whole) == file_hash(described)


def test_settings_that_reject_everything_end_the_run_and_nothing_is_kept(local, folder, tmp_path):
    runtime = Runtime(cache=tmp_path / "cache")
    with pytest.raises(InputError, match="nothing but rejections"):
        describe_items(items_table(item(0, "Blue lamp")), PICTURES[:0], params_of(folder), runtime)
    with open_store(runtime.responses_path) as store:
        assert store.size().responses == 0


def test_a_rejected_item_that_alone_is_missing_ends_no_run(local, folder, tmp_path):
    runtime, text = Runtime(cache=tmp_path / "cache"), params_of(folder).model_copy(update={"views": ("text",)})
    describe_items(items_table(item(0, "Chair")), PICTURES[:0], text, runtime)
    more = items_table(item(0, "Chair"), item(1, "Blue lamp"))
    described = describe_items(more, PICTURES[:0], text, runtime)
    assert list(views(described)) == [(0, "text")] and described.report["text_failed_rejected"] == 1


def test_an_engine_with_more_room_answers_what_was_too_long_before(local, folder, tmp_path, monkeypatch):
    def blocks(rows, _model, params, _runtime):
        to_engine, from_engine = ray_writer.row_functions(params)
        for row in rows:
            lamp = "Blue lamp" in row["prompt"]
            sent = to_engine(row | {"prompt": row["prompt"].replace("Blue lamp", "Lamp")})
            yield [
                row | {"generated_text": "", ERROR: "ValueError: the prompt is too long"}
                if lamp and params.context_tokens < 8192
                else from_engine(engine({**row, **sent}))
            ]

    monkeypatch.setattr(ray_writer, "ray_blocks", blocks)
    runtime = Runtime(cache=tmp_path / "cache")
    tight = describe_items(ITEMS, PICTURES, params_of(folder, context_tokens=100), runtime)
    assert (1, "text") not in views(tight)
    described = describe_items(ITEMS, PICTURES, params_of(folder), runtime)
    assert views(described)[1, "text"] == "Category: Lamp. Colours: text." and described.report["text_failed"] == 0


def test_a_spent_budget_ends_the_run_and_a_raised_one_goes_on(local, folder, tmp_path):
    cache, spent = tmp_path / "cache", r"token_budget.*240 tokens of 120 are spent on llava@"  # a block of two
    for _ in range(2):  # the second asks nothing
        with pytest.raises(InputError, match=spent):
            describe_items(ITEMS, PICTURES, params_of(folder), Runtime(cache=cache, token_budget=120))
    with open_store(Runtime(cache=cache).responses_path) as store:
        assert store.size().output_tokens == 40
    priced = Runtime(cache=cache, cost_budget=0.0003, input_price=1.0)
    with pytest.raises(InputError, match="cost_budget"):
        describe_items(ITEMS, PICTURES, params_of(folder), priced)
    described = describe_items(ITEMS, PICTURES, params_of(folder), Runtime(cache=cache))
    assert views(described) == EXPECTED


def test_a_row_holds_the_shrunk_picture_and_the_schema(local, folder):
    request = ray_writer.Request(0, "joint", "Describe", PICTURES["picture"][0])
    writer = params_of(folder, picture_side=32).writer
    row = ray_writer.request_row("k", request, writer)
    assert base64.b64decode(row["picture"])[:2] == b"\xff\xd8" and "summary" in json.loads(row["schema"])["required"]
    to_engine, _ = ray_writer.row_functions(writer)
    sampling = to_engine(row)["sampling_params"]
    assert sampling["max_tokens"] == writer.max_tokens and sampling["temperature"] == 0
    assert to_engine(row | {"schema": ""})["sampling_params"].keys() == {"max_tokens", "temperature"}
    assert (
        ray_writer.request_row("k", request._replace(picture=PICTURES["picture"][1]), writer)["picture"]
        != row["picture"]
    )


def test_a_model_that_sees_nothing_or_without_weights_is_refused(local, folder, tmp_path):
    llama = tiny_models.llama(tmp_path / "llama")
    with pytest.raises(InputError, match="a model that sees"):
        describe_items(ITEMS, PICTURES, params_of(llama), Runtime(cache=tmp_path / "cache"))
    untrained = params_of(folder, model={"kind": "path", "path": str(folder), "weights": "random"})
    with pytest.raises(InputError, match="pretrained"):
        describe_items(ITEMS, PICTURES, untrained, Runtime(cache=tmp_path / "cache"))


def test_without_ray_one_line_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # its import fails as where it is not installed
    with pytest.raises(InputError, match=r"pip install -e"):
        describe_items(ITEMS, PICTURES, params_of(folder), Runtime(cache=tmp_path / "cache"))


@needs_ray
def test_row_functions_run_where_this_package_is_not():
    from ray import cloudpickle

    functions = ray_writer.row_functions(RayParams(backend="ray", model={"kind": "path", "path": "x"}))
    script = (
        "import sys, pickle; sys.modules['sidflow'] = None; to, back = pickle.loads(sys.stdin.buffer.read()); "
        "print(to(dict(key='k', prompt='p', picture='', schema=''))['messages'][0]['content'][0]['text'])"
    )
    sent = cloudpickle.dumps(functions)
    done = subprocess.run([sys.executable, "-c", script], input=sent, capture_output=True)
    assert done.stdout.strip() == b"p", done.stderr.decode()[-500:]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(functions)


@needs_ray
def test_a_real_dataset_of_ray_brings_every_answer_back(folder, tmp_path, monkeypatch):
    def processor(_model, params, _runtime):
        to_engine, from_engine = ray_writer.row_functions(params)
        return lambda dataset: dataset.map(
            lambda row: row if (row := engine({**row, **to_engine(row)}))[ERROR]
            else from_engine(row) | {ERROR: ""}
        )  # fmt: skip

    import ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not find the tests
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        monkeypatch.setattr(ray_writer, "engine_processor", processor)
        runtime = Runtime(cache=tmp_path / "cache")
        described = describe_items(ITEMS, PICTURES, params_of(folder), runtime)
        assert views(described) == EXPECTED
        again = describe_items(ITEMS, PICTURES, params_of(folder), runtime)
        assert file_hash(described) == file_hash(again) and described.report == again.report
    finally:
        ray.shutdown()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@needs_ray
def test_the_processor_s_config_is_one_that_ray_takes(folder, monkeypatch):
    import ray.data.llm

    built = {}
    monkeypatch.setattr(ray.data.llm, "build_processor", lambda config, **functions: built.update(config=config))
    runtime = Runtime(engines=8, engine_gpus=2, concurrency=64)
    writer = params_of(folder, context_tokens=1024).writer
    ray_writer.engine_processor(ray_writer.prompted_model(writer.model, "x"), writer, runtime)
    config = built["config"]
    assert isinstance(config, ray.data.llm.vLLMEngineProcessorConfig)
    assert (config.concurrency, config.batch_size, config.engine_kwargs["tensor_parallel_size"]) == (8, 64, 2)
    assert config.engine_kwargs["max_model_len"] == 1024 and config.prepare_multimodal_stage["enabled"]
