"""The benchmark for GPUs: that it claims nothing that was not measured on one."""

from pathlib import Path

import pytest
import torch

from benchmarks.generator_cuda import TINY, Figures, build, step_bytes, summary
from services.generator.engine.attention import token_bytes


@pytest.fixture
def config(shared_data: Path) -> Path:
    return shared_data / "phi3_mini_4k" / "config.json"


def test_a_target_is_met_from_above_but_one_of_time_from_below(config: Path) -> None:
    loaded = build(config, "cpu", tiny=True)
    figures = {"engine": Figures({1: 480.0, 32: 6999.0}, 0.030)}
    told = summary(figures, loaded, 4e12)
    assert list(told["met"].values()) == [True, False, True]
    assert told["engine_share_1"] == round(480 * step_bytes(loaded, 1, 512) / 4e12, 4)
    assert told["not_measured"] == [
        f"engine_{what}_{streams}" for streams in (8, 128) for what in ("tokens_s", "share")
    ]


def test_a_step_reads_all_weights_but_the_embeddings_and_what_is_known_of_each_text(
    config: Path,
) -> None:
    loaded = build(config, "cpu", tiny=True)
    model = loaded.model
    read = {id(one): one.nbytes for one in model.parameters()}
    del read[id(model.get_input_embeddings().weight)]
    texts = 3 * TINY.context * token_bytes(model.config, torch.bfloat16)
    assert step_bytes(loaded, 3, TINY.context) == sum(read.values()) + texts
