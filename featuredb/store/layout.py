"""Where everything in a store lies, and the tables inside a segment. Names only: nothing here touches the disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from featuredb.errors import BadInput

SEGMENT_SCHEMA = "1"
"""Value of `schema_version` in every segment's meta table; raised when a table below changes."""

RADIUS = 32
"""Tokens on either side of an example's strongest one whose activations are kept."""

LOWEST_EXPONENT = -20
"""Bin i of a histogram counts activations a with floor(log2 |a|) = LOWEST_EXPONENT + i; the end bins take the rest."""

Columns = tuple[tuple[str, str], ...]

CONTEXT_TABLES: dict[str, Columns] = {
    "context": (
        ("context", "INTEGER"),
        ("stream_index", "BIGINT"),
        ("tokens", "INTEGER[]"),
        ("piece_starts", "INTEGER[]"),
        ("piece_ends", "INTEGER[]"),
        ("piece_documents", "INTEGER[]"),
        ("piece_offsets", "INTEGER[]"),
        ("on_panel", "BOOLEAN"),
    ),
    "document": (("document", "INTEGER"), ("name", "VARCHAR")),
    "token": (("token", "INTEGER"), ("text", "VARCHAR")),
    "meta": (("key", "VARCHAR"), ("value", "VARCHAR")),
}
"""Tables of a run's contexts.duckdb, each with its columns and their DuckDB types."""

FEATURE_TABLES: dict[str, Columns] = {
    "feature": (
        ("feature", "INTEGER"),
        ("n_fires", "BIGINT"),
        ("n_contexts", "BIGINT"),
        ("density", "DOUBLE"),
        ("max", "REAL"),
        ("mean", "DOUBLE"),
        ("m2", "DOUBLE"),
        ("histogram", "UINTEGER[]"),
        ("promoted", "INTEGER[]"),
        ("promoted_values", "REAL[]"),
        ("suppressed", "INTEGER[]"),
        ("suppressed_values", "REAL[]"),
    ),
    "example": (
        ("feature", "INTEGER"),
        ("kind", "UTINYINT"),
        ("rank", "USMALLINT"),
        ("context", "INTEGER"),
        ("position", "USMALLINT"),
        ("activation", "REAL"),
        ("window_start", "USMALLINT"),
        ("window", "UTINYINT[]"),
    ),
    "panel": (("feature", "INTEGER"), ("context", "INTEGER"), ("position", "USMALLINT"), ("activation", "REAL")),
    "meta": (("key", "VARCHAR"), ("value", "VARCHAR")),
}
"""Tables of a run's <dictionary>.duckdb."""


def create_tables(tables: dict[str, Columns]) -> str:
    """SQL that makes the tables, empty, in the database in use."""
    statements = []
    for table, columns in tables.items():
        listed = ", ".join(f'"{name}" {kind}' for name, kind in columns)
        statements.append(f'create table "{table}" ({listed});')
    return "\n".join(statements)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(name: str, what: Literal["dictionary", "run"] = "dictionary") -> str:
    """The name itself, when it can be a file's name on any system. Raises BadInput."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise BadInput(
            f"{name!r} cannot name a {what}",
            hint="use up to 128 letters, digits, dots, dashes and underscores, beginning with a letter or digit",
        )
    if name.casefold() == "contexts":
        raise BadInput(f"{name!r} cannot name a {what}", hint="a run's contexts are kept under that name")
    return name


@dataclass(frozen=True, slots=True)
class Layout:
    """Every path of the store at `root`."""

    root: Path

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.sqlite"

    @property
    def dictionaries(self) -> Path:
        return self.root / "dictionaries"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def work(self) -> Path:
        """Unfinished things, each under its run's key; nothing here is ever read as an answer."""
        return self.root / "work"

    @property
    def meaning(self) -> Path:
        """Copies of labels' vectors, made to be searched. All of it can be made again from the catalog."""
        return self.root / "meaning"

    def work_folder(self, key: str) -> Path:
        return self.work / check_name(key, "run")

    def dictionary_folder(self, name: str) -> Path:
        return self.dictionaries / check_name(name)

    def weights(self, name: str) -> Path:
        return self.dictionary_folder(name) / "weights.safetensors"

    def decoder_index(self, name: str) -> Path:
        return self.dictionary_folder(name) / "decoder.faiss"

    def encoder_index(self, name: str) -> Path:
        return self.dictionary_folder(name) / "encoder.faiss"

    def feature_map(self, name: str, key: str) -> Path:
        """A layout of the dictionary's features; the key tells layouts made in other ways apart."""
        return self.dictionary_folder(name) / f"map-{check_name(key, 'run')}.safetensors"

    def run_folder(self, key: str) -> Path:
        return self.runs / check_name(key, "run")

    def contexts(self, key: str) -> Path:
        return self.run_folder(key) / "contexts.duckdb"

    def segment(self, key: str, dictionary: str) -> Path:
        return self.run_folder(key) / f"{check_name(dictionary)}.duckdb"

    def response(self, key: str, dictionary: str) -> Path:
        return self.run_folder(key) / f"{check_name(dictionary)}.response.safetensors"

    def response_index(self, key: str, dictionary: str) -> Path:
        return self.run_folder(key) / f"{check_name(dictionary)}.response.faiss"

    def moments(self, key: str, hook: str) -> Path:
        return self.run_folder(key) / f"{quote(hook, safe='')}.moments.safetensors"

    def relative(self, path: Path) -> str:
        """A path as the catalog writes it: below the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()
