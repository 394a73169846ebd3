"""`segue train`: where it takes its playlists from, how it chooses settings, what it keeps."""

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from cli.training import TrainError, read_corpus, train_model
from services.recommender import artifact
from services.recommender.blend import DEFAULT_BLEND
from services.recommender.evaluation.baselines import BASELINES
from services.recommender.evaluation.cases import next_song_cases
from services.recommender.evaluation.experiment import MODEL
from services.recommender.evaluation.split import Part, split
from services.recommender.training import PRESETS
from services.recommender.tuning import Settings

PLAYS = "playlist_id,position,song_id,title,artist\np,0,a,Halo,Beyoncé\np,1,b,Fade,Metallica\n"


def test_a_file_or_the_folder_that_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "plays.csv").write_text(PLAYS, "utf-8")
    for place in (tmp_path, tmp_path / "plays.csv"):
        assert len(read_corpus(str(place)).catalogue) == 2


def test_the_built_in_playlists() -> None:
    assert len(read_corpus("starter").catalogue) == 600


def test_malformed_playlists_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "plays.csv").write_text(PLAYS.replace("p,1", "p,x"), "utf-8")
    with pytest.raises(TrainError, match=r"^plays\.csv:3: position 'x' is not a number"):
        train_model(str(tmp_path), "radio", tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 playlists that walk round 20 songs by one, two or three steps."""
    random = np.random.default_rng(4)
    lines = ["playlist_id,position,song_id,title,artist"]
    for number in range(120):
        songs = random.integers(1, 4, 6).cumsum() % 20
        lines += [f"{number},{n},s{k},Song {k},[b]" for n, k in enumerate(songs.tolist())]
    folder = tmp_path_factory.mktemp("circle")
    (folder / "plays.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


class TestTraining:
    def train(self, corpus: Path, models: Path, *flags: str) -> Result:
        command = ["train", f"--data={corpus}", "--preset=book", f"--models={models}", *flags]
        return CliRunner().invoke(app, command)

    def test_by_itself_it_neither_tunes_nor_measures(self, corpus: Path, tmp_path: Path) -> None:
        assert self.train(corpus, tmp_path).exit_code == 0
        model = artifact.load(tmp_path)
        assert model.hyperparameters == PRESETS["book"]
        assert model.blend == DEFAULT_BLEND
        assert model.evaluation is None

    def test_it_trains_on_everything_with_the_settings_that_tuning_found(
        self, corpus: Path, tmp_path: Path
    ) -> None:
        result = self.train(corpus, tmp_path, "--tune", "--budget=0.02")
        assert result.exit_code == 0
        [summary] = [line for line in result.stdout.splitlines() if line.startswith("tuned on")]
        assert "tried: default ndcg@10 0." in summary
        model = artifact.load(tmp_path)
        assert model.statistics.playlists == 120
        found = Settings(model.hyperparameters, model.blend)
        changes = Settings(PRESETS["book"]).changes(found)
        for name, (old, new) in changes.items():
            assert f"{name} {old:g} -> {new:g}" in summary
        assert ("; nothing was better" in summary) is (not changes)

    def test_without_time_to_tune_the_preset_stands(self, corpus: Path, tmp_path: Path) -> None:
        result = self.train(corpus, tmp_path, "--tune", "--budget=0")
        assert "1 tried" in result.stdout
        assert "; nothing was better" in result.stdout
        assert artifact.load(tmp_path).hyperparameters == PRESETS["book"]

    def test_the_model_keeps_the_figures_of_the_test_part(
        self, corpus: Path, tmp_path: Path
    ) -> None:
        result = self.train(corpus, tmp_path, "--evaluate")
        assert result.exit_code == 0
        evaluation = artifact.load(tmp_path).evaluation
        assert evaluation is not None
        assert [metrics.name for metrics in evaluation.metrics] == [MODEL, *BASELINES]
        parts = split(read_corpus(str(corpus)), Part.TEST)
        cases = next_song_cases(parts.held_out)
        assert evaluation.targets == np.count_nonzero(~cases.repeats)

    @pytest.mark.parametrize("flag", ["--tune", "--evaluate"])
    def test_a_corpus_too_small_to_hold_playlists_out_is_told_in_a_line(
        self, tmp_path: Path, flag: str
    ) -> None:
        (tmp_path / "plays.csv").write_text(PLAYS, "utf-8")
        result = self.train(tmp_path, tmp_path / "models", flag)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert "part of" in result.stderr
        assert "is empty" in result.stderr
        assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("command", [("evaluate",), ("train", "--evaluate")])
@pytest.mark.parametrize("package", ["implicit", "plotly"])
def test_a_missing_package_is_told_with_how_to_install_it(
    command: tuple[str, ...], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error: measuring needs {package}; run: pip install 'segue[evaluation]'\n"
    )
