"""Partitions are days, months and years in London time from 2022 on, the running ones included."""

import ast
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recon_assets.definitions import defs
from recon_assets.demo import DEMO_DAYS, DEMO_HOME
from recon_assets.domain.settlement import FIRST_DAY, PERIOD, day_starts_at, periods_in
from recon_assets.errors import UsageError
from recon_assets.orchestration.partitions import DAYS, MONTHS, PARTITIONS, YEARS, days_of
from recon_assets.reconcile.layer import DAY, MONTH, YEAR, Grain


@pytest.mark.parametrize(
    ("partitions", "first", "running"),
    [(DAYS, "2022-01-01", "2025-06-07"), (MONTHS, "2022-01", "2025-06"), (YEARS, "2022", "2025")],
)
def test_they_begin_with_2022_and_include_the_running_one(
    partitions: dg.TimeWindowPartitionsDefinition, first: str, running: str
) -> None:
    keys = partitions.get_partition_keys(current_time=datetime(2025, 6, 7, 9, tzinfo=UTC))

    assert (keys[0], keys[-1]) == (first, running)


def test_those_of_the_demo_are_june_2025_and_its_month_and_year(tmp_path: Path) -> None:
    of_all = "[partitions.get_partition_keys() for partitions in PARTITIONS.values()]"
    show = f"from recon_assets.orchestration.partitions import PARTITIONS; print({of_all})"
    environment = {**os.environ, DEMO_HOME: str(tmp_path), "RECON_FIRST_DAY": "nonsense"}

    shown = subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, text=True, check=True)

    assert ast.literal_eval(shown.stdout) == [[str(day) for day in DEMO_DAYS], ["2025-06"], ["2025"]]


def test_a_day_begins_at_midnight_in_london() -> None:
    # half past eleven in the evening UTC is the next day in London's summer, and the same day in its winter
    assert DAYS.get_partition_keys(current_time=datetime(2025, 6, 6, 23, 30, tzinfo=UTC))[-1] == "2025-06-07"
    assert DAYS.get_partition_keys(current_time=datetime(2025, 12, 6, 23, 30, tzinfo=UTC))[-1] == "2025-12-06"


@given(st.dates(FIRST_DAY, date(2030, 12, 31)))
def test_a_day_is_as_long_as_its_settlement_periods(day: date) -> None:
    window = DAYS.time_window_for_partition_key(day.isoformat())

    assert window.start.astimezone(UTC) == day_starts_at(day)
    assert window.end.astimezone(UTC) - window.start.astimezone(UTC) == periods_in(day) * PERIOD
    assert list(days_of(DAY, day.isoformat())) == [day]


@pytest.mark.parametrize(("grain", "key"), [(MONTH, "2024-02"), (MONTH, "2025-03"), (MONTH, "2025-12"), (YEAR, "2024")])
def test_the_days_of_a_partition_are_those_of_its_window(grain: Grain, key: str) -> None:
    window = PARTITIONS[grain].time_window_for_partition_key(key)

    days = days_of(grain, key)

    assert (days.first, days.last) == (window.start.date(), window.end.date() - timedelta(days=1))


@pytest.mark.parametrize(("grain", "key"), [(DAY, "2025-06-31"), (MONTH, "2025-13"), (YEAR, "25")])
def test_a_partition_that_does_not_exist_is_refused(grain: Grain, key: str) -> None:
    with pytest.raises(UsageError, match=key):
        days_of(grain, key)


@pytest.mark.parametrize(
    ("asset", "partition", "parent", "expected"),
    [
        ("curtailment_records", "2025-06-06", "wind_bids", ("2025-06-06", "2025-06-06", 1)),
        ("monthly_summaries", "2025-03", "daily_summaries", ("2025-03-01", "2025-03-31", 31)),
        ("bitcoin_monthly_summaries", "2024-02", "bitcoin_daily_summaries", ("2024-02-01", "2024-02-29", 29)),
        ("bitcoin_yearly_summaries", "2024", "bitcoin_monthly_summaries", ("2024-01", "2024-12", 12)),
    ],
)
def test_a_partition_is_made_of_those_within_it(
    asset: str, partition: str, parent: str, expected: tuple[str, str, int]
) -> None:
    # given the partitions that Dagster takes an asset's partition to depend on
    graph = defs.resolve_asset_graph()
    child, above = graph.get(dg.AssetKey(asset)), graph.get(dg.AssetKey(parent))
    mapping = graph.get_partition_mapping(child.key, above.key)
    assert child.partitions_def is not None
    assert above.partitions_def is not None

    # when
    upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
        child.partitions_def.subset_with_partition_keys([partition]), child.partitions_def, above.partitions_def
    )

    # then
    keys = sorted(upstream.partitions_subset.get_partition_keys())
    assert (keys[0], keys[-1], len(keys)) == expected
