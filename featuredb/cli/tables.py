"""Rows as lines of text: columns side by side where they fit, wrapped where they nearly do, a block a row where not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featuredb.visible import visible

GAP = 2
NARROWEST = 12
"""A text column is not wrapped below this; rows that need less room than that become blocks."""


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int | None) -> Iterator[str]:
    """The lines of a table, its heading first; no line is wider than `width` cells, or any width where it is None."""
    cells = [[cell(row.get(name)) for name in columns] for row in rows]
    natural = [max(size(text) for text in column) for column in zip(columns, *cells, strict=True)]
    numeric = [_is_numeric(row.get(name) for row in rows) for name in columns]
    widths = _fit(natural, numeric, columns, width)
    if widths is None:
        yield from _blocks(cells, columns, width)
        return
    for row in [list(columns), *cells]:
        yield from _line(row, widths, numeric)


def cell(value: Any) -> str:
    """A value as one line of printable text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value) or "-"
    if isinstance(value, dict):
        return visible(json.dumps(value, ensure_ascii=False, default=str))
    return visible(str(value))


def size(text: str) -> int:
    """How many terminal cells the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def head(text: str, width: int) -> str:
    """The text, or as much of its start as fits in `width` cells with … after it."""
    if size(text) <= width:
        return text
    return _take(text, width - 1) + "…" if width > 0 else ""


def tail(text: str, width: int) -> str:
    """The text, or … and as much of its end as fits in `width` cells."""
    if size(text) <= width:
        return text
    return "…" + _take(text[::-1], width - 1)[::-1] if width > 0 else ""


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells, broken at spaces where there are any."""
    lines = []
    while size(text) > width:
        part = _take(text, width) or text[0]
        space = part.rfind(" ")
        if len(part) < len(text) and text[len(part)] != " " and space > 0:
            part = part[:space]
        lines.append(part.rstrip(" "))
        text = text[len(part) :].lstrip(" ")
    return [*lines, text]


def _take(text: str, width: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += size(char)
        if taken > width:
            return text[:index]
    return text


def _is_numeric(values: Iterator[Any]) -> bool:
    given = [value for value in values if value is not None]
    return bool(given) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)


def _fit(natural: list[int], numeric: list[bool], columns: Sequence[str], width: int | None) -> list[int] | None:
    widths = list(natural)
    if width is None:
        return widths
    narrowest = [
        size_ if is_number else min(size_, max(NARROWEST, size(name)))
        for size_, is_number, name in zip(natural, numeric, columns, strict=True)
    ]
    room = width - GAP * (len(columns) - 1)
    if sum(narrowest) > room:
        return None
    while sum(widths) > room:
        widest = max(
            (index for index in range(len(widths)) if widths[index] > narrowest[index]), key=widths.__getitem__
        )
        widths[widest] -= 1
    return widths


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> Iterator[str]:
    wrapped = [wrap(text, width) for text, width in zip(row, widths, strict=True)]
    for index in range(max(len(lines) for lines in wrapped)):
        parts = []
        for lines, width, is_number in zip(wrapped, widths, numeric, strict=True):
            text = lines[index] if index < len(lines) else ""
            pad = " " * (width - size(text))
            parts.append(pad + text if is_number else text + pad)
        yield (" " * GAP).join(parts).rstrip()


def _blocks(cells: Sequence[Sequence[str]], columns: Sequence[str], width: int | None) -> Iterator[str]:
    name_width = max(size(name) for name in columns)
    for number, row in enumerate(cells, start=1):
        yield f"row {number}"
        for name, text in zip(columns, row, strict=True):
            room = max((width or 80) - name_width - 4, NARROWEST)
            for index, line in enumerate(wrap(text, room)):
                yield f"  {name if index == 0 else '':<{name_width}}  {line}".rstrip()
