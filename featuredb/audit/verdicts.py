"""What the margin of a label, its reach, and a better label come to: mislabelled, too narrow, too broad, or sound.

1.  *Mislabelled* takes two things: its own label is supported no better than random ones are (p_random above RANDOM),
    as badly as hardly any sound label (p_sound at most RARE), and a label made from the other half of the documents
    fits clearly better here (q, over all labels judged, at most RATE). A label that nothing beats is not called wrong.
2.  *Too narrow* and *too broad* are labels that are not wrong: of low recall and high precision, or the reverse, where
    a label made from the other half mends that by MENDED at least and fits better by GAIN, q at most RATE.

Rule: which features are looked at, and what is decided; figures are worked out elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featuredb.audit.alternatives import Alternatives, Better, by_decile, right_at_the_top
from featuredb.audit.chance import RATE, benjamini_hochberg
from featuredb.audit.comparing import USUAL, Compared, Comparing
from featuredb.audit.held import OwnTokens
from featuredb.audit.margin import Margins, margins
from featuredb.progress import Progress

if TYPE_CHECKING:
    from featuredb.audit.requests import AuditRequest

RANDOM, RARE = 0.05, 0.03
"""A label is unsupported where more than the first share of random ones fits as well, and of sound ones at most the
second as badly. The second is told from the labels themselves, and measured it is up to twice as large."""

RANDOM_ALONE = 0.1
"""The first of them, where too few labels tell what sound ones are like."""

NARROW, BROAD = (0.5, 0.6), (0.6, 0.4)
"""At most this recall and at least this precision; at least this recall and at most this precision."""

MENDED, GAIN = 0.2, 0.1
"""What another label has to add to the recall, or precision, and to the correlation."""

MOST_MENDED, SHARE_MENDED = 150, 0.1
"""Labels that may be narrow or broad for which another one is made, the worst first: so many, or that share of those
judged if it is more. For those that may be wrong one is made always."""


@dataclass(frozen=True)
class Verdict:
    """What is made of one label."""

    feature: int
    support: float
    p_random: float
    p_sound: float
    finding: str | None = None
    better: Better | None = None
    q: float | None = None
    deciles: tuple[float, ...] = ()
    top_only: bool = False


@dataclass(frozen=True)
class Judgement:
    """Of F features: margins by feature, in the order of `compared.features`."""

    compared: Compared
    support: np.ndarray
    p_random: np.ndarray
    p_sound: np.ndarray
    best_rival: np.ndarray


def judge_margins(compared: Compared, channels: Iterable[str] | None = None) -> Judgement:
    """The margins of all labels; those that a channel cannot judge are held against others without that channel.

    channels: only these, where given.
    """
    names = np.array(compared.channels)
    allowed = np.isin(names, list(names if channels is None else channels))
    known = ~np.isnan(compared.own) & allowed
    special = np.isin(names, ["executable", "named"])
    n = len(compared.features)
    found = {name: np.full(n, np.nan) for name in ("support", "p_random", "p_sound")}
    rival = np.full(n, -1)
    patterns = known | (~special & allowed)
    for pattern in np.unique(patterns, axis=0):
        mine = (patterns == pattern).all(axis=1)
        if not pattern.any():
            continue
        usual = np.array([USUAL[name] for name in names[pattern]])
        own, decoys, rivals = (part[:, pattern] for part in (compared.own, compared.decoys, compared.rivals))
        # All that have those figures say what they are worth, this pattern's or not.
        reference = mine | (~np.isnan(own) | ~special[pattern]).all(axis=1)
        told: Margins = margins(own[reference], decoys[reference], rivals[reference], usual)
        ours = mine[reference]
        for name, values in found.items():
            values[mine] = getattr(told, name)[ours]
        rival[mine] = told.best_rival[ours]
    return Judgement(compared, found["support"], found["p_random"], found["p_sound"], rival)


def suspected(judgement: Judgement) -> np.ndarray:
    """(F,) whether each label is unsupported."""
    known = ~np.isnan(judgement.p_sound)
    told = (judgement.p_random > RANDOM) & (judgement.p_sound <= RARE)
    return np.where(known, told, judgement.p_random > RANDOM_ALONE)


def verdicts(request: AuditRequest, comparing: Comparing, judgement: Judgement, asked: set[int]) -> list[Verdict]:
    """One for each feature asked for."""
    features = judgement.compared.features
    places = [place for place, feature in enumerate(features) if feature in asked]
    unsupported = suspected(judgement)
    wrong = [place for place in places if unsupported[place]]
    own = judgement.compared.own_tokens
    reaches = {place: _reach(own[place]) for place in places if not unsupported[place]}
    uneven = sorted((place for place, (name, _) in reaches.items() if name), key=lambda place: reaches[place][1])
    alternatives = Alternatives(request, comparing.tagged, comparing.panel)
    found: dict[int, Better] = {}
    n_mended = max(MOST_MENDED, int(SHARE_MENDED * len(places)))
    for done, place in enumerate(sorted([*wrong, *uneven[:n_mended]])):
        others = judgement.compared.rival_labels(place) if unsupported[place] else ()
        label = comparing.labels[features[place]]
        better = alternatives.better(features[place], comparing.held.tokens(label), others)
        if better is not None:
            found[place] = better
        if done % 32 == 31:
            n = len(wrong) + min(len(uneven), n_mended)
            request.progress(Progress("making other labels", done + 1, n, "labels"))
    findings = {
        place: "mislabelled" if unsupported[place] else reaches[place][0]
        for place, better in found.items()
        if unsupported[place] or _mends(reaches[place][0], better)
    }
    q = _rates(places, findings, found)
    return [
        _verdict(comparing, judgement, place, findings.get(place), found.get(place), q.get(place)) for place in places
    ]


def _rates(places: list[int], findings: Mapping[int, str | None], found: Mapping[int, Better]) -> dict[int, float]:
    """q of each that a finding may be made of; all others judged count as tests that found nothing."""
    p = [found[place].p if findings.get(place) else 1.0 for place in places]
    return dict(zip(places, benjamini_hochberg(p).tolist(), strict=True))


def _reach(own: OwnTokens | None) -> tuple[str | None, float]:
    """Whether a label with an executable part may be too narrow or too broad, and its F1."""
    if own is None or not own.executable:
        return None, 0.0
    if own.recall <= NARROW[0] and own.precision >= NARROW[1]:
        return "too-narrow", own.f1
    if own.recall >= BROAD[0] and own.precision <= BROAD[1]:
        return "too-broad", own.f1
    return None, own.f1


def _mends(name: str | None, better: Better) -> bool:
    if better.fit.pearson < better.own.pearson + GAIN:
        return False
    if name == "too-narrow":
        return better.fit.recall >= better.own.recall + MENDED
    return better.fit.precision >= better.own.precision + MENDED


def _verdict(
    comparing: Comparing, judgement: Judgement, place: int, name: str | None, better: Better | None, q: float | None
) -> Verdict:
    feature = judgement.compared.features[place]
    flagged = name is not None and q is not None and q <= RATE
    figures = (float(judgement.support[place]), float(judgement.p_random[place]), float(judgement.p_sound[place]))
    shares: tuple[float, ...] = ()
    top = False
    own = judgement.compared.own_tokens[place]
    if own is not None:
        sample = comparing.thin[place]
        shares = tuple(by_decile(sample.activation, sample.weight, own.holds))
        top = right_at_the_top(shares, own.base)
    if not flagged or better is None:
        return Verdict(feature, *figures, q=q if name else None, deciles=shares)
    return Verdict(feature, *figures, name, better, q, shares, top)
