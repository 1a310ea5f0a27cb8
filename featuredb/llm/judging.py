"""Scores by a judge: a language model that says of each text whether a label fits, and what its answers amount to.

Rule: the judge sees a label and texts, never which texts are which; answers that fail are counted, never left out in
silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from featuredb.labels.requests import LabelToScore, Scored, ScoreRequest
from featuredb.llm.answers import read_verdicts
from featuredb.llm.asking import Answered, Ask, Asking, KeptOf, estimate_asks
from featuredb.llm.budget import Estimate, Prices, Purse
from featuredb.llm.cases import Case, CaseMaker, Cases
from featuredb.llm.chat import Chat
from featuredb.llm.figures import Rate, balanced_accuracy, f1_at, wilson
from featuredb.llm.prompts import Prompt, one_line, read_prompt
from featuredb.llm.settings import whole
from featuredb.llm.windows import seeded

N_EXAMPLES = 20
"""Texts of either kind that a label is judged on."""
LEAST = 5
"""Usable answers of either kind for a figure."""
DECOYS = 4
"""Other features' labels looked at for one that reads differently."""
MAX_TOKENS = 60
"""Of an answer, and 20 for each of its texts."""

Verdicts = dict[str, bool]
_OWN, _DECOY = 0, 1
_LETTERS, _DIGITS = "bcdfghjkmnpqrstvwxz", "23456789"


