"""Picture embeddings by trained models: tiny ones of several families, through the real loading code."""

import io

import numpy as np
import polars as pl
import pytest
import torch
import transformers as hf
from PIL import Image
from transformers.utils import logging

from sidflow.core.errors import InputError
from sidflow.features import vision
from sidflow.features.params import VisionEncoder
from sidflow.features.vision import encode_pictures_by_model
from sidflow.models.params import ModelParams

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
EYE = SIZES | {"image_size": 32, "patch_size": 8, "initializer_range": 0.3}
WORDS = SIZES | {"vocab_size": 40, "max_position_embeddings": 16}
SIZE = {"height": 32, "width": 32}


def tiny(family):
    """Return a model and its image processor."""
    if family == "clip":
        model = hf.CLIPModel(hf.CLIPConfig(text_config=WORDS, vision_config=EYE, projection_dim=16))
        return model, hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE)
    if family == "siglip":
        model = hf.SiglipModel(hf.SiglipConfig(text_config=WORDS, vision_config=EYE))
        return model, hf.SiglipImageProcessorPil(size=SIZE)
    if family == "vit":
        return hf.ViTForImageClassification(hf.ViTConfig(**EYE)), hf.ViTImageProcessorPil(size=SIZE)
    if family == "vit_mae":
        decoder = {f"decoder_{name}": value for name, value in SIZES.items()}
        return hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**EYE, **decoder)), hf.ViTImageProcessorPil(size=SIZE)
    eye = {name: value for name, value in EYE.items() if name != "intermediate_size"}
    model = hf.Dinov2Model(hf.Dinov2Config(**eye))
    return model, hf.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SIZE)


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path, request):
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "cache"))
    request.addfinalizer(logging.enable_progress_bar)
    logging.disable_progress_bar()


def saved(family, folder):
    torch.manual_seed(0)
    model, processor = tiny(family)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def jpeg(seed, size=(40, 48)):
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURES = [jpeg(seed, size) for seed, size in enumerate([(40, 48), (64, 32), (33, 33), (40, 48), (90, 30)])]
ITEMS = [0, 2, 3, 5, 6]


def images(pictures=PICTURES, ids=ITEMS):
    return pl.DataFrame({"item_id": ids, "picture": pictures})


def encoder(folder, **more):
    return VisionEncoder(kind="vision", model=ModelParams(kind="path", path=str(folder)), **more)


def by_transformers(folder, picture, pooling):
    """The vector of one picture by itself, in the way of each family's documentation."""
    model = hf.AutoModel.from_pretrained(folder).eval()
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with Image.open(io.BytesIO(picture)) as opened, torch.inference_mode():
        pixels = processor(images=opened.convert("RGB"), return_tensors="pt")["pixel_values"]
        if pooling == "own":
            found = model.get_image_features(pixels) if hasattr(model, "get_image_features") else model(pixels)
            return found.pooler_output[0].numpy()
        states = getattr(model, "vision_model", model)(pixel_values=pixels).last_hidden_state[0]
    return (states[0] if pooling == "cls" else states[-16:].mean(0)).numpy()  # 4 x 4 patches


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        ("clip", "own"),
        ("siglip", "own"),
        ("siglip", "mean"),
        ("dinov2", "own"),
        ("dinov2", "cls"),
        ("dinov2", "mean"),
        ("vit", "cls"),
    ],
)
def test_each_vector_is_that_of_its_picture_alone(family, pooling, tmp_path):
    folder = saved(family, tmp_path / "model")
    (values, present), record = encode_pictures_by_model(
        images(), 8, encoder(folder, pooling=pooling, centre=False, batch_size=2), "x", 1
    )
    assert present.tolist() == [row in ITEMS for row in range(8)]
    assert not values[~present].any()
    assert record["trained_weights"] is True
    for item, picture in zip(ITEMS, PICTURES, strict=True):
        expected = by_transformers(folder, picture, pooling)
        np.testing.assert_allclose(values[item], expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_masked_autoencoder_reads_every_patch(pooling, tmp_path, monkeypatch):
    folder = saved("vit_mae", tmp_path / "model")
    runs = []
    for name in ("one", "other"):
        monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / name))
        rows, _ = encode_pictures_by_model(images(), 8, encoder(folder, pooling=pooling, centre=False), "x", 1)
        runs.append(rows.values)
    assert runs[0].tobytes() == runs[1].tobytes()
    masked = hf.ViTMAEModel.from_pretrained(folder)
    whole = hf.ViTModel(hf.ViTConfig(**EYE), add_pooling_layer=False)  # the same network, which masks nothing
    whole.load_state_dict(masked.state_dict())
    processor = hf.AutoImageProcessor.from_pretrained(folder, backend="pil")
    for item, picture in zip(ITEMS, PICTURES, strict=True):
        with Image.open(io.BytesIO(picture)) as opened, torch.inference_mode():
            pixels = processor(images=opened.convert("RGB"), return_tensors="pt")["pixel_values"]
            states = whole.eval()(pixels).last_hidden_state[0]
        expected = (states[0] if pooling == "cls" else states[1:].mean(0)).numpy()
        np.testing.assert_allclose(runs[0][item], expected / np.linalg.norm(expected), atol=1e-5)


def test_new_pictures_cost_only_themselves_and_bytes_are_the_same(tmp_path, monkeypatch):
    settings = encoder(saved("clip", tmp_path / "model"), batch_size=2)
    encode_pictures_by_model(images(PICTURES[:2], [0, 1]), 2, settings, "x", 1)
    asked, encode = [], vision.ImageModel.encode

    def noted(self, pictures, positions):
        asked.extend(positions)
        return encode(self, pictures, positions)

    monkeypatch.setattr(vision.ImageModel, "encode", noted)
    (grown, _), _ = encode_pictures_by_model(images(), 8, settings, "x", 1)
    assert asked == [2, 3, 4]
    monkeypatch.setenv("SIDFLOW_CACHE", str(tmp_path / "other"))
    (fresh, _), _ = encode_pictures_by_model(images(), 8, settings, "x", 1)
    assert grown.tobytes() == fresh.tobytes()


def test_no_picture_at_all(tmp_path):
    folder = saved("clip", tmp_path / "model")
    (values, present), _ = encode_pictures_by_model(images([], []), 3, encoder(folder), "x", 1)
    assert values.shape == (3, 1)
    assert not present.any()


@pytest.mark.parametrize(
    ("family", "pooling", "message"),
    [("siglip", "cls", r"encoders\.x\.pooling.*SigLIP"), ("vit", "own", r"all weights of a ViTModel.*pooler")],
)
def test_a_vector_that_a_model_lacks_is_one_clear_line(family, pooling, message, tmp_path):
    folder = saved(family, tmp_path / "model")
    with pytest.raises(InputError, match=message):
        encode_pictures_by_model(images(), 8, encoder(folder, pooling=pooling), "x", 1)


def test_a_folder_without_a_processor_is_one_clear_line(tmp_path):
    folder = saved("clip", tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="a model folder with an image processor"):
        encode_pictures_by_model(images(), 8, encoder(folder), "x", 1)
