"""How answers look: tables that fit, cards that carry no control codes, progress in lines, records as rows and HTML."""

from __future__ import annotations

import io
import re
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from featuredb.cli.card import card_lines, fired_lines
from featuredb.cli.progress import Lines, duration
from featuredb.cli.tables import head, table, tail, wrap
from featuredb.label_records import LabelRow
from featuredb.progress import Progress
from featuredb.records import (
    DictionaryRow,
    ExampleRow,
    FaultRow,
    FeatureCard,
    FindingRow,
    FiredFeature,
    HistogramBin,
    SimilarFeature,
    TokenWeight,
)
from featuredb.rows import Record, Rows
from featuredb.visible import visible

HOSTILE = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\n\t\r\x7f\u202e漢字🙂e\u0301 ")), max_size=12
)


def card(**changes: object) -> FeatureCard:
    """A feature that fires on names in capitals."""
    fields: dict[str, object] = {
        "dictionary": "demo",
        "index": 12,
        "label": "names in capitals",
        "flags": ("mislabelled",),
        "n_fires": 1560,
        "density": 0.00312,
        "max_activation": 12.4,
        "mean_activation": 3.021,
        "histogram": tuple(HistogramBin(low=2.0**n, high=2.0 ** (n + 1), count=n * 10) for n in range(4)),
        "promoted": (TokenWeight(token="SIZE", value=1.25),),
        "suppressed": (TokenWeight(token="\n", value=-0.5),),
        "labels": (LabelRow(feature="demo/12", text="names in capitals", labeler="hand", status="ok", author="ada"),),
        "findings": (FindingRow(dictionary="demo", index=12, label=None, check="mislabelled", score=0.91),),
        "similar": (SimilarFeature(dictionary="demo", index=7, label=None, cosine_decoder=0.82),),
        "examples": (
            ExampleRow(
                kind="top",
                rank=0,
                context=3,
                position=11,
                activation=12.4,
                tokens=("class", "\n\t", " MAX", "_", "SIZE"),
                activations=(0.0, 0.0, 12.4, 0.0, 6.0),
                window_start=9,
            ),
        ),
        "n_tokens": 500_000,
        "hook": "layers.2.resid_post",
        "model": "demo-model",
    }
    return FeatureCard(**(fields | changes))  # type: ignore[arg-type]


def printed(one: FeatureCard, width: int = 80, *, colour: bool = False) -> str:
    screen = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="truecolor" if colour else None,
        _environ={},
    )
    for line in card_lines(one, screen):
        screen.print(line, no_wrap=True)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_a_card_at_80_columns() -> None:
    assert [line.rstrip() for line in printed(card()).splitlines()] == [
        "demo/12  names in capitals                                         ⚑ mislabelled",
        "layers.2.resid_post · demo-model " + "─" * 47,
        "",
        "  fires on    0.31% of tokens                   ████",
        "              1,560 of 500,000              ████████",
        "  strongest   12.4                      ████████████",
        "  mean        3.02                      2         16",
        "",
        '  promotes    "SIZE" +1.25',
        '  suppresses  "⏎" -0.50',
        "",
        "  ⚑ mislabelled  0.91",
        "  similar     demo/7  +0.82",
        "",
        "  strongest contexts",
        "     12.4                      class⏎⇥ «MAX»_SIZE",
    ]


def test_a_card_of_a_feature_that_never_fires() -> None:
    bare = card(n_fires=0, histogram=(), examples=(), promoted=(), suppressed=(), findings=(), similar=(), label=None)
    assert "  fires       never on 500,000 tokens" in printed(bare)
    assert "no label yet" in printed(bare)


def test_colour_shades_tokens_and_leaves_out_the_marks() -> None:
    text = printed(card(), colour=True)
    assert "«" not in text
    assert "\x1b[1;38;2;26;16;0;48;2;255;176;0m MAX" in text


@given(token=HOSTILE, label=HOSTILE, width=st.integers(40, 130))
def test_no_card_is_too_wide_or_steers_the_terminal(token: str, label: str, width: int) -> None:
    example = ExampleRow(
        kind="sample",
        rank=0,
        context=0,
        position=2,
        activation=1,
        tokens=(token, "a", token, token),
        activations=(0, 1, 2, 0),
    )
    weights = (TokenWeight(token=token, value=1.0),) * 9
    one = card(label=label, flags=(token, token), examples=(example,), promoted=weights, model=label, findings=())
    lines = printed(one, width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for line in lines for char in line)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", "".join(lines))


@given(tokens=st.lists(HOSTILE, min_size=1, max_size=9), at=st.integers(0, 8))
def test_fired_features_fit_and_show_their_token(tokens: list[str], at: int) -> None:
    at = min(at, len(tokens) - 1)
    activations = tuple(float(index == at) for index in range(len(tokens)))
    fired = FiredFeature(
        dictionary="d", index=1, label=None, activation=1.0, token=tokens[at], position=at, activations=activations,
        score=1.0, tokens=tuple(tokens),
    )  # fmt: skip
    screen = Console(file=io.StringIO(), width=80, color_system=None)
    lines = [line.plain for line in fired_lines([fired], screen)]
    assert len(lines) == 2
    assert all(cell_len(line) <= 80 for line in lines)
    assert "«" in lines[1]


ROWS = st.lists(st.tuples(st.integers(), st.text(max_size=60), st.none() | st.floats()), min_size=1, max_size=5)


