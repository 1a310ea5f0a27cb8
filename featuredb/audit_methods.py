"""What FeatureDB does about trust: each method is one call into the room that does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featuredb.progress import ProgressReport, silent
from featuredb.records import AuditRow, FindingCard, FindingRow
from featuredb.rows import Rows

if TYPE_CHECKING:
    from featuredb.audit.findings import Verdict
    from featuredb.store.segments import SegmentReader
    from featuredb.store.store import Store


class AuditMethods:
    """The part of FeatureDB that says which features and labels not to trust."""

    store: Store

    @property
    def _reader(self) -> SegmentReader:
        """Reads the store's segments."""
        raise NotImplementedError

    def run_audit(
        self,
        dictionary: str | None = None,
        checks: Sequence[str] = (),
        features: Sequence[str] | None = None,
        *,
        progress: ProgressReport = silent,
        **how: Any,
    ) -> Rows[AuditRow]:
        """Runs checks over a dictionary and keeps what they find; what each check did.

        dictionary: may be left out where the store has one. checks: names of plugins or of findings; none: all.
        features: "dictionary/index" or the index alone; None: all. how: the other fields of
        `featuredb.audit.run.AuditPlan`: source, embedder, options, seed. Raises as `featuredb.audit.run.audit` does.
        """
        from featuredb.audit.run import AuditPlan, audit
        from featuredb.audit.scope import one_dictionary

        name, indices = one_dictionary(self.store, dictionary, features)
        done = audit(self.store, self._reader, AuditPlan(name, tuple(checks), indices, **how), progress)
        return Rows(
            (
                AuditRow(
                    dictionary=name, check=one.check, judged=one.n_judged, flagged=one.n_flagged, reason=one.reason
                )
                for one in done
            ),
            AuditRow,
        )

    def audit(
        self,
        dictionary: str | None = None,
        checks: Sequence[str] = (),
        features: Sequence[str] | None = None,
        *,
        source: str | None = None,
        all_features: bool = False,
        progress: ProgressReport = silent,
        **how: Any,
    ) -> Rows[FindingRow]:
        """Runs checks over a dictionary; what is found now, the worst first. Arguments are those of `run_audit`.

        source: judge the newest labels of this labeler, in place of those that are shown. all_features: what the checks
        made of every feature, flagged or not.
        """
        self.run_audit(dictionary, checks, features, source=source, progress=progress, **how)
        return self.findings(dictionary, checks, features, source=source, all_features=all_features)

    def findings(
        self,
        dictionary: str | None = None,
        checks: Sequence[str] = (),
        features: Sequence[str] | None = None,
        *,
        source: str | None = None,
        all_features: bool = False,
    ) -> Rows[FindingRow]:
        """What earlier audits found, the worst first; nothing is run. Arguments are those of `audit`.

        source: what was found of this labeler's labels, in place of those that are shown.
        """
        from featuredb.audit.answers import Wanted, read_findings
        from featuredb.audit.scope import one_dictionary

        name, indices = one_dictionary(self.store, dictionary, features)
        wanted = Wanted(indices, tuple(checks), source, all_features)
        return Rows(read_findings(self.store, name, wanted), FindingRow)

    def explain(self, feature: str) -> Rows[FindingCard]:
        """A feature's findings, the worst first, each with what it means and some of the text it is from."""
        from featuredb.audit.explain import explain

        return Rows(explain(self.store, self._reader, feature), FindingCard)

    def give_verdict(
        self,
        feature: str,
        check: str | None = None,
        verdict: Verdict = "confirmed",
        author: str | None = None,
        note: str | None = None,
    ) -> Rows[FindingRow]:
        """Keeps what a person says of a feature's finding, or of all of them; those findings, the worst first.

        A dismissed finding is no flag any more, and stays dismissed when the next audit finds the same.
        """
        from featuredb.audit.answers import findings_of
        from featuredb.audit.findings import give_verdict
        from featuredb.store.refs import get_feature

        with self.store.session() as session:
            row, index = get_feature(session, feature)
            give_verdict(session, row, index, check, verdict, author, note)
            found = findings_of(session, row, index)
        return Rows([one for one in found if check in (None, one.check)], FindingRow)

    def audit_report(self, path: str | Path, dictionary: str | None = None, *, force: bool = False) -> Path:
        """Writes what audits found of a dictionary as one page, HTML or Markdown by the ending of `path`."""
        from featuredb.audit.report import write_report
        from featuredb.audit.scope import one_dictionary

        name, _ = one_dictionary(self.store, dictionary)
        return write_report(self.store, self._reader, name, Path(path), force=force)
