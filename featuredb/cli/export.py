"""`featuredb export`: features and labels in other publishers' formats."""

from __future__ import annotations

from pathlib import Path

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_rows
from featuredb.cli.progress import progress

FORMATS = ("neuronpedia", "delphi", "saedashboard", "circuit-tracer", "csv", "jsonl", "parquet")


@click.group()
def export() -> None:
    """Write labels and features in other formats."""


@export.command(
    "labels",
    epilog=example(
        "featuredb export labels demo --format csv --out demo-labels",
        "featuredb export labels demo --format neuronpedia --out demo-neuronpedia",
    ),
)
@click.argument("dictionary")
@click.option("--format", "exporter", metavar="NAME", required=True, help=f"{', '.join(FORMATS)}, or a plugin's.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write; a new one.")
@click.option(
    "--examples", "n_examples", type=click.IntRange(0), metavar="N", default=24, show_default=True, help="Of each kind."
)
@click.option("--labels-only", is_flag=True, help="Neither figures nor examples.")
@click.option("--force", is_flag=True, help="Replace what an earlier export wrote there.")
@common(quiet=True)
@pass_settings
def export_labels(
    settings: Settings, dictionary: str, exporter: str, out: Path, n_examples: int, labels_only: bool, force: bool
) -> None:
    """Write a dictionary's labels, with its features where the format has room for them."""
    with open_store(settings) as db, progress(settings) as report:
        settings.resumable = False
        done = db.export_labels(
            dictionary, exporter, out, n_examples=n_examples, labels_only=labels_only, force=force, progress=report
        )
    show_rows(settings, [done])
