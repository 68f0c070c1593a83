"""What a sentence file may hold, as a JSON Schema; `sentences` checks what a schema cannot say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

WORD_LISTS: Final = (
    "and",
    "then",
    "else",
    "if",
    "whenever",
    "polite",
    "polite_end",
    "polite_particle",
    "question_start",
    "question_anywhere",
    "negation",
    "not_negation",
)

Schema: TypeAlias = Mapping[str, object]
_TEXT: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 1000}
_TEXTS: Final[Schema] = {"type": "array", "items": _TEXT}


def _section(values: Schema, **more: object) -> Schema:
    return {"type": "object", "additionalProperties": values, **more}


def _object(required: Sequence[str], **properties: object) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


_SLOT: Final[Schema] = {
    "type": ["string", "number", "boolean"],
    "x-expects": "a word or a number",
}
_LIST_VALUE: Final[Schema] = {
    "anyOf": [_TEXT, _object(("in", "out"), **{"in": _TEXT, "out": {"type": ["string", "number"]}})],
    "x-expects": "text in quotes, or '{in: text, out: value}'",
}
SENTENCE_FILE: Final[Schema] = _object(
    ("language",),
    language={"type": "string", "pattern": "^[a-z]{2,3}(-[a-z]{2,8})?$", "x-expects": "a code such as en or zh-cn"},
    intents=_section(
        _object(
            ("data",),
            data={
                "type": "array",
                "items": _object(("sentences",), sentences=_TEXTS, slots=_section(_SLOT)),
            },
        )
    ),
    lists=_section(_object(("values",), values={"type": "array", "items": _LIST_VALUE})),
    expansion_rules=_section(_TEXT),
    skip_words=_TEXTS,
    words=_object((), **dict.fromkeys(WORD_LISTS, _TEXTS)),
    kinds={
        "type": "array",
        "items": _object(
            ("words",),
            words=_TEXTS,
            many=_TEXTS,
            kinds=_TEXTS,
            directions={"type": "array", "items": {"enum": ["in", "out", "sensor"]}},
        ),
    },
    measures=_section(_TEXTS),
    names=_section(_TEXT),
    plural=_TEXTS,
    examples=_TEXTS,
    responses=_section(_TEXT),
)
"""The schema of one file."""
