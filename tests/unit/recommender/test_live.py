"""The served model follows `models/current`, and stays with what works."""

import gc
import logging
import weakref
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.recommender import artifact
from services.recommender.artifact import MANIFEST, ArtifactError
from services.recommender.live import LiveModel
from services.recommender.versions import CURRENT, HISTORY, Versions
from tests.song_models import numbered_model

ORDER = ("a", "b", "c")
"""The versions, in the order in which they were trained and became current."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for version in ORDER:
        artifact.save(numbered_model(version), folder)
    return folder


def started(models: Path, version: str | None = None) -> LiveModel:
    live = LiveModel(models, version)
    live.start()
    return live


def serving(live: LiveModel) -> str:
    assert live.served is not None
    return live.served.model.version


def spoil(models: Path, version: str) -> None:
    with (models / version / "vectors.npy").open("r+b") as file:
        file.truncate(200)


def repair(models: Path, version: str) -> None:
    """As if the folder had been copied here again."""
    for file in (models / version).iterdir():
        file.unlink()
    (models / version).rmdir()
    artifact.save(numbered_model(version), models)


def refused_count() -> float:
    return REGISTRY.get_sample_value("segue_recommender_refused_versions_total") or 0.0


class TestFollowing:
    def test_what_is_current_is_served(self, models: Path) -> None:
        live = started(models)
        assert serving(live) == "c"
        assert (live.refusals, live.problem) == ((), "")

    def test_nothing_is_served_before_the_start(self, models: Path) -> None:
        assert LiveModel(models).served is None

    def test_another_version_is_served_once_it_is_current(self, models: Path) -> None:
        live = started(models)
        Versions(models).activate("a")
        assert serving(live) == "c"
        live.refresh()
        assert serving(live) == "a"

    def test_while_nothing_changes_nothing_is_loaded(self, models: Path) -> None:
        live = started(models)
        served = live.served
        Versions(models).activate("c")
        live.refresh()
        assert live.served is served

    def test_a_version_that_was_asked_for_is_served_whatever_is_current(self, models: Path) -> None:
        live = started(models, "b")
        Versions(models).activate("a")
        live.refresh()
        assert serving(live) == "b"

    def test_what_a_request_took_stays_whole_until_it_lets_go(self, models: Path) -> None:
        live = started(models)
        taken = live.served
        assert taken is not None
        vectors = weakref.ref(taken.model.vectors)
        Versions(models).activate("a")
        live.refresh()
        assert taken.model.catalogue[0].id == "0@c"
        # Without the collector's help: maps are closed when the last request ends, not some time.
        gc.disable()
        try:
            del taken
            assert vectors() is None
        finally:
            gc.enable()


class TestRefusing:
    def test_a_broken_version_is_refused_and_the_old_one_serves_on(self, models: Path) -> None:
        spoil(models, "b")
        live = started(models)
        before = refused_count()
        Versions(models).activate("b")
        live.refresh()
        assert serving(live) == "c"
        (refusal,) = live.refusals
        assert refusal.version == "b"
        assert refusal.reason.startswith("models/b/vectors.npy: ")
        assert "train again" in refusal.reason
        assert live.problem == refusal.reason
        assert refused_count() == before + 1

    def test_it_is_told_once_and_not_at_each_look(
        self, models: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        spoil(models, "b")
        live = started(models)
        Versions(models).activate("b")
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                live.refresh()
        assert len(live.refusals) == len(caplog.records) == 1

    def test_a_version_that_loads_but_does_not_answer_is_refused(
        self, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        live = started(models)
        Versions(models).activate("a")
        monkeypatch.setattr("services.recommender.ranking.Ranker.similar", lambda *_: 1 / 0)
        live.refresh()
        assert serving(live) == "c"
        assert "does not answer: ZeroDivisionError" in live.problem

    def test_it_is_tried_again_when_its_manifest_changes(self, models: Path) -> None:
        spoil(models, "b")
        live = started(models)
        Versions(models).activate("b")
        live.refresh()
        repair(models, "b")
        live.refresh()
        assert serving(live) == "b"
        assert live.problem == ""
        assert len(live.refusals) == 1

    def test_it_is_tried_again_when_it_is_activated_again(self, models: Path) -> None:
        spoil(models, "b")
        live = started(models)
        for _ in range(2):
            Versions(models).activate("b")
            live.refresh()
        assert len(live.refusals) == 2

    def test_there_is_no_problem_once_what_is_served_is_current_again(self, models: Path) -> None:
        spoil(models, "b")
        live = started(models)
        served = live.served
        Versions(models).activate("b")
        live.refresh()
        Versions(models).rollback()
        live.refresh()
        assert live.problem == ""
        assert live.served is served

    def test_a_version_that_is_not_there_is_refused(self, models: Path) -> None:
        live = started(models)
        (models / CURRENT).write_text("gone\n")
        live.refresh()
        assert serving(live) == "c"
        assert live.refusals[-1].version == "gone"
        assert "no such version" in live.problem

    @pytest.mark.parametrize("content", [None, b"", b"../c", b"\xff"])
    def test_a_current_that_names_no_version_is_refused(
        self, models: Path, content: bytes | None
    ) -> None:
        live = started(models)
        (models / CURRENT).unlink()
        if content is not None:
            (models / CURRENT).write_bytes(content)
        live.refresh()
        assert serving(live) == "c"
        assert live.refusals[-1].version == CURRENT
        assert live.problem.startswith(f"models/{CURRENT}: ")

    def test_ten_refusals_are_remembered_the_latest_last(self, models: Path) -> None:
        live = started(models)
        for number in range(12):
            (models / CURRENT).write_text(f"gone-{number}\n")
            live.refresh()
        assert [refusal.version for refusal in live.refusals] == [f"gone-{n}" for n in range(2, 12)]


class TestStarting:
    def test_the_latest_version_before_a_broken_one_is_served_and_it_is_told(
        self, models: Path
    ) -> None:
        spoil(models, "b")
        spoil(models, "c")
        live = started(models)
        assert serving(live) == "a"
        assert [refusal.version for refusal in live.refusals] == ["c", "b"]
        assert live.problem == live.refusals[0].reason

    def test_before_means_what_was_current_before(self, models: Path) -> None:
        versions = Versions(models)
        for version in ("a", "b"):
            versions.activate(version)
        spoil(models, "b")
        assert serving(started(models)) == "a"

    def test_without_a_history_it_means_what_was_trained_before(self, models: Path) -> None:
        (models / HISTORY).unlink()
        Versions(models).activate("b")
        (models / HISTORY).unlink()
        spoil(models, "b")
        assert serving(started(models)) == "a"

    def test_a_history_that_cannot_be_read_is_no_obstacle(self, models: Path) -> None:
        (models / HISTORY).write_bytes(b"\xff")
        spoil(models, "c")
        assert serving(started(models)) == "b"

    def test_when_current_names_no_version_what_was_before_is_served(self, models: Path) -> None:
        (models / CURRENT).write_bytes(b"\xff")
        live = started(models)
        assert serving(live) == "b"
        assert "names no version" in live.problem

    def test_when_nothing_tells_what_was_before_the_latest_is_served(self, models: Path) -> None:
        (models / CURRENT).unlink()
        (models / HISTORY).unlink()
        assert serving(started(models)) == "c"

    def test_a_broken_version_is_served_as_soon_as_it_is_whole(self, models: Path) -> None:
        spoil(models, "c")
        live = started(models)
        repair(models, "c")
        live.refresh()
        assert serving(live) == "c"

    def test_it_fails_when_no_version_can_be_served(self, models: Path) -> None:
        for version in ORDER:
            spoil(models, version)
        with pytest.raises(ArtifactError, match=r"c/vectors\.npy"):
            LiveModel(models).start()

    def test_it_fails_when_there_is_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match="no such folder; run `segue train`"):
            LiveModel(tmp_path / "none").start()

    def test_a_version_that_was_asked_for_has_no_substitute(self, models: Path) -> None:
        spoil(models, "b")
        with pytest.raises(ArtifactError, match=r"b/vectors\.npy"):
            LiveModel(models, "b").start()


def test_the_manifest_is_what_tells_whether_a_version_changed(models: Path) -> None:
    live = started(models)
    served = live.served
    manifest = models / "c" / MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    live.refresh()
    assert serving(live) == "c"
    assert live.served is not served
