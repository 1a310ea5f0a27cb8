"""`featuredb query` and `featuredb sql`: questions kept in files, and questions typed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_rows

if TYPE_CHECKING:
    from featuredb.store.queries import Query


@click.command(epilog=example("featuredb query", "featuredb query feature/top_examples feature=demo/12 k=5"))
@click.argument("name", required=False)
@click.argument("params", metavar="[NAME=VALUE]...", nargs=-1)
@common()
@pass_settings
def query(settings: Settings, name: str | None, params: tuple[str, ...]) -> None:
    """Run a query by name; without one, list the queries there are."""
    if name is None:
        from featuredb.store.queries import queries

        show_rows(settings, [_about(each) for each in queries()], columns=("query", "takes", "answers"))
        return
    values = _named(params)
    with open_store(settings) as db:
        answer = db.query(name, **values)
    show_rows(settings, answer.to_pylist(), columns=answer.column_names)


@click.command(
    epilog=example("featuredb sql 'select dictionary, feature, density from feature order by density desc limit 5'")
)
@click.argument("text", metavar="SELECT")
@common()
@pass_settings
def sql(settings: Settings, text: str) -> None:
    """Run one SELECT over the whole store, read-only.

    The views feature, example, context, panel, document, token and meta gather every segment, run and dictionary
    first; the catalog's tables model, dictionary, corpus, run, segment, file and label stand beside them. A SELECT
    of - is read from stdin.
    """
    statement = sys.stdin.read() if text == "-" else text
    with open_store(settings) as db:
        answer = db.sql(statement)
    show_rows(settings, answer.to_pylist(), columns=answer.column_names)


def _about(query: Query) -> dict[str, Any]:
    takes = [f"{one.name}={one.kind if one.default is None else one.default}" for one in query.params]
    return {
        "query": query.name,
        "takes": " ".join(takes),
        "answers": query.title,
        "params": [{"name": one.name, "type": one.kind, "default": one.default} for one in query.params],
        "returns": [{"name": column, "type": kind} for column, kind in query.returns],
        "order": query.order,
    }


def _named(params: tuple[str, ...]) -> dict[str, str]:
    named = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"{param!r} is not of the form NAME=VALUE")
        named[name] = value
    return named
