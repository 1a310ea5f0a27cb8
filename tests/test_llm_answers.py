"""Answers of models: what is taken as a label or a verdict, and what is refused with a reason of our own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import featuredb.labels.answers
from featuredb.labels.answers import Answer, AnswerCache
from featuredb.labels.table import checked_text
from featuredb.llm.answers import LONGEST_ANSWER, LONGEST_LABEL, Unusable, keepable, read_label, read_verdicts
from featuredb.llm.prompts import FENCE, read_prompt
from tests.small_store import build

PROMPT = read_prompt("label.v1")
GOOD = '{"label": "digits", "confidence": 0.5}'


def kept(text: str, cut_off: bool = False) -> str:
    return keepable(text, "the fence", cut_off)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"  {GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"Here it is:\n```\n{GOOD}\n```\nI hope it helps.",
        f"<think>the texts have {{digits}}</think>\n{GOOD}",
        '{"label": "  digits\\n", "confidence": 0.5, "why": ["more", 1]}',
    ],
)
def test_one_json_object_is_taken_bare_or_in_a_block_of_code(text: str) -> None:
    found = read_label(kept(text), PROMPT)
    assert (found.label, found.confidence) == ("digits", 0.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The feature fires on digits.", "it is not one JSON object"),
        (f"Sure! {GOOD}", "it is not one JSON object"),
        (f"{GOOD}\n{GOOD}", "it is not one JSON object"),
        (GOOD[:20], "it is not one JSON object"),
        ("", "it is empty"),
        (" \n\t", "it is empty"),
        ("<think>hm</think>", "it is empty"),
        ("<!DOCTYPE html><title>502</title>", "it is a page of HTML"),
        ("[1, 2]", "it is JSON, but no object"),
        ('"digits"', "it is JSON, but no object"),
        ("[" * 20_000, "it is not one JSON object"),
        ("9" * 10_000, "it is not one JSON object"),
        ('{"label": "digits", "confidence": NaN}', "it is not one JSON object"),
        ("x" * 100_000, "it is longer than 50,000 characters"),
        (json.dumps({"label": "d" * 100_000}), "it is longer than 50,000 characters"),
        ("{}", "its JSON object has no label that is a string"),
        ('{"label": null}', "its JSON object has no label that is a string"),
        ('{"label": ["digits"]}', "its JSON object has no label that is a string"),
        ('{"label": ""}', "its label is empty"),
        ('{"label": "..."}', "its label has no letter or digit"),
        ('{"label": "a\\u0007b"}', "its label has a control character, U+0007 at 1"),
        ('{"label": "a\\u202eb"}', "its label has a control character, U+202E at 1"),
        ('{"label": "caf\ufffd"}', "its label has characters that could not be read"),
        ('{"label": "\\ud800x"}', "its label has a control character, U+D800 at 0"),
        (json.dumps({"label": "word " * 500}), "its label has 2,499 characters"),
        ('{"label": "digits", "confidence": "high"}', "its confidence is not a number from 0 to 1"),
        ('{"label": "digits", "confidence": 85}', "its confidence is not a number from 0 to 1"),
        ('{"label": "digits", "confidence": true}', "its confidence is not a number from 0 to 1"),
        (json.dumps({"label": PROMPT.system[:100]}), "its label repeats the prompt"),
        (json.dumps({"label": PROMPT.user[-70:].strip()}), "its label repeats the prompt"),
        (f"<data-the fence> 1. lamp </data-the fence> {GOOD}", "it repeats the prompt"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        read_label(kept(text), PROMPT)
    assert str(caught.value) == reason


def test_answer_that_its_server_stopped_is_refused_even_where_it_reads_whole() -> None:
    with pytest.raises(Unusable, match="cut off at max_tokens"):
        read_label(kept(GOOD, cut_off=True), PROMPT)


def test_long_label_is_cut_at_a_word() -> None:
    found = read_label(kept(json.dumps({"label": "some words, " * 30})), PROMPT)
    assert len(found.label) <= LONGEST_LABEL
    assert re.fullmatch(r"(some words, )*(some|some words)…", found.label)
    assert len(read_label(kept(json.dumps({"label": "x" * 300})), PROMPT).label) == LONGEST_LABEL


@given(st.one_of(st.text(), st.recursive(st.none() | st.text() | st.floats(), st.lists).map(json.dumps)))
def test_no_answer_raises_anything_but_unusable(text: str) -> None:
    for answer in (text, json.dumps({"label": text})):
        try:
            found = read_label(kept(answer), PROMPT)
        except Unusable:
            continue
        assert found.label == checked_text(found.label)
        assert len(found.label) <= LONGEST_LABEL


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.integers()))
def test_verdicts_are_all_there_or_refused(answer: dict[str, Any]) -> None:
    try:
        found = read_verdicts(kept(json.dumps(answer)), ["k3", "p7"])
    except Unusable:
        return
    assert found.keys() == {"k3", "p7"} <= answer.keys()


def test_verdicts_are_read_by_key_in_any_order_and_case() -> None:
    assert read_verdicts('{"p7": "No.", "k3": "YES", "z9": "maybe"}', ("k3", "p7")) == {"k3": True, "p7": False}
    assert read_verdicts('{"k3": true}', ("k3",)) == {"k3": True}
    for bad in ('{"k3": "yes"}', '{"k3": "yes", "p7": "maybe"}', '{"k3": "yes", "p7": 1}', '{"k3": "yes", "p7": null}'):
        with pytest.raises(Unusable, match="for every key"):
            read_verdicts(bad, ("k3", "p7"))


def test_what_is_kept_is_the_same_for_every_fence_and_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (keepable(f"a {fence}\ud800\0b", fence, False) for fence in ("f1", "f2"))
    assert first == second == f"a {FENCE}\ufffd\ufffdb"
    assert len(keepable("x" * 10**6, "f", True)) == LONGEST_ANSWER + 1
    with build(tmp_path / "small.fdb") as store:
        cache = AnswerCache(store)
        cache.put("key", "model", Answer(first, 1, 2))
        assert cache.get("key") == Answer(first, 1, 2)
        others = {f"key {number}": Answer(f"text {number}") for number in range(7)}
        for key, answer in others.items():
            cache.put(key, "model", answer)
        monkeypatch.setattr(featuredb.labels.answers, "AT_ONCE", 3)
        assert cache.get_many(["key", "no such", *others, "key"]) == {"key": Answer(first, 1, 2), **others}
        assert cache.get_many([]) == {}
