"""A report as one HTML page, which opens without a network."""

import html
from collections.abc import Iterable, Mapping
from importlib import resources

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from services.recommender.catalogue import Catalogue
from services.recommender.evaluation.metrics import CUTOFF, Estimate
from services.recommender.evaluation.report import ModelReport, Report
from services.recommender.evaluation.song_map import NO_TAG, SongMap

_HIT_RATE = f"hr@{CUTOFF}"

_MARGINS = {"l": 120, "r": 20, "t": 40, "b": 50}
_OURS, _OTHERS, _NO_TAG_COLOUR = "#d6336c", "#adb5bd", "#dee2e6"
_COLOURS = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#b07aa1",
    "#76b7b2",
    "#edc948",
    "#9c755f",
    "#ff9da7",
    "#e15759",
    "#495057",
)


def render(report: Report, songs: SongMap, catalogue: Catalogue) -> str:
    """Write a report as HTML.

    Args:
        report: What was found.
        songs: The map of the song model.
        catalogue: Its songs, in the order of the map.
    """
    template = (resources.files(__package__) / "page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(
        report=report,
        plotly=Markup(get_plotlyjs()),  # noqa: S704
        quality=_html(_bars(_quality_panels(report.models)), 340),
        popularity=_html(_bars(_popularity_panels(report.models)), 340),
        position=_html(_position(report.models), 420),
        song_map=_html(_scatter(songs, catalogue), 720),
    )


Panels = Mapping[str, Mapping[str, Estimate]]
"""Estimates by model, by the title of their panel."""


def _quality_panels(models: Mapping[str, ModelReport]) -> Panels:
    names = next(iter(models.values())).quality.figures()
    return {
        **{
            name: {model: one.quality.figures()[name] for model, one in models.items()}
            for name in names
        },
        f"coverage@{CUTOFF}": {
            model: Estimate(one.coverage, one.coverage, one.coverage)
            for model, one in models.items()
        },
    }


def _popularity_panels(models: Mapping[str, ModelReport]) -> Panels:
    groups = next(iter(models.values())).by_popularity
    return {
        f"{_HIT_RATE}, {group}": {
            model: one.by_popularity[group].hit_rate for model, one in models.items()
        }
        for group in groups
    }


def _bars(panels: Panels) -> go.Figure:
    """A panel of horizontal bars for each figure, the first model on top and in colour."""
    figure = make_subplots(1, len(panels), shared_yaxes=True, subplot_titles=list(panels))
    for column, estimates in enumerate(panels.values(), 1):
        colours = [_OURS] + [_OTHERS] * (len(estimates) - 1)
        bars = go.Bar(
            y=list(estimates),
            x=[estimate.value for estimate in estimates.values()],
            error_x=_error_bars(estimates.values()),
            orientation="h",
            marker_color=colours,
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
        figure.add_trace(bars, 1, column)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(rangemode="tozero")
    return figure.update_layout(showlegend=False)


def _position(models: Mapping[str, ModelReport]) -> go.Figure:
    """A line for each model: its hit rate by how many songs were played before."""
    figure = go.Figure()
    colours = dict(zip(models, (_OURS, *_COLOURS), strict=False))
    for number, (name, model) in enumerate(models.items()):
        estimates = [quality.hit_rate for quality in model.by_position.values()]
        line = go.Scatter(
            x=list(model.by_position),
            y=[estimate.value for estimate in estimates],
            error_y=_error_bars(estimates) if number == 0 else None,
            name=name,
            line={"color": colours[name], "width": 3 if number == 0 else 1.5},
        )
        figure.add_trace(line)
    figure.update_xaxes(title="songs played before", type="category")
    return figure.update_yaxes(title=_HIT_RATE, rangemode="tozero")


def _scatter(songs: SongMap, catalogue: Catalogue) -> go.Figure:
    """A dot for each song, in the colour of its tag."""
    hover = [
        _literal(f"{catalogue.titles[song]} - {catalogue.artists[song]}")
        for song in range(len(catalogue))
    ]
    text = np.array(hover, dtype=object)
    figure = go.Figure()
    for label, tag in ((NO_TAG, "none of these"), *enumerate(songs.tags)):
        members = np.flatnonzero(songs.labels == label)
        dots = go.Scattergl(
            x=songs.points[members, 0],
            y=songs.points[members, 1],
            text=text[members],
            name=_literal(tag),
            mode="markers",
            marker={"size": 4, "color": _NO_TAG_COLOUR if label == NO_TAG else _COLOURS[label]},
            hovertemplate="%{text}",
        )
        figure.add_trace(dots)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.update_layout(legend={"itemsizing": "constant"})


def _literal(text: str) -> str:
    """A text as plotly shows it letter by letter, rather than obeying the HTML tags in it."""
    return html.escape(text, quote=False)


def _error_bars(estimates: Iterable[Estimate]) -> dict[str, object]:
    spans = [(one.high - one.value, one.value - one.low) for one in estimates]
    above, below = zip(*spans, strict=True)
    return {"array": above, "arrayminus": below, "thickness": 1, "width": 3, "color": "#343a40"}


def _html(figure: go.Figure, height: int) -> Markup:
    figure.update_layout(
        template="none",
        height=height,
        margin=_MARGINS,
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    division = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"displayModeBar": False, "responsive": True},
    )
    return Markup(division)  # noqa: S704
