"""Every kind of plugin, on one page, and the registry that finds them by entry point.

A plugin is one class with no constructor arguments, in one file, found by an entry point in the group
`featuredb.<kind>`. Its name carries a version, `saelens.v1`, which is bumped when the same input would give other
rows; users may leave the version out. A broken plugin is reported and breaks nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from featuredb.corpus import CorpusOptions, Document
from featuredb.errors import FeatureDBError, NotFound, PluginFailed, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from featuredb.audit.requests import AuditRequest, Judged
    from featuredb.dictionary import Dictionary
    from featuredb.labels.publication import ExportRequest, Publication
    from featuredb.labels.requests import LabelRequest, Proposal, Scored, ScoreRequest
    from featuredb.training import TrainingPlan, TrainingProgress

KINDS = ("ingest", "trainers", "corpora", "embedders", "labelers", "scorers", "checks", "readers", "exporters")
MEMBERS = {
    "ingest": ("recognises", "load"),
    "trainers": ("train",),
    "corpora": ("suffixes", "documents"),
    "embedders": ("load",),
    "labelers": ("options", "label"),
    "scorers": ("options", "score"),
    "checks": ("findings", "options", "audit"),
    "readers": ("recognises", "read"),
    "exporters": ("write",),
}
"""What a plugin of each kind must have beside a name; looked for once, when it is loaded."""


class Ingest(Protocol):
    """Loads the dictionaries that one publisher's format holds. Group `featuredb.ingest`."""

    name: str

    def recognises(self, source: str) -> bool:
        """Whether a source given without a scheme is this plugin's; looks at names on disk, never inside tensors."""
        ...

    def load(self, source: str) -> list[Dictionary]:
        """The dictionaries at a source (the spec without its scheme), at least one.

        Raises NotFound when nothing is there, BadInput when what is there cannot be used.
        """
        ...


class Trainer(Protocol):
    """Trains a dictionary on a model's activations. Group `featuredb.trainers`."""

    name: str

    def train(
        self,
        plan: TrainingPlan,
        activations: Iterator[torch.Tensor],
        folder: Path,
        progress: Callable[[TrainingProgress], None],
    ) -> Path:
        """The folder of the trained dictionary, which an ingest plugin can load.

        activations: endless (n, d_in) float32 rows, n = plan.batch_size; the same plan gives the same rows.
        folder: where checkpoints may lie; a second call with the same plan and folder goes on from the last one.
        """
        ...


class Corpus(Protocol):
    """Reads documents. Group `featuredb.corpora`."""

    name: str
    suffixes: tuple[str, ...]
    """File endings read without naming the plugin, such as (".jsonl",)."""

    def documents(self, source: str, options: CorpusOptions) -> Iterator[Document]:
        """The source's documents, always in the same order. Raises NotFound, or BadInput naming file and row."""
        ...


class TextEmbedding(Protocol):
    """A loaded model of texts."""

    id: str
    """Names the model and its weights; two of one id give the same vectors."""
    width: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), width) float32 rows of unit length, in the order of the texts."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors that lie near each other where the texts mean the same. Group `featuredb.embedders`."""

    name: str

    def load(self, source: str | None) -> TextEmbedding:
        """The model at a source, this plugin's own choice where None.

        Raises NotFound when there is none, PluginFailed naming the extra that is not installed.
        """
        ...


class Labeler(Protocol):
    """Proposes labels for features. Group `featuredb.labelers`."""

    name: str
    options: tuple[str, ...]
    """Names of the options it takes, such as ("endpoint", "model"); `--option NAME=VALUE` on the command line."""

    def label(self, request: LabelRequest) -> Iterator[Proposal]:
        """One proposal for each feature asked for, as they are ready; one that could not be made says why.

        All it may read is `request.evidence`, the labeling half of the documents.
        """
        ...


class Scorer(Protocol):
    """Measures how well labels fit what their features do. Group `featuredb.scorers`."""

    name: str
    options: tuple[str, ...]

    def score(self, request: ScoreRequest) -> Iterator[Scored]:
        """A figure for each label it can judge, with its interval and baseline; one it cannot says why.

        All it may read is `request.evidence`, the scoring half of the documents.
        """
        ...


class Check(Protocol):
    """Says which features, or labels of features, are not to be trusted. Group `featuredb.checks`.

    One whose findings describe a feature and are no fault of it sets `describes = True` beside its name.
    """

    name: str
    findings: tuple[str, ...]
    """Names of what it may find, such as ("mislabelled", "too-broad"); they are the flags in answers."""
    options: tuple[str, ...]

    def audit(self, request: AuditRequest) -> Iterator[Judged]:
        """What it makes of each feature it can judge, flagged or not; those it cannot judge are left out.

        A label may be judged by `request.audit` alone, the half of the documents that no labeler has seen.
        """
        ...


class LabelReader(Protocol):
    """Reads what others published about features: labels, and examples with them. Group `featuredb.readers`."""

    name: str

    def recognises(self, source: Path) -> bool:
        """Whether a file or folder given without a scheme is this plugin's; looks at names and first bytes alone."""
        ...

    def read(self, source: Path) -> Publication:
        """What is there. Raises NotFound when nothing is, BadInput naming file and row of what cannot be used."""
        ...


