"""Text of a corpus, a label or a model made safe and visible: nothing that steers a terminal or a page gets through."""

from __future__ import annotations

import unicodedata

_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}


def visible(text: str) -> str:
    """The text with each character that moves, hides or reorders other text replaced by one that can be seen.

    Newline and tab become ⏎ and ⇥, other ASCII controls their control pictures, and what is left of Unicode's
    controls, formats (bidirectional overrides among them), line separators, surrogates and unassigned characters
    its code in the form ⟨202e⟩.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_plain(char) else _shown(char) for char in text)


def _is_plain(char: str) -> bool:
    # A joiner inside an emoji or an Indic word is part of how it is spelt, and moves nothing.
    return char.isprintable() or char in "\u200c\u200d" or unicodedata.category(char) == "Zs"


def _shown(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else f"⟨{code:04x}⟩"
