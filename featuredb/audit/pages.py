"""An audit's report as one page: HTML that loads nothing, or Markdown. Words and layout alone, no figure of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from featuredb.audit.report import CheckLine, Report
from featuredb.notebook import example_html
from featuredb.records import ExampleRow, FindingCard
from featuredb.visible import visible

DOUBTS = {
    "mislabelled": "fit the feature no better than other features' labels do, and another label fits it better",
    "too-narrow": "tell only a part of what the feature fires on",
    "too-broad": "tell much that the feature does not fire on",
}

SURE = 0.001
"""Rates below it are not told apart: what they are worked out from cannot."""

SUPPORTED = "fit better than 19 of 20 random labels, and no check doubts them"
UNSUPPORTED = (
    "fit no better than random labels do, but nothing was found that fits better: neither right nor shown wrong"
)

LIMITS = (
    "A label is judged on the half of the documents that no labeler of this store has read; what makers of imported "
    "labels have read is not known.",
    "A label that no check doubts is not proven: the checks see what the label's words, its executable part and its "
    "meaning say of this text, and no more.",
    "Flags with a false discovery rate are meant to be wrong in one of twenty cases; those by definition (dead, dense, "
    "duplicate) have no such rate.",
    "Features that fired fewer than 200 times are not judged, and what a feature does on other text may differ.",
)

STYLE = """
:root{color-scheme:light dark;--ink:#1b1b1f;--faint:#6b6b76;--line:#d9d9e0;--good:#2d8a4e;--bad:#c2410c;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8ee;--faint:#a0a0ac;--line:#3a3a44;--good:#58c27d;--bad:#fb923c;
--paper:#17171c}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2.2rem}h3{font-size:1rem;margin:1.6rem 0 .2rem}
.faint{color:var(--faint)}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}.bar{display:flex;height:1.1rem;border-radius:3px;overflow:hidden;
margin:.6rem 0}.good{background:var(--good)}.bad{background:var(--bad)}.rest{background:var(--line)}
.deciles{display:flex;gap:.3rem;align-items:flex-end;height:8rem}.deciles div{flex:1;text-align:center;font-size:.8rem}
.deciles span{display:block;background:var(--good);border-radius:3px 3px 0 0}.check{color:var(--bad)}
.text{overflow-x:auto}
"""


def as_markdown(report: Report) -> str:
    """The page as Markdown."""
    return "\n".join(_markdown(report)) + "\n"


def as_html(report: Report) -> str:
    """The page as one HTML file, everything in it escaped and nothing loaded from elsewhere."""
    return "\n".join(_html(report)) + "\n"


def _headline(report: Report) -> str:
    if not report.n_judged:
        return f"No label of {report.dictionary} has been judged yet."
    said = f"{report.n_supported:,} of {report.n_judged:,} judged labels ({_part(report)}) are supported"
    if not report.by_decile:
        return f"{said}."
    (top, _), (bottom, _) = report.by_decile[0], report.by_decile[-1]
    return (
        f"{said}. Labels tell {top:.0%} of the strongest tenth of a feature's firings and {bottom:.0%} of the weakest."
    )


def _part(report: Report) -> str:
    """The share of labels that are supported, never rounded up."""
    return f"{math.floor(1000 * report.n_supported / report.n_judged) / 10:g}%"


def _kinds(report: Report) -> Iterator[tuple[str, int, str]]:
    """Each kind of label: name, number, what that means."""
    yield "supported", report.n_supported, SUPPORTED
    for name, n in report.doubts.items():
        yield name, n, DOUBTS[name]
    yield "unsupported", report.n_unsupported, UNSUPPORTED
    yield "no claim", report.n_unclaimed, "say themselves that no pattern is clear"


def _scope(report: Report) -> str:
    return (
        f"{report.n_features:,} features, of which {report.n_well_sampled:,} fire often enough to be judged and "
        f"{report.n_labeled:,} of those have a label; {report.n_tokens:,} tokens; {report.model}, {report.hook}; "
        f"{report.made_at}; featuredb {report.version}."
    )


def _flagged(line: CheckLine) -> str:
    found = ", ".join(f"{name} {n:,}" for name, n in sorted(line.findings.items()))
    return found if len(line.findings) > 1 else f"{sum(line.findings.values()):,}"


def _share(line: CheckLine) -> str:
    return f"{sum(line.findings.values()) / max(1, line.n_judged):.1%}"


def _markdown(report: Report) -> Iterator[str]:
    yield from (f"# Audit of {_md(report.dictionary)}", "", f"**{_headline(report)}**", "", _scope(report), "")
    yield from ("## Labels", "", "| | labels | |", "| --- | ---: | --- |")
    yield from (f"| {name} | {n:,} | {said} |" for name, n, said in _kinds(report))
    if report.by_decile:
        yield from ("", "## By strength of firing", "", _decile_words(), "")
        yield from ("| tenth | median share told | features |", "| ---: | ---: | ---: |")
        for place, (value, n) in enumerate(report.by_decile, start=1):
            yield f"| {place} | {value:.0%} | {n:,} |"
    yield from ("", "## By check", "", "| check | judged | flagged | share | what it looks for |")
    yield "| --- | ---: | ---: | ---: | --- |"
    for line in report.lines:
        yield f"| {line.name} | {line.n_judged:,} | {_flagged(line)} | {_share(line)} | {_md(line.meaning)} |"
    yield from ("", "## The worst", "")
    for card in report.worst:
        yield from _markdown_card(card)
    yield from ("## Method and limits", "", *(f"* {text}" for text in _limits(report)))


def _markdown_card(card: FindingCard) -> Iterator[str]:
    yield from (f"### {_md(card.feature)}: {card.check}", "", _md(_what(card)), "")
    facts = _facts(card.evidence or {})
    if facts:
        yield from (_md(facts), "")
    if card.examples:
        yield "```text"
        yield from (_marked(one) for one in card.examples)
        yield from ("```", "")


def _html(report: Report) -> Iterator[str]:
    title = f"Audit of {_t(report.dictionary)}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style>'
    yield f'<h1>{title}</h1><p class="faint">{_t(_scope(report))}</p><p><strong>{_t(_headline(report))}</strong></p>'
    total = max(1, report.n_judged)
    yield '<div class="bar" role="img" aria-label="share of judged labels that are supported">'
    yield f'<div class="good" style="width:{report.n_supported / total:.2%}"></div>'
    yield f'<div class="bad" style="width:{sum(report.doubts.values()) / total:.2%}"></div></div>'
    rows = [(name, f"{n:,}", said) for name, n, said in _kinds(report)]
    yield from _table(("", "labels", ""), rows, numeric=(1,))
    if report.by_decile:
        yield f"<h2>By strength of firing</h2><p>{_t(_decile_words())}</p>"
        yield from _deciles(report.by_decile)
    yield "<h2>By check</h2>"
    lines = [(line.name, f"{line.n_judged:,}", _flagged(line), _share(line), line.meaning) for line in report.lines]
    yield from _table(("check", "judged", "flagged", "share", "what it looks for"), lines, numeric=(1, 3))
    yield "<h2>The worst</h2>"
    for card in report.worst:
        yield from _html_card(card)
    yield "<h2>Method and limits</h2><ul>" + "".join(f"<li>{_t(text)}</li>" for text in _limits(report)) + "</ul>"
    yield "</html>"


def _html_card(card: FindingCard) -> Iterator[str]:
    yield f'<h3>{_t(card.feature)} <span class="check">{_t(card.check)}</span></h3><p>{_t(_what(card))}</p>'
    facts = _facts(card.evidence or {})
    if facts:
        yield f'<p class="faint">{_t(facts)}</p>'
    largest = max((one.activation for one in card.examples), default=0.0)
    if card.examples:
        yield '<div class="text">' + "".join(example_html(one, largest) for one in card.examples) + "</div>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int]) -> Iterator[str]:
    def cells(row: Sequence[str], tag: str) -> str:
        kinds = [' class="n"' if place in numeric else "" for place in range(len(row))]
        return "".join(f"<{tag}{kind}>{_t(text)}</{tag}>" for kind, text in zip(kinds, row, strict=True))

    yield f"<table><tr>{cells(heads, 'th')}</tr>"
    yield from (f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    yield "</table>"


def _deciles(deciles: Sequence[tuple[float, int]]) -> Iterator[str]:
    yield '<div class="deciles">'
    for place, (value, n) in enumerate(deciles, start=1):
        known = value == value  # not NaN
        yield (
            f'<div title="{n:,} features">{f"{value:.0%}" if known else "-"}'
            f'<span style="height:{6 * value if known else 0:.2f}rem"></span>{place}</div>'
        )
    yield "</div>"


def _decile_words() -> str:
    return (
        "The share of a feature's firings that its label tells, by tenths of their strength, from the strongest (1) to "
        "the weakest; the median over features. A label that is right at the top alone tells little of the feature."
    )


def _limits(report: Report) -> Iterator[str]:
    yield from LIMITS
    if report.n_dismissed:
        yield f"{report.n_dismissed:,} findings that a person dismissed are left out."


def _what(card: FindingCard) -> str:
    label = card.judged or card.label
    said = [f"Label: {label!r}." if label else "No label.", f"Score {card.score:.2f}."]
    if card.q is not None:
        said.append(f"False discovery rate {f'{card.q:.2g}' if card.q >= SURE else f'below {SURE:g}'}.")
    return " ".join([*said, card.suggestion or ""]).strip()


def _facts(evidence: Mapping[str, Any]) -> str:
    """The evidence's plain numbers, in a line."""
    facts = [
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in evidence.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    ]
    if others := evidence.get("others"):
        facts.append("with " + ", ".join(str(other) for other in others[:5]))
    return " · ".join(facts)


def _marked(example: ExampleRow) -> str:
    """A context in a line, its peak between marks."""
    low, high = max(0, example.peak - 12), example.peak + 8
    tokens = [
        f"«{visible(token)}»" if place == example.peak else visible(token)
        for place, token in enumerate(example.tokens)
        if low <= place < high
    ]
    return "".join(tokens).replace("```", "'''")


def _md(text: str) -> str:
    shown = visible(text)
    for sign in "\\`*_[]|":
        shown = shown.replace(sign, f"\\{sign}")
    return escape(shown, quote=False)


def _t(text: str) -> str:
    return escape(visible(text), quote=True)
