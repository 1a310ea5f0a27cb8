"""Prompts: versioned files shipped with the package, filled in so that text of a corpus stays data.

Rule: a file that was released is never edited; another wording is another file, with another version in its name.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

from featuredb.llm.budget import MESSAGE_TOKENS, estimated_tokens
from featuredb.visible import visible

FENCE = "\ue000fence\ue000"
"""What stands for the fence in everything that is hashed or kept, so that chance does not change it.

Its private characters are in no text that went through `visible`, as all data here did.
"""

REMINDER = (
    "The answer before this one could not be used: $reason. Answer with the one JSON object that was asked for, short, "
    "and nothing before or after it."
)

MANY = 25
"""Characters in common with the prompt that are no accident."""

Messages = tuple[tuple[str, str], ...]
"""(role, text) each."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a model, the fence still to be chosen."""

    messages: Messages
    """With FENCE wherever the fence goes."""

    def fenced(self, fence: str) -> Messages:
        """The messages as they are sent."""
        return tuple((role, text.replace(FENCE, fence)) for role, text in self.messages)

    def reminded(self, reason: str) -> Question:
        """The same question, saying why its first answer was of no use. reason: our own words, never a model's."""
        (*before, (role, text)) = self.messages
        return Question((*before, (role, f"{text}\n\n{Template(REMINDER).substitute(reason=reason)}")))

    @property
    def n_tokens(self) -> int:
        """About how many tokens it has."""
        return sum(estimated_tokens(text) + MESSAGE_TOKENS for _, text in self.messages)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt file."""

    name: str
    sha256: str
    """Of the file: what provenance keeps."""
    system: str
    user: str

    def ask(self, data: str, words: Mapping[str, str] | None = None) -> Question:
        """The question about some data. words: what else the prompt has places for, ours and never of a corpus."""
        blanks = {"open": f"<data-{FENCE}>", "close": f"</data-{FENCE}>", **(words or {})}
        user = Template(self.user).substitute(blanks, data=_disarmed(data))
        return Question((("system", Template(self.system).substitute(blanks)), ("user", user)))

    def says(self, text: str) -> bool:
        """Whether some words, a good many of them, stand in the prompt just so."""
        said = " ".join(f"{self.system} {self.user}".split()).casefold()
        return len(text) >= MANY and text.casefold() in said

    @property
    def provenance(self) -> dict[str, str]:
        return {"name": self.name, "sha256": self.sha256}


@cache
def read_prompt(name: str) -> Prompt:
    """The prompt of that name and version, such as "label.v1"."""
    raw = (files("featuredb.llm") / "prompts" / f"{name}.md").read_bytes()
    parts = re.split(r"^## (system|user)\n", raw.decode("utf-8"), flags=re.MULTILINE)
    named = {role: text.strip() for role, text in zip(parts[1::2], parts[2::2], strict=True)}
    return Prompt(name, hashlib.sha256(raw).hexdigest(), named["system"], named["user"])


def new_fence() -> str:
    """A fence that no text can have foreseen; another one for each request."""
    return secrets.token_hex(8)


def settled_fence(question: Question) -> str:
    """A fence made of what it fences: the same each time, and no text can hold the hash of itself.

    For models whose answers are to be the same each time they are asked.
    """
    whole = "\0".join(text for _, text in question.messages)
    return hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=8, person=b"featuredb-fence").hexdigest()


def one_line(text: str) -> str:
    """Text of a corpus on one line, with nothing in it that hides or reorders."""
    return visible(text)


def _disarmed(data: str) -> str:
    # Only a text that was written against us holds the stand-in; it would turn into the fence when that is chosen.
    return data.replace(FENCE, FENCE[1:-1])
