"""The discovery payload of the master itself: to ask it, to see what it does, and to stop it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from pibot_mesh.master.home_assistant import templates
from pibot_mesh.master.home_assistant.health import presence
from pibot_mesh.master.home_assistant.model import Built
from pibot_mesh.master.home_assistant.naming import MASTER, Naming, capitalized, shortened
from pibot_mesh.master.home_assistant.parts import ALWAYS, DIAGNOSTIC, MANUFACTURER, MAX_SAID, Entity, built
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import RoutineState
from pibot_mesh.protocol.topics import DEFAULT_ROOT, Kind, Topics

_STATES: Final = ("idle", "working", "needs_approval", "stopped")
_REPLIES: Final = ("answered", "failed", "needs_approval")


def master_payload(version: str, routines: Sequence[RoutineState], topics: Topics, naming: Naming) -> Built:
    """What Home Assistant is told of the master of this *version*, which has these *routines*.

    A button for what waits says what it is about in its attributes, and sends just that: a press is never about a call
    that came up meanwhile. The emergency stop can be pressed also while there is no master.
    """
    name = MANUFACTURER if topics.root == DEFAULT_ROOT else f"{MANUFACTURER} ({topics.root})"
    device: dict[str, JSON] = {"name": name, "mf": MANUFACTURER, "mdl": "Master", "sw": version}
    return built(
        MASTER,
        [*_asking(topics), *_pending(topics), *_stop(topics), *_health(topics), *_routines(routines, topics)],
        naming=naming,
        device=device,
        shared={"avty": [{"t": topics.topic(Kind.MASTER_STATUS)}], "qos": 1},
        version=version,
    )


def _asking(topics: Topics) -> Iterator[Entity]:
    request, state = topics.topic(Kind.REQUEST), topics.topic(Kind.MASTER_STATE)
    yield Entity("ask", "notify", "Ask", {"cmd_t": request})
    asked = templates.said("asked", otherwise="''")
    yield Entity("ask_text", "text", "Ask", {"cmd_t": request, "stat_t": state, "val_tpl": asked}, object_id="ask")
    reply = templates.event_with(
        _REPLIES, ("id", "text", "state", "session"), "pending", ("call", "tool", "says", "node"), cut=("asked",)
    )
    fields: dict[str, JSON] = {"evt_typ": list(_REPLIES), "stat_t": topics.topic(Kind.MASTER_EVENT), "val_tpl": reply}
    yield Entity("reply", "event", "Reply", fields)
    doing: dict[str, JSON] = {
        "dev_cla": "enum",
        "ops": list(_STATES),
        "stat_t": state,
        "val_tpl": templates.picked("state", among=_STATES),
        **_showing(state, templates.attributes("open", "request", "is_stopped")),
    }
    yield Entity("state", "sensor", "State", doing)
    answer: dict[str, JSON] = {
        "stat_t": state,
        "val_tpl": templates.said("answer"),
        **_showing(state, templates.attributes("outcome", "asked")),
    }
    yield Entity("answer", "sensor", "Last answer", answer, object_id="last_answer")


def _pending(topics: Topics) -> Iterator[Entity]:
    """Buttons for what is under way."""
    state = topics.topic(Kind.MASTER_STATE)
    cancel: dict[str, JSON] = {
        "cmd_t": topics.topic(Kind.MASTER_CONTROL),
        "cmd_tpl": templates.order("cancel", "request"),
        **_showing(state, templates.attributes("request", "asked")),
        **_only_with(topics, "open", "request"),
    }
    yield Entity("cancel", "button", "Cancel", cancel)
    for action in ("approve", "deny"):
        fields: dict[str, JSON] = {
            "cmd_t": topics.topic(Kind.MASTER_CONTROL),
            "cmd_tpl": templates.order(action, "request", "call"),
            **_showing(state, templates.inner("pending")),
            **_only_with(topics, "pending"),
        }
        yield Entity(action, "button", capitalized(action), fields)


def _stop(topics: Topics) -> Iterator[Entity]:
    # Retained, unlike other orders: it holds until a person takes it back, also for a node that comes later.
    order: dict[str, JSON] = {"cmd_t": topics.topic(Kind.STOP), "ret": True, **ALWAYS}
    yield Entity("stop", "button", "Emergency stop", {**order, "pl_prs": "STOP"}, object_id="emergency_stop")
    yield Entity(
        "release", "button", "Release emergency stop", {**order, "pl_prs": "RUN"}, object_id="release_emergency_stop"
    )
    fields: dict[str, JSON] = {
        "dev_cla": "problem",
        "stat_t": topics.topic(Kind.MASTER_STATE),
        "val_tpl": templates.flag("is_stopped"),
    }
    yield Entity("stopped", "binary_sensor", "Emergency stop", fields, object_id="emergency_stop")


def _health(topics: Topics) -> Iterator[Entity]:
    topic = topics.topic(Kind.MASTER_HEALTH)
    for key, name, more in (
        ("tokens_today", "Tokens today", {"unit_of_meas": "tokens", "stat_cla": "total_increasing"}),
        ("nodes_online", "Nodes online", {"stat_cla": "measurement"}),
        ("nodes_offline", "Nodes offline", {"stat_cla": "measurement"}),
        ("open_requests", "Open requests", {"stat_cla": "measurement"}),
    ):
        fields = {"stat_t": topic, "val_tpl": templates.picked(key), "sug_dsp_prc": 0, **more, **DIAGNOSTIC}
        yield Entity(key, "sensor", name, fields)
    yield presence(topics.topic(Kind.MASTER_STATUS))


def _routines(routines: Sequence[RoutineState], topics: Topics) -> Iterator[Entity]:
    for routine in routines:
        says = shortened(routine.says, MAX_SAID)
        state, command = (topics.topic(kind, id=routine.id) for kind in (Kind.ROUTINE, Kind.ROUTINE_SET))
        fields: dict[str, JSON] = {
            "cmd_t": command,
            "stat_t": state,
            "val_tpl": templates.flag("is_on"),
            **_showing(state, templates.attributes("says", "last_ts", "next_ts", cut=("request",))),
        }
        yield Entity(f"routine_{routine.id}", "switch", says, fields, routine.id)
        run: dict[str, JSON] = {"cmd_t": command, "pl_prs": "RUN"}
        yield Entity(f"run_{routine.id}", "button", f"Run {says}", run, routine.id)


def _showing(topic: str, template: str) -> Mapping[str, JSON]:
    return {"json_attr_t": topic, "json_attr_tpl": template}


def _only_with(topics: Topics, *keys: str) -> Mapping[str, JSON]:
    """There only while the master is, and its state has something at each of the *keys*."""
    state: dict[str, JSON] = {"t": topics.topic(Kind.MASTER_STATE), "val_tpl": templates.available_with(*keys)}
    return {"avty": [{"t": topics.topic(Kind.MASTER_STATUS)}, state], "avty_mode": "all"}
