"""`featuredb search` as it is typed: rows, JSON, widths, notes, exit statuses, and what it costs to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from featuredb.cli.main import main
from featuredb.labels import add_label
from tests.test_search import CONTEXTS, EXAMPLES, LABELS
from tests.text_store import build_text

FIELDS = {
    *("feature", "dictionary", "index", "label", "flags", "score", "matched", "text", "ranks", "similarity", "density"),
    *("n_matching", "n_at_peak", "n_examples"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "small.fdb"
    with build_text(folder, CONTEXTS, EXAMPLES) as store, store.session() as session:
        for feature, said in LABELS.items():
            add_label(session, feature, said)
        add_label(
            session, "beta/4", "a label so long that it cannot stand in one line of a table, 漢字漢字漢字 and all " * 2
        )
    return folder


@pytest.fixture
def run(path: Path) -> Any:
    def invoke(*words: str) -> Result:
        environment = {"FEATUREDB_DB": str(path), "COLUMNS": "80", "NO_COLOR": "1"}
        return CliRunner(env=environment).invoke(main, ["search", *words])

    return invoke


def rows(result: Result) -> list[dict[str, Any]]:
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["ok"]
    found: list[dict[str, Any]] = answer["rows"]
    return found


def test_json_has_every_field(run: Any) -> None:
    found = rows(run("comma", "--in", "label", "--in", "example", "--json"))
    assert all(set(row) == FIELDS for row in found)
    first = found[0]
    assert (first["feature"], first["label"], first["matched"]) == ("alpha/1", "a comma", ["example", "label"])
    assert (first["text"], first["ranks"]) == (" a comma, and", {"example": 1, "label": 2})


def test_a_table_says_how_each_was_found_and_fits(run: Any) -> None:
    result = run("comma", "--in", "label", "--in", "example")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, first, *_ = result.stdout.splitlines()
    assert heading.split() == ["feature", "matched", "label", "text"]
    assert " ".join(first.split()) == "alpha/1 example 1/1, label a comma a comma, and"
    for words in (("comma",), ("label",), ("letter", "--limit", "1")):
        result = run(*words, "--in", "label", "--in", "example")
        assert all(cell_len(line) <= 80 for line in result.stdout.splitlines())


def test_filters_alone_list_features(run: Any) -> None:
    result = run("--labelled", "--dictionary", "alpha")
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["feature", "density", "label"]
    assert [line.split()[0] for line in lines] == ["alpha/1", "alpha/3", "alpha/4"]
    assert [row["index"] for row in rows(run("--unlabelled", "--layer", "1", "--json"))] == [0, 1, 3]


def test_every_option_reaches_the_search(run: Any) -> None:
    options = "--min-density 0.01 --max-density 0.02 --no-flag dense --all --limit 1 --in example --quiet --json"
    (found,) = rows(run("comma", *options.split()))
    assert found["feature"] == "alpha/1"
    assert rows(run("comma", "--flag", "dense", "--in", "example", "--json")) == []
    assert rows(run("comma", "--min-score", "0.5", "--in", "label", "--json")) == []
    assert [row["feature"] for row in rows(run("[ck]om+a,", "--regex", "--json"))] == ["alpha/1"]


def test_nothing_found_is_said_and_no_error(run: Any) -> None:
    result = run("absent", "--in", "label")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no feature was found\n")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ((), 3, "Error: the query is empty\n  give some words, or a filter alone to list what it lets pass\n"),
        (('"open',), 3, "Error: the quote before 'open' is never closed\n  close it, or leave it out\n"),
        (
            ("(", "--regex"),
            3,
            "Error: not a regular expression: missing ): (\n  the syntax is RE2's, without look-around\n",
        ),
        (("a", "--dictionary", "alhpa"), 4, "Error: no dictionary called 'alhpa'\n  did you mean 'alpha'?\n"),
        (("a", "--embedder", "nonsense"), 4, "Error: no embedder plugin called 'nonsense'\n"),
        (("a", "--min-density", "0.5", "--max-density", "0.1"), 3, "Error: no density lies from 0.5 to 0.1\n"),
        (("--", "-a"), 3, "Error: '-a' only says what to leave out\n  add a word to look for\n"),
    ],
)
def test_bad_input_is_named(run: Any, words: tuple[str, ...], status: int, message: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith(message)


@pytest.mark.parametrize("words", [("a", "b"), ("a", "--in", "everything"), ("a", "--limit", "0"), ("--flag", "dull")])
def test_usage_errors_are_clicks(run: Any, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2


def process(path: Path, before: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys\n{before}\nfrom featuredb.cli.main import main\n"
        f"status = main({['search', *words]!r}, standalone_mode=False)\n"
        "print('loaded', *[name for name in ('torch', 'transformers', 'sentence_transformers', 'faiss')"
        " if sys.modules.get(name)], status)"
    )
    environment = {**os.environ, "FEATUREDB_DB": str(path), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)


def test_searching_by_word_loads_no_model(path: Path) -> None:
    done = process(path, "", ["comma", "--in", "label", "--in", "example"])
    assert done.stdout.splitlines()[-1] == "loaded None"
    assert done.stderr == ""


def test_without_the_extra_it_says_how_to_have_it_once(path: Path) -> None:
    blocked = "sys.modules['sentence_transformers'] = None"
    done = process(path, blocked, ["comma"])
    assert "alpha/1" in done.stdout
    assert done.stderr == (
        "labels were searched by keyword alone: sentence-transformers is not installed; "
        "pip install 'featuredb[embed]'\n"
    )
    done = process(path, blocked, ["comma", "--in", "meaning"])
    assert done.stdout == "loaded 5\n"
    assert done.stderr == "Error: sentence-transformers is not installed\n  pip install 'featuredb[embed]'\n"


@pytest.mark.slow
def test_meaning_is_found_with_the_real_model_and_nothing_else_is_printed(path: Path) -> None:
    words = ["typographic signs", "--in", "meaning", "--json"]
    done = process(path, "", words)
    assert done.stderr == ""
    assert json.loads(done.stdout.splitlines()[0])["rows"][0]["feature"] == "beta/2"
    done = process(path, "", words[:-1])
    assert done.stdout.startswith("feature")
    assert done.stderr == ""  # the labels have their vectors from the search before
