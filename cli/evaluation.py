"""Measure a song model, and print or write what was found."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.measuring import measure
from cli.training import read_corpus
from services.recommender.download import DownloadError
from services.recommender.evaluation.errors import EvaluationError
from services.recommender.evaluation.experiment import MODEL
from services.recommender.evaluation.metrics import CUTOFF, Estimate
from services.recommender.evaluation.page import render
from services.recommender.evaluation.report import Report
from services.recommender.evaluation.song_map import map_songs
from services.recommender.evaluation.split import Part
from services.recommender.formats import CorpusError
from services.recommender.training import PRESETS, TrainingError
from services.recommender.tuning import Settings

Format = Literal["table", "json"]


class EvaluateError(Exception):
    """Nothing was measured, or not written; the message says why, in a line."""


def evaluate_model(data: str, preset: str, part: Part, output: Format, page: Path | None) -> None:
    """Train on a corpus's training part, measure on a held-out one, and print the figures.

    With the output "json", standard output gets one JSON object and nothing else.

    Args:
        data: The corpus, as `read_corpus` takes it.
        preset: Settings of the song model.
        part: Which playlists are held out.
        output: How the figures are printed.
        page: A file to write the report to as a page, too.
    """
    if preset not in PRESETS:
        raise EvaluateError(f"there is no preset {preset!r}; known are: {', '.join(PRESETS)}")
    if page and not page.resolve().parent.is_dir():
        raise EvaluateError(f"there is no folder {page.resolve().parent}; make it first")
    try:
        with redirect_stdout(sys.stderr):
            report, model = measure(read_corpus(data), Settings(PRESETS[preset]), part)
    except (CorpusError, DownloadError, EvaluationError, TrainingError) as error:
        raise EvaluateError(str(error)) from None
    if output == "json":
        print(report.to_json())  # noqa: T201
    else:
        _show(report)
    if page:
        _write(page, render(report, map_songs(model), model.catalogue))


def _write(page: Path, text: str) -> None:
    try:
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluateError(f"{page} cannot be written: {error.strerror}") from None


def _show(report: Report) -> None:
    console = Console(highlight=False)
    console.print(
        f"{escape(report.corpus)}: {report.targets:,} targets of {report.held_out_playlists:,} "
        f"{report.part} playlists, {report.songs:,} candidates; left out: {report.repeats:,} "
        f"repeats, {report.unseen:,} that training never saw"
    )
    console.print(_table_of_figures(report))
    console.print(_table_of_groups(report))


def _table_of_figures(report: Report) -> Table:
    table = _table("95 % intervals over playlists")
    for heading in (*report.models[MODEL].quality.figures(), f"coverage@{CUTOFF}"):
        table.add_column(heading, justify="right")
    for name, model in report.models.items():
        figures = map(_with_interval, model.quality.figures().values())
        table.add_row(name, *figures, f"{model.coverage:.3f}")
    return table


def _table_of_groups(report: Report) -> Table:
    """Hit rates only."""
    table = _table(f"hr@{CUTOFF} by popularity and by songs played before")
    first = report.models[MODEL]
    for heading in (*first.by_popularity, *first.by_position, "with repeats"):
        table.add_column(heading, justify="right")
    for name, model in report.models.items():
        groups = (
            *model.by_popularity.values(),
            *model.by_position.values(),
            model.with_repeats,
        )
        table.add_row(name, *(f"{group.hit_rate.value:.3f}" for group in groups))
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    return table


def _with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f}-{estimate.high:.3f})"
