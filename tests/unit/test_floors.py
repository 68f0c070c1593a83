"""Imports point down; siblings do not know each other; a node stays light."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pibot_mesh"

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "schemas"}),
    frozenset({"protocol", "config", "timers", "logs"}),
    frozenset({"mqtt", "agent", "hardware", "actor", "storage"}),
    frozenset({"skills"}),
    frozenset({"master", "node", "client"}),
    frozenset({"cli"}),
)
"""The lowest first. What stands on one floor is siblings."""

FACADES = {"__init__", "__main__"}
"""The package's own face: it may name whatever it offers."""

pytestmark = pytest.mark.no_cover
"""Nothing of the package runs here, and reading all of it takes many times as long while coverage is measured."""

HEAVY = {
    *("hassil", "amqtt", "openai", "rich", "prompt_toolkit", "psycopg", "zeroconf", "cronsim", "astral"),
    *("jsonschema", "smbus2", "bme280"),
}
"""What a node never loads."""


PURE_HARDWARE = (
    *("kind", "kinds", "output_kinds", "input_kinds", "sensor_kinds", "device_check", "levels", "reference", "changes"),
    *("outputs", "output_values", "safety_rules", "safety_check", "filters", "presses", "counting", "thresholds"),
)


PURE_HOME_ASSISTANT = (
    *("naming", "node_device", "master_device", "parts", "outputs", "inputs", "health", "device_classes", "templates"),
    *("rules", "component_rules", "class_rules", "values", "classes", "keys", "model", "delivery", "discovery"),
)


@dataclass(frozen=True)
class Import:
    """One import of one module: by whom, of what, and whether it is made as soon as the module is loaded."""

    by: str
    of: str
    is_at_load: bool


def parts() -> set[str]:
    """The packages and modules directly below `pibot_mesh`."""
    return {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or path.suffix == ".py"
    }


def files() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    return tuple(one for name, path in files().items() for one in _imports_of(name, path))


