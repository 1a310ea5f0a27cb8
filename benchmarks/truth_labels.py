"""Labels that changed hands, told from those that stayed: on the demo, on real weights, and on planted concepts.

Rule: the labels' exchange and its figures are `featuredb.testing.truth.labels`; here is where they are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bench, Figure
from benchmarks.label_concepts import CONCEPTS
from benchmarks.labelled import TITLES, labelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featuredb.audit.comparing import Comparing
    from featuredb.audit.requests import AuditRequest
    from featuredb.testing.truth.labels import Swapped, Told

N_SEEDS = 30
N_PLANTED, N_EXCHANGES = 6, 5
"""Plantings of the concepts, and exchanges of their labels in each."""
CONTEXTUAL = 0.5
"""Unigram R² below which a feature is contextual."""
ASKED = {
    ("density", "all"): 0.985,
    ("density", "embedding"): 0.90,
    ("direction", "all"): 0.97,
    ("meaning", "all"): 0.94,
}
CONTEXT, CONCEPT, ALARMS = 0.80, 0.85, 0.07
SAID = {
    "density": "with features that fire about as often",
    "direction": "with one of the 5 nearest in direction",
    "meaning": "with one of the 5 labels nearest in meaning",
}

IN_OTHER_WORDS = {
    "words of files": "where data is stored on a disk",
    "words of reference": "pronouns pointing back at something said",
    "words of two letters": "very short words",
    "words of concurrency": "running several jobs in parallel",
    "words of failure": "something went wrong",
    "words of text": "pieces of written language",
    "words that look at objects": "introspection builtins",
    "words of containers": "collections of elements",
    "words in un-, re- and dis-": "verbs with a prefix that means again or not",
    "words of four letters": "short common words",
    "words with a double letter": "words spelt with twin consonants",
    "quoted single words": "short string constants",
    "names with a digit inside": "numbered identifiers",
    "the word after a comma": "later elements of an enumeration",
    "the word after the": "nouns with a definite article",
    "the word before a comma": "earlier elements of an enumeration",
    "what follows a return": "result handed back by a function",
    "names of three parts": "long snake case identifiers",
    "attributes of self being set": "instance state being initialised",
    "asides in comments": "parenthetical remarks",
    "digits and closing brackets": "numerals, and ends of calls",
    "commas and colons": "punctuation that separates elements",
    "words of control": "keywords of branching and loops",
    "words in -ing and -ed": "participles and past tense verbs",
    "underscores and capitals": "constant identifiers, uppercase",
    "quotes, percent signs and backslashes": "string delimiters and formatting escapes",
    "constants and numbers": "literal values, booleans",
    "names being defined": "functions and classes where they are declared",
    "marks of a sentence": "punctuation at clause boundaries",
    "signs of arithmetic and assignment": "operators for computing and comparing",
    "function names": "what a routine is called where it is declared",
    "comments": "remarks by programmers",
    "words in capitals": "uppercase acronyms and constants",
    "digits": "numerals",
    "what follows self.": "members of an instance",
    "opening brackets": "the start of a parenthesis",
    "words in -ing": "gerunds and present participles",
    "the first character of a line": "line starts",
    "indentation": "leading whitespace",
    "articles": "definite and indefinite determiners",
}
"""What a person might call each concept without a word that it fires on; written before anything was scored."""


@dataclass
class Series:
    """One task over seeds."""

    aurocs: dict[str, list[float]] = field(default_factory=dict)
    """By stratum; "" for all features."""
    alarms: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)

    def add(self, told: Told, strata: dict[str, NDArray[np.bool_]]) -> None:
        for name, among in {"": np.ones(len(told.wrong), np.bool_), **strata}.items():
            self.aurocs.setdefault(name, []).append(told.auroc(among))
        self.alarms.append(told.false_alarms())
        self.found.append(told.found())


def measure(bench: Bench) -> list[Figure]:
    rows = []
    for dictionary, title in TITLES.items():
        rows += on_store(bench, labelled(bench, dictionary), dictionary, title)
    return [*rows, *on_concepts(bench)]


def on_store(bench: Bench, path: Path, dictionary: str, where: str) -> list[Figure]:
    """Exchanges among the labels of a store's dictionary."""
    from featuredb.testing.truth.labels import TEXTUAL, nearest_labels, swap, tell

    found: dict[tuple[str, str], Series] = {}
    with _opened(path, dictionary) as (request, comparing):
        comparing.remember()
        labels = {feature: comparing.labels[feature] for feature in comparing.features}
        nearest, _ = request.directions.nearest(5)
        partners = {
            "direction": {feature: nearest[feature].tolist() for feature in labels},
            "meaning": nearest_labels(comparing),
        }
        strata = _strata(request, comparing)
        for seed in range(bench.choose(N_SEEDS, 1)):
            for way in SAID:
                if way == "density":
                    swapped = swap(labels, seed, density=request.audit.density)
                else:
                    swapped = swap(labels, seed, partners=partners[way])
                compared = comparing.compare(swapped.labels)
                for kind, channels in (("all", None), ("words", ("named", *TEXTUAL)), ("embedding", TEXTUAL)):
                    found.setdefault((way, kind), Series()).add(tell(compared, swapped, channels), strata)
            bench.say(f"{where}, seed {seed}: {found['density', 'all'].aurocs[''][-1]:.3f}")
    bench.details[f"Where swapped labels are told, {where}"] = _table(found)
    return _figures(found, where)


