"""Contrasting texts as they are given: files or texts, and what is wrong with them by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from featuredb.concepts.texts import read_texts
from featuredb.errors import BadInput, NotFound


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_files_and_texts_stand_in_the_order_they_are_given(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.txt", "one\ntwo\n")
    objects = write(tmp_path / "b.jsonl", '{"text": "three\\nfour", "id": 1}\n{"text": "five"}')
    texts = read_texts(["zero", lines, objects], ["no"])
    assert texts.positive == ("zero", "one", "two", "three\nfour", "five")
    assert texts.all == (*texts.positive, "no")
    assert texts.is_positive == (True,) * 5 + (False,)


def test_lines_end_at_line_feeds_alone_and_keep_their_spaces(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\ufeff  one \r\ntwo\u2028still two\r\n")
    assert read_texts([file], ["no"]).positive == ("  one ", "two\u2028still two")


def test_a_file_without_an_ending_is_lines(tmp_path: Path) -> None:
    assert read_texts([write(tmp_path / "lines", "one\ntwo")], ["no"]).positive == ("one", "two")


@pytest.mark.parametrize(
    "text", ["He said yes and/or no.", "a" * 5000, "1/2 of it", "two\nlines/of text", "nul\0byte", "a sentence."]
)
def test_what_does_not_look_like_a_path_is_a_text(text: str) -> None:
    assert read_texts([text], ["no"]).positive == (text,)


@pytest.mark.parametrize("name", ["uper.txt", "there is none.jsonl", "folder/lines"])
def test_what_looks_like_a_path_and_is_none_is_not_a_text(tmp_path: Path, name: str) -> None:
    write(tmp_path / "upper.txt", "UPPER")
    with pytest.raises(NotFound) as caught:
        read_texts([str(tmp_path / name) if " " not in name else name], ["no"])
    assert caught.value.message.startswith("no file at ")
    if name == "uper.txt":
        assert caught.value.hint == "did you mean 'upper.txt'?"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "one\n\ntwo", "a.txt, line 2 is empty"),
        ("a.txt", "one\n  \n", "a.txt, line 2 is empty"),
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", b"one\n\xff\xfe", "a.txt, line 2: not UTF-8"),
        ("a.csv", "text\none", "a.csv is neither .txt nor .jsonl"),
        ("a.jsonl", '{"text": "one"}\n{"txt": "two"}', "a.jsonl, line 2: no text"),
        ("a.jsonl", '{"text": "one"}\n["two"]', "a.jsonl, line 2: no text"),
        ("a.jsonl", '{"text": 3}', "a.jsonl, line 1: no text"),
        ("a.jsonl", "one", "a.jsonl, line 1: Expecting value"),
        ("a.jsonl", '{"text": " "}', "a.jsonl, line 1 is empty"),
        ("a.jsonl", '{"text": "\\ud800"}', "a.jsonl, line 1 has a lone surrogate at 0"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1: "),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_texts([write(tmp_path / name, content)], ["no"])
    assert said in caught.value.message


def test_a_text_on_both_sides_is_named() -> None:
    with pytest.raises(BadInput, match="the text 'b' is both positive and negative"):
        read_texts(["a", "b"], ["b", "c"])


@pytest.mark.parametrize(("positive", "negative", "side"), [([], ["a"], "positive"), (["a"], [], "negative")])
def test_one_side_alone_is_refused(positive: list[str], negative: list[str], side: str) -> None:
    with pytest.raises(BadInput, match=f"there is no {side} text"):
        read_texts(positive, negative)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(BadInput, match="a --negative text is empty"):
        read_texts(["a"], ["  "])