def _imports_of(name: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _is_for_types(outer)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(name, alias.name, node not in late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute here"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield Import(name, submodule if submodule in files() else node.module, node not in late)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def part(module: str) -> str | None:
    """The part of the package that *module* belongs to, or None for another package's."""
    first, *rest = module.split(".")
    if first != "pibot_mesh":
        return None
    return rest[0] if rest else "__init__"


def floor(of: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if of in names)


def test_every_part_has_its_floor() -> None:
    """A new one must be given its place."""
    assert parts() == {name for names in FLOORS for name in names} | FACADES | {"testing"}


@pytest.mark.parametrize("of", sorted({name for names in FLOORS for name in names}))
def test_imports_point_down(of: str) -> None:
    """Never up, and never to a sibling."""
    wrong = [
        f"{one.by} imports {one.of}"
        for one in imports()
        if part(one.by) == of
        and (target := part(one.of)) is not None
        and target not in {of, "__init__"}
        and (target not in parts() - FACADES - {"testing"} or floor(target) >= floor(of))
    ]

    assert wrong == []


def test_what_is_for_tests_is_imported_by_tests_alone() -> None:
    """And it knows everything but the command line."""
    users = {one.by for one in imports() if part(one.of) == "testing" and part(one.by) != "testing"}
    known = {part(one.of) for one in imports() if part(one.by) == "testing"}

    assert users == set()
    assert "cli" not in known


@pytest.mark.parametrize("start", ["pibot_mesh.node.service", "pibot_mesh.skills.devices", "pibot_mesh.client"])
def test_a_node_never_loads_what_is_heavy(start: str) -> None:
    """Following every import that is made at load, with the packages above."""
    loaded, waiting = set[str](), [start]
    while waiting:
        module = waiting.pop()
        if module in loaded:
            continue
        loaded.add(module)
        if "." in module and module in files():
            waiting.append(module.rpartition(".")[0])
        waiting += [one.of for one in imports() if one.by == module and one.is_at_load]

    assert "pibot_mesh.protocol.messages" in loaded, "the search finds something"
    assert {name for name in loaded if name.split(".")[0] in HEAVY} == set()
    assert {name for name in loaded if name.startswith(("pibot_mesh.master", "pibot_mesh.cli."))} == set()


@pytest.mark.parametrize(
    ("heavy", "homes"),
    [
        ("hassil", {"pibot_mesh.master.offline"}),
        ("amqtt", {"pibot_mesh.mqtt.embedded"}),
        ("openai", {"pibot_mesh.agent"}),
        ("rich", {"pibot_mesh.cli"}),
        ("prompt_toolkit", {"pibot_mesh.cli"}),
        ("gpiozero", {"pibot_mesh.hardware"}),
        ("paho", {"pibot_mesh.mqtt"}),
        ("psycopg", {"pibot_mesh.master.postgres_session"}),
        ("zeroconf", {"pibot_mesh.mqtt.discovery"}),
        ("cronsim", {"pibot_mesh.master.schedule_times", "pibot_mesh.config.routine_section"}),
        ("astral", {"pibot_mesh.master.schedule_times"}),
        ("smbus2", {"pibot_mesh.hardware.drivers"}),
        ("sqlite3", {"pibot_mesh.storage", "pibot_mesh.node.journal"}),
    ],
)
def test_each_library_has_one_home(heavy: str, homes: set[str]) -> None:
    """So that it can be replaced there."""
    users = {one.by for one in imports() if one.of.split(".")[0] == heavy}

    assert {user for user in users if not any(user == home or user.startswith(f"{home}.") for home in homes)} == set()


@pytest.mark.parametrize(
    "core",
    [
        "pibot_mesh.protocol.codec",
        "pibot_mesh.protocol.fit",
        "pibot_mesh.protocol.messages",
        "pibot_mesh.protocol.topics",
        "pibot_mesh.timers",
        "pibot_mesh.node.core",
        "pibot_mesh.node.events",
        "pibot_mesh.master.core",
        "pibot_mesh.master.events",
        "pibot_mesh.master.admission",
        "pibot_mesh.master.conversation",
        "pibot_mesh.master.open_request",
        "pibot_mesh.master.plans",
        "pibot_mesh.master.planning.answers",
        "pibot_mesh.master.planning.assignment",
        "pibot_mesh.master.planning.cards",
        "pibot_mesh.master.planning.plan_tool",
        "pibot_mesh.master.planning.prompts",
        "pibot_mesh.master.pool",
        "pibot_mesh.master.own_state",
        "pibot_mesh.master.history",
        "pibot_mesh.master.postgres_schema",
        "pibot_mesh.master.storable",
        "pibot_mesh.mqtt.bridge",
        "pibot_mesh.mqtt.states",
        "pibot_mesh.node.epochs",
        "pibot_mesh.node.namesake",
        "pibot_mesh.master.task_making",
        "pibot_mesh.master.usage",
        "pibot_mesh.agent.chat_json",
        "pibot_mesh.agent.call_records",
        "pibot_mesh.agent.data_marks",
        "pibot_mesh.agent.event_data",
        "pibot_mesh.agent.prompts",
        "pibot_mesh.node.runs",
        *(f"pibot_mesh.hardware.{name}" for name in PURE_HARDWARE),
        *(f"pibot_mesh.master.home_assistant.{name}" for name in PURE_HOME_ASSISTANT),
        *(
            f"pibot_mesh.cli.{name}"
            for name in ("causes", "obedience", "reflex_list", "values", "gpio_view", "mesh_view", "ha_view")
        ),
        *(f"pibot_mesh.node.{name}" for name in ("check", "reflex_check", "reflex_rule", "reflex_words", "reflexes")),
        "pibot_mesh.agent.arguments",
        "pibot_mesh.agent.assembly",
        "pibot_mesh.schemas",
        "pibot_mesh.agent.context",
        "pibot_mesh.agent.events",
        "pibot_mesh.agent.fragments",
        "pibot_mesh.agent.hints",
        "pibot_mesh.agent.limits",
        "pibot_mesh.agent.messages",
        "pibot_mesh.agent.model",
        "pibot_mesh.agent.plain",
        "pibot_mesh.agent.providers",
        "pibot_mesh.agent.reading",
        "pibot_mesh.agent.signature",
        "pibot_mesh.agent.sse",
        "pibot_mesh.agent.wire",
    ],
)
def test_a_pure_core_has_no_clock_no_socket_and_no_thread(core: str) -> None:
    """What is pure can be simulated a million times."""
    banned = {"asyncio", "threading", "time", "datetime", "socket", "os", "pathlib", "sqlite3", "subprocess", "logging"}
    used = {one.of.split(".")[0] for one in imports() if one.by == core}

    assert used & banned == set()
