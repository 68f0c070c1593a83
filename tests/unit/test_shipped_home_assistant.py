"""config/home-assistant and the documents about it: what they name is there in a mesh, and they can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pibot_mesh.config.loader import load_node
from pibot_mesh.master.home_assistant.master_device import master_payload
from pibot_mesh.master.home_assistant.naming import Naming
from pibot_mesh.master.home_assistant.node_device import node_payload
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.messages import Control, Request, RoutineState
from pibot_mesh.protocol.topics import Kind, Topics

ROOT: Final = Path(__file__).parents[2]
BLUEPRINT: Final = ROOT / "config/home-assistant/blueprints/automation/pibot_assist.yaml"
DASHBOARD: Final = ROOT / "config/home-assistant/dashboard.yaml"
DOCUMENT: Final = ROOT / "docs/home-assistant.md"
TOPICS: Final = Topics()
PLATFORMS: Final = "binary_sensor|button|event|fan|light|notify|number|sensor|switch|text|update"
ENTITY: Final = re.compile(rf"\b(?:{PLATFORMS})\.(?:master|kitchen)_[a-z0-9_]+")
MORNING: Final = RoutineState("morning", "schedule", "At 07:00", "turn on the lamp", is_on=True)


class Input(str):
    """The name behind ``!input``."""


class BlueprintLoader(yaml.SafeLoader):
    """Reads ``!input`` as Home Assistant does."""


def _input(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Input:
    return Input(loader.construct_scalar(node))


BlueprintLoader.add_constructor("!input", _input)


def read_blueprint() -> Any:
    """The blueprint, as plain values."""
    return yaml.load(BLUEPRINT.read_text(encoding="utf-8"), BlueprintLoader)


def leaves(value: Any) -> Iterator[Any]:
    """Everything in *value* that is no list and no mapping."""
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from leaves(each)
    else:
        yield value


def names_of(message: type[Request] | type[Control]) -> set[str]:
    """The keys that a message may have."""
    return {field.name for field in fields(message)}


def entity_ids(payload: Any) -> set[str]:
    """Those that a device's entities have by default."""
    return {component["def_ent_id"] for component in payload["cmps"].values()}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The entities of a master with one schedule, and of the node in config/node.yaml."""
    settings = load_node(ROOT / "config/node.yaml", {"PIBOT_STATE_DIR": str(tmp_path_factory.mktemp("state"))})
    card = Node(settings).card()
    master = master_payload("1.2.3", [MORNING], TOPICS, Naming())
    node = node_payload(card, TOPICS, Naming(), version="1.2.3")
    return entity_ids(master.payload) | entity_ids(node.payload)


@pytest.mark.parametrize("path", [BLUEPRINT, DASHBOARD], ids=lambda path: path.name)
def test_every_entity_in_an_example_is_one_of_the_mesh(path: Path, known: set[str]) -> None:
    """By its default id: who imports it need not put in names."""
    named = set(ENTITY.findall(path.read_text(encoding="utf-8")))

    assert len(named) > 1
    assert named - known == set()


def test_every_entity_that_the_document_names_is_one_of_the_mesh(known: set[str]) -> None:
    """`switch.kitchen_fan` stands for a node ``kitchen`` with the same devices as ``kitchen-pi``."""
    named = {name.replace(".kitchen_fan", ".kitchen_pi_fan") for name in ENTITY.findall(DOCUMENT.read_text())}

    assert len(named) > 10
    assert named - known == set()


def test_the_document_names_every_entity_of_the_master(known: set[str]) -> None:
    """But for those of a schedule, whose names are a user's own."""
    text = DOCUMENT.read_text(encoding="utf-8")
    of_master = {name for name in known if ".master_" in name and "morning" not in name}

    assert {name for name in of_master if name not in text} == set()


def test_the_dashboard_is_yaml_of_views_with_cards() -> None:
    """As Home Assistant's raw editor takes it."""
    dashboard = yaml.safe_load(DASHBOARD.read_text(encoding="utf-8"))

    cards = [card for view in dashboard["views"] for section in view["sections"] for card in section["cards"]]
    assert all(card["type"] for card in cards)


def test_what_stops_or_releases_the_mesh_asks_first() -> None:
    """A tap by mistake on a dashboard moves nothing."""
    dashboard = yaml.safe_load(DASHBOARD.read_text(encoding="utf-8"))
    cards = [card for view in dashboard["views"] for section in view["sections"] for card in section["cards"]]

    for entity in ("emergency_stop", "release_emergency_stop", "approve"):
        [card] = [card for card in cards if card.get("entity") == f"button.master_{entity}"]
        assert card["tap_action"]["target"] == {"entity_id": card["entity"]}
        assert card["tap_action"]["confirmation"]["text"]


def test_the_blueprint_uses_what_it_asks_for() -> None:
    """Each input, and no other; each has a default."""
    blueprint = read_blueprint()
    inputs = blueprint["blueprint"]["input"]
    used = {
        str(leaf) for leaf in leaves({k: v for k, v in blueprint.items() if k != "blueprint"}) if type(leaf) is Input
    }

    assert used == set(inputs)
    assert all("default" in each for each in inputs.values())


def test_the_blueprint_waits_before_it_asks() -> None:
    """The answer can come within milliseconds: both run side by side, and the wait is first."""
    [parallel] = [action["parallel"] for action in read_blueprint()["actions"] if "parallel" in action]

    assert "wait_for_trigger" in parallel[0]["sequence"][0]
    assert parallel[1]["sequence"][0]["action"] == "notify.send_message"


def test_a_request_as_the_blueprint_writes_it_is_one() -> None:
    """The keys of its JSON are those of a Request, with all that it needs."""
    [message] = [leaf for leaf in leaves(read_blueprint()["actions"]) if "to_json" in str(leaf)]
    keys = set(re.findall(r"(\w+)=", message))

    assert {"id", "text"} <= keys <= names_of(Request)


def test_the_blueprint_reads_what_a_reply_has() -> None:
    """By the names that the event's attributes have."""
    told = master_payload("1.2.3", [], TOPICS, Naming()).payload["cmps"]["reply"]["val_tpl"]
    text = BLUEPRINT.read_text(encoding="utf-8")
    read = set(re.findall(r"\bsaid\.(\w+)", text)) | set(re.findall(r"state_attr\(reply, '(\w+)'\)", text))

    assert {"id", "event_type", "text"} <= read
    assert {name for name in read if f"'{name}'" not in told} == set()


def test_the_examples_in_the_document_are_yaml() -> None:
    """Each can be pasted."""
    examples = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.S | re.M)

    assert len(examples) >= 4
    assert all(yaml.safe_load(example) for example in examples)


def test_an_approval_from_a_phone_goes_where_the_master_reads_it() -> None:
    """Its topic is that of orders about one request, and its keys are an order's."""
    text = DOCUMENT.read_text(encoding="utf-8")
    [topic] = re.findall(r'topic: "(.*)"', text)
    address = TOPICS.parse(topic.replace("{{ request }}", "r1"))

    assert address is not None
    assert address.kind is Kind.REQUEST_CONTROL
    [order] = re.findall(r"dict\((action=.*?)\) \| to_json", text)
    assert {"action", "call"} <= set(re.findall(r"(\w+)=", order)) <= names_of(Control)
