"""Item tokens: code vectors, missing parts, and one computation per item."""

import numpy as np
import polars as pl
import pytest
import torch

from sidflow.artifacts.features import MODALITY
from sidflow.artifacts.semantic_ids import QUANTIZER, SEMANTIC_IDS
from sidflow.core.errors import InputError
from sidflow.mme_sid.item_tokens import ItemTokens, load_item_inputs
from sidflow.mme_sid.params import FinetuneParams


def test_a_code_vector_sum_is_what_the_codebooks_say(tiny):
    inputs = tiny.inputs()
    tokens = ItemTokens(inputs.modalities, tiny.hidden, FinetuneParams())
    own = inputs.modalities["image"]
    expected = own.codebooks[0][own.codes[:, 0]] + own.codebooks[1][own.codes[:, 1]]
    found = tokens.codes["image"].sums(torch.arange(14))
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)


def test_codebooks_as_wide_as_the_model_are_used_as_they_are(tiny):
    inputs = tiny.inputs(code_dim=tiny.hidden)
    part = ItemTokens(inputs.modalities, tiny.hidden, FinetuneParams()).codes["image"]
    torch.testing.assert_close(part(torch.arange(14)), part.sums(torch.arange(14)))


def test_random_codebooks_share_scale_but_not_geometry(tiny):
    inputs = tiny.inputs()
    torch.manual_seed(0)
    part = ItemTokens(inputs.modalities, tiny.hidden, FinetuneParams(codebook_init="random")).codes["image"]
    books = torch.from_numpy(inputs.modalities["image"].codebooks)
    assert 0.7 < float(part.vectors.detach().std() / books.std()) < 1.4
    assert abs(float(torch.corrcoef(torch.stack([part.vectors.detach().flatten(), books.flatten()]))[0, 1])) < 0.4


def test_missing_values_become_the_learned_vector(tiny):
    tokens = ItemTokens(tiny.inputs().modalities, tiny.hidden, FinetuneParams())
    raw, codes = tokens.raw["text"], tokens.codes["text"]
    rows = torch.tensor([1, 5, 13])
    torch.testing.assert_close(raw(rows), raw.missing.expand(3, -1))
    torch.testing.assert_close(codes(rows), codes.missing.expand(3, -1))
    assert not torch.allclose(raw(torch.tensor([0]))[0], raw.missing)


def test_a_token_is_computed_once_per_item_and_equals_itself_alone(tiny):
    tokens = ItemTokens(tiny.inputs().modalities, tiny.hidden, FinetuneParams()).eval()
    items = torch.tensor([[3, 3, 7], [0, 13, 3]])
    found = tokens.of_sequences(items)
    torch.testing.assert_close(found[1, 1], tokens(torch.tensor([13]))[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[0, 0], found[1, 2])


def test_what_artifacts_hold_is_not_saved_with_the_weights(tiny):
    tokens = ItemTokens(tiny.inputs().modalities, tiny.hidden, FinetuneParams())
    assert set(tokens.state_dict()) == {name for name, _ in tokens.named_parameters()}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Artifacts of three items: `image` has the first two, `text` the last, `sound` none."""
    monkeypatch.chdir(tmp_path)
    presences = {"image": [True, True, False], "text": [False, False, True], "sound": [False] * 3}
    for place, (name, present) in enumerate(presences.items()):
        mask = np.array(present)
        values = (np.arange(6, dtype=np.float32).reshape(3, 2) + 10 * place) * mask[:, None]
        MODALITY.write({"values": values, "present": mask}, {}, name=name)
    books = {"image": np.ones((2, 4, 3), np.float32), "text": np.full((2, 4, 3), 2, np.float32)}
    described = {name: {"codes": [4, 4], "items": 1} for name in books}
    arrays = {f"codebooks.{name}": book for name, book in books.items()}
    QUANTIZER.write(arrays, {"modalities": described, "order": list(books)})
    types = {"item_id": pl.Int32, "modality": pl.String, "codes": pl.Array(pl.Int32, 2), "suffix": pl.Int32}
    rows = [(0, "image", [1, 2], 0), (1, "image", [3, 0], 0), (2, "text", [2, 3], 0)]
    SEMANTIC_IDS.write(pl.DataFrame(rows, schema=types, orient="row"))


def test_inputs_are_read_by_modality(written):
    counts = np.array([5, 7])
    inputs = load_item_inputs(["image", "sound", "text"], [], counts)
    assert list(inputs.modalities) == ["image", "text"]  # nobody has the other one
    assert inputs.counts is counts and inputs.items == 3
    image, text = inputs.modalities.values()
    assert image.codes.tolist() == [[1, 2], [3, 0], [-1, -1]] and text.codes.tolist() == [[-1, -1], [-1, -1], [2, 3]]
    assert image.present.tolist() == [True, True, False] and text.present.tolist() == [False, False, True]
    assert image.raw.tolist() == [[0, 1], [2, 3], [0, 0]] and text.raw[2].tolist() == [14, 15]
    assert (image.codebooks == 1).all() and (text.codebooks == 2).all() and text.codebooks.shape == (2, 4, 3)
    assert list(load_item_inputs(["image", "text"], ["image"], counts).modalities) == ["text"]


def test_inputs_that_do_not_fit_are_refused(written):
    with pytest.raises(InputError, match=r"names out of \['image'\]; found \['picture'\]"):
        load_item_inputs(["image"], ["picture"], np.array([5, 7]))
    with pytest.raises(InputError, match=r"at least one modality.*found none out of \['sound', 'text'\] without"):
        load_item_inputs(["sound", "text"], ["text"], np.array([5, 7]))
    types = {"item_id": pl.Int32, "modality": pl.String, "codes": pl.Array(pl.Int32, 3), "suffix": pl.Int32}
    SEMANTIC_IDS.write(pl.DataFrame([(0, "image", [1, 2, 3], 0)], schema=types, orient="row"))
    with pytest.raises(InputError, match=r"2 codes below 4 an item.*found 3 codes up to 3"):
        load_item_inputs(["image"], [], np.array([5, 7]))
    types["codes"] = pl.Array(pl.Int32, 2)
    SEMANTIC_IDS.write(pl.DataFrame([(0, "image", [1, 4], 0)], schema=types, orient="row"))
    with pytest.raises(InputError, match="found 2 codes up to 4"):
        load_item_inputs(["image"], [], np.array([5, 7]))
