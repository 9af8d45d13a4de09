"""In the demo home, nothing that is set elsewhere counts."""

from datetime import date
from pathlib import Path

from recon_assets.demo import DEMO_HOME, in_effect
from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.settings import Settings, Unattended

WRONG = {
    "DATABASE_URL": "nonsense", "CURTAILMENT_RULE": "nonsense", "ELEXON_ATTEMPTS": "0", "RECON_UNATTENDED": "on",
    "RECON_ALERT_URLS": "json://somewhere", "RECON_FIRST_DAY": "nonsense",
}  # fmt: skip


def test_the_settings_are_those_of_the_demo(tmp_path: Path) -> None:
    environ = {**WRONG, DEMO_HOME: str(tmp_path)}

    settings = Settings.from_environment(environ, Path("/"))

    assert settings.database_url.database == str(tmp_path / "recon.db")
    assert {settings.dagster_home, settings.log_folder, settings.report_folder, settings.archive_folder} == {
        tmp_path / name for name in ("dagster", "logs", "reports", "archive")
    }
    assert (settings.curtailment_rule, settings.alert_urls) == (CurtailmentRule.SO_FLAGGED, ())
    assert (settings.first_day, settings.mempool_api_url) == (date(2025, 1, 1), None)
    assert settings.recordings
    assert (settings.recordings / "2025-06-30.json.gz").exists()
    assert not Unattended.from_environment(environ).everything


def test_without_a_demo_home_the_given_variables_count() -> None:
    assert in_effect(WRONG) == WRONG