@contextmanager
def _opened(path: Path, dictionary: str) -> Iterator[tuple[AuditRequest, Comparing]]:
    from featuredb.audit.comparing import Comparing
    from featuredb.audit.gather import open_request
    from featuredb.search.scope import ENOUGH_FIRINGS
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store

    with Store.open(path) as store, open_request(store, SegmentReader(store), dictionary) as request:
        fires = request.audit.n_fires
        yield request, Comparing(request, sorted(each for each in request.labels if fires[each] >= ENOUGH_FIRINGS))


def _strata(request: AuditRequest, comparing: Comparing) -> dict[str, NDArray[np.bool_]]:
    """Token-bound and contextual features, and thirds by density."""
    token = request.everything.passages.token[request.panel.tokens]
    count = np.bincount(token)
    n, r2 = max(1, len(token)), []
    for feature in comparing.features:
        column, activation = request.panel.of(feature)
        sums = np.bincount(token[column], activation, len(count))
        mean = float(sums.sum()) / n
        told = float((sums**2 / np.maximum(count, 1)).sum()) / n - mean**2
        r2.append(told / max(float((activation.astype(np.float64) ** 2).sum()) / n - mean**2, 1e-12))
    contextual = np.array(r2) < CONTEXTUAL
    density = request.audit.density[list(comparing.features)]
    third = np.digitize(density, np.quantile(density, [1 / 3, 2 / 3]))
    return {
        "contextual": contextual,
        "token-bound": ~contextual,
        **{name: third == place for place, name in enumerate(("rare", "middling", "frequent"))},
    }


def on_concepts(bench: Bench) -> list[Figure]:
    """Labels in a person's words that share none with what planted concepts fire on."""
    from benchmarks.label_run import read_corpus
    from featuredb.testing.truth.labels import TEXTUAL, swap, tell

    corpus = read_corpus(CONCEPTS, bench.choose(500_000, 20_000))
    found = Series()
    for seed in range(bench.choose(N_PLANTED, 1)):
        request, comparing = concept_request(corpus, seed)
        labels = dict(comparing.labels)
        for exchange in range(N_EXCHANGES):
            swapped: Swapped = swap(labels, 100 * seed + exchange, density=request.audit.density)
            found.add(tell(comparing.compare(swapped.labels), swapped, TEXTUAL), {})
        bench.say(f"concepts, planting {seed}: {np.mean(found.aurocs[''][-N_EXCHANGES:]):.3f}")
    how = (
        f"embedding and behaviour; {len(CONCEPTS)} planted concepts under labels in other words, "
        f"{len(found.alarms)} exchanges of 30%"
    )
    return [_figure("truth_labels: other words", CONCEPT, found.aurocs[""], how)]


