"""`featuredb ls`: what a store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_rows

if TYPE_CHECKING:
    from featuredb.database import Kind

COLUMNS = {
    "models": ("model", "architecture", "n_layers", "d_model", "source"),
    "dictionaries": ("dictionary", "model", "hook", "n_features", "kind", "runs", "n_tokens"),
    "corpora": ("corpus", "plugin", "runs", "spec"),
    "runs": ("run", "model", "corpus", "dictionaries", "n_tokens", "packing"),
}
"""What people see; --json has every field."""


@click.command(epilog=example("featuredb ls dictionaries"))
@click.argument("kind", type=click.Choice(list(COLUMNS)))
@common()
@pass_settings
def ls(settings: Settings, kind: Kind) -> None:
    """List the store's models, dictionaries, corpora or runs."""
    with open_store(settings) as db:
        show_rows(settings, db.ls(kind), columns=COLUMNS[kind], nothing=f"no {kind} in {settings.db}")
