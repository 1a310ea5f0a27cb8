"""Labels without a language model, held against concepts that were planted: T2 and T10 of the plan for label truth.

T2: half of a right predicate left out, or another concept's put in, has to lower predicate-fit. T10: the label that
`plain` makes of a noisy feature has to tell the concept behind it, on documents and under noise the labeler never saw.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bench, Figure, spread
from benchmarks.label_concepts import CONCEPTS
from benchmarks.label_run import Corpus, Noise, PlantedEvidence, plant, read_corpus

N_TOKENS = 500_000
N_SEEDS = 6
RECALL = (0.7, 1.0)
FALSE = (0.0, 0.05)
NARROW, BROAD, AUROC = 0.95, 0.99, 0.92


def measure(bench: Bench) -> list[Figure]:
    corpus = read_corpus(CONCEPTS, bench.choose(N_TOKENS, 20_000))
    bench.say(f"{len(corpus.truth):,} tokens, {len(CONCEPTS)} concepts, shares {_shares(corpus)}")
    seeds = range(bench.choose(N_SEEDS, 1))
    narrow, broad, aurocs = list[float](), list[float](), list[list[float]]()
    texts: list[str] = []
    for seed in seeds:
        activations = _planted(corpus, seed)
        lower = _lowered(corpus, activations, seed)
        narrow.append(lower[0])
        broad.append(lower[1])
        found, texts = _labelled(corpus, activations)
        aurocs.append(found)
        bench.say(f"seed {seed}: narrow {lower[0]:.3f}, broad {lower[1]:.3f}, AUROC {statistics.mean(found):.3f}")
    bench.details["Where labels tell planted concepts"] = _table(aurocs, texts)
    means = [statistics.mean(found) for found in aurocs]
    new = [statistics.mean(a for a, c in zip(found, CONCEPTS, strict=True) if not c.in_bank) for found in aurocs]
    how = (
        f"{len(CONCEPTS)} concepts planted in the demo's text, recall 0.7 to 1, false firing to 5%, {len(means)} seeds"
    )
    return [
        Figure(
            "label_truth: too narrow",
            f"≥ {NARROW:.0%}",
            spread(narrow),
            f"predicate-fit falls; {how}",
            min(narrow) >= NARROW,
        ),
        Figure(
            "label_truth: too broad",
            f"≥ {BROAD:.0%}",
            spread(broad),
            "the same, another concept's tokens put in",
            min(broad) >= BROAD,
        ),
        Figure(
            "label_truth: telling",
            f"AUROC ≥ {AUROC}",
            spread(means),
            f"labels of `plain` on the scoring half; {how}",
            statistics.mean(means) >= AUROC,
        ),
        Figure(
            "label_truth: telling, not in the bank", "", spread(new), f"{sum(not c.in_bank for c in CONCEPTS)} of them"
        ),
    ]


def _shares(corpus: Corpus) -> str:
    shares = np.sort(corpus.truth.mean(axis=0))
    return f"{shares[0]:.2%} to {shares[-1]:.1%}, median {np.median(shares):.2%}"


def _planted(corpus: Corpus, seed: int) -> NDArray[np.float32]:
    """(N, n_concepts) activations under a seed of their own."""
    random = np.random.default_rng((20_260, seed))
    noises = [Noise(random.uniform(*RECALL), random.uniform(*FALSE)) for _ in CONCEPTS]
    planted = [plant(corpus.truth[:, c], noise, random) for c, noise in enumerate(noises)]
    return np.stack(planted, axis=1)


def _lowered(corpus: Corpus, activations: NDArray[np.float32], seed: int) -> tuple[float, float]:
    """The shares of features whose correlation falls when half of the right tokens, or others' too, are labeled."""
    from featuredb.labels.fit import Panel, Samples, figures

    scoring = PlantedEvidence(corpus, activations, "scoring")
    panel, samples, truth = Panel(scoring.passages), Samples(scoring.evidence), scoring.truth
    random = np.random.default_rng((7, seed))
    narrow, broad = list[bool](), list[bool]()
    for feature in range(scoring.n_features):
        sample = samples.of(feature)

        def score(holds: NDArray[np.bool_]) -> float:
            return float(figures(panel.total(sample, holds), sample.density).pearson)  # noqa: B023

        right = truth[:, feature]
        own = score(right)
        narrow.append(score(right & (random.random(len(right)) < 0.5)) < own)
        others = [other for other in range(len(CONCEPTS)) if (truth[:, other] & ~right).any() and other != feature]
        other = int(random.choice(others))
        broad.append(score(right | truth[:, other]) < own)
    return statistics.mean(narrow), statistics.mean(broad)


def _labelled(corpus: Corpus, activations: NDArray[np.float32]) -> tuple[list[float], list[str]]:
    """How well each feature's label tells its concept's tokens from others, on the scoring half; and the labels."""
    from featuredb.labels.fit import samples_of
    from featuredb.predicates.choose import Chooser
    from featuredb.predicates.tagged import Tagged
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


def _table(aurocs: Sequence[Sequence[float]], texts: Sequence[str]) -> str:
    """Each concept's AUROC over seeds, with its last label."""
    rows = ["| concept | in the bank | AUROC | a label |", "| --- | --- | --- | --- |"]
    for place, concept in enumerate(CONCEPTS):
        values = [found[place] for found in aurocs]
        said = texts[place].replace("|", "\\|")
        rows.append(f"| {concept.name} | {'yes' if concept.in_bank else ''} | {spread(values, '.2f')} | {said} |")
    return "\n".join(rows)
