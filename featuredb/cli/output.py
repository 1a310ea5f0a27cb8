"""The only printer. stdout holds rows or nothing, stderr holds everything else, and neither ever a raw control code."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from featuredb.cli.common import Settings
from featuredb.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from featuredb.label_records import LabelRow
    from featuredb.records import ConceptRow, FeatureCard, FindingCard, FiredFeature, TextTokens, Tour
    from featuredb.rows import Record


def show_rows(
    settings: Settings,
    answers: Iterable[Record | Mapping[str, Any]],
    *,
    columns: Sequence[str] | None = None,
    nothing: str = "no rows",
) -> None:
    """The answers, as JSON with every field or as a table of `columns` (all of the first row's where None)."""
    rows = [dict(answer) if isinstance(answer, Mapping) else answer.row() for answer in answers]
    if settings.json:
        show_json(rows)
        return
    if not rows:
        note(settings, nothing)
        return
    from featuredb.cli.tables import table

    lines = table(rows, columns or list(rows[0]), terminal_width())
    first = next(lines)
    click.echo(click.style(first, bold=True) if _has_colour() else first)
    for line in lines:
        click.echo(line)


def show_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """One JSON object on stdout: {"ok": true, "rows": [...]}."""
    click.echo(_json({"ok": True, "rows": list(rows)}))


def show_cards(settings: Settings, cards: Sequence[FeatureCard]) -> None:
    """Features, each whole."""
    if settings.json:
        show_json([card.row() for card in cards])
        return
    from featuredb.cli.card import card_lines

    screen = console()
    for index, card in enumerate(cards):
        if index:
            screen.print()
        for line in card_lines(card, screen):
            screen.print(line, no_wrap=True, overflow="ellipsis")


def show_fired(
    settings: Settings, fired: Sequence[FiredFeature], *, nothing: str = "no feature fires on this text"
) -> None:
    """The features a text fires, each with the place it fires most."""
    if settings.json:
        show_json([one.row() for one in fired])
        return
    if not fired:
        note(settings, nothing)
        return
    from featuredb.cli.card import fired_lines

    screen = console()
    for line in fired_lines(fired, screen):
        screen.print(line, no_wrap=True, overflow="ellipsis")


def show_labels(settings: Settings, labels: Sequence[LabelRow]) -> None:
    """Labels, each with its scores in words."""
    if settings.json:
        show_json([label.row() for label in labels])
        return
    rows = [{**label.row(), "scores": _said(label)} for label in labels]
    show_rows(settings, rows, columns=("feature", "id", "text", "labeler", "status", "scores"), nothing="no labels")


def _said(label: LabelRow) -> str:
    """A label's scores in a line: value, interval, and whether it stands above its baseline."""
    if label.status == "failed":
        return label.note or "failed"
    return "; ".join(_score_said(score) for score in label.scores) or "-"


def _score_said(score: Mapping[str, Any]) -> str:
    from featuredb.plugins import bare

    name = bare(str(score["scorer"]))
    if score.get("value") is None:
        return f"{name}: {score.get('reason') or 'failed'}"
    said = f"{name} {score['value']:.2f}"
    if score.get("low") is not None and score.get("high") is not None:
        said += f" [{score['low']:.2f}, {score['high']:.2f}]"
    return f"{said} not above baseline" if score.get("above_baseline") is False else said


def show_tokens(settings: Settings, texts: Sequence[TextTokens]) -> None:
    """Texts token by token, in a pager where a terminal is too low for them. Never JSON: see `show_fired`."""
    from featuredb.cli.fired import token_lines

    screen = console()
    _paged(token_lines(texts, screen), screen)


def show_concepts(settings: Settings, concepts: Sequence[ConceptRow]) -> None:
    """Concepts, each with its hooks and some of its texts."""
    if settings.json:
        show_json([concept.row() for concept in concepts])
        return
    from featuredb.cli.concept_card import concept_lines

    screen = console()
    for index, concept in enumerate(concepts):
        if index:
            screen.print()
        for line in concept_lines(concept, screen):
            screen.print(line, no_wrap=True, overflow="ellipsis")


def show_findings(settings: Settings, found: Sequence[tuple[str, Sequence[FindingCard]]]) -> None:
    """Features, each with its findings in words."""
    if settings.json:
        show_json([one.row() for _, findings in found for one in findings])
        return
    from featuredb.cli.finding_card import finding_lines

    screen = console()
    for number, (feature, findings) in enumerate(found):
        if number:
            screen.print()
        for line in finding_lines(feature, findings, screen):
            screen.print(line, no_wrap=True, overflow="ellipsis")


def show_tour(settings: Settings, tour: Tour, store: str) -> None:
    """The demo's end: a command and its answer, three times over."""
    if settings.json:
        show_json([tour.row()])
        return
    _command(f'featuredb activate "{tour.text}" --db {store}')
    show_fired(settings, tour.fired)
    for card in tour.cards:
        _command(f"featuredb show {card.feature} --db {store}")
        show_cards(settings, [card])


def show_error(settings: Settings, *, code: str, message: str, hint: str | None) -> None:
    """An error on stderr: what is wrong, and on the next line what to do about it."""
    if settings.json:
        click.echo(_json({"ok": False, "error": {"code": code, "message": message, "hint": hint}}), err=True)
        return
    click.echo(f"Error: {visible(message)}", err=True)
    if hint:
        click.echo(f"  {visible(hint)}", err=True)


def note(settings: Settings, text: str) -> None:
    """A remark for people, on stderr; not where a program or a quiet caller listens."""
    if not settings.json and not settings.quiet:
        click.echo(visible(text), err=True)


def console(*, stderr: bool = False) -> Console:
    """A Rich console on a stream as it is now; NO_COLOR, FORCE_COLOR, TERM and COLUMNS are obeyed."""
    from rich.console import Console

    return Console(
        file=sys.stderr if stderr else sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=False
    )


def _paged(lines: Iterable[Text], screen: Console) -> None:
    """Lines on stdout, through the user's pager where it is a terminal that has not the rows for them."""
    waiting = list(lines)
    if not sys.stdout.isatty() or len(waiting) < screen.height:
        for line in waiting:
            screen.print(line, no_wrap=True, overflow="ellipsis")
        return
    with screen.capture() as captured:
        for line in waiting:
            screen.print(line, no_wrap=True, overflow="ellipsis")
    click.echo_via_pager(captured.get(), color=screen.color_system is not None and not screen.no_color)


def terminal_width() -> int | None:
    """Cells across stdout; None where it is no terminal and lines may be as long as they are."""
    if os.environ.get("COLUMNS", "").isdigit():
        return int(os.environ["COLUMNS"])
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None


def _command(line: str) -> None:
    click.echo()
    click.echo(f"$ {visible(line)}")


def _has_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _json(value: Any) -> str:
    # ASCII, so that no control code of a corpus reaches a terminal; DEL is ASCII and json lets it through.
    return json.dumps(_finite(value), ensure_ascii=True, default=_other).replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    """The value with null for NaN and infinities, which JSON has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _other(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
