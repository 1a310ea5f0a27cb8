"""Options of plugins that ask a language model, read and checked. Values in, a frozen record out; nothing is sent."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from featuredb.errors import BadInput
from featuredb.llm.budget import Prices, Purse

ENDPOINT = "https://api.openai.com/v1"
KEY_ENV = "OPENAI_API_KEY"

REMOTE_OPTIONS = (
    "endpoint",
    "model",
    "key_env",
    "temperature",
    "concurrency",
    "requests_per_minute",
    "max_tokens",
    "timeout",
    "retries",
    "price_in",
    "price_out",
    "budget",
    "budget_tokens",
    "n_examples",
)
"""Options that every plugin with an endpoint takes."""

INDIFFERENT = (
    "key_env",
    "concurrency",
    "requests_per_minute",
    "timeout",
    "retries",
    "price_in",
    "price_out",
    "budget",
    "budget_tokens",
    "batch_size",
)
"""Options that say how to ask and what to pay: no answer depends on them, so that a run may go on with others."""

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


class Secret:
    """A string that does not show itself: not in a repr, a format, a pickle or a comparison's message."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and what proves that they may."""

    base: str
    """URL without user, password, query or fragment, and without a slash at its end: safe to say and keep."""
    query: str
    """What stood behind the question mark: sent, never said."""
    basic: tuple[str, Secret] | None
    """User and password of the URL: sent, never said."""
    key: Secret | None
    variable: str
    """Name of the environment variable that the key is from."""
    loopback: bool

    @property
    def host(self) -> str:
        """Host and port, safe to keep."""
        return urlsplit(self.base).netloc

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that must never be said, longest first."""
        found = {self.query} if self.query else set()
        found |= {part.rpartition("=")[2] for part in self.query.split("&")}
        for secret in (self.key, self.basic[1] if self.basic else None):
            if secret is not None:
                found.add(secret.reveal())
        return tuple(sorted((one for one in found if len(one) > 3), key=len, reverse=True))


@dataclass(frozen=True)
class Limits:
    """How fast, how long and how often an endpoint is asked."""

    concurrency: int
    per_minute: float | None
    timeout: float
    """Seconds for one request."""
    retries: int
    """Further tries after the first."""


@dataclass(frozen=True)
class Sampling:
    """What of a request may change its answer, beside the messages."""

    model: str
    temperature: float | None
    """None leaves the choice to the server."""
    max_tokens: int
    seed: int


def read_sampling(options: Mapping[str, str], seed: int, *, max_tokens: int) -> Sampling:
    """Raises BadInput for values that cannot be used."""
    model = options.get("model", "").strip()
    if not model:
        raise BadInput("no model is named", hint="--option model=NAME, as the endpoint calls it")
    temperature = options.get("temperature", "0").strip()
    return Sampling(
        model=model,
        temperature=None if temperature == "none" else number({"temperature": temperature}, "temperature", 0, 0, 2),
        max_tokens=whole(options, "max_tokens", max_tokens, 8, 100_000),
        seed=seed % 2**31,  # servers take 32 bits
    )


def read_limits(options: Mapping[str, str]) -> Limits:
    """Raises BadInput for values that cannot be used."""
    per_minute = number(options, "requests_per_minute", 0, 0.1, 1e6) if "requests_per_minute" in options else None
    return Limits(
        concurrency=whole(options, "concurrency", 8, 1, 256),
        per_minute=per_minute,
        timeout=number(options, "timeout", 120, 0.1, 3600),
        retries=whole(options, "retries", 5, 0, 20),
    )


def read_purse(options: Mapping[str, str]) -> Purse:
    """Raises BadInput for values that cannot be used, and for a budget in money without prices."""
    prices = Prices(
        *(number(options, name, 0, 0, 1e6) if name in options else None for name in ("price_in", "price_out"))
    )
    money = number(options, "budget", 0, 0, 1e12) if "budget" in options else None
    if money is not None and prices.cost(0, 0) is None:
        raise BadInput(
            "a budget in money needs prices", hint="--option price_in=P --option price_out=P, per million tokens"
        )
    return Purse(prices, money, whole(options, "budget_tokens", 0, 0, 10**15) if "budget_tokens" in options else None)


def read_endpoint(options: Mapping[str, str], *, needs_key: bool = True) -> Endpoint:
    """The endpoint, with the key of the environment where it has one.

    needs_key: False to only talk about it. Raises BadInput naming the variable of a key that is missing or no key.
    """
    parts = _split(options.get("endpoint", ENDPOINT).strip())
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    base = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path.rstrip('/')}"
    base = base.removesuffix("/chat/completions")
    basic = (unquote(parts.username), Secret(unquote(parts.password or ""))) if parts.username else None
    loopback = _is_loopback(host)
    variable = options.get("key_env", KEY_ENV).strip()
    if not _VARIABLE.fullmatch(variable):
        # It may be the key itself, so it is not repeated.
        raise BadInput("key_env is not the name of an environment variable", hint="such as OPENAI_API_KEY")
    key = None if basic else _key(variable, needs_key and not loopback)
    return Endpoint(base, parts.query, basic, key, variable, loopback)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and url.isascii() and not re.search(r"[\s\\\x00-\x1f]", url)
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable:
        # It is not repeated, for it may hold a password.
        raise BadInput("the endpoint is no URL of HTTP", hint="such as https://api.openai.com/v1")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _key(variable: str, needed: bool) -> Secret | None:
    value = os.environ.get(variable, "").strip()
    if not value:
        if needed:
            raise BadInput(
                f"the environment variable {variable} holds no key",
                hint=f"export {variable}=..., or name another one: --option key_env=NAME",
            )
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadInput(
            f"what the environment variable {variable} holds cannot be a key", hint="it is one line of ASCII"
        )
    return Secret(value)


def number(options: Mapping[str, str], name: str, otherwise: float, least: float, most: float) -> float:
    """A number among the options. Raises BadInput naming the option."""
    text = options.get(name)
    if text is None:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:  # not a number fails too
        raise BadInput(f"{name}={text!r} cannot be used", hint=f"a number from {least:g} to {most:g}")
    return value


def whole(options: Mapping[str, str], name: str, otherwise: int, least: int, most: int) -> int:
    """A whole number among the options. Raises BadInput naming the option."""
    text = options.get(name)
    if text is None:
        return otherwise
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise BadInput(f"{name}={text!r} cannot be used", hint=f"a whole number from {least:,} to {most:,}")
    return value


def yes_no(options: Mapping[str, str], name: str, otherwise: bool) -> bool:
    """A yes or no among the options. Raises BadInput naming the option."""
    text = options.get(name)
    if text is None:
        return otherwise
    if text not in ("yes", "no"):
        raise BadInput(f"{name}={text!r} cannot be used", hint="yes or no")
    return text == "yes"
