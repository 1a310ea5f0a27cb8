"""`featuredb concept` from end to end: what is printed, what --json holds, what each mistake says and leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from featuredb.cli.main import main
from tests.tiny_models import WIDTH, save_tiny

UPPER = "THE CAT SAT\nA DOG RAN\nTHE END OF IT\nNOTHING IS LOST\n"
LOWER = "the cat sat\na dog ran\nthe end of it\nnothing is lost\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny-llama", "llama", num_hidden_layers=3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with texts and no store."""
    (tmp_path / "upper.txt").write_text(UPPER)
    (tmp_path / "lower.txt").write_text(LOWER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def made(here: Path, model: Path) -> Path:
    """The same with a store of one concept, `caps`, at every layer."""
    assert run(*adding(model)).exit_code == 0
    return here


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["concept", *map(str, words)])


def adding(model: Path, *more: str, name: str = "caps") -> list[str]:
    texts = ["--positive", "upper.txt", "--negative", "lower.txt"]
    return ["add", name, *texts, "--model", str(model), "--device", "cpu", "--quiet", *more]


def rows(result: Result) -> list[dict[str, Any]]:
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["ok"] is True
    found: list[dict[str, Any]] = answer["rows"]
    return found


def test_add_makes_the_store_and_says_the_concept(here: Path, model: Path) -> None:
    (row,) = rows(run(*adding(model, "--json")))
    assert (row["concept"], row["model"], row["method"]) == ("caps", "tiny-llama", "mean-difference")
    assert row["hooks"] == [f"layers.{layer}.resid_post" for layer in range(3)]
    assert (row["n_positive"], row["n_negative"]) == (4, 4)
    assert row["positive"] == UPPER.splitlines()
    first = row["directions"][0]
    assert {"concept", "hook", "width", "norm", "auroc", "auroc_low", "auroc_high", "n_held_out"} == set(first)
    assert (first["width"], first["n_held_out"]) == (WIDTH, 8)
    assert row["settings"]["folds"] == 4
    assert rows(run("show", "caps", "--json")) == [row]
    (listed,) = rows(run("ls", "--json"))
    assert (listed["concept"], listed["auroc"], listed["positive"]) == ("caps", row["auroc"], [])


def test_a_card_fits_eighty_columns(made: Path) -> None:
    shown = run("show", "caps")
    assert shown.stderr == ""
    lines = shown.stdout.splitlines()
    assert lines[0] == "caps  mean-difference of 4 positive and 4 negative texts"
    assert max(map(len, lines)) <= 80
    assert any("layers.1.resid_post" in line and " to " in line and "●" in line for line in lines)
    assert "    THE CAT SAT" in lines
    assert "    and 1 more" in lines
    narrow = CliRunner(env={"COLUMNS": "50"}).invoke(main, ["concept", "show", "caps"])
    assert max(map(len, narrow.stdout.splitlines())) <= 50


def test_a_list_has_a_line_a_concept(made: Path) -> None:
    assert run("combine", "twice", "2*caps").exit_code == 0
    lines = run("ls").stdout.splitlines()
    assert lines[0].split() == ["concept", "method", "texts", "hooks", "auroc"]
    assert [line.split()[0] for line in lines[1:]] == ["caps", "twice"]
    assert "3 hooks" in lines[1]


def test_a_mistake_leaves_no_store(here: Path, model: Path) -> None:
    for words in (
        adding(here / "no-such-model"),
        adding(model, "--layers", "7"),
        adding(model, "--positive", "uper.txt"),
        adding(model, "--chat"),
    ):
        failed = run(*words)
        assert failed.exit_code in (3, 4)
        assert failed.stdout == ""
        assert failed.stderr.startswith("Error: ")
    assert sorted(path.name for path in here.iterdir()) == ["lower.txt", "upper.txt"]


def test_without_a_store_a_model_must_be_named(here: Path) -> None:
    failed = run("add", "caps", "--positive", "upper.txt", "--negative", "lower.txt")
    assert failed.exit_code == 6
    assert "no store at" in failed.stderr


@pytest.mark.parametrize("options", [[], ["--positive", "a"], ["--negative", "a"]])
def test_one_side_alone_is_a_usage_error(here: Path, options: list[str]) -> None:
    assert run("add", "caps", *options).exit_code == 2


