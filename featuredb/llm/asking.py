"""Questions in, judged answers out: what is kept is not asked again, a bad answer is asked for once more, and the
budget is never passed.

Rule: all state lives in the thread that iterates; chats bring answers to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from featuredb.labels.answers import Answer, AnswerCache
from featuredb.llm.answers import Unusable
from featuredb.llm.budget import Estimate, Prices, Purse, Reserved, estimated_tokens
from featuredb.llm.chat import Chat, NoReply, Reply
from featuredb.llm.prompts import Question

Read = TypeVar("Read")
KeptOf = Callable[[Sequence[Question]], Set[Question]]
"""Those of some questions whose answers are kept."""

AT_ONCE = 1_000
"""Questions of an estimate that are held against what is kept together."""


@dataclass(frozen=True)
class Ask(Generic[Read]):
    """One question, and how its answer is read."""

    about: tuple[int, ...]
    """Whatever tells the caller which one it is."""
    question: Question
    read: Callable[[str], Read]
    """The value of an answer. Raises Unusable."""


@dataclass(frozen=True)
class Answered(Generic[Read]):
    """What came of one question."""

    about: tuple[int, ...]
    value: Read | None
    tokens_in: int | None
    """Of all tries, as the server counts them; None where it did not say."""
    tokens_out: int | None
    failed: str | None = None
    """Why there is no value."""


@dataclass
class _Turn(Generic[Read]):
    ask: Ask[Read]
    question: Question
    key: str = ""
    reserved: Reserved = Reserved(0, 0, 0)
    second: bool = False
    also: list[_Turn[Read]] = field(default_factory=list)
    """Others that asked the same meanwhile."""
    tokens: list[tuple[int | None, int | None]] = field(default_factory=list)


class Asking(Generic[Read]):
    """One job's questions. `budget_stopped` tells, after the iteration, whether some were not asked."""

    def __init__(self, chat: Chat, cache: AnswerCache | None, purse: Purse) -> None:
        self._chat = chat
        self._cache = cache
        self._purse = purse
        self._flying: dict[int, _Turn[Read]] = {}
        self._again: deque[_Turn[Read]] = deque()
        self._n_asked = 0
        self.budget_stopped = False

    def run(self, asks: Iterator[Ask[Read]]) -> Iterator[Answered[Read]]:
        """What came of each question, as it comes. Raises BadInput when no question can be answered.

        Where the budget ends, what is on its way is waited for, and the rest of `asks` is left where it is.
        """
        try:
            more = True
            while more or self._again or self._flying:
                short = False
                while self._chat.room > 0 and not short:
                    turn = self._again.popleft() if self._again else _begin(asks)
                    if turn is None:
                        more = False
                        break
                    kept = self._kept(turn)
                    if kept is not None:
                        yield from self._settle(turn, kept)
                    elif not self._send(turn):
                        self._again.appendleft(turn)  # what is on its way may cost less than was set aside
                        short = True
                if short and not self._flying:
                    self.budget_stopped = True
                    return
                if self._flying:
                    # All of them are kept before the first is handed out, for there may be no return from that.
                    came = [self._arrived(*one) for one in self._chat.collect()]
                    for arrival in came:
                        yield from self._judged(*arrival)
        finally:
            # An answer that was paid for is kept, even where nobody waits for it any more.
            for ticket, outcome in self._chat.close():
                if ticket in self._flying and isinstance(outcome, Reply):
                    self._keep(self._flying.pop(ticket), outcome)

    def _kept(self, turn: _Turn[Read]) -> Answer | None:
        turn.key = answer_key(self._chat, turn.question)
        return None if self._cache is None else self._cache.get(turn.key)

    def _send(self, turn: _Turn[Read]) -> bool:
        """Asks it, unless the same is being asked already; False where the budget does not cover it."""
        for other in self._flying.values():
            if other.key == turn.key:
                other.also.append(turn)
                return True
        reserved = self._purse.reserve(turn.question.n_tokens, self._chat.max_tokens)
        if reserved is None:
            return False
        turn.reserved = reserved
        self._n_asked += 1
        self._flying[self._n_asked] = turn
        self._chat.submit(self._n_asked, turn.question)
        return True

    def _arrived(self, ticket: int, outcome: Reply | NoReply) -> tuple[_Turn[Read], Answer | NoReply]:
        turn = self._flying.pop(ticket)
        if isinstance(outcome, Reply):
            return turn, self._keep(turn, outcome)
        self._purse.settle(turn.reserved, 0, 0)
        return turn, outcome

    def _judged(self, turn: _Turn[Read], outcome: Answer | NoReply) -> Iterator[Answered[Read]]:
        for one in (turn, *turn.also):
            if isinstance(outcome, NoReply):
                yield _ended(one, None, outcome.reason)
            else:
                yield from self._settle(one, outcome)

    def _keep(self, turn: _Turn[Read], reply: Reply) -> Answer:
        n_out = estimated_tokens(reply.kept) if reply.n_out is None else reply.n_out
        n_in = turn.reserved.estimated_in if reply.n_in is None else reply.n_in
        self._purse.settle(turn.reserved, n_in, n_out)
        answer = Answer(reply.kept, reply.n_in, reply.n_out)
        if self._cache is not None:
            self._cache.put(turn.key, self._chat.model, answer)
        return answer

    def _settle(self, turn: _Turn[Read], answer: Answer) -> Iterator[Answered[Read]]:
        """Judges an answer; one that is of no use is asked for once more."""
        turn.tokens.append((answer.n_in, answer.n_out))
        try:
            yield _ended(turn, turn.ask.read(answer.text), None)
        except Unusable as fault:
            if turn.second:
                yield _ended(turn, None, f"{self._chat.model} gave no usable answer: {fault}")
            else:
                reminded = turn.question.reminded(str(fault))
                self._again.append(_Turn(turn.ask, reminded, second=True, tokens=turn.tokens))


def answer_key(chat: Chat, question: Question) -> str:
    """The hash under which the answer to a question is kept: of the model, how it is asked, and every word."""
    return AnswerCache.key({**chat.identity, "messages": [list(message) for message in question.messages]})


def estimate_asks(asks: Iterator[Ask[Read]], prices: Prices, max_tokens: int, kept: KeptOf) -> Estimate:
    """What asking them would cost at most, without those whose answers are kept; nothing is sent."""
    seen: set[Question] = set()
    n_requests = tokens_in = 0
    while questions := [ask.question for ask in islice(asks, AT_ONCE)]:
        new = [question for question in dict.fromkeys(questions) if question not in seen]
        seen.update(new)
        there = kept(new)
        asked = [question for question in new if question not in there]
        n_requests += len(asked)
        tokens_in += sum(question.n_tokens for question in asked)
    tokens_out = n_requests * max_tokens
    return Estimate(n_requests, tokens_in, tokens_out, prices.cost(tokens_in, tokens_out))


def _begin(asks: Iterator[Ask[Read]]) -> _Turn[Read] | None:
    ask = next(asks, None)
    return None if ask is None else _Turn(ask, ask.question)


def _ended(turn: _Turn[Read], value: Read | None, failed: str | None) -> Answered[Read]:
    said = [(n_in, n_out) for n_in, n_out in turn.tokens if n_in is not None and n_out is not None]
    if not said:
        return Answered(turn.ask.about, value, None, None, failed)
    return Answered(turn.ask.about, value, sum(n_in for n_in, _ in said), sum(n_out for _, n_out in said), failed)
