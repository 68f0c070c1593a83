"""The configuration reference, written from the schemas. Pure: schema in, Markdown out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from pibot_mesh.config.loader import VARIABLES, Role, load_schema, variables_of
from pibot_mesh.config.source import KeyPath, format_path
from pibot_mesh.config.words import type_words

_HEADINGS: Mapping[Role, str] = {"node": "A node's file", "master": "The master's file"}


def file_reference(role: Role) -> str:
    """A heading and the table of every key of a master's or a node's file."""
    return f"## {_HEADINGS[role]}\n\n{keys_table(load_schema(role))}"


def variables_reference() -> str:
    """A heading and the table of environment variables."""
    lines = [
        "## Environment variables",
        "",
        "A variable that is set goes before the file; an empty one counts as unset.",
        "",
    ]
    lines += ["| variable | meaning |", "|---|---|"]
    meanings = dict(VARIABLES)
    for role in ("node", "master"):
        for name, path in variables_of(role).items():
            meanings.setdefault(name, f"In place of `{format_path(path)}` in the {role}'s file.")
    shared = variables_of("node").keys() & variables_of("master").keys()
    for name in shared:
        meanings[name] = f"In place of `{format_path(variables_of('node')[name])}`."
    lines += [f"| `{name}` | {meanings[name]} |" for name in sorted(meanings)]
    return "\n".join(lines) + "\n"


def keys_table(schema: Mapping[str, object]) -> str:
    """A Markdown table of every key below *schema*."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [_row(path, below) for path, below in _keys(schema, ())]
    return "\n".join(lines) + "\n"


def _keys(schema: Mapping[str, object], path: KeyPath) -> Iterator[tuple[KeyPath, Mapping[str, object]]]:
    for key, below in cast(Mapping[str, Mapping[str, object]], schema.get("properties", {})).items():
        yield (*path, key), below
        yield from _keys(below, (*path, key))
    entries = schema.get("additionalProperties")
    if isinstance(entries, Mapping):
        yield from _keys(entries, (*path, "ID"))


def _row(path: KeyPath, schema: Mapping[str, object]) -> str:
    default = schema.get("default")
    shown = "" if default in (None, [], "") else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"| `{format_path(path)}` | {_values(schema)} | {shown} | {schema.get('description', '')} |"


def _values(schema: Mapping[str, object]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in cast(list[str], schema["enum"]))
    if "x-expects" in schema:
        return str(schema["x-expects"])
    words = type_words(cast(str, schema.get("type", "string")))
    if "minimum" in schema and "maximum" in schema:
        return f"{words}, {schema['minimum']} to {schema['maximum']}"
    return "a section" if schema.get("type") == "object" else words
