"""Small models in eight bits with random weights, and steps of them as an engine runs them."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from services.generator.engine.attention import Span
from services.generator.engine.cpu_attention import BLOCK_SIZE
from services.generator.engine.cpu_runner import CpuRunner
from services.generator.layers.replacement import quantize

TEXTS = [[(7 * number + place * place) % 90 for place in range(50)] for number in range(5)]
SIZES: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,  # so that each part of a layer tells
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def unrounded(config: PretrainedConfig) -> Any:
    torch.manual_seed(1)
    models: Any = AutoModelForCausalLM  # which has no types
    return models.from_config(config).eval()


def model_of(config: PretrainedConfig) -> Any:
    """A model in eight bits with random weights, always the same ones."""
    model = unrounded(config)
    for name, each in model.named_parameters():
        if "bias" in name or "norm" in name:
            nn.init.normal_(each, mean=0.5, std=0.5)
    quantize(model)
    return model


class Steps:
    """Runs steps of TEXTS, as an engine does; each text has its blocks in a cache of its own."""

    def __init__(self, model: Any) -> None:
        length = model.config.max_position_embeddings
        description = SimpleNamespace(dtype="int8", context_length=length)
        loaded: Any = SimpleNamespace(model=model, description=description)
        needed = [-(-len(text) // BLOCK_SIZE) for text in TEXTS]
        self.blocks = torch.split(torch.randperm(sum(needed)), needed)
        self.runner = CpuRunner(loaded, sum(needed))

    def __call__(self, *step: tuple[int, int, int]) -> torch.Tensor:
        """Logits after tokens `begin` to `end` of some texts."""
        tokens = [TEXTS[text][begin:end] for text, begin, end in step]
        spans = [Span(begin, end, self.blocks[text].tolist()) for text, begin, end in step]
        return self.runner.run(tokens, spans, range(len(step)))


def all_at_once(model: Any) -> torch.Tensor:
    return Steps(model)(*((number, 0, len(text)) for number, text in enumerate(TEXTS)))
