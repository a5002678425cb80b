import io
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.unit.semantics import tiny_models
from tests.unit.semantics.test_rules import images_table, item, items_table

from sidflow.artifacts.features import SEMANTICS
from sidflow.core.errors import InputError
from sidflow.core.runtime import Runtime
from sidflow.models import batching
from sidflow.semantics import transformers_writer
from sidflow.semantics.describe import describe_items
from sidflow.semantics.params import DescribeParams, OpenAIParams, ReplayParams, TransformersParams
from sidflow.semantics.requests import Request, request_key
from sidflow.semantics.store import open_store
from sidflow.semantics.transformers_writer import TransformersWriter

ROOT = Path(__file__).resolve().parents[3]


def picture_of(colour, size=(40, 40)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format="JPEG")
    return buffer.getvalue()


RED, BLUE, WIDE = picture_of("red"), picture_of("blue"), picture_of("green", (80, 48))
SEEING = [
    tiny_models.llava,
    tiny_models.idefics3,
    tiny_models.idefics3_split,
    tiny_models.smolvlm,
    tiny_models.smolvlm_split,
    tiny_models.qwen,
    tiny_models.qwen3,
    tiny_models.gemma3,
]
QUESTIONS = {
    f"{0:063x}{i}": Request(i, "joint", f"Describe: {'a red mug ' * (i + 1)}", picture)
    for i, picture in enumerate([RED, BLUE, WIDE, RED])
}
WORDS = {key: request._replace(view="text", picture=None) for key, request in QUESTIONS.items()}


@pytest.fixture(scope="module", params=[*SEEING, tiny_models.llama], ids=lambda family: family.__name__)
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("models") / request.param.__name__)


def params_of(folder, **changes):
    return TransformersParams(
        backend="transformers", model={"kind": "path", "path": str(folder)}, **{"max_tokens": 16, **changes}
    )


def writer_of(folder, **changes):
    return TransformersWriter(params_of(folder, **changes), Runtime(device="cpu"))


def answers(writer, requests):
    return {response.key: response for batch in writer.respond(requests) for response in batch}


def sees(folder):
    return folder.name != "llama"


def test_a_batch_answers_as_its_requests_one_by_one(folder):
    requests = (QUESTIONS if sees(folder) else {}) | {f"1{key[1:]}": request for key, request in WORDS.items()}
    writer = writer_of(folder)
    together = answers(writer, requests)
    alone = {}
    for key, request in requests.items():
        alone |= answers(writer, {key: request})
    assert together == alone and together.keys() == requests.keys()
    assert len({response.text for response in together.values()}) > len(together) // 2
    for response in together.values():
        assert response.finish_reason == "stop" or response.output_tokens == 16
        assert response.input_tokens > 10 and 1 <= response.output_tokens <= 16


def test_what_prompts_share_is_read_once_and_answers_stay(folder, monkeypatch):
    asked = "You describe products for a catalogue search, and read what a shop says about one item. "
    long = {key: request._replace(prompt=asked + request.prompt) for key, request in WORDS.items()}
    lengths = []
    generate = transformers_writer.batch_inputs

    def counted(*args):
        inputs = generate(*args)
        cache = inputs.get("past_key_values")
        lengths.append(0 if cache is None else cache.get_seq_length())
        return inputs

    monkeypatch.setattr(transformers_writer, "batch_inputs", counted)
    together, alone = answers(writer_of(folder), long), {}
    assert len(lengths) == (folder.name == "llama") and all(length > 16 for length in lengths)
    writer = writer_of(folder)
    for key, request in long.items():
        alone |= answers(writer, {key: request})
    assert set(lengths[1:]) <= {0} and together == alone


def test_rows_that_ended_leave_the_batch_and_answers_stay(llama, monkeypatch):
    texts = {f"{number:064x}": f"Tell what a shop sells, in words. {'a red mug ' * number}" for number in range(1, 9)}
    requests = {key: next(iter(WORDS.values()))._replace(prompt=prompt) for key, prompt in texts.items()}
    writer, rows, alone = writer_of(llama, max_tokens=90), [], {}
    writer._loaded_encoder()
    settings, generate = writer._network.generation_config, writer._network.generate
    settings.eos_token_id = list(range(3, writer._network.config.vocab_size, 60))  # a model of random weights ends late

    def counted(**inputs):
        rows.append(len(inputs["input_ids"]))
        return generate(**inputs)

    monkeypatch.setattr(writer._network, "generate", counted)
    together = answers(writer, requests)
    lengths = [response.output_tokens for response in together.values()]
    assert rows == [sum(length > 16 * before for length in lengths) for before in range(len(rows))]
    assert rows[0] == 8 > rows[-1] > 0
    for key, request in requests.items():
        alone |= answers(writer, {key: request})
    assert together == alone


