"""Concepts, what `FeatureDB.concepts` is: each method is one call into the module that does the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featuredb.progress import ProgressReport, silent
from featuredb.records import ConceptRow
from featuredb.rows import Rows

if TYPE_CHECKING:
    from featuredb.concepts.catalog import Made
    from featuredb.concepts.exports import Exported
    from featuredb.concepts.imports import ImportRequest
    from featuredb.concepts.request import ConceptRequest
    from featuredb.store.store import Store


class Concepts:
    """The named directions of one store. Errors are those of `featuredb.errors`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, request: ConceptRequest | Made, progress: ProgressReport = silent) -> ConceptRow:
        """Makes a concept of contrasting texts and keeps it; what it is, with its notes.

        request: or the concept that `featuredb.concepts.make.make` made of one.
        """
        from featuredb.concepts.catalog import keep
        from featuredb.concepts.make import make
        from featuredb.concepts.request import ConceptRequest

        if isinstance(request, ConceptRequest):
            return keep(self._store, make(self._store, request, progress), replace=request.replace)
        return keep(self._store, request)

    def import_file(self, request: ImportRequest | str | Path) -> ConceptRow:
        """Keeps the directions of a file as a concept; its notes say which conventions were applied.

        request: or the path of a file that says itself where its directions belong.
        """
        from featuredb.concepts.catalog import keep
        from featuredb.concepts.imports import ImportRequest, imported

        asked = request if isinstance(request, ImportRequest) else ImportRequest(Path(request))
        return keep(self._store, imported(self._store, asked), replace=asked.replace)

    def export(
        self,
        name: str,
        out: str | Path,
        *,
        format: str | None = None,
        hook: str | None = None,
        skip: bool = False,
        force: bool = False,
    ) -> Exported:
        """Writes a concept's directions to a file; see `featuredb.concepts.exports.export`."""
        from featuredb.concepts.exports import export

        return export(self._store, name, Path(out), format=format, hook=hook, skip=skip, force=force)

    def combine(self, name: str, expression: str, *, replace: bool = False) -> ConceptRow:
        """Keeps what an expression such as "a - 0.5*unit(b)" makes of other concepts as a new one."""
        from featuredb.concepts.catalog import keep
        from featuredb.concepts.combine import combined

        return keep(self._store, combined(self._store, name, expression, overwrite=replace), replace=replace)

    def ls(self) -> Rows[ConceptRow]:
        """Every concept by name, without its texts."""
        from featuredb.concepts.catalog import list_concepts

        return list_concepts(self._store)

    def get(self, name: str) -> ConceptRow:
        """One concept, with its texts. Raises NotFound with the nearest names."""
        from featuredb.concepts.catalog import get_concept, record

        with self._store.reading() as session:
            return record(get_concept(session, name), with_texts=True)

    def rm(self, name: str) -> None:
        """Removes a concept, its directions and texts. Raises NotFound."""
        from featuredb.concepts.catalog import remove_concept

        remove_concept(self._store, name)
