"""The command line on a real store: what each command answers, in rows, in text, and about what is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import featuredb
from featuredb.cli.main import main
from tests.small_store import RUN, build


@pytest.fixture(scope="module")
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the tests of this file read and never change."""
    return _built(tmp_path_factory.mktemp("store") / "small.fdb")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of a test's own."""
    return _built(tmp_path / "small.fdb")


def _built(path: Path) -> Path:
    build(path).close()
    return path


def run(store: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--db", str(store)])


def rows(store: Path, *words: str) -> list[dict[str, Any]]:
    said = run(store, *words, "--json")
    assert (said.exit_code, said.stderr) == (0, ""), said.stderr
    answer = json.loads(said.stdout)
    assert set(answer) == {"ok", "rows"}
    assert answer["ok"] is True
    found: list[dict[str, Any]] = answer["rows"]
    return found


def error(store: Path, *words: str) -> tuple[int, str, str]:
    said = run(store, *words, "--json")
    assert said.stdout == ""
    answer = json.loads(said.stderr)
    assert answer["ok"] is False
    return said.exit_code, answer["error"]["message"], answer["error"]["hint"]


def test_show_answers_with_a_card(read_only: Path) -> None:
    (row,) = rows(read_only, "show", "alpha/3", "--examples", "2")
    assert (row["feature"], row["dictionary"], row["index"], row["label"]) == ("alpha/3", "alpha", 3, None)
    assert (row["n_fires"], row["density"], row["max_activation"]) == (30, 0.03, 3.0)
    assert [(example["kind"], example["rank"], example["context"]) for example in row["examples"]] == [
        ("top", 0, 0),
        ("top", 1, 1),
    ]
    example = row["examples"][0]
    assert len(example["tokens"]) == len(example["activations"])
    assert example["activations"][example["position"] - example["window_start"]] == example["activation"] == 3.0

    text = run(read_only, "show", "alpha/3").stdout
    assert text.startswith("alpha/3  no label yet")
    assert "« the»" not in text
    assert "«the»" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_show_takes_several_features_in_order(read_only: Path) -> None:
    assert [row["feature"] for row in rows(read_only, "show", "beta/2", "alpha/0")] == ["beta/2", "alpha/0"]
    assert "never" in run(read_only, "show", "alpha/0").stdout


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (("show", "alpa/3"), "alpha"),
        (("show", "alpha/99"), "0 to 7"),
        (("rm", "dictionary", "bet"), "beta"),
        (("query", "feature/top_exampels"), "feature/top_examples"),
        (("label", "add", "gamma/1", "text"), "alpha"),
        (("query", "feature/top_examples", "feature=alpha/12"), "0 to 7"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_not_there_is_4_and_suggests_what_is(read_only: Path, words: tuple[str, ...], suggested: str) -> None:
    status, message, hint = error(read_only, *words)
    assert status == 4
    assert suggested in f"{message} {hint}"


def test_ls_lists_what_the_store_holds(read_only: Path) -> None:
    assert [row["model"] for row in rows(read_only, "ls", "models")] == ["tiny"]
    assert [row["corpus"] for row in rows(read_only, "ls", "corpora")] == ["words"]
    (one,) = rows(read_only, "ls", "runs")
    assert (one["run"], one["dictionaries"], one["n_tokens"]) == (RUN, ["alpha", "beta"], 1000)
    alpha, beta = rows(read_only, "ls", "dictionaries")
    expected = {
        "dictionary": "alpha",
        "model": "tiny",
        "hook": "layers.0.resid_post",
        "n_features": 8,
        "kind": "sae",
        "runs": 1,
        "n_tokens": 1000,
    }
    assert expected.items() <= alpha.items()
    assert beta["dictionary"] == "beta"
    heading = run(read_only, "ls", "dictionaries").stdout.splitlines()[0]
    assert heading.split() == list(expected)


def test_sql_and_query_answer_with_their_columns(read_only: Path) -> None:
    statement = "select dictionary, feature, density from feature order by density desc, dictionary limit 2"
    assert rows(read_only, "sql", statement) == [
        {"dictionary": "alpha", "feature": 7, "density": 0.07},
        {"dictionary": "alpha", "feature": 6, "density": 0.06},
    ]
    assert run(read_only, "sql", statement).stdout.splitlines()[0].split() == ["dictionary", "feature", "density"]
    best = rows(read_only, "query", "feature/top_examples", "feature=alpha/3", "k=1")
    assert [(row["run"], row["context"], row["activation"]) for row in best] == [(RUN, 0, 3.0)]


def test_sql_reads_stdin_and_says_when_there_are_no_rows(read_only: Path) -> None:
    said = CliRunner().invoke(main, ["sql", "-", "--db", str(read_only)], input="select 1 as one where false")
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "no rows\n")


def test_sql_that_is_wrong_or_would_write_is_bad_input(read_only: Path) -> None:
    assert error(read_only, "sql", "select nosuch from feature")[0] == 3
    assert error(read_only, "sql", "drop table feature")[0] == 3
    assert error(read_only, "query", "feature/top_examples", "feature=alpha/1", "k=many")[0] == 3


def test_labels_are_added_listed_and_shown(store: Path) -> None:
    (added,) = rows(store, "label", "add", "alpha/3", "names in capitals", "--author", "ada", "--note", "seen 9 of 10")
    assert {"feature": "alpha/3", "text": "names in capitals", "author": "ada"}.items() <= added.items()
    assert {"text", "labeler", "status", "scores"} <= set(added)
    assert [row["text"] for row in rows(store, "label", "ls")] == ["names in capitals"]
    assert rows(store, "label", "ls", "alpha/2") == []
    assert rows(store, "show", "alpha/3")[0]["label"] == "names in capitals"
    assert run(store, "show", "alpha/3").stdout.startswith("alpha/3  names in capitals")
    assert error(store, "label", "add", "alpha/3", " ")[0] == 3


def test_labels_come_from_a_file_all_or_none(store: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("feature,text\nalpha/1,one\nbeta/2,two\n")
    bad.write_text("feature,text\nalpha/1,three\nalpha/99,four\n")
    (row,) = rows(store, "ingest", "labels", str(good))
    assert (row["file"], row["labels"], row["known"]) == (str(good), 2, 0)
    status, message, _ = error(store, "ingest", "labels", str(bad))
    assert status in (3, 4)
    assert "3" in message, "the line is named"
    assert len(rows(store, "label", "ls")) == 2
    assert error(store, "ingest", "labels", str(tmp_path / "none.csv"))[0] == 4


def test_check_is_silent_on_a_whole_store_and_names_what_is_not(store: Path) -> None:
    assert rows(store, "check") == []
    said = run(store, "check")
    assert (said.exit_code, said.stdout) == (0, "")
    path = store / "dictionaries" / "alpha" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    said = run(store, "check", "--json")
    assert said.exit_code == 7
    faults = json.loads(said.stdout)["rows"]
    assert any("alpha/weights.safetensors" in fault["object"] for fault in faults)
    assert all(set(fault) == {"object", "fault"} for fault in faults)
    assert json.loads(said.stderr)["error"]["code"] == "faults-found"


def test_rm_leaves_nothing_behind(store: Path) -> None:
    assert rows(store, "rm", "dictionary", "alpha") == [{"removed": "alpha"}]
    assert [row["dictionary"] for row in rows(store, "ls", "dictionaries")] == ["beta"]
    assert rows(store, "check") == []
    assert not list(store.rglob("*alpha*"))


def test_migrating_a_current_store_changes_nothing(store: Path) -> None:
    (row,) = rows(store, "migrate")
    assert row["before"] == row["after"]
    assert row["copy"] is None


def test_a_folder_that_is_no_store_is_6(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert error(tmp_path, "ls", "models")[0] == 6


def test_corpus_and_label_control_codes_never_reach_the_terminal(store: Path) -> None:
    import sqlite3

    # Past the checks of `label add`, as another program could write it.
    rows(store, "label", "add", "alpha/3", "plain")
    with sqlite3.connect(store / "catalog.sqlite") as catalog:
        catalog.execute("update label set text = ?", ("\x1b]0;owned\x07\u202e",))
    catalog.close()
    for words in (("show", "alpha/3"), ("label", "ls"), ("sql", "select text from label")):
        for form in ((), ("--json",)):
            printed = run(store, *words, *form).stdout
            assert "owned" in printed
            assert not any(char in printed for char in "\x1b\x07\u202e")


def test_python_says_the_same_as_the_command_line(read_only: Path) -> None:
    with featuredb.open(read_only) as db:
        assert db.feature("alpha/3").row() == rows(read_only, "show", "alpha/3")[0]
        assert db.ls("runs").rows() == rows(read_only, "ls", "runs")
        assert db.sql("select 1 as one").to_pylist() == rows(read_only, "sql", "select 1 as one")
