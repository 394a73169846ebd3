"""What the generator's benchmark found: as tables, as plots, as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.table import Table

from benchmarks.speed import Speed, percentile_ms

Speeds = Mapping[str, Mapping[int, Speed]]
"""By the name of what was measured, by the number of streams."""

SEGUE, LINEAR, VLLM = "segue", "linear_bound", "vllm"

_COLOURS = ("#d6336c", "#adb5bd", "#4e79a7", "#76b7b2", "#f28e2b", "#495057")


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was measured.

    Attributes:
        speeds: How fast tokens came; of vLLM once for each of its types.
        gaps_without: Seconds between tokens of Segue's texts, several at a time.
        gaps_during: The same while a long prompt was computed.
    """

    speeds: Speeds
    gaps_without: Sequence[float]
    gaps_during: Sequence[float]

    @property
    def gap_ratio(self) -> float:
        """How much longer the 99th percentile of gaps is while a long prompt is computed."""
        during, without = np.percentile(self.gaps_during, 99), np.percentile(self.gaps_without, 99)
        return float(during / without)

    def to_json(self) -> str:
        """One line; of vLLM only the type that is the fastest at a number of streams."""
        rates: dict[str, dict[str, float]] = {}
        for name, speeds in self.speeds.items():
            short = VLLM if name.startswith(VLLM) else name
            for count, speed in speeds.items():
                rate = rates.setdefault(str(count), {})
                rate[short] = max(rate.get(short, 0.0), round(speed.tokens_per_second, 1))
        ratio = round(self.gap_ratio, 2)
        return json.dumps({"tokens_per_second": rates, "long_prompt_gap_ratio": ratio})

    def tables(self) -> Iterator[Table]:
        """The speeds, and the gaps."""
        yield self._speed_table()
        yield self._gap_table()

    def _speed_table(self) -> Table:
        table = Table(
            title="texts that grow at the same time",
            caption="first: from request to token; p50, p99: from token to token",
            title_justify="left",
            caption_justify="left",
        )
        for heading in ("streams", ""):
            table.add_column(heading, no_wrap=True)
        for heading in ("tokens/s", "Segue is x", "first ms", "p50 ms", "p99 ms"):
            table.add_column(heading, justify="right")
        ours = self.speeds[SEGUE]
        for count in ours:
            for name, speeds in self.speeds.items():
                speed = speeds[count]
                table.add_row(
                    str(count) if name == SEGUE else "",
                    name,
                    f"{speed.tokens_per_second:,.1f}",
                    f"{ours[count].tokens_per_second / speed.tokens_per_second:.2f}",
                    *map(_ms, (speed.first_token_ms, speed.gap_p50_ms, speed.gap_p99_ms)),
                )
            table.add_section()
        return table

    def _gap_table(self) -> Table:
        table = Table("Segue, between tokens", title="a long prompt arrives", title_justify="left")
        for heading in ("gaps", "p50 ms", "p99 ms"):
            table.add_column(heading, justify="right")
        for name, gaps in (("without it", self.gaps_without), ("while it is", self.gaps_during)):
            percentiles = (percentile_ms(gaps, percent) for percent in (50, 99))
            table.add_row(name, f"{len(gaps):,}", *map(_ms, percentiles))
        return table

    def draw(self) -> go.Figure:
        """Throughput and latency by the number of streams."""
        panels = {
            "tokens a second": "tokens_per_second",
            "ms to the first token, median": "first_token_ms",
            "ms between tokens, 99th percentile": "gap_p99_ms",
        }
        figure = make_subplots(1, len(panels), subplot_titles=list(panels))
        for column, figure_name in enumerate(panels.values(), 1):
            for number, (name, speeds) in enumerate(self.speeds.items()):
                line = go.Scatter(
                    x=[str(count) for count in speeds],
                    y=[getattr(speed, figure_name) for speed in speeds.values()],
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    line={"color": _COLOURS[number], "width": 3 if name == SEGUE else 1.5},
                )
                figure.add_trace(line, 1, column)
        figure.update_xaxes(title="streams", type="category")
        figure.update_yaxes(rangemode="tozero")
        return figure


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
