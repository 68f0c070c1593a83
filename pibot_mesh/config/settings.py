"""What a master and a node can be told, as frozen dataclasses. Pure: `loader` fills them from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the broker. Without *ca_file* the system's certificates are trusted."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


Address: TypeAlias = tuple[str, int]
"""A host and a port."""


def address_text(host: str, port: int) -> str:
    """``HOST:PORT``, with an IPv6 address in brackets: what `pibot_mesh.config.broker_section.parse_broker` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the MQTT broker is and how to enter it. *keepalive_s* is 5 to 3600 seconds.

    *others* are further servers of the same cluster, as host and port: whichever answers will do. With *discover* the
    broker is looked for on the local network (mDNS), and *host* and *port* are not used.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    keepalive_s: int = 15
    others: tuple[tuple[str, int], ...] = ()
    discover: bool = False

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All servers, in the order in which they are to be tried."""
        return (self.host, self.port), *self.others

    def __str__(self) -> str:
        return "mdns" if self.discover else ",".join(address_text(host, port) for host, port in self.addresses)


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """One device of a node.

    *id* is its place in the topics; *name* its word in sentences (by default the id with spaces), *label* its name for
    people to read; *pin* the BCM number. *device_class* is Home Assistant's word for its sort of thing. *options* holds
    what only its kind knows (see `pibot_mesh.hardware.kinds`).
    """

    id: str
    kind: str
    pin: int | None = None
    name: str = ""
    room: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    label: str = ""
    device_class: str | None = None


@dataclass(frozen=True, slots=True)
class SafetySettings:
    """What holds for all outputs of a node. *interlocks* are outputs of which one at most may be on at a time.

    Without broker or master for *lost_after_s* seconds each goes to its ``on_lost`` value.
    """

    lost_after_s: float = 120.0
    interlocks: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """When a reflex acts: a measure of a sensor above or below a number, an input in a state, or an event.

    Of *above*, *below*, *state* and *event* exactly one is set. It must hold for *for_s* seconds; what is above (below)
    is so until it is *hysteresis* under (over) the number. An event is over at once.
    """

    device: str
    measure: str = ""
    above: float | None = None
    below: float | None = None
    state: bool | None = None
    event: str | None = None
    hysteresis: float = 0.0
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Action:
    """What a reflex does with an output; *value* is true, false, 0 to 100 percent or ``#rrggbb``."""

    device: str
    value: bool | float | str
    for_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReflexSettings:
    """A rule that a node keeps by itself: *then* when its condition comes to hold, *otherwise* when it ends."""

    id: str
    when: Condition
    then: tuple[Action, ...]
    otherwise: tuple[Action, ...] = ()
    is_on: bool = True


SHIPPED_SKILLS: Final = ("devices", "system", "files", "download", "timers", "memory", "reflexes")
"""What a node can do by itself; each can be left out."""


@dataclass(frozen=True, slots=True)
class SkillSettings:
    """The tools of a node. *folders* hold skills of the user's own; None: ``skills`` in the node's *state_dir*.

    The tools for files, downloads and programs stay within *workspace*; None: ``workspace`` in the *state_dir*. Only
    the *programs* can be started, so none by default. *shipped* are those of `SHIPPED_SKILLS` that are on.
    """

    folders: tuple[Path, ...] | None = None
    workspace: Path | None = None
    programs: tuple[str, ...] = ()
    shipped: tuple[str, ...] = SHIPPED_SKILLS


KEY_VARIABLES: Final[Mapping[str, str]] = {
    "volcengine": "VOLC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY",
    "ollama": "OLLAMA_API_KEY",
    "custom": "PIBOT_API_KEY",
}
"""The environment variable for the key of each provider."""
URL_VARIABLES: Final[Mapping[str, str]] = {
    "volcengine": "VOLC_BASE_URL",
    "openai": "OPENAI_BASE_URL",
    "ollama": "OLLAMA_HOST",
    "custom": "PIBOT_BASE_URL",
}
"""The environment variable for the address of a provider, where there is one."""
MESH: Final = "mesh"
"""The provider of a node that has no key and asks the master's model gateway."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The language model. An empty *base_url* or *model* means the provider's own; without *api_key* there is none.

    *max_tokens* limits each answer and *temperature* goes from 0 to 2; None leaves them to the service. Nothing may
    come for *first_content_s* before an answer's first content, and for *between_s* in the middle of it; a connection
    may take *connect_s*. *context_tokens* is how much the model can read at once. *transport* is the library for HTTP.
    """

    provider: str = "volcengine"
    base_url: str = ""
    model: str = ""
    api_key: str | None = field(default=None, repr=False)
    max_tokens: int | None = None
    temperature: float | None = None
    first_content_s: float = 60.0
    between_s: float = 60.0
    connect_s: float = 10.0
    context_tokens: int = 32_000
    transport: Literal["auto", "openai", "standard"] = "auto"