def test_errors_are_json_on_request(made: Path, model: Path) -> None:
    failed = run(*adding(model, "--json"))
    assert (failed.exit_code, failed.stdout) == (3, "")
    error = json.loads(failed.stderr)["error"]
    assert error == {
        "code": "bad-input",
        "message": "there is a concept 'caps' already",
        "hint": "give --replace, or another name",
    }
    assert run(*adding(model, "--replace")).exit_code == 0


def test_texts_may_be_typed(here: Path, model: Path) -> None:
    words = ["--positive", "Is it raining?", "--positive", "Who won?", "--negative", "It rains."]
    (row,) = rows(run("add", "q", *words, "--model", model, "--layers", "1-2", "--token", "mean", "--json"))
    assert row["positive"] == ["Is it raining?", "Who won?"]
    assert row["hooks"] == ["layers.1.resid_post", "layers.2.resid_post"]
    assert row["notes"] == ["too few texts to leave any out: no held-out AUROC"]
    assert row["auroc"] is None


@pytest.mark.parametrize("kind", ["gguf", "npz", "safetensors"])
def test_a_concept_comes_back_from_a_file_to_the_bit(made: Path, kind: str) -> None:
    hooks = ["layers.1.resid_post", "layers.2.resid_post"]
    skip = ["--skip"] if kind == "gguf" else []
    (row,) = rows(run("export", "caps", "--out", f"v.{kind}", *skip, "--json"))
    assert row["hooks"] == (hooks if skip else ["layers.0.resid_post", *hooks])
    assert row["skipped"] == (["layers.0.resid_post"] if skip else [])
    (back,) = rows(run("import", f"v.{kind}", "--name", "back", "--json"))
    assert back["hooks"] == row["hooks"]
    vectors = stored("caps"), stored("back")
    for hook in hooks:
        assert vectors[0][hook].tobytes() == vectors[1][hook].tobytes()
    assert [path.name for path in made.iterdir() if path.name.startswith(".")] == []


def stored(name: str) -> dict[str, Any]:
    import featuredb
    from featuredb.concepts.vectors import read_vectors

    with featuredb.open() as db:
        return read_vectors(db.store, name).by_hook


def test_a_gguf_goes_out_as_it_came_in(made: Path) -> None:
    assert run("export", "caps", "--out", "one.gguf", "--skip").exit_code == 0
    assert run("import", "one.gguf").exit_code == 0
    assert run("export", "one", "--out", "two.gguf").exit_code == 0
    assert (made / "one.gguf").read_bytes() == (made / "two.gguf").read_bytes()


def test_npy_holds_one_direction(made: Path) -> None:
    failed = run("export", "caps", "--out", "v.npy")
    assert failed.exit_code == 3
    assert "'caps' has directions at 3 hooks, and npy holds one" in failed.stderr
    assert run("export", "caps", "--out", "v.npy", "--hook", "layers.3.resid_pre").exit_code == 0
    assert np.load("v.npy").tobytes() == stored("caps")["layers.2.resid_post"].tobytes()
    failed = run("import", "v.npy")
    assert failed.exit_code == 3
    assert "does not say where its vector belongs" in failed.stderr
    (row,) = rows(run("import", "v.npy", "--layer", "2", "--json"))
    assert row["hooks"] == ["layers.2.resid_post"]
    assert row["notes"] == ["layer 2 is read as what block 2 gives"]


def test_what_gguf_cannot_say_is_named(made: Path, model: Path) -> None:
    failed = run("export", "caps", "--out", "v.gguf")
    assert failed.exit_code == 3
    assert "gguf has no place for 'caps' at layers.0.resid_post" in failed.stderr
    assert run(*adding(model, "--hook", "layers.2.mlp_out", name="mlp")).exit_code == 0
    failed = run("export", "mlp", "--out", "v.gguf", "--skip")
    assert failed.exit_code == 3
    assert "layers.2.mlp_out" in failed.stderr
    assert not (made / "v.gguf").exists()


