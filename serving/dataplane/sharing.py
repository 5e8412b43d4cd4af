"""Processes tell each other through Redis what their rates have let through. A thread; nobody waits for it.

The rate's one number, when the next request would be due, is kept in Redis by Redis' own clock: a
process adds what it has let through since it last told, and learns how far all together are ahead.
Redis away or frozen: each goes on by itself, and tries again after a pause that grows to five seconds.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

from serving.dataplane.limits import Accounts, Rate

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script

logger = logging.getLogger(__name__)

_EVERY_S = 0.1
_TIMEOUT_S = 0.1
_LONGEST_PAUSE_S = 5.0
_RECENT_S = 10.0
"""A rate that let something through so lately also learns what the others do, without news of its own."""
_PREFIX = "signalbox:rate:"
_ADD = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + tonumber(ARGV[1]) * tonumber(ARGV[2])
if due > now then
    redis.call('SET', KEYS[1], string.format('%.6f', due), 'PX', math.ceil((due - now) * 1000))
end
return string.format('%.6f', due - now)
"""


class RateSharing:
    """Shares the rates of ``accounts``."""

    def __init__(self, redis_url: str, accounts: Accounts, loop: asyncio.AbstractEventLoop) -> None:
        self._redis_url = redis_url
        self._accounts, self._loop = accounts, loop
        self._told: dict[Rate, int] = {}  # what each had taken when we last told
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rate-sharing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._accounts.rates():
            if self._stopping.wait(_EVERY_S):
                return
        # Only who limits rates pays for the client: it brings OpenTelemetry with it, 15 MB and a third of a second.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        client = redis.Redis.from_url(self._redis_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0))
        add = client.register_script(_ADD)
        pause_s = _EVERY_S
        while not self._stopping.wait(pause_s):
            try:
                self._tell(client, add)
            except redis.RedisError as error:
                logger.debug("Rates are not shared: %s", error)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            except Exception:  # the thread's edge
                logger.exception("Sharing the rates failed.")
                pause_s = _LONGEST_PAUSE_S
            else:
                pause_s = _EVERY_S
        client.close()

    def _tell(self, client: Redis, add: Script) -> None:
        now = time.perf_counter()
        rates = self._accounts.rates()
        told = self._told = {rate: self._told.get(rate, 0) for rate in rates}  # what is limited no more is forgotten
        news = [(rate, rate.taken) for rate in rates if rate.taken != told[rate] or (rate.taken and now - rate.taken_at < _RECENT_S)]
        if not news:
            return
        with client.pipeline(transaction=False) as pipe:
            for rate, taken in news:
                add([_PREFIX + rate.name], [taken - told[rate], rate.interval_s], client=pipe)
            ahead = pipe.execute()
        for (rate, taken), ahead_s in zip(news, ahead, strict=True):
            told[rate] = taken
            self._loop.call_soon_threadsafe(rate.settle, float(ahead_s), taken, time.perf_counter())
