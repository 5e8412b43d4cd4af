"""What each key may use - a rate, a request's size and time, requests at once, rows a day and in all - and what it has used. For the event loop's thread alone.

A rate is exact in one process; what the others have taken comes from ``sharing.py`` a tenth of a second
later, if there is a Redis. Budgets are exact in one process too; what the others and earlier ones have
used is read from Postgres every two seconds. Neither is ever waited for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from access.limits import KeyLimits
from serving.dataplane.errors import Busy, Oversized, TooOften, UsedUp
from serving.table import KeyEntry, Limits

_NO_LIMITS = KeyLimits()
_DAY_US = 86_400_000_000
_KEPT_DAYS = 2
"""A process's own rows of so many days before today are its own; older ones may have been put together with others'."""
_MOST_BEHIND_S = 1.0
_UPSERT = """
INSERT INTO serving_keyusage (key_id, day, process, requests, rows) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (key_id, day, process) DO UPDATE SET requests = EXCLUDED.requests, rows = EXCLUDED.rows
"""
_OF_OTHERS = """
SELECT key_id, coalesce(sum(rows) FILTER (WHERE day = %(today)s), 0), sum(rows) FROM serving_keyusage
WHERE key_id = ANY(%(keys)s) AND NOT (process = %(process)s AND day >= %(recent)s) GROUP BY key_id
"""


class Bounds:
    """The narrower of an endpoint's and a key's limits of one request's size and time, and whose they are."""

    __slots__ = ("_takes", "body_bytes", "body_bytes_of", "timeout_of", "timeout_s")

    def __init__(self, endpoint: str, limits: Limits, key: KeyEntry | None = None) -> None:
        """Without ``key`` they are the endpoint's."""
        self._takes = f"'{endpoint}' takes"
        self.body_bytes, self.timeout_s = limits.max_body_bytes, limits.timeout_ms / 1000
        self.body_bytes_of = self.timeout_of = "the endpoint's"
        if key is None:
            return
        if 0 < key.limits.max_body_bytes < self.body_bytes:
            self._takes = f"the API key {key.id} may send"
            self.body_bytes, self.body_bytes_of = key.limits.max_body_bytes, f"the API key {key.id}'s"
        if 0 < key.limits.timeout_ms < limits.timeout_ms:
            self.timeout_s, self.timeout_of = key.limits.timeout_ms / 1000, f"the API key {key.id}'s"

    def require_size(self, size: int, what: str = "The body is") -> None:
        """Return if a body of ``size`` bytes may come, else raise Oversized."""
        if size > self.body_bytes:
            raise too_large(self._takes, self.body_bytes, what)


def too_large(taken: str, limit: int, what: str = "The body is") -> Oversized:
    """Make the refusal of a body of more than ``limit`` bytes; ``taken`` says who takes or may send so many."""
    return Oversized(f"{what} too large: {taken} at most {limit} bytes. Send fewer rows at once.")


class Rate:
    """The generic cell rate algorithm (ITU-T I.371): one number says when the next request would be due at an even pace."""

    __slots__ = ("_due", "_tolerance_s", "burst", "interval_s", "name", "per_s", "taken", "taken_at", "whose")

    def __init__(self, name: str, per_s: float, burst: int, whose: str = "") -> None:
        """``burst`` requests may come at once; 0: those of a second. ``whose`` limit it is stands in the refusal."""
        self.name, self.per_s, self.burst, self.whose = name, per_s, burst, whose
        self.interval_s = 1 / per_s
        self._tolerance_s = (max(1, burst or math.ceil(per_s)) - 1) * self.interval_s
        self._due = self.taken_at = 0.0
        self.taken = 0

    def take(self, now: float) -> None:
        """Take one request at ``now``, in seconds on any clock that never goes back; raises TooOften, and then takes nothing."""
        due = max(now, self._due)
        wait_s = due - now - self._tolerance_s
        if wait_s > 1e-9:
            raise TooOften(f"More than {self.per_s:g} requests per second{self.whose}. Try again in {wait_s:.3g} s.", wait_s)
        self._due = due + self.interval_s
        self.taken_at = now
        self.taken += 1

    def settle(self, ahead_s: float, taken: int, now: float) -> None:
        """All processes together were ``ahead_s`` ahead of the pace at ``now``, with the first ``taken`` requests of this one.

        What they let through before they knew of each other is made good for by a second's wait at most.
        """
        due = now + ahead_s + (self.taken - taken) * self.interval_s
        self._due = max(self._due, min(due, now + self._tolerance_s + self.interval_s + _MOST_BEHIND_S))


