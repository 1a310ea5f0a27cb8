"""The command line's promises: what goes where, in which form, and with which exit status."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from featuredb.cli.common import Count, Settings, common, pass_settings
from featuredb.cli.ingest import ingest_request, train_request
from featuredb.cli.main import LazyGroup, main
from featuredb.cli.output import show_json
from featuredb.cli.progress import progress
from featuredb.errors import BadInput, FaultsFound, Interrupted, NotFound, PluginFailed, StoreBusy, StoreUnusable


def raising(error: BaseException, *, resumable: bool = False) -> click.Command:
    """A root like featuredb's own with one command, `fail`, that ends in the error."""

    @click.command()
    @common()
    @pass_settings
    def fail(settings: Settings) -> None:
        settings.resumable = resumable
        raise error

    class Root(LazyGroup):
        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            return fail

    root = Root()
    root.callback = click.pass_context(_settings)
    return root


def _settings(context: click.Context) -> None:
    context.ensure_object(Settings)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadInput("w_dec row 3 is not finite", hint="was it saved in float16?"), 3, "bad-input"),
        (NotFound("no feature 'd/9'", hint="d has 5"), 4, "not-found"),
        (PluginFailed("plugin 'x' failed", hint="look"), 5, "plugin-failed"),
        (StoreUnusable("no store", hint="make one"), 6, "store-unusable"),
        (StoreBusy("busy", hint="wait"), 6, "store-busy"),
        (FaultsFound("2 faults", hint="see above"), 7, "faults-found"),
    ],
)
def test_each_error_has_its_status_text_and_json(error: click.ClickException, status: int, code: str) -> None:
    said = CliRunner().invoke(raising(error), ["fail"])
    assert said.exit_code == status
    assert said.stdout == ""
    assert said.stderr == f"Error: {error}\n  {vars(error)['hint']}\n"

    said = CliRunner().invoke(raising(error), ["fail", "--json"])
    assert said.exit_code == status
    assert said.stdout == ""
    assert json.loads(said.stderr) == {
        "ok": False,
        "error": {"code": code, "message": str(error), "hint": vars(error)["hint"]},
    }


def test_an_unexpected_error_is_one_line_and_a_way_to_see_more() -> None:
    said = CliRunner().invoke(raising(ZeroDivisionError("division by zero\nmore")), ["fail"])
    assert said.exit_code == 1
    assert said.stderr.splitlines()[0] == "Error: ZeroDivisionError: division by zero"
    assert "FEATUREDB_TRACEBACK=1" in said.stderr
    assert "Traceback" not in said.stderr

    seen = CliRunner(env={"FEATUREDB_TRACEBACK": "1"}).invoke(raising(ZeroDivisionError("x")), ["fail"])
    assert "Traceback" in seen.stderr


def test_ctrl_c_stops_with_130_and_says_how_to_go_on() -> None:
    said = CliRunner().invoke(raising(KeyboardInterrupt(), resumable=True), ["fail"])
    assert (said.exit_code, said.stderr) == (130, "Error: stopped; the same command goes on from here\n")
    said = CliRunner().invoke(raising(KeyboardInterrupt()), ["fail"])
    assert (said.exit_code, said.stderr) == (130, "Error: stopped\n")
    said = CliRunner().invoke(raising(Interrupted("stopped at token 4,096"), resumable=True), ["fail"])
    assert said.stderr == "Error: stopped at token 4,096; the same command goes on from here\n"


def test_a_full_disk_is_the_stores_trouble_and_an_unreadable_file_the_users() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert CliRunner().invoke(raising(full), ["fail"]).exit_code == 6
    denied = PermissionError(errno.EACCES, "Permission denied", "texts.jsonl")
    said = CliRunner().invoke(raising(denied), ["fail"])
    assert (said.exit_code, said.stderr) == (3, "Error: texts.jsonl: Permission denied\n")


def test_errors_carry_no_control_codes() -> None:
    said = CliRunner().invoke(raising(NotFound("no file '\x1b[2Jx\x07'", hint="\u202ea")), ["fail"])
    assert said.stderr == "Error: no file '␛[2Jx␇'\n  ⟨202e⟩a\n"


