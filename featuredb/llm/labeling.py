"""Labels by a language model: what it is shown of a feature, and the proposals that its answers make.

Rule: all it reads is the labeling half that the request holds; which model answers is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featuredb.labels.requests import LabelRequest, Proposal
from featuredb.llm.answers import LabelAnswer, read_label
from featuredb.llm.asking import Answered, Ask, Asking, KeptOf, estimate_asks
from featuredb.llm.budget import Estimate, Prices, Purse
from featuredb.llm.chat import Chat
from featuredb.llm.prompts import Prompt, one_line, read_prompt
from featuredb.llm.settings import whole, yes_no
from featuredb.llm.windows import Panel, Window, around, by_quantile, firing, seeded, shown
from featuredb.store.passages import Examples

PROMPT = "label.v1"
MAX_TOKENS = 300
N_EXAMPLES = 20
LEAST = 3
"""Texts in which a feature must fire to be labeled."""
NEIGHBOURS = 8
"""Features looked at for texts on which one of them fires and the labeled one does not."""
PROMOTED = 10
"""Output tokens shown."""
STEPS = 10
"""Activations are shown as whole numbers up to this."""


@dataclass(frozen=True)
class _Shown:
    """What of a feature a model is shown."""

    firing: list[Window]
    silent: list[Window]


@dataclass
class Labeling:
    """One request, read once."""

    request: LabelRequest
    n_examples: int = N_EXAMPLES
    output_tokens: bool = False
    prompt: Prompt = field(default_factory=lambda: read_prompt(PROMPT))

    @classmethod
    def of(cls, request: LabelRequest) -> Labeling:
        """Raises BadInput for options that cannot be used."""
        n_examples = whole(request.options, "n_examples", N_EXAMPLES, LEAST, 200)
        return cls(request, n_examples, yes_no(request.options, "output_tokens", False))

    def estimate(self, prices: Prices, max_tokens: int, kept: KeptOf) -> Estimate:
        """What `proposals` would ask at most."""
        asks = (ask for ask, _ in self._asks() if ask is not None)
        return estimate_asks(asks, prices, max_tokens, kept)

    def proposals(self, chat: Chat, purse: Purse) -> Iterator[Proposal]:
        """One for each feature, as answers come. Raises BudgetReached after the last that the budget covers."""
        request = self.request
        asking: Asking[LabelAnswer] = Asking(chat, request.answers, purse)
        seen: dict[int, _Shown] = {}
        lacking: list[Proposal] = []

        def asks() -> Iterator[Ask[LabelAnswer]]:
            for ask, found in self._asks():
                if isinstance(found, Proposal):
                    lacking.append(found)
                elif ask is not None:
                    seen[ask.about[0]] = found
                    yield ask

        done = 0
        for answered in asking.run(asks()):
            (feature,) = answered.about
            ready = [*lacking, self._proposal(feature, seen.pop(feature), answered, chat)]
            lacking.clear()
            done += len(ready)
            yield from ready
        yield from lacking
        if asking.budget_stopped:
            total = len(request.features)
            raise purse.reached(f"{total - done - len(lacking):,} of {total:,} features")

    def _asks(self) -> Iterator[tuple[Ask[LabelAnswer] | None, _Shown | Proposal]]:
        panel = Panel(self.request.evidence.passages)
        for feature in self.request.features:
            examples = self.request.evidence.examples(feature, feature + 1)
            found = self._chosen(feature, examples, panel)
            if len(found.firing) < LEAST:
                reason = f"the labeling half has {len(found.firing)} texts in which it fires; {LEAST} are needed"
                yield None, Proposal(feature, None, failed=reason)
                continue
            question = self.prompt.ask(self._data(feature, found, examples))
            yield Ask((feature,), question, lambda text: read_label(text, self.prompt)), found

    def _chosen(self, feature: int, examples: Examples, panel: Panel) -> _Shown:
        """Half of the examples from the strongest, half over the whole range; no context twice."""
        passages, rng = self.request.evidence.passages, seeded(self.request.seed, "label", feature)
        numbers = np.array(examples.of(feature), np.int64)
        context = np.array([around(passages, int(at)).context for at in examples.at[numbers]], np.int64)
        top = numbers[examples.kind[numbers] == 0]
        n_top = min(len(top), self.n_examples // 2)
        # Ranks count the whole run, of which this half has a part; their order still holds.
        chosen = [int(number) for number in top[np.argsort(examples.rank[top], kind="stable")][:n_top]]
        fresh = (examples.kind[numbers] == 1) & ~np.isin(context, context[np.isin(numbers, chosen)])
        chosen += by_quantile(examples, numbers[fresh], self.n_examples - len(chosen), rng)
        windows = [firing(passages, examples, number) for number in chosen]
        windows.sort(key=lambda window: (-window.strength, window.low))
        return _Shown(windows, self._silent(feature, panel, rng))

    def _silent(self, feature: int, panel: Panel, rng: np.random.Generator) -> list[Window]:
        """Texts on which a similar feature fires and this one does not, from one neighbour after another."""
        evidence, wanted = self.request.evidence, self.n_examples // 4
        fires, _ = evidence.panel(feature, feature + 1).of(feature)
        found: list[Window] = []
        near = self.request.workshop.neighbours(feature, NEIGHBOURS) if wanted else []
        for neighbour in near:
            if len(found) >= wanted:
                break
            places, _ = evidence.panel(neighbour, neighbour + 1).of(neighbour)
            most = min(2, wanted - len(found))
            found += panel.silent(fires, most, rng, among=places, taken=found)
        return found

    def _data(self, feature: int, found: _Shown, examples: Examples) -> str:
        passages = self.request.evidence.passages
        largest = max(abs(float(self.request.evidence.largest[feature])), max(w.strength for w in found.firing))
        lines = [f"Texts in which the feature fires, with its strength from 1 to {STEPS}:", ""]
        for number, window in enumerate(found.firing, 1):
            strength = max(1, min(STEPS, round(STEPS * window.strength / largest)))
            lines.append(f"{number}. (strength {strength}) {shown(passages, window, marks=True)}")
        if found.silent:
            lines += ["", "Texts on which it is silent, although a feature close to it fires:", ""]
            lines += [f"{n}. {shown(passages, window, marks=False)}" for n, window in enumerate(found.silent, 1)]
        if self.output_tokens and (promoted := self.request.workshop.promoted(feature)[:PROMOTED]):
            said = ", ".join(f'"{one_line(text)}"' for text, _ in promoted)
            lines += ["", f"Output tokens that it makes more likely: {said}"]
        return "\n".join(lines)

    def _proposal(self, feature: int, found: _Shown, answered: Answered[LabelAnswer], chat: Chat) -> Proposal:
        provenance: dict[str, Any] = {
            **chat.provenance,
            "prompt": self.prompt.provenance,
            "examples": [window.context for window in found.firing],
            "silent_examples": [window.context for window in found.silent],
            "output_tokens": self.output_tokens,
            "seed": self.request.seed,
            "max_tokens": chat.max_tokens,
            "tokens_in": answered.tokens_in,
            "tokens_out": answered.tokens_out,
        }
        if answered.value is None:
            return Proposal(feature, None, provenance=provenance, failed=answered.failed)
        provenance["confidence"] = answered.value.confidence
        return Proposal(feature, answered.value.label, provenance=provenance)
