"""The bytes of /chat/completions: what is sent, and what a server's answer means. Nothing is sent from here.

Rule: pure functions of requests and responses. A reason or an error never holds a secret, and never more than a line of
a server's own words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featuredb.errors import BadInput
from featuredb.llm.answers import keepable
from featuredb.llm.chat import NoReply, Reply
from featuredb.llm.prompts import Messages
from featuredb.llm.settings import Endpoint, Sampling
from featuredb.visible import visible

LARGEST_BODY = 1_000_000
"""Bytes of a response that are read."""

_AGAIN = {408, 409, 425, 429}
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "insufficient_balance", "credit balance")
_ABOUT_THIS_TEXT = (
    "context",
    "too long",
    "too many tokens",
    "maximum",
    "content_filter",
    "content management",
    "policy",
)


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The request may fare better later."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The server takes no such request: perhaps this one alone, perhaps none of ours."""

    said: str
    this_text: bool
    """Whether its words are about the text and not about the form."""


Outcome = Reply | NoReply | TryAgain | Refused


def payload(sampling: Sampling, messages: Messages, left_out: frozenset[str]) -> dict[str, Any]:
    """The body of a request. left_out: parameters that the server was found not to take under their usual name."""
    body: dict[str, Any] = {
        "model": sampling.model,
        "messages": [{"role": role, "content": _sendable(text)} for role, text in messages],
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
    }
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if "max_tokens" in left_out:
        body["max_completion_tokens"] = body.pop("max_tokens")
    if "seed" in left_out:
        del body["seed"]
    return body


def outgrown(refused: Refused, left_out: frozenset[str]) -> frozenset[str] | None:
    """The parameters to leave out from now on, where a refusal names one that may be; None where it does not.

    Newer models want max_completion_tokens for max_tokens; some servers know no seed, which is only a wish.
    """
    said = refused.said.casefold()
    if "max_tokens" not in left_out and "max_completion_tokens" in said:
        return left_out | {"max_tokens"}
    named = any(form in said for form in ("'seed'", '"seed"', "`seed`", "parameter: seed", "parameter seed"))
    if "seed" not in left_out and named:
        return left_out | {"seed"}
    return None


def read_response(status: int, body: bytes, fence: str, endpoint: Endpoint, model: str) -> Outcome:
    """What a response means. Raises BadInput where no other request will fare better."""
    if status == 200:
        return _read_completion(body, fence)
    said = server_words(body, endpoint)
    if status in (401, 403, 404, 402) or 300 <= status < 400 or any(word in said.casefold() for word in _NO_CREDIT):
        raise _stopped(status, said, endpoint, model)
    if status in _AGAIN or status >= 500:
        return TryAgain(_words(f"{endpoint.host} answered {status}", said))
    this_text = status == 413 or any(word in said.casefold() for word in _ABOUT_THIS_TEXT)
    return Refused(_words(f"{endpoint.host} refused the request ({status})", said), this_text)


def server_words(body: bytes, endpoint: Endpoint) -> str:
    """One line of what a server says went wrong, without secrets, or ""."""
    text = body[:20_000].decode("utf-8", "replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        # A page for people; its first words are markup.
        return "" if text.lstrip().startswith("<") else scrubbed(text, endpoint)
    error = found.get("error", found.get("detail", found.get("message"))) if isinstance(found, Mapping) else found
    if isinstance(error, Mapping):
        parts = [error.get("message"), error.get("code") or error.get("type")]
        error = " ".join(f"({part})" if number else part for number, part in enumerate(parts) if isinstance(part, str))
    return scrubbed(error if isinstance(error, str) else json.dumps(error), endpoint)


def scrubbed(text: str, endpoint: Endpoint) -> str:
    """A line of somebody else's text that may be shown: no secret, nothing that steers a terminal, not long."""
    for secret in endpoint.secrets:
        text = text.replace(secret, "***")
    return visible(" ".join(text.split()))[:300]


def _words(what: str, said: str) -> str:
    return f"{what}: {said}" if said else what


def _stopped(status: int, said: str, endpoint: Endpoint, model: str) -> BadInput:
    hints = {
        401: f"is the key in {endpoint.variable} the right one for this endpoint?",
        403: f"may the key in {endpoint.variable} use this model?",
        404: "is the model's name as the endpoint writes it, and does the endpoint end in /v1?",
    }
    what = f"{endpoint.base} answered {status} for model {model!r}"
    if 300 <= status < 400:
        return BadInput(what, hint="the endpoint has moved: give the address it moved to")
    return BadInput(_words(what, said), hint=hints.get(status, "look at the account's credit and limits"))


def _read_completion(body: bytes, fence: str) -> Outcome:
    """A reply, from a body that says 200. What cannot be a completion may be a passing fault of a gateway."""
    if len(body) > LARGEST_BODY:
        return NoReply(f"its response is larger than {LARGEST_BODY:,} bytes")
    try:
        found = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        return TryAgain("its response is not UTF-8")
    except (ValueError, RecursionError):
        page = body[:200].lstrip()[:1] == b"<"
        return TryAgain("its response is a page of HTML, not JSON" if page else "its response is not JSON")
    try:
        choice = found["choices"][0]
        content = choice["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        return TryAgain("its response is no chat completion")
    if isinstance(content, list):  # some servers send parts
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    text = content if isinstance(content, str) else ""
    usage = found.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    n_in, n_out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return Reply(keepable(text, fence, choice.get("finish_reason") == "length"), n_in, n_out)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
