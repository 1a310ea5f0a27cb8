"""A small store whose kept text and examples say something: written over those of small_store, figures and all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from featuredb.store import Store
from featuredb.store.layout import CONTEXT_TABLES, FEATURE_TABLES, SEGMENT_SCHEMA, Columns, create_tables
from tests.small_store import N_FEATURES, RUN, build


@dataclass(frozen=True)
class Context:
    """Tokens by their text, and where documents begin and end among them."""

    tokens: tuple[str, ...]
    pieces: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Example:
    feature: int
    kind: int
    context: int
    position: int


def build_text(path: Path, contexts: Sequence[Context], examples: Mapping[str, Sequence[Example]]) -> Store:
    """small_store with this text and these examples; every feature fires 1,000 times on a hundredth of the tokens."""
    store = build(path)
    texts = sorted({token for context in contexts for token in context.tokens})
    numbers = {text: number for number, text in enumerate(texts)}
    rows = [
        [
            number,
            number,
            [numbers[token] for token in context.tokens],
            [start for start, _ in context.pieces],
            [end for _, end in context.pieces],
            [0] * len(context.pieces),
            [0] * len(context.pieces),
            False,
        ]
        for number, context in enumerate(contexts)
    ]
    _write(
        store.paths.contexts(RUN), CONTEXT_TABLES, {"context": rows, "token": [list(one) for one in enumerate(texts)]}
    )
    for name, n in N_FEATURES.items():
        features = [[i, 1_000, 500, 0.01, 1.0, 1.0, 1.0, [1], [], [], [], []] for i in range(n)]
        ranks: dict[tuple[int, int], int] = {}
        kept = []
        for one in sorted(examples.get(name, []), key=lambda one: (one.feature, one.kind)):
            rank = ranks[one.feature, one.kind] = ranks.get((one.feature, one.kind), -1) + 1
            kept.append([one.feature, one.kind, rank, one.context, one.position, 1.0, one.position, [255]])
        _write(store.paths.segment(RUN, name), FEATURE_TABLES, {"feature": features, "example": kept})
    return store


def _write(path: Path, tables: dict[str, Columns], rows: dict[str, list[list[object]]]) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute(create_tables(tables))
        for name, values in rows.items():
            if values:
                connection.executemany(f'insert into "{name}" values ({", ".join("?" * len(values[0]))})', values)
        connection.execute("insert into meta values ('schema_version', ?)", [SEGMENT_SCHEMA])
