"""How a finding looks in a terminal: what it is called, what that means, its figures and its text. Layout alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from featuredb.cli.card import WIDEST, example_line
from featuredb.cli.tables import cell, head, wrap
from featuredb.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from featuredb.records import FindingCard

NOT_SHOWN = ("examples", "predicate")
NOT_FIGURES = (*NOT_SHOWN, "others")
NAME_WIDTH = 20


def finding_lines(feature: str, findings: Sequence[FindingCard], screen: Console) -> Iterator[Text]:
    """A feature's findings, no line wider than the console."""
    width = min(screen.width, WIDEST)
    label = findings[0].label if findings else None
    title = Text(visible(feature), style="bold")
    title.append(f"  {visible(label)}" if label else "  no label", style="not bold")
    title.truncate(width)
    yield title
    if not findings:
        yield Text("  no audit has found anything", style="dim")
    for finding in findings:
        yield Text()
        yield from _finding(finding, width, plain=screen.color_system is None or screen.no_color)


def _finding(finding: FindingCard, width: int, *, plain: bool) -> Iterator[Text]:
    line = Text(f"⚑ {visible(finding.check)}", style="bold yellow")
    line.append(f"  {_sureness(finding)}", style="not bold default")
    yield line
    if finding.judged and finding.judged != finding.label:
        yield from _paragraph(f"of the label {finding.judged!r}", width)
    if finding.verdict:
        yield from _paragraph(f"{finding.verdict} by a person{f': {finding.note}' if finding.note else ''}", width)
    if finding.suggestion:
        yield from _paragraph(finding.suggestion, width, style="bold")
    yield from _paragraph(finding.meaning, width, style="dim")
    evidence = finding.evidence or {}
    for name, value in evidence.items():
        if name not in NOT_FIGURES:
            yield from _figure(name, value, width)
    if others := evidence.get("others"):
        yield from _named(
            "with", ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else ""), width
        )
    largest = max((one.activation for one in finding.examples), default=1.0) or 1.0
    for one in finding.examples:
        yield example_line(one, largest, width, plain=plain)


def _sureness(finding: FindingCard) -> str:
    said = f"{finding.score:.2f}"
    if finding.q is not None:
        return f"{said}  false discovery rate {finding.q:.2g}"
    return said if finding.p is None else f"{said}  p {finding.p:.2g}"


def _paragraph(text: str, width: int, style: str = "") -> Iterator[Text]:
    for line in wrap(visible(text), width - 2):
        yield Text(f"  {line}", style=style)


def _figure(name: str, value: Any, width: int) -> Iterator[Text]:
    """One fact of the evidence; a list of facts has a line each."""
    said = name.replace("_", " ")
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value, start=1):
            yield from _named(f"{said} {number}", _facts(item), width)
    elif isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        for inner, item in value.items():
            yield from _named(f"{said}: {inner}", _facts(item), width)
    elif isinstance(value, Mapping):
        yield from _named(said, _facts(value), width)
    elif value is not None and value != []:
        yield from _named(said, _short(value), width)


def _facts(item: Mapping[str, Any]) -> str:
    kept = [(name, value) for name, value in item.items() if name not in NOT_SHOWN and value is not None]
    return "  ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in kept)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(_short(item) for item in value)
    return cell(value)


def _named(name: str, text: str, width: int) -> Iterator[Text]:
    lines = wrap(visible(text), width - NAME_WIDTH - 4)
    for number, line in enumerate(lines):
        shown = head(visible(name), NAME_WIDTH) if number == 0 else ""
        yield Text(f"  {shown:<{NAME_WIDTH}}  {line}")
