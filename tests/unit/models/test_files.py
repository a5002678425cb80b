"""Hub models: what of a commit has to be in the cache before it is taken as the whole model."""

import shutil

import numpy as np
import pytest
from huggingface_hub import constants
from tests.unit.features.test_sentence_layers import BIAS, DOCUMENTS, WIDE, write_dense, write_modules
from tests.unit.features.test_text_model import quiet, saved
from tests.unit.mme_sid.conftest import tokenizer
from tests.unit.models.hub_server import serving

from sidflow.core.errors import InputError
from sidflow.features.params import TransformerEncoder
from sidflow.features.text_model import encode_documents
from sidflow.models import files
from sidflow.models.params import ModelParams

__all__ = ["quiet", "tokenizer"]

REPO, COMMIT = "owner/name", "0123456789abcdef0123456789abcdef01234567"
HUB = ModelParams(kind="hub", repo=REPO, commit=COMMIT)


@pytest.fixture
def published(tokenizer, tmp_path):
    """The folder that the hub has, with a layer above the pooling."""
    folder = saved("bert", tokenizer, tmp_path / "published")
    write_modules(folder, "Transformer", "Pooling", "Dense")
    write_dense(folder, "2_Dense", WIDE, BIAS)
    return folder


@pytest.fixture
def snapshot(monkeypatch, tmp_path):
    """The commit's folder in a hub cache that is empty, without network."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(files, "hub_cache", lambda: str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache / "models--owner--name" / "snapshots" / COMMIT


def vectors(model):
    return encode_documents(DOCUMENTS, TransformerEncoder(kind="transformer", model=model, centre=False), "x", 1).values


def test_a_part_of_a_commit_in_the_cache_is_not_taken_for_the_model(published, snapshot, monkeypatch):
    shutil.copytree(published, snapshot)
    shutil.rmtree(snapshot / "2_Dense")
    (snapshot / "modules.json").unlink()  # as AutoModel.from_pretrained leaves it
    with pytest.raises(InputError, match=r"owner/name: expected all files of commit 0123.*run once with") as raised:
        vectors(HUB)
    assert "\n" not in raised.value.line()
    whole = vectors(ModelParams(kind="path", path=str(published)))
    with serving(published, REPO, COMMIT, monkeypatch):
        np.testing.assert_array_equal(vectors(HUB), whole)
    np.testing.assert_array_equal(vectors(HUB), whole)  # without network again
    (snapshot / "2_Dense/model.safetensors").unlink()
    with pytest.raises(InputError, match="in the local cache or on the hub; found") as raised:
        vectors(HUB)
    assert "\n" not in raised.value.line()
