"""`featuredb activate` as it is typed: rows, JSON, widths, notes, files and bad input."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from featuredb.cli.card import fired_lines
from featuredb.cli.fired import token_lines
from featuredb.cli.main import main
from featuredb.records import FiredFeature, TextTokens, TokenFeature
from tests.fired_store import make

TEXT = "the river under the WINDOW; seven 12"
LONG = "a lamp (between) the door and THE end. " * 9
HOSTILE = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\n\t\r\x7f\u202e漢字🙂e\u0301 ")), max_size=30
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("fired"))


@pytest.fixture
def run(path: Path) -> Any:
    def invoke(*words: str, **more: Any) -> Result:
        environment = {"FEATUREDB_DB": str(path), "COLUMNS": "80", "NO_COLOR": "1"}
        return CliRunner(env=environment).invoke(main, ["activate", *words], **more)

    return invoke


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["ok"]
    found: list[dict[str, Any]] = answer["rows"]
    return found


def test_a_table_fits_and_has_a_line_a_feature(run: Any) -> None:
    result = run(TEXT, "--limit", "6")
    assert (result.exit_code, result.stderr) == (0, "")
    heading, *lines = result.stdout.splitlines()
    assert heading.split() == ["feature", "activation", "label", "on"]
    assert len(lines) == 6
    assert all(cell_len(line) <= 80 and "«" in line for line in [*lines])


def test_json_rows_have_every_field_and_are_the_same_with_tokens(run: Any) -> None:
    found = rows(run(TEXT, "--limit", "6", "--json"))
    assert len(found) == 6
    assert set(found[0]) == set(FiredFeature.columns())
    assert found[0]["text"] == 0
    assert found[0]["activation_contrast"] is None
    assert "".join(found[0]["tokens"]) == TEXT
    assert rows(run(TEXT, "--limit", "6", "--json", "--tokens")) == found


def test_several_texts_and_a_contrast_get_columns_of_their_own(run: Any) -> None:
    several = run(TEXT, "Door lamp", "--limit", "4")
    assert several.stdout.splitlines()[0].split() == ["feature", "activation", "texts", "label", "on"]
    contrast = run(TEXT, "--contrast", "Door lamp", "--limit", "4", "--by", "mean")
    assert contrast.stdout.splitlines()[0].split() == ["feature", "activation", "contrast", "label", "on"]
    assert all(cell_len(line) <= 80 for line in (several.stdout + contrast.stdout).splitlines())
    assert all(row["activation_contrast"] is not None for row in rows(run(TEXT, "--contrast", "Door", "--json")))
    nothing = run(TEXT, "--contrast", TEXT)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == "no feature fires more on this text than on the contrast\n"


def test_all_lists_what_the_limit_leaves_out(run: Any) -> None:
    few, every = rows(run(TEXT, "--limit", "3", "--json")), rows(run(TEXT, "--all", "--json"))
    assert every[:3] == few
    assert len(every) > 20


def test_options_narrow_the_answer(run: Any) -> None:
    assert {row["dictionary"] for row in rows(run(TEXT, "--dictionary", "low", "--json"))} == {"low"}
    assert {row["dictionary"] for row in rows(run(TEXT, "--layer", "2", "--json"))} == {"high", "twin"}
    first = rows(run(TEXT, "--json"))[0]["feature"]
    assert [row["feature"] for row in rows(run(TEXT, "--feature", first, "--json"))] == [first]
    last = rows(run(TEXT, "--by", "last", "--json"))
    assert {row["position"] for row in last} == {len(last[0]["tokens"]) - 1}


def test_a_long_text_is_noted_on_stderr_and_not_in_json(run: Any) -> None:
    said = run(LONG).stderr
    assert said.startswith("the text is longer than a context of 48 tokens: its ")
    assert said.endswith(" contexts\n")
    assert run(LONG, "--json").stderr == ""


def test_tokens_show_the_text_and_what_fires_on_each(run: Any) -> None:
    result = run(TEXT, "--tokens", "--dictionary", "low")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert all(cell_len(line) <= 80 for line in lines)
    assert lines[0].startswith("shaded by low/")
    blank = lines.index("")
    shown = "".join(line.removeprefix("  ") for line in lines[1:blank])
    assert shown.replace("«", "").replace("»", "") == TEXT
    assert "«" in shown
    assert lines[blank + 1].split() == ["token", "feature", "activation", "label"]
    several = run(TEXT, "Door lamp", "--tokens").stdout.splitlines()
    assert [line for line in several if line.startswith("text ")] == ["text 1 of 2", "text 2 of 2"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of its own")
def test_a_terminal_too_low_for_a_text_gets_it_through_the_pager(path: Path) -> None:
    import pty

    words = ["activate", LONG, "--tokens", "--db", str(path)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "9", "PAGER": "head -n 2"}
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "featuredb", *words]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=subprocess.DEVNULL, env=environment) as done:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # what a terminal says when nothing is left
            while part := os.read(controller, 4096):
                shown += part
    os.close(controller)
    assert done.returncode == 0
    assert shown.count(b"\n") == 2
    assert b"shaded by" in shown


def test_files_are_texts_or_lines_of_texts(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"\xef\xbb\xbfthe river\r\n\r\nDoor lamp\n")
    whole = rows(run("--file", str(file), "--json"))
    assert {"".join(row["tokens"]) for row in whole} == {"the river\n\nDoor lamp"}
    lines = rows(run("seven", "--file", str(file), "--lines", "--json", "--all"))
    assert {(row["text"], "".join(row["tokens"])) for row in lines} == {
        (0, "seven"),
        (1, "the river"),
        (2, "Door lamp"),
    }
    assert rows(run("--file", "-", "--json", input="the river\n\nDoor lamp\n")) == whole


def test_a_file_that_cannot_be_a_text_says_why(run: Any, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_bytes(b"\n \n")
    for name, status, said in (
        ("none.txt", 4, "no file at {}"),
        ("latin.txt", 3, "{} is not UTF-8 at byte 3"),
        ("empty.txt", 3, "{} is empty"),
        ("", 3, "{} cannot be read: Is a directory"),
    ):
        file = str(tmp_path / name)
        result = run("--file", file)
        assert (result.exit_code, result.stdout) == (status, "")
        assert result.stderr.splitlines()[0] == f"Error: {said.format(file)}"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([" "], 3, "Error: the text is empty"),
        (["<|endoftext|>"], 3, "Error: the text '<|endoftext|>' has no tokens for model"),
        (["a", "--dictionary", "lwo"], 4, "Error: no dictionary called 'lwo'"),
        (["a", "--layer", "7"], 4, "Error: no dictionary reads at layer 7"),
        (["a", "--feature", "low"], 3, "Error: 'low' does not name a feature"),
        ([], 2, "Error: give a TEXT or a --file"),
        (["a", "--tokens", "--contrast", "b"], 2, "Error: --tokens shows no --contrast; leave one of the two out"),
        (["a", "--by", "median"], 2, "Error: Invalid value for '--by': 'median' is not one of 'max', 'mean', 'last'."),
    ],
)
def test_bad_input_has_its_status_and_its_words(run: Any, words: list[str], status: int, said: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (status, "")
    assert said in result.stderr.splitlines()


def fired(token: str, label: str | None, **changes: Any) -> FiredFeature:
    fields: dict[str, Any] = {
        "dictionary": "d",
        "index": 1,
        "label": label,
        "activation": 1.5,
        "token": token,
        "position": 1,
        "activations": (0.0, 1.5, 0.3),
        "score": 1.0,
        "tokens": ("a", token, token),
    }
    return FiredFeature(**(fields | changes))


@given(token=HOSTILE, label=HOSTILE, width=st.integers(50, 130), colour=st.booleans())
def test_no_text_makes_a_line_too_wide_or_steers_the_terminal(token: str, label: str, width: int, colour: bool) -> None:
    rows = [fired(token, label), fired(token, None, flags=("dead",), activation_contrast=12345.6, n_texts=7, text=2)]
    at = TokenFeature(dictionary="d" * 90, index=7, label=label, flags=("dense",), activation=1e6, score=1.0)
    texts = [
        TextTokens(text=0, model=token, tokens=rows[0].tokens, fired=tuple(rows), strongest=((), (at, at), (at,))),
        TextTokens(text=1, model="m", tokens=("a",), fired=(), strongest=((),)),
    ]
    screen = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        _environ={},
    )
    lines = [*fired_lines(rows, screen), *token_lines(texts, screen)]
    assert all(line.cell_len <= width for line in lines)
    said = "".join(line.plain for line in lines)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in said)
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(said)
    assert "«" in token + label or ("«" in said) != colour


def test_colour_shades_the_text_by_the_first_feature() -> None:
    one = TextTokens(text=0, model="m", tokens=("a", " b", " c"), fired=(fired(" b", None),), strongest=((), (), ()))
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="truecolor", _environ={})
    shaded = list(token_lines([one], screen))[1]
    assert shaded.plain == "  a b c"
    styles = {shaded.plain[span.start : span.end]: str(span.style) for span in shaded.spans}
    assert styles[" b"] == "bold #1a1000 on #ffb000"
    assert styles[" c"] == "#fff3dd on #4d3c17"
    assert "#" not in styles.get("a", "")
