"""`featuredb search`: features found by text, in their labels and in their examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import note, show_rows
from featuredb.cli.progress import progress
from featuredb.cli.words import with_flags

if TYPE_CHECKING:
    from featuredb.records import FoundFeature

WAYS = ("label", "meaning", "example")
FLAGS = ("dead", "under-sampled", "dense")
SHARE = click.FloatRange(0, 1)


@click.command(
    epilog=example(
        "featuredb search 'capital letters'",
        "featuredb search '\"raise ValueError\" OR assert* -test' --in example --limit 5",
        "featuredb search '[A-Z]{4,}' --regex --max-density 0.01",
        "featuredb search --flag dense --unlabelled",
    )
)
@click.argument("query", required=False, default="")
@click.option("--in", "ways", type=click.Choice(WAYS), multiple=True, help="Where to look; repeat.  [default: all]")
@click.option("--regex", is_flag=True, help="QUERY is a regular expression, looked for in examples.")
@click.option("--dictionary", "dictionaries", metavar="NAME", multiple=True, help="Only these; repeat.  [default: all]")
@click.option("--layer", "layers", type=click.IntRange(0), metavar="N", multiple=True, help="Only at these; repeat.")
@click.option("--min-density", type=SHARE, metavar="X", default=0.0, help="Firing on this share of tokens or more.")
@click.option("--max-density", type=SHARE, metavar="X", default=1.0, help="Firing on this share of tokens or less.")
@click.option("--flag", "flags", type=click.Choice(FLAGS), multiple=True, help="Only features so flagged; repeat.")
@click.option("--no-flag", "without", type=click.Choice(FLAGS), multiple=True, help="None so flagged; repeat.")
@click.option("--labelled/--unlabelled", default=None, help="Only features with a label, or without one.")
@click.option("--min-score", type=float, metavar="X", help="Only features whose label has this score or more.")
@click.option("--embedder", metavar="NAME[:SOURCE]", help="What compares meanings.  [default: sentence-transformers]")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="Features to show.")
@click.option("--all", "every", is_flag=True, help="Dead and under-sampled features as well.")
@common(quiet=True)
@pass_settings
def search(
    settings: Settings,
    query: str,
    ways: tuple[str, ...],
    regex: bool,
    dictionaries: tuple[str, ...],
    layers: tuple[int, ...],
    min_density: float,
    max_density: float,
    flags: tuple[str, ...],
    without: tuple[str, ...],
    labelled: bool | None,
    min_score: float | None,
    embedder: str | None,
    limit: int,
    every: bool,
) -> None:
    """Find features by what their labels or examples say, or by figures.

    QUERY is words, "phrases in quotes", prefix*, -excluded, and OR between alternatives.
    """
    with open_store(settings) as db, progress(settings) as report:
        found = db.search(
            query,
            dictionaries or None,
            limit,
            ways or None,
            layers or None,
            every,
            density=(min_density, max_density),
            flags=flags,
            without=without,
            labelled=labelled,
            min_score=min_score,
            regex=regex,
            embedder=embedder,
            progress=report,
            say=lambda text: note(settings, text),
        )
    if settings.json:
        show_rows(settings, found)
    else:
        rows = [_listed(one) if not one.matched else _found(one) for one in found]
        show_rows(settings, rows, columns=_columns(rows), nothing="no feature was found")


def _listed(one: FoundFeature) -> dict[str, Any]:
    return {"feature": one.feature, "density": one.density, "label": with_flags(one)}


def _found(one: FoundFeature) -> dict[str, Any]:
    """A feature as a line says it: how it was found, and beside its label what matched, where that is another text."""
    said = {"label": "label", "meaning": "meaning", "example": "example"}
    if one.similarity is not None:
        said["meaning"] += f" {one.similarity:.2f}"
    if one.n_matching is not None:
        said["example"] += f" {one.n_matching}/{one.n_examples}"
    text = None if one.text == one.label else " ".join(one.text.split())
    matched = ", ".join(said[way] for way in one.matched)
    return {"feature": one.feature, "matched": matched, "label": with_flags(one), "text": text}


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns in which any row has something to say."""
    names = list(rows[0]) if rows else []
    return [name for name in names if any(row[name] not in (None, "-") for row in rows)]