def concept_request(corpus: Any, seed: int) -> tuple[AuditRequest, Comparing]:
    """A dictionary of planted concepts with their labels in other words."""
    from benchmarks.label_run import PlantedEvidence
    from benchmarks.label_truth import _planted
    from featuredb.audit.comparing import Comparing
    from featuredb.audit.requests import AuditRequest
    from featuredb.labels.requests import LabelToScore

    activations = _planted(corpus, seed, of_firings=False)
    audit = PlantedEvidence(corpus, activations, "scoring", seed)
    labels = {
        number: LabelToScore(number + 1, number, IN_OTHER_WORDS[concept.name], None)
        for number, concept in enumerate(CONCEPTS)
    }
    request = AuditRequest(
        features=range(len(CONCEPTS)),
        everything=cast(Any, audit),
        audit=cast(Any, audit),
        labeling=cast(Any, PlantedEvidence(corpus, activations, "labeling", seed)),
        panel=cast(Any, None),
        labels=labels,
        directions=cast(Any, _NoWeights()),
        states=cast(Any, None),
        texts=cast(Any, _Texts()),
        seed=seed,
    )
    return request, Comparing(request, range(len(CONCEPTS)))


class _NoWeights:
    def nearest(self, n: int) -> Any:
        from featuredb.errors import BadInput

        raise BadInput("planted concepts have no weights")


class _Texts:
    def __init__(self) -> None:
        from featuredb.plugins import Registry

        self.embedder = Registry.installed().embedder("sentence-transformers").load(None)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed(texts)


def _figures(found: dict[tuple[str, str], Series], where: str) -> list[Figure]:
    rows = []
    for (way, kind), series in found.items():
        how = f"{kind} channels; 30% of the labels of {where} exchanged {SAID[way]}, {len(series.alarms)} seeds"
        rows.append(_figure(f"truth_labels: {where}, {way}, {kind}", ASKED.get((way, kind)), series.aurocs[""], how))
    easy = found["density", "all"]
    how = f"of these, features with unigram R² < {CONTEXTUAL}"
    rows.append(_figure(f"truth_labels: {where}, contextual", CONTEXT, easy.aurocs["contextual"], how))
    for kind in ("all", "embedding"):
        series = found["density", kind]
        rows.append(
            Figure(
                f"truth_labels: {where}, false alarms, {kind}",
                f"≤ {ALARMS:.0%}",
                _said(series.alarms, ".1%"),
                f"right labels that are unsupported; {np.mean(series.found):.0%} of the wrong ones are",
                float(np.mean(series.alarms)) <= ALARMS,
            )
        )
    return rows


def _figure(name: str, asked: float | None, values: Sequence[float], how: str) -> Figure:
    wanted = f"AUROC ≥ {asked}" if asked else ""
    return Figure(name, wanted, _said(values, ".3f"), how, float(np.mean(values)) >= asked if asked else None)


def _said(values: Sequence[float], form: str) -> str:
    return f"{np.mean(values):{form}} ± {np.std(values):{form}}, {min(values):{form}} to {max(values):{form}}"


def _table(found: dict[tuple[str, str], Series]) -> str:
    strata = list(found["density", "all"].aurocs)
    rows = [
        f"| exchanged by | channels | {' | '.join(name or 'all' for name in strata)} |",
        "| --- " * (2 + len(strata)) + "|",
    ]
    for (way, kind), series in found.items():
        means = " | ".join(f"{np.nanmean(series.aurocs[name]):.3f}" for name in strata)
        rows.append(f"| {way} | {kind} | {means} |")
    return "\n".join(rows)
