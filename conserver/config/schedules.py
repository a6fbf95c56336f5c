"""The section `schedules`: actions at fixed times.

A schedule has a cron expression of five fields (or six, with seconds first) in a time zone, and
one action. When clocks are put forward, a time inside the gap fires right after it. When clocks are
put back, a fixed time fires once, as in Debian's cron.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, model_validator

from conserver.config.ages import TimeText, age_s
from conserver.config.names import ListName, PluginName, Section

ACTIONS = ("push", "requeue", "purge", "find")
PAYLOADS_MAX = 1000
FIND_MAX = 10_000_000

_EXAMPLE = "such as `0 2 * * *` (minute, hour, day, month, weekday)"


def _check_cron(expression: str) -> str:
    try:
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        fault = str(error).lower()
        raise ValueError(f"is no cron expression ({fault}): {_EXAMPLE}") from None
    except StopIteration:
        raise ValueError("is a cron expression that never comes") from None
    return expression


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"there is no time zone `{name}`: such as `Europe/Berlin`") from None
    return name


def _check_age(text: str) -> str:
    if text:
        age_s(text)
    return text


def _check_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


Age = Annotated[str, AfterValidator(_check_age)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
Reason = Literal["", "failed", "rejected", "unavailable", "poison", "time_limit", "oversized"]
Payloads = list[str | dict[str, Any]]


class PushAction(Section):
    """Pushes fixed payloads on a list."""

    list: ListName = Field(description="The list that they are pushed to.")
    payloads: Payloads = Field(
        min_length=1,
        max_length=PAYLOADS_MAX,
        description="Each is a uuid, or a whole vCon; a mapping is pushed as JSON.",
    )


class LettersAction(Section):
    """Selects dead letters by the filter of `conserver dlq`; an empty filter selects all."""

    lists: list[ListName] = Field(default=[], description="Of these lists; none means all.")
    error: Pattern = Field(default="", description="Whose error has this (regular expression).")
    where: str = Field(default="", description="That failed in this link or storage.")
    reason: Reason = Field(default="", description="failed, rejected, unavailable, poison ...")
    older: Age = Field(default="", description="Dead for longer: 2h, 7d.")
    newer: Age = Field(default="", description="Dead for less.")
    limit: int = Field(default=0, ge=0, description="At most so many; 0: all.")


class FindAction(Section):
    """Pushes the uuids of vCons that a storage finds on a list."""

    storage: PluginName = Field(description="The storage that is asked, by its name.")
    query: str | dict[str, Any] = Field(
        description="A condition in SQL (postgres, sqlite) or a query (elasticsearch)."
    )
    list: ListName = Field(description="The list that their uuids are pushed to.")
    limit: int = Field(default=100_000, ge=1, le=FIND_MAX, description="At most so many.")


class ScheduleConfig(Section):
    """One schedule: a cron expression, and one of the actions push, requeue, purge and find."""

    cron: Annotated[str, AfterValidator(_check_cron)] = Field(
        description="When: minute, hour, day of month, month, day of week."
    )
    timezone: Annotated[str, AfterValidator(_check_timezone)] = Field(
        default="UTC", description="The time zone of `cron`, such as `Europe/Berlin`."
    )
    enabled: bool = Field(default=True, description="false: it never fires.")
    catch_up_s: Annotated[float, TimeText] = Field(
        default=3600.0,
        ge=0,
        allow_inf_nan=False,
        description="A time that was missed is made up for, once, if it is no longer ago.",
    )
    push: PushAction | None = Field(default=None, description="Fixed payloads onto a list.")
    requeue: LettersAction | None = Field(
        default=None, description="Dead letters are sent to work again."
    )
    purge: LettersAction | None = Field(default=None, description="Dead letters are deleted.")
    find: FindAction | None = Field(
        default=None, description="vCons that a storage finds are pushed on a list."
    )

    @model_validator(mode="after")
    def _check_action(self) -> Self:
        given = [name for name in ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            named = f"has {' and '.join(given)}" if given else "does nothing"
            raise ValueError(f"{named}: it needs one of {', '.join(ACTIONS)}")
        if self.purge is not None and self.purge == LettersAction():
            raise ValueError("purge means all dead letters of all lists: say which, or `older`")
        return self

    @property
    def action(self) -> str:
        """The name of the schedule's action."""
        return next(name for name in ACTIONS if getattr(self, name) is not None)

    @property
    def definition(self) -> str:
        """Cron expression and time zone. Two schedules with the same definition fire together."""
        return f"{self.cron} {self.timezone}"

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def next_ms(self, after_ms: float) -> int:
        """The schedule's first time after `after_ms`; both in ms since 1970."""
        return _ms(next(CronSim(self.cron, self._moment(after_ms))))

    def latest_ms(self, until_ms: float) -> int:
        """The schedule's last time at or before `until_ms`; both in ms since 1970."""
        # CronSim finds times before the given one, so give it the next second.
        until = self._moment(until_ms + 1000).replace(microsecond=0)
        before = (_ms(moment) for moment in CronSim(self.cron, until, reverse=True))
        found = next((at_ms for at_ms in before if at_ms <= until_ms), 0)
        # Backwards, CronSim misses the last time before clocks are put back; forwards it does not.
        while found and (next_ms := self.next_ms(found)) <= until_ms:
            found = next_ms
        return found

    def missed(self, after_ms: float, until_ms: float, most: int = 1000) -> int:
        """How many times of the schedule lie after `after_ms` and at or before `until_ms`; at most
        `most`.
        """
        count, at_ms = 0, after_ms
        while count < most and (at_ms := self.next_ms(at_ms)) <= until_ms:
            count += 1
        return count

    def _moment(self, at_ms: float) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, tz=UTC).astimezone(self._zone)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
