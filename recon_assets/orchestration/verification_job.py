"""The job that compares days with Elexon, and with `repair` reads again what differs."""

import random
from collections.abc import Sequence
from datetime import date

import dagster as dg
from pydantic import Field
from sqlalchemy.exc import DBAPIError

from recon_assets.database import transactions
from recon_assets.database.tables import proof_of_fetch
from recon_assets.domain.settlement import Days, parse_day
from recon_assets.domain.words import plural
from recon_assets.errors import ReconError, SourceDownError, UsageError
from recon_assets.ingest.verification import Finding, Method, Verification
from recon_assets.ingest.verify import verify_day
from recon_assets.orchestration.logs import open_log
from recon_assets.orchestration.pools import ELEXON
from recon_assets.orchestration.reingestion import reingest_whole_day
from recon_assets.orchestration.resource import RESOURCE_KEY, ReconResource
from recon_assets.orchestration.specs import WIND_BIDS
from recon_assets.orchestration.steps import at_work, fail_for
from recon_assets.reconcile.plan import format_days
from recon_assets.reconcile.settlement_days import distinct_days
from recon_assets.reports.verification import verification_facts


class VerifyDays(dg.Config):
    """Which days are verified, how, and whether what differs is read again."""

    settlement_dates: list[str] = Field(default=[], description="The settlement days, each YYYY-MM-DD.")
    random_days: int = Field(default=0, ge=0, description="So many further days, drawn from all that were ingested.")
    seed: int | None = Field(default=None, description="Draws the same days, and periods, again.")
    method: str = Field(default=Method.WITNESS.value, description=f"One of: {', '.join(Method)}.")
    repair: bool = Field(default=False, description="Read again what differs, and cascade.")


@dg.op(required_resource_keys={RESOURCE_KEY}, pool=ELEXON)
def verify_settlement_days(context: dg.OpExecutionContext, config: VerifyDays) -> None:
    """Compares each day with Elexon; one that could not be compared does not stop the others."""
    with at_work(context) as resource, open_log(resource.settings.log_folder, "verify") as log:
        seed = random.randrange(2**32) if config.seed is None else config.seed
        days = _days(resource, config, seed)
        context.log.info(
            f"{plural(len(days), 'day')} by {config.method}, seed {seed}: {', '.join(map(str, days)) or 'none'}"
        )
        failures: dict[date, str] = {}
        for number, day in enumerate(days):
            try:
                found = _verify(context, resource, day, Method(config.method), seed)
                log.info("verified", extra=verification_facts(found))
                if config.repair and found.mended_by and found.finding is not Finding.NOT_COMPARABLE:
                    reingest_whole_day(context, resource, day)
                    found = _verify(context, resource, day, Method(config.method), seed)
                    log.info("verified", extra=verification_facts(found))
            except SourceDownError as error:
                failures |= dict.fromkeys(days[number:], str(error))
                log.error("source down", extra={"unread": format_days(days[number:]), "reason": str(error)})
                break
            except (ReconError, DBAPIError, dg.Failure) as error:
                failures[day] = str(error.description if isinstance(error, dg.Failure) else error)
                log.error("failed", extra={"settlement_date": day.isoformat(), "reason": failures[day]})
                continue
            if found.finding in (Finding.DIFFERS, Finding.NOT_STORED):
                failures[day] = f"{day}: {found.finding}; run '{found.mended_by}'"
        fail_for(failures, len(days))


@dg.job(description="Compares settlement days with Elexon, and with `repair` reads again what differs.")
def verify_days() -> None:
    """A single step, which compares the days one after the other, under the rate limit."""
    verify_settlement_days()


def _days(resource: ReconResource, config: VerifyDays, seed: int) -> Sequence[date]:
    if config.method not in list(Method):
        raise UsageError(f"{config.method!r} is no method: write one of {', '.join(Method)}")
    named = [parse_day(text) for text in config.settlement_dates]
    if not named and not config.random_days:
        raise UsageError("no day to verify: give settlement_dates or random_days")
    if not config.random_days:
        return named
    with transactions.reading(resource.engine) as connection:
        ingested = sorted(
            set(distinct_days(connection, proof_of_fetch)).intersection(resource.kept_days()).difference(named)
        )
    drawn = random.Random(seed).sample(ingested, min(config.random_days, len(ingested)))
    return [*named, *sorted(drawn, reverse=True)]


def _verify(
    context: dg.OpExecutionContext, resource: ReconResource, day: date, method: Method, seed: int
) -> Verification:
    """Verifies a day, and logs the finding as an observation of the day's partition."""
    scope = resource.scope(Days(day, day))
    found = resource.patiently(
        lambda: verify_day(resource.engine, resource.elexon, scope, resource.now(), method, seed)
    )
    metadata = {
        "finding": found.finding.value,
        "method": method.value,
        "seed": seed,
        "requests": found.requests,
        "differences": len(found.differences),
        "mended_by": found.mended_by or "nothing to mend",
    }
    context.log_event(dg.AssetObservation(WIND_BIDS, partition=day.isoformat(), metadata=metadata))
    return found
