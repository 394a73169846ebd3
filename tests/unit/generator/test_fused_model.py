"""A step in one loop gives what transformers' model gives, and only where that is the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
)

from services.generator.engine import cpu_runner
from services.generator.engine.attention import Span
from services.generator.layers.likeness import alike
from tests.unit.generator.random_models import SIZES, TEXTS, Steps, all_at_once, model_of

LLAMA = LlamaConfig(**SIZES)
STRETCHED = {"rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
FUSABLE = {
    "Llama": LLAMA,
    "Llama with one matrix at both ends": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "Llama with stretched places": LlamaConfig(
        **SIZES, rope_parameters=STRETCHED | {"rope_type": "linear"}
    ),
    "Mistral with a window": MistralConfig(**SIZES, sliding_window=20),
    "Qwen 2 with biases": Qwen2Config(**SIZES),
}
GRANITE: dict[str, Any] = SIZES | {"attention_multiplier": 0.25}
OTHER = {
    "Granite with a factor of the embedding": GraniteConfig(**GRANITE, embedding_multiplier=2.0),
    "Granite with a factor of logits": GraniteConfig(**GRANITE, logits_scaling=2.0),
    "places that long texts stretch": LlamaConfig(
        **SIZES,
        rope_parameters=STRETCHED
        | {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 7 + [1.01]},
    ),
}


def in_parts(config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Steps of a model that is called as transformers has made it, but for its layers."""
    with monkeypatch.context() as patch:
        patch.setattr(cpu_runner, "fused_model", lambda *_: None)
        return Steps(model_of(config))


@pytest.mark.parametrize("config", FUSABLE.values(), ids=FUSABLE)
def test_a_model_of_llamas_kind_is_computed_at_once_and_gives_the_same(
    config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, expected = Steps(model_of(config)), in_parts(config, monkeypatch)
    assert steps.runner.fused
    for step in [(0, 0, 30), (1, 0, 50)], [(0, 30, 31), (2, 0, 9)], [(0, 31, 32), (2, 9, 50)]:
        assert alike(steps(*step), expected(*step), tolerance=0.01)


@pytest.mark.parametrize("config", OTHER.values(), ids=OTHER)
def test_a_model_with_something_else_around_its_layers_is_called(
    config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, expected = Steps(model_of(config)), in_parts(config, monkeypatch)
    assert not steps.runner.fused
    assert torch.equal(steps((0, 0, 50)), expected((0, 0, 50)))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.model.embed_tokens.bfloat16(),
        lambda model: setattr(model.model, "norm", nn.LayerNorm(64)),
        lambda model: model.set_output_embeddings(nn.Linear(64, 90)),
        lambda model: model.model.embed_tokens.register_forward_hook(lambda *given: 2 * given[2]),
        lambda model: model.model.layers[1].mlp.register_forward_hook(lambda *given: 2 * given[2]),
    ],
)
def test_a_model_with_other_parts_is_called(change: Callable[[Any], None]) -> None:
    model = model_of(LLAMA)
    change(model)
    assert not Steps(model).runner.fused


def test_a_model_is_told_of_what_is_none_of_its_tokens_and_of_texts_that_are_too_long() -> None:
    config = LlamaConfig(**SIZES, max_position_embeddings=32)
    runner = Steps(model_of(config)).runner
    for token in -1, 90:
        with pytest.raises(IndexError, match="token"):
            runner.run([[1, token]], [Span(0, 2, [0])], [0])
    with pytest.raises(IndexError, match="longer"):
        runner.run([[1]], [Span(32, 33, [0, 1, 2])], [0])


def test_a_step_may_want_no_logits() -> None:
    steps, expected = Steps(model_of(LLAMA)), all_at_once(model_of(LLAMA))
    spans = [Span(0, 49, steps.blocks[0].tolist())]
    assert steps.runner.run([TEXTS[0][:49]], spans, []).shape == (0, 90)
    assert torch.equal(steps((0, 49, 50)), expected[:1])


def test_what_a_long_text_took_to_embed_is_given_back_in_the_next_step() -> None:
    steps = Steps(model_of(LLAMA))
    steps.runner.hidden_states([[1] * 1000])
    steps((0, 0, 10))
    assert steps.runner.fused
    assert len(steps.runner.fused._run._workspace.projected) == 10
