"""Labels without a language model, held against concepts that were planted.

Fit: half of a right predicate left out, or another concept's tokens put in, has to lower predicate-fit. Telling: the
label that `plain` makes of a noisy feature has to tell the concept behind it, on documents it never saw.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bench, Figure, spread
from benchmarks.label_concepts import CONCEPTS
from benchmarks.label_run import Corpus, Noise, PlantedEvidence, plant, read_corpus

N_TOKENS = 500_000
N_SEEDS = 6
RECALL = (0.7, 1.0)
"""Of a planted feature: the share of its concept's tokens it fires on."""
FALSE = (0.0, 0.05)
"""The share of all other tokens it fires on; beside it, as the easier case, the share of its firings that are false."""
NARROW, BROAD, AUROC = 0.95, 0.99, 0.92
LEAST = 0.001
"""Correlation by which a worse label has to fall. Source: Oikarinen et al. (2025), arXiv:2506.05774."""


@dataclass
class Found:
    """What one way of planting gave: a list for each seed, in the order of the concepts."""

    aurocs: list[list[float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Of the last seed."""

    def means(self, *, in_bank: bool | None = None) -> list[float]:
        """The mean over concepts, for each seed; of those that the bank has too, or has not."""
        chosen = [in_bank is None or concept.in_bank == in_bank for concept in CONCEPTS]
        return [statistics.mean(a for a, c in zip(row, chosen, strict=True) if c) for row in self.aurocs]


def measure(bench: Bench) -> list[Figure]:
    corpus = read_corpus(CONCEPTS, bench.choose(N_TOKENS, 20_000))
    bench.say(_shape(corpus))
    narrow, broad = list[float](), list[float]()
    of_all, of_firings = Found(), Found()
    for seed in range(bench.choose(N_SEEDS, 1)):
        activations = _planted(corpus, seed, of_firings=False)
        lower = _lowered(corpus, activations, seed)
        narrow.append(lower[0])
        broad.append(lower[1])
        for found, planted in ((of_all, activations), (of_firings, _planted(corpus, seed, of_firings=True))):
            values, found.texts = _labelled(corpus, planted)
            found.aurocs.append(values)
        bench.say(f"seed {seed}: {of_all.means()[-1]:.3f}, {of_firings.means()[-1]:.3f} where fewer firings are false")
    bench.details["Where labels tell planted concepts"] = _table(of_all)
    return _figures(narrow, broad, of_all, of_firings)


def _figures(narrow: list[float], broad: list[float], of_all: Found, of_firings: Found) -> list[Figure]:
    how = f"{len(CONCEPTS)} concepts planted in the demo's text, recall 0.7 to 1, {len(narrow)} seeds"
    new = sum(not concept.in_bank for concept in CONCEPTS)
    means = of_all.means()
    return [
        Figure(
            "label_truth: too narrow",
            f"≥ {NARROW:.0%} fall",
            spread(narrow),
            f"predicate-fit of half the right tokens; {how}",
            min(narrow) >= NARROW,
        ),
        Figure(
            "label_truth: too broad",
            f"≥ {BROAD:.0%} fall",
            spread(broad),
            "predicate-fit with another concept's tokens put in; the same",
            min(broad) >= BROAD,
        ),
        Figure(
            "label_truth: telling",
            f"AUROC ≥ {AUROC}",
            spread(means),
            "`plain` on the scoring half; features fire on 0 to 5% of all other tokens too; the same",
            statistics.mean(means) >= AUROC,
        ),
        Figure("label_truth: telling the new", "", spread(of_all.means(in_bank=False)), f"{new} that the bank has not"),
        Figure(
            "label_truth: telling, less noise",
            "",
            spread(of_firings.means()),
            "0 to 5% of each feature's firings are false",
        ),
    ]


def _shape(corpus: Corpus) -> str:
    shares = np.sort(corpus.truth.mean(axis=0))
    document = corpus.passages.document[corpus.passages.piece]
    least = min(
        len(np.unique(document[corpus.truth[:, concept] & corpus.in_half(half)]))
        for concept in range(len(CONCEPTS))
        for half in ("labeling", "scoring")
    )
    return (
        f"{len(corpus.truth):,} tokens; {len(CONCEPTS)} concepts of {shares[0]:.2%} to {shares[-1]:.1%} of them, "
        f"each in {least} documents or more of either half"
    )


def _planted(corpus: Corpus, seed: int, *, of_firings: bool) -> NDArray[np.float32]:
    """(N, n_concepts) activations under a seed of their own."""
    random = np.random.default_rng((20_260, seed))
    planted = []
    for concept in range(len(CONCEPTS)):
        truth = corpus.truth[:, concept]
        recall, false, share = random.uniform(*RECALL), random.uniform(*FALSE), truth.mean()
        if of_firings:
            false = recall * share * false / (1 - false) / (1 - share)
        planted.append(plant(truth, Noise(recall, false), random))
    return np.stack(planted, axis=1)


def _lowered(corpus: Corpus, activations: NDArray[np.float32], seed: int) -> tuple[float, float]:
    """The shares of features whose correlation falls when half of the right tokens, or others' too, are labeled."""
    from featuredb.labels.fit import Panel, Sample, Samples, figures

    scoring = PlantedEvidence(corpus, activations, "scoring")
    panel, samples, truth = Panel(scoring.passages), Samples(scoring.evidence), scoring.truth
    random = np.random.default_rng((7, seed))

    def score(sample: Sample, holds: NDArray[np.bool_]) -> float:
        return float(figures(panel.total(sample, holds), sample.density).pearson)

    narrow, broad = list[bool](), list[bool]()
    for feature in range(scoring.n_features):
        sample, right = samples.of(feature), truth[:, feature]
        own = score(sample, right)
        narrow.append(score(sample, right & (random.random(len(right)) < 0.5)) < own - LEAST)
        others = [other for other in range(len(CONCEPTS)) if other != feature and (truth[:, other] & ~right).any()]
        broad.append(score(sample, right | truth[:, int(random.choice(others))]) < own - LEAST)
    return statistics.mean(narrow), statistics.mean(broad)


def _labelled(corpus: Corpus, activations: NDArray[np.float32]) -> tuple[list[float], list[str]]:
    """How well each feature's label tells its concept's tokens from others, on the scoring half; and the labels."""
    from featuredb.labels.fit import samples_of
    from featuredb.predicates import Tagged
    from featuredb.predicates.choose import Chooser
    from featuredb.predicates.wording import Wording

    labeling = PlantedEvidence(corpus, activations, "labeling")
    scoring = PlantedEvidence(corpus, activations, "scoring")
    chooser = Chooser(labeling.evidence)
    wording = Wording(chooser.tagged, chooser.panel, chooser.families)
    tagged = Tagged(scoring.passages)
    panel = np.flatnonzero(scoring.passages.on_panel)
    found, texts = list[float](), list[str]()
    for sample in samples_of(labeling.evidence, range(labeling.n_features)):
        choice = chooser.choose(sample)
        if choice is None:
            found.append(0.5)
            texts.append("")
            continue
        said, right = tagged.holds(choice.expression)[panel], scoring.truth[panel, sample.feature]
        found.append(balanced(said, right))
        texts.append(f"{wording.label(sample, choice)} (F1 {choice.f1:.2f})")
    return found, texts


def balanced(said: NDArray[np.bool_], right: NDArray[np.bool_]) -> float:
    """The AUROC of a yes or no: the mean of its hit rates among tokens of the concept and among others."""
    if not right.any() or right.all():
        return 0.5
    return float((said[right].mean() + (~said[~right]).mean()) / 2)


def _table(found: Found) -> str:
    """Each concept's AUROC over seeds, with its last label."""
    rows = ["| concept | in the bank | AUROC | a label |", "| --- | --- | --- | --- |"]
    columns: Sequence[Sequence[float]] = list(zip(*found.aurocs, strict=True))
    for concept, values, text in zip(CONCEPTS, columns, found.texts, strict=True):
        said = text.replace("|", "\\|")
        rows.append(f"| {concept.name} | {'yes' if concept.in_bank else ''} | {spread(values, '.2f')} | {said} |")
    return "\n".join(rows)
