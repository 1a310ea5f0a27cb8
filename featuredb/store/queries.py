"""Named queries: one SQL file a question, `queries/<noun>/<question>.sql`, run by name. No SQL is written here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from featuredb.errors import BadInput, NotFound, nearest
from featuredb.store.refs import FeatureRef, get_dictionary, get_feature, get_run
from featuredb.store.sql import Sql
from featuredb.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a query asks for."""

    name: str
    kind: str
    """VARCHAR, INTEGER, BIGINT, DOUBLE or BOOLEAN."""
    default: Value | None = None
    """None when the user must give it."""

    def value(self, given: object) -> Value:
        """A given value, or the text of one, in this parameter's type. Raises BadInput."""
        text = str(given).strip()
        try:
            match self.kind:
                case "INTEGER" | "BIGINT":
                    return int(text)
                case "DOUBLE":
                    return float(text)
                case "BOOLEAN":
                    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        except (ValueError, KeyError):
            raise BadInput(f"{self.name} = {given!r} is not {_KINDS[self.kind]}") from None
        return str(given)


_KINDS = {"INTEGER": "a whole number", "BIGINT": "a whole number", "DOUBLE": "a number", "BOOLEAN": "true or false"}


@dataclass(frozen=True, slots=True)
class Query:
    """A named query, as its file's header describes it."""

    name: str
    title: str
    """What it answers, in a sentence or two."""
    params: tuple[Parameter, ...]
    returns: tuple[tuple[str, str], ...]
    """Columns and their types, in order."""
    order: str
    sql: str


def queries() -> list[Query]:
    """Every named query, by name."""
    return list(_all().values())


def get_query(name: str) -> Query:
    """The query of that name. Raises NotFound with the nearest names."""
    found = _all().get(name)
    if found is None:
        raise NotFound(
            f"no query called {name!r}", hint=nearest(name, _all(), otherwise=f"there are: {', '.join(_all())}")
        )
    return found


def run_query(store: Store, name: str, params: Mapping[str, object] | None = None) -> pa.Table:
    """The rows of a named query; values may be given as text.

    A `feature` may be written `dictionary/index`, and `dictionary` then be left out.
    Raises NotFound for an unknown query, dictionary, run or feature; BadInput for a missing, unknown or unfit value.
    """
    query = get_query(name)
    values = _values(query, _split_feature(query, dict(params or {})))
    with store.reading() as session:
        if "feature" in values and "dictionary" in values:
            get_feature(session, FeatureRef(str(values["dictionary"]), int(values["feature"])))
        elif "dictionary" in values:
            get_dictionary(session, str(values["dictionary"]))
        if "run" in values:
            get_run(session, str(values["run"]))
    return Sql(store).run(
        query.sql,
        values,
        # A query that names a dictionary or a run selects it, so that no other segment need be opened.
        dictionaries=[str(values["dictionary"])] if "dictionary" in values else None,
        runs=[str(values["run"])] if "run" in values else None,
    )


def parse_query(name: str, text: str) -> Query:
    """The query in the text of the file that `name` names. Raises ValueError when its header is not in the form."""
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = [line.removeprefix("--").strip() for line in lines[:end]]
    if not header or header[0] != name:
        raise ValueError(f"{name}.sql does not begin with '-- {name}'")
    fields: dict[str, str] = {}
    title = []
    for line in header[1:]:
        key, colon, rest = line.partition(":")
        if colon and key in ("params", "returns", "order"):
            fields[key] = rest.strip()
        elif fields:
            raise ValueError(f"{name}.sql: {line!r} comes after the title")
        else:
            title.append(line)
    if set(fields) != {"params", "returns", "order"} or not title:
        raise ValueError(f"{name}.sql needs a title and the lines params, returns and order")
    returns = tuple(tuple(column.strip().split(" ", 1)) for column in fields["returns"].split(","))
    return Query(
        name,
        " ".join(title),
        tuple(_parameter(part.strip()) for part in fields["params"].split(",") if part.strip() not in ("", "none")),
        tuple((column[0], column[1]) for column in returns),
        fields["order"],
        "\n".join(lines[end:]).strip(),
    )


def _parameter(text: str) -> Parameter:
    form = re.fullmatch(r"(\w+) (VARCHAR|INTEGER|BIGINT|DOUBLE|BOOLEAN)(?: = (.+))?", text)
    if form is None:
        raise ValueError(f"{text!r} is not 'name TYPE' or 'name TYPE = default'")
    bare = Parameter(form[1], form[2])
    return bare if form[3] is None else Parameter(form[1], form[2], bare.value(form[3]))


@cache
def _all() -> dict[str, Query]:
    found = [parse_query(name, file.read_text("utf-8")) for name, file in _files()]
    return {query.name: query for query in sorted(found, key=lambda query: query.name)}


def _files() -> Iterator[tuple[str, Traversable]]:
    for noun in files("featuredb_queries").iterdir():
        if noun.is_dir():
            for file in noun.iterdir():
                if file.name.endswith(".sql"):
                    yield f"{noun.name}/{file.name.removesuffix('.sql')}", file


def _split_feature(query: Query, given: dict[str, object]) -> dict[str, object]:
    names = {parameter.name for parameter in query.params}
    feature = given.get("feature")
    if {"dictionary", "feature"} <= names and isinstance(feature, str) and "/" in feature:
        ref = FeatureRef.parse(feature)
        if given.setdefault("dictionary", ref.dictionary) != ref.dictionary:
            raise BadInput(f"feature {feature!r} is not of dictionary {given['dictionary']!r}")
        given["feature"] = ref.index
    return given


def _values(query: Query, given: Mapping[str, object]) -> dict[str, Value]:
    names = [parameter.name for parameter in query.params]
    for name in given:
        if name not in names:
            hint = nearest(name, names, otherwise=f"it takes {', '.join(names) or 'none'}")
            raise BadInput(f"{query.name} takes no {name!r}", hint=hint)
    values = {}
    for parameter in query.params:
        if parameter.name in given:
            values[parameter.name] = parameter.value(given[parameter.name])
        elif parameter.default is not None:
            values[parameter.name] = parameter.default
        else:
            raise BadInput(
                f"{query.name} needs a value for {parameter.name!r}", hint=f"write {parameter.name}={parameter.kind}"
            )
    return values
