"""`featuredb demo`: the whole thing at once, on a model that is shipped with featuredb."""

from __future__ import annotations

from pathlib import Path

import click

from featuredb.cli.common import Settings, common, example, pass_settings
from featuredb.cli.output import show_tour
from featuredb.cli.progress import progress

DEMO_STORE = "demo.fdb"


@click.command(epilog=example("featuredb demo", "featuredb demo --train --db trained.fdb"))
@click.option("--db", metavar="STORE", default=DEMO_STORE, show_default=True, help="The store to make; never your own.")
@click.option("--train", is_flag=True, help="Train the dictionary anew first, instead of taking the one shipped.")
@common(db=False, quiet=True)
@pass_settings
def demo(settings: Settings, db: str, train: bool) -> None:
    """Run the shipped model over Python's documentation and look around."""
    from featuredb.demo import run_demo

    with progress(settings) as report:
        tour = run_demo(Path(db), train=train, progress=report)
    show_tour(settings, tour, db)
