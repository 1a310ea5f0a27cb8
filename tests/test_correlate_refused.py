"""What cannot be compared is refused, with what is wrong and what to do; and the command says and shows it well."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from featuredb.cli.main import main
from featuredb.concepts.request import ConceptRequest
from featuredb.database import FeatureDB
from featuredb.errors import BadInput, FeatureDBError, NotFound
from featuredb.store.catalog import SegmentRow
from tests.correlate_world import HOOK, LOWER, PROMISED, UPPER, World, world


@pytest.fixture(scope="module")
def made() -> World:
    return world()


@pytest.fixture(scope="module")
def db(made: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureDB]:
    """Without the segment of `jump`, and with a concept where dictionaries read and one where none does."""
    with made.copy(tmp_path_factory.mktemp("refused") / "store.fdb") as copied:
        with copied.store.session() as session:
            for segment in session.scalars(select(SegmentRow)):
                if segment.dictionary.name == "jump":
                    session.delete(segment)
        for name, hook in (("capitals", HOOK), ("elsewhere", "layers.3.mlp_in")):
            copied.concepts.add(ConceptRequest(name, UPPER, LOWER, model="one", hooks=(hook,), token="mean"))
        copied.add_label("top/1", "a label that is a good deal longer than any table of eighty columns has room for")
        yield copied


@pytest.mark.parametrize(
    ("what", "options", "kind", "message", "hint"),
    [
        (
            np.ones(7),
            {},
            BadInput,
            "vector has 7 numbers and cannot be compared with before, jump, other and 2 more",
            "takes 32",
        ),
        (
            np.ones(7),
            {"dictionaries": ["top"]},
            BadInput,
            "vector has 7 numbers and cannot be compared with top",
            "no dictionary here does: before takes 32; jump takes 32",
        ),
        (np.zeros(32), {}, BadInput, "the vector is zero", "length"),
        (np.full(32, np.nan), {}, BadInput, "not finite: number 0 is nan", "float16"),
        (np.ones((2, 32)), {}, BadInput, r"has shape \(2, 32\)", "one row"),
        (
            np.ones(32),
            {"hook": "layers.3.resid_post"},
            BadInput,
            "no dictionary reads or writes where vector lives: layers.3.resid_post",
            "nearest: before at layers.2.resid_pre, jump at layers.1.resid_post, other at layers.1.resid_post",
        ),
        (
            "elsewhere",
            {},
            BadInput,
            "no dictionary reads or writes where elsewhere lives: layers.3.mlp_in",
            "`featuredb concept add elsewhere ... --hook layers.2.resid_pre --replace` makes it there",
        ),
        ("capitols", {}, NotFound, "no concept or file called 'capitols'", "did you mean 'capitals'"),
        ("capitals", {"dictionaries": ["tip"]}, NotFound, "no dictionary called 'tip'", "did you mean 'top'"),
        ("capitals", {"layers": [7]}, NotFound, "no dictionary reads at layer 7", "layers.1.resid_post"),
        ("capitals", {"hook": "layers.2.mlp_out"}, NotFound, "no vector at layers.2.mlp_out", HOOK),
        (
            "capitals",
            {"dictionaries": ["other"]},
            BadInput,
            "was made on one, and other is of two",
            "make the concept on two",
        ),
        ("capitals", {"dictionaries": ["jump"], "by": "correlation"}, BadInput, "jump has no run", "--by cosine"),
        ("capitals", {"dictionaries": ["jump"], "by": "auroc"}, BadInput, "jump has no run", "--by cosine"),
        (
            "capitals",
            {"dictionaries": ["over"], "by": "cosine"},
            BadInput,
            "over does not write where",
            "--by correlation",
        ),
        (np.ones(32), {"hook": HOOK, "by": "auroc"}, BadInput, "vector has no texts", "--by correlation needs none"),
        (np.ones(32), {"by": "angle"}, BadInput, "cannot sort by 'angle'", "one of correlation"),
        (np.ones(32), {"limit": 0}, BadInput, "cannot list 0 features", "at least 1"),
        (np.ones(32), {"dictionaries": []}, BadInput, "no dictionary is named", "for all"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value[:24],
)
def test_what_cannot_be_compared_is_refused(
    db: FeatureDB, what: Any, options: dict[str, Any], kind: type[FeatureDBError], message: str, hint: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        db.correlate(what, **options)
    assert hint in (caught.value.hint or "")


def test_a_vector_along_which_nothing_varies_goes_with_nothing(made: World, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    with made.copy(tmp_path / "store.fdb") as db:
        (run,) = (row.run for row in db.ls("runs") if "top" in row.dictionaries)
        path = db.store.paths.moments(run, HOOK)
        arrays = load_file(path)
        arrays["covariance"][5] = arrays["covariance"][:, 5] = 0
        save_file(arrays, path)
        still = np.eye(32)[5]
        with pytest.raises(BadInput, match="nothing varies along vector at layers.1.resid_post") as caught:
            db.correlate(still, "correlation", ["top"], hook=HOOK)
        assert caught.value.hint == "--by cosine can be answered"
        assert len(db.correlate(still, "cosine", ["top"], hook=HOOK, limit=3)) == 3


def test_a_dictionary_published_without_weights_is_left_out(made: World, tmp_path: Path) -> None:
    with made.copy(tmp_path / "store.fdb") as db:
        db.store.paths.weights("jump").unlink()
        said: list[str] = []
        found = db.correlate(np.ones(32), hook=HOOK, limit=200, say=said.append)
        assert "jump" not in {row.dictionary for row in found}
        assert "left out: jump, published without weights" in said
        with pytest.raises(BadInput, match="jump was published without weights"):
            db.correlate(np.ones(32), dictionaries=["jump"])


def run(db: FeatureDB, *words: str, columns: str | None = "80") -> Result:
    return CliRunner().invoke(main, [*words, "--db", str(db.path)], env={"COLUMNS": columns})


def test_json_rows_have_the_promised_fields(db: FeatureDB) -> None:
    result = run(db, "correlate", "capitals", "--dictionary", "top", "--limit", "3", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = json.loads(result.stdout)["rows"]
    assert [list(row)[: len(PROMISED)] for row in rows] == [PROMISED] * 3
    assert rows == db.correlate("capitals", dictionaries=["top"], limit=3).rows()
    assert all(isinstance(row[name], float) for row in rows for name in PROMISED[5:])


def test_a_table_fits_eighty_columns_and_ends_in_what_chance_finds(db: FeatureDB) -> None:
    result = run(db, "correlate", "capitals", "--dictionary", "top", "--all", "--limit", "48")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].split() == ["feature", "label", "share", "corr", "cosine", "auroc", "flags"]
    assert max(map(len, lines)) <= 80
    assert len(lines) == 49
    (labelled,) = (line for line in lines if line.startswith("top/1 "))
    assert "a label th…" in labelled
    (baseline,) = {row.baseline for row in db.correlate("capitals", dictionaries=["top"])}
    assert f"for 95 of 100 random directions no feature's correlation is above {baseline:.2f}" in result.stderr
    wide = run(db, "correlate", "capitals", "--dictionary", "top", "--all", "--limit", "48", columns=None).stdout
    assert "than any table of eighty columns has room for" in wide


@pytest.mark.parametrize(
    ("words", "heading", "said"),
    [
        (["--by", "auroc"], "feature label corr cosine auroc", "random deals of the texts' sides no feature's AUROC"),
        (["--by", "cosine"], "feature label corr cosine auroc", "random directions no feature's cosine is above"),
        (["--by", "encoder"], "feature label corr cosine encoder auroc", "no feature's encoder cosine is above"),
        (["--layer", "1"], "feature label share corr cosine auroc", "no feature's correlation is above"),
    ],
)
def test_what_is_sorted_by_is_shown(db: FeatureDB, words: list[str], heading: str, said: str) -> None:
    result = run(db, "correlate", "capitals", "--dictionary", "top", *words)
    assert result.stdout.splitlines()[0].replace("flags", "").split() == heading.split()
    assert said in result.stderr
    assert "left out; --all ranks them too" in result.stderr
    assert run(db, "correlate", "capitals", "--dictionary", "top", "--quiet", *words).stderr == ""


def test_a_vector_is_compared_without_torch(db: FeatureDB, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones(32, np.float32))
    program = (
        "import sys; from featuredb.cli.main import main;"
        f"main(['correlate', {str(tmp_path / 'v.npy')!r}, '--db', {str(db.path)!r}, '--json'], standalone_mode=False);"
        "print([name for name in ('torch', 'transformers', 'faiss', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_errors_leave_by_the_one_door(db: FeatureDB, tmp_path: Path) -> None:
    result = run(db, "correlate", "capitols")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == "Error: no concept or file called 'capitols'\n  did you mean 'capitals'?\n"
    np.save(tmp_path / "short.npy", np.ones(5, np.float32))
    result = run(db, "correlate", str(tmp_path / "short.npy"), "--hook", HOOK, "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert json.loads(result.stderr)["error"]["code"] == "bad-input"
    np.save(tmp_path / "right.npy", np.ones(32, np.float32))
    result = run(db, "correlate", str(tmp_path / "right.npy"), "--hook", HOOK, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert run(db, "correlate").exit_code == 2
