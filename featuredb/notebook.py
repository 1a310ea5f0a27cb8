"""How answers look in a notebook. Every text is escaped; no script, no outside style, nothing to load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from featuredb.visible import visible

if TYPE_CHECKING:
    from featuredb.records import ExampleRow, FeatureCard, TokenWeight

_MAX_ROWS = 200


def card_html(card: FeatureCard) -> str:
    """One feature: title, figures, histogram, output tokens, and its examples with tokens shaded by activation."""
    parts = [
        '<div style="font-family:system-ui,sans-serif;max-width:60em">',
        f"<h3 style='margin:0.2em 0'>{_text(card.feature)} &ensp;{_text(card.label or 'no label')}</h3>",
        "".join(f"<code>{_text(flag)}</code> " for flag in card.flags),
        f"<p>{_figures(card)}</p>",
        _histogram(card),
        _weights("promotes", card.promoted),
        _weights("suppresses", card.suppressed),
    ]
    for kind, title in (("top", "Strongest contexts"), ("sample", "A uniform sample of the contexts where it fires")):
        chosen = [example for example in card.examples if example.kind == kind]
        if chosen:
            parts.append(f"<h4 style='margin:0.6em 0 0.2em'>{title}</h4>")
            parts.extend(example_html(example, card.max_activation or example.activation) for example in chosen)
    return "".join(parts) + "</div>"


def _figures(card: FeatureCard) -> str:
    count = "" if card.n_fires is None else f" ({card.n_fires:,})"
    known = (
        "" if card.density is None else f"fires on {card.density:.3%} of tokens{count}",
        "" if card.max_activation is None else f"max {card.max_activation:.3g}",
        "" if card.mean_activation is None else f"mean {card.mean_activation:.3g}",
    )
    return " · ".join(filter(None, known)) or "its figures are not known"


def rows_html(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """A table of rows; past the first 200 only their number."""
    rows = list(rows)
    head = "".join(f"<th style='text-align:left'>{_text(name)}</th>" for name in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:left'>{_text(_cell(row.get(name)))}</td>" for name in columns)
        + "</tr>"
        for row in rows[:_MAX_ROWS]
    )
    more = f"<p>… and {len(rows) - _MAX_ROWS:,} more</p>" if len(rows) > _MAX_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def example_html(example: ExampleRow, largest: float) -> str:
    """One context, its tokens shaded by their share of the largest activation."""
    spans = []
    for index, (token, activation) in enumerate(zip(example.tokens, example.activations, strict=False)):
        share = min(max(activation / largest, 0.0), 1.0) if largest > 0 else 0.0
        style = f"background:rgba(255,150,0,{0.15 + 0.85 * share:.2f});color:#000;" if share > 0 else ""
        weight = "font-weight:bold;" if index == example.peak else ""
        spans.append(f'<span title="{activation:.3g}" style="{style}{weight}">{_text(token)}</span>')
    return (
        "<div style='font-family:ui-monospace,monospace;white-space:pre-wrap;margin:0.2em 0'>"
        f"<small>{example.activation:.3g}</small> {''.join(spans)}</div>"
    )


def _histogram(card: FeatureCard) -> str:
    tallest = max((one.count for one in card.histogram), default=0)
    if not tallest:
        return ""
    bars = "".join(
        f'<span title="{one.low:.3g} to {one.high:.3g}: {one.count:,}" style="display:inline-block;width:0.6em;'
        f'margin-right:1px;background:#ff9600;height:{3 * one.count / tallest:.2f}em"></span>'
        for one in card.histogram
    )
    return f"<div style='height:3em'>{bars}</div>"


def _weights(title: str, weights: Sequence[TokenWeight]) -> str:
    if not weights:
        return ""
    shown = " ".join(f"<code>{_text(weight.token)}</code>&nbsp;{weight.value:+.2f}" for weight in weights)
    return f"<div>{title}: {shown}</div>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _text(text: str) -> str:
    return escape(visible(text), quote=True)
