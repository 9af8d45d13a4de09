from datetime import date
from pathlib import Path

import pytest

from recon_assets.domain.curtailment import CurtailmentRule
from recon_assets.errors import ConfigurationError
from recon_assets.settings import Settings, Unattended

FOLDER = Path("/somewhere")


def read(**environ: str) -> Settings:
    return Settings.from_environment(environ, FOLDER)


def test_without_any_variable_there_is_a_working_default() -> None:
    settings = read()

    assert settings.database_url.render_as_string() == "sqlite:////somewhere/.recon/recon.db"
    assert settings.elexon_api_url == "https://data.elexon.co.uk/bmrs/api/v1"
    assert settings.mempool_api_url == "https://mempool.space/api"
    assert settings.curtailment_rule is CurtailmentRule.SO_FLAGGED
    assert settings.dagster_home == FOLDER / ".recon" / "dagster"
    assert settings.recordings is None
    assert (settings.elexon_requests_per_second, settings.elexon_requests_in_flight) == (8, 8)


def test_an_outage_is_waited_for_as_long_as_is_said() -> None:
    assert read().outage_minutes == 30
    assert read(RECON_OUTAGE_MINUTES="0").outage_minutes == 0
    assert read(RECON_OUTAGE_MINUTES="1.5").outage_minutes == 1.5


def test_every_folder_may_be_elsewhere() -> None:
    given = {"DAGSTER_HOME": "/a", "RECON_ARCHIVE": "b", "RECON_LOGS": "/c", "RECON_REPORTS": "/d/e"}

    settings = read(**given)

    folders = (settings.dagster_home, settings.archive_folder, settings.log_folder, settings.report_folder)
    assert folders == (Path("/a"), FOLDER / "b", Path("/c"), Path("/d/e"))
    default = read()
    assert (default.archive_folder, default.log_folder, default.report_folder) == (
        FOLDER / ".recon/archive",
        FOLDER / ".recon/logs",
        FOLDER / ".recon/reports",
    )


def test_a_blank_variable_counts_as_unset() -> None:
    blank = {"DATABASE_URL": "", "ELEXON_API_URL": " ", "CURTAILMENT_RULE": "\t", "ELEXON_ATTEMPTS": ""}

    assert read(**blank) == read()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_postgresql_url_is_accepted_with_sslmode_and_search_path(scheme: str) -> None:
    url = read(DATABASE_URL=f"{scheme}://ann:p%40ss@db.example:5433/wind?sslmode=require&search_path=old,public")

    assert url.database_url.drivername == "postgresql+psycopg"
    assert (url.database_url.username, url.database_url.password) == ("ann", "p@ss")
    assert (url.database_url.host, url.database_url.port, url.database_url.database) == ("db.example", 5433, "wind")
    assert dict(url.database_url.query) == {"sslmode": "require", "search_path": "old,public"}


@pytest.mark.parametrize(
    ("text", "file"),
    [("sqlite:///data/wind.db", "/somewhere/data/wind.db"), ("sqlite:////srv/wind.db", "/srv/wind.db")],
)
def test_an_sqlite_file_is_found_from_the_folder(text: str, file: str) -> None:
    assert read(DATABASE_URL=text).database_url.database == file


def test_recordings_are_a_folder_and_leave_the_network_alone() -> None:
    settings = read(ELEXON_API_URL="file:///data/my%20days")

    assert settings.recordings == Path("/data/my days")
    assert settings.mempool_api_url is None


def test_a_named_mempool_is_asked_even_with_recordings() -> None:
    settings = read(ELEXON_API_URL="file:///data", MEMPOOL_API_URL="http://localhost:8080/api/")

    assert settings.mempool_api_url == "http://localhost:8080/api"


def test_mempool_none_leaves_it_at_the_packaged_table() -> None:
    assert read(MEMPOOL_API_URL="none").mempool_api_url is None


