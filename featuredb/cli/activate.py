"""`featuredb activate`: the features that a text fires."""

from __future__ import annotations

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_fired


@click.command(epilog=example("featuredb activate 'raise ValueError(name)' --dictionary demo"))
@click.argument("text")
@click.option("--dictionary", "dictionaries", metavar="NAME", multiple=True, help="Only these; repeat.  [default: all]")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="Features to show.")
@common()
@pass_settings
def activate(settings: Settings, text: str, dictionaries: tuple[str, ...], limit: int) -> None:
    """Run a text and list the features that fire on it."""
    with open_store(settings) as db:
        show_fired(settings, db.activate(text, dictionaries=dictionaries or None, limit=limit))
