"""The offline engine: one text to one plan or refusal, and the plan's results to one answer. Pure and synchronous."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.events import Exchange
from pibot_mesh.master.offline.answers import Answer
from pibot_mesh.master.offline.clauses import MAX_PIECES, Clauses, NotUnderstood, TooMany
from pibot_mesh.master.offline.planning import CHANGING, Planner
from pibot_mesh.master.offline.refusals import Refusal, Refusals, Refused, examples
from pibot_mesh.master.offline.sentences import FALLBACK, Language, load_languages
from pibot_mesh.master.offline.text import normalise, scripts
from pibot_mesh.master.offline.vocabulary import Vocabulary
from pibot_mesh.protocol.messages import NodeCard, Plan, StepResult

MAX_TEXT: Final = 16_000
"""Characters, once normalised: twice those of a request. A longer text is refused."""


@dataclass(frozen=True, slots=True)
class _Strange:
    """The text is no text of this language; another may know it. *clause* is where reading it ended."""

    refusals: Refusals
    clause: str
    negation: str | None

    def refusal(self) -> Refusal:
        """What is said where no language knows it."""
        if self.negation is not None:
            return self.refusals.refused(ErrorCode.NOT_UNDERSTOOD, "negated", word=self.negation).refusal
        return self.refusals.not_understood(self.clause)


class OfflineEngine:
    """Understands the sentences of its files, whole or not at all.

    A text with a negation or a question in it never gives a plan that acts (`CHANGING`); a polite order ("could you
    turn on the fan?") is no question. The language is found by trying each, and is that of the answer.
    """

    def __init__(self, sentences: Sequence[Path] = ()) -> None:
        """Load the shipped languages, then *sentences*: files or folders of users' own.

        Raises ConfigError with everything that is wrong in them, each with file, line and path.
        """
        self._languages = load_languages(sentences)
        self._vocabularies: dict[str, Vocabulary] = {}
        self._cards: dict[str, NodeCard] = {}
        self._known: frozenset[str] = frozenset()

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that are understood."""
        return tuple(self._languages)

    def plan(
        self,
        text: str,
        cards: Mapping[str, NodeCard],
        *,
        node: str | None = None,
        known: Collection[str] = (),
        conversation: Sequence[Exchange] = (),
    ) -> Plan | Refusal:
        """The plan for *text* on the online nodes' *cards*, or why there is none.

        *node* pins everything to one node. *known* are ids of nodes that exist, online or not, so that it can be said
        that one is offline. "It" and "there" are looked for in *conversation*, the oldest first, where the text itself
        names nothing; without any they are refused. Takes time in proportion to the text, whatever it holds, and never
        raises for a text.
        """
        self._refresh(cards, known)
        plain = normalise(text)
        strange: list[_Strange] = []
        for language in self._by_script(plain):
            outcome = self._plan_in(language, plain, node, conversation)
            if not isinstance(outcome, _Strange):
                return outcome
            strange.append(outcome)
        return strange[0].refusal()

    def answer(self, plan: Plan, results: Sequence[StepResult]) -> str:
        """One text that says what happened, from *results* alone, in the language of *plan*. The same for the same."""
        return Answer(self._languages.get(plan.language, self._languages[FALLBACK]), plan, results).text()

    def examples(self, language: str, cards: Mapping[str, NodeCard] | None = None) -> list[str]:
        """Sentences that are understood, with names from *cards*, or with usual ones; English where it is unknown."""
        known = self._languages.get(language, self._languages[FALLBACK])
        return examples(known, Vocabulary(known, cards) if cards else None)

    def _plan_in(
        self, language: Language, text: str, node: str | None, conversation: Sequence[Exchange]
    ) -> Plan | Refusal | _Strange:
        vocabulary = self._vocabulary(language)
        refusals, clauses = Refusals(vocabulary), Clauses(vocabulary)
        if len(text) > MAX_TEXT:
            return refusals.refused(ErrorCode.NOT_UNDERSTOOD, "too_many", limit=MAX_PIECES).refusal
        found = clauses.read(text)
        if isinstance(found, TooMany):
            return refusals.refused(ErrorCode.NOT_UNDERSTOOD, "too_many", limit=MAX_PIECES).refusal
        negation = clauses.negation(text)
        if isinstance(found, NotUnderstood):
            return _Strange(refusals, found.text, negation)
        try:
            plan = Planner(vocabulary, self._cards, refusals, node, conversation).plan(found)
        except Refused as refused:
            return refused.refusal
        if any(step.tool in CHANGING for step in plan.steps):
            if negation is not None:
                return refusals.refused(ErrorCode.NOT_UNDERSTOOD, "negated", word=negation).refusal
            if clauses.is_asked(text):
                return refusals.refused(ErrorCode.NOT_UNDERSTOOD, "asked").refusal
        return plan

    def _by_script(self, text: str) -> list[Language]:
        """The languages, those of the scripts in *text* first."""
        there = scripts(text[:MAX_TEXT])
        rank = {"CJK": 0} if "CJK" in there else {}
        languages = list(self._languages.values())
        return sorted(languages, key=lambda each: (rank.get(each.script, 1), -there.get(each.script, 0)))

    def _refresh(self, cards: Mapping[str, NodeCard], known: Collection[str]) -> None:
        """Forget the words of an earlier mesh where it has changed; a card that is the same object is not compared."""
        names = frozenset(known)
        is_same = (
            names == self._known
            and list(cards) == list(self._cards)
            and all(card is self._cards[node] or card == self._cards[node] for node, card in cards.items())
        )
        if not is_same:
            self._cards, self._known = dict(cards), names
            self._vocabularies.clear()

    def _vocabulary(self, language: Language) -> Vocabulary:
        if language.code not in self._vocabularies:
            self._vocabularies[language.code] = Vocabulary(language, self._cards, self._known)
        return self._vocabularies[language.code]
