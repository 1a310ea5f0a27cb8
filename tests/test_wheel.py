"""The wheel: built, installed beside no checkout, and put to work from another folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).parent.parent
BUILT_FROM = ("featuredb", "ingest", "plugins", "queries", "migrations", "pyproject.toml", "README.md", "LICENSE")
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is written to the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, source / name, ignore=LEFT_BEHIND)
        else:
            shutil.copy(CHECKOUT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source)
    (built,) = (source / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that holds the wheel; what the wheel needs is lent from this one.

    Lent by a path in a .pth file: of that folder's own .pth files, among them the checkout's, none is read.
    """
    environment = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return python


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FEATUREDB"))}
    environment["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=environment, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def featuredb(python: Path, cwd: Path, *words: str) -> str:
    return run(python.with_name("featuredb"), *words, cwd=cwd)


def test_the_wheel_holds_what_is_not_python_too(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    checkout = sorted(
        path.relative_to(CHECKOUT / "queries").as_posix() for path in (CHECKOUT / "queries").rglob("*.sql")
    )
    assert sorted(name.removeprefix("featuredb_queries/") for name in names if name.endswith(".sql")) == checkout
    modules = [path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "featuredb").rglob("*.py")]
    assert set(modules) <= set(names), "a package is missing from pyproject.toml"
    assert "featuredb/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "ingest/", "plugins/"))]


def test_nothing_comes_from_the_checkout(python: Path, tmp_path: Path) -> None:
    packages = ("featuredb", "featuredb_ingest", "featuredb_plugins", "featuredb_queries", "featuredb_migrations")
    code = (
        "import importlib.util, json; "
        f"print(json.dumps([importlib.util.find_spec(name).origin for name in {packages}]))"
    )
    for origin in json.loads(run(python, "-c", code, cwd=tmp_path)):
        assert Path(origin).is_relative_to(python.parent.parent)


def test_the_command_works_from_anywhere(python: Path, tmp_path: Path) -> None:
    assert "A database of what the features of neural networks do." in featuredb(python, tmp_path, "--help")
    plugins = json.loads(featuredb(python, tmp_path, "plugins", "--json"))["rows"]
    assert {"saelens.v1", "text.v1", "jsonl.v1"} <= {row["plugin"] for row in plugins}
    queries = json.loads(featuredb(python, tmp_path, "query", "--json"))["rows"]
    assert len(queries) == len(list((CHECKOUT / "queries").rglob("*.sql")))
    code = "import featuredb; featuredb.open('new.fdb', create=True)"  # which runs the migrations
    run(python, "-c", code, cwd=tmp_path)
    assert json.loads(featuredb(python, tmp_path, "check", "--db", "new.fdb", "--json")) == {"ok": True, "rows": []}
    assert [path.name for path in tmp_path.iterdir()] == ["new.fdb"]


def test_the_demo_runs_from_anywhere(python: Path, tmp_path: Path) -> None:
    """`featuredb demo` as it is typed, but for its length: 20,000 tokens instead of 500,000."""
    code = (
        "from featuredb.demo import run_demo; from featuredb.cli.main import main; "
        "run_demo.__kwdefaults__['n_tokens'] = 20_000; main(['demo', '--quiet'])"
    )
    tour = run(python, "-c", code, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.fdb"]
    assert "featuredb activate" in tour
    shown = re.findall(r"featuredb show (demo/\d+) --db demo.fdb", tour)
    assert len(shown) == 2
    cards = json.loads(featuredb(python, tmp_path, "show", *shown, "--db", "demo.fdb", "--json"))["rows"]
    assert [card["feature"] for card in cards] == shown
    assert all(card["promoted"] and bool(card["examples"]) == (card["n_fires"] > 0) for card in cards)
    assert json.loads(featuredb(python, tmp_path, "check", "--db", "demo.fdb", "--json")) == {"ok": True, "rows": []}
