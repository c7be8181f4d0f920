"""Exactly one evaluation a local night, computed with the schedule class of Prefect's own server.

The zones change their clocks by different rules: at 2, at 1 and 3, at midnight (Santiago, Cairo), by half an hour
(Lord Howe), southern and northern, and not at all.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas import schedules as server

from flows.deployments import deployments
from spin.core.config import load_config

ZONES = (
    "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata",
)  # fmt: skip
FIRST, LAST = date(2026, 1, 1), date(2035, 12, 31)
NIGHTS = [FIRST + timedelta(days) for days in range((LAST - FIRST).days + 1)]


def shipped(*overrides: str) -> CronSchedule:
    """The schedule of the nightly deployment, as `deploy` sends it."""
    found = {each.full_name: each for each in deployments(load_config("miniature", overrides=list(overrides)))}
    schedule = found["evaluate/nightly"].schedule
    assert schedule is not None
    return schedule


def fires(schedule: CronSchedule, zone: str, *, asked_every: timedelta, ahead: int) -> list[datetime]:
    """Local times of all runs over ten years, as a server finds them that asks again and again for the next ones.

    Args:
        asked_every: time between two questions; as in the scheduler, each starts at its own moment.
        ahead: runs that each question gives, at most; the class gives no more than 1000.
    """
    known = server.CronSchedule.model_validate_json(schedule.model_dump_json())
    first = datetime.combine(FIRST, time(), ZoneInfo(zone)).astimezone(UTC)
    end = datetime.combine(LAST + timedelta(days=1), time(), ZoneInfo(zone)).astimezone(UTC)
    questions = [first + number * asked_every for number in range((end - first) // asked_every + 1)]

    async def answers() -> set[datetime]:
        return {each.astimezone(UTC) for start in questions for each in await known.get_dates(ahead, start, end)}

    return [each.astimezone(ZoneInfo(zone)) for each in sorted(asyncio.run(answers())) if each < end]


@pytest.mark.parametrize("zone", ZONES)
def test_every_local_night_has_exactly_one_evaluation(zone: str) -> None:
    found = fires(shipped(f"nightly.timezone={zone}"), zone, asked_every=timedelta(days=900), ahead=1000)
    assert [each.date() for each in found] == NIGHTS
    assert len(found) == 3652
    assert {each.time() for each in found} == {time(4, 30)}


@pytest.mark.parametrize("zone", ZONES)
def test_a_server_that_is_asked_at_odd_hours_plans_the_same_nights(zone: str) -> None:
    """Two days and an hour apart, so that it is asked at every hour of the day, before and after changes."""
    found = fires(shipped(f"nightly.timezone={zone}"), zone, asked_every=timedelta(hours=49), ahead=3)
    assert [each.date() for each in found] == NIGHTS
    assert {each.time() for each in found} == {time(4, 30)}


@pytest.mark.parametrize(
    ("zone", "cron", "doubled", "times"),
    [
        ("Europe/Berlin", "30 2 * * *", 0, {time(2, 30): 3642, time(1, 30): 10}),
        ("Africa/Cairo", "0 0 * * *", 10, {time(0): 3642, time(23): 10}),
        ("America/Santiago", "30 0 * * *", 10, {time(0, 30): 3642, time(23, 30): 10}),
    ],
)
def test_an_hour_that_a_zone_skips_is_moved_and_at_midnight_costs_a_night(
    zone: str, cron: str, doubled: int, times: dict[time, int]
) -> None:
    """What the proof above would say of another cron: a skipped time runs an hour early, before midnight if need be."""
    schedule = shipped(f"nightly.timezone={zone}", f"nightly.cron={cron}")
    found = fires(schedule, zone, asked_every=timedelta(days=900), ahead=1000)
    assert Counter(each.time() for each in found) == times
    nights = Counter(each.date() for each in found)
    assert list(nights.values()).count(2) == len(set(NIGHTS) - set(nights)) == doubled


@pytest.mark.slow
def test_no_zone_skips_or_repeats_the_hour_of_the_shipped_schedule_in_ten_years() -> None:
    cron = shipped().cron
    assert cron == "30 4 * * *"
    moment = time(4, 30)
    zones = available_timezones() - {"localtime"}
    assert len(zones) > 400
    for name in zones:
        zone = ZoneInfo(name)
        for night in NIGHTS:
            local = datetime.combine(night, moment, zone)
            assert local.utcoffset() == local.replace(fold=1).utcoffset(), (name, night)


def test_the_schedule_is_the_config_s() -> None:
    schedule = shipped("nightly.timezone=Asia/Tokyo", "nightly.cron=15 5 * * *")
    assert (schedule.cron, schedule.timezone) == ("15 5 * * *", "Asia/Tokyo")
