"""`featuredb activate`: the features that texts fire."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featuredb.cli.common import Settings, common, example, open_store, pass_settings
from featuredb.cli.output import note, show_fired, show_tokens
from featuredb.errors import BadInput, NotFound

if TYPE_CHECKING:
    from featuredb.search.fired import By

MEASURES = ("max", "mean", "last")


@click.command(
    epilog=example(
        "featuredb activate 'raise ValueError(name)' --dictionary demo",
        "featuredb activate 'IT IS LATE' --contrast 'It is late' --limit 5",
        "featuredb activate --file notes.txt --tokens",
    )
)
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("--file", "files", metavar="FILE", multiple=True, help="A file that is a text; - is stdin; repeat.")
@click.option("--lines", is_flag=True, help="Each line of a file is a text of its own.")
@click.option("--contrast", metavar="TEXT", multiple=True, help="Rank by how much more fires than on these; repeat.")
@click.option(
    "--by",
    type=click.Choice(MEASURES),
    default="max",
    show_default=True,
    help="What counts of a feature: its largest activation, its mean, or that at the last token.",
)
@click.option("--dictionary", "dictionaries", metavar="NAME", multiple=True, help="Only these; repeat.  [default: all]")
@click.option("--layer", "layers", type=click.IntRange(0), metavar="N", multiple=True, help="Only at these; repeat.")
@click.option("--feature", "features", metavar="FEATURE", multiple=True, help="Only these features; repeat.")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="Features to show.")
@click.option("--all", "every", is_flag=True, help="Every feature that fires, however many.")
@click.option("--tokens", is_flag=True, help="Token by token; with --json the rows stay as they are.")
@common()
@pass_settings
def activate(
    settings: Settings,
    texts: tuple[str, ...],
    files: tuple[str, ...],
    lines: bool,
    contrast: tuple[str, ...],
    by: By,
    dictionaries: tuple[str, ...],
    layers: tuple[int, ...],
    features: tuple[str, ...],
    limit: int,
    every: bool,
    tokens: bool,
) -> None:
    """Run texts and list the features that fire on them."""
    if not texts and not files:
        raise click.UsageError("give a TEXT or a --file")
    if tokens and contrast:
        raise click.UsageError("--tokens shows no --contrast; leave one of the two out")
    given = (*texts, *(text for file in files for text in _texts_of(file, lines)))
    with open_store(settings) as db:
        if tokens and not settings.json:
            rows = db.activate_tokens(
                given,
                dictionaries or None,
                limit,
                by,
                layers or None,
                features=features or None,
                say=lambda text: note(settings, text),
            )
            show_tokens(settings, rows)
            return
        fired = db.activate(
            given,
            dictionaries or None,
            limit,
            by,
            contrast or None,
            layers or None,
            every,
            features=features or None,
            say=lambda text: note(settings, text),
        )
        nothing = "more on this text than on the contrast" if contrast else "on this text"
        show_fired(settings, fired, nothing=f"no feature fires {nothing}")


def _texts_of(file: str, lines: bool) -> list[str]:
    """The text of a file, without the line end that closes it; or its lines, without empty ones."""
    try:
        read = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"no file at {file}") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
    try:
        text = read.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not UTF-8 at byte {error.start}", hint="save it as UTF-8") from error
    texts = [line for line in text.split("\n") if line.strip()] if lines else [text]
    if not any(one.strip() for one in texts):
        raise BadInput(f"{file} is empty", hint="give a file with some words")
    return texts
