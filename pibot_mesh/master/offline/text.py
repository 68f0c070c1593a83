"""Texts and names brought into one form, so that they can be compared. Pure.

Everything that is matched goes through `normalise`: what a person typed, and what devices, rooms and nodes are called.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

CJK: Final = "㐀-䶿一-鿿぀-ヿ가-힯"
"""Characters of scripts without spaces between words, as a part of a regular expression's class."""

_OTHER_DASHES: Final = "‐‑‒–—―−"
_QUOTES: Final = str.maketrans({"’": "'", "‘": "'", "`": "'"})
_LETTER: Final = rf"[^\W{CJK}]"
_JOINING_HYPHEN = re.compile(rf"(?<={_LETTER})[-‐‑](?={_LETTER})")
_MINUS = re.compile(rf"(?<!{_LETTER})[-{_OTHER_DASHES}]\s?(?=\d)")
_DASH = re.compile(rf"[{_OTHER_DASHES}]")
_AFTER_NUMBER = re.compile(r"(?<=\d)(?=[a-z])")
_DEGREES = re.compile(r"\s*°\s*(?:c(?![a-z]))?")
_PERCENT = re.compile(r"\s*%")
_LINES = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_SPACES_BY_CJK = re.compile(rf"(?<=[{CJK}])\s+|\s+(?=[{CJK}])")
MINUS_SIGN: Final = "−"
"""What stands for the sign of a negative number after `normalise`; a hyphen would be lost on hassil."""


def normalise(text: str) -> str:
    """*text* in small letters, with half-width characters, single spaces and no invisible characters.

    Hyphens inside words become spaces, the sign of a number becomes `MINUS_SIGN`, other dashes become commas, line
    ends become ``;``, ``10min`` becomes ``10 min``, ``40 %`` becomes ``40%``, ``28 °C`` becomes ``28°``, and spaces
    next to Chinese, Japanese or Korean characters vanish.
    """
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold()
    text = _LINES.sub("; ", text)
    text = "".join(" " if unicodedata.category(char) == "Zs" else char for char in text if not _is_invisible(char))
    text = text.replace("_", " ")
    text = _JOINING_HYPHEN.sub(" ", text)
    text = _MINUS.sub(MINUS_SIGN, text)
    text = re.sub(rf"{MINUS_SIGN}(?!\d)", ",", text)
    text = _DASH.sub(lambda dash: MINUS_SIGN if dash.group() == MINUS_SIGN else ",", text)
    text = _AFTER_NUMBER.sub(" ", text)
    text = _PERCENT.sub("%", _DEGREES.sub("°", text))
    return _SPACES_BY_CJK.sub("", " ".join(text.split()))


def _is_invisible(char: str) -> bool:
    return char not in "\t " and unicodedata.category(char) in ("Cf", "Cc", "Cs", "Co", "Cn")


def key(name: str) -> str:
    """What *name* is matched by: normalised, without the punctuation that hassil takes out of a text as well."""
    from hassil.util import remove_punctuation

    return remove_punctuation(normalise(name)).strip()


def word_pattern(words: Iterable[str]) -> str:
    """A regular expression for any of *words*, the longest first; one that never matches where there are none.

    A word of a script with spaces stands alone; with ``*`` at its start it may end another word (``*n't``).
    """
    ordered = sorted({normalise(word) for word in words}, key=lambda word: (-len(word), word))
    return "|".join(_one_word(word) for word in ordered if word) or "(?!)"


def _one_word(word: str) -> str:
    rest = word.removeprefix("*")
    before = rf"(?<!{_LETTER})" if rest == word and re.match(_LETTER, rest) else ""
    after = rf"(?!{_LETTER})" if re.match(_LETTER, rest[-1:]) else ""
    return f"{before}{re.escape(rest)}{after}"


def whole_word(text: str, start: int, end: int) -> str:
    """What stands from *start* to *end*, and the letters that belong to it before."""
    while start and re.match(_LETTER, text[start]) and re.match(_LETTER, text[start - 1]):
        start -= 1
    return text[start:end]


def scripts(text: str) -> dict[str, int]:
    """How many letters of each script are in *text*, by the first word of their Unicode names (``LATIN``, ``CJK``)."""
    counts: dict[str, int] = {}
    for char in text:
        if char.isalpha():
            script = unicodedata.name(char, "?").split()[0]
            counts[script] = counts.get(script, 0) + 1
    return counts
