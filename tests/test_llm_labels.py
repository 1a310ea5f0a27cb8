"""Labels by a model behind an endpoint: what it is shown, what is kept, what it costs, and how a run goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from featuredb.labels.requests import Proposal
from featuredb.labels.split import half_of
from featuredb.labels.table import checked_text
from featuredb.llm.prompts import read_prompt
from featuredb.llm.windows import firing
from featuredb.plugins import Registry
from featuredb_plugins.openai import OpenAI
from tests.llm_server import KEY, LlmServer, Seen, Sent, error, label, said, serving
from tests.llm_store import (
    CAPITALS,
    DEAD,
    DIGITS,
    GOOD,
    PERCENT,
    RARE,
    RULES,
    WORDS,
    Bench,
    bench,
    honest,
    labels,
    shown_rule,
)

ROOT = Path(__file__).resolve().parents[1]


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


def test_each_feature_is_labeled_from_the_texts_it_fires_on(planted: Bench, server: LlmServer) -> None:
    server.script = honest
    found = labels(planted, server, *GOOD)
    assert {feature: one.text for feature, one in found.items()} == {f: f"it fires on rule {f}" for f in GOOD}


def test_prompt_shows_marks_strengths_and_silent_texts_of_a_neighbour(planted: Bench, server: LlmServer) -> None:
    labels(planted, server, DIGITS, output_tokens="yes")
    prompt = server.seen[0].prompt
    firing, silent = prompt.split("Texts on which it is silent")
    strengths = [int(number) for number in re.findall(r"^\d+\. \(strength (\d+)\)", firing, re.MULTILINE)]
    assert len(strengths) == 20
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] == 10
    assert strengths[-1] < 7, "not the strongest alone"
    quiet = re.findall(r"^\d+\. (.*)$", silent.partition("Output tokens")[0], re.MULTILINE)
    assert len(quiet) == 5
    assert not any(RULES[DIGITS](text) for text in quiet)
    assert any(RULES[PERCENT](text) for text in quiet), "its nearest neighbour fires there"
    assert 'Output tokens that it makes more likely: " lamp"' in silent
    labels(planted, server, DIGITS)
    assert "Output tokens that it makes" not in server.seen[1].prompt.partition("<data-")[2]


def test_prompt_holds_nothing_of_the_scoring_half(planted: Bench, server: LlmServer) -> None:
    found = labels(planted, server, *GOOD)
    for proposal in found.values():
        shown = [*proposal.provenance["examples"], *proposal.provenance["silent_examples"]]
        assert {half_of(f"document {context}") for context in shown} == {"labeling"}
        assert len(set(proposal.provenance["examples"])) == 20, "no context twice"


def test_provenance_says_what_was_asked_of_whom_and_no_more(
    planted: Bench, server: LlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server.answers(label("digits", 0.75))
    endpoint = server.url + "?code=q-secret"
    proposal = labels(planted, server, DIGITS, key_env="MY_KEY", endpoint=endpoint, temperature="0.5")[DIGITS]
    told = dict(proposal.provenance)
    assert len(told.pop("examples")) == 20
    assert len(told.pop("silent_examples")) == 5
    assert told == {
        "model": "a-model",
        "endpoint": server.url.removeprefix("http://").removesuffix("/v1"),
        "temperature": 0.5,
        "prompt": {"name": "label.v1", "sha256": read_prompt("label.v1").sha256},
        "output_tokens": False,
        "seed": 0,
        "max_tokens": 300,
        "tokens_in": 100,
        "tokens_out": 10,
        "confidence": 0.75,
    }
    assert KEY not in json.dumps(proposal.provenance)
    assert "q-secret" not in json.dumps(proposal.provenance)


def test_dead_and_rare_features_are_not_asked_about(planted: Bench, server: LlmServer) -> None:
    found = labels(planted, server, DEAD, RARE)
    assert server.seen == []
    assert {one.failed for one in found.values()} == {
        "the labeling half has 0 texts in which it fires; 3 are needed",
        "the labeling half has 1 texts in which it fires; 3 are needed",
    }
    assert [one.text for one in found.values()] == [None, None]


def test_bad_answer_is_asked_for_once_more_with_the_reason(planted: Bench, server: LlmServer) -> None:
    server.answers(said("I think it is digits."), label("digits"))
    proposal = labels(planted, server, DIGITS)[DIGITS]
    assert proposal.text == "digits"
    assert (proposal.provenance["tokens_in"], proposal.provenance["tokens_out"]) == (200, 20)
    first, second = server.seen
    assert "could not be used: it is not one JSON object." in second.prompt
    assert "I think it is digits" not in second.prompt


BAD_ANSWERS = [
    said("I am sorry, I cannot help with that."),
    said('{"label": "cut o', finish="length"),
    said('{"label": "whole"}', finish="length"),
    said(""),
    said(None),
    said('{"label": "bell \\u0007"}'),
    said("<html><body>Too many requests</body></html>"),
    said("x" * 100_000),
    said('{"label": "\ufffd\ufffd"}'),
    said('{"text": "digits"}'),
    said("\ud800"),
]


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=range(len(BAD_ANSWERS)))
def test_answer_that_stays_bad_is_a_failure_with_its_reason(planted: Bench, server: LlmServer, answer: Sent) -> None:
    server.answers(answer)
    proposal = labels(planted, server, DIGITS)[DIGITS]
    assert proposal.text is None
    assert proposal.failed is not None
    assert proposal.failed.startswith("a-model gave no usable answer: it")
    assert len(server.seen) == 2
    assert "digits" not in json.dumps(proposal.failed)


def test_answer_that_repeats_the_prompt_is_no_label(planted: Bench, server: LlmServer) -> None:
    server.script = lambda seen: said(seen.prompt)
    assert labels(planted, server, DIGITS)[DIGITS].failed == "a-model gave no usable answer: it repeats the prompt"
    server.script = lambda seen: label(seen.system[:150])
    failed = labels(planted, server, DIGITS)[DIGITS].failed
    assert failed == "a-model gave no usable answer: its label repeats the prompt"


def test_server_that_fails_for_one_feature_fails_that_feature_alone(planted: Bench, server: LlmServer) -> None:
    server.script = lambda seen: error(500) if shown_rule(seen) == CAPITALS else honest(seen)
    found = labels(planted, server, *GOOD, retries="0")
    assert found[CAPITALS].text is None
    assert "answered 500" in str(found[CAPITALS].failed)
    assert [found[feature].text is not None for feature in (DIGITS, PERCENT)] == [True, True]


def test_every_label_can_be_kept_whatever_the_model_says(planted: Bench, server: LlmServer) -> None:
    texts = [
        "a\nb\t c",
        "<script>alert(1)</script>",
        "wörd 漢字 🎉",
        "long " * 100,
        "'; drop table label; --",
        "\u200bx",
    ]
    for text in texts:
        server.answers(label(text))
        proposal = labels(planted, server, DIGITS)[DIGITS]
        assert proposal.text == checked_text(str(proposal.text))
        assert len(str(proposal.text)) <= 200


def test_second_run_asks_nothing_and_says_the_same(fresh: Bench, server: LlmServer) -> None:
    server.script = lambda seen: said("nonsense") if shown_rule(seen) == PERCENT else honest(seen)
    first = labels(fresh, server, *GOOD, cached=True, concurrency="3")
    n_asked = len(server.seen)
    second = labels(fresh, server, *GOOD, cached=True, concurrency="1")
    assert first == second
    assert len(server.seen) == n_asked == 4
    labels(fresh, server, DIGITS, cached=True, model="b-model")
    labels(fresh, server, DIGITS, cached=True, temperature="1")
    labels(fresh, server, DIGITS, cached=True, max_tokens="50")
    assert len(server.seen) == n_asked + 3, "another model, temperature or length is another question"


def test_failure_of_the_server_is_not_kept(fresh: Bench, server: LlmServer) -> None:
    server.answers(error(500))
    assert labels(fresh, server, DIGITS, cached=True, retries="0")[DIGITS].failed
    server.script = honest
    assert labels(fresh, server, DIGITS, cached=True)[DIGITS].text == f"it fires on rule {DIGITS}"


def test_rows_are_the_same_whatever_the_order_of_answers(planted: Bench, server: LlmServer) -> None:
    server.script = honest
    expected = labels(planted, server, *GOOD, concurrency="1")
    others_are_there = threading.Event()

    def late(seen: Seen) -> Sent:
        sent = honest(seen)
        return Sent(sent.body, until=others_are_there if shown_rule(seen) == DIGITS else None)

    server.script = late
    given: dict[str, Any] = {"endpoint": server.url, "model": "a-model", "retries": "1", "concurrency": "3"}
    found: dict[int, Proposal] = {}
    for proposal in OpenAI().label(planted.label_request(*GOOD, cached=False, **given)):
        found[proposal.feature] = proposal
        if len(found) == 2:
            others_are_there.set()  # what is ready is not held back, or this would never be reached
    assert list(found)[-1] == DIGITS
    assert found == expected


PROGRAM = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run in the background
sys.path.insert(0, {root!r})
from pathlib import Path
from featuredb_plugins.openai import OpenAI
from tests.llm_store import bench
with bench(Path({store!r})) as made:
    for proposal in OpenAI().label(made.label_request(0, 1, 2, endpoint={url!r}, model="a-model", timeout="60")):
        print("got", proposal.feature, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interruption_waits_for_no_server_and_loses_no_answer(tmp_path: Path, server: LlmServer) -> None:
    path = tmp_path / "planted.fdb"
    with bench(path):
        pass
    test_is_over = threading.Event()
    server.script = lambda seen: honest(seen) if shown_rule(seen) == DIGITS else said("x", until=test_is_over)
    program = PROGRAM.format(root=str(ROOT), store=str(path), url=server.url)
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "got 0\n"
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=120)  # the server would never have answered
    assert running.returncode != 0
    assert "KeyboardInterrupt" in told
    assert "Exception in thread" not in told
    n_asked = len(server.seen)
    test_is_over.set()
    server.script = honest
    with bench(path) as made:
        assert len(labels(made, server, *GOOD, cached=True)) == 3
    assert len(server.seen) == n_asked + 2, "the answer that came is not asked for again"


def test_tokens_are_marked_from_three_tenths_of_the_strongest(planted: Bench) -> None:
    evidence = planted.evidence["labeling"]
    passages, n_marked, n_left = evidence.passages, 0, 0
    for feature in GOOD:
        examples = evidence.examples(feature, feature + 1)
        places, activations = evidence.panel(feature, feature + 1).of(feature)
        exact = dict(zip(places.tolist(), activations.tolist(), strict=True))
        for number in examples.of(feature):
            if int(examples.at[number]) not in exact:
                continue  # off the panel, where not all firings are known
            window = firing(passages, examples, number)
            fires = {place: exact[place] / window.strength for place in exact if window.low <= place < window.high}
            sure = {place for place, share in fires.items() if abs(share - 0.3) > 1 / 255}
            assert set(window.marked) & sure == {place for place in sure if fires[place] >= 0.3}
            n_marked, n_left = n_marked + len(window.marked), n_left + len(fires) - len(window.marked)
    assert n_marked > 50
    assert n_left > 5, "some fire too weakly to be marked"


def test_plugin_is_one_that_the_registry_loads() -> None:
    entries = {
        "openai": ("labelers", "openai:OpenAI"),
        "transformers": ("labelers", "transformers:Transformers"),
        "detection": ("scorers", "detection:Detection"),
        "fuzzing": ("scorers", "fuzzing:Fuzzing"),
    }
    found = [EntryPoint(n, f"featuredb_plugins.{value}", f"featuredb.{kind}") for n, (kind, value) in entries.items()]
    registry = Registry(found)
    assert registry.broken() == []
    named = [registry.labeler(name) for name in ("openai", "transformers")]
    scorers = [registry.scorer(name) for name in ("detection", "fuzzing")]
    names = [one.name for one in named] + [one.name for one in scorers]
    assert names == ["openai.v1", "transformers.v1", "detection.v1", "fuzzing.v1"]
    assert {"endpoint", "model", "key_env", "budget", "budget_tokens"} <= set(named[0].options)


def test_plugins_load_nothing_heavy() -> None:
    names = ("openai", "transformers", "detection", "fuzzing")
    program = f"import sys; {'; '.join(f'import featuredb_plugins.{name}' for name in names)}; "
    program += "print([name for name in ('torch', 'transformers', 'httpx', 'faiss') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_words_of_the_planted_store_are_those_of_its_rules() -> None:
    assert {feature: sum(map(rule, WORDS)) for feature, rule in RULES.items()} == {0: 4, 1: 2, 2: 1, 3: 0, 4: 1}
