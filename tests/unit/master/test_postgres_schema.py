"""Names and numbers in a database that meshes and masters share."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, strategies as st

from pibot_mesh.master.postgres_schema import LEADER, locks_of, schema_of

LONGEST_NAME = 63
"""Of PostgreSQL, in bytes; what is longer is cut, and may meet another."""


@pytest.mark.parametrize(
    ("root", "schema"),
    [("pibot", "mesh_pibot"), ("my_house2", "mesh_my_house2"), ("home/pibot", r"mesh_home_pibot__[0-9a-f]{12}")],
)
def test_a_schema_is_named_after_the_root(root: str, schema: str) -> None:
    """So that people find it."""
    assert re.fullmatch(schema, schema_of(root))


@given(st.text(min_size=1, max_size=200))
@example("a" * 50)
@example("a" * 51)
@example('"; DROP SCHEMA public; --')
def test_a_schema_needs_no_quotes_and_is_not_cut(root: str) -> None:
    """Whatever the root is."""
    schema = schema_of(root)

    assert re.fullmatch(r"mesh_[a-z0-9_]+", schema)
    assert len(schema) <= LONGEST_NAME


@given(st.lists(st.text("aA_/-é", min_size=1, max_size=60), unique=True, min_size=2))
@example(["a_b", "a/b", "a-b", "a__b", "A_B", "_a_b", "a_b_", schema_of("a/b").removeprefix("mesh_")])
def test_no_two_roots_have_one_schema(roots: list[str]) -> None:
    """Nor one lock."""
    schemas = {schema_of(root) for root in roots}

    assert len(schemas) == len(roots)
    assert len({locks_of(schema, "m1").mesh for schema in schemas}) == len(roots)


def test_each_master_has_a_lock_of_its_own() -> None:
    """Beside those of its mesh and of the leader, in the range of PostgreSQL's integer."""
    locks = [locks_of("mesh_pibot", f"m{number}") for number in range(1000)]

    assert {each.mesh for each in locks} == {locks[0].mesh}
    assert len({each.own for each in locks} | {LEADER}) == 1001
    assert all(0 < number < 2**31 for each in locks for number in (each.mesh, each.own))
