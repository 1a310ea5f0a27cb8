"""`featuredb show`: features, each on a card."""

from __future__ import annotations

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_cards


@click.command(epilog=example("featuredb show demo/12"))
@click.argument("features", metavar="FEATURE...", nargs=-1, required=True)
@click.option(
    "--examples", "n_examples", type=click.IntRange(0), metavar="N", default=10, show_default=True, help="Of each kind."
)
@common()
@pass_settings
def show(settings: Settings, features: tuple[str, ...], n_examples: int) -> None:
    """Show what a feature does: figures, output tokens, examples."""
    with open_store(settings) as db:
        show_cards(settings, [db.feature(feature, n_examples=n_examples) for feature in features])
