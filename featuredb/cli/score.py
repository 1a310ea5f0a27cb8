"""`featuredb score`: how well labels fit what their features do, on documents that no labeler has read."""

from __future__ import annotations

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.label import name_values
from featuredb.cli.output import show_rows
from featuredb.cli.progress import progress


@click.command(epilog=example("featuredb score demo", "featuredb score demo --scorer embedding --feature demo/12"))
@click.argument("dictionary")
@click.option(
    "--scorer",
    "scorers",
    metavar="NAME",
    multiple=True,
    help="How; repeat.  [default: those that ask no language model]",
)
@click.option("--feature", "features", metavar="FEATURE", multiple=True, help="Only these; repeat.  [default: all]")
@click.option("--all-labels", is_flag=True, help="Every label of a feature, not the shown one alone.")
@click.option("--option", "options", metavar="NAME=VALUE", multiple=True, help="An option of the scorer; repeat.")
@click.option("--embedder", metavar="SPEC", help="PLUGIN or PLUGIN:SOURCE, for scorers by meaning.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Chooses texts and baselines.")
@click.option("--again", is_flag=True, help="Also labels that have such a score already.")
@common(quiet=True)
@pass_settings
def score(
    settings: Settings,
    dictionary: str,
    scorers: tuple[str, ...],
    features: tuple[str, ...],
    all_labels: bool,
    options: tuple[str, ...],
    embedder: str | None,
    seed: int,
    again: bool,
) -> None:
    """Score labels on the half of the documents that no labeler has read."""
    with open_store(settings) as db, progress(settings) as report:
        rows = db.score(
            dictionary,
            scorers=scorers or None,
            features=features or None,
            all_labels=all_labels,
            options=name_values(options),
            embedder=embedder,
            seed=seed,
            again=again,
            progress=report,
        )
        show_rows(settings, rows)
