import numpy as np
import pytest

from sidflow.core.errors import InputError
from sidflow.core.tensors import Tensors
from sidflow.semantic_ids import codec as codec_module
from sidflow.semantic_ids.codec import Codec


def test_rows_are_quantized_once_in_blocks_that_change_no_code(monkeypatch):
    draw = np.random.default_rng(0)
    arrays = {
        "codebooks.text": draw.normal(size=(2, 5, 3)).astype(np.float32),
        "mean.text": np.zeros(3, np.float32),
        "scale.text": np.ones(1, np.float32),
    }
    codec = Codec(Tensors(arrays, {"modalities": {"text": {"codes": [5, 4]}}}), "text")
    z = draw.normal(size=(11, 3))
    residual, expected = z, []
    for codebook in (arrays["codebooks.text"][0], arrays["codebooks.text"][1, :4]):  # the second level has 4 codes
        codes = ((residual[:, None] - codebook[None]) ** 2).sum(2).argmin(1)
        expected.append(codes.tolist())
        residual = residual - codebook[codes]
    assert codec.quantize(z).T.tolist() == expected
    sizes, choose = [], codec._nearest_codes
    monkeypatch.setattr(codec, "_nearest_codes", lambda level, rows: sizes.append(len(rows)) or choose(level, rows))
    monkeypatch.setattr(codec_module, "ROWS_PER_BLOCK", 4)
    assert codec.quantize(z).T.tolist() == expected
    assert sizes == [4, 4, 4, 4, 3, 3]


def test_rows_go_through_mean_scale_and_towers_and_back():
    """An encoder of two layers beside a linear map, and no decoder: what comes out is on the scale of the rows."""
    draw = np.random.default_rng(0)
    weights = {
        "encoder.text.0.weight": draw.normal(size=(5, 2)),
        "encoder.text.0.bias": draw.normal(size=5),
        "encoder.text.1.weight": draw.normal(size=(2, 5)),
        "encoder.text.1.bias": draw.normal(size=2),
        "encoder.text.skip.weight": draw.normal(size=(2, 2)),
    }
    arrays = {name: value.astype(np.float32) for name, value in weights.items()}
    arrays |= {
        "codebooks.text": np.zeros((1, 3, 2), np.float32),
        "mean.text": np.array([1.0, -2.0], np.float32),
        "scale.text": np.array([4.0], np.float32),
    }
    codec_metadata = {"modalities": {"text": {"codes": [3]}}}
    codec = Codec(Tensors(arrays, codec_metadata), "text")
    values = draw.normal(size=(6, 2)).astype(np.float32)
    inputs = (values.astype(np.float64) - [1, -2]) / 4
    np.testing.assert_allclose(codec.normalise(values), inputs, rtol=1e-12)
    hidden = np.maximum(inputs @ arrays["encoder.text.0.weight"].T + arrays["encoder.text.0.bias"], 0)
    expected = hidden @ arrays["encoder.text.1.weight"].T + arrays["encoder.text.1.bias"]
    expected = expected + inputs @ arrays["encoder.text.skip.weight"].T
    assert (expected < 0).any()  # the last layer has no rectifier
    np.testing.assert_allclose(codec.encode(values), expected, rtol=1e-9)
    np.testing.assert_allclose(codec.decode(inputs), values, rtol=1e-6)
    with pytest.raises(InputError, match=r"text\.safetensors: expected rows of 2 dimensions.*found 3 dimensions"):
        codec.quantized_part(np.zeros((1, 3)))
    assert codec.quantized_part(values) is values
    projected = Codec(Tensors(arrays | {"projection.text": np.eye(3, 2, dtype=np.float32)}, codec_metadata), "text")
    assert projected.quantized_part(np.array([[5.0, 6.0, 7.0]])).tolist() == [[5.0, 6.0]]
    with pytest.raises(InputError, match=r"text\.safetensors: expected rows of 3 dimensions.*found 2 dimensions"):
        projected.quantized_part(np.zeros((1, 2)))


def test_the_sum_of_code_vectors():
    codebooks = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    arrays = {"codebooks.text": codebooks, "mean.text": np.zeros(2, np.float32), "scale.text": np.ones(1, np.float32)}
    codec = Codec(Tensors(arrays, {"modalities": {"text": {"codes": [3, 3]}}}), "text")
    assert codec.levels == 2
    assert codec.dequantize(np.array([[2, 0], [0, 1]])).tolist() == [[4 + 6, 5 + 7], [0 + 8, 1 + 9]]
