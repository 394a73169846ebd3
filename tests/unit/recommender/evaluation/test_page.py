"""The page: one file, which says what was found and obeys no title."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from services.recommender.catalogue import Catalogue
from services.recommender.evaluation.metrics import Quality, quality
from services.recommender.evaluation.page import render
from services.recommender.evaluation.report import ModelReport, Report
from services.recommender.evaluation.song_map import SongMap
from services.recommender.playlists import Corpus

SCRIPT = "<script>alert"


def measured(share: float) -> Quality:
    return quality((np.arange(100) < 100 * share).astype(np.int64), np.arange(100))


@pytest.fixture(scope="module")
def report() -> Report:
    models = {
        name: ModelReport(
            quality=measured(share),
            coverage=share,
            by_popularity={"popular": measured(share), "others": measured(share / 2)},
            by_position={"1": measured(share), "2-4": measured(share)},
            with_repeats=measured(share - 0.01),
        )
        for name, share in (("segue", 0.37), ("vsknn", 0.29))
    }
    return Report("<b>mine</b>", "validation", 36, 8_000, 1_234, 100, 7, 3, models)


@pytest.fixture(scope="module")
def catalogue(kinds_corpus: Corpus) -> Catalogue:
    return kinds_corpus.catalogue


@pytest.fixture(scope="module")
def page(report: Report, catalogue: Catalogue) -> str:
    random = np.random.default_rng(0)
    points = random.random((len(catalogue), 2), np.float32)
    labels = np.arange(len(catalogue)) % 3 - 1
    return render(report, SongMap(points, ("<i>kind 0</i>", "rock"), labels), catalogue)


def without_plotly(page: str) -> str:
    """The page but for the library in its head."""
    head, body = page.split("<body>", 1)
    return head.split("<script>", 1)[0] + body


def in_plot(text: str) -> str:
    """A text as plotly shows it letter by letter, in a string of JavaScript."""
    return json.dumps(html.escape(text, quote=False)).strip('"').replace("/", r"\u002f")


def test_it_needs_nothing_but_itself(page: str) -> None:
    assert "Plotly.newPlot" in page
    assert not re.search(r"<(script|img|link|iframe)[^>]*(src|href)=", page.split("<body>")[1])
    assert not re.search(r"<link|<script[^>]+src", page.split("<script>")[0])


def test_it_tells_the_figures(page: str) -> None:
    body = without_plotly(page)
    for text in ("1,234 validation playlists", "8,000 playlists", "0.3700", "0.2900", "0.3600"):
        assert text in " ".join(body.split())


def test_it_has_a_plot_of_each_kind(page: str) -> None:
    assert without_plotly(page).count("Plotly.newPlot(") == 4


def test_no_title_or_name_is_obeyed(page: str, catalogue: Catalogue) -> None:
    body = without_plotly(page)
    assert SCRIPT in catalogue.titles[0]
    assert SCRIPT not in body
    assert "<b>mine" not in body
    assert html.escape("<b>mine</b>") in body
    assert r"\u003cscript\u003ealert" not in body
    for text in ('<script>alert(0)</script> - "Artist" & 0', "<i>kind 0</i>"):
        assert in_plot(text) in body


def test_songs_without_tags_have_a_map_too(report: Report, catalogue: Catalogue) -> None:
    points = np.zeros((len(catalogue), 2), np.float32)
    untagged = SongMap(points, (), np.full(len(catalogue), -1))
    assert "none of these" in render(report, untagged, catalogue)


def test_a_report_of_one_model_is_a_page(report: Report, catalogue: Catalogue) -> None:
    one = replace(report, models={"segue": report.models["segue"]})
    points = np.zeros((len(catalogue), 2), np.float32)
    render(one, SongMap(points, (), np.full(len(catalogue), -1)), catalogue)
