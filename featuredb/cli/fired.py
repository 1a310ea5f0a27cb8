"""How a text token by token looks in a terminal: the text, shaded by one feature, and below it what fires where.

Layout alone, as in `card`: every figure comes from the records. Without colour, shaded tokens stand between « and ».
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from featuredb.cli.card import WIDEST, figure, padded, shade
from featuredb.cli.tables import head, size
from featuredb.cli.words import with_flags
from featuredb.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from featuredb.records import FiredFeature, TextTokens

MARKED = 0.25
"""Without colour, tokens at or above this share of the feature's largest activation on the text are marked."""


def token_lines(texts: Sequence[TextTokens], screen: Console) -> Iterator[Text]:
    """Each text whole, shaded by the first of its features, then a line for each token and feature on it."""
    width = min(screen.width, WIDEST)
    plain = screen.color_system is None or screen.no_color
    several_models = len({one.model for one in texts}) > 1
    last = max((one.text for one in texts), default=0)
    for number, one in enumerate(texts):
        if number:
            yield Text()
        if last or several_models:
            title = f"text {one.text + 1} of {last + 1}" + (f" · {visible(one.model)}" if several_models else "")
            yield Text(head(title, width), style="bold")
        yield from _shaded(one, width, plain=plain)
        yield Text()
        yield from _listed(one, width)


def _shaded(one: TextTokens, width: int, *, plain: bool) -> Iterator[Text]:
    """The text in lines, broken after its own line ends and where they are full."""
    by = one.fired[0] if one.fired else None
    if by is None:
        yield Text("no feature fires on this text", style="dim")
    else:
        said = f"shaded by {by.feature}  {with_flags(by)}" if by.label or by.flags else f"shaded by {by.feature}"
        yield Text(head(visible(said), width), style="dim")
    line = Text("  ")
    for token, share in zip(one.tokens, _shares(by, len(one.tokens)), strict=True):
        shown = visible(token)
        marked = plain and share >= MARKED
        rest = f"«{shown}»" if marked else shown
        while rest:
            part = _fitting(rest, width - line.cell_len)
            line.append(part, style="" if plain else shade(share))
            rest = rest[len(part) :]
            if rest or "\n" in token:
                yield line
                line = Text("  ")
    if line.cell_len > 2:
        yield line


def _fitting(text: str, room: int) -> str:
    """As much of the start of a token as fits; none of it where a line of its own would take it whole or nearly so."""
    if size(text) <= room:
        return text
    if size(text) <= 24 or room < 1:
        return ""
    taken = text[:room]
    while size(taken) > room:
        taken = taken[:-1]
    return taken


def _shares(by: FiredFeature | None, n_tokens: int) -> Sequence[float]:
    """Each token's activation as a share of the largest on the text."""
    largest = max((abs(activation) for activation in by.activations), default=0.0) if by else 0.0
    if by is None or largest == 0:
        return [0.0] * n_tokens
    return [abs(activation) / largest for activation in by.activations]


def _listed(one: TextTokens, width: int) -> Iterator[Text]:
    every = [feature for at in one.strongest for feature in at]
    if not every:
        return
    token_width = min(max(size("token"), *(size(visible(token)) for token in one.tokens)), max(width // 5, 8))
    name_width = min(max(size("feature"), *(size(visible(each.feature)) for each in every)), width // 3)
    room = width - token_width - name_width - 18
    headings = f"  {'token':<{token_width}}  {'feature':<{name_width}}  {'activation':>10}  label"
    yield Text(head(headings, width), style="bold")
    for token, features in zip(one.tokens, one.strongest, strict=True):
        shown = padded(visible(token), token_width)
        if not features:
            yield Text(f"  {shown.rstrip()}", style="dim")
        for each in features:
            line = Text(f"  {shown}  ", style="bold")
            line.append(padded(visible(each.feature), name_width), style="not bold")
            line.append(f"  {figure(each.activation):>10}  ", style="not bold")
            line.append(head(with_flags(each), max(room, 0)), style="not bold")
            line.truncate(width)
            yield line
            shown = " " * token_width
