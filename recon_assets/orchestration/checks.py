"""The asset checks of Dagster: their names, their evaluation, and how the UI shows a result.

The checks have no partitions: they cover the whole history, and all checks of a run share one CheckInputs. They run
with every run that includes their asset, and alone (job `audit_history`). None is blocking; reconcile/checks.py says
why.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from recon_assets.database import transactions
from recon_assets.domain.mining import MODELS
from recon_assets.domain.settlement import Days, london_day
from recon_assets.orchestration.resource import ReconResource
from recon_assets.orchestration.specs import WIND_BIDS, calculations_key
from recon_assets.reconcile import checks
from recon_assets.reconcile.check_inputs import CheckInputs
from recon_assets.reconcile.layer import DAY, MONTH, Layer
from recon_assets.reconcile.layers import BITCOIN_DAILY, CURTAILMENT, SUMMARIES
from recon_assets.reconcile.state import first_day, last_day


def _name_of_sums(layer: Layer) -> str:
    return (
        "days_equal_their_rows"
        if layer.grain is DAY
        else ("months_equal_their_days" if layer.grain is MONTH else "years_equal_their_months")
    )


CHECKS: Mapping[dg.AssetCheckKey, checks.Check] = {
    dg.AssetCheckKey(key, name): check
    for key, name, check in (
        (WIND_BIDS, "every_period_has_proof", checks.every_period_has_proof),
        (dg.AssetKey(CURTAILMENT.name), "records_equal_bids", checks.records_equal_bids),
        (dg.AssetKey(CURTAILMENT.name), "payments_follow_volume_and_price", checks.payments_follow_volume_and_price),
        *((calculations_key(m), "every_expected_row_exists", checks.every_expected_row_exists(m)) for m in MODELS),
        *((calculations_key(m), "every_value_is_right", checks.every_value_is_right(m)) for m in MODELS),
        *((calculations_key(m), "no_orphan_no_duplicate", checks.no_orphan_no_duplicate(m)) for m in MODELS),
        (dg.AssetKey(BITCOIN_DAILY.name), "models_have_equal_counts", checks.models_have_equal_counts),
        (dg.AssetKey(BITCOIN_DAILY.name), "settlement_periods_match", checks.settlement_periods_match),
        *((dg.AssetKey(layer.name), _name_of_sums(layer), checks.sums_equal_their_rows(layer)) for layer in SUMMARIES),
    )
}
"""Every check, by its key."""


def specs_of(keys: Collection[dg.AssetKey]) -> Sequence[dg.AssetCheckSpec]:
    """The declarations of the checks of some assets."""
    return [
        dg.AssetCheckSpec(key.name, asset=key.asset_key, description=_first_line(check), blocking=False)
        for key, check in CHECKS.items()
        if key.asset_key in keys
    ]


def evaluate(
    resource: ReconResource, chosen: Collection[dg.AssetCheckKey], run: dg.DagsterRun | None = None
) -> Iterator[dg.AssetCheckResult]:
    """The results of some checks, from the rows as they are now.

    The steps of `run`, a run that only checks, share one CheckInputs.
    """
    if not chosen:
        return
    if run is not None and run.run_id in resource.check_inputs:
        for check in chosen:
            yield _result(check, CHECKS[check](resource.check_inputs[run.run_id]))
        return
    now = resource.now()
    with transactions.reading(resource.engine) as connection:
        kept = resource.kept_days()
        first, last = first_day(connection, kept), last_day(connection, kept)
    if first is None or last is None:
        for check in chosen:
            yield _result(check, checks.NOTHING_STORED)
        return
    # Include yesterday, which should be there, but today only if it has been read.
    days = Days(first, max(last, first, london_day(now) - timedelta(days=1)))
    of_run = chosen if run is None else run.asset_check_selection or CHECKS
    inputs = CheckInputs(resource.engine, resource.scope(days), now, whole=len({key.asset_key for key in of_run}) > 1)
    if run is not None:
        resource.check_inputs = {run.run_id: inputs}
    for check in chosen:
        yield _result(check, CHECKS[check](inputs))


def _result(check: dg.AssetCheckKey, result: checks.CheckResult) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {name: _number(count) for name, count in result.counts.items()}
    metadata |= {f"threshold: {name}": dg.MetadataValue.text(text) for name, text in result.thresholds.items()}
    if result.worst_days:
        records = [dg.TableRecord(dict(worst_day)) for worst_day in result.worst_days]
        columns = [dg.TableColumn(name, _type(value)) for name, value in result.worst_days[0].items()]
        metadata["worst"] = dg.MetadataValue.table(records, dg.TableSchema(columns))
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=result.holds,
        severity=dg.AssetCheckSeverity.WARN if result.is_warning else dg.AssetCheckSeverity.ERROR,
        description=result.summary,
        metadata=metadata,
    )


def _number(count: float) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.int(count) if isinstance(count, int) else dg.MetadataValue.float(count)


def _type(value: object) -> str:
    return {int: "int", float: "float"}.get(type(value), "string")


def _first_line(check: checks.Check) -> str:
    return (check.__doc__ or "").splitlines()[0]


def newest_materialization(instance: dg.DagsterInstance) -> float | None:
    """When a checked asset was last materialized (seconds since 1970)."""
    records = instance.get_asset_records(list({check.asset_key for check in CHECKS}))
    made = (record.asset_entry.last_materialization for record in records)
    return max((event.timestamp for event in made if event is not None), default=None)
