"""What labeling may cost, what is kept of it, and that nothing is paid for twice."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from featuredb.errors import BadInput
from featuredb.labels.answers import AnswerCache
from featuredb.labels.requests import Proposal
from featuredb.llm import BudgetReached
from featuredb.llm.asking import Ask, Asking, answer_key
from featuredb.llm.endpoint import EndpointChat
from featuredb.llm.prompts import Question
from featuredb.llm.settings import read_endpoint, read_limits, read_purse, read_sampling
from featuredb_plugins.detection import Detection
from featuredb_plugins.openai import OpenAI
from tests.llm_server import LlmServer, said, serving
from tests.llm_store import DEAD, DIGITS, GOOD, PERCENT, Bench, bench, honest, labels, shown_rule


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("planted") / "planted.fdb") as made:
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Bench]:
    """A store of its own, for tests of what is kept."""
    with bench(tmp_path / "planted.fdb") as made:
        yield made


def test_estimate_is_what_is_then_asked_and_costs_nothing(fresh: Bench, server: LlmServer) -> None:
    server.script = lambda seen: said('{"label": "x"}', n_in=sum(len(m["content"]) for m in seen.body["messages"]) // 4)
    options: dict[str, Any] = {"endpoint": server.url, "model": "a-model", "price_in": "1", "price_out": "4"}
    request = fresh.label_request(*GOOD, DEAD, **options)
    before = OpenAI().estimate(request)
    assert server.seen == []
    assert before.n_requests == 3
    assert before.tokens_out == 3 * 300
    assert before.cost == pytest.approx((before.tokens_in + 4 * before.tokens_out) / 1e6)
    found = list(OpenAI().label(request))
    assert len(server.seen) == before.n_requests
    spent = sum(one.provenance["tokens_in"] for one in found if one.feature != DEAD)
    assert 1 <= before.tokens_in / spent < 1.6, "on the high side, and not by far"
    assert OpenAI().estimate(request).n_requests == 0, "what is kept is free"


def test_an_estimate_asks_the_catalog_for_hundreds_of_answers_at_once(fresh: Bench, server: LlmServer) -> None:
    options: dict[str, Any] = {"endpoint": server.url, "model": "a-model"}
    server.script = lambda seen: said("{}")  # no verdicts, but an answer that is kept
    request = fresh.score_request({DIGITS: "digits", PERCENT: "percent"}, decoy="capitals", **options)
    every = Detection().estimate(request).n_requests
    assert every == 2 * 2 * 40
    list(Detection().score(fresh.score_request({DIGITS: "digits"}, decoy="capitals", **options)))
    statements: list[str] = []

    def note(*given: Any) -> None:
        statements.append(given[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert Detection().estimate(request).n_requests == every // 2
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert sum("FROM answer" in statement for statement in statements) == 1


def test_estimate_needs_no_key_and_names_what_cannot_be_used(planted: Bench) -> None:
    request = planted.label_request(DIGITS, endpoint="https://models.example/v1", model="a-model")
    assert OpenAI().estimate(request).cost is None
    with pytest.raises(BadInput, match="no model is named"):
        OpenAI().estimate(planted.label_request(DIGITS))
    with pytest.raises(BadInput, match="n_examples='x'"):
        OpenAI().estimate(planted.label_request(DIGITS, model="m", n_examples="x"))


@pytest.mark.parametrize("budget", [{"budget_tokens": "5000"}, {"budget": "0.005", "price_in": "1", "price_out": "1"}])
def test_budget_stops_clean_and_a_higher_one_goes_on_for_free(
    fresh: Bench, server: LlmServer, budget: dict[str, str]
) -> None:
    server.script = lambda seen: said(json.dumps({"label": f"rule {shown_rule(seen)}"}), n_in=1800, n_out=20)
    found: list[Proposal] = []
    options: dict[str, Any] = {"endpoint": server.url, "model": "a-model", **budget}
    with pytest.raises(BudgetReached, match="of 3 features not done") as caught:
        found.extend(OpenAI().label(fresh.label_request(*GOOD, **options)))  # what came before the end is kept
    assert caught.value.exit_code == 3
    assert "run the same again" in str(caught.value.hint)
    assert len(server.seen) < 3
    name = next(iter(budget))
    rest = labels(fresh, server, *GOOD, cached=True, **{**budget, name: "100000"})
    assert [rest[feature].text for feature in GOOD] == [f"rule {feature}" for feature in GOOD]
    assert len(server.seen) == 3, "nothing was asked twice"


def test_budget_covers_questions_under_way(fresh: Bench, server: LlmServer) -> None:
    server.script = lambda seen: said('{"label": "x"}', n_in=1700, n_out=300, delay=0.1)
    with pytest.raises(BudgetReached):
        labels(fresh, server, *GOOD, concurrency="8", budget_tokens="4500")
    assert sum(2000 for _ in server.seen) <= 4500


def test_budget_holds_for_a_server_that_counts_more_after_its_first_answer(fresh: Bench, server: LlmServer) -> None:
    server.script = lambda seen: said('{"label": "x"}', n_in=3000, n_out=10)
    with pytest.raises(BudgetReached, match="1 of 3 features not done"):
        labels(fresh, server, *GOOD, concurrency="1", budget_tokens="7000")
    assert sum(3010 for _ in server.seen) <= 7000


def test_budget_of_nothing_asks_nothing(planted: Bench, server: LlmServer) -> None:
    with pytest.raises(BudgetReached, match="3 of 3 features not done"):
        labels(planted, server, *GOOD, budget_tokens="0")
    assert server.seen == []


def test_options_that_change_no_answer_are_told_apart(fresh: Bench, server: LlmServer) -> None:
    """They can be changed between two runs, and the second asks nothing."""
    server.script = honest
    labels(fresh, server, DIGITS, cached=True)
    given = {"key_env": "OTHER", "budget_tokens": "90000", "price_in": "1", "price_out": "2", "budget": "5"}
    given |= {"concurrency": "2", "requests_per_minute": "600", "timeout": "9", "retries": "0"}
    assert set(given) <= set(OpenAI.indifferent)
    assert set(OpenAI.indifferent) - {"batch_size"} <= set(OpenAI.options)
    labels(fresh, server, DIGITS, cached=True, **given)
    assert len(server.seen) == 1


def test_answers_that_came_are_kept_when_nobody_waits_any_more(fresh: Bench, server: LlmServer) -> None:
    server.script = honest
    options = {"endpoint": server.url, "model": "a-model", "concurrency": "3"}
    chat = EndpointChat(read_endpoint(options), read_sampling(options, 0, max_tokens=50), read_limits(options))
    cache = AnswerCache(fresh.store)
    questions = [Question((("system", f"<<{mark}>>"), ("user", f"<<{mark}>>"))) for mark in ("7", "NASA", "percent")]
    asks = [Ask((number,), question, str) for number, question in enumerate(questions)]
    asking: Asking[str] = Asking(chat, cache, read_purse(options))
    running = asking.run(iter(asks))
    next(running)
    while chat.n_waiting + sum(cache.get(answer_key(chat, question)) is not None for question in questions) < 3:
        time.sleep(0.01)
    assert isinstance(running, Generator)
    running.close()
    assert all(cache.get(answer_key(chat, question)) is not None for question in questions)


def test_question_that_is_under_way_is_not_asked_again(server: LlmServer) -> None:
    server.answers(said("fine"))
    options = {"endpoint": server.url, "model": "a-model", "concurrency": "2"}
    chat = EndpointChat(read_endpoint(options), read_sampling(options, 0, max_tokens=50), read_limits(options))
    question = Question((("user", "what?"),))
    asks = [Ask((number,), question, str) for number in range(2)]
    asking: Asking[str] = Asking(chat, None, read_purse(options))
    found = list(asking.run(iter(asks)))
    assert {(one.about, one.value) for one in found} == {((0,), "fine"), ((1,), "fine")}
    assert len(server.seen) == 1
