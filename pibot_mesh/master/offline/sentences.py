"""The languages of the offline engine, read from YAML files: the shipped ones, then users' own.

A file has hassil's format (as Home Assistant's custom sentences have it) and a few keys more; `en.yaml` explains them.
Files of the same language are laid over each other in the order in which they are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Final, cast

from hassil.expression import Expression, Group, ListReference, RuleReference
from hassil.intents import Intents
from hassil.numbers import get_rbnf_engine
from hassil.parse_expression import parse_sentence
from hassil.parser import ParseError

from pibot_mesh.config.source import KeyPath, Problem, Source, Value, read_yaml, suggestion
from pibot_mesh.config.words import schema_problems
from pibot_mesh.errors import ConfigError
from pibot_mesh.master.offline.schema import SENTENCE_FILE, WORD_LISTS
from pibot_mesh.master.offline.text import key, scripts, word_pattern

INTENTS: Final = (
    "SetOutput",
    "Read",
    "NodeStatus",
    "MeshStatus",
    "List",
    "Help",
    "Condition",
    "Whenever",
    "ReflexList",
    "ReflexRemove",
    "More",
)
"""What a sentence can mean; a file may add sentences to these and to no others."""
LIVE_LISTS: Final = ("thing", "place", "reflex", "number", "rest")
"""The lists that are made anew for every text."""
FALLBACK: Final = "en"
"""The language that lends its responses to one that lacks some."""

_OUT_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "state": ("on", "off"),
    "op": ("above", "below", "at_least", "at_most"),
    "happens": (
        "is_on",
        "is_off",
        "pressed",
        "released",
        "held",
        "double_pressed",
        "opened",
        "closed",
    ),
}
_HIGHEST_NUMBER_WORD: Final = 120
_SYNTAX = re.compile(r"<\w*>|\{[\w:]*\}")
_ROLE: Final = r"\{(?:output|dimmable|measure|input)\}"
_EXAMPLE = re.compile(
    rf"[^{{}}]*(?:\{{node\}}[^{{}}]*|(?:{_ROLE}[^{{}}]*\{{node\}}[^{{}}]*)+|(?:\{{node\}}[^{{}}]*{_ROLE}[^{{}}]*)+)?"
)
"""What an example may hold: nothing live, one node, or pairs of a device and its node, in the same order throughout."""


@dataclass(frozen=True, slots=True)
class KindWords:
    """What devices of some kinds or directions are called: words for one, and words for several."""

    words: tuple[str, ...]
    many: tuple[str, ...] = ()
    kinds: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """One language: what it understands and how it answers. *words* are patterns for the lists in `WORD_LISTS`."""

    code: str
    intents: Intents
    words: Mapping[str, re.Pattern[str]]
    skip: re.Pattern[str]
    kinds: tuple[KindWords, ...]
    measures: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str]
    plural: tuple[str, ...]
    numbers: Mapping[str, float]
    examples: tuple[str, ...]
    responses: Mapping[str, str]
    script: str
    """The script in which most of its sentences are written (``LATIN``, ``CJK``)."""

    def say(self, response: str, **values: object) -> str:
        """The text of *response*, filled with *values*."""
        return self.responses[response].format(**values)

    def any_of(self, parts: Sequence[str]) -> str:
        """``a``, ``a or b``, ``a, b or c``."""
        return self._listed(parts, "or")

    def all_of(self, parts: Sequence[str]) -> str:
        """``a``, ``a and b``, ``a, b and c``."""
        return self._listed(parts, "and")

    def _listed(self, parts: Sequence[str], last: str) -> str:
        *before, end = parts
        return f"{self.responses['comma'].join(before)}{self.responses[last]}{end}" if before else end


@dataclass(slots=True)
class _Draft:
    """One language while its files are read."""

    code: str
    intents: dict[str, list[dict[str, Value]]] = field(default_factory=dict)
    lists: dict[str, list[Value]] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    kinds: list[KindWords] = field(default_factory=list)
    measures: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    responses: dict[str, str] = field(default_factory=dict)


def load_languages(paths: Sequence[Path] = ()) -> dict[str, Language]:
    """The shipped languages and, over them, those of *paths*: files, or folders of ``*.yaml`` and ``*.yml``.

    Raises ConfigError with everything that is wrong, each with file, line and path.
    """
    problems: list[str] = []
    sources: list[Source] = []
    for path in (*_shipped(), *_files(paths, problems)):
        try:
            sources.append(_read(path))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    drafts: dict[str, _Draft] = {}
    known: dict[str, set[str]] = {}
    for source in sources:
        code = cast(str, source.values["language"])
        _lay_over(drafts.setdefault(code, _Draft(code)), source)
        if code == FALLBACK and not known:
            known = {name: _fields(response) for name, response in drafts[code].responses.items()}
    for source in sources:
        draft = drafts[cast(str, source.values["language"])]
        problems += [source.show(problem) for problem in _reference_problems(source, draft, known)]
    if problems:
        raise ConfigError(problems)
    fallback = drafts[FALLBACK].responses
    return {code: _finish(draft, fallback) for code, draft in drafts.items()}


def _shipped() -> list[Path]:
    folder = Path(str(resources.files("pibot_mesh"))) / "shipped" / "config" / "sentences"
    return sorted(folder.glob("*.yaml"))


def _files(paths: Sequence[Path], problems: list[str]) -> Iterator[Path]:
    for path in paths:
        whole = path.expanduser()
        if not whole.is_dir():
            yield whole
            continue
        found = sorted([*whole.glob("*.yaml"), *whole.glob("*.yml")])
        if not found:
            problems.append(f"{path}: there is no file *.yaml in this folder: put your sentences into one")
        yield from found


def _read(path: Path) -> Source:
    source = read_yaml(path)
    problems = schema_problems(SENTENCE_FILE, source.values) or list(_own_problems(source.values))
    if problems:
        raise ConfigError([source.show(problem) for problem in problems])
    return source


def _own_problems(values: Mapping[str, Value]) -> Iterator[Problem]:
    """What is wrong in one file that a schema cannot say."""
    for name in _mapping(values, "intents"):
        if name not in INTENTS:
            known = f"{suggestion(name, INTENTS)}; known are: {', '.join(INTENTS)}"
            yield Problem(("intents", name), f"there is no intent {name!r}{known}")
    for name, content in _mapping(values, "lists").items():
        path: KeyPath = ("lists", name, "values")
        if name in LIVE_LISTS:
            yield Problem(("lists", name), "this list is made from the devices and the text: take another name")
        for index, value in enumerate(cast(list[Value], cast(dict[str, Value], content)["values"])):
            out = value.get("out", "") if isinstance(value, dict) else value
            if name in _OUT_WORDS and out not in _OUT_WORDS[name]:
                yield Problem((*path, index), f"out: one of {', '.join(_OUT_WORDS[name])} is expected, not {out!r}")
    for index, example in enumerate(cast(list[str], values.get("examples") or [])):
        if not _EXAMPLE.fullmatch(example):
            fields = "{node}, and {output}, {dimmable}, {measure} or {input} each in a pair with a {node}"
            yield Problem(("examples", index), f"only these can stand for what is there: {fields}")
    for path, template in _templates(values):
        try:
            parse_sentence(template)
        except (ParseError, ValueError, AssertionError) as error:
            yield Problem(path, f"this is no template of hassil: {error} (check its brackets)")


def _templates(values: Mapping[str, Value]) -> Iterator[tuple[KeyPath, str]]:
    """Every template of a file, with its place."""
    for name, intent in _mapping(values, "intents").items():
        for index, block in enumerate(_blocks(intent)):
            for number, sentence in enumerate(cast(list[str], block["sentences"])):
                yield ("intents", name, "data", index, "sentences", number), sentence
    for name, rule in _mapping(values, "expansion_rules").items():
        yield ("expansion_rules", name), cast(str, rule)
    for name, content in _mapping(values, "lists").items():
        for index, value in enumerate(cast(list[Value], cast(dict[str, Value], content)["values"])):
            yield ("lists", name, "values", index), cast(str, value["in"] if isinstance(value, dict) else value)


def _mapping(values: Mapping[str, Value], name: str) -> dict[str, Value]:
    return cast(dict[str, Value], values.get(name) or {})


def _blocks(intent: Value) -> list[dict[str, Value]]:
    return cast(list[dict[str, Value]], cast(dict[str, Value], intent)["data"])


def _lay_over(draft: _Draft, source: Source) -> None:
    values = source.values
    for name, intent in _mapping(values, "intents").items():
        draft.intents.setdefault(name, []).extend(_blocks(intent))
    for name, content in _mapping(values, "lists").items():
        more = cast(list[Value], cast(dict[str, Value], content)["values"])
        draft.lists.setdefault(name, []).extend({"in": item} if isinstance(item, str) else item for item in more)
    draft.rules |= cast(dict[str, str], _mapping(values, "expansion_rules"))
    draft.responses |= cast(dict[str, str], _mapping(values, "responses"))
    draft.names |= {key(name): said for name, said in cast(dict[str, str], _mapping(values, "names")).items()}
    texts = {name: values.get(name) for name in ("skip_words", "plural", "examples")} | _mapping(values, "words")
    for name, words in texts.items():
        draft.texts.setdefault(name, []).extend(cast(list[str], words or []))
    for measure, words in _mapping(values, "measures").items():
        draft.measures.setdefault(measure, []).extend(cast(list[str], words))
    for item in cast(list[dict[str, list[str]]], values.get("kinds") or []):
        kinds, directions = frozenset(item.get("kinds", [])), frozenset(item.get("directions", []))
        draft.kinds.append(KindWords(tuple(item["words"]), tuple(item.get("many", [])), kinds, directions))


def _reference_problems(source: Source, draft: _Draft, known: Mapping[str, set[str]]) -> Iterator[Problem]:
    """Lists and rules that do not exist, rules in circles, and responses with fields that they do not have."""
    lists = (*LIVE_LISTS, *draft.lists)
    for path, template in _templates(source.values):
        for reference in _references(parse_sentence(template).expression):
            is_known = isinstance(reference, RuleReference) or reference.is_inline_range or reference.list_name in lists
            if isinstance(reference, ListReference) and not is_known:
                near = suggestion(reference.list_name, lists)
                yield Problem(path, f"there is no list {{{reference.list_name}}}{near}")
            if isinstance(reference, RuleReference) and reference.rule_name not in draft.rules:
                near = suggestion(reference.rule_name, draft.rules)
                yield Problem(path, f"there is no rule <{reference.rule_name}>{near}")
    for name in _mapping(source.values, "expansion_rules"):
        if _is_circular(name, draft.rules):
            yield Problem(("expansion_rules", name), "this rule leads back to itself: hassil knows no recursion")
    for name, response in cast(dict[str, str], _mapping(source.values, "responses")).items():
        if name not in known:
            yield Problem(("responses", name), f"there is no such response{suggestion(name, known)}")
        elif problem := _response_problem(response, known[name]):
            yield Problem(("responses", name), problem)


def _references(expression: Expression) -> Iterator[ListReference | RuleReference]:
    if isinstance(expression, (ListReference, RuleReference)):
        yield expression
    elif isinstance(expression, Group):
        for item in expression.items:
            yield from _references(item)


def _is_circular(name: str, rules: Mapping[str, str]) -> bool:
    seen: set[str] = set()
    open_rules = [name]
    while open_rules:
        rule = rules.get(open_rules.pop())
        for reference in _references(parse_sentence(rule).expression) if rule else ():
            if isinstance(reference, RuleReference):
                if reference.rule_name == name:
                    return True
                if reference.rule_name not in seen:
                    seen.add(reference.rule_name)
                    open_rules.append(reference.rule_name)
    return False


def _fields(response: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(response) if name is not None}


def _response_problem(response: str, known: set[str]) -> str | None:
    try:
        unknown = sorted(_fields(response) - known)
    except ValueError as error:
        return f"this text cannot be filled: {error} (a brace is written twice)"
    if unknown:
        have = f"it has: {', '.join(sorted(known))}" if known else "it has none"
        return f"there is no field {{{unknown[0]}}} here; {have}"
    return None


def _finish(draft: _Draft, fallback: Mapping[str, str]) -> Language:
    intents = Intents.from_dict(
        {
            "language": draft.code,
            "intents": {name: {"data": blocks} for name, blocks in draft.intents.items()},
            "lists": {name: {"values": values} for name, values in draft.lists.items()},
            "expansion_rules": draft.rules,
        }
    )
    sentences = [sentence for blocks in draft.intents.values() for block in blocks for sentence in _sentences(block)]
    counts = scripts(_SYNTAX.sub("", "".join(sentences + draft.texts.get("examples", []))))
    texts = draft.texts
    return Language(
        code=draft.code,
        intents=intents,
        words={name: re.compile(word_pattern(texts.get(name, []))) for name in WORD_LISTS},
        skip=re.compile(word_pattern(texts.get("skip_words", []))),
        kinds=tuple(draft.kinds),
        measures={measure: tuple(words) for measure, words in draft.measures.items()},
        names=draft.names,
        plural=tuple(texts.get("plural", [])),
        numbers=_number_words(draft.code),
        examples=tuple(texts.get("examples", [])),
        responses={**fallback, **draft.responses},
        script=max(counts, key=lambda script: counts[script], default="LATIN"),
    )


def _sentences(block: Mapping[str, Value]) -> Iterable[str]:
    return cast(list[str], block["sentences"])


def _number_words(code: str) -> dict[str, float]:
    """Number words of the language that hassil knows, from 0 to 120; none for a language that it does not know."""
    try:
        engine = get_rbnf_engine(code)
    except ValueError:
        return {}
    return {
        key(words): float(number)
        for number in range(_HIGHEST_NUMBER_WORD, -1, -1)
        for words in engine.format_number(number).text_by_ruleset.values()
    }
