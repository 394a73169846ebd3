"""Tokens a second of a model of Phi-3-mini's size on a GPU, next to transformers and to the limit.

    python -m benchmarks.generator_cuda .../phi3_mini_4k/config.json
    python -m benchmarks.generator_cuda .../phi3_mini_4k/config.json --tiny

It needs no network: the weights are drawn at random, which changes no time, and the tokenizer lies
beside the configuration. In one run, on one model, it measures the engine (all of it but the RPCs),
`generate` of transformers (static cache, compiled) and its continuous batching. Each is asked for
the same: so many prompts, so many tokens. A rate is from the difference of two runs, both of which
go on after all prompts have been computed; prompts are never repeated, so no cache knows them.

The limit is memory: a step reads all weights but the embeddings once, and the keys and values of
each text; the copy of a large tensor tells how fast.

`--tiny` shrinks the model and what is asked, to see on a CPU that the script runs; its figures say
nothing of a GPU, and in the last line, which is JSON, they are null.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.cuda_ways import WAYS, Generate, Prompts, Way
from services.generator.engine.attention import token_bytes
from services.generator.models import LoadedModel, describe
from services.generator.tokenization import Tokenizer

TARGETS = {"engine_tokens_s_1": 480.0, "engine_tokens_s_32": 7000.0, "engine_first_token_ms": 30.0}
"""On an H200; the last is an upper bound."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked.

    Attributes:
        streams: Texts at a time.
        context: Tokens that a text has on average while it is measured.
        lead: Tokens by which each grows before that, at least as many as there are steps that also
            compute prompts: 25 of 2,048 tokens for 128 prompts.
        new: Tokens by which each grows while it is measured.
        prompt: Tokens of the prompt whose first token is timed.
        rounds: How often each is measured; the median counts.
        copy_bytes: Size of the tensor that is copied.
    """

    streams: tuple[int, ...] = (1, 8, 32, 128)
    context: int = 512
    lead: int = 32
    new: int = 128
    prompt: int = 1024
    rounds: int = 5
    copy_bytes: int = 2**32


TINY = Load((1, 2), context=40, lead=4, new=8, prompt=64, rounds=1, copy_bytes=2**26)


@dataclass(slots=True)
class Figures:
    """What was measured of one way to generate; what failed is not there."""

    rates: dict[int, float] = field(default_factory=dict)
    first_token_s: float | None = None


def build(config_file: Path, device: str, *, tiny: bool) -> LoadedModel:
    """A model with random weights, in bfloat16."""
    folder = config_file.parent
    config = AutoConfig.from_pretrained(folder)
    if tiny:
        config.update(
            {
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
            }
        )
    torch.manual_seed(0)
    with torch.device(device):
        make: Any = AutoModelForCausalLM.from_config
        model = make(config, dtype=torch.bfloat16)
    model.eval()
    tokenizer = Tokenizer(AutoTokenizer.from_pretrained(folder), config.vocab_size)
    return LoadedModel(model, tokenizer, frozenset(), describe("random", model, tokenizer))


class Prompter:
    """Draws prompts, never one twice."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._chance = torch.Generator().manual_seed(1)

    def __call__(self, count: int, length: int) -> Prompts:
        """So many prompts of so many tokens."""
        drawn = torch.randint(3, self._vocabulary, (count, length), generator=self._chance)
        prompts: Prompts = drawn.tolist()
        return prompts


def measure(way: Way, loaded: LoadedModel, load: Load, console: Console, name: str) -> Figures:
    """Measure one way; that it fails is told, and leaves the others their turn."""
    figures = Figures()
    prompts = Prompter(loaded.model.config.vocab_size)
    try:
        with way(loaded, max(load.streams)) as generate:
            for streams in load.streams:
                figures.rates[streams] = _rate(generate, prompts, streams, load)
                console.print(f"{name}, {streams} streams: {figures.rates[streams]:,.1f} tokens/s")
            # The last, since a longer prompt lengthens the static cache for good.
            figures.first_token_s = _first_token_s(generate, prompts, load)
    except Exception as error:
        console.print(f"{name} failed: {type(error).__name__}: {error}", markup=False)
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return figures


def _rate(generate: Generate, prompts: Prompter, streams: int, load: Load) -> float:
    length = load.context - load.lead - load.new // 2
    short, long = load.lead, load.lead + load.new

    def run(new: int) -> float:
        return _seconds(lambda: generate(prompts(streams, length), new))

    for new in (long, short):  # compiles
        run(new)
    return median(streams * load.new / (run(long) - run(short)) for _ in range(load.rounds))


