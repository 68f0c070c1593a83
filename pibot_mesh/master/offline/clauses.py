"""A text cut into clauses, each matched as a whole by a sentence of the language. Pure.

The work is bounded: at most `MAX_PIECES` pieces, each matched alone and, where that leads nowhere, together with at
most `MAX_WIDTH - 1` neighbours (for names and sentences that hold an "and"), never more than `MAX_PIECE` characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from hassil.recognize import RecognizeResult, recognize_all
from hassil.util import remove_punctuation

from pibot_mesh.master.offline.sentences import Language
from pibot_mesh.master.offline.text import whole_word
from pibot_mesh.master.offline.vocabulary import Vocabulary

MAX_PIECES: Final = 40
MAX_PIECE: Final = 240
MAX_WIDTH: Final = 4

Link: TypeAlias = Literal["direct", "start", "comma", "and", "then", "else"]
"""What joins a clause to the one before it: ``start`` begins a sentence, ``direct`` is an "if" without a separator."""

_LINKS: Final[tuple[Link, ...]] = ("direct", "start", "comma", "and", "then", "else")
"""From weak to strong: of several in a row (", and then") the strongest counts."""
_SENTENCE_END = re.compile(r"([!?;。؟]+|\.(?=\s|$))")
_EDGES: Final = " ,、."


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause as a sentence of the language matched it. *slots* holds every value of a slot, in the order said."""

    intent: str
    slots: Mapping[str, tuple[object, ...]]
    text: str
    link: Link = "start"
    sentence: int = 0


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """*text* is the clause that no sentence matches."""

    text: str


@dataclass(frozen=True, slots=True)
class TooMany:
    """The text has more than `MAX_PIECES` pieces."""


@dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    end: int
    link: Link


@dataclass(frozen=True, slots=True)
class _Sentence:
    """*has_mark*: it ends with a question mark, and is no polite order."""

    text: str
    has_mark: bool


Found: TypeAlias = tuple[Clause, ...] | None
"""What a row of pieces is: one clause, two where a condition and what depends on it are not set apart, or none."""


