"""When the next request may be sent: a token bucket, pauses that servers ask for, and waits between tries."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_WAIT = 0.5
"""Seconds before the second try, at most; twice as long before each further one."""

LONGEST_WAIT = 60.0
"""Seconds between two tries when the server does not say how long."""

LONGEST_ASKED = 300.0
"""Seconds that a server may ask us to wait; one that asks for more is given up."""


class Pace:
    """Hands out moments at which requests may be sent, to any number of threads.

    A bucket of one second's worth of requests (one at least) that fills at `per_minute` / 60 a second.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = None if per_minute is None else per_minute / 60
        self._clock = clock
        self._lock = threading.Lock()
        self._depth = max(1.0, self._rate or 0)
        self._filled = self._depth
        self._when = clock()
        self._not_before = 0.0

    def wait(self) -> float:
        """Takes the next place and says in how many seconds it is."""
        with self._lock:
            now = self._clock()
            asked = max(0.0, self._not_before - now)
            if self._rate is None:
                return asked
            self._filled = min(self._depth, self._filled + (now - self._when) * self._rate)
            self._when = now
            self._filled -= 1  # below zero: that many places are taken ahead
            return max(asked, -self._filled / self._rate)

    def pause(self, seconds: float) -> None:
        """Nothing is sent for so long, by any thread that asks from now on."""
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)


def backoff(tries: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait after that many tries: exponential, half of it drawn, so that threads do not march in step."""
    longest: float = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (tries - 1))
    return draw(longest / 2, longest)


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms; None where it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())
