"""Committing a finished run: every catalog row of it in one transaction, so that a run is there whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from featuredb.errors import BadInput, StoreUnusable
from featuredb.store.catalog import CorpusRow, DictionaryRow, FileRow, LeftoverRow, ModelRow, RunRow, SegmentRow
from featuredb.store.files import FileRecord
from featuredb.store.layout import Layout, check_name
from featuredb.store.remove import sweep
from featuredb.store.store import Store


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The model of a run."""

    name: str
    source: str
    fingerprint: str
    architecture: str
    n_layers: int
    d_model: int


@dataclass(frozen=True, slots=True)
class CorpusRecord:
    """The corpus of a run."""

    name: str
    spec: str
    plugin: str


@dataclass(frozen=True, slots=True)
class DictionaryRecord:
    """A dictionary of a run; committed once, however many runs use it."""

    name: str
    kind: str
    source: str
    plugin: str
    hook: str
    n_features: int
    d_in: int
    d_out: int
    fingerprint: str
    hooks_out: tuple[str, ...] = ()
    trained: Mapping[str, Any] = field(default_factory=dict)
    """What is known of its training, as JSON can say it."""

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A finished run."""

    key: str
    """A hash of everything that changes what the run leaves; a second commit of one key does nothing."""
    model: ModelRecord
    corpus: CorpusRecord
    n_tokens: int
    """Tokens counted: neither special nor padding."""
    n_contexts: int
    """Contexts read."""
    n_kept: int
    """Contexts kept in contexts.duckdb."""
    context_length: int
    packing: str
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.key, "run")


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """What the run left of one dictionary."""

    dictionary: DictionaryRecord
    path: str
    """The DuckDB file, below the store's root."""
    n_features: int
    n_examples: int
    n_panel: int
    moments: str | None = None
    """The hook's mean and covariance, below the store's root; dictionaries at one hook share it."""


def has_run(store: Store, key: str) -> bool:
    """Whether a run of that key has been committed."""
    with store.reading() as session:
        return session.scalar(select(RunRow.id).where(RunRow.key == key)) is not None


def dictionary_fingerprint(store: Store, name: str) -> str | None:
    """The fingerprint of the dictionary of that name; None where there is none."""
    with store.reading() as session:
        return session.scalar(select(DictionaryRow.fingerprint).where(DictionaryRow.name == name))


def commit_run(store: Store, run: RunRecord, segments: Sequence[SegmentRecord], files: Sequence[FileRecord]) -> bool:
    """Makes a finished run visible; False when a run of its key is there already, and then nothing changes.

    Every file must lie at its final path before. Raises StoreUnusable when one does not, BadInput when a dictionary of
    the same name but other contents is in the store.
    """
    with store.session() as session:
        if session.scalar(select(RunRow.id).where(RunRow.key == run.key)) is not None:
            return False
        _check_files(store.paths, segments, files)
        model = _model(session, run.model)
        row = _run(session, run, model)
        dictionaries = {}
        for segment in segments:
            dictionary = _dictionary(session, segment.dictionary, model)
            dictionaries[dictionary.name] = dictionary.id
            session.add(
                SegmentRow(
                    run_id=row.id,
                    dictionary_id=dictionary.id,
                    path=segment.path,
                    moments=segment.moments,
                    n_features=segment.n_features,
                    n_examples=segment.n_examples,
                    n_panel=segment.n_panel,
                )
            )
        for file in files:
            _file(session, file, row.id, dictionaries)
        # A file that a removal had still to delete has an owner again.
        session.execute(delete(LeftoverRow).where(LeftoverRow.path.in_([file.path for file in files])))
    sweep(store)
    return True


def _check_files(paths: Layout, segments: Sequence[SegmentRecord], files: Sequence[FileRecord]) -> None:
    for file in files:
        path = paths.root / file.path
        if not path.is_file() or path.stat().st_size != file.n_bytes:
            raise StoreUnusable(f"{path} is not there as it was written", hint="run the same command again")
    described = {file.path for file in files}
    for segment in segments:
        if segment.path not in described or segment.moments not in described | {None}:
            raise ValueError(f"no FileRecord for a file of segment {segment.path}")


def _model(session: Session, record: ModelRecord) -> ModelRow:
    same = (ModelRow.name == record.name, ModelRow.fingerprint == record.fingerprint)
    row = session.scalar(select(ModelRow).where(*same))
    if row is None:
        row = ModelRow(
            name=record.name,
            source=record.source,
            fingerprint=record.fingerprint,
            architecture=record.architecture,
            n_layers=record.n_layers,
            d_model=record.d_model,
        )
        session.add(row)
        session.flush()
    return row


def _run(session: Session, record: RunRecord, model: ModelRow) -> RunRow:
    spec = record.corpus
    corpus = session.scalar(select(CorpusRow).where(CorpusRow.spec == spec.spec, CorpusRow.plugin == spec.plugin))
    if corpus is None:
        corpus = CorpusRow(name=spec.name, spec=spec.spec, plugin=spec.plugin)
    row = RunRow(
        key=record.key,
        model=model,
        corpus=corpus,
        n_tokens=record.n_tokens,
        n_contexts=record.n_contexts,
        n_kept=record.n_kept,
        context_length=record.context_length,
        packing=record.packing,
        seed=record.seed,
        settings=dict(record.settings),
        versions=dict(record.versions),
    )
    session.add(row)
    session.flush()
    return row


def _dictionary(session: Session, record: DictionaryRecord, model: ModelRow) -> DictionaryRow:
    # Two names that differ in case alone would be one file on some systems.
    row = session.scalar(select(DictionaryRow).where(func.lower(DictionaryRow.name) == record.name.lower()))
    if row is not None:
        if row.name != record.name or row.fingerprint != record.fingerprint:
            raise BadInput(
                f"another dictionary is called {row.name!r} in this store",
                hint=f"name this one differently, or remove that one: featuredb rm dictionary {row.name}",
            )
        return row
    row = DictionaryRow(
        name=record.name,
        kind=record.kind,
        source=record.source,
        plugin=record.plugin,
        hook=record.hook,
        hooks_out=list(record.hooks_out),
        n_features=record.n_features,
        d_in=record.d_in,
        d_out=record.d_out,
        fingerprint=record.fingerprint,
        model=model,
        trained=dict(record.trained),
    )
    session.add(row)
    session.flush()
    return row


def _file(session: Session, record: FileRecord, run_id: int, dictionaries: Mapping[str, int]) -> None:
    row = session.scalar(select(FileRow).where(FileRow.path == record.path))
    if row is not None:
        if row.sha256 != record.sha256:
            raise StoreUnusable(
                f"{record.path} is in the catalog with other contents", hint="run `featuredb check` on the store"
            )
        return
    session.add(
        FileRow(
            path=record.path,
            n_bytes=record.n_bytes,
            sha256=record.sha256,
            role=record.role,
            # Weights outlive the run that brought them; they go with their dictionary.
            run_id=run_id if record.path.startswith("runs/") else None,
            dictionary_id=None if record.dictionary is None else dictionaries[record.dictionary],
        )
    )
