"""Joint embeddings by tiny multimodal models of real classes, through the loading code of the writer."""

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError
from tests.unit.semantics import tiny_models
from tests.unit.semantics.test_rules import item, items_table
from tests.unit.semantics.test_transformers_writer import BLUE, RED, SEEING, WIDE

from sidflow.artifacts.catalog import IMAGES
from sidflow.artifacts.features import SEMANTICS
from sidflow.artifacts.item_content import item_texts
from sidflow.core.errors import InputError
from sidflow.features import mllm
from sidflow.features.encode import run_encoders
from sidflow.features.mllm import encode_jointly
from sidflow.features.params import EmbedParams, MllmEncoder
from sidflow.models.params import ModelParams

ITEMS = items_table(
    item(0, "Red mug", "Holds tea."), item(1, "Red mug", "Holds tea."), item(2, "A blue lamp of oak"), item(3), item(4)
)
PICTURES = pl.DataFrame(
    [(0, RED, 40, 40), (1, BLUE, 40, 40), (3, WIDE, 80, 48)], schema=IMAGES.empty().schema, orient="row"
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=SEEING, ids=lambda family: family.__name__)
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("models") / request.param.__name__)


def params_of(folder, **changes):
    return MllmEncoder(kind="mllm", model=ModelParams(kind="path", path=str(folder)), **changes)


def encode(folder, items=ITEMS, pictures=PICTURES, **changes):
    (values, present), _ = encode_jointly(item_texts(items), pictures, params_of(folder, **changes), "joint")
    return values, present


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_words_and_pictures_both_reach_the_vector(folder, pooling):
    values, present = encode(folder, pooling=pooling, centre=False)
    assert present.tolist() == [True, True, True, True, False]
    np.testing.assert_allclose(np.linalg.norm(values[:4], axis=1), 1, atol=1e-6)
    assert not values[4].any()
    assert np.abs(values[0] - values[1]).max() > 1e-3  # same words, another picture
    without, _ = encode(folder, pictures=PICTURES[:0], pooling=pooling, centre=False)
    assert np.abs(without[0] - without[1]).max() == 0  # same words, no picture
    assert np.abs(without[2] - values[2]).max() == 0
    renamed = items_table(item(0, "Green chair", "Of oak."), *(item(row) for row in range(1, 5)))
    other, _ = encode(folder, renamed, pooling=pooling, centre=False)
    assert np.abs(other[0] - values[0]).max() > 1e-3  # other words, same picture
    assert (other[3] == values[3]).all()


def test_a_vector_is_the_state_of_the_model_s_own_class(folder):
    values, _ = encode(folder, centre=False)
    model = mllm.MultimodalModel(params_of(folder), "joint")
    network, inputs = mllm.load_prompted(model.located, torch.device("cpu"))
    question = model.question("Red mug. Holds tea", RED)
    with torch.inference_mode():
        alone = network(**inputs.encode(question.prompt, RED, 448), output_hidden_states=True).hidden_states[-1][0, -1]
    np.testing.assert_allclose(values[0], alone / alone.norm(), atol=1e-4)


def test_the_bits_of_a_vector_do_not_depend_on_other_items_and_new_items_cost_themselves(folder, monkeypatch):
    whole, _ = encode(folder, centre=False)
    encoded = []
    original = mllm.MultimodalModel._padded

    def counted(self, inputs, question):
        encoded.append(question)
        return original(self, inputs, question)

    monkeypatch.setattr(mllm.MultimodalModel, "_padded", counted)
    again, _ = encode(folder, centre=False)
    assert not encoded and again.tobytes() == whole.tobytes()
    more = pl.concat([ITEMS, items_table(item(5, "Desk"))])
    grown, _ = encode(folder, more, centre=False)
    assert len(encoded) == 1 and grown[:5].tobytes() == whole.tobytes()


def test_the_bits_are_the_same_without_the_cache(folder, monkeypatch, tmp_path):
    whole, _ = encode(folder, centre=False)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "other"))
    few, _ = encode(folder, ITEMS[:1], PICTURES[:1], centre=False)
    assert few[0].tobytes() == whole[0].tobytes()


@pytest.mark.parametrize("family", [tiny_models.llava, tiny_models.qwen], ids=["llava", "qwen"])
def test_few_items_are_in_memory_at_a_time_and_the_bits_stay(family, monkeypatch, tmp_path):
    folder = family(tmp_path / "model")
    items = items_table(*(item(row, f"Mug {row:02} " + "of clay " * (row * 7 % 12)) for row in range(40)))
    rows = [(row, (RED, BLUE, WIDE)[row % 3], 40, 40) for row in range(0, 40, 2)]
    pictures = pl.DataFrame(rows, schema=IMAGES.empty().schema, orient="row")
    monkeypatch.setattr(mllm, "WAITING", 1000)
    whole, _ = encode(folder, items, pictures, centre=False, batch_size=2)
    held, most, batches = set(), [], []
    padded, vectors = mllm.MultimodalModel._padded, mllm.MultimodalModel._vectors

    def counted(self, inputs, question):
        encoded = padded(self, inputs, question)
        held.add(id(encoded["input_ids"]))
        most.append(len(held))
        return encoded

    def freed(self, network, batch):
        batches.append(len(batch))
        held.difference_update(id(one["input_ids"]) for one in batch)
        return vectors(self, network, batch)

    monkeypatch.setattr(mllm.MultimodalModel, "_padded", counted)
    monkeypatch.setattr(mllm.MultimodalModel, "_vectors", freed)
    monkeypatch.setattr(mllm, "WAITING", 3)
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "other"))
    windowed, _ = encode(folder, items, pictures, centre=False, batch_size=2)
    assert len(most) == 40 and max(most) <= 6
    assert set(batches) == {2}
    assert windowed.tobytes() == whole.tobytes()


def test_a_model_that_sees_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="reads text alone"):
        encode(tiny_models.llama(tmp_path / "llama"))


def test_a_prompt_needs_the_item(folder):
    with pytest.raises(ValidationError, match="item"):
        params_of(folder, prompt="What is it?")


def test_it_is_an_encoder_of_params(folder):
    params = EmbedParams(encoders={"joint": params_of(folder)})
    (output,) = run_encoders(ITEMS, PICTURES, SEMANTICS.empty(), params, 42)
    assert output.arrays["values"].shape == (5, 32) and output.metadata["encoder"]["kind"] == "mllm"
