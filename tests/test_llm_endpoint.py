"""The client against a real server on loopback that fails in every way that servers do. The key is never told."""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from featuredb.errors import BadInput, FeatureDBError, PluginFailed
from featuredb.llm.chat import NoReply, Reply
from featuredb.llm.endpoint import FORMLESS, FRUITLESS, EndpointChat
from featuredb.llm.prompts import FENCE, Question
from featuredb.llm.settings import Secret, read_endpoint, read_limits, read_purse, read_sampling
from tests.llm_server import KEY, LlmServer, Seen, Sent, error, in_turn, label, said, serving

ASKED = Question((("system", f"rules {FENCE}"), ("user", "what?")))


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def chat(server: LlmServer | str, **options: str) -> EndpointChat:
    url = server if isinstance(server, str) else server.url
    options = {"endpoint": url, "model": "a-model", "retries": "1", **options}
    return EndpointChat(read_endpoint(options), read_sampling(options, 5, max_tokens=50), read_limits(options))


def ask(server: LlmServer | str, n: int = 1, **options: str) -> list[Reply | NoReply]:
    """What came of n questions, in their order."""
    asked = chat(server, **options)
    found: dict[int, Reply | NoReply] = {}
    waiting = list(range(n))
    try:
        while len(found) < n:
            while waiting and asked.room:
                ticket = waiting.pop()
                asked.submit(ticket, ASKED)
            found |= dict(asked.collect())
    finally:
        asked.close()
    return [found[ticket] for ticket in range(n)]


def reason(server: LlmServer | str, **options: Any) -> str:
    (outcome,) = ask(server, **options)
    assert isinstance(outcome, NoReply)
    return outcome.reason


def test_what_goes_over_the_wire_is_a_chat_completion(server: LlmServer) -> None:
    server.answers(said("hello", n_in=7, n_out=3))
    assert ask(server) == [Reply("hello", 7, 3)]
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    fence = seen.system.removeprefix("rules ")
    assert len(fence) == 16
    assert seen.body == {
        "model": "a-model",
        "messages": [{"role": "system", "content": f"rules {fence}"}, {"role": "user", "content": "what?"}],
        "max_tokens": 50,
        "seed": 5,
        "temperature": 0,
    }
    assert "authorization" not in seen.headers, "loopback needs no key"


def test_answers_keep_no_fence_and_say_when_they_were_cut(server: LlmServer) -> None:
    server.script = lambda seen: said(seen.system, finish="length", n_in=None)
    assert ask(server) == [Reply(f"rules {FENCE}\n[cut off at max_tokens]", None, None)]


@pytest.mark.parametrize(
    "fault",
    [
        error(429, "slow down", retry_after="0.2"),
        error(500),
        error(503, "overloaded"),
        Sent(b"<html>502 Bad Gateway</html>", 502, {"content-type": "text/html"}),
        Sent(hang_up=True),
        Sent(b"<html>Please log in</html>", 200, {"content-type": "text/html"}),
        Sent(b'{"choices": [{"message": {"content": "caf\xe9"}}]}'),
        Sent(b'{"choices": []}'),
        Sent(b"null"),
        Sent(b'{"choices": [{"mess'),
    ],
    ids=["429", "500", "503", "502 page", "hangs up", "200 page", "latin-1", "no choice", "null", "half"],
)
def test_passing_fault_is_tried_again(server: LlmServer, fault: Sent) -> None:
    server.answers(fault, said("fine"))
    (outcome,) = ask(server)
    assert isinstance(outcome, Reply)
    assert outcome.kept == "fine"
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (error(429, "slow down"), "HOST answered 429: slow down, at each of 2 tries"),
        (error(500, "oops", "internal"), "HOST answered 500: oops (internal), at each of 2 tries"),
        (Sent(b"<h1>Bad</h1>", 502), "HOST answered 502, at each of 2 tries"),
        (Sent(hang_up=True), "HOST broke the connection, at each of 2 tries"),
        (Sent(b"<html>", 200), "its response is a page of HTML, not JSON, at each of 2 tries"),
        (Sent(b"\xff\xfe{", 200), "its response is not UTF-8, at each of 2 tries"),
        (Sent(b"x" * 2_000_000, 200), "its response is larger than 1,000,000 bytes"),
        (
            error(400, "This model's maximum context length is 4096"),
            "HOST refused the request (400): This model's maximum context length is 4096",
        ),
        (error(429, "later", retry_after="3600"), "HOST answered 429: later, and asks to wait 3,600 seconds"),
    ],
    ids=["429", "500", "502", "hangs up", "page", "utf-16", "huge", "too long", "an hour"],
)
def test_lasting_fault_is_a_reason_and_never_text(server: LlmServer, fault: Sent, why: str) -> None:
    server.answers(fault)
    host = server.url.removeprefix("http://").removesuffix("/v1")
    assert reason(server) == why.replace("HOST", host)
    assert len(server.seen) == (2 if "tries" in why else 1)


