"""What audits found of a dictionary, gathered for one page: how many labels to trust, by check, the worst, and limits.

Rule: figures and text only; `featuredb.audit.pages` writes them as HTML or Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sqlalchemy import select

from featuredb.audit.answers import Wanted, read_findings
from featuredb.audit.checks import descriptions, explained
from featuredb.audit.explain import explain
from featuredb.audit.gather import labels_to_judge
from featuredb.errors import BadInput, NotFound
from featuredb.plugins import bare
from featuredb.predicates.wording import UNCLEAR
from featuredb.records import FindingCard, FindingRow
from featuredb.search.scope import well_sampled
from featuredb.store.catalog import DictionaryRow
from featuredb.store.refs import get_dictionary
from featuredb.store.segments import SegmentReader, SegmentRef
from featuredb.store.store import Store

ENDINGS = {".html": "html", ".htm": "html", ".md": "markdown"}

N_WORST = 12
"""Features shown with all their evidence."""

CHANCE = 0.05
"""Share of random labels that fit as well as one that is not supported."""

OF_LABELS = ("mislabelled", "too-narrow", "too-broad")
"""Findings that are about how far a label can be believed, the worst first."""


@dataclass(frozen=True)
class CheckLine:
    """What one check made of the dictionary."""

    name: str
    n_judged: int
    findings: dict[str, int]
    """Features flagged, by name of the finding."""
    describes: bool
    meaning: str


@dataclass(frozen=True)
class Report:
    """One dictionary's audit."""

    dictionary: str
    model: str
    hook: str
    n_tokens: int
    n_features: int
    n_well_sampled: int
    n_labeled: int
    """Well-sampled features with a label."""
    n_judged: int
    """Those whose label was judged."""
    doubts: dict[str, int]
    """Judged labels with a finding of OF_LABELS; each counted once, under the first of these names."""
    n_unsupported: int
    """Judged labels without such a finding that fit no better than random ones do: neither right nor shown wrong."""
    n_unclaimed: int
    """Judged labels without a finding that say themselves that no pattern is clear."""
    by_decile: tuple[tuple[float, int], ...]
    """For each tenth of the firings, the strongest first: the median share of them that labels tell, and of how many
    features. Empty where no check says."""
    lines: tuple[CheckLine, ...]
    worst: tuple[FindingCard, ...]
    n_dismissed: int
    made_at: str
    version: str

    @property
    def n_supported(self) -> int:
        """Judged labels that fit better than random ones do, and of which no check found a better."""
        return self.n_judged - sum(self.doubts.values()) - self.n_unsupported - self.n_unclaimed


def write_report(store: Store, reader: SegmentReader, dictionary: str, path: Path, *, force: bool = False) -> Path:
    """Writes the page; its path. Raises BadInput for an ending or a file that cannot be written, NotFound where no
    audit has run."""
    from featuredb.audit.pages import as_html, as_markdown
    from featuredb.store.files import write_out

    form = ENDINGS.get(path.suffix.lower())
    if form is None:
        raise BadInput(f"{path} ends in {path.suffix!r}", hint=f"name it {path.stem}.html or {path.stem}.md")
    report = read_report(store, reader, dictionary)
    page = as_html(report) if form == "html" else as_markdown(report)
    write_out(path, lambda unfinished: _write(unfinished, page), force=force)
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def read_report(store: Store, reader: SegmentReader, dictionary: str) -> Report:
    """What audits found of a dictionary so far. Raises NotFound where none has run."""
    with store.reading() as session:
        row = get_dictionary(session, dictionary)
        segment = SegmentRef.newest(session, row)
        number = session.scalar(select(DictionaryRow.id).where(DictionaryRow.name == dictionary))
        model, hook, n_features = row.model.name, row.hook, row.n_features
    assert number is not None
    found = read_findings(store, dictionary, Wanted(every=True))
    if not found:
        raise NotFound(f"no audit of {dictionary!r} is in the store", hint=f"featuredb audit --dictionary {dictionary}")
    sampled = well_sampled(reader.figures(segment))
    labeled = [index for index in labels_to_judge(store, number, None) if sampled[index]]
    standing = [one for one in found if one.verdict != "dismissed"]
    judged = [one for one in found if one.judged is not None and one.check in OF_LABELS]
    doubted = {one.index for one in standing if one.flagged and one.check in OF_LABELS}
    unclaimed = {one.index for one in judged if (one.judged or "").startswith(UNCLEAR)} - doubted
    unsupported = {one.index for one in judged if not _supported(one)} - doubted - unclaimed
    return Report(
        dictionary=dictionary,
        model=model,
        hook=hook,
        n_tokens=segment.n_tokens,
        n_features=n_features,
        n_well_sampled=int(np.count_nonzero(sampled)),
        n_labeled=len(labeled),
        n_judged=len(judged),
        doubts=_doubts(standing),
        n_unsupported=len(unsupported),
        n_unclaimed=len(unclaimed),
        by_decile=_deciles(found),
        lines=_lines(found, standing),
        worst=_worst(store, reader, standing),
        n_dismissed=len(found) - len(standing),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version("featuredb"),
    )


def _supported(one: FindingRow) -> bool:
    """Whether fewer than one in twenty random labels fit as well, as far as the check says."""
    p = (one.evidence or {}).get("p_random")
    return p is None or p <= CHANCE


def _doubts(found: Sequence[FindingRow]) -> dict[str, int]:
    counted: set[int] = set()
    doubts = {}
    for name in OF_LABELS:
        mine = {one.index for one in found if one.flagged and one.check == name} - counted
        doubts[name] = len(mine)
        counted |= mine
    return doubts


def _deciles(found: Sequence[FindingRow]) -> tuple[tuple[float, int], ...]:
    rows = [one.evidence["by_decile"] for one in found if one.evidence and one.evidence.get("by_decile")]
    width = max((len(row) for row in rows), default=0)
    deciles = []
    for place in range(width):
        values = [row[place] for row in rows if len(row) == width and row[place] is not None]
        deciles.append((float(np.median(values)) if values else float("nan"), len(values)))
    return tuple(deciles)


def _lines(found: Sequence[FindingRow], standing: Sequence[FindingRow]) -> tuple[CheckLine, ...]:
    described = descriptions()
    lines = []
    for plugin in sorted({one.plugin for one in found if one.plugin}):
        flagged: dict[str, int] = {}
        for one in standing:
            if one.plugin == plugin and one.flagged:
                flagged[one.check] = flagged.get(one.check, 0) + 1
        mine = [one for one in found if one.plugin == plugin]
        describes = mine[0].check in described
        lines.append(CheckLine(bare(plugin), len(mine), flagged, describes, explained(plugin)))
    return tuple(sorted(lines, key=lambda line: (line.describes, line.name)))


def _worst(store: Store, reader: SegmentReader, found: Sequence[FindingRow]) -> tuple[FindingCard, ...]:
    """The first finding of each of the worst features, whole."""
    described = descriptions()
    cards: dict[int, FindingCard] = {}
    for one in found:
        if len(cards) == N_WORST or not one.flagged or one.check in described:
            break
        if one.index not in cards:
            said = [card for card in explain(store, reader, one.feature) if card.check == one.check]
            cards[one.index] = said[0]
    return tuple(cards.values())
