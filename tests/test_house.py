"""What the house promises of itself: help, README, entry points, sizes and imports agree with the code."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

import featuredb
from featuredb import errors
from featuredb.cli.main import SECTIONS, main
from featuredb.plugins import KINDS, Registry

ROOT = Path(__file__).resolve().parents[1]
CODE = ("featuredb", "ingest", "plugins", "queries", "migrations", "tests", "benchmarks")
TEXT = (".py", ".md", ".toml", ".txt", ".sql", ".json", "")
HEAVY = ("torch", "transformers", "faiss", "sae_lens", "duckdb", "sqlalchemy", "alembic", "pyarrow", "numpy", "rich")


def leaves(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that name it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    if command.invoke_without_command and path:
        yield path, command
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*path, name))


def parse(line: str) -> click.Command:
    """The command that a shell line names, its options and arguments parsed but nothing run."""
    program, *words = shlex.split(line, comments=True)
    assert program == "featuredb"
    command: click.Command = main
    context = main.make_context("featuredb", list(words))
    while isinstance(command, click.Group):
        name, below, words = command.resolve_command(context, list(words))
        assert below is not None, f"{name} in {line!r}"
        context = below.make_context(name, list(words), parent=context)
        if isinstance(below, click.Group):
            words = [*context._protected_args, *context.args]
            if not words and below.invoke_without_command:
                return below
        command = below
    return command


LEAVES = dict(leaves())


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_a_summary_and_an_example_that_parses(path: tuple[str, ...]) -> None:
    command = LEAVES[path]
    assert command.help is not None
    assert command.help.splitlines()[0].endswith("."), "a help line is a sentence"
    assert len(command.help.splitlines()[0]) <= 88
    _, _, examples = (command.epilog or "").partition("Example:\n")
    lines = [line for line in examples.replace("\\\n", " ").splitlines() if line.strip()]
    assert lines
    assert all(parse(line.strip()) is command for line in lines)


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_takes_json_and_explains_its_options(path: tuple[str, ...]) -> None:
    options = [param for param in LEAVES[path].params if isinstance(param, click.Option)]
    assert "json" in {option.name for option in options}
    for option in options:
        assert option.help or isinstance(option.type, click.Choice) or option.name == "seed", option.name
        assert "_" not in "".join(option.opts), "options are hyphenated"


def test_root_help_lists_every_command_once() -> None:
    listed = [name for commands in SECTIONS.values() for name in commands]
    assert len(listed) == len(set(listed))
    text = main.get_help(click.Context(main, info_name="featuredb"))
    assert all(re.search(rf"^  {name} ", text, re.MULTILINE) for name in listed)
    assert "..." not in text.partition("Options:")[2], "a summary is too long for its line"


def readme_lines(name: str = "README.md") -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    typed = [line[2:] for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    return [line for line in typed if line.startswith("featuredb ")]


@pytest.mark.parametrize("line", readme_lines())
def test_readme_commands_parse(line: str) -> None:
    parse(line)


def test_readme_names_every_command_and_no_other() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Commands")[2].partition("\n## ")[0]
    named = {tuple(found.split()[1:]) for found in re.findall(r"`(featuredb [a-z ]+)`", table)}
    assert named == set(LEAVES)


def test_readme_tells_every_exit_status() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = {int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert told == {kind.exit_code for kind in kinds if issubclass(kind, errors.FeatureDBError)} | {0, 2}


def test_readme_python_compiles() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        tree = ast.parse(block)
        named = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "featuredb"
        }
        assert named <= set(dir(featuredb))


def test_makefile_has_the_targets_that_are_promised() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    said = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    assert set(re.findall(r"^\$ make ([a-z]+)", said, re.MULTILINE)) <= targets


def test_constraints_are_exact_and_cover_what_is_required() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "no ranges, paths or local versions"
    pinned = {_normal(line.split("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra if not one.startswith("featuredb["))]
    assert {_normal(re.split(r"[<>=\[]", one)[0]) for one in wanted} <= pinned


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from featuredb.cli.main import main; main(['--help'], standalone_mode=False);"
        f"print('loaded', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"


def test_installed_entry_points_are_those_of_pyproject() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for kind in KINDS:
        group = f"featuredb.{kind}"
        ours = {entry.name: entry.value for entry in entry_points(group=group)}
        assert written[group].items() <= ours.items(), "run make again"


def test_every_plugin_file_has_an_entry_point_and_loads() -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    named = {value.split(":")[0] for entries in written.values() for value in entries.values()}
    files = {
        f"featuredb_{folder}.{path.stem}"
        for folder in ("ingest", "plugins")
        for path in (ROOT / folder).glob("*.py")
        if not path.stem.startswith("_")
    }
    assert files == named
    assert Registry.installed().broken() == []


def sources() -> list[Path]:
    return sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))


def test_files_and_functions_stay_small() -> None:
    long = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 400:
            long.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            # A revision spells out whole tables, and is never edited again.
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "versions" not in path.parts:
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > 60:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in sources() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert silent == []


def test_the_engine_names_no_plugin_package() -> None:
    naming = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "featuredb").rglob("*.py"))
        for name in _imported(path)
        if name.startswith(("featuredb_ingest", "featuredb_plugins"))
    ]
    assert naming == []


def test_nothing_names_a_place_on_one_machine() -> None:
    # Written in parts, so that this file does not find itself.
    places = re.compile("|".join(("/wo" + r"rk/", "/tmp" + "/", "/ro" + "ot/", "/ho" + r"me/\w", "/Us" + r"ers/\w")))
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    paths = [ROOT / name for name in listed.stdout.splitlines()] if listed.returncode == 0 else sources()
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in paths
        if path.suffix in TEXT and path.is_file()
        for match in places.finditer(path.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert found == []


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).strip().lower()
