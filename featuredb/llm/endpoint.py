"""A chat over HTTP with any server that speaks the OpenAI chat completions API, several requests at a time.

Rule: threads send and wait, and touch nothing else; whoever collects does all the rest. They are daemons, so that
Ctrl-C never waits for a server. Source of the interface: OpenAI API reference, "Create chat completion".
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featuredb.errors import BadInput, FeatureDBError, PluginFailed
from featuredb.llm.chat import NoReply, Reply
from featuredb.llm.pace import LONGEST_ASKED, Pace, backoff, retry_after
from featuredb.llm.prompts import Question, new_fence
from featuredb.llm.settings import Endpoint, Limits, Sampling
from featuredb.llm.wire import LARGEST_BODY, Refused, TryAgain, outgrown, payload, read_response

if TYPE_CHECKING:
    import httpx

FRUITLESS = 20
"""Questions in a row that a server gives no answer to, after all tries, before the rest is not asked."""

FORMLESS = 3
"""Requests that a server refuses before it took any, after which the fault is taken to be in all of them."""


class EndpointChat:
    """Questions to one model at one endpoint. The first raises PluginFailed when httpx is not installed."""

    def __init__(self, endpoint: Endpoint, sampling: Sampling, limits: Limits) -> None:
        self.model = sampling.model
        self.max_tokens = sampling.max_tokens
        self._endpoint = endpoint
        self._sampling = sampling
        self._limits = limits
        self._http: httpx.Client | None = None
        self._pace = Pace(limits.per_minute)
        self._left_out: frozenset[str] = frozenset()
        self._stop = threading.Event()
        self._todo: queue.SimpleQueue[tuple[int, Question] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Reply | NoReply | Refused | BaseException]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._flying = 0
        self._fruitless = 0
        self._formless = 0
        self._answered = False
        self._fault: FeatureDBError | None = None

    @property
    def identity(self) -> Mapping[str, Any]:
        sampling = self._sampling
        return {
            "endpoint": self._endpoint.base,
            "model": self.model,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }

    @property
    def provenance(self) -> dict[str, Any]:
        sampling = self._sampling
        return {"model": self.model, "endpoint": self._endpoint.host, "temperature": sampling.temperature}

    @property
    def room(self) -> int:
        return self._limits.concurrency - self._flying

    @property
    def n_waiting(self) -> int:
        """Answers that came and were not collected yet."""
        return self._done.qsize()

    def submit(self, ticket: int, question: Question) -> None:
        if self._http is None:
            self._http = _client(self._endpoint, self._limits)
        self._flying += 1
        if len(self._threads) < min(self._flying, self._limits.concurrency):
            thread = threading.Thread(target=self._work, name=f"ask-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._todo.put((ticket, question))

    def collect(self) -> list[tuple[int, Reply | NoReply]]:
        if self._fault is not None:
            raise self._fault
        found: list[tuple[int, Reply | NoReply]] = []
        while not found or not self._done.empty():
            try:
                # With a timeout, because a wait without end cannot be interrupted everywhere.
                ticket, outcome = self._done.get(timeout=0.5)
            except queue.Empty:
                continue
            self._flying -= 1
            try:
                found.append((ticket, self._checked(outcome)))
            except FeatureDBError as fault:
                if not found:
                    raise
                self._fault = fault  # what was paid for goes out first
                return found
        return found

    def close(self) -> list[tuple[int, Reply | NoReply]]:
        self._stop.set()
        for _ in self._threads:
            self._todo.put(None)
        left: list[tuple[int, Reply | NoReply]] = []
        while True:
            try:
                ticket, outcome = self._done.get_nowait()
            except queue.Empty:
                break
            if isinstance(outcome, Reply | NoReply):
                left.append((ticket, outcome))
        if self._http is not None:
            self._http.close()
        return left

    def _checked(self, outcome: Reply | NoReply | Refused | BaseException) -> Reply | NoReply:
        """An outcome that a feature can bear alone. Raises BadInput for one that all would share."""
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, Reply):
            self._answered, self._fruitless = True, 0
            return outcome
        if isinstance(outcome, Refused):
            self._formless += not outcome.this_text
            if self._formless >= FORMLESS and not self._answered:
                raise BadInput(outcome.said, hint="temperature=none leaves the temperature out; see the server's log")
            return NoReply(outcome.said)
        self._fruitless += 1
        if self._fruitless >= FRUITLESS:
            raise BadInput(
                f"{FRUITLESS} questions in a row had no answer; the last time, {outcome.reason}",
                hint="run the same again when it does: answers that came are kept",
            )
        return outcome

    def _work(self) -> None:
        while not self._stop.is_set():
            taken = self._todo.get()
            if taken is None:
                return
            ticket, question = taken
            try:
                outcome: Reply | NoReply | Refused | BaseException = self._answer(question)
            except Exception as error:  # noqa: BLE001 - it is raised again by the thread that collects
                outcome = error
            self._done.put((ticket, outcome))

    def _answer(self, question: Question) -> Reply | NoReply | Refused:
        """One question, tried as often as the limits allow."""
        tries = 0
        while True:
            if self._stop.wait(self._pace.wait()) or self._stop.is_set():
                return NoReply("interrupted")
            left_out = self._left_out
            outcome, asked = self._try(question, left_out)
            if isinstance(outcome, Refused) and (fewer := outgrown(outcome, left_out)) is not None:
                self._left_out |= fewer
                continue
            if not isinstance(outcome, TryAgain):
                return outcome
            tries += 1
            if tries > self._limits.retries:
                return NoReply(f"{outcome.reason}, at each of {tries} tries" if tries > 1 else outcome.reason)
            if asked is not None and asked > LONGEST_ASKED:
                return NoReply(f"{outcome.reason}, and asks to wait {asked:,.0f} seconds")
            if asked is not None:
                self._pace.pause(asked)  # what one thread is told holds for all
            elif self._stop.wait(backoff(tries)):
                return NoReply("interrupted")

    def _try(
        self, question: Question, left_out: frozenset[str]
    ) -> tuple[Reply | NoReply | TryAgain | Refused, float | None]:
        """One request; with what came of it, the seconds its server asks us to wait."""
        import httpx

        assert self._http is not None, "nothing is tried before it is submitted"
        fence = new_fence()
        body = payload(self._sampling, question.fenced(fence), left_out)
        deadline = time.monotonic() + self._limits.timeout
        try:
            with self._http.stream("POST", self._url, json=body) as response:
                content = _read(response, deadline)
                asked = retry_after(response.headers.get("retry-after"))
                status = response.status_code
        except (httpx.TimeoutException, TimeoutError):
            return TryAgain(f"{self._endpoint.host} did not answer within {self._limits.timeout:g} seconds"), None
        except (httpx.TransportError, httpx.DecodingError) as error:
            # Its words may hold a header, and so the key; its kind says enough.
            kind = type(error).__name__
            said = {"ConnectError": "cannot be reached", "RemoteProtocolError": "broke the connection"}
            return TryAgain(f"{self._endpoint.host} {said.get(kind, f'broke off ({kind})')}"), None
        outcome = read_response(status, content, fence, self._endpoint, self.model)
        return outcome, asked

    @property
    def _url(self) -> str:
        query = f"?{self._endpoint.query}" if self._endpoint.query else ""
        return f"{self._endpoint.base}/chat/completions{query}"


def _read(response: httpx.Response, deadline: float) -> bytes:
    """The body, no more of it than is worth reading. Raises TimeoutError for one that trickles in for too long."""
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > LARGEST_BODY:
            break
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _client(endpoint: Endpoint, limits: Limits) -> httpx.Client:
    try:
        import httpx
    except ImportError as error:
        raise PluginFailed("httpx is not installed", hint="pip install 'featuredb[llm]'") from error
    headers = {"authorization": f"Bearer {endpoint.key.reveal()}"} if endpoint.key else {}
    auth = httpx.BasicAuth(endpoint.basic[0], endpoint.basic[1].reveal()) if endpoint.basic else None
    return httpx.Client(
        headers=headers,
        auth=auth,
        timeout=limits.timeout,
        limits=httpx.Limits(max_connections=limits.concurrency, max_keepalive_connections=limits.concurrency),
        follow_redirects=False,
        # A proxy for the outside cannot reach this machine's own servers.
        trust_env=not endpoint.loopback,
    )
