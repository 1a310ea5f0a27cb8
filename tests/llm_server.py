"""A server on loopback that speaks the chat completions API, and answers, fails and misbehaves as a script says."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-secret-5f1c0de"


@dataclass(frozen=True)
class Seen:
    """A request as it came over the wire."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    number: int
    """From 0, in order of arrival."""

    @property
    def system(self) -> str:
        return str(self.body["messages"][0]["content"])

    @property
    def prompt(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Sent:
    """A response."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    """Seconds before it."""
    until: threading.Event | None = None
    """Nothing is sent before this is set."""
    hang_up: bool = False
    """Close the connection without a word."""
    trickle: float = 0
    """Seconds between one byte and the next."""


Script = Callable[[Seen], Sent]


def said(text: str | None, finish: str = "stop", n_in: int | None = 100, n_out: int | None = 10, **more: Any) -> Sent:
    """A chat completion of that text."""
    usage = {} if n_in is None else {"usage": {"prompt_tokens": n_in, "completion_tokens": n_out}}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return Sent(json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], **usage}).encode(), **more)


def label(text: str, confidence: float | None = 0.9) -> Sent:
    """A good answer to the label prompt."""
    return said(json.dumps({"label": text} | ({} if confidence is None else {"confidence": confidence})))


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Sent:
    """An error as such servers write it."""
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Sent(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def in_turn(*answers: Sent) -> Script:
    """The answers one after another; the last one for ever."""
    return lambda seen: answers[min(seen.number, len(answers) - 1)]


class LlmServer:
    """What a test sees of the server."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.script: Script = in_turn(label("a label"))
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.at_once = 0

    def answers(self, *answers: Sent) -> None:
        """Answers so from now on."""
        already = len(self.seen)
        turns: Sequence[Sent] = answers
        self.script = lambda seen: turns[min(seen.number - already, len(turns) - 1)]


@contextmanager
def serving() -> Iterator[LlmServer]:
    """A server that runs while the block does."""
    http = _Server(("127.0.0.1", 0), _Handler)
    http.state = LlmServer(http.server_address[1])
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield http.state
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    state: LlmServer

    def server_close(self) -> None:
        socketserver.TCPServer.server_close(self)  # without waiting for answers that are meant to be slow

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that gave up is part of the script
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait for its head to be acknowledged
    server: _Server

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server looks for
        state = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with state.lock:
            seen = Seen(self.path, headers, body, len(state.seen))
            state.seen.append(seen)
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
        try:
            self._answer(state.script(seen))
        finally:
            with state.lock:
                state.at_once -= 1

    def _answer(self, sent: Sent) -> None:
        time.sleep(sent.delay)
        if sent.until is not None:
            sent.until.wait()
        if sent.hang_up:
            self.close_connection = True
            return
        self.send_response(sent.status)
        for name, value in {"content-type": "application/json", **sent.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(sent.body)))
        self.end_headers()
        if not sent.trickle:
            self.wfile.write(sent.body)
            return
        for byte in sent.body:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(sent.trickle)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""
