"""Token texts that join to the text they came from, for every kind of tokenizer."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from featuredb.model import model_from
from featuredb.model.tokens import encode_text, first_id, padding_id, special_ids, token_texts
from tests.tiny_models import LINES, tiny, tiny_tokenizer


def fast(backend: Any, **names: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def joined(tokenizer: Any, text: str) -> str:
    texts = token_texts(tokenizer, len(tokenizer))
    return "".join(texts[index] for index in encode_text(tokenizer, text))


@pytest.mark.parametrize("text", LINES)
def test_byte_level_tokens_join_to_the_text(text: str) -> None:
    tokenizer = tiny_tokenizer()
    if text.isascii():
        assert joined(tokenizer, text) == text
    ids = encode_text(tokenizer, text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text


def test_bytes_that_are_no_character_are_shown_as_bytes() -> None:
    texts = token_texts(tiny_tokenizer(), 0)
    vocabulary = tiny_tokenizer().get_vocab()
    assert texts[vocabulary["Ã"]] == "\\xc3"
    assert texts[vocabulary["Ċ"]] == "\n"
    assert texts[vocabulary["Ġ"]] == " "
    assert texts[0] == "<|endoftext|>"


def test_sentencepiece_tokens_keep_their_space_and_read_bytes() -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = {"<unk>": 0, "<0x0A>": 1, "<0xE2>": 2, "▁": 3, "c": 4, "a": 5, "t": 6, "▁c": 7}
    backend = Tokenizer(models.BPE(vocabulary, [("▁", "c")], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = fast(backend, unk_token="<unk>")
    assert token_texts(tokenizer, 0) == ["<unk>", "\n", "\\xe2", " ", "c", "a", "t", " c"]
    assert joined(tokenizer, "cat cat\n") == "cat cat\n"


def test_wordpiece_tokens_that_open_a_word_get_their_space() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {"[UNK]": 0, "[CLS]": 1, "the": 2, "cat": 3, "##s": 4, ".": 5}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    tokenizer = fast(backend, unk_token="[UNK]", cls_token="[CLS]")
    assert joined(tokenizer, "the cats.") == " the cats."
    assert first_id(tokenizer) == 1
    assert padding_id(tokenizer) == 0


def test_ids_without_a_token_say_so() -> None:
    model = model_from(*tiny("llama", vocab_size=330), name="padded")
    texts = model.token_texts()
    assert len(texts) == model.vocab_size == 330
    assert texts[329] == "<no token 329>"


def test_added_tokens_are_written_as_they_are_and_only_special_ones_are_special() -> None:
    from transformers import AddedToken

    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("é  ", special=False), AddedToken("<|reserved|>", special=True)])
    texts = token_texts(tokenizer, 0)
    plain, reserved = tokenizer.convert_tokens_to_ids(["é  ", "<|reserved|>"])
    assert (texts[plain], texts[reserved]) == ("é  ", "<|reserved|>")
    assert special_ids(tokenizer) == {0, reserved}


def test_encoding_adds_nothing_cuts_nothing_and_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    model = model_from(*tiny("gpt2"), name="gpt2")
    model.tokenizer.model_max_length = 16
    model.tokenizer.backend_tokenizer.enable_truncation(16)
    text = "The cat sat on the mat. " * 100
    ids = model.encode_text(text)
    assert len(ids) > 200
    assert not set(ids.tolist()) & model.special_ids
    assert "".join(model.token_texts()[index] for index in ids) == text
    assert model.encode_text("").tolist() == []
    assert caplog.records == []


def test_a_spelt_out_special_token_comes_back_as_one_that_can_be_told() -> None:
    model = model_from(*tiny("gpt2"), name="gpt2")
    assert (model.bos_id, model.pad_id, model.special_ids) == (0, 0, frozenset({0}))
    assert 0 in model.encode_text("a <|endoftext|> b").tolist()


def test_a_quarter_of_a_million_tokens_take_about_a_second() -> None:
    from tokenizers import Tokenizer, decoders, models

    alphabet = sorted(tiny_tokenizer().get_vocab())[:60]
    words = [first + second + third for first in alphabet for second in alphabet for third in ("a", "Ġb", "é", "中")]
    vocabulary = {f"{word}{index}": index for index, word in enumerate(words * 18)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=next(iter(vocabulary))))
    backend.decoder = decoders.ByteLevel()
    tokenizer = fast(backend)
    assert len(vocabulary) > 250_000
    start = time.process_time()
    texts = token_texts(tokenizer, 0)
    assert len(texts) == len(vocabulary)
    # Ten times the measured time, for slow machines.
    assert time.process_time() - start < 10
