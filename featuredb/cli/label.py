"""`featuredb label`: labels made by labelers or by hand, and what is known of them."""

from __future__ import annotations

from typing import Any

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import show_labels, show_rows
from featuredb.cli.progress import progress

COLUMNS = ("feature", "id", "text", "labeler", "status", "author")


@click.group()
def label() -> None:
    """Label features by labelers or by hand, and read labels."""


@label.command(
    "make",
    epilog=example(
        "featuredb label make demo",
        "featuredb label make demo --labeler openai --option model=gpt-5-mini --feature demo/12 --dry-run",
    ),
)
@click.argument("dictionary")
@click.option("--labeler", "labelers", metavar="NAME", multiple=True, help="Who labels; repeat.  [default: plain]")
@click.option("--feature", "features", metavar="FEATURE", multiple=True, help="Only these; repeat.  [default: all]")
@click.option("--option", "options", metavar="NAME=VALUE", multiple=True, help="An option of the labeler; repeat.")
@click.option("--embedder", metavar="SPEC", help="PLUGIN or PLUGIN:SOURCE, for labelers that need one.")
@click.option("--seed", type=int, metavar="N", default=0, show_default=True)
@click.option("--again", is_flag=True, help="Also features that have such a label already.")
@click.option("--dry-run", is_flag=True, help="Say what it would ask for and cost, and do nothing.")
@common(quiet=True)
@pass_settings
def label_make(
    settings: Settings,
    dictionary: str,
    labelers: tuple[str, ...],
    features: tuple[str, ...],
    options: tuple[str, ...],
    embedder: str | None,
    seed: int,
    again: bool,
    dry_run: bool,
) -> None:
    """Have labelers label a dictionary's features, from one half of the documents."""
    with open_store(settings) as db, progress(settings) as report:
        how: dict[str, Any] = {
            "labelers": labelers or None,
            "features": features or None,
            "options": name_values(options),
            "embedder": embedder,
            "seed": seed,
            "again": again,
        }
        found = db.estimate_labels(dictionary, **how) if dry_run else db.label(dictionary, progress=report, **how)
        show_rows(settings, found)


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


@label.command("verify", epilog=example("featuredb label verify demo/12 --author ada"))
@click.argument("feature")
@click.option("--id", "label_id", type=int, metavar="N", help="Which of its labels.  [default: the shown one]")
@click.option("--author", envvar="FEATUREDB_AUTHOR", show_envvar=True, help="Who says so.")
@click.option("--note", help="Why, for those who come after.")
@common()
@pass_settings
def label_verify(settings: Settings, feature: str, label_id: int | None, author: str | None, note: str | None) -> None:
    """Stand behind a label; it is the one shown from now on."""
    with open_store(settings) as db:
        show_rows(settings, [db.verify_label(feature, label_id=label_id, author=author, note=note)], columns=COLUMNS)


@label.command("rm", epilog=example("featuredb label rm demo/12 --id 7"))
@click.argument("feature")
@click.option("--id", "label_id", type=int, metavar="N", help="Which of its labels.")
@click.option("--all", "every", is_flag=True, help="Every label of the feature.")
@common()
@pass_settings
def label_rm(settings: Settings, feature: str, label_id: int | None, every: bool) -> None:
    """Take a label away, with its scores."""
    with open_store(settings) as db:
        show_rows(settings, db.remove_labels(feature, label_id=label_id, every=every), columns=COLUMNS)


@label.command("ls", epilog=example("featuredb label ls demo/12"))
@click.argument("feature", required=False)
@common()
@pass_settings
def label_ls(settings: Settings, feature: str | None) -> None:
    """List labels with their scores, of one feature or of all."""
    with open_store(settings) as db:
        show_labels(settings, db.labels(feature))


def name_values(options: tuple[str, ...]) -> dict[str, str]:
    """NAME=VALUE words as a dictionary. Raises BadInput."""
    from featuredb.errors import BadInput

    found = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"{option!r} is no NAME=VALUE", hint="write --option model=NAME")
        found[name.strip()] = value
    return found