class Account:
    """One key: its limits and what it has used in this process by day, and elsewhere as far as known."""

    __slots__ = ("_days", "id", "in_flight", "is_limited", "limits", "others_in_all", "others_today", "rate", "unwritten")

    def __init__(self, key: KeyEntry) -> None:
        self.id = key.id
        self._days: dict[int, list[int]] = {}
        self.in_flight = self.others_today = self.others_in_all = 0
        self.unwritten: set[int] = set()
        self.rate: Rate | None = None
        self.limit(key.limits)

    def limit(self, limits: KeyLimits) -> None:
        """Hold to ``limits`` from now on."""
        self.limits = limits
        self.is_limited = limits != _NO_LIMITS
        if not limits.requests_per_s:
            self.rate = None
        elif self.rate is None or (self.rate.per_s, self.rate.burst) != (limits.requests_per_s, limits.burst):
            self.rate = Rate(f"key:{self.id}", limits.requests_per_s, limits.burst, f", the limit of the API key {self.id}")

    def admit(self, now: float) -> None:
        """Take a request in; raises Busy or TooOften."""
        most = self.limits.max_concurrency
        if most and self.in_flight >= most:
            raise Busy(f"The API key {self.id} has {self.in_flight} requests in this process, its limit. Try again in a second.")
        if self.rate is not None:
            self.rate.take(now)

    def charge(self, rows: int, received_us: int) -> None:
        """Count a request and its rows; raises Oversized or UsedUp, and then counts nothing."""
        day = received_us // _DAY_US
        used = self._days.get(day)
        if used is None:
            used = self._begin(day)
        if self.is_limited:
            self._require_room(rows, used[1], day)
        used[0] += 1
        used[1] += rows
        self.unwritten.add(day)

    def refund(self, rows: int, received_us: int) -> None:
        """Take back what was counted for a request that was not answered."""
        used = self._days.get(received_us // _DAY_US)
        if used is not None:
            used[0] -= 1
            used[1] -= rows
            self.unwritten.add(received_us // _DAY_US)

    def _begin(self, day: int) -> list[int]:
        if self._days:  # a day has ended; on the first, what was read of the others is today's
            self.others_today = 0
        for old in [old for old in self._days if old < day - _KEPT_DAYS]:
            del self._days[old]  # in Postgres it counts as the others' from now on
            self.unwritten.discard(old)
        return self._days.setdefault(day, [0, 0])

    def _require_room(self, rows: int, today: int, day: int) -> None:
        limits = self.limits
        if limits.max_rows and rows > limits.max_rows:
            raise Oversized(f"The request has {rows} rows; the API key {self.id} may send {limits.max_rows} at once. Send several requests.")
        if limits.rows_per_day and today + self.others_today + rows > limits.rows_per_day:
            left_s = (day + 1) * _DAY_US / 1e6 - time.time()
            raise UsedUp(f"The API key {self.id} has used its {limits.rows_per_day} rows of today. The next day begins at midnight UTC.", max(left_s, 1.0))
        if limits.rows_in_all and sum(used[1] for used in self._days.values()) + self.others_in_all + rows > limits.rows_in_all:
            raise UsedUp(f"The API key {self.id} has used its {limits.rows_in_all} rows. An admin can raise its budget, or make another key.")

    def unwritten_days(self) -> dict[int, tuple[int, int]]:
        """Take what is not written yet, by days since 1970: requests and rows. For the heartbeat's thread."""
        days = list(self.unwritten)
        self.unwritten.difference_update(days)  # before reading: what is counted meanwhile is written next time
        return {day: (used[0], used[1]) for day in days if (used := self._days.get(day)) is not None}


class Accounts:
    """The accounts of all keys, over route tables; and the rates that endpoints set for each key by itself."""

    def __init__(self, process: UUID) -> None:
        self._process = process
        self._by_key: dict[str, Account] = {}
        self._rates: dict[tuple[str, str], Rate] = {}

    def of(self, key: KeyEntry) -> Account:
        """Give the key's account, with the limits that the key has now."""
        account = self._by_key.get(key.id)
        if account is None:
            account = self._by_key[key.id] = Account(key)
        elif account.limits != key.limits:
            account.limit(key.limits)
        return account

    def rate_at(self, endpoint: str, limits: Limits, key: KeyEntry) -> Rate | None:
        """Give the rate that ``endpoint`` sets for ``key``, None if it sets none."""
        if not limits.requests_per_s:
            return None
        rate = self._rates.get((endpoint, key.id))
        if rate is None or (rate.per_s, rate.burst) != (limits.requests_per_s, limits.burst):
            whose = f", the limit of '{endpoint}' for each key"
            rate = self._rates[endpoint, key.id] = Rate(f"endpoint:{endpoint}:{key.id}", limits.requests_per_s, limits.burst, whose)
        return rate

    def rates(self) -> list[Rate]:
        """Give all rates; for any thread."""
        return [*list(self._rates.values()), *(rate for account in list(self._by_key.values()) if (rate := account.rate) is not None)]

    def begin(self, known: Iterable[KeyEntry], used: Mapping[str, tuple[int, int]]) -> None:
        """Open the accounts of keys that have limits, with what ``used_elsewhere`` says of them; close those of keys that are gone."""
        keys = {key.id: key for key in known}
        for gone in [account for account in self._by_key.values() if account.id not in keys and not account.unwritten and not account.in_flight]:
            del self._by_key[gone.id]
        for endpoint, key_id in [pair for pair in self._rates if pair[1] not in keys]:
            del self._rates[endpoint, key_id]
        for key in keys.values():
            if key.limits != _NO_LIMITS:
                account = self.of(key)
                if key.id in used:
                    account.others_today, account.others_in_all = used[key.id]

    def write(self, connection: Connection[Any]) -> None:
        """Write what was used here, and read what was used elsewhere by keys that have a budget. For the heartbeat's thread."""
        oldest = time.time_ns() // 1000 // _DAY_US - _KEPT_DAYS
        days = [
            (account, day, requests, used)
            for account in list(self._by_key.values())
            for day, (requests, used) in account.unwritten_days().items()
            if day >= oldest  # an older one may have been put together with others' already: written again it would count twice
        ]
        try:
            with connection.transaction(), connection.cursor() as cursor:
                if days:
                    rows = [(account.id, _date_of(day), self._process, max(0, requests), max(0, used)) for account, day, requests, used in days]
                    cursor.executemany(_UPSERT, rows)
        except Exception:
            for account, day, *_ in days:
                account.unwritten.add(day)
                self._by_key.setdefault(account.id, account)  # its key may have gone meanwhile, and the account with it
            raise
        budgeted = [account for account in list(self._by_key.values()) if has_budget(account.limits)]
        used = self.used_elsewhere(connection, [account.id for account in budgeted])
        for account in budgeted:
            account.others_today, account.others_in_all = used.get(account.id, (0, 0))

    def used_elsewhere(self, connection: Connection[Any], keys: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Read the rows that other processes have answered for ``keys``, today and in all. For any thread."""
        if not keys:
            return {}
        today = datetime.now(UTC).date()
        values = {"keys": list(keys), "process": self._process, "today": today, "recent": today - timedelta(days=_KEPT_DAYS)}
        return {key_id: (int(of_today), int(in_all)) for key_id, of_today, in_all in connection.execute(_OF_OTHERS, values)}


def has_budget(limits: KeyLimits) -> bool:
    """Tell whether a key's use has to be known over time."""
    return bool(limits.rows_per_day or limits.rows_in_all)


def _date_of(day: int) -> date:
    return date(1970, 1, 1) + timedelta(days=day)