class Clauses:
    """Reads texts, normalised by `text.normalise`, in the words of one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._language = vocabulary.language
        self._separator = _separator(self._language)

    def read(self, text: str) -> list[Clause] | NotUnderstood | TooMany:
        """The clauses of *text*, or the first that is none."""
        sentences = [sentence.text for sentence in self._sentences(text)]
        cut = [self._pieces(sentence) for sentence in sentences]
        if sum(map(len, cut)) > MAX_PIECES:
            return TooMany()
        clauses: list[Clause] = []
        known: dict[str, Found] = {}
        for index, (sentence, pieces) in enumerate(zip(sentences, cut, strict=True)):
            reading = _Reading(self, sentence, pieces, known)
            found = reading.from_piece(0)
            if found is None:
                return NotUnderstood(reading.farthest())
            clauses += [replace(clause, sentence=index) for clause in found]
        return clauses or NotUnderstood("")

    def negation(self, text: str) -> str | None:
        """The first word of negation in *text*, names and what only looks like one left out; None without one."""
        words = self._language.words
        masked = words["not_negation"].sub(" ", self._masked(text))
        found = words["negation"].search(masked)
        return whole_word(masked, found.start(), found.end()) if found else None

    def is_asked(self, text: str) -> bool:
        """Whether anything is asked in *text*. A polite order ("could you ...?") asks nothing."""
        words = self._language.words
        for sentence in self._sentences(self._masked(text)):
            if sentence.has_mark or words["question_anywhere"].search(self.trim(sentence.text)):
                return True
            for piece in self._pieces(sentence.text):
                said = self.trim(sentence.text[piece.start : piece.end])
                if words["question_start"].match(said) and not words["whenever"].match(said):
                    return True
        return False

    def trim(self, text: str) -> str:
        """*text* without the words at its ends that mean nothing, and without what only makes an order polite."""
        skip = self._language.skip
        return _cut_end(_cut_start(text, skip, self._language.words["polite"]), skip)

    def match(self, text: str, *, may_depend: bool = True) -> Found:
        """What the whole of *text* is; of several sentences that match, that with most words of its own counts."""
        whole = text.strip(_EDGES)
        for candidate in dict.fromkeys((whole, self.trim(whole))):
            if 0 < len(candidate) <= MAX_PIECE and (found := self._match(candidate, may_depend=may_depend)):
                return found
        return None

    def _match(self, text: str, *, may_depend: bool) -> Found:
        lists = self._vocabulary.lists(remove_punctuation(text))
        results = recognize_all(text, self._language.intents, slot_lists=lists)
        for result in sorted(results, key=_rank):
            slots = _slots(result)
            clause = Clause(result.intent.name, slots, text)
            rest = slots.get("rest")
            if rest is None:
                return (clause,)
            dependent = self.match(str(rest[0]), may_depend=False) if may_depend else None
            if dependent is not None:
                return (clause, replace(dependent[0], link="then"))
        return None

    def _masked(self, text: str) -> str:
        for name in self._vocabulary.masks:
            text = text.replace(name, "_" * len(name))
        return text

    def _sentences(self, text: str) -> Iterator[_Sentence]:
        """The sentences of *text*; what only makes the end of an order polite is taken off ("..., will you?")."""
        words = self._language.words
        parts = [*_SENTENCE_END.split(text), ""]
        for part, end in zip(parts[::2], parts[1::2], strict=True):
            whole = part.strip(_EDGES)
            is_polite = words["polite"].match(_cut_start(whole, self._language.skip)) is not None
            kept = _cut_end(whole, words["polite_end"])
            is_polite = is_polite or kept != whole
            if is_polite:
                kept = _cut_end(kept, words["polite_particle"])
            if kept:
                yield _Sentence(kept, not is_polite and ("?" in end or "؟" in end))

    def _pieces(self, text: str) -> list[_Piece]:
        """*text* cut at every separator. What means nothing alone ("please,") is left out; a loose "and" stays."""
        pieces: list[_Piece] = []
        link: Link = "start"
        position = 0
        for found in self._separator.finditer(text):
            if self.trim(text[position : found.start()]):
                pieces.append(_Piece(position, found.start(), link))
                link = "direct"
            link = max(link, _link(found), key=_LINKS.index)
            position = found.end()
        if self.trim(text[position:]) or link in ("and", "then", "else"):
            pieces.append(_Piece(position, len(text), link))
        return pieces


class _Reading:
    """One sentence: the first way to cut it in which every piece, or row of pieces, is a clause."""

    def __init__(self, clauses: Clauses, text: str, pieces: list[_Piece], known: dict[str, Found]) -> None:
        self._clauses = clauses
        self._text = text
        self._pieces = pieces
        self._known = known
        self._failed: set[int] = set()
        self._farthest = 0

    def from_piece(self, index: int) -> list[Clause] | None:
        """The clauses from piece *index* to the end; None where there is no way to read them."""
        if index == len(self._pieces):
            return []
        if index in self._failed:
            return None
        self._farthest = max(self._farthest, index)
        for end in range(index + 1, min(index + MAX_WIDTH, len(self._pieces)) + 1):
            found = self._match(index, end)
            rest = self.from_piece(end) if found else None
            if found and rest is not None:
                return [replace(found[0], link=self._pieces[index].link), *found[1:], *rest]
        self._failed.add(index)
        return None

    def farthest(self) -> str:
        """The piece beyond which reading could not come."""
        piece = self._pieces[self._farthest]
        return self._clauses.trim(self._text[piece.start : piece.end]) or self._text

    def _match(self, first: int, end: int) -> Found:
        text = self._text[self._pieces[first].start : self._pieces[end - 1].end].strip(_EDGES)
        if text not in self._known:
            self._known[text] = self._clauses.match(text)
        return self._known[text]


def _separator(language: Language) -> re.Pattern[str]:
    words = language.words
    return re.compile(
        rf"(?P<comma>[,、](?!\d)|(?<!\d)[,、])|(?P<else>{words['else'].pattern})|(?P<then>{words['then'].pattern})"
        rf"|(?P<and>{words['and'].pattern})|(?P<direct>(?={words['if'].pattern}|{words['whenever'].pattern}))"
    )


def _link(found: re.Match[str]) -> Link:
    return next(link for link in _LINKS if found.groupdict().get(link) is not None)


def _cut_start(text: str, *patterns: re.Pattern[str]) -> str:
    """*text* without any words of *patterns* at its start. Takes time in proportion to what is cut."""
    position = 0
    while found := next((found for pattern in patterns if (found := pattern.match(text, position))), None):
        position = found.end()
        while position < len(text) and text[position] in _EDGES:
            position += 1
    return text[position:].strip(_EDGES)


def _cut_end(text: str, words: re.Pattern[str]) -> str:
    """*text* without any of *words* at its end. Takes time in proportion to *text*."""
    text = text.strip(_EDGES)
    for found in reversed(list(words.finditer(text))):
        if found.end() != len(text):
            break
        text = text[: found.start()].rstrip(_EDGES)
    return text


def _slots(result: RecognizeResult) -> dict[str, tuple[object, ...]]:
    slots: dict[str, tuple[object, ...]] = {}
    for entity in result.entities_list:
        slots[entity.name] = (*slots.get(entity.name, ()), entity.value)
    return slots


def _rank(result: RecognizeResult) -> tuple[bool, int, int, int, str]:
    """Whole clauses before parts of them, then most words of its own, fewest and longest names, and any fixed order."""
    said = [entity for entity in result.entities_list if entity.text]
    names = [len(entity.text) for entity in said if not entity.is_wildcard]
    return (
        result.intent.name == "More",
        -result.text_chunks_matched,
        len(said),
        -max(names, default=0),
        f"{result.intent.name}{sorted((entity.name, entity.text) for entity in said)}",
    )
