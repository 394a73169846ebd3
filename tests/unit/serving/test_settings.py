from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.recommender.settings import RecommenderSettings
from serving.settings import HomeSettings, SettingsError, read_settings


def test_the_default_ports_are_those_of_the_readme() -> None:
    ports = [
        read_settings(settings, [], "segue").port
        for settings in (GatewaySettings, RecommenderSettings, GeneratorSettings)
    ]
    assert ports == [50050, 50051, 50052]


def test_a_flag_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_GATEWAY_PORT", "1234")
    assert read_settings(GatewaySettings, [], "segue").port == 1234
    assert read_settings(GatewaySettings, ["--port=2345"], "segue").port == 2345


def test_metrics_can_be_turned_off() -> None:
    assert read_settings(GatewaySettings, ["--metrics-port=null"], "segue").metrics_port is None


def test_a_bad_setting_is_told_by_flag_and_variable() -> None:
    with pytest.raises(SettingsError, match=r"--port \(or SEGUE_GATEWAY_PORT\)"):
        read_settings(GatewaySettings, ["--port=many"], "segue")


def test_help_tells_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(RecommenderSettings, ["--help"], "segue serve recommender")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in RecommenderSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    assert "Folder of song models" in text


def test_everything_is_kept_below_one_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEGUE_HOME", str(tmp_path))
    assert HomeSettings().home == tmp_path
    assert read_settings(RecommenderSettings, [], "segue").models == tmp_path / "models"
    assert read_settings(GeneratorSettings, [], "segue").cache == tmp_path / "weights"
