"""Text embeddings by a trained model: an encoder such as MiniLM, or a language model's states.

A model knows what words mean; TF-IDF knows which exact words an item has. They are best side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from sidflow.core.errors import InputError
from sidflow.core.stage import print_progress
from sidflow.features.params import TransformerEncoder
from sidflow.models.files import file_hashes, model_folder, origin, require_model_files
from sidflow.models.loading import load_errors_as_input_errors, load_pretrained, untrained, without_library_output
from sidflow.models.params import ModelParams

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32

REMEDY = "point embed.encoders.*.model at a text encoder or decoder saved by transformers with safetensors weights"
THREADS = 1  # of torch: bits that depend on no setting
POOLER = "pooler."  # weights above the token states, which nobody here uses
PROGRESS_TEXTS = 2000


class EncodedDocuments(NamedTuple):
    """One row per document."""

    values: Float32[np.ndarray, "n d"]  # of length 1; absent rows are zero
    present: Bool[np.ndarray, " n"]  # the document has text
    record: dict[str, object]  # of the model: origin and file hashes


def encode_documents(
    documents: Sequence[Sequence[str]], params: TransformerEncoder, name: str, seed: int
) -> EncodedDocuments:
    """Return the documents' vectors, each scaled to length 1.

    Args:
        documents: the pieces of each; their order is kept.
        params: of the encoder.
        name: of the encoder, for messages.
        seed: of random weights, where params ask for them.

    Raises:
        InputError: the model is not here, cannot be read, or gives no numbers.
    """
    slot = f"embed.encoders.{name}.model"
    folder = model_folder(params.model, slot)
    files = file_hashes(folder)
    require_model_files(folder, files, REMEDY)
    texts = [". ".join(piece.rstrip(".") for piece in document) for document in documents]
    rows = [row for row, text in enumerate(texts) if text.strip()]
    expected = "a text model and a tokenizer that transformers reads without remote code"
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with load_errors_as_input_errors(folder, expected, REMEDY), without_library_output():
            model, tokenizer = _load(folder, params.model, seed)
            ids = [_token_ids(tokenizer, params.prefix + texts[row], params.max_tokens) for row in rows]
            vectors = _encode(model, ids, params, name)
    finally:
        torch.set_num_threads(threads)
    if not np.isfinite(vectors).all():
        raise InputError(
            str(folder), expected="finite vectors", found="NaN or infinity", remedy="use another model for this encoder"
        )
    if params.centre and len(rows):
        vectors -= vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    values = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
    present = np.zeros(len(texts), dtype=bool)
    values[rows], present[rows] = vectors, True
    record = {"trained_weights": params.model.weights == "pretrained", "model": origin(params.model) | {"files": files}}
    return EncodedDocuments(values, present, record)


def _load(folder: Any, named: ModelParams, seed: int) -> tuple[PreTrainedModel, Any]:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if named.weights == "random":
        model = untrained(AutoModel, config, seed, dtype=torch.float32)
    else:
        model = load_pretrained(AutoModel, folder, config, REMEDY, unused=POOLER, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return model.requires_grad_(False).eval(), tokenizer


def _token_ids(tokenizer: Any, text: str, max_tokens: int) -> list[int]:
    """Return the tokens of a text, those that the model wants around it included."""
    return tokenizer.encode(text, truncation=True, max_length=max_tokens) or [0]


@torch.inference_mode()
def _encode(model: PreTrainedModel, ids: list[list[int]], params: TransformerEncoder, name: str) -> np.ndarray:
    """Return the pooled states, float64 [n, d]. Texts of similar length go together, so that little is padding."""
    order = sorted(range(len(ids)), key=lambda index: (len(ids[index]), index))
    vectors = np.zeros((len(ids), model.config.get_text_config().hidden_size))
    for start in range(0, len(order), params.batch_size):
        chosen = order[start : start + params.batch_size]
        lengths = torch.tensor([len(ids[index]) for index in chosen])
        tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[index]) for index in chosen], batch_first=True)
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        states = model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        vectors[chosen] = _pool(states, mask, lengths, params.pooling).double().numpy()
        if (start // PROGRESS_TEXTS) != (start + len(chosen)) // PROGRESS_TEXTS:
            print_progress(f"{name}: {start + len(chosen)} of {len(order)} texts")
    return vectors


def _pool(states: Tensor, mask: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """Return one vector a text, [b, d], of its tokens' states [b, t, d]; padding does not count."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states)), lengths - 1]
    return (states * mask[..., None]).sum(1) / lengths[:, None]
