"""How a finding looks in a terminal: what it is called, what that means, its figures and its text. Layout alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from featuredb.cli.card import WIDEST, example_line
from featuredb.cli.tables import cell, head, size, wrap
from featuredb.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from featuredb.records import FindingCard

NOT_SHOWN = ("examples", "places", "predicate")
NOT_FIGURES = (*NOT_SHOWN, "others", "their_labels", "meanings", "early", "late")
LEAST_RATE = 0.001
"""Chances below this are told as that: few draws can tell more."""
NAME_WIDTH = 20


def finding_lines(feature: str, findings: Sequence[FindingCard], screen: Console) -> Iterator[Text]:
    """A feature's findings, no line wider than the console."""
    width = min(screen.width, WIDEST)
    label = findings[0].label if findings else None
    name = visible(feature)
    for number, line in enumerate(wrap(visible(label) if label else "no label", width - size(name) - 2)):
        title = Text(name if number == 0 else " " * size(name), style="bold")
        title.append(f"  {line}", style="not bold")
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
    yield from _others(evidence.get("others", ()), evidence.get("their_labels", ()), width)
    largest = max((one.activation for one in finding.examples), default=1.0) or 1.0
    shown = set[int]()
    for number, meaning in enumerate(evidence.get("meanings", ()), start=1):
        yield from _named(f"meaning {number}", _facts(meaning), width)
        for place, one in enumerate(finding.examples):
            if [one.context, one.position] in meaning.get("places", ()):
                shown.add(place)
                yield example_line(one, largest, width, plain=plain)
    for place, one in enumerate(finding.examples):
        if place not in shown:
            yield example_line(one, largest, width, plain=plain)


def _others(others: Sequence[str], labels: Sequence[str], width: int) -> Iterator[Text]:
    """The features that the finding is about too: those with a known label a line each, and then the rest."""
    for other, label in zip(others, labels, strict=False):
        yield from _named("with", f"{other}  {label}", width)
    rest = others[len(labels) :]
    if rest:
        named = ", ".join(rest[:8]) + (f" and {len(rest) - 8} more" if len(rest) > 8 else "")
        yield from _named("and with" if labels else "with", named, width)


def _sureness(finding: FindingCard) -> str:
    said = f"{finding.score:.2f}"
    if finding.q is not None:
        return f"{said}  false discovery rate {_chance(finding.q)}"
    return said if finding.p is None else f"{said}  p {_chance(finding.p)}"


def _chance(value: float) -> str:
    return f"{value:.2g}" if value >= LEAST_RATE else f"below {LEAST_RATE:g}"


def _paragraph(text: str, width: int, style: str = "") -> Iterator[Text]:
    for line in wrap(visible(text), width - 2):
        yield Text(f"  {line}", style=style)


def _figure(name: str, value: Any, width: int) -> Iterator[Text]:
    """One fact of the evidence; a list of facts has a line each."""
    said = name.replace("_", " ")
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value, start=1):
            yield from _named(f"{said.removesuffix('s')} {number}", _facts(item), width)
    elif isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
        for inner, item in value.items():
            yield from _named(f"{said}: {inner}", _facts(item), width)
    elif isinstance(value, Mapping):
        yield from _named(said, _facts(value, ": "), width)
    elif value is not None and value != []:
        yield from _named(said, _short(value), width)


def _facts(item: Mapping[str, Any], between: str = " ") -> str:
    kept = [(name, value) for name, value in item.items() if name not in NOT_SHOWN and value is not None]
    return "  ".join(
        _token(str(value)) if name == "token" else f"{name.replace('_', ' ')}{between}{_short(value)}"
        for name, value in kept
    )


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(_token(item) if isinstance(item, str) else _short(item) for item in value)
    return cell(value)


def _token(text: str) -> str:
    """A token in quotes, the spaces around it as dots: tokens may differ in these alone."""
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" "))
    shown = "·" * before + visible(inner) + "·" * (len(text) - before - len(inner))
    mark = "'" if '"' in shown else '"'
    return f"{mark}{shown}{mark}"


def _named(name: str, text: str, width: int) -> Iterator[Text]:
    lines = wrap(visible(text), width - NAME_WIDTH - 4)
    for number, line in enumerate(lines):
        shown = head(visible(name), NAME_WIDTH) if number == 0 else ""
        yield Text(f"  {shown:<{NAME_WIDTH}}  {line}")