def test_a_file_that_is_there_is_replaced_on_request_alone(made: Path) -> None:
    (made / "v.npz").write_text("mine")
    failed = run("export", "caps", "--out", "v.npz")
    assert failed.exit_code == 3
    assert (made / "v.npz").read_text() == "mine"
    assert run("export", "caps", "--out", "v.npz", "--force").exit_code == 0
    assert sorted(np.load("v.npz").files) == sorted(stored("caps"))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["export", "cap", "--out", "v.npz"], 4, "no concept called 'cap'\n  did you mean 'caps'?"),
        (["export", "caps", "--out", "v.xyz"], 3, "'v.xyz' says no format"),
        (["export", "caps", "--out", "no/v.npz"], 4, "no folder no"),
        (["export", "caps", "--out", "v.npz", "--hook", "embed"], 4, "'caps' has no direction at embed"),
        (["export", "caps", "--out", "."], 3, "says no format"),
        (["show", "cap"], 4, "no concept called 'cap'"),
        (["rm", "cap"], 4, "no concept called 'cap'"),
        (["combine", "new", "caps - cap"], 4, "no concept called 'cap'"),
        (["combine", "a/b", "caps"], 3, "'a/b' cannot name a concept"),
        (["import", "none.npy"], 4, "no file at none.npy"),
        (["import", "upper.txt"], 3, "upper.txt is of no format known here"),
        (["import", "v.npy", "--layer", "1", "--hook", "embed"], 3, "both hook 'embed' and layer 1"),
        (["import", "v.npy", "--hook", "nonsense"], 3, "no hook is called 'nonsense'"),
        (["import", "v.npy", "--layer", "1", "--model", "gpt"], 4, "no model called 'gpt'"),
        (["import", "v.npy", "--layer", "1", "--row", "3"], 3, "row 3 of v.npy is asked for"),
    ],
)
def test_mistakes_are_told(made: Path, words: list[str], status: int, said: str) -> None:
    np.save("v.npy", np.ones(WIDTH, dtype=np.float32))
    failed = run(*words)
    assert (failed.exit_code, failed.stdout) == (status, "")
    assert said in failed.stderr
    assert [row["concept"] for row in rows(run("ls", "--json"))] == ["caps"]


def test_rm_forgets_a_concept(made: Path) -> None:
    assert rows(run("rm", "caps", "--json")) == [{"removed": "caps"}]
    assert run("ls").stderr == "no concepts in features.fdb\n"
    assert run("show", "caps").exit_code == 4


def test_an_import_is_held_against_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.small_store import build

    build(tmp_path / "features.fdb").close()
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.ones(6, dtype=np.float32))
    np.save("wide.npy", np.ones(7, dtype=np.float32))
    (row,) = rows(run("import", "v.npy", "--layer", "1", "--model", "tiny", "--json"))
    assert row["model"] == "tiny"
    failed = run("import", "wide.npy", "--layer", "1", "--model", "tiny")
    assert failed.exit_code == 3
    assert "has 7 numbers, and tiny is 6 wide" in failed.stderr
    failed = run("import", "v.npy", "--layer", "2", "--model", "tiny", "--replace")
    assert "tiny has no layers.2.resid_post: its layers are 0 to 1" in failed.stderr


def test_of_a_file_of_many_hooks_one_may_be_taken(made: Path) -> None:
    assert run("export", "caps", "--out", "v.npz").exit_code == 0
    (row,) = rows(run("import", "v.npz", "--hook", "layers.2.resid_pre", "--json"))
    assert row["hooks"] == ["layers.2.resid_pre"]
    assert stored("v")["layers.2.resid_pre"].tobytes() == stored("caps")["layers.1.resid_post"].tobytes()
    assert row["notes"] == ["layers.2.resid_pre alone is taken, of 3 hooks"]
    failed = run("import", "v.npz", "--name", "w", "--hook", "embed")
    assert (failed.exit_code, failed.stdout) == (4, "")


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from featuredb.cli.main import main; main(['concept', 'add', '--help'], standalone_mode=False);"
        "print('loaded', *[name for name in ('torch', 'numpy', 'sqlalchemy', 'gguf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"


def test_control_codes_of_texts_never_reach_the_terminal(here: Path, model: Path) -> None:
    (here / "upper.txt").write_text("A \x1b[31mRED\x1b[0m TEXT\nB\u202e\n")
    assert run(*adding(model)).exit_code == 0
    shown = run("show", "caps").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "␛[31mRED" in shown


def test_without_gguf_it_is_said_what_to_install(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    failed = run("export", "caps", "--out", "v.gguf", "--skip")
    assert failed.exit_code == 5
    assert "pip install 'featuredb[gguf]'" in failed.stderr
    assert not (made / "v.gguf").exists()