def test_bf16_is_one_param_away(folder):
    writer = writer_of(folder, dtype="bf16")
    got = answers(writer, WORDS)
    assert next(writer._network.parameters()).dtype == torch.bfloat16
    assert got.keys() == WORDS.keys() and all(response.output_tokens for response in got.values())


def test_a_dtype_that_params_choose_and_the_absence_of_a_schema_are_part_of_the_key():
    def key(cls, **settings):
        return request_key(next(iter(WORDS.values())), "model", "revision", cls(**settings))

    local = {"backend": "transformers", "model": {"kind": "path", "path": "model"}}
    replay = {"backend": "replay", "model": "model", "revision": "revision"}
    server = {**replay, "backend": "openai"}
    by_dtype = {dtype: key(TransformersParams, **local, dtype=dtype) for dtype in ("auto", "fp32", "bf16")}
    assert len(set(by_dtype.values())) == 3
    assert by_dtype["auto"] == key(OpenAIParams, **server) == key(ReplayParams, **replay)
    assert by_dtype["bf16"] == key(ReplayParams, **replay, dtype="bf16")
    free = key(OpenAIParams, **server, json_schema=False)
    assert free == key(ReplayParams, **replay, json_schema=False) and free not in by_dtype.values()
    # stores are filled with such keys
    assert by_dtype["auto"] == "33932f2d7b7d6c8e6a565f562ca25fb6042ff24f3a8c88f83fba0543ac56d507"


def test_pictures_reach_the_model(folder):
    if not sees(folder):
        with pytest.raises(InputError, match="sees") as raised:
            answers(writer_of(folder), QUESTIONS)
        assert "\n" not in str(raised.value) and "item 0" in str(raised.value)
        return
    writer = writer_of(folder)
    encoder = writer._loaded_encoder()
    logits = []
    for picture in (RED, BLUE):
        inputs = encoder.encode("Describe", picture, 448)
        with torch.inference_mode():
            logits.append(writer._network(**inputs).logits[0, -1])
    assert (logits[0] - logits[1]).abs().max() > 1e-4


@pytest.mark.parametrize("family", [tiny_models.idefics3, tiny_models.smolvlm])
@pytest.mark.parametrize(("splitting", "pictures"), [(False, 1), (True, 5)])
def test_a_picture_is_cut_into_tiles_where_the_checkpoint_says_so(family, splitting, pictures, tmp_path):
    writer = writer_of(family(tmp_path / "model", splitting))
    inputs = writer._loaded_encoder().encode("Describe", RED, 448)
    assert inputs["pixel_values"].shape == (1, pictures, 3, 32, 32)  # four tiles and the whole
    assert (inputs["input_ids"] == writer._model.config.image_token_id).sum() == 4 * pictures


@pytest.mark.parametrize("words", ["<image>", "<|image_pad|> </s> <boi>", "<s>"])
def test_words_of_an_item_are_no_special_tokens(folder, words):
    picture = RED if sees(folder) else None
    encoder = writer_of(folder)._loaded_encoder()
    plain = encoder.encode("Describe", picture, 448)["input_ids"]
    marked = encoder.encode(f"Describe {words}", picture, 448)["input_ids"]
    special = torch.tensor(encoder.tokenizer.all_special_ids)
    assert torch.isin(marked, special).sum() == torch.isin(plain, special).sum()


def test_qwen_is_read_without_its_processor_and_the_others_with_it(folder):
    encoder = writer_of(folder)._loaded_encoder()
    assert (encoder._processor is None) == (folder.name in ("qwen", "qwen3", "llama"))
    assert (encoder._pictures is not None) == (folder.name in ("qwen", "qwen3", "smolvlm", "smolvlm_split"))


def test_too_little_memory_halves_the_batch(folder, monkeypatch):
    writer = writer_of(folder)
    expected = answers(writer, WORDS)
    generate, sizes = writer._generate, []

    def small_memory(batch):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("full")
        return generate(batch)

    monkeypatch.setattr(writer, "_generate", small_memory)
    assert answers(writer, WORDS) == expected
    assert sizes == [4, 2, 1, 1, 1, 1]


def test_keys_and_values_of_a_batch_stay_below_their_limit(folder, monkeypatch):
    token_bytes = writer_of(folder)._model.token_bytes
    longest = max(response.input_tokens for response in answers(writer_of(folder), WORDS).values()) + 16
    monkeypatch.setitem(batching.BATCH_BYTES, "cpu", 2 * longest * token_bytes)
    writer, sizes = writer_of(folder), []
    generate = writer._generate
    monkeypatch.setattr(writer, "_generate", lambda batch: (sizes.append(len(batch)), generate(batch))[1])
    answers(writer, WORDS)
    assert sum(sizes) == len(WORDS) == 4 and sizes in ([2, 2], [3, 1])