@given(rows=ROWS, width=st.none() | st.integers(30, 100))
def test_tables_fit_and_lose_nothing(rows: list[tuple[int, str, float | None]], width: int | None) -> None:
    lines = list(table([dict(zip("abc", row, strict=True)) for row in rows], "abc", width))
    assert width is None or all(cell_len(line) <= width for line in lines)
    said = re.sub(r"\s", "", "".join(lines))
    for number, text, _ in rows:
        if width is None:
            assert str(number) in said
            assert re.sub(r"\s", "", visible(text)) in said
        else:
            assert sum(said.count(char) for char in set(visible(text)) if not char.isspace()) >= len(
                re.sub(r"\s", "", visible(text))
            )


def test_a_table_wraps_its_widest_column_and_becomes_blocks_when_that_is_not_enough() -> None:
    row = {"object": "runs/abc/demo.duckdb", "fault": "its bytes are not those that were written"}
    assert list(table([row], list(row), 46)) == [
        "object                fault",
        "runs/abc/demo.duckdb  its bytes are not those",
        "                      that were written",
    ]
    many = dict.fromkeys("abcdefgh", "a value of some length")
    assert list(table([many], "abcdefgh", 60))[:2] == ["row 1", "  a  a value of some length"]


@given(text=st.text(), width=st.integers(2, 40))
def test_cutting_and_wrapping_keep_to_the_width(text: str, width: int) -> None:
    text = visible(text)
    assert cell_len(head(text, width)) <= width
    assert cell_len(tail(text, width)) <= width
    assert all(cell_len(line) <= width for line in wrap(text, width))
    assert "".join(wrap(text, width)).replace(" ", "") == text.replace(" ", "")


def test_visible_text_shows_what_moves_or_hides_text() -> None:
    assert visible("a\n\tb\r\x00\x7f") == "a⏎⇥b␍␀␡"
    assert visible("\x9b\u202e\u2028\ud800\u200b") == "⟨009b⟩⟨202e⟩⟨2028⟩⟨d800⟩⟨200b⟩"
    assert visible(" naïve 漢字 👩\u200d🔬 e\u0301") == " naïve 漢字 👩\u200d🔬 e\u0301"


def test_progress_lines_are_few_and_their_rate_is_of_this_process() -> None:
    lines: list[str] = []
    clock = iter([0.0, 1.0, 6.0, 7.0, 10.0, 10.0])
    report = Lines(lines.append, lambda: next(clock))
    for done in (1000, 1100, 1600, 1700, 2000):
        report(Progress("capture", done, 2000, "tokens"))
    report(Progress("index", 0, None, "features", note="flat"))
    assert lines == [
        "capture: 1,000 of 2,000 tokens (50%)",
        "capture: 1,600 of 2,000 tokens (80%), 100 tokens/s, 4 s left",
        "capture: 2,000 of 2,000 tokens (100%), 100 tokens/s",
        "index: 0 features, flat",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (190, "3 min 10 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


PROMISED = {
    FeatureCard: (
        "feature dictionary index label flags n_fires density max_activation mean_activation histogram promoted "
        "suppressed labels findings similar examples"
    ),
    ExampleRow: "kind rank context position activation tokens activations",
    FiredFeature: "feature dictionary index label flags activation token position activations",
    SimilarFeature: "feature dictionary index label flags cosine_decoder cosine_encoder correlation",
    LabelRow: "text labeler status scores",
    FindingRow: "feature dictionary index label flags check score evidence suggestion",
    DictionaryRow: "dictionary model hook n_features kind runs n_tokens",
    FaultRow: "object fault",
}


@pytest.mark.parametrize("record", PROMISED, ids=lambda record: record.__name__)
def test_rows_have_the_fields_that_other_programs_rely_on(record: type[Record]) -> None:
    promised = PROMISED[record].split()
    assert set(promised) <= set(record.columns())


def test_a_row_is_made_of_plain_values() -> None:
    row = card().row()
    assert tuple(row) == FeatureCard.columns()
    assert (row["feature"], row["flags"]) == ("demo/12", ["mislabelled"])
    assert row["promoted"] == [{"token": "SIZE", "value": 1.25}]
    assert row["examples"][0]["tokens"] == ["class", "\n\t", " MAX", "_", "SIZE"]


def test_rows_become_arrow_and_compare_with_lists() -> None:
    row = DictionaryRow(
        dictionary="d", model=None, hook="embed", n_features=4, kind="sae", runs=1, n_tokens=9,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    rows = Rows([row])
    assert rows == [row]
    assert rows[:1] == rows
    assert rows.to_arrow().to_pylist() == [row.row()]
    assert row.row()["created_at"] == "2026-01-02T00:00:00+00:00"
    assert Rows([], DictionaryRow).to_arrow().column_names == list(DictionaryRow.columns())
    assert card().to_arrow().num_rows == 1


def test_notebook_html_escapes_every_text() -> None:
    evil = "<script>alert('\x1b')</script>"
    example = ExampleRow(kind="top", rank=0, context=0, position=0, activation=1.0, tokens=(evil,), activations=(1.0,))
    one = card(label=evil, flags=(evil,), examples=(example,), promoted=(TokenWeight(token=evil, value=1.0),))
    for html in (one._repr_html_(), Rows([one])._repr_html_()):
        assert "<script" not in html
        assert "\x1b" not in html
        assert "&lt;script&gt;" in html
