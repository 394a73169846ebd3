"""Layers in one loop give what transformers' give, and only where they compute the same."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.llama import modeling_llama
from transformers.models.phi3 import modeling_phi3

from services.generator.engine import cpu_runner
from services.generator.engine.attention import UnsupportedModelError
from services.generator.engine.fused_layer import FusedLayer
from services.generator.hidden_states import hidden_states
from services.generator.layers.likeness import alike
from services.generator.layers.replacement import quantize
from tests.unit.generator.random_models import (
    SIZES,
    TEXTS,
    Steps,
    all_at_once,
    model_of,
    unrounded,
)

WINDOW = 20
SMALL = SIZES | {"initializer_range": 0.02}

LLAMA = LlamaConfig(**SIZES)
WINDOWED = MistralConfig(**SIZES, sliding_window=WINDOW)
FUSABLE = {
    "Llama": LLAMA,
    "Llama with wide heads": LlamaConfig(**SIZES, head_dim=48),
    "Mistral with a window": WINDOWED,
    "Qwen 2 with biases": Qwen2Config(**SIZES),
}
OTHER = {
    "Gemma 2 with norms elsewhere": Gemma2Config(**SIZES, head_dim=16),
    "Qwen 3 with norms of heads": Qwen3Config(**SIZES, head_dim=16),
    "Granite with factors": GraniteConfig(**SIZES, residual_multiplier=0.5),
    "Granite with factors of what is small": GraniteConfig(**SMALL, residual_multiplier=0.5),
    "Phi-3 with other products": Phi3Config(**SIZES),
    "a bias behind attention": LlamaConfig(**SIZES, attention_bias=True),
    "biases of the gated layer": LlamaConfig(**SIZES, mlp_bias=True),
    "an odd inner width": LlamaConfig(**SIZES | {"intermediate_size": 96}),
    "an odd width": LlamaConfig(**SIZES | {"hidden_size": 48}, head_dim=16),
    "another activation": LlamaConfig(**SIZES, hidden_act="gelu"),
    "another activation of what is small": LlamaConfig(**SMALL, hidden_act="gelu"),
}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def unfused(monkeypatch: pytest.MonkeyPatch) -> Callable[[PretrainedConfig], "Steps"]:
    """Makes models whose layers stay transformers'."""

    def make(config: PretrainedConfig) -> Steps:
        with monkeypatch.context() as patch:
            patch.setattr(cpu_runner, "fuse", lambda _: None)
            return Steps(model_of(config))

    return make


def fused_layers(model: Any) -> list[bool]:
    return [isinstance(layer, FusedLayer) for layer in model.model.layers]


@pytest.mark.parametrize("config", FUSABLE.values(), ids=FUSABLE)
def test_a_layer_of_llamas_kind_is_fused_and_gives_what_transformers_gives(
    config: PretrainedConfig, unfused: Callable[[PretrainedConfig], Steps]
) -> None:
    model = model_of(config)
    steps, expected = Steps(model), unfused(config)
    assert all(fused_layers(model))
    for step in [(0, 0, 30), (1, 0, 50)], [(0, 30, 31), (2, 0, 9)], [(0, 31, 32), (2, 9, 50)]:
        assert alike(steps(*step), expected(*step), tolerance=0.05)


@pytest.mark.parametrize("config", OTHER.values(), ids=OTHER)
def test_a_layer_that_computes_something_else_stays(config: PretrainedConfig) -> None:
    model = model_of(config)
    Steps(model)
    assert not any(fused_layers(model))


def test_a_window_is_kept() -> None:
    whole = MistralConfig(**SIZES, sliding_window=None)
    given, other = all_at_once(model_of(WINDOWED)), all_at_once(model_of(whole))
    assert not alike(given, other, tolerance=0.1)


def test_where_not_all_of_a_head_is_rotated_the_layer_itself_is_asked(
    monkeypatch: pytest.MonkeyPatch, unfused: Callable[[PretrainedConfig], Steps]
) -> None:
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", modeling_phi3.apply_rotary_pos_emb)
    expected, model = unfused(LLAMA), model_of(LLAMA)
    for each in (expected.runner._model, model):
        each.model.rotary_emb = Half(each.model.rotary_emb)
    assert torch.equal(Steps(model)((0, 0, 50)), expected((0, 0, 50)))