def test_everything_else_can_be_set() -> None:
    settings = read(
        ELEXON_API_URL="http://127.0.0.1:8090/bmrs/api/v1/",
        CURTAILMENT_RULE="all_bids",
        DAGSTER_HOME="state",
        ELEXON_REQUESTS_PER_SECOND="0.5",
        ELEXON_REQUESTS_IN_FLIGHT="3",
        ELEXON_ATTEMPTS="2",
        ELEXON_TIMEOUT_SECONDS="7.5",
    )

    assert settings.elexon_api_url == "http://127.0.0.1:8090/bmrs/api/v1"
    assert settings.curtailment_rule is CurtailmentRule.ALL_BIDS
    assert settings.dagster_home == FOLDER / "state"
    assert settings.elexon_requests_per_second == 0.5
    assert settings.elexon_requests_in_flight == 3
    assert settings.elexon_attempts == 2
    assert settings.elexon_timeout_seconds == 7.5


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "my database"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "mysql://ann:s3cret@db/wind"),
        ("DATABASE_URL", "postgresql://ann:s3cret@db:543x/wind"),
        ("DATABASE_URL", "postgresql://ann:s3cret@[::1/wind"),
        ("DATABASE_URL", "postgresql://ann:pass@s3cret@db/wind"),
        ("DATABASE_URL", "postgresql://ann:pa@ss/s3cret%#1@db/wind"),
        ("DATABASE_URL", "postgresql://ann:s3cret%zz@db/wind"),
        ("DATABASE_URL", "postgresql://ann:1?s3cret@db/wind"),
        ("ELEXON_API_URL", "data.elexon.co.uk"),
        ("ELEXON_API_URL", "ftp://data.elexon.co.uk"),
        ("ELEXON_API_URL", "postgresql://ann:s3cret@db/wind"),
        ("ELEXON_API_URL", "http://[bad"),
        ("ELEXON_API_URL", "file://recordings"),
        ("ELEXON_API_URL", "file:recordings"),
        ("MEMPOOL_API_URL", "mempool.space"),
        ("MEMPOOL_API_URL", "file:///data"),
        ("MEMPOOL_API_URL", "https://"),
        ("CURTAILMENT_RULE", "everything"),
        ("CURTAILMENT_RULE", "SO_FLAGGED"),
        ("DAGSTER_HOME", "~nobody-of-this-name/dagster"),
        ("ELEXON_REQUESTS_PER_SECOND", "many"),
        ("ELEXON_REQUESTS_PER_SECOND", "0"),
        ("ELEXON_REQUESTS_PER_SECOND", "nan"),
        ("ELEXON_REQUESTS_PER_SECOND", "inf"),
        ("ELEXON_REQUESTS_IN_FLIGHT", "-1"),
        ("ELEXON_REQUESTS_IN_FLIGHT", "0.5"),
        ("RECON_OUTAGE_MINUTES", "-1"),
        ("RECON_OUTAGE_MINUTES", "half an hour"),
        ("RECON_OUTAGE_MINUTES", "inf"),
        ("ELEXON_ATTEMPTS", "0"),
        ("ELEXON_ATTEMPTS", "2.5"),
        ("ELEXON_TIMEOUT_SECONDS", "30s"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        read(**{variable: value})

    message = str(failure.value)
    assert message.startswith(variable)
    assert "\n" not in message
    assert "s3cret" not in message
    assert failure.value.exit_code == 2


def test_settings_in_print_hide_the_password() -> None:
    assert "s3cret" not in repr(read(DATABASE_URL="postgresql://ann:s3cret@db/wind"))


def test_alert_urls_are_separated_by_blanks_and_none_by_default() -> None:
    assert read().alert_urls == ()
    assert read(RECON_ALERT_URLS=" json://a/  mailto://b\n").alert_urls == ("json://a/", "mailto://b")


def test_nothing_that_asks_elexon_runs_by_itself_unless_it_is_switched_on() -> None:
    assert Unattended.from_environment({}) == Unattended(everything=False, tick_seconds=60)
    assert Unattended.from_environment({"RECON_UNATTENDED": " "}) == Unattended(everything=False, tick_seconds=60)
    given = {"RECON_UNATTENDED": "ON", "RECON_TICK_SECONDS": "30"}
    assert Unattended.from_environment(given) == Unattended(everything=True, tick_seconds=30)
    assert not Unattended.from_environment({"RECON_UNATTENDED": "off"}).everything


@pytest.mark.parametrize(
    ("variable", "value"),
    [("RECON_UNATTENDED", "yes"), ("RECON_TICK_SECONDS", "0"), ("RECON_TICK_SECONDS", "soon")],
)
def test_a_wrong_switch_is_one_line_that_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{variable}: .*$"):
        Unattended.from_environment({variable: value})


def test_alert_urls_in_print_are_hidden() -> None:
    assert "s3cret" not in repr(read(RECON_ALERT_URLS="json://ann:s3cret@host/"))


def first_day_of(tmp_path: Path, text: str) -> date:
    return Settings.from_environment({"RECON_FIRST_DAY": text}, tmp_path).first_day


def test_the_first_kept_day_is_in_2022_unless_another_is_named(tmp_path: Path) -> None:
    assert Settings.from_environment({}, tmp_path).first_day == date(2022, 1, 1)
    assert first_day_of(tmp_path, " ") == date(2022, 1, 1)
    assert first_day_of(tmp_path, "2024-01-01") == date(2024, 1, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2024", "'2024' is not a date: write YYYY-MM-DD"),
        ("2024-02-01", "2024-02-01 is no 1 January: write for example 2024-01-01"),
        ("2124-01-01", "2124-01-01 is still to come"),
    ],
)
def test_a_wrong_first_day_is_one_line_that_names_the_variable(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        first_day_of(tmp_path, text)

    assert str(failure.value).startswith(f"RECON_FIRST_DAY: {reason}")
    assert "\n" not in str(failure.value)