@pytest.mark.parametrize(
    "words",
    [
        ["show"],
        ["ls", "cats"],
        ["nosuch"],
        ["ingest", "model", "gpt2"],
        ["show", "d/1", "--nosuch"],
        ["query", "feature/top_examples", "noequals"],
        ["ingest", "model", "m", "--dictionary", "d", "--corpus", "c", "--tokens", "0"],
        ["label", "add", "d/1"],
        ["rm", "dictionary"],
        ["sql"],
        ["activate"],
        ["demo", "extra"],
        ["check", "extra"],
        ["migrate", "extra"],
        ["plugins", "extra"],
        ["ingest", "labels"],
        ["ingest", "train", "gpt2"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_clicks_own_and_ends_with_2(words: list[str]) -> None:
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 2
    assert said.stdout == ""
    assert said.stderr.startswith("Usage: ")


@pytest.mark.parametrize(
    "words",
    [
        ["show", "d/1"],
        ["activate", "text"],
        ["ls", "models"],
        ["check"],
        ["migrate"],
        ["sql", "select 1"],
        ["query", "feature/dead", "dictionary=d"],
        ["label", "ls"],
        ["label", "add", "d/1", "text"],
        ["rm", "dictionary", "d"],
        ["ingest", "labels", "labels.csv"],
    ],
    ids=" ".join,
)
def test_no_store_is_said_with_6_and_makes_none(words: list[str], tmp_path: Path) -> None:
    store = tmp_path / "none.fdb"
    said = CliRunner().invoke(main, [*words, "--db", str(store), "--json"])
    assert said.exit_code == 6, said.stderr
    assert said.stdout == ""
    assert json.loads(said.stderr)["error"]["code"] == "store-unusable"
    assert not store.exists()


def test_plugins_are_rows_in_json_and_a_table_in_text() -> None:
    said = CliRunner().invoke(main, ["plugins", "--json"])
    assert (said.exit_code, said.stderr) == (0, "")
    answer = json.loads(said.stdout)
    assert answer["ok"] is True
    assert {"kind": "corpora", "plugin": "python-docs.v1", "state": "works"}.items() <= next(
        row for row in answer["rows"] if row["plugin"].startswith("python-docs")
    ).items()
    text = CliRunner().invoke(main, ["plugins"])
    assert text.stdout.splitlines()[0].split() == ["kind", "plugin", "state", "about"]


def test_queries_are_listed_without_a_store(tmp_path: Path) -> None:
    said = CliRunner(env={"FEATUREDB_DB": str(tmp_path / "none.fdb")}).invoke(main, ["query", "--json"])
    assert said.exit_code == 0, said.stderr
    row = next(row for row in json.loads(said.stdout)["rows"] if row["query"] == "feature/top_examples")
    assert set(row) == {"query", "takes", "answers", "params", "returns", "order"}


def test_json_has_null_for_what_json_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    show_json([{"nan": float("nan"), "deep": [{"inf": float("inf")}], "codes": "\x7f\x1b\x9b", "bytes": b"\x01"}])
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert printed.strip().isprintable()
    assert json.loads(printed)["rows"] == [
        {"nan": None, "deep": [{"inf": None}], "codes": "\x7f\x1b\x9b", "bytes": "01"}
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [("500000", 500_000), ("500_000", 500_000), ("500,000", 500_000), ("4k", 4000), ("1.5M", 1_500_000)],
)
def test_counts_are_read_as_people_write_them(text: str, number: int) -> None:
    assert Count().convert(text, None, None) == number


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "k", "1e6", "NaN", "1.0001k", "٣x"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Count().convert(text, None, None)


def test_ingest_options_become_the_request() -> None:
    command = main.get_command(click.Context(main), "ingest")
    assert isinstance(command, click.Group)
    words = ["gpt2", "--dictionary", "a", "--dictionary", "b", "--corpus", "c", "--tokens", "1M", "--examples", "3"]
    context = command.commands["model"].make_context("model", [*words, "--packing", "document", "--seed", "7"])
    request = ingest_request(**context.params)
    assert (request.model.source, request.dictionaries, request.corpus.spec) == ("gpt2", ("a", "b"), "c")
    assert (request.corpus.n_tokens, request.corpus.packing) == (1_000_000, "document")
    assert (request.settings.n_examples, request.settings.seed) == (3, 7)
    with pytest.raises(BadInput):
        ingest_request(**context.params | {"name": "one"})


def test_train_options_become_the_request() -> None:
    command = main.get_command(click.Context(main), "ingest")
    assert isinstance(command, click.Group)
    words = [
        "gpt2",
        "--corpus",
        "c",
        "--hook",
        "embed",
        "--features",
        "16k",
        "--tokens",
        "1M",
        "--out",
        "sae",
        "--k",
        "8",
    ]
    request = train_request(**command.commands["train"].make_context("train", words).params)
    assert (request.model.source, request.corpus.spec, request.hook) == ("gpt2", "c", "embed")
    assert (request.n_features, request.corpus.n_tokens, request.out, request.k) == (16_000, 1_000_000, Path("sae"), 8)


def test_progress_marks_the_work_resumable_while_it_runs_and_after_it_fails() -> None:
    settings = Settings(quiet=True)
    with progress(settings):
        assert settings.resumable
    assert not settings.resumable
    with pytest.raises(KeyboardInterrupt), progress(settings):
        raise KeyboardInterrupt
    assert settings.resumable


def test_a_reader_that_has_had_enough_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "featuredb", "plugins"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_real_ctrl_c_leaves_no_traceback() -> None:
    # `sql -` waits for its statement, so the signal meets it at work once everything is imported.
    # A process started in the background of a script inherits that SIGINT is ignored, and Python leaves it so.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from featuredb.cli.main import main; import featuredb.cli.query, featuredb.cli.output;"
        "print('ready', flush=True); main(['sql', '-'])"
    )
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, stdin=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "Error: stopped\n")
