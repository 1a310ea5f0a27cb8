"""Whether a catalog has changed since it was last looked at, for a twentieth of what a question to it costs.

SQLite gives each connection a number that changes when another one commits. Ours never commits, so that it sees the
changes of everybody, those of this process too. Rule: one number; what it is the number of is the asker's business.
"""

from __future__ import annotations

import sqlite3
import threading

from featuredb.store.store import Store


class Changes:
    """The changes to one store's catalog. Several threads may share it."""

    def __init__(self, store: Store) -> None:
        self._uri = f"{store.paths.catalog.as_uri()}?mode=ro"
        self._turn = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def version(self) -> int | None:
        """A number that is the same as before if nothing was committed since; None where that cannot be told.

        Take it before what is read under it: then what is kept is never older than its number.
        """
        with self._turn:
            try:
                if self._connection is None:
                    self._connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
                row = self._connection.execute("pragma data_version").fetchone()
            except sqlite3.Error:  # a read-only folder, a damaged file: the question itself will say so
                return None
        return int(row[0]) if row else None

    def close(self) -> None:
        with self._turn:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
