"""LC-Rec's model: a causal language model with LoRA, whose vocabulary has the ID tokens beside its words.

The new rows of its embedding table, and of its output layer where that has one of its own, are trained through PEFT's
`trainable_token_indices`; the rows of words stay as they are. They are read here where PEFT keeps them, so that no
step copies the whole table.

Source: LC-Rec (arXiv 2311.09049), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from peft.utils.other import TrainableTokensWrapper
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from sidflow.backbones.adapter import add_adapter, load_adapter
from sidflow.backbones.models import Backbone, load_backbone
from sidflow.backbones.prompted_backbone import PromptedBackbone, tokenize_prompt
from sidflow.core.errors import InputError
from sidflow.generative.causal import CausalIdModel
from sidflow.generative.params import LanguageParams
from sidflow.generative.vocabulary import IdVocabulary
from sidflow.models.loading import without_library_output

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

ADAPTER = "default"  # PEFT's name of the only one
LOGIT_TOLERANCE = 0.02  # of the relative error; bf16 rounds by 0.004


class LanguageIdModel(CausalIdModel):
    """A language model that reads an instruction, then ID tokens. Token t of the IDs is row `words + t` of its tables.

    Histories are trained on as one row without padding, the instruction once a step; see `backbones.packed`.
    """

    def __init__(
        self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, ids: IdVocabulary, params: LanguageParams
    ) -> None:
        """Take a language model that `with_id_rows` has extended and that has an adapter.

        Raises:
            InputError: it has too few positions, or a sliding window that is shorter.
        """
        super().__init__(ids)
        self.reader = PromptedBackbone(model, tokenize_prompt(tokenizer, params.prompt), "last_item")
        self.tokenizer = tokenizer
        self.words = self.reader.word_table.weight.shape[0] - ids.size
        self.dropout = nn.Dropout(params.token_dropout)
        self._require_room(params)

    def _require_room(self, params: LanguageParams) -> None:
        needed = (params.max_length + 1) * self.ids.levels
        what = f"{params.max_length + 1} items of {self.ids.levels} tokens"
        remedy = "use another backbone, or set generate.*.max_length lower, or shorten the prompt"
        self.reader.require_positions(needed, what, remedy)
        config = self.reader.config
        window = getattr(config, "sliding_window", None)
        total = needed + self.reader.instruction.shape[1]
        if any(DynamicCache(config=config).is_sliding) and window is not None and window < total:
            raise InputError(
                "the backbone's attention",
                expected=f"a window of at least {total} positions, for the prompt and {params.max_length} items",
                found=f"{window} (sliding_window in its config.json)",
                remedy="set generate.*.max_length lower, or use another backbone",
            )

    @torch.no_grad()
    def require_own_logits(self) -> None:
        """Check that logits behind the instruction, with a fresh adapter, are those of the backbone without it.

        Raises:
            InputError: they are not, as where the output layer has a bias, which ID tokens could not have.
        """
        model = cast("Any", self.model)
        with model.disable_adapter():  # with it PEFT leaves a bias out
            own = model(input_ids=self.reader.instruction, use_cache=False).logits[0, -1].float()
        ours = self.vocabulary_logits(self.states(self.reader.instruction[:, :0])[0, -1])
        if not (own - ours).norm() <= LOGIT_TOLERANCE * own.norm():  # NaN, too
            raise InputError(
                "the backbone's output layer",
                expected="logits that are products of states and rows, scaled as Cohere's, Granite's or Gemma's",
                found=f"others, of a model of type {self.reader.config.model_type}",
                remedy="use another backbone, such as a Llama, Qwen, Mistral, Gemma or SmolLM",
            )

    @property
    def model(self) -> nn.Module:
        """The language model with its adapter."""
        return self.reader.model

    @property
    def decoder(self) -> Any:
        """The transformer without its output layer."""
        return self.reader.decoder

    @property
    def _head(self) -> Any:
        return cast("Any", self.model).get_base_model().get_output_embeddings()

    def start(self) -> Float[Tensor, "p d"]:
        """Return the vectors of the instruction."""
        return self.reader.embed_tokens(self.reader.instruction)[0]

    def embed(self, tokens: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
        """Return the vectors of ID tokens as input."""
        table = _adapted(self.decoder.get_input_embeddings())
        scale = table._get_embed_scale()
        vectors = nn.functional.embedding(tokens, _rows(table))
        vectors = self.dropout(vectors if scale is None else vectors * scale)
        return vectors.to(self.reader.word_table.weight.dtype)

    def output_rows(self) -> Float[Tensor, "v d"]:
        """Return the vectors of ID tokens as output."""
        return _rows(_adapted(self._head)).float()

    def word_rows(self) -> Float[Tensor, "w d"]:
        """Return the vectors of words as output."""
        return self._head.original_module.weight[: self.words].float()

    def vocabulary_logits(self, states: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """Return the logits of all words, then of all ID tokens."""
        return self._scaled(torch.cat([states @ self.word_rows().T, states @ self.output_rows().T], dim=-1))

    def level_logits(self, states: Float[Tensor, "*b d"], level: int) -> Float[Tensor, "*b k"]:
        """Return the logit of each code of `level` as the next token."""
        return self._scaled(super().level_logits(states, level))

    def _scaled(self, logits: Float[Tensor, "*b v"]) -> Float[Tensor, "*b v"]:
        """Return products of states and rows as the backbone scales them (Cohere, Granite) or caps them (Gemma)."""
        config = self.reader.config
        scale = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        logits = logits if scale == 1 else logits * scale
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def masks(self, attends: Bool[Tensor, "b p s"]) -> Any:
        """Return the decoder's attention mask; a dict by layer type where there are two."""
        mask = self.reader._attention_mask(attends, self.reader.word_table.weight.dtype)
        two = len(set(DynamicCache(config=self.reader.config).is_sliding)) > 1
        return {"full_attention": mask, "sliding_attention": mask} if two else mask

    def history_states(self, tokens: Int[Tensor, "b t l"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b s d"]:
        """Return the states that predict each token of histories; those of the first one are of the second item."""
        levels = tokens.shape[2]
        row = tokens.flatten(1)[:, :-1]
        read = torch.arange(levels - 1, row.shape[1], device=row.device).expand(len(row), -1)
        states = self.reader(self.embed(row), read, lengths=lengths * levels - 1)
        return torch.cat([states[:, :1].expand(-1, levels, -1), states], dim=1)  # the first item is not predicted

    def mixed_states(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """Return the states of rows of words and ID tokens, by their rows in the tables, padded on the right."""
        words, ids = tokens.clamp(max=self.words - 1), (tokens - self.words).clamp(min=0)
        vectors = torch.where((tokens < self.words)[..., None], self.reader.embed_tokens(words), self.embed(ids))
        return self.decoder(inputs_embeds=vectors, use_cache=False).last_hidden_state.float()


def _adapted(module: Any) -> Any:
    """Return PEFT's layer with the trained rows of a table."""
    assert isinstance(module, TrainableTokensWrapper)
    return module.token_adapter


def _rows(table: Any) -> Float[Tensor, "v d"]:
    return table.trainable_tokens_delta[ADAPTER]


def with_id_rows(model: PreTrainedModel, ids: IdVocabulary, scale: float = 0.0) -> PreTrainedModel:
    """Return `model` with a row for each token of `ids` behind those of its words, in both tables.

    Args:
        model: a causal LM, in place.
        ids: the vocabulary.
        scale: standard deviation of the random rows around the mean of words, in that of words; 0: zeros, to be
            replaced by trained rows.
    """
    words = cast("Any", model.get_input_embeddings()).weight.shape[0]
    with without_library_output():
        model.resize_token_embeddings(words + ids.size, mean_resizing=False)
    model.requires_grad_(False)
    weights = (cast("Any", module).weight for module in _tables(model).values())
    for table in {id(weight): weight for weight in weights}.values():
        new = torch.zeros_like(table[words:])
        if scale:
            old = table[:words].float()
            new = old.mean(0) + torch.randn(new.shape) * (scale * old.std(0)).to("cpu")
        with torch.no_grad():
            table[words:] = new.to(table)
    return model


def _tables(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the modules that hold vectors of tokens by name: as input, and as output."""
    both = [model.get_input_embeddings(), model.get_output_embeddings()]
    return {name: module for name, module in model.named_modules() if any(module is table for table in both)}


def fresh_language_model(record: Mapping[str, Any], ids: IdVocabulary, params: LanguageParams) -> LanguageIdModel:
    """Return the recorded backbone with ID tokens and a fresh adapter; `record` is the content of backbone.json.

    Raises:
        InputError: the backbone cannot be loaded, or cannot be used; see `LanguageIdModel`.
    """
    return adapt(load_backbone(record, params.weights), ids, params)


def adapt(backbone: Backbone, ids: IdVocabulary, params: LanguageParams) -> LanguageIdModel:
    """Return `backbone` with ID tokens and a fresh adapter; both are drawn from the global generator.

    Raises:
        InputError: see `LanguageIdModel` and its `require_own_logits`.
    """
    model = with_id_rows(backbone.model, ids, params.token_scale)
    words = cast("Any", model.get_input_embeddings()).weight.shape[0] - ids.size
    tokens = {name: range(words, words + ids.size) for name in _tables(model)}
    adapted = _in_fp32(add_adapter(model, params.lora, tokens, "generate"))
    language_model = LanguageIdModel(adapted, backbone.tokenizer, ids, params).eval()  # no draws for dropout
    language_model.require_own_logits()
    return language_model


def load_language_model(
    record: Mapping[str, Any], folder: Path, ids: IdVocabulary, params: LanguageParams
) -> LanguageIdModel:
    """Return the recorded backbone with the ID tokens and the adapter in `folder`."""
    model, tokenizer = load_backbone(record, params.weights)
    adapted = load_adapter(with_id_rows(model, ids), folder, params.lora)
    return LanguageIdModel(_in_fp32(adapted), tokenizer, ids, params)


def _in_fp32(model: nn.Module) -> nn.Module:
    """Keep the rows of ID tokens in float32, whatever the backbone's precision, in place."""
    for name, parameter in model.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.data = parameter.data.float()
    return model