@dataclass
class _Tally:
    """The answers about one label, its own and its baseline's."""

    label: LabelToScore
    cases: Cases
    decoy: LabelToScore | None
    batches: list[list[tuple[str, Case]]]
    """The texts of each request, by key."""
    left: int
    """Answers that are still to come."""
    verdicts: dict[int, list[tuple[Case, bool]]] = field(default_factory=lambda: {_OWN: [], _DECOY: []})
    failed: dict[int, int] = field(default_factory=lambda: {_OWN: 0, _DECOY: 0})
    reasons: Counter[str] = field(default_factory=Counter)
    tokens: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Judging:
    """One request, read once."""

    request: ScoreRequest
    scorer: Literal["detection", "fuzzing"]
    n_examples: int
    batch: int
    prompt: Prompt

    @classmethod
    def of(cls, request: ScoreRequest, scorer: Literal["detection", "fuzzing"]) -> Judging:
        """Raises BadInput for options that cannot be used."""
        n_examples = whole(request.options, "n_examples", N_EXAMPLES, LEAST, 500)
        batch = whole(request.options, "batch", 1, 1, 50)
        return cls(request, scorer, n_examples, batch, read_prompt(f"{scorer}.v1"))

    @property
    def max_tokens(self) -> int:
        """Of one answer, where the options do not say."""
        return MAX_TOKENS + 20 * self.batch

    def estimate(self, prices: Prices, max_tokens: int, kept: KeptOf) -> Estimate:
        """What `scores` would ask at most."""
        asks = (ask for tally in self._tallies() if isinstance(tally, _Tally) for ask in self._asks_of(tally))
        return estimate_asks(asks, prices, max_tokens, kept)

    def scores(self, chat: Chat, purse: Purse) -> Iterator[Scored]:
        """One for each label, as its last answer comes. Raises BudgetReached after the last the budget covers."""
        asking: Asking[Verdicts] = Asking(chat, self.request.answers, purse)
        open_tallies: dict[int, _Tally] = {}
        lacking: list[Scored] = []

        def asks() -> Iterator[Ask[Verdicts]]:
            for number, tally in enumerate(self._tallies()):
                if isinstance(tally, Scored):
                    lacking.append(tally)
                    continue
                open_tallies[number] = tally
                for ask in self._asks_of(tally):
                    yield Ask((number, *ask.about), ask.question, ask.read)

        done = 0
        for answered in asking.run(asks()):
            done += len(lacking)
            yield from lacking
            lacking.clear()
            number, whose, batch = answered.about
            tally = open_tallies[number]
            _count(tally, whose, tally.batches[batch], answered)
            if not tally.left:
                done += 1
                yield self._scored(open_tallies.pop(number), chat)
        yield from lacking
        if asking.budget_stopped:
            total = len(self.request.labels)
            raise purse.reached(f"{total - done - len(lacking):,} of {total:,} labels")

    def _tallies(self) -> Iterator[_Tally | Scored]:
        maker = CaseMaker(self.request, self.n_examples)
        known: tuple[int, Cases] | None = None
        for label in self.request.labels:
            if known is None or known[0] != label.feature:
                draw = maker.detection if self.scorer == "detection" else maker.fuzzing
                known = label.feature, draw(label.feature)
            cases = known[1]
            if min(cases.count(True), cases.count(False)) < LEAST:
                yield Scored(label.label_id, None, failed=_too_few(cases))
                continue
            # A feature that bears the same label is no baseline.
            others = (one for one in self.request.decoys(label.feature, DECOYS) if one.text != label.text)
            decoy = next(others, None)
            batches = self._batches(label.feature, cases.cases)
            yield _Tally(label, cases, decoy, batches, left=len(batches) * (2 if decoy else 1))

    def _batches(self, feature: int, cases: Sequence[Case]) -> list[list[tuple[str, Case]]]:
        """The texts in a drawn order, each under a drawn key: neither says anything of the answer."""
        rng = seeded(self.request.seed, self.scorer, "order", feature)
        order = [cases[place] for place in rng.permutation(len(cases))]
        batches = []
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            drawn = rng.choice(len(_LETTERS) * len(_DIGITS), len(part), replace=False).tolist()
            keys = [_LETTERS[number // len(_DIGITS)] + _DIGITS[number % len(_DIGITS)] for number in drawn]
            batches.append(list(zip(keys, part, strict=True)))
        return batches

    def _asks_of(self, tally: _Tally) -> Iterator[Ask[Verdicts]]:
        """About (whose label, batch). Which of yes and no is named first takes turns within texts of one kind."""
        for whose, label in ((_OWN, tally.label), (_DECOY, tally.decoy)):
            if label is None:
                continue
            turns = {True: 0, False: 0}
            for number, batch in enumerate(tally.batches):
                fits = batch[0][1].fits
                turns[fits] += 1
                yes_first = bool(turns[fits] % 2)
                keys = tuple(key for key, _ in batch)
                words = {
                    "first": "yes" if yes_first else "no",
                    "second": "no" if yes_first else "yes",
                    "keys": ", ".join(keys),
                }
                lines = [f"Description: {one_line(label.text)}"]
                lines += [f"Text {key}: {case.text}" for key, case in batch]
                question = self.prompt.ask("\n\n".join(lines), words)
                yield Ask((whose, number), question, partial(read_verdicts, keys=keys))

    def _scored(self, tally: _Tally, chat: Chat) -> Scored:
        own = tally.verdicts[_OWN]
        details = self._details(tally, chat)
        if min(sum(case.fits == fits for case, _ in own) for fits in (True, False)) < LEAST:
            n_asked = len(tally.cases.cases)
            unusable = f"{tally.failed[_OWN]} of {n_asked} answers could not be used"
            reason = max(sorted(tally.reasons), key=tally.reasons.__getitem__)
            return Scored(
                tally.label.label_id,
                None,
                n=len(own),
                failed_answers=tally.failed[_OWN],
                judge=chat.model,
                details=details,
                failed=f"{unusable}, for the most part because: {reason}",
            )
        figure = _balanced(own)
        return Scored(
            tally.label.label_id,
            figure.value,
            figure.low,
            figure.high,
            n=len(own),
            failed_answers=tally.failed[_OWN],
            baseline=_baseline(tally),
            judge=chat.model,
            details=details,
        )

    def _details(self, tally: _Tally, chat: Chat) -> dict[str, Any]:
        own = tally.verdicts[_OWN]
        cases = tally.cases.cases
        details: dict[str, Any] = {
            **{key: value for key, value in chat.provenance.items() if key != "model"},
            "prompt": self.prompt.provenance,
            "batch": self.batch,
            "n_positive": tally.cases.count(True),
            "n_negative": tally.cases.count(False),
            "contexts": [case.context for case in cases],
            "base_rate": tally.cases.base_rate,
            "baseline_feature": tally.decoy.feature if tally.decoy else None,
            "baseline_failed": tally.failed[_DECOY],
            "failures": dict(sorted(tally.reasons.items())[:5]),
            "tokens_in": sum(n_in for n_in, _ in tally.tokens) or None,
            "tokens_out": sum(n_out for _, n_out in tally.tokens) or None,
        }
        rates = {name: _share(own, group) for name, group in _GROUPS.items()}
        details |= {name: rate for name, rate in rates.items() if rate is not None}
        if rates["tpr"] is not None and rates["tnr"] is not None:
            # Hard negatives are rare in nature: false alarms at the natural rate are those on random texts.
            natural = rates["tnr"] if rates["tnr_random"] is None else rates["tnr_random"]
            details["f1"] = f1_at(tally.cases.base_rate, rates["tpr"], 1 - natural)
            wrong = [(case, not case.fits) for case in _unanswered(cases, own)]
            details["value_if_failed_were_wrong"] = _balanced([*own, *wrong]).value
        if self.scorer == "detection":
            details["none"] = {"value": 0.5, "accuracy": tally.cases.count(False) / len(cases), "f1": 0.0}
        return details


_GROUPS: dict[str, tuple[str, ...]] = {
    "tpr": ("firing",),
    "tnr": ("random", "neighbours", "moved"),
    "tnr_random": ("random",),
    "tnr_neighbours": ("neighbours",),
    "tnr_moved": ("moved",),
}


def _count(tally: _Tally, whose: int, batch: list[tuple[str, Case]], answered: Answered[Verdicts]) -> None:
    tally.left -= 1
    if answered.tokens_in is not None and answered.tokens_out is not None:
        tally.tokens.append((answered.tokens_in, answered.tokens_out))
    if answered.value is None:
        tally.failed[whose] += len(batch)
        tally.reasons[answered.failed or "no reason"] += len(batch)
        return
    tally.verdicts[whose] += [(case, answered.value[key]) for key, case in batch]


def _share(verdicts: list[tuple[Case, bool]], groups: tuple[str, ...]) -> float | None:
    """The share of right answers about the texts of some groups; None where there are none."""
    right = [said == case.fits for case, said in verdicts if case.group in groups]
    return sum(right) / len(right) if right else None


def _balanced(verdicts: list[tuple[Case, bool]]) -> Rate:
    rates = []
    for fits in (True, False):
        right = [said == fits for case, said in verdicts if case.fits == fits]
        rates.append(wilson(sum(right), len(right)))
    return balanced_accuracy(*rates)


def _baseline(tally: _Tally) -> float | None:
    found = tally.verdicts[_DECOY]
    if min(sum(case.fits == fits for case, _ in found) for fits in (True, False)) < LEAST:
        return None
    return _balanced(found).value


def _unanswered(cases: list[Case], own: list[tuple[Case, bool]]) -> list[Case]:
    answered = {id(case) for case, _ in own}
    return [case for case in cases if id(case) not in answered]


def _too_few(cases: Cases) -> str:
    if cases.count(True) < LEAST:
        return f"the scoring half has {cases.count(True)} texts in which it fires; {LEAST} are needed"
    return f"the scoring half has {cases.count(False)} texts in which it is silent; {LEAST} are needed"
