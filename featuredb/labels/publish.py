"""Taking up what others published: a publication becomes rows of the store, all of them or none.

work/<key>/          where an import lies while it is written, locked by the process that does it
work/<key>/done/     its finished files, moved to their final places just before the catalog's one commit
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from featuredb.errors import BadInput, FeatureDBError, NotFound, PluginFailed, StoreBusy
from featuredb.hooknames import canonical_hook
from featuredb.labels.label_rows import Added, LabelStage
from featuredb.labels.publication import Publication, PublishedFeature
from featuredb.plugins import LabelReader, Registry, bare, guarded, guarded_iter
from featuredb.progress import Progress, ProgressReport, silent
from featuredb.store.catalog import DictionaryRow
from featuredb.store.engine import disk_errors
from featuredb.store.files import delete_file, describe_file, rename_into_place
from featuredb.store.layout import Layout, check_name
from featuredb.store.published import PUBLISHED, as_json, commit_published
from featuredb.store.refs import get_dictionary
from featuredb.store.runs import CorpusRecord, DictionaryRecord, ModelRecord, RunRecord, SegmentRecord, has_run
from featuredb.store.store import Store

if TYPE_CHECKING:
    from featuredb.capture.published import Tally

_EVERY = 256
"""Features between two reports of progress."""


@dataclass(frozen=True)
class ImportedPublication:
    """What an import did."""

    dictionary: str
    created: bool
    """Whether the dictionary is new; else labels and scores went to one that was there."""
    n_features: int
    """Features of the dictionary."""
    n_examples: int
    n_labels: int
    """New ones, those that failed included."""
    n_known: int
    """Labels that were there already."""
    n_failed: int
    """New ones that cannot be used; each has a row that says why."""
    n_scores: int
    n_scores_known: int
    warnings: tuple[str, ...] = ()
    """What a reader of it should know."""


def open_publication(spec: str, *, registry: Registry | None = None) -> Publication:
    """What a spec names: `READER:PATH`, or a bare path that one reader recognises.

    Raises NotFound for an unknown reader or a missing path, BadInput for what cannot be read or is not recognised.
    """
    registry = registry or Registry.installed()
    scheme, colon, rest = spec.partition(":")
    if colon and len(scheme) > 1 and (bare(scheme) in registry.names("readers") or not _exists(spec)):
        reader, path = registry.label_reader(scheme), Path(rest).expanduser()
    else:
        path = Path(spec).expanduser()
        if not path.exists() and not path.parent.exists():
            raise NotFound(f"no file or folder at {spec}")
        reader = _recognising(registry, path)
    publication = guarded(reader.name, lambda: reader.read(path))
    if not isinstance(publication, Publication):
        raise PluginFailed(f"reader {reader.name!r} gave no publication")
    return publication


def _exists(path: str) -> bool:
    return Path(path).expanduser().exists()


def _recognising(registry: Registry, path: Path) -> LabelReader:
    found = []
    for reader in registry.working("readers"):
        if guarded(reader.name, lambda reader=reader: reader.recognises(path)):  # type: ignore[misc]
            found.append(reader)
    if len(found) == 1:
        return found[0]  # type: ignore[no-any-return]
    if not found and not path.exists():
        raise NotFound(f"no file or folder at {path}")
    names = registry.names("readers") if not found else [bare(reader.name) for reader in found]
    what = "no reader recognises" if not found else "several readers recognise"
    raise BadInput(f"{what} {path}", hint="name one: " + " or ".join(f"{name}:{path}" for name in names))


def import_publication(
    store: Store, publication: Publication, *, dictionary: str | None = None, progress: ProgressReport = silent
) -> ImportedPublication:
    """Adds a publication to a store, all of it or nothing; what was added before is not added again.

    dictionary: one that the store has; labels and scores go to it, and examples are left. Without it the publication
    becomes a dictionary of its own, without weights, or adds to the one it became before.
    Raises NotFound for an unknown dictionary, BadInput for what cannot be used and for a name that is taken,
    StoreBusy while another process imports the same.
    """
    wanted = dictionary or publication.extra.get("dictionary")
    importer = _Importer(store, publication, progress)
    if wanted is not None:
        with store.reading() as session:
            owner = get_dictionary(session, str(wanted))
        return importer.add_to(owner)
    if not publication.model:
        raise BadInput(
            f"{publication.name} says of no model what it labels", hint="name the dictionary that its labels belong to"
        )
    name = check_name(publication.name)
    as_json(publication.extra, f"what is said of {name}")
    with store.reading() as session:
        there = session.scalar(select(DictionaryRow).where(func.lower(DictionaryRow.name) == name.lower()))
    if there is None:
        created = importer.create()
        if created is not None:
            return created
        with store.reading() as session:  # another process was quicker
            there = get_dictionary(session, name)
    if there.kind != PUBLISHED or there.fingerprint != _fingerprint(publication):
        raise BadInput(
            f"another dictionary is called {there.name!r} in this store",
            hint=f"name it to add the labels to it, or remove it: featuredb rm dictionary {there.name}",
        )
    return importer.add_to(there)


class _Importer:
    def __init__(self, store: Store, publication: Publication, progress: ProgressReport) -> None:
        self._store = store
        self._publication = publication
        self._progress = progress

    def add_to(self, owner: DictionaryRow) -> ImportedPublication:
        """Labels and scores for a dictionary that is there."""
        n_examples = 0
        with (
            tempfile.TemporaryDirectory(prefix="featuredb-") as folder,
            disk_errors(Path(folder)),
            LabelStage(Path(folder) / "labels.jsonl", self._publication) as stage,
        ):
            for feature in self._features():
                if feature.index >= owner.n_features:
                    raise self._unknown(feature, owner)
                n_examples += len(feature.examples)
                stage.add(feature.index, feature.labels)
            with self._store.session() as session:
                now = get_dictionary(session, owner.name)  # it may have been removed meanwhile
                added = stage.add_to(session, now.id, empty=False)
        left = (f"{n_examples:,} examples are left: {owner.name} keeps those it has",) if n_examples else ()
        return self._imported(
            owner.name,
            owner.n_features,
            added,
            created=False,
            n_examples=0,
            warnings=(*self._publication.warnings, *left),
        )

    def create(self) -> ImportedPublication | None:
        """The publication as a dictionary of its own; None where another process has made it meanwhile."""
        from featuredb.capture.published import PublishedSegment

        publication, store = self._publication, self._store
        key = f"published-{_fingerprint(publication).removeprefix('published:')[:20]}"
        with disk_errors(store.path), _locked(store.paths.work_folder(key)) as folder:
            if has_run(store, key):
                return None
            layout = Layout(folder / "done")
            shutil.rmtree(layout.root, ignore_errors=True)
            layout.run_folder(key).mkdir(parents=True)
            contexts, segment = layout.contexts(key), layout.segment(key, publication.name)
            meta = self._meta(key)
            with LabelStage(folder / "labels.jsonl", publication) as stage:
                with PublishedSegment(contexts, segment, publication.n_features, meta) as written:
                    for feature in self._features():
                        stage.add(feature.index, feature.labels)
                        written.add(feature)
                tally = written.tally
                if not tally.n_described and not stage.n:
                    raise BadInput(f"{publication.name} says nothing of any feature")
                files = [
                    describe_file(contexts, layout.relative(contexts), "contexts"),
                    describe_file(segment, layout.relative(segment), "segment", dictionary=publication.name),
                ]
                record = SegmentRecord(
                    self._dictionary_record(), layout.relative(segment), publication.n_features, tally.n_examples, 0
                )
                added = self._commit(layout, self._run_record(key, tally), record, files, stage)
        return self._imported(
            publication.name,
            publication.n_features,
            added,
            created=True,
            n_examples=tally.n_examples,
            warnings=self._said(tally),
        )

    def _commit(
        self, layout: Layout, run: RunRecord, segment: SegmentRecord, files: list[Any], stage: LabelStage
    ) -> Added:
        """Moves the files into place and enters everything at once; after a failure neither is there."""
        results: list[Added] = []
        try:
            rename_into_place(layout.root, self._store.path)
            commit_published(
                self._store,
                run,
                segment,
                files,
                lambda session, owner: results.append(stage.add_to(session, owner, empty=True)),
            )
        except BaseException:
            if not has_run(self._store, run.key):
                for file in files:
                    delete_file(self._store.paths, file.path)
            raise
        return results[0]

    def _features(self) -> Iterator[PublishedFeature]:
        publication = self._publication
        total = publication.n_features
        features = guarded_iter(f"{publication.publisher} reader", iter(publication.features))
        for number, feature in enumerate(features):
            if number % _EVERY == 0:
                self._progress(Progress("import", min(feature.index, total), total, "features"))
            yield feature
        self._progress(Progress("import", total, total, "features"))

    def _unknown(self, feature: PublishedFeature, owner: DictionaryRow) -> FeatureDBError:
        said = next((label.extra for label in feature.labels if "row" in label.extra), {})
        where = f"{said['file']}, row {said['row']}: " if said else ""
        last = owner.n_features - 1
        return NotFound(f"{where}no feature {feature.index} in {owner.name!r}", hint=f"it has features 0 to {last}")

    def _imported(self, name: str, n_features: int, added: Added, **rest: Any) -> ImportedPublication:
        return ImportedPublication(
            dictionary=name,
            n_features=n_features,
            n_labels=added.n_labels,
            n_known=added.n_known,
            n_failed=added.n_failed,
            n_scores=added.n_scores,
            n_scores_known=added.n_scores_known,
            **rest,
        )

    def _said(self, tally: Tally) -> tuple[str, ...]:
        counted = (
            (tally.n_silent, "texts on which their feature does not fire are no examples and are left out"),
            (tally.n_repeated, "examples are texts that their feature has twice; the stronger is kept"),
            (tally.n_two_signed, "examples have activations of both signs; those of the peak's sign are kept"),
        )
        return (*self._publication.warnings, *(f"{n:,} {what}" for n, what in counted if n))

    def _n_tokens(self) -> int:
        """Tokens behind the publisher's figures; 0 where they are not told."""
        told = self._publication.extra.get("n_tokens")
        return told if isinstance(told, int) and 0 < told < 2**62 else 0

    def _meta(self, key: str) -> dict[str, str]:
        publication = self._publication
        return {
            "run": key,
            "model": publication.model,
            "corpus": publication.publisher,
            "dictionary": publication.name,
            "fingerprint": _fingerprint(publication),
            "hook": self._hook(),
            "n_tokens": str(self._n_tokens()),
        }

    def _hook(self) -> str:
        return canonical_hook(self._publication.hook) if self._publication.hook else ""

    def _dictionary_record(self) -> DictionaryRecord:
        publication = self._publication
        width = publication.extra.get("d_model")
        d_model = width if isinstance(width, int) and 0 <= width < 2**31 else 0
        return DictionaryRecord(
            name=publication.name,
            kind=PUBLISHED,
            source=f"{publication.publisher}:{publication.extra.get('source', publication.name)}",
            plugin=publication.publisher,
            hook=self._hook(),
            n_features=publication.n_features,
            d_in=d_model,
            d_out=d_model,
            fingerprint=_fingerprint(publication),
            trained={PUBLISHED: {**publication.extra, "publisher": publication.publisher}},
        )

    def _run_record(self, key: str, tally: Tally) -> RunRecord:
        publication = self._publication
        # Nothing is known of the model but its name; another of that name, with weights, is another row.
        model = f"published:{publication.model}"
        return RunRecord(
            key=key,
            model=ModelRecord(publication.model, publication.model, model, "unknown", 0, 0),
            corpus=CorpusRecord(publication.publisher, f"published:{publication.publisher}", publication.publisher),
            n_tokens=self._n_tokens(),
            n_contexts=tally.n_contexts,
            n_kept=tally.n_contexts,
            context_length=tally.longest,
            packing="document",
            seed=0,
            settings={"publisher": publication.publisher, "warnings": list(self._said(tally))},
            versions={"featuredb": version("featuredb")},
        )


def _fingerprint(publication: Publication) -> str:
    """What makes two publications the same one, whatever more the later one says."""
    said = [publication.publisher, publication.name, publication.model, publication.hook]
    return f"published:{hashlib.sha256(json.dumps(said).encode()).hexdigest()}"


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """A folder that no other process works in meanwhile; it goes at the end, however that comes."""
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = path.open("w")
        except FileNotFoundError:  # a process that ended has just removed the folder
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreBusy("another process is importing the same", hint="wait for it") from error
            if not _is_same(path, lock.fileno()):
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def _is_same(path: Path, handle: int) -> bool:
    """Whether the open file is still the one at `path`: a process that ends removes its folder with the lock in it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