MESH_MODEL: Final = ModelSettings(MESH, first_content_s=20.0, between_s=20.0, context_tokens=12_000)
"""The master's model, as a node uses it: the master says every 5 s that it still waits for its service."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One node. *simulate* runs it without pins; *state_dir* holds its journal.

    It runs at most *running* tasks at once, and queues at most *queued* more. *ask* are the tools whose every call a
    person must approve, by name or by effect (``actuate``).
    """

    id: str
    root: str = "pibot"
    broker: BrokerSettings = BrokerSettings()
    state_dir: Path = Path("~/.local/state/pibot")
    labels: tuple[str, ...] = ()
    devices: tuple[DeviceSettings, ...] = ()
    simulate: bool = False
    running: int = 2
    queued: int = 16
    health_interval_s: float = 10.0
    log_level: str = "info"
    skills: SkillSettings = SkillSettings()
    model: ModelSettings = MESH_MODEL
    ask: tuple[str, ...] = ()
    safety: SafetySettings = SafetySettings()
    reflexes: tuple[ReflexSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """What a person must approve before it is done.

    *ask* are tools, by name (``shell_exec``) or by effect (``actuate``); a question waits *within_s* for its answer.
    """

    ask: tuple[str, ...] = ()
    within_s: float = 120.0


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What one request may use of the model, where it does not ask for less: model calls, tool calls, tokens."""

    turns: int = 50
    tool_calls: int = 100
    tokens: int = 200_000


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What each node may ask of the master's model."""

    requests_per_minute: int = 30
    tokens_per_day: int = 1_000_000


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """How long the ledger keeps the stories of requests that have ended: for *days*, and the newest *megabytes*.

    The size counts first, then the age; what ended within the last hour stays in any case. A limit of 0 is none.
    """

    days: float = 30.0
    megabytes: float = 200.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What the model costs, in *currency* for a million tokens. *cached* is for the cached part of the input."""

    input: float
    output: float
    cached: float
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the house is, for sunrise and sunset: degrees north and east. *time_zone* is a name such as Europe/Berlin,
    or empty for the machine's own.
    """

    latitude: float | None = None
    longitude: float | None = None
    time_zone: str = ""


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """A request that is made at a time: *at* is five cron words, or ``sunrise`` or ``sunset`` with *offset_s* seconds.

    One that was due while no master ran, not longer than *late_s* ago, is made up for where *missed* says so.
    """

    id: str
    request: str
    at: str
    offset_s: float = 0.0
    missed: Literal["skip", "run"] = "skip"
    late_s: float = 3600.0
    is_on: bool = True


@dataclass(frozen=True, slots=True)
class TriggerSettings:
    """A request that is made when *node* sends *event* of *device*; further ones within *rest_s* seconds not."""

    id: str
    request: str
    node: str
    device: str
    event: str
    rest_s: float = 1.0
    is_on: bool = True


@dataclass(frozen=True, slots=True)
class HomeAssistantSettings:
    """Whether the mesh shows itself in Home Assistant, and below which topic that looks for devices."""

    discovery: bool = True
    prefix: str = "homeassistant"


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """The master. *sentences* are folders or files of users' own templates, read after the shipped ones.

    *soul* is the file with the model's instructions; None: ``soul.md`` or ``SOUL.md`` in *state_dir*, or the shipped
    one. The master's own tools for files stay in *workspace*; None: ``master-workspace`` in *state_dir*. *ledger* is
    the ``postgresql://`` address of a ledger that several masters share; None: a file in *state_dir*, for this one.
    """

    root: str = "pibot"
    broker: BrokerSettings = BrokerSettings()
    state_dir: Path = Path("~/.local/state/pibot")
    sentences: tuple[Path, ...] = ()
    model: ModelSettings = ModelSettings()
    request_timeout_s: float = 120.0
    open_requests: int = 500
    health_interval_s: float = 10.0
    log_level: str = "info"
    soul: Path | None = None
    workspace: Path | None = None
    approval: ApprovalSettings = ApprovalSettings()
    budget: BudgetSettings = BudgetSettings()
    gateway: GatewaySettings = GatewaySettings()
    prices: Prices | None = None
    ledger: str | None = field(default=None, repr=False)
    history: HistorySettings = HistorySettings()
    place: Place = Place()
    schedules: tuple[ScheduleSettings, ...] = ()
    triggers: tuple[TriggerSettings, ...] = ()
    home_assistant: HomeAssistantSettings = HomeAssistantSettings()
