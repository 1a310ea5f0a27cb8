"""How features look in a terminal: cards and concordances. Layout alone; every figure comes from the records.

With colour, tokens are shaded by their activation; without, the peak stands between « and ».
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.text import Text

from featuredb.cli.tables import head, size, tail
from featuredb.cli.words import with_flags
from featuredb.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

    from featuredb.label_records import LabelRow
    from featuredb.records import ExampleRow, FeatureCard, FiredFeature, HistogramBin, TokenWeight

WIDEST = 120
BARS = " ▁▂▃▄▅▆▇█"
BAR_ROWS = 3
FIGURES_WIDTH = 40
SHADES = (
    # From this share of the feature's largest activation up; both colours set, so that any terminal theme reads.
    (0.80, "bold #1a1000 on #ffb000"),
    (0.50, "#1a1000 on #d08c1d"),
    (0.25, "#fff3dd on #8a651a"),
    (0.01, "#fff3dd on #4d3c17"),
)
KINDS = (("top", "strongest contexts"), ("sample", "a uniform sample of the contexts where it fires"))


def card_lines(card: FeatureCard, screen: Console) -> Iterator[Text]:
    """A feature's card, no line wider than the console."""
    width = min(screen.width, WIDEST)
    plain = screen.color_system is None or screen.no_color
    yield from _title(card, width)
    yield Text()
    yield from _figures(card)
    for title, weights in (("promotes", card.promoted), ("suppresses", card.suppressed)):
        yield from _weights(title, weights, width)
    yield from _remarks(card, width)
    for kind, title in KINDS:
        examples = [example for example in card.examples if example.kind == kind]
        if examples:
            yield Text()
            yield Text(f"  {title}", style="bold")
            for example in examples:
                yield example_line(example, card.max_activation or example.activation, width, plain=plain)