class Half(nn.Module):
    """A rotary embedding of half of each head."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return tuple(each[..., :8] for each in self.whole(*arguments, **options))


def test_a_model_with_fused_layers_is_what_it_was_where_there_is_no_step() -> None:
    plain, fused = model_of(WINDOWED), model_of(WINDOWED)
    all_at_once(fused)
    assert all(fused_layers(fused))
    prompts = [TEXTS[0], TEXTS[1][:9]]
    plain.set_attn_implementation("sdpa")
    for expected, given in zip(
        hidden_states(plain, prompts), hidden_states(fused, prompts), strict=True
    ):
        torch.testing.assert_close(torch.from_numpy(given), torch.from_numpy(expected))
    asked = torch.tensor([TEXTS[0]])
    texts = [
        model.generate(
            asked, attention_mask=torch.ones_like(asked), max_new_tokens=5, do_sample=False
        ).tolist()
        for model in (plain, fused)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("config", FUSABLE.values(), ids=FUSABLE)
def test_a_text_is_the_same_to_the_last_bit_in_whatever_company_pieces_and_threads(
    config: PretrainedConfig, threads: int
) -> None:
    model = model_of(config)
    torch.set_num_threads(1)
    alone = torch.cat([Steps(model)((number, 0, 50)) for number in range(len(TEXTS))])
    torch.set_num_threads(threads)
    assert torch.equal(all_at_once(model), alone)
    steps = Steps(model)
    steps((0, 0, 3), (1, 0, 49), (2, 0, 17))
    steps((2, 17, 33), (3, 0, 40), (0, 3, 4))
    steps((0, 4, 49), (2, 33, 49), (4, 0, 49), (3, 40, 49))
    assert torch.equal(steps(*((number, 49, 50) for number in range(len(TEXTS)))), alone)


@pytest.mark.parametrize("hands", [[[4, 2], [0, 1, 3]], [[0], [1], [2], [3], [4]]])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("config", FUSABLE.values(), ids=FUSABLE)
def test_it_makes_no_difference_which_thread_computes_what(
    config: PretrainedConfig, threads: int, hands: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(config)
    torch.set_num_threads(threads)
    monkeypatch.setattr(cpu_runner, "deal", lambda *_: [])
    together = all_at_once(model)
    monkeypatch.setattr(cpu_runner, "deal", lambda *_: hands)
    assert torch.equal(all_at_once(model), together)


def test_steps_may_have_more_tokens_and_threads_than_the_one_before_or_fewer() -> None:
    model = model_of(LLAMA)
    expected, steps = Steps(model)((0, 0, 50)), Steps(model)
    for (begin, end), threads in zip(
        [(0, 2), (2, 40), (40, 41), (41, 49)], [1, 3, 2, 3], strict=True
    ):
        torch.set_num_threads(threads)
        steps((0, begin, end))
    assert torch.equal(steps((0, 49, 50)), expected)


@pytest.mark.parametrize("widths", [(64, 4096), (4096, 64, 64), (128, 96, 128, 128)])
def test_layers_of_one_model_may_have_several_widths(widths: Sequence[int]) -> None:
    def model() -> Any:
        made = unrounded(LlamaConfig(**SIZES | {"num_hidden_layers": len(widths)}))
        mlp = type(made.model.layers[0].mlp)
        for layer, width in zip(made.model.layers, widths, strict=True):
            layer.mlp = mlp(LlamaConfig(**SIZES | {"intermediate_size": width}))
        quantize(made)
        return made

    fused, expected = model(), model()
    steps = Steps(fused)
    assert fused_layers(fused) == [width != 96 for width in widths]
    expected.set_attn_implementation("sdpa")
    with torch.inference_mode():
        logits = expected(torch.tensor([TEXTS[0]])).logits[:, -1]
    assert alike(steps((0, 0, 50)), logits, tolerance=0.05)


def test_a_model_that_changes_what_is_between_its_layers_is_refused() -> None:
    model = model_of(LLAMA)
    runner = Steps(model).runner
    model.model.layers[1].register_forward_pre_hook(lambda _, given: (2 * given[0],))
    for _ in range(2):
        with pytest.raises(UnsupportedModelError, match="layer 1"):
            runner.hidden_states([TEXTS[0]])


def test_a_model_that_is_given_to_another_engine_is_fused_once() -> None:
    model = model_of(LLAMA)
    expected = all_at_once(model)
    assert torch.equal(all_at_once(model), expected)
    assert sum(isinstance(each, FusedLayer) for each in model.modules()) == 2


def test_a_copy_which_would_use_the_memory_of_the_first_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be copied"):
        deepcopy(model_of(LLAMA))
