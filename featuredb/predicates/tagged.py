"""Which tokens of some passages each predicate and expression holds of, worked out once and kept as packed bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from featuredb.predicates.bank import BANK
from featuredb.predicates.expression import Expression, check, parts
from featuredb.predicates.text import Mask, Places
from featuredb.predicates.view import View
from featuredb.store.passages import Passages

Bits = NDArray[np.uint8]

MOST_BYTES = 1 << 29
"""Room for expressions worked out; those that were asked for longest ago make way."""

REST = 2
"""Letters that a word has to have beside what it is said to begin or end with."""


class Tagged:
    """The N tokens of some passages under every predicate and expression; one bit a token and answer."""

    def __init__(self, passages: Passages) -> None:
        self.view = View(passages)
        self.passages = passages
        self.n_tokens = passages.n_tokens
        self._predicates: dict[str, Bits] = {}
        self._expressions: dict[str, Bits] = {}

    def holds(self, expression: Expression) -> Mask:
        """(N,) whether an expression holds of each token. Raises BadInput for what is no expression."""
        checked = check(expression)
        if "is" in checked:
            return self.predicate(checked["is"])
        key = json.dumps(checked, sort_keys=True)
        found = self._expressions.pop(key, None)
        if found is None:
            found = np.packbits(self._evaluate(checked))
            most = MOST_BYTES // max(1, found.nbytes)
            while len(self._expressions) >= max(1, most):
                del self._expressions[next(iter(self._expressions))]
        self._expressions[key] = found  # the one asked for last comes last, and goes last
        return self._unpacked(found)

    def predicate(self, name: str) -> Mask:
        """(N,) whether one predicate of the bank holds of each token."""
        if name not in self._predicates:
            empty = np.zeros(0, np.bool_)
            self._predicates[name] = np.packbits(BANK[name].tokens(self.view) if self.n_tokens else empty)
        return self._unpacked(self._predicates[name])

    @cached_property
    def bank(self) -> Bits:
        """(N, ceil(P / 8)) every predicate of the bank, in its order, eight to a byte: all of a token in one row."""
        rows = np.zeros((self.n_tokens, -(-len(BANK) // 8)), np.uint8)
        for place, name in enumerate(BANK):
            rows[:, place // 8] |= self.predicate(name).astype(np.uint8) << np.uint8(7 - place % 8)
        return rows

    def rows(self, at: Places) -> Bits:
        """(len(at), P) 1 where a predicate of the bank holds of a token, 0 where it does not."""
        return np.unpackbits(self.bank[at], axis=1, count=len(BANK))

    def _unpacked(self, bits: Bits) -> Mask:
        return np.unpackbits(bits, count=self.n_tokens).view(np.bool_)

    def _evaluate(self, expression: Expression) -> Mask:
        operator, operand = parts(expression)
        if operator == "is":
            return self.predicate(operand)
        if operator in ("token", "sequence", "within"):
            return self._of_tokens(operator, operand)
        if operator in ("word", "follows", "begins", "ends"):
            return self._of_words(operator, operand)
        if operator == "before":
            return self.view.before(self._evaluate(operand))
        if operator == "after":
            return self.view.after(self._evaluate(operand))
        if operator == "not":
            return ~self._evaluate(operand)
        masks = [self._evaluate(part) for part in operand]
        joined: Mask = np.all(masks, axis=0) if operator == "all" else np.any(masks, axis=0)
        return joined

    def _of_tokens(self, operator: str, operand: Sequence[str]) -> Mask:
        if operator == "within":
            return self.view.of_pieces(lambda name: name.startswith(tuple(operand)))
        found = np.zeros(self.n_tokens, np.bool_)
        if operator == "token":
            found[self.view.places(operand)] = True
            return found
        for sequence in operand:
            found[self._ends(sequence)] = True
        return found

    def _ends(self, sequence: Sequence[str]) -> Places:
        """Where the last tokens are of the places at which a sequence of tokens stands in one piece."""
        *others, last = sequence
        at = self.view.places([last])
        at = at[self.view.within[at] >= len(others)]
        for steps, text in enumerate(reversed(others), start=1):
            at = at[np.isin(self.passages.token[at - steps], self.view.tokens_of(text))]
        return at

    def _of_words(self, operator: str, operand: Sequence[str]) -> Mask:
        if operator in ("begins", "ends"):
            return self.view.at_words(self.view.word, lambda word: has_affix(word, operator, operand))
        words = self.view.word if operator == "word" else self.view.word_before
        return self.view.at_words(words, frozenset(operand).__contains__)


def has_affix(word: str, side: str, affixes: Sequence[str]) -> bool:
    """Whether a word begins or ends with one of some texts, case aside, and has REST letters more at least."""
    word = word.lower()
    test = word.startswith if side == "begins" else word.endswith
    return any(test(affix.lower()) and len(word) >= len(affix) + REST for affix in affixes)