def test_a_tokens_bytes_are_those_of_the_cache(llama):
    writer = writer_of(llama)
    encoder = writer._loaded_encoder()
    cache = writer._network(**encoder.encode("mug", None, 448), use_cache=True).past_key_values
    kept = sum(part.nbytes for layer in cache.layers for part in (layer.keys, layer.values))
    assert writer._model.token_bytes * cache.get_seq_length() == kept


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "llama")


def test_too_little_memory_for_one_request_is_an_error_of_one_line(llama, monkeypatch):
    writer = writer_of(llama)

    def no_memory(_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(writer, "_generate", no_memory)
    with pytest.raises(InputError, match="memory for one request"):
        answers(writer, WORDS)


def test_the_key_has_the_hash_of_the_weights(llama, tmp_path):
    first = writer_of(llama)
    assert first.model == "llama" and len(first.revision) == 64
    other = tiny_models.llava(tmp_path / "llava")
    assert writer_of(other).revision != first.revision


def test_a_prompt_beyond_the_context_is_rejected_and_costs_no_other(llama):
    long = {"f" * 64: Request(9, "text", "mug " * 3000, None)}
    got = answers(writer_of(llama), WORDS | long)
    assert got["f" * 64].finish_reason == "rejected" and "2048" in got["f" * 64].text
    assert all(got[key].finish_reason != "rejected" for key in WORDS)


def test_a_second_run_asks_only_what_is_missing(llama, tmp_path, monkeypatch):
    params = DescribeParams(views=("text",), writer=params_of(llama, attempts=1), max_failed_share=1.0)
    runtime = Runtime(device="cpu", cache=tmp_path / "cache")
    items = [item(0, "Red mug", "Holds tea."), item(1, "Blue lamp")]
    counts = []
    generate = transformers_writer.TransformersWriter._generate

    def counted(self, batch):
        counts.append(len(batch))
        return generate(self, batch)

    monkeypatch.setattr(transformers_writer.TransformersWriter, "_generate", counted)
    first = describe_items(items_table(*items), images_table(), params, runtime)
    assert sum(counts) == 2 and first.report["output_tokens"] > 0
    again = describe_items(items_table(*items), images_table(), params, runtime)
    assert sum(counts) == 2 and again.report == first.report
    describe_items(items_table(*items, item(2, "Desk")), images_table(), params, runtime)
    assert sum(counts) == 3


def test_a_spent_budget_ends_the_run_after_its_batch(llama, tmp_path):
    params = DescribeParams(views=("text",), writer=params_of(llama, attempts=1), max_failed_share=1.0)
    items = items_table(*(item(number, f"Red mug {number}") for number in range(3)))
    limits = {"device": "cpu", "cache": tmp_path / "cache"}
    describe_items(items[:1], images_table(), params, Runtime(**limits))
    with pytest.raises(InputError, match=r"token_budget.*are spent on llama@"):
        describe_items(items, images_table(), params, Runtime(**limits, token_budget=1))
    assert describe_items(items[:1], images_table(), params, Runtime(**limits, token_budget=1)).report["items"] == 1
    with pytest.raises(InputError, match="token_budget"):
        describe_items(items, images_table(), params, Runtime(device="cpu", cache=tmp_path / "new", token_budget=1))
    assert describe_items(items, images_table(), params, Runtime(**limits)).report["items"] == 3


def test_two_runs_with_a_store_of_their_own_write_the_same_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "prompts", "prompts")
    items = [item(number, title) for number, title in enumerate(["Lamp", "A red mug of clay", "Lamp"])]
    pictures = images_table(i0=(200, 0, 0), i2=(0, 0, 200)) if sees(folder) else images_table()
    views = ("text", "keywords", "image", "joint")[: 4 if sees(folder) else 2]
    params = DescribeParams(views=views, writer=params_of(folder, attempts=1), max_failed_share=1.0)
    written = []
    for run in ("first", "second"):
        runtime = Runtime(device="cpu", responses=str(tmp_path / f"{run}.sqlite"))
        described = describe_items(items_table(*items), pictures, params, runtime)
        SEMANTICS.write(described.semantics)
        with open_store(tmp_path / f"{run}.sqlite") as store:
            assert store.size().responses > 0
            store.export(tmp_path / f"{run}.export")
        written.append((SEMANTICS.at().read_bytes(), described.report, answers_of(tmp_path / f"{run}.export")))
    assert written[0] == written[1]
    report = written[0][1]
    assert all(report[f"{view}_repeated"] <= report[f"{view}_views"] for view in views)


def answers_of(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT * FROM responses ORDER BY key").fetchall()
