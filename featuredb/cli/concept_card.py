"""How a concept looks in a terminal: how it was made, a line a hook, and some of its texts. Layout alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from featuredb.cli.tables import head, size, tail, wrap
from featuredb.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from featuredb.records import ConceptDirection, ConceptRow

WIDEST = 120
MOST_TEXTS = 3
"""Texts of each side that are shown."""
BEST = "bold green"


def concept_lines(concept: ConceptRow, screen: Console) -> Iterator[Text]:
    """A concept's card, no line wider than the console."""
    width = min(screen.width, WIDEST)
    title = Text(visible(concept.concept), style="bold")
    title.append(f"  {_origin(concept)}", style="not bold")
    yield from _cut(title, width)
    for name, value in _facts(concept):
        for number, line in enumerate(wrap(visible(value), max(width - 13, 20))):
            yield Text(f"  {name if number == 0 else '':<9}", style="dim").append(f"  {line}", style="not dim")
    yield Text()
    yield from _hooks(concept, width)
    for side, texts in (("positive", concept.positive), ("negative", concept.negative)):
        if texts:
            yield Text()
            yield from _texts(side, texts, width)


def _origin(concept: ConceptRow) -> str:
    settings = concept.settings or {}
    if concept.method == "import":
        return f"imported from {visible(str(settings.get('file')))}"
    if concept.method == "combination":
        return visible(f"= {settings.get('expression')}")
    return f"{concept.method} of {concept.n_positive} positive and {concept.n_negative} negative texts"


def _facts(concept: ConceptRow) -> Iterator[tuple[str, str]]:
    settings = concept.settings or {}
    yield "model", concept.model or "not said"
    if concept.method not in ("import", "combination"):
        token = {"last": "the last of each text", "mean": "the mean of each text", "all": "every one by itself"}
        chat = ", in the chat template" if settings.get("chat") else ""
        yield "tokens", token.get(str(settings.get("token")), "-") + chat
    for remark in concept.notes:
        yield "note", remark


def _hooks(concept: ConceptRow, width: int) -> Iterator[Text]:
    """A line a hook, with its interval drawn where there is one."""
    measured = [each for each in concept.directions if each.auroc is not None]
    names = [visible(each.hook) for each in concept.directions]
    name_width = min(max(size("hook"), *(size(name) for name in names)), width // 2)
    lowest = 0.5 if all((each.auroc_low or 0) >= 0.5 for each in measured) else 0.0
    room = min(width - name_width - 41, 30)
    headings = f"  {'hook':<{name_width}}  {'width':>6}  {'norm':>8}"
    if measured:
        headings += "  held-out AUROC"
        if room >= 10:
            headings += f"     {lowest:<4g}{'1':>{room - 4}}"
    yield Text(head(headings, width), style="bold")
    best = concept.auroc
    for each, name in zip(concept.directions, names, strict=True):
        line = Text(f"  {tail(name, name_width):<{name_width}}  {each.width:>6,}  {each.norm:>8.4g}")
        if each.auroc is not None and each.auroc_low is not None and each.auroc_high is not None:
            line.append(f"  {each.auroc:.2f}", style=BEST if each.auroc == best and len(measured) > 1 else "bold")
            line.append(f" {each.auroc_low:.2f} to {each.auroc_high:.2f}")
            if room >= 10:
                line.append("  " + _strip(each, lowest, room), style="dim")
        yield from _cut(line, width)


def _strip(direction: ConceptDirection, lowest: float, room: int) -> str:
    """The interval on a line from `lowest` to 1, the value standing out."""

    def place(value: float | None) -> int:
        return round(((value or 0.0) - lowest) / (1 - lowest) * (room - 1))

    low, at, high = place(direction.auroc_low), place(direction.auroc), place(direction.auroc_high)
    marks = [" "] * room
    for index in range(max(low, 0), min(high, room - 1) + 1):
        marks[index] = "─"
    marks[max(at, 0)] = "●"
    return "".join(marks).rstrip()


def _texts(side: str, texts: Sequence[str], width: int) -> Iterator[Text]:
    yield Text(f"  {side}", style="bold")
    for text in texts[:MOST_TEXTS]:
        yield Text(f"    {head(visible(text), width - 4)}")
    if len(texts) > MOST_TEXTS:
        yield Text(f"    and {len(texts) - MOST_TEXTS:,} more", style="dim")


def _cut(line: Text, width: int) -> Iterator[Text]:
    line.truncate(width, overflow="ellipsis")
    yield line
