import numpy as np
import pytest
import torch

from sidflow.mme_sid.model import MmeSid, encode
from sidflow.mme_sid.params import FinetuneParams
from sidflow.mme_sid.start import initialise_from_items
from sidflow.sequences.windows import recent_windows
from sidflow.training.devices import prepare_training


def fresh(tiny, backbone, **changes):
    prepare_training(2, 1)
    params = FinetuneParams(**changes)
    return MmeSid(backbone, tiny.inputs(), tiny.histories(), params)


def own_scores(model):
    windows = recent_windows([[item] for item in range(12)], 1)
    return encode(model.backbone, model.all_tokens(), windows) @ model.fusion.item_matrix().T


def test_tokens_have_the_size_asked_for_and_little_in_common(tiny, backbone):
    model = fresh(tiny, backbone)
    initialise_from_items(model, 3.0)
    words = backbone.model.get_input_embeddings().weight
    tokens = model.all_tokens()[:12]
    size = tokens.square().mean().sqrt() / words.square().mean().sqrt()
    assert 2.4 < float(size) < 3.6
    assert tokens.mean(0).norm() < 0.3 * tokens.norm(dim=1).mean()


def test_an_item_alone_scores_itself_and_its_likes_high(tiny, backbone):
    model = fresh(tiny, backbone)
    plain = own_scores(model).detach()
    initialise_from_items(model, 4.0)
    settled = own_scores(model).detach()

    def margin(scores):
        return float(((scores.diag() - scores.mean(1)) / scores.std(1)).mean())

    assert margin(settled) > 1.5
    assert margin(plain) < 1.0


def test_a_core_of_equal_items_starts_with_tokens_of_the_size_of_words(tiny, backbone):
    """There is no spread to divide by."""
    inputs = tiny.inputs()
    for name, modality in inputs.modalities.items():
        raw, codes = modality.raw.copy(), modality.codes.copy()
        raw[:12], codes[:12] = raw[0], codes[0]
        inputs.modalities[name] = modality._replace(raw=raw, codes=codes)
    prepare_training(2, 1)
    model = MmeSid(backbone, inputs, tiny.histories(), FinetuneParams())
    initialise_from_items(model, 1.0)
    words = float(backbone.model.get_input_embeddings().weight.square().mean().sqrt())
    assert float(model.all_tokens().square().mean(1).sqrt().max()) < 30 * words


def test_it_works_without_some_parts_and_keeps_codes(tiny, backbone):
    for change in ({"raw": False}, {"codes": False}, {"readout": "response"}):
        model = fresh(tiny, backbone, **change)
        before = {name: part.vectors.clone() for name, part in model.item_tokens.codes.items()}
        initialise_from_items(model, 4.0)
        assert torch.isfinite(own_scores(model)).all()
        assert model.training
        for name, part in model.item_tokens.codes.items():
            assert torch.equal(part.vectors, before[name])


@pytest.mark.parametrize("present_core_items", [[], [3], [2, 5, 9]])
def test_a_modality_that_few_items_have_keeps_tokens_small(tiny, backbone, present_core_items):
    inputs = tiny.inputs()
    image = inputs.modalities["image"]
    mask = image.present.copy()
    mask[:12] = np.isin(np.arange(12), present_core_items)
    codes = np.where(mask[:, None], image.codes, -1)
    inputs.modalities["image"] = image._replace(present=mask, raw=image.raw * mask[:, None], codes=codes)
    prepare_training(2, 1)
    model = MmeSid(backbone, inputs, tiny.histories(), FinetuneParams())
    initialise_from_items(model, 3.0)
    tokens = model.all_tokens()
    sizes = tokens.square().mean(1).sqrt()
    words = float(backbone.model.get_input_embeddings().weight.square().mean().sqrt())
    assert float(sizes.max()) < 30 * words
    part = model.item_tokens.raw["image"]
    if present_core_items:
        expected = part.project(part.raw[torch.tensor(present_core_items)]).mean(0)
        torch.testing.assert_close(part.missing, expected)
