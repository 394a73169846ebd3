"""What the linear layers allow, of a model too small to matter."""

from pathlib import Path

import torch

from benchmarks.linear_layers import LinearLayers
from services.generator.models import load
from tests.tiny_models import save_tiny_llama


def test_each_linear_layer_is_run_on_a_row_a_stream(tmp_path: Path) -> None:
    loaded = load(str(save_tiny_llama(tmp_path / "tiny")), cache=tmp_path)
    run: dict[str, list[int]] = {}
    for name, module in loaded.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(
                lambda _, inputs, __, name=name: run.setdefault(name, []).append(len(inputs[0]))
            )
    speed = LinearLayers(loaded).measure(streams=5, seconds=0)
    in_layers = ["q", "k", "v", "o", "gate", "up", "down"]
    assert len(run) == 2 * len(in_layers) + 1
    assert "lm_head" in run
    assert {rows for mine in run.values() for rows in mine} == {5}
    assert len({len(mine) for mine in run.values()}) == 1
    assert speed.tokens_per_second > 0
