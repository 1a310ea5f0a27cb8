"""Labels features with the tokens, words, pairs of tokens, or tokens before, that stand out where each fires."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featuredb.labels.requests import LabelRequest, Proposal

N_SHOWN = 5
"""Tokens or words in a label."""

LEAST_GAIN = 0.02
"""Kappa by which words, pairs of tokens, or tokens before have to beat tokens to be told instead."""


class TokenLift:
    """The log odds of what firings hold, against all text, activation-weighted and with an informative prior.

    Source: Monroe, Colaresi and Quinn (2008), Political Analysis 16(4).
    """

    name = "token-lift.v1"
    options: tuple[str, ...] = ()

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        import numpy as np

        from featuredb.labels.fit import Panel, samples_of
        from featuredb.labels.requests import Proposal
        from featuredb.predicates.expression import describe
        from featuredb.predicates.lift import Families, Lift
        from featuredb.predicates.tagged import Tagged

        tagged = Tagged(request.evidence.passages)
        panel = Panel(request.evidence.passages)
        families = Families(tagged)
        lifts = [
            Lift(family, panel.at, tagged.view.piece)
            for family in (families.token, families.word, families.pair, families.before)
        ]
        for sample in samples_of(request.evidence, request.features):
            best, found_z = None, list[float]()
            for lift in lifts:
                lifted = lift.lifted(sample, np.ones(len(sample.at), np.bool_), N_SHOWN)
                if not lifted:
                    continue
                found = lift.leading(sample, [unit for unit, _ in lifted])
                if best is None or found.kappa > best.kappa + LEAST_GAIN:
                    best, found_z = found, [z for _, z in lifted[: len(found.units)]]
            if best is None:
                yield Proposal(sample.feature, None, failed="nothing stands out where it fires")
                continue
            provenance = {
                "unit": best.family.name,
                "log_odds": [round(z, 2) for z in found_z],
                "kappa": round(best.kappa, 4),
                "n_firing": len(sample.at),
                "examples": sample.contexts(request.evidence.passages),
            }
            yield Proposal(sample.feature, f"fires on {describe(best.expression)}", best.expression, provenance)
