"""`featuredb correlate`: the features that go with a concept or a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import note, show_rows, terminal_width
from featuredb.cli.progress import progress
from featuredb.cli.tables import head, size

if TYPE_CHECKING:
    from featuredb.records import CorrelatedFeature, OfFeature
    from featuredb.search.correlate import Measure

MEASURES = ("correlation", "cosine", "encoder", "auroc")
NOTHING = "no feature to rank"
NARROWEST_LABEL = 10


@click.command(
    epilog=example(
        "featuredb correlate allcaps --layer 18",
        "featuredb correlate direction.npy --hook layers.18.resid_post --by cosine --limit 5",
    )
)
@click.argument("what", metavar="CONCEPT|FILE")
@click.option("--layer", "layers", type=click.IntRange(0), metavar="N", multiple=True, help="Only at these; repeat.")
@click.option("--hook", metavar="HOOK", help="Of several vectors, the one there; or where a file's one belongs.")
@click.option("--dictionary", "dictionaries", metavar="NAME", multiple=True, help="Only these; repeat.  [default: all]")
@click.option(
    "--by",
    type=click.Choice(MEASURES),
    help="What to sort by.  [default: correlation, or cosine where a run has kept no moments]",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="Features to show.")
@click.option("--all", "every", is_flag=True, help="Rank dead and under-sampled features too.")
@common(quiet=True)
@pass_settings
def correlate(
    settings: Settings,
    what: str,
    layers: tuple[int, ...],
    hook: str | None,
    dictionaries: tuple[str, ...],
    by: Measure | None,
    limit: int,
    every: bool,
) -> None:
    """List the features that go with a concept or a vector.

    corr is the correlation of a feature's activation with the vector's read-out over every token of the run, and share
    how much that is of the largest that any read-out has with the feature, which is what is sorted by; cosine is that
    of its decoder with the vector; auroc, of a concept, how well it tells the texts apart, with its 95% interval. By
    auroc, features are weighed by the surprise that they fire at all.
    """
    with open_store(settings) as db, progress(settings) as report:
        settings.resumable = False
        found = db.correlate(
            what,
            by=by,
            dictionaries=dictionaries or None,
            layers=layers or None,
            hook=hook,
            limit=limit,
            all_features=every,
            say=lambda text: note(settings, text),
            progress=report,
        )
    if settings.json:
        show_rows(settings, found)
        return
    columns: dict[str, list[str]] = {}
    if found and (by or _sorted_by(found[0])) == "correlation":
        columns["share"] = [_figure(row.score) for row in found]
    columns["corr"] = [_figure(row.correlation) for row in found]
    columns["cosine"] = [_figure(row.cosine_decoder) for row in found]
    if by == "encoder" or all(row.cosine_decoder is None for row in found):
        columns["encoder"] = [_figure(row.cosine_encoder) for row in found]
    if any(row.auroc is not None for row in found):
        columns["auroc"] = [_auroc(row) for row in found]
    show_figures(settings, found, columns, NOTHING)
    if found:
        note(settings, _chance(found, by))


def show_figures(settings: Settings, found: Sequence[OfFeature], columns: dict[str, list[str]], nothing: str) -> None:
    """Features with some figures of each: its name, as much of its label as there is room for, figures, flags."""
    flags = [", ".join(row.flags) for row in found]
    behind = {**columns, "flags": flags} if any(flags) else columns
    feature = [row.feature for row in found]
    width = terminal_width()
    room = None
    if width is not None:
        taken = [max(map(size, (name, *cells))) for name, cells in {"feature": feature, **behind}.items()]
        room = max(NARROWEST_LABEL, width - sum(taken) - 2 * len(taken) - 2)
    labels = ["-" if row.label is None else row.label for row in found]
    shown = {"feature": feature, "label": [text if room is None else head(text, room) for text in labels], **behind}
    for name in columns:  # figures stand under the end of their heading, as numbers do
        most = max(map(size, (name, *columns[name])))
        shown[name] = [text.rjust(most) for text in columns[name]]
    rows = [dict(zip(shown, cells, strict=True)) for cells in zip(*shown.values(), strict=True)]
    show_rows(settings, rows, columns=tuple(shown), nothing=nothing)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _auroc(row: CorrelatedFeature) -> str:
    if row.auroc is None or row.auroc_low is None or row.auroc_high is None:
        return "-"
    return f"{row.auroc:.2f} [{row.auroc_low:.2f}, {row.auroc_high:.2f}]"


def _chance(found: Sequence[CorrelatedFeature], by: str | None) -> str:
    """How high the best feature's figure is by chance, in a sentence."""
    baselines = {row.dictionary: row.baseline for row in found if row.baseline is not None}
    if not baselines:
        return "there is no baseline: no feature here has fired often enough"
    draws = "random deals of the texts' sides" if by == "auroc" else "random directions"
    figure = {"auroc": "AUROC", "encoder": "encoder cosine"}.get(by or _sorted_by(found[0]), by or _sorted_by(found[0]))
    each = [f"{value:.2f} in {name}" for name, value in list(baselines.items())[:3]]
    told = f"{next(iter(baselines.values())):.2f}" if len(baselines) == 1 else ", ".join(each)
    more = ", ..." if len(baselines) > 3 else ""
    return f"for 95 of 100 {draws} no feature's {figure} is above {told}{more}"


def _sorted_by(row: CorrelatedFeature) -> str:
    """What an answer is sorted by for which nothing was asked."""
    if row.score == row.cosine_decoder:
        return "cosine"
    return "encoder" if row.score == row.cosine_encoder else "correlation"
