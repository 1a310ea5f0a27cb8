"""`featuredb label`: labels written and read by hand."""

from __future__ import annotations

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_rows

COLUMNS = ("feature", "text", "labeler", "status", "author")


@click.group()
def label() -> None:
    """Label features by hand, and read labels."""


@label.command("add", epilog=example("featuredb label add demo/12 'names in capitals' --author ada"))
@click.argument("feature")
@click.argument("text")
@click.option("--author", envvar="FEATUREDB_AUTHOR", show_envvar=True, help="Who says so.")
@click.option("--note", help="Why, for those who come after.")
@common()
@pass_settings
def label_add(settings: Settings, feature: str, text: str, author: str | None, note: str | None) -> None:
    """Give a feature a label."""
    with open_store(settings) as db:
        show_rows(settings, [db.add_label(feature, text, author=author, note=note)], columns=COLUMNS)


@label.command("ls", epilog=example("featuredb label ls demo/12"))
@click.argument("feature", required=False)
@common()
@pass_settings
def label_ls(settings: Settings, feature: str | None) -> None:
    """List labels, of one feature or of all."""
    with open_store(settings) as db:
        show_rows(settings, db.labels(feature), columns=COLUMNS, nothing="no labels")
