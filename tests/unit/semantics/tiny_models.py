"""Tiny models of the families that write views, saved as their own classes save them."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEMPLATE = (
    "{% for message in messages %}<s>{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}\nanswer: {% endif %}"
)


def tokenizer(*special, image="<image>", **names):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<pad>", "<s>", "</s>", image, *special]
    )
    trained.train_from_iterator(["a red mug of clay", "Answer in English with one JSON object"], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=trained,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=names,
        model_input_names=["input_ids", "attention_mask"],
    )
    wrapped.chat_template = TEMPLATE.replace("IMAGE", names.get("boi_token", image))
    return wrapped


def llama(folder):
    words = tokenizer()
    config = LlamaConfig(vocab_size=len(words), bos_token_id=1, eos_token_id=2, pad_token_id=0, **TEXT)
    return _saved(folder, LlamaForCausalLM(config), words)


def llava(folder):
    words = tokenizer()
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=32, patch_size=16, projection_dim=32, **VISION),
        text_config=LlamaConfig(vocab_size=len(words), bos_token_id=1, eos_token_id=2, pad_token_id=0, **TEXT),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        pictures,
        words,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=words.chat_template,
    )
    return _saved(folder, LlavaForConditionalGeneration(config), processor)


TILES = tuple(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2))
IDEFICS_MARKS = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *TILES)


def idefics3(folder, splitting=False):
    words = tokenizer(*IDEFICS_MARKS)
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(**_picture_sizes(splitting)),
        words,
        image_seq_len=4,
        chat_template=words.chat_template,
    )
    return _saved(folder, Idefics3ForConditionalGeneration(_idefics_config(Idefics3Config, words)), processor)


def smolvlm(folder, splitting=False):
    words = tokenizer(*IDEFICS_MARKS)
    pictures = SmolVLMImageProcessorPil(**_picture_sizes(splitting))
    return _saved(folder, SmolVLMForConditionalGeneration(_idefics_config(SmolVLMConfig, words)), words, pictures)


def idefics3_split(folder):
    return idefics3(folder, splitting=True)


def smolvlm_split(folder):
    return smolvlm(folder, splitting=True)


def _picture_sizes(splitting):
    """The settings of an image processor; `splitting` cuts an enlarged picture into tiles, as checkpoints do."""
    side = 64 if splitting else 32
    return {"size": {"longest_edge": side}, "max_image_size": {"longest_edge": 32}, "do_image_splitting": splitting}


def _idefics_config(config, words):
    text = LlamaConfig(vocab_size=len(words), bos_token_id=1, eos_token_id=2, pad_token_id=0, **TEXT)
    return config(
        vision_config={"image_size": 32, "patch_size": 8, **VISION},
        text_config=text.to_dict(),
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )


def qwen(folder):
    marks = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
    words = tokenizer(*marks, image="<|image_pad|>")
    words.chat_template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    ids = words.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words),
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
            **TEXT,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    pictures = Qwen2VLImageProcessorPil(patch_size=8, size={"shortest_edge": 256, "longest_edge": 4096})
    return _saved(folder, Qwen2_5_VLForConditionalGeneration(config), words, pictures)


def qwen3(folder):
    marks = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
    words = tokenizer(*marks, image="<|image_pad|>")
    words.chat_template = TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    ids = words.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words),
            "head_dim": 8,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "rope_theta": 10000.0,
            },
            **TEXT,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 8,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    pictures = Qwen2VLImageProcessorPil(patch_size=8, size={"shortest_edge": 256, "longest_edge": 4096})
    return _saved(folder, Qwen3VLForConditionalGeneration(config), words, pictures)


def gemma3(folder):
    words = tokenizer(
        "<boi>",
        "<eoi>",
        boi_token="<boi>",
        eoi_token="<eoi>",
        image_token="<image>",
    )
    config = Gemma3Config(
        text_config={
            "vocab_size": len(words),
            "head_dim": 8,
            "tie_word_embeddings": False,
            "sliding_window": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            **TEXT,
        },
        vision_config={"image_size": 32, "patch_size": 8, **VISION},
        mm_tokens_per_image=4,
        tie_word_embeddings=False,  # tied, random weights write the last token over and over
        image_token_id=words.convert_tokens_to_ids("<image>"),
        boi_token_id=words.convert_tokens_to_ids("<boi>"),
        eoi_token_id=words.convert_tokens_to_ids("<eoi>"),
    )
    pictures = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(pictures, words, image_seq_length=4, chat_template=words.chat_template)
    return _saved(folder, Gemma3ForConditionalGeneration(config), processor)


def _saved(folder, model, *parts):
    """Save the model with weights large enough that pictures and words change what it writes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.2, generator=generator)
    model.generation_config.do_sample = True  # which params overrule
    model.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return folder
