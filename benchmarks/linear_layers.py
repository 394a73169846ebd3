"""How many tokens a second a model's linear layers allow, if all else cost nothing.

    python -m benchmarks.linear_layers MODEL SECONDS

A worker of `benchmarks.generator`: it loads the model as the generator does, and runs the linear
layers that it then has, one after the other, on a row a stream.
"""

import argparse
import time
from statistics import median

import torch

from benchmarks.speed import Speed
from benchmarks.workers import answer
from services.generator import models
from services.generator.layers.int8_linear import Int8Linear
from services.generator.settings import GeneratorSettings

_LEAST_PASSES = 3


class LinearLayers:
    """The linear layers of a loaded model, the last one, which gives the logits, included."""

    def __init__(self, loaded: models.LoadedModel) -> None:
        self._layers = [
            layer
            for layer in loaded.model.modules()
            if isinstance(layer, torch.nn.Linear | Int8Linear)
        ]
        self._dtype = loaded.model.dtype

    @torch.inference_mode()
    def measure(self, streams: int, seconds: float) -> Speed:
        """Tokens a second when a pass through all layers, the median one, gives each stream one.

        Args:
            streams: Rows that each layer is given.
            seconds: How long passes are repeated; there are three at least.
        """
        widths = {layer.in_features for layer in self._layers}
        rows = {width: torch.randn(streams, width, dtype=self._dtype) for width in widths}
        passes: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(passes) < _LEAST_PASSES:
            begin = time.perf_counter()
            for layer in self._layers:
                layer(rows[layer.in_features])
            passes.append(time.perf_counter() - begin)
        return Speed(streams / median(passes))


def main() -> None:
    """Answer the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    layers = LinearLayers(models.load(options.model, cache=GeneratorSettings().cache))
    answer(lambda streams: layers.measure(streams, options.seconds))


if __name__ == "__main__":
    main()