def fired_lines(fired: Sequence[FiredFeature], screen: Console) -> Iterator[Text]:
    """A line a feature: its name, its activation, the place it fires most, its label.

    Beside the activation, that on the other side of a contrast, and of several texts the number that fire it.
    """
    width = min(screen.width, WIDEST)
    plain = screen.color_system is None or screen.no_color
    columns = [("activation", [figure(one.activation) for one in fired])]
    if any(one.activation_contrast is not None for one in fired):
        columns.append(("contrast", [figure(one.activation_contrast or 0.0) for one in fired]))
    if any(one.text or one.n_texts > 1 for one in fired):
        columns.append(("texts", [f"{one.n_texts:,}" for one in fired]))
    labels = [with_flags(one) for one in fired]
    name_width = min(max(size("feature"), *(size(visible(one.feature)) for one in fired)), width // 3)
    left = width - name_width - sum(size(name) + 2 for name, _ in columns) - 4
    label_width = max(min(max(size("label"), *(size(label) for label in labels)), left // 2), 5)
    room = max(left - label_width, 5)
    heading = "".join(f"  {name}" for name, _ in columns)
    yield Text(head(f"{'feature':<{name_width}}{heading}  {'label':<{label_width}}  on", width), style="bold")
    for row, one in enumerate(fired):
        line = Text(padded(visible(one.feature), name_width), style="bold")
        figures = "".join(f"  {said[row]:>{size(name)}}" for name, said in columns)
        line.append(f"{figures}  {padded(labels[row], label_width)}  ", style="default not bold")
        largest = max((abs(activation) for activation in one.activations), default=0.0)
        line.append_text(_concordance(one.tokens, one.activations, one.position, largest, room, plain=plain))
        line.truncate(width)
        yield line


def _title(card: FeatureCard, width: int) -> Iterator[Text]:
    flags = "  ".join(f"⚑ {visible(flag)}" for flag in card.flags)
    flags = head(flags, width // 2)
    room = width - size(flags) - 2
    name = tail(visible(card.feature), max(room * 2 // 3, 8))
    label = head(visible(card.label) if card.label else "no label yet", max(room - size(name) - 2, 0))
    line = Text(name, style="bold")
    line.append("  ")
    line.append(label, style="bold cyan not dim" if card.label else "not bold dim")
    if flags:
        line.append(" " * max(width - line.cell_len - size(flags), 1))
        line.append(flags, style="bold yellow")
    yield line
    where = " · ".join(visible(part) for part in (card.hook, card.model) if part)
    rule = "─" * (width - size(where) - 1 if where else width)
    yield Text(head(f"{where} {rule}" if where else rule, width), style="dim")


def _figures(card: FeatureCard) -> Iterator[Text]:
    left = [f"  {name:<10}  {figure}" for name, figure in _figure_texts(card)]
    right = _histogram(card.histogram)
    for text, bar in zip_longest(left, right, fillvalue=""):
        line = Text(padded(text, FIGURES_WIDTH) if bar else text)
        line.append(bar, style="dim" if bar and bar is right[-1] else "#d08c1d")
        yield line


def _figure_texts(card: FeatureCard) -> list[tuple[str, str]]:
    of = f" of {card.n_tokens:,}" if card.n_tokens else ""
    if card.n_fires == 0:
        return [("fires", f"never{f' on {card.n_tokens:,} tokens' if card.n_tokens else ''}")]
    known = [
        ("fires on", "" if card.density is None else f"{_percent(card.density)} of tokens"),
        ("", "" if card.n_fires is None else f"{card.n_fires:,}{of}"),
        ("strongest", "" if card.max_activation is None else figure(card.max_activation)),
        ("mean", "" if card.mean_activation is None else figure(card.mean_activation)),
    ]
    return [(name, text) for name, text in known if text] or [("fires on", "not known")]


def _histogram(bins: Sequence[HistogramBin]) -> list[str]:
    """Three rows of bars over the occupied bins, and a row that says where they begin and end."""
    filled = [index for index, one in enumerate(bins) if one.count]
    if not filled:
        return []
    shown = bins[filled[0] : filled[-1] + 1]
    tallest = max(one.count for one in shown)
    eighths = [max(round(one.count / tallest * 8 * BAR_ROWS), 1 if one.count else 0) for one in shown]
    bar_width = min(max(36 // len(shown), 1), 4)
    rows = [
        "".join(BARS[min(max(height - 8 * row, 0), 8)] * bar_width for height in eighths)
        for row in reversed(range(BAR_ROWS))
    ]
    low, high = figure(shown[0].low), figure(shown[-1].high)
    gap = max(len(rows[0]) - len(low) - len(high), 1)
    return [*rows, f"{low}{' ' * gap}{high}"]


def _weights(title: str, weights: Sequence[TokenWeight], width: int) -> Iterator[Text]:
    if not weights:
        return
    if title == "promotes":
        yield Text()
    line = Text(f"  {title:<10}  ")
    for weight in weights:
        shown, figure = f'"{visible(weight.token)}"', f" {weight.value:+.2f}  "
        if line.cell_len + size(shown + figure.rstrip()) > width:
            break
        line.append(shown, style="bold")
        line.append(figure, style="dim")
    yield line


def _remarks(card: FeatureCard, width: int) -> Iterator[Text]:
    remarks = [("⚑ " + one.check, f"{one.score:.2f}  {one.suggestion or ''}") for one in card.findings]
    others = [label for label in card.labels if label.text != card.label]
    remarks += [("also called", _label(label)) for label in others]
    remarks += [
        ("similar", f"{one.feature}  {_cosine(one.cosine_decoder)}  {one.label or ''}".rstrip()) for one in card.similar
    ]
    if remarks:
        yield Text()
    said = ""
    for name, text in remarks:
        yield Text(head(f"  {'' if name == said else visible(name):<10}  {visible(text)}", width))
        said = name


def _label(label: LabelRow) -> str:
    by = label.author or label.labeler
    return f"{label.text}  ({by}, {label.status})"


def example_line(example: ExampleRow, largest: float, width: int, *, plain: bool) -> Text:
    """One context: the activation, and the tokens around the peak. largest: what is shaded most."""
    line = Text(f"{figure(example.activation):>9}  ", style="dim")
    rest = _concordance(example.tokens, example.activations, example.peak, largest, width - 11, plain=plain)
    return line.append_text(rest)


def _concordance(
    tokens: Sequence[str], activations: Sequence[float], peak: int, largest: float, width: int, *, plain: bool
) -> Text:
    """The tokens around the peak in `width` cells, the peak always in the same column."""
    before = width * 2 // 5
    left = _context(tokens, activations, range(peak - 1, -1, -1), largest, before, plain=plain)
    line = Text(" " * (before - left.cell_len), style="not dim")
    line.append_text(left)
    if 0 <= peak < len(tokens):
        line.append_text(
            _peak(visible(tokens[peak]), activations[peak] / largest if largest > 0 else 1.0, width, plain)
        )
    after = range(peak + 1, len(tokens))
    line.append_text(_context(tokens, activations, after, largest, width - line.cell_len, plain=plain))
    line.rstrip()
    return line


def _context(
    tokens: Sequence[str], activations: Sequence[float], order: range, largest: float, room: int, *, plain: bool
) -> Text:
    """The tokens of `order`, nearest the peak first, as many as fit; the one that does not fit is cut with …"""
    backward = order.step < 0
    parts: list[tuple[str, str]] = []
    for index in order:
        if room <= 0:
            break
        shown = visible(tokens[index])
        fits = tail(shown, room) if backward else head(shown, room)
        parts.append((fits, "not dim" if plain else shade(activations[index] / largest if largest > 0 else 0.0)))
        room -= size(fits)
        if fits != shown:
            break
    return Text.assemble(*(parts[::-1] if backward else parts))


def _peak(token: str, share: float, width: int, plain: bool) -> Text:
    token = head(token, max(width // 2, 4))
    if not plain:
        return Text(token, style=shade(max(share, SHADES[-1][0])))
    body = token.lstrip(" ") or "␣"
    return Text(" " * (len(token) - len(token.lstrip(" ")) if token.strip(" ") else 0) + f"«{body}»", style="not dim")


def shade(share: float) -> str:
    """The style of a token whose activation is that share of the largest."""
    return next((style for least, style in SHADES if share >= least), "not dim")


def padded(text: str, width: int) -> str:
    """The text in exactly that many cells, cut with … where it is wider."""
    text = head(text, width)
    return text + " " * (width - size(text))


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0005 else f"{share:.2g}"


def figure(value: float) -> str:
    """An activation or a size of one, in three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _cosine(value: float | None) -> str:
    return "" if value is None else f"{value:+.2f}"