def test_slow_server_is_given_up_in_headers_and_in_body(server: LlmServer) -> None:
    host = server.url.removeprefix("http://").removesuffix("/v1")
    server.answers(said("late", delay=3))
    assert reason(server, timeout="0.3", retries="0") == f"{host} did not answer within 0.3 seconds"
    # Each byte comes in time, and the whole never would.
    server.answers(said("x" * 200, trickle=0.05))
    assert reason(server, timeout="0.3", retries="0") == f"{host} did not answer within 0.3 seconds"


def test_address_where_nothing_listens_is_a_reason() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert (
            reason(f"http://127.0.0.1:{port}/v1", retries="1")
            == f"127.0.0.1:{port} cannot be reached, at each of 2 tries"
        )


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_wrong_key_or_model_stops_at_once_and_names_both(
    server: LlmServer, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server.answers(error(status, f"no access with {KEY}"))
    with pytest.raises(BadInput) as caught:
        ask(server, n=8, key_env="MY_KEY", concurrency="1")
    assert f"{server.url} answered {status} for model 'a-model': no access with ***" in caught.value.message
    assert caught.value.hint
    assert len(server.seen) <= 2


def test_used_up_account_is_not_asked_again(server: LlmServer) -> None:
    server.answers(error(429, "You exceeded your current quota", "insufficient_quota"))
    with pytest.raises(BadInput, match="insufficient_quota"):
        ask(server)
    assert len(server.seen) == 1


def test_redirect_is_not_followed_with_the_key(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as elsewhere:
        server.answers(Sent(b"", 307, {"location": f"{elsewhere.url}/chat/completions"}))
        with pytest.raises(BadInput, match="answered 307"):
            ask(server)
        assert elsewhere.seen == []


def test_parameters_that_newer_models_refuse_are_left_out_or_renamed(server: LlmServer) -> None:
    def picky(seen: Seen) -> Sent:
        if "max_tokens" in seen.body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return error(400, "Unsupported parameter: 'seed'") if "seed" in seen.body else said("fine")

    server.script = picky
    assert [type(outcome) for outcome in ask(server, n=3, concurrency="1")] == [Reply] * 3
    assert len(server.seen) == 5, "what was learned holds for the next question"
    assert server.seen[-1].body["max_completion_tokens"] == 50


def test_temperature_can_be_left_out(server: LlmServer) -> None:
    server.answers(label("x"))
    ask(server, temperature="none")
    assert "temperature" not in server.seen[0].body


def test_request_whose_form_is_refused_is_no_matter_of_one_feature(server: LlmServer) -> None:
    server.answers(error(400, "Unsupported value: 'temperature' does not support 0"))
    with pytest.raises(BadInput, match="does not support 0"):
        ask(server, n=50, concurrency="1")
    assert len(server.seen) <= FORMLESS + 1


def test_server_that_never_answers_is_left_alone_in_the_end(server: LlmServer) -> None:
    server.answers(error(500))
    with pytest.raises(BadInput, match=f"{FRUITLESS} questions in a row had no answer"):
        ask(server, n=500, retries="0", concurrency="4")
    assert len(server.seen) < FRUITLESS + 10


def test_questions_go_out_together_and_no_more_than_allowed(server: LlmServer) -> None:
    server.answers(said("fine", delay=0.2))
    ask(server, n=12, concurrency="4")
    assert server.most_at_once == 4


def test_pause_that_one_is_told_holds_for_all(server: LlmServer) -> None:
    server.script = in_turn(error(429, retry_after="0.5"), said("fine"))
    assert [type(outcome) for outcome in ask(server, n=6, concurrency="1")] == [Reply] * 6
    assert len(server.seen) == 7


def test_missing_key_is_named_by_its_variable_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput) as caught:
        read_endpoint({"endpoint": "https://models.example/v1", "key_env": "MY_KEY"})
    assert caught.value.message == "the environment variable MY_KEY holds no key"
    assert read_endpoint({"endpoint": "https://models.example/v1"}, needs_key=False).key is None
    for url in ("http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:8000/v1", "http://127.9.9.9"):
        assert read_endpoint({"endpoint": url}).loopback
    for url in ("http://127.0.0.1.example.com/v1", "http://localhost.example.com", "http://10.0.0.1/v1"):
        with pytest.raises(BadInput, match="OPENAI_API_KEY holds no key"):
            read_endpoint({"endpoint": url})


@pytest.mark.parametrize("value", [f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}é", f"{KEY}\x07x"])
def test_key_that_is_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(BadInput, match="what the environment variable MY_KEY holds cannot be a key") as caught:
        read_endpoint({"endpoint": "https://models.example/v1", "key_env": "MY_KEY"})
    assert KEY not in repr(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize("given", [KEY, "gsk_9f8e7d6c5b4a", "A" * 65, "", "MY KEY"])
def test_key_given_for_its_variable_is_not_repeated(given: str) -> None:
    with pytest.raises(BadInput, match="key_env is not the name") as caught:
        read_endpoint({"endpoint": "https://models.example/v1", "key_env": given})
    assert not given or given not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize(
    "url",
    ["models.example/v1", "ftp://models.example", "https://", "http://a b/v1", "http://user:pass@/", "http://h:99999/"],
)
def test_address_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(BadInput, match="the endpoint is no URL of HTTP") as caught:
        read_endpoint({"endpoint": url})
    assert "pass" not in caught.value.message + str(caught.value.hint)


def everything_said(caplog: pytest.LogCaptureFixture, *errors: BaseException) -> str:
    told = [caplog.text]
    for one in errors:
        told += traceback.format_exception(one)
        told += [repr(one), str(one), str(getattr(one, "hint", ""))]
        told += [repr(vars(one))]
    return "\n".join(told)


@pytest.mark.parametrize(
    "fault",
    [
        error(401, f"bad key {KEY}"),
        error(400, f"x {KEY} y"),
        error(500, KEY),
        Sent(KEY.encode(), 500),
        Sent(hang_up=True),
    ],
)
def test_key_is_in_no_error_reason_log_or_repr(
    server: LlmServer, fault: Sent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server.answers(fault)
    errors: list[BaseException] = []
    reasons = []
    asked = chat(server, key_env="MY_KEY", retries="0")
    try:
        asked.submit(0, ASKED)
        reasons = asked.collect()
    except FeatureDBError as stopped:
        errors.append(stopped)
    finally:
        asked.close()
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"
    told = everything_said(caplog, *errors) + repr(reasons)
    told += repr(asked.identity) + repr(asked.provenance) + repr(vars(asked))
    assert KEY not in told


def test_password_and_query_of_the_address_are_sent_and_never_said(
    server: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    url = server.url.replace("http://", "http://ada:pa%40ssword@") + "/?api-version=2024&code=q-secret#top"
    server.answers(error(401, "pa@ssword and q-secret are wrong"))
    asked = chat(url)
    asked.submit(0, ASKED)
    with pytest.raises(BadInput) as caught:
        asked.collect()
    asked.close()
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions?api-version=2024&code=q-secret"
    assert seen.headers["authorization"].startswith("Basic ")
    told = caught.value.message + repr(asked.identity) + repr(asked.provenance) + repr(vars(asked)["_endpoint"].base)
    assert "ssword" not in told
    assert "q-secret" not in told
    assert caught.value.message.startswith(f"{server.url} answered 401")


def test_secret_shows_itself_nowhere() -> None:
    secret = Secret(KEY)
    assert KEY not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == KEY


def test_terminal_codes_of_a_server_do_not_get_through(server: LlmServer) -> None:
    server.answers(error(500, "\x1b[2J\u202egone\n" + "x" * 5000))
    told = reason(server, retries="0")
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert len(told) < 400


def test_proxy_of_the_environment_is_not_asked_for_loopback(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    server.answers(said("fine"))
    assert isinstance(ask(server, retries="0")[0], Reply)


def test_missing_library_names_the_extra(server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(PluginFailed, match="httpx is not installed") as caught:
        ask(server)
    assert caught.value.hint == "pip install 'featuredb[llm]'"


BAD: list[dict[str, Any]] = [
    {"model": " "},
    {"temperature": "3"},
    {"temperature": "hot"},
    {"max_tokens": "0"},
    {"max_tokens": "1e3"},
    {"concurrency": "0"},
    {"requests_per_minute": "0"},
    {"requests_per_minute": "nan"},
    {"timeout": "-1"},
    {"retries": "-1"},
    {"price_in": "-1"},
    {"budget": "5"},
    {"budget": "inf", "price_in": "1", "price_out": "1"},
    {"budget_tokens": "many"},
]


@pytest.mark.parametrize("options", BAD, ids=str)
def test_option_that_cannot_be_used_is_named(options: dict[str, str]) -> None:
    options = {"model": "a-model", **options}

    def read() -> None:
        read_sampling(options, 0, max_tokens=50)
        read_limits(options)
        read_purse(options)

    with pytest.raises(BadInput) as caught:
        read()
    assert any(name.replace("_", " ") in caught.value.message.replace("_", " ") for name in options)
    assert caught.value.hint
