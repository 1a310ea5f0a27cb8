"""Text to token ids and token ids to readable text, for every kind of tokenizer.

Rule: one token at a time. What tokens mean side by side is the reader's business.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def encode_text(tokenizer: Any, text: str) -> npt.NDArray[np.int32]:
    """(n,) token ids of a text: nothing put before or after it, nothing cut off, no warning about its length.

    Where the text spells a special token out, the tokenizer's own reading stands: usually that token's id.
    """
    encoded = tokenizer(
        text, add_special_tokens=False, truncation=False, padding=False, return_attention_mask=False, verbose=False
    )
    return np.asarray(encoded["input_ids"], dtype=np.int32)


def special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that stand for no text: named ones such as the beginning of text, and reserved ones."""
    added = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(int(index) for index in added | set(tokenizer.all_special_ids))


def first_id(tokenizer: Any) -> int | None:
    """The id that opens a text: the tokenizer's BOS, or [CLS] where it has that instead; None where it has neither."""
    for index in (tokenizer.bos_token_id, tokenizer.cls_token_id):
        if index is not None:
            return int(index)
    return None


def padding_id(tokenizer: Any) -> int:
    """An id the model accepts, for places that the mask hides."""
    for index in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if index is not None:
            return int(index)
    return 0


def token_texts(tokenizer: Any, n_ids: int) -> list[str]:
    """The display text of every token id from 0, so that the texts of a row, joined, read as the text did.

    n_ids: at least how many; ids without a token read "<no token 17>". Bytes that are no text by themselves read
    "\\xe2". WordPiece tokens that open a word get the space that WordPiece does not write down.
    """
    vocabulary: dict[Any, int] = tokenizer.get_vocab()
    texts = [f"<no token {index}>" for index in range(max(n_ids, 1 + max(vocabulary.values(), default=-1)))]
    read = _reader(tokenizer, vocabulary)
    for token, index in vocabulary.items():
        texts[index] = read(token)
    # Added tokens are written as they are, whatever the alphabet of the rest.
    for index, added in tokenizer.added_tokens_decoder.items():
        texts[index] = str(added.content)
    return texts


def _reader(tokenizer: Any, vocabulary: dict[Any, int]) -> Any:
    parts = _decoder_parts(tokenizer)
    if "ByteLevel" in parts:
        return _ByteLevel()
    if "WordPiece" in parts or (not parts and "##s" in vocabulary):
        return _word_piece
    if "BPEDecoder" in parts:
        return _word_suffix
    return _sentence_piece


def _decoder_parts(tokenizer: Any) -> set[str]:
    """The types of the steps with which a fast tokenizer decodes; empty for a tokenizer written in Python."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if decoder is None:
        return set()
    state = json.loads(decoder.__getstate__())
    return {step["type"] for step in (state, *state.get("decoders", []))}


class _ByteLevel:
    """Reads tokens of byte-level BPE, in which every byte is written as one printable character."""

    def __init__(self) -> None:
        printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
        self._byte = {chr(byte): byte for byte in printable}
        hidden = (byte for byte in range(256) if byte not in set(printable))
        self._byte |= {chr(256 + place): byte for place, byte in enumerate(hidden)}

    def __call__(self, token: str) -> str:
        text = token.replace("Ġ", " ")
        if text.isascii():
            return text
        try:
            return bytes(map(self._byte.__getitem__, token)).decode("utf-8", "backslashreplace")
        except KeyError:  # not written in bytes after all
            return token


def _sentence_piece(token: str | bytes) -> str:
    if isinstance(token, bytes):  # tiktoken-like tokenizers
        return token.decode("utf-8", "backslashreplace")
    byte = _BYTE_TOKEN.fullmatch(token)
    if byte:
        return bytes([int(byte[1], 16)]).decode("utf-8", "backslashreplace")
    return token.replace("▁", " ")


def _word_piece(token: str) -> str:
    if token.startswith("##"):
        return token[2:]
    return f" {token}" if token[:1].isalnum() else token


def _word_suffix(token: str) -> str:
    return token.replace("</w>", " ")
