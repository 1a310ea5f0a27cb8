"""`featuredb similar`: the features nearest another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.correlate import show_figures
from featuredb.cli.output import note, show_rows
from featuredb.cli.progress import progress

if TYPE_CHECKING:
    from featuredb.search.similar import Nearness

NEARNESSES = ("decoder", "encoder", "cofiring")


@click.command(
    epilog=example("featuredb similar demo/12", "featuredb similar gpt2-8-res-jb/1234 --by cofiring --everywhere")
)
@click.argument("feature")
@click.option(
    "--by",
    type=click.Choice(NEARNESSES),
    default="decoder",
    show_default=True,
    help="Cosine of decoders or of encoders, or tokens of the panel on which both fire.",
)
@click.option(
    "--dictionary", "dictionaries", metavar="NAME", multiple=True, help="Look in these; repeat.  [default: its own]"
)
@click.option("--everywhere", is_flag=True, help="Look in every dictionary that can be compared.")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="Features to show.")
@click.option("--all", "every", is_flag=True, help="Rank dead and under-sampled features too.")
@common(quiet=True)
@pass_settings
def similar(
    settings: Settings,
    feature: str,
    by: Nearness,
    dictionaries: tuple[str, ...],
    everywhere: bool,
    limit: int,
    every: bool,
) -> None:
    """List the features nearest another, by direction or by firing together.

    jaccard is the share of the panel's tokens on which either fires that both fire on; correlation is that of their
    activations there.
    """
    if dictionaries and everywhere:
        raise click.UsageError("--dictionary and --everywhere cannot both be given")
    with open_store(settings) as db, progress(settings) as report:
        settings.resumable = False
        found = db.similar(
            feature,
            by=by,
            dictionaries=dictionaries or None,
            everywhere=everywhere,
            limit=limit,
            all_features=every,
            say=lambda text: note(settings, text),
            progress=report,
        )
    if settings.json:
        show_rows(settings, found)
        return
    columns = {
        "decoder": [_figure(row.cosine_decoder) for row in found],
        "encoder": [_figure(row.cosine_encoder) for row in found],
        "jaccard": [_figure(row.jaccard) for row in found],
        "correlation": [_figure(row.correlation) for row in found],
    }
    show_figures(settings, found, columns, "no feature to rank")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