def _first_token_s(generate: Generate, prompts: Prompter, load: Load) -> float:
    times = [_seconds(lambda: generate(prompts(1, load.prompt), 1)) for _ in range(2 + load.rounds)]
    return median(times[2:])


def copy_bandwidth(load: Load, device: str) -> float:
    """Bytes read and written a second when a tensor is copied."""
    source = torch.zeros(load.copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [_seconds(lambda: target.copy_(source)) for _ in range(10)]
    return 2 * load.copy_bytes / min(times)


def step_bytes(loaded: LoadedModel, streams: int, context: int) -> int:
    """What one step has to read."""
    model = loaded.model
    embeddings = (
        0 if model.config.tie_word_embeddings else model.get_input_embeddings().weight.numel()
    )
    weights = (model.num_parameters() - embeddings) * model.dtype.itemsize
    return int(weights + streams * context * token_bytes(model.config, model.dtype))


def _seconds(work: Callable[[], object]) -> float:
    _wait()
    begin = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - begin


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table_of(
    figures: dict[str, Figures], loaded: LoadedModel, load: Load, bandwidth: float
) -> Table:
    """All figures, each with its share of what memory allows."""
    table = Table(title=f"{loaded.description.device}, copies {bandwidth / 1e9:,.1f} GB/s")
    for column in ("", "limit", *figures):
        table.add_column(column.replace("_", " "), justify="right" if column else "left")
    for streams in load.streams:
        limit = streams * bandwidth / step_bytes(loaded, streams, load.context)
        rates = [_told(one.rates.get(streams), limit) for one in figures.values()]
        table.add_row(f"{streams} streams, tokens/s", f"{limit:,.0f}", *rates)
    least = step_bytes(loaded, 1, load.prompt) / bandwidth
    times = [_told_ms(one.first_token_s, least) for one in figures.values()]
    table.add_row(f"first token of {load.prompt}, ms", f"{1e3 * least:.2f}", *times)
    return table


def _told(rate: float | None, limit: float) -> str:
    return "failed" if rate is None else f"{rate:,.0f} ({rate / limit:.0%})"


def _told_ms(seconds: float | None, least: float) -> str:
    return "failed" if seconds is None else f"{1e3 * seconds:.1f} ({least / seconds:.0%})"


def summary(
    figures: dict[str, Figures], loaded: LoadedModel, bandwidth: float | None
) -> dict[str, Any]:
    """Every figure under a name, null where there is none, and which targets are met."""
    load = Load()
    least = bandwidth and step_bytes(loaded, 1, load.prompt) / bandwidth
    found: dict[str, float | None] = {"copy_gb_s": bandwidth and round(bandwidth / 1e9, 1)}
    for name, one in figures.items():
        for streams in load.streams:
            rate = one.rates.get(streams)
            read = streams * (bandwidth or 0) / step_bytes(loaded, streams, load.context)
            found[f"{name}_tokens_s_{streams}"] = rate and round(rate, 1)
            found[f"{name}_share_{streams}"] = rate and round(rate / read, 4)
        first = one.first_token_s
        found[f"{name}_first_token_ms"] = first and round(1e3 * first, 2)
        found[f"{name}_first_token_share"] = first and least and round(least / first, 4)
    met: dict[str, bool | None] = {}
    for name, target in TARGETS.items():
        value = found[name]
        met[name] = None
        if value is not None:
            met[name] = value <= target if name.endswith("_ms") else value >= target
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **found,
        "targets": TARGETS,
        "met": met,
        "not_measured": [name for name, value in found.items() if value is None],
    }


def main() -> None:
    """Measure, print a table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="config.json, with the tokenizer beside it")
    parser.add_argument("--tiny", action="store_true", help="only see that it runs")
    arguments = parser.parse_args()
    if not arguments.config.is_file():
        parser.error(f"there is no file {arguments.config}")
    cuda = torch.cuda.is_available()
    if not cuda and not arguments.tiny:
        parser.error("there is no CUDA device; --tiny runs without one")
    if not cuda:  # workers of OpenMP that two threads have had wait for each other
        torch.set_num_threads(1)
    load = TINY if arguments.tiny else Load()
    console = Console()
    loaded = build(arguments.config, "cuda" if cuda else "cpu", tiny=arguments.tiny)
    bandwidth = copy_bandwidth(load, loaded.description.device)
    figures = {name: measure(way, loaded, load, console, name) for name, way in WAYS.items()}
    console.print(table_of(figures, loaded, load, bandwidth))
    if arguments.tiny:  # what was measured says nothing of the model that the names are about
        print(json.dumps(summary({name: Figures() for name in WAYS}, loaded, None)))
    else:
        print(json.dumps(summary(figures, loaded, bandwidth)))


if __name__ == "__main__":
    main()
