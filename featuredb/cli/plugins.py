"""`featuredb plugins`: what is installed beside the engine, and what of it does not work."""

from __future__ import annotations

import click

from featuredb.cli.common import Settings, common, example, pass_settings
from featuredb.cli.output import show_rows


@click.command(epilog=example("featuredb plugins --json"))
@common(db=False)
@pass_settings
def plugins(settings: Settings) -> None:
    """List the plugins that are installed, and why one does not work."""
    from featuredb.plugins import KINDS, Registry

    registry = Registry.installed()
    rows = [
        {"kind": kind, "plugin": plugin.name, "state": "works", "about": _first_line(plugin)}
        for kind in KINDS
        for plugin in registry.working(kind)
    ]
    rows += [
        {"kind": broken.kind, "plugin": broken.name, "state": "broken", "about": broken.reason}
        for broken in registry.broken()
    ]
    show_rows(settings, rows, nothing="no plugins")


def _first_line(plugin: object) -> str:
    lines = (type(plugin).__doc__ or "").strip().splitlines()
    return lines[0].replace("`", "") if lines else ""
