"""`featuredb rm`: take something out of a store."""

from __future__ import annotations

import sys

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_rows


@click.group()
def rm() -> None:
    """Take something out of a store."""


@rm.command("dictionary", epilog=example("featuredb rm dictionary demo --yes"))
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@common()
@pass_settings
def rm_dictionary(settings: Settings, name: str, yes: bool) -> None:
    """Remove a dictionary with its segments and labels, and leave nothing behind."""
    with open_store(settings) as db:
        if not yes and not settings.json and sys.stdin.isatty():
            click.confirm(f"remove {name!r} with its labels from {settings.db}?", abort=True, err=True)
        db.remove_dictionary(name)
    show_rows(settings, [{"removed": name}])