class Exporter(Protocol):
    """Writes features and their labels in somebody else's format. Group `featuredb.exporters`."""

    name: str

    def write(self, request: ExportRequest, folder: Path) -> int:
        """Fills an empty folder; the number of features written."""
        ...


def bare(name: str) -> str:
    """A plugin's name without its version."""
    return re.sub(r"\.v\d+$", "", name)


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be loaded, and why."""

    kind: str
    name: str
    reason: str


class Registry:
    """The plugins of some entry points. Each is loaded when first asked for, so that listing costs no torch."""

    def __init__(self, found: Iterable[EntryPoint]) -> None:
        self._entries: dict[str, dict[str, list[EntryPoint]]] = {kind: {} for kind in KINDS}
        for entry in found:
            kind = entry.group.removeprefix("featuredb.")
            if kind in self._entries:
                self._entries[kind].setdefault(entry.name, []).append(entry)

    @staticmethod
    @cache
    def installed() -> Registry:
        """The plugins installed beside featuredb."""
        return Registry(entry for kind in KINDS for entry in entry_points(group=f"featuredb.{kind}"))

    def names(self, kind: str) -> list[str]:
        """Entry-point names of a kind, sorted; nothing is imported."""
        return sorted(self._entries[kind])

    def ingest(self, name: str) -> Ingest:
        return cast(Ingest, self._get("ingest", name))

    def trainer(self, name: str) -> Trainer:
        return cast(Trainer, self._get("trainers", name))

    def corpus(self, name: str) -> Corpus:
        return cast(Corpus, self._get("corpora", name))

    def embedder(self, name: str) -> Embedder:
        return cast(Embedder, self._get("embedders", name))

    def labeler(self, name: str) -> Labeler:
        return cast(Labeler, self._get("labelers", name))

    def scorer(self, name: str) -> Scorer:
        return cast(Scorer, self._get("scorers", name))

    def check(self, name: str) -> Check:
        return cast(Check, self._get("checks", name))

    def label_reader(self, name: str) -> LabelReader:
        return cast(LabelReader, self._get("readers", name))

    def exporter(self, name: str) -> Exporter:
        return cast(Exporter, self._get("exporters", name))

    def working(self, kind: str) -> Iterator[Any]:
        """Each plugin of a kind that loads, in order of name."""
        for name in self.names(kind):
            try:
                yield self._get(kind, name)
            except PluginFailed:
                continue

    def broken(self) -> list[Broken]:
        """Every plugin that does not load, with the reason; loads them all."""
        faults = []
        for kind in KINDS:
            for name in self.names(kind):
                try:
                    self._get(kind, name)
                except PluginFailed as error:
                    faults.append(Broken(kind, name, error.message))
        return faults

    def _get(self, kind: str, name: str) -> object:
        known = self._entries[kind]
        base = name if name in known else bare(name)
        entries = known.get(base, [])
        if not entries:
            raise NotFound(
                f"no {_singular(kind)} plugin called {name!r}",
                hint=nearest(base, sorted(known), otherwise=f"installed: {', '.join(sorted(known)) or 'none'}"),
            )
        if len({entry.value for entry in entries}) > 1:
            claims = " and ".join(sorted(entry.value for entry in entries))
            raise PluginFailed(f"two {_singular(kind)} plugins are called {base!r}", hint=f"uninstall one of {claims}")
        plugin = _load(kind, entries[0])
        if name not in (base, plugin.name):
            raise NotFound(f"no {_singular(kind)} plugin called {name!r}", hint=f"installed: {plugin.name!r}")
        return plugin


def _load(kind: str, entry: EntryPoint) -> Any:
    try:
        plugin = entry.load()()
    except (Exception, SystemExit) as error:  # a stranger's module may raise anything, or exit, while imported
        raise PluginFailed(
            f"{_singular(kind)} plugin {entry.name!r} does not load: {error}", hint=f"it comes from {entry.value}"
        ) from error
    declared = getattr(plugin, "name", None)
    if not isinstance(declared, str) or bare(declared) != entry.name:
        raise PluginFailed(
            f"{_singular(kind)} plugin {entry.name!r} calls itself {declared!r}",
            hint=f"its class must set name = '{entry.name}.v1'",
        )
    missing = [member for member in MEMBERS[kind] if not hasattr(plugin, member)]
    if missing:
        raise PluginFailed(
            f"{_singular(kind)} plugin {entry.name!r} has no {missing[0]!r}", hint=f"it comes from {entry.value}"
        )
    return plugin


def _singular(kind: str) -> str:
    return {"ingest": "ingest", "corpora": "corpus"}.get(kind, kind.removesuffix("s"))


Result = TypeVar("Result")


def guarded(name: str, work: Callable[[], Result]) -> Result:
    """What a plugin's call returns; anything but our own errors and Ctrl-C becomes PluginFailed."""
    try:
        return work()
    except (FeatureDBError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PluginFailed(f"plugin {name!r} failed: {type(error).__name__}: {error}") from error


def guarded_iter(name: str, items: Iterator[Result]) -> Iterator[Result]:
    """The items of a plugin's iterator, guarded like a call."""
    end = object()
    while True:
        item = guarded(name, lambda: next(items, end))
        if item is end:
            return
        yield cast(Result, item)
