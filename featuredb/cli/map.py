"""`featuredb map`: a dictionary's features laid out in two dimensions."""

from __future__ import annotations

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import note, show_rows
from featuredb.cli.progress import progress

COLUMNS = ("feature", "x", "y", "density", "label", "flags")


@click.command("map", epilog=example("featuredb map demo --plot map.png", "featuredb map demo --neighbors 50 --json"))
@click.argument("dictionary")
@click.option("--plot", metavar="FILE", help="Draw it too: a .png or .svg.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Another seed lays it out otherwise.")
@click.option(
    "--neighbors",
    type=click.IntRange(2, 1000),
    metavar="N",
    default=15,
    show_default=True,
    help="How many nearest features each is held close to.",
)
@click.option("--all", "all_features", is_flag=True, help="Also features that never fire.")
@click.option("--force", is_flag=True, help="Lay it out again, even where the store has it.")
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="N",
    default=20,
    show_default=True,
    help="Lines of the table; --json has every feature.",
)
@common(quiet=True)
@pass_settings
def map_(
    settings: Settings,
    dictionary: str,
    plot: str | None,
    seed: int,
    neighbors: int,
    all_features: bool,
    force: bool,
    limit: int,
) -> None:
    """Lay out a dictionary's features in the plane, alike beside alike."""
    with open_store(settings) as db, progress(settings) as report:
        settings.resumable = False
        points = db.map(
            dictionary,
            seed=seed,
            neighbors=neighbors,
            all_features=all_features,
            force=force,
            plot=plot,
            progress=report,
        )
    if settings.json:
        show_rows(settings, points)
        return
    if limit:
        show_rows(settings, points[:limit], columns=COLUMNS)
    if len(points) > limit:
        note(settings, f"{len(points) - limit:,} features more; --json or --limit {len(points)} shows them")
    if plot is not None:
        note(settings, f"drawn to {plot}")
