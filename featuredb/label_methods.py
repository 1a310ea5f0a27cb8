"""What FeatureDB does with labels: each method is one call into the room that does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featuredb.label_records import EstimateRow, ExportRow, ImportRow, LabelingRow, LabelRow, ScoringRow
from featuredb.progress import ProgressReport, silent
from featuredb.rows import Rows

if TYPE_CHECKING:
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store


class LabelMethods:
    """The part of FeatureDB that is about labels."""

    store: Store

    @property
    def _reader(self) -> SegmentReader:
        """Reads the store's segments."""
        raise NotImplementedError

    def add_label(self, feature: str, text: str, author: str | None = None, note: str | None = None) -> LabelRow:
        """Gives a feature a label by hand."""
        from featuredb.labels.table import add_label
        from featuredb.search.cards import label_row
        from featuredb.store.refs import FeatureRef

        ref = FeatureRef.parse(feature)
        with self.store.session() as session:
            return label_row(ref, add_label(session, ref, text, author=author, note=note))

    def labels(self, feature: str | None = None) -> Rows[LabelRow]:
        """The labels of one feature, or of all."""
        from featuredb.search.listing import list_labels
        from featuredb.store.refs import FeatureRef

        return list_labels(self.store, None if feature is None else FeatureRef.parse(feature))

    def verify_label(
        self, feature: str, label_id: int | None = None, author: str | None = None, note: str | None = None
    ) -> LabelRow:
        """The label, the shown one where none is named, that a person now stands behind."""
        from featuredb.labels.edit import verify_label
        from featuredb.search.cards import label_row
        from featuredb.store.refs import FeatureRef

        ref = FeatureRef.parse(feature)
        with self.store.session() as session:
            return label_row(ref, verify_label(session, ref, label_id=label_id, author=author, note=note))

    def remove_labels(self, feature: str, label_id: int | None = None, every: bool = False) -> Rows[LabelRow]:
        """The labels of a feature that were taken away: the one of that number, its only one, or every one."""
        from featuredb.labels.edit import remove_labels
        from featuredb.search.cards import label_row
        from featuredb.store.refs import FeatureRef

        ref = FeatureRef.parse(feature)
        with self.store.session() as session:
            removed = remove_labels(session, ref, label_id=label_id, every=every)
            return Rows([label_row(ref, label) for label in removed], LabelRow)

    def label(
        self, dictionary: str, *, labelers: Sequence[str] | None = None, progress: ProgressReport = silent, **how: Any
    ) -> Rows[LabelingRow]:
        """Has labelers label a dictionary's features from one half of the documents; what each did.

        labelers: names of plugins; None takes the one that asks no language model. how: fields of
        `featuredb.labels.runs.LabelWork`: features, options, embedder, seed, again.
        """
        from featuredb.labels.runs import LabelWork, run_labelers

        work = LabelWork(dictionary, tuple(labelers or ()), **how)
        return Rows(run_labelers(self.store, self._reader, work, progress), LabelingRow)

    def estimate_labels(
        self, dictionary: str, *, labelers: Sequence[str] | None = None, **how: Any
    ) -> Rows[EstimateRow]:
        """What `label` would ask of language models and cost at most; arguments are the same, nothing is asked."""
        from featuredb.labels.runs import LabelWork, estimate_labelers

        work = LabelWork(dictionary, tuple(labelers or ()), **how)
        return Rows(estimate_labelers(self.store, self._reader, work), EstimateRow)

    def score(
        self, dictionary: str, *, scorers: Sequence[str] | None = None, progress: ProgressReport = silent, **how: Any
    ) -> Rows[ScoringRow]:
        """Scores a dictionary's labels on the other half of the documents; what each scorer did.

        scorers: names of plugins; None takes those that ask no language model. how: fields of
        `featuredb.labels.runs.LabelWork`: features, options, embedder, seed, again, all_labels.
        """
        from featuredb.labels.runs import LabelWork, run_scorers

        work = LabelWork(dictionary, tuple(scorers or ()), **how)
        return Rows(run_scorers(self.store, self._reader, work, progress), ScoringRow)

    def ingest_labels(self, source: str, dictionary: str | None = None, progress: ProgressReport = silent) -> ImportRow:
        """Adds the labels of a CSV or JSONL file, or of what a reader knows: `import_labels` or `import_published`."""
        if Path(source).suffix.lower() not in (".csv", ".jsonl", ".ndjson") or not Path(source).is_file():
            return self.import_published(source, dictionary, progress)
        from featuredb.labels.files import import_labels

        done = import_labels(self.store, Path(source), dictionary=dictionary)
        return ImportRow(file=source, dictionary=dictionary, labels=done.n_added, known=done.n_known)

    def import_published(
        self, source: str, dictionary: str | None = None, progress: ProgressReport = silent
    ) -> ImportRow:
        """Takes in what others published of features: "READER:PATH", or a path alone.

        dictionary: one of the store that the labels belong to. Without it the publication becomes a dictionary of its
        own, without weights: its figures, examples and labels. Importing twice adds nothing.
        """
        from featuredb.labels.publish import import_publication, open_publication

        done = import_publication(self.store, open_publication(source), dictionary=dictionary, progress=progress)
        return ImportRow(
            file=source,
            dictionary=done.dictionary,
            labels=done.n_labels,
            known=done.n_known,
            failed=done.n_failed,
            scores=done.n_scores,
            features=done.n_features if done.created else None,
            examples=done.n_examples if done.created else None,
            warnings=done.warnings,
        )

    def export_labels(
        self,
        dictionary: str,
        exporter: str,
        out: str | Path,
        n_examples: int = 24,
        labels_only: bool = False,
        force: bool = False,
        progress: ProgressReport = silent,
    ) -> ExportRow:
        """Writes a dictionary's labels, and its features where the format has room, into a new folder.

        n_examples: of each kind. labels_only: neither figures nor examples. force: replace an earlier export.
        """
        from featuredb.database import FeatureDB
        from featuredb.labels.export import export

        assert isinstance(self, FeatureDB)
        done = export(
            self,
            dictionary,
            exporter,
            out,
            n_examples=n_examples,
            labels_only=labels_only,
            force=force,
            progress=progress,
        )
        return ExportRow(
            dictionary=done.dictionary,
            format=done.exporter,
            path=str(done.path),
            features=done.n_features,
            files=done.n_files,
            bytes=done.n_bytes,
        )

    def import_labels(self, path: str | Path) -> int:
        """Adds the labels of a CSV or JSONL file, all or none; how many were new."""
        from featuredb.labels.files import import_labels

        return import_labels(self.store, Path(path)).n_added
