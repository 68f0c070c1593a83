"""Configuration files and environment variables to settings. All errors at once, each with file, line and path."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias, cast

from pibot_mesh.config.broker_section import broker_settings
from pibot_mesh.config.draft import Draft
from pibot_mesh.config.home_assistant_section import home_assistant_settings
from pibot_mesh.config.ledger_section import history_settings, ledger_address
from pibot_mesh.config.model_section import (
    MODEL_VARIABLES,
    is_for_a_master,
    model_prices,
    model_settings,
    override_model,
)
from pibot_mesh.config.reflex_section import reflex_settings
from pibot_mesh.config.routine_section import place_settings, schedule_settings, trigger_settings
from pibot_mesh.config.safety_section import safety_settings
from pibot_mesh.config.settings import (
    MESH,
    MESH_MODEL,
    SHIPPED_SKILLS,
    ApprovalSettings,
    BudgetSettings,
    DeviceSettings,
    GatewaySettings,
    MasterSettings,
    ModelSettings,
    NodeSettings,
    SkillSettings,
)
from pibot_mesh.config.skill_folders import mingled
from pibot_mesh.config.source import KeyPath, Problem, Source, read_yaml
from pibot_mesh.config.workspace import check_workspace
from pibot_mesh.errors import ConfigError

_EFFECTS: Final = ("read", "write", "actuate")

Role: TypeAlias = Literal["master", "node"]

VARIABLES: Final[Mapping[str, str]] = {
    "PIBOT_BROKER": "The broker as HOST:PORT, HOST or [ADDRESS]:PORT, or the servers of a cluster with commas between; "
    "or mdns, to look for it on the local network; in place of broker.host, broker.port and broker.others.",
    "PIBOT_PASSWORD": "The password for the broker, in place of broker.password_file.",
    **MODEL_VARIABLES,
}
"""The environment variables that no single key of a file stands for; the others have ``x-environment`` in a schema."""


class NodeCheck(Protocol):
    """Finds what is wrong with a node beyond the schema: `pibot_mesh.node.check.check_node`."""

    def __call__(self, settings: NodeSettings) -> Sequence[Problem]: ...


def load_master(path: Path | str | None = None, env: Mapping[str, str] = os.environ) -> MasterSettings:
    """The master's settings from the file at *path* (the defaults without one); variables in *env* go before it.

    Raises ConfigError with everything that is wrong.
    """
    draft = _draft(Source() if path is None else read_yaml(path), "master", env)
    settings = _master(draft)
    draft.finish()
    return settings


def load_node(
    path: Path | str | None = None,
    env: Mapping[str, str] = os.environ,
    *,
    check: NodeCheck | None = None,
) -> NodeSettings:
    """A node's settings from the file at *path* (the defaults without one); variables in *env* go before it.

    With *check*, what it finds is among the errors. Raises ConfigError with
    everything that is wrong.
    """
    draft = _draft(Source() if path is None else read_yaml(path), "node", env)
    settings = _node(draft, check)
    draft.finish()
    return settings


def check_file(path: Path | str, *, check: NodeCheck | None = None) -> list[str]:
    """Everything that is wrong with one file, a master's or a node's; the environment does not count. Never raises."""
    try:
        source = read_yaml(path)
        role = role_of(source)
        draft = _draft(source, role, {})
        if role == "master":
            _master(draft)
        else:
            _node(draft, check)
        draft.finish()
    except ConfigError as error:
        return list(error.problems)
    return []


def role_of(source: Source) -> Role:
    """Whose file it is, by what only one of the two has; a node's where it has none of that.

    Raises ConfigError where it has both.
    """
    only = {role: [key for key in source.values if key in _own_sections(role)] for role in ("master", "node")}
    if only["master"] and only["node"]:
        [of_master, of_node] = only["master"][0], only["node"][0]
        problem = f"is for a node, and {of_master!r} is for the master: use one file for each"
        raise ConfigError([source.show(Problem((of_node,), problem))])
    is_master = only["master"] or (not only["node"] and is_for_a_master(source.values.get("model")))
    return "master" if is_master else "node"


def fit_node_id(name: str) -> str:
    """*name* made fit for a node id: ``Kitchen_Pi.local`` → ``kitchen-pi``; ``node`` where nothing is left."""
    first_label = name.split(".", 1)[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", first_label).strip("-")[:32].rstrip("-") or "node"


@functools.cache
def load_schema(role: Role) -> Mapping[str, object]:
    """The JSON Schema of a master's or a node's file."""
    text = resources.files("pibot_mesh.config").joinpath(f"{role}.schema.json").read_text("utf-8")
    return cast(Mapping[str, object], json.loads(text))


@functools.cache
def variables_of(role: Role) -> Mapping[str, KeyPath]:
    """The environment variables that stand for one key: name → its path in the file."""
    found: dict[str, KeyPath] = {}

    def search(schema: Mapping[str, object], path: KeyPath) -> None:
        name = schema.get("x-environment")
        if isinstance(name, str):
            found[name] = path
        for key, below in cast(Mapping[str, Mapping[str, object]], schema.get("properties", {})).items():
            search(below, (*path, key))

    search(load_schema(role), ())
    return found


def _own_sections(role: Role) -> set[str]:
    other: Role = "node" if role == "master" else "master"
    return _sections(role) - _sections(other)


def _sections(role: Role) -> set[str]:
    return set(cast(Mapping[str, object], load_schema(role)["properties"]))


def _draft(source: Source, role: Role, env: Mapping[str, str]) -> Draft:
    """What *source* says, and the variables of *env* that stand for something in such a file; checked by the schema."""
    draft = Draft(source, env)
    other: Role = "node" if role == "master" else "master"
    for key in sorted(_own_sections(other) & set(source.values)):
        text = f"is for the {other}, and this file is read for the {role}: use a file of its own"
        draft.refuse(Problem((key,), text))
    for name, path in variables_of(role).items():
        if name in draft.env:
            draft.override(name, path)
    override_model(draft, MESH if role == "node" else ModelSettings().provider)
    draft.check(load_schema(role))
    return draft


def _master(draft: Draft) -> MasterSettings:
    state_dir = _state_dir(draft)
    workspace, place = draft.folder(("master", "workspace")), place_settings(draft)
    settings = MasterSettings(
        root=draft.text(("root",), "pibot"),
        broker=broker_settings(draft),
        state_dir=state_dir,
        sentences=_sentences(draft),
        model=model_settings(draft, ModelSettings()),
        request_timeout_s=draft.number(("master", "request_timeout_s"), 120.0),
        open_requests=draft.whole(("master", "open_requests"), 500),
        health_interval_s=draft.number(("master", "health_interval_s"), 10.0),
        log_level=draft.text(("log_level",), "info"),
        soul=draft.file(("master", "soul")),
        workspace=workspace,
        approval=ApprovalSettings(_ask(draft), draft.number(("approval", "within_s"), ApprovalSettings().within_s)),
        budget=_budget(draft),
        gateway=_gateway(draft),
        prices=model_prices(draft),
        ledger=ledger_address(draft),
        history=history_settings(draft),
        place=place,
        schedules=schedule_settings(draft, place),
        triggers=trigger_settings(draft),
        home_assistant=home_assistant_settings(draft),
    )
    check_workspace(draft, ("master", "workspace"), workspace or state_dir / "master-workspace", state_dir)
    return settings


def _node(draft: Draft, check: NodeCheck | None) -> NodeSettings:
    node_id = draft.text(("node", "id")) or fit_node_id(platform.node())
    simulate = bool(draft.get(("node", "simulate"), False))
    devices = _devices(draft)
    state_dir = _state_dir(draft)
    settings = NodeSettings(
        id=node_id,
        root=draft.text(("root",), "pibot"),
        broker=broker_settings(draft, default_username=node_id),
        state_dir=state_dir,
        labels=tuple(str(label) for label in draft.entries(("node", "labels"))),
        devices=devices,
        simulate=simulate,
        running=draft.whole(("node", "running"), 2),
        queued=draft.whole(("node", "queued"), 16),
        health_interval_s=draft.number(("node", "health_interval_s"), 10.0),
        log_level=draft.text(("log_level",), "info"),
        model=model_settings(draft, MESH_MODEL),
        ask=_ask(draft),
        safety=safety_settings(draft),
        reflexes=reflex_settings(draft),
        skills=_skills(draft, state_dir),  # the last: it looks at all files that were named
    )
    for problem in check(settings) if check is not None else ():
        if problem.path[0] == "devices" or not draft.is_refused(("devices",)):
            draft.note(problem)
    return settings


def _ask(draft: Draft) -> tuple[str, ...]:
    """What asks: tools and effects. A slip in the name of an effect would leave unasked what should ask."""
    import difflib

    at: KeyPath = ("approval", "ask")
    for index, word in enumerate(draft.entries(at)):
        near = difflib.get_close_matches(str(word).lower(), _EFFECTS, 1, 0.85)
        if near and word not in _EFFECTS:
            draft.refuse(Problem((*at, index), f"{word!r} is hardly a tool: did you mean the effect {near[0]!r}?"))
    return draft.words(at)


def _budget(draft: Draft) -> BudgetSettings:
    usual = BudgetSettings()
    return BudgetSettings(
        draft.whole(("budget", "turns"), usual.turns),
        draft.whole(("budget", "tool_calls"), usual.tool_calls),
        draft.whole(("budget", "tokens"), usual.tokens),
    )


def _gateway(draft: Draft) -> GatewaySettings:
    usual = GatewaySettings()
    return GatewaySettings(
        draft.whole(("gateway", "requests_per_minute"), usual.requests_per_minute),
        draft.whole(("gateway", "tokens_per_day"), usual.tokens_per_day),
    )


def _sentences(draft: Draft) -> tuple[Path, ...]:
    paths: list[Path] = []
    for index in range(len(draft.entries(("sentences",)))):
        at: KeyPath = ("sentences", index)
        path = draft.path(at)
        if path is not None and not path.exists():
            draft.note(Problem(at, f"there is no file or folder {path}"))
        elif path is not None:
            draft.named[at] = path
            paths.append(path)
    return tuple(paths)


def _skills(draft: Draft, state_dir: Path) -> SkillSettings:
    at: KeyPath = ("skills", "workspace")
    folders = _skill_folders(draft)
    workspace = draft.folder(at)
    place = workspace or state_dir / "workspace"
    inside = mingled((state_dir / "skills",) if folders is None else folders, place)
    if inside is not None:
        text = f"must not lie in {inside}, nor around it, where skills are run: choose another folder"
        draft.note(Problem(at, text))
    else:
        check_workspace(draft, at, place, state_dir)
    shipped = draft.get(("skills", "shipped"), list(SHIPPED_SKILLS))
    return SkillSettings(
        folders,
        workspace,
        draft.words(("skills", "programs")),
        tuple(name for name in SHIPPED_SKILLS if name in cast(list[object], shipped)),
    )


def _skill_folders(draft: Draft) -> tuple[Path, ...] | None:
    at: KeyPath = ("skills", "folders")
    if not draft.is_set(at):
        return None
    paths: list[Path] = []
    for index in range(len(draft.entries(at))):
        path = draft.path((*at, index))
        if path is not None and not path.is_dir():
            draft.note(Problem((*at, index), f"there is no folder {path}"))
        elif path is not None:
            paths.append(path)
    return tuple(paths)


def _state_dir(draft: Draft) -> Path:
    return draft.folder(("state_dir",), "~/.local/state/pibot") or Path()


def _devices(draft: Draft) -> tuple[DeviceSettings, ...]:
    section = draft.get(("devices",), {})
    assert isinstance(section, dict)
    return tuple(
        _device(id_, cast(dict[str, object], values))
        for id_, values in section.items()
        if not draft.is_refused(("devices", id_))
    )


def _device(id_: str, values: Mapping[str, object]) -> DeviceSettings:
    own = ("kind", "pin", "name", "label", "room", "device_class")
    pin, device_class = values.get("pin"), values.get("device_class")
    return DeviceSettings(
        id=id_,
        kind=str(values["kind"]),
        pin=int(cast(int, pin)) if pin is not None else None,
        name=str(values.get("name") or id_.replace("-", " ").replace("_", " ")),
        room=str(values.get("room", "")),
        options={key: value for key, value in values.items() if key not in own},
        label=str(values.get("label", "")),
        device_class=None if device_class is None else str(device_class),
    )
