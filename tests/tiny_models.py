"""Language models of two layers with random weights, saved as folders like any other model."""

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|eos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


GEMMA2 = Gemma2Config(
    vocab_size=400,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    bos_token_id=None,
    eos_token_id=[0, 1],
)


def save_tiny_llama(folder: Path) -> Path:
    """A Llama with a byte-level BPE tokenizer of 400 ids; `<|eos|>` and `<|end|>` end its texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the song that comes next is a song about the night"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|eos|>",  # noqa: S106
        additional_special_tokens=SPECIAL[1:],
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=[0, 1],
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [0, 1]
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def save_tiny_gemma2(folder: Path) -> Path:
    """A Gemma 2, whose attention caps its scores, with the tokenizer of the tiny Llama."""
    save_tiny_llama(folder)
    torch.manual_seed(1)
    Gemma2ForCausalLM(GEMMA2).save_pretrained(folder)
    return folder


def save_tiny_phi3(folder: Path, original: Path) -> Path:
    """A Phi-3 with the real tokenizer, template and configuration but for its size."""
    shutil.copytree(original, folder, copy_function=shutil.copyfile)
    settings = json.loads((original / "config.json").read_text())
    settings.pop("auto_map")
    settings |= {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    torch.manual_seed(1)
    model = Phi3ForCausalLM(Phi3Config(**settings))
    model.generation_config = type(model.generation_config).from_pretrained(original)
    model.save_pretrained(folder)
    return folder
