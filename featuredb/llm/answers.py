"""What a model answered, judged: a JSON object of the form that was asked for, or the reason why it is of no use.

Rule: text in, a value or one of our own reasons out. A reason never repeats what the model said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from featuredb.errors import BadInput
from featuredb.labels.table import checked_text
from featuredb.llm.prompts import FENCE, Prompt

LONGEST_ANSWER = 50_000
"""Characters of an answer that are looked at."""

LONGEST_LABEL = 200
"""Characters of a label; a longer one is cut at a word."""

CUT_OFF = "\n[cut off at max_tokens]"
"""Ends a kept answer that its server stopped; without it a cut answer could not be told from a whole one."""

_THOUGHTS = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?</\1>", re.DOTALL)
_CODE = re.compile(r"```[ \t]*(?:json|JSON)?[ \t]*\r?\n(.*?)```", re.DOTALL)
_UNSTORABLE = re.compile("[\ud800-\udfff\x00]")


class Unusable(Exception):
    """An answer that cannot be used; `str()` says why, in our words."""


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """What the label prompt asks for."""

    label: str
    confidence: float | None


def keepable(text: str, fence: str, cut_off: bool) -> str:
    """An answer as it is kept and judged: the same whatever the fence was, and such that any database takes it."""
    kept = _UNSTORABLE.sub("\ufffd", text.replace(fence, FENCE))
    if len(kept) > LONGEST_ANSWER:
        return kept[: LONGEST_ANSWER + 1]
    return kept + CUT_OFF if cut_off else kept


def read_label(kept: str, prompt: Prompt) -> LabelAnswer:
    """The label of an answer to a prompt. Raises Unusable."""
    found = read_object(kept)
    label, confidence = found.get("label"), found.get("confidence")
    if not isinstance(label, str):
        raise Unusable("its JSON object has no label that is a string")
    if confidence is not None and (
        isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1
    ):
        raise Unusable("its confidence is not a number from 0 to 1")
    text = _label_text(label)
    if prompt.says(text.removesuffix("…")):
        raise Unusable("its label repeats the prompt")
    return LabelAnswer(text, None if confidence is None else float(confidence))


def read_verdicts(kept: str, keys: Sequence[str]) -> dict[str, bool]:
    """Yes or no for each key, as asked. Raises Unusable, for one key that is missing too."""
    found = read_object(kept)
    verdicts = {}
    for key in keys:
        value = found.get(key)
        word = value.strip().strip(".").casefold() if isinstance(value, str) else value
        if isinstance(word, bool):
            verdicts[key] = word
        elif isinstance(word, str) and word in ("yes", "no"):
            verdicts[key] = word == "yes"
        else:
            raise Unusable("its JSON object does not say yes or no for every key")
    return verdicts


def read_object(kept: str) -> dict[str, Any]:
    """The one JSON object of an answer, bare or in one block of code. Raises Unusable."""
    if kept.endswith(CUT_OFF):
        raise Unusable("it was cut off at max_tokens")
    if len(kept) > LONGEST_ANSWER:
        raise Unusable(f"it is longer than {LONGEST_ANSWER:,} characters")
    if FENCE in kept:
        raise Unusable("it repeats the prompt")
    text = _THOUGHTS.sub("", kept).strip()
    if not text:
        raise Unusable("it is empty")
    blocks = _CODE.findall(text)
    if len(blocks) == 1:
        text = blocks[0].strip()
    if re.match(r"<(!doctype|html)\b", text, re.IGNORECASE):
        raise Unusable("it is a page of HTML")
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Unusable("it is not one JSON object") from None
    if not isinstance(found, dict):
        raise Unusable("it is JSON, but no object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity, which JSON does not have


def _label_text(label: str) -> str:
    text = " ".join(label.split())
    if "\ufffd" in text:
        raise Unusable("its label has characters that could not be read")
    if not any(character.isalnum() for character in text):
        raise Unusable("its label has no letter or digit" if text else "its label is empty")
    try:
        text = checked_text(text)
    except BadInput as error:
        raise Unusable(error.message.replace("the label", "its label")) from None
    if len(text) <= LONGEST_LABEL:
        return text
    cut = text[: LONGEST_LABEL - 1]
    return (cut.rpartition(" ")[0] or cut).rstrip(",;:") + "…"
