"""What a master and a node can be told, as frozen dataclasses. Pure: `loader` fills them from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the broker. Without *ca_file* the system's certificates are trusted."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the MQTT broker is and how to enter it. *keepalive_s* is 5 to 3600 seconds."""

    host: str = "127.0.0.1"
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    keepalive_s: int = 15

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """One device of a node.

    *id* is its place in the topics; *name* its word in sentences (by default the id with spaces); *pin* the BCM
    number. *options* holds what only its kind knows (see `pibot_mesh.hardware.kinds`).
    """

    id: str
    kind: str
    pin: int | None = None
    name: str = ""
    room: str = ""
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """One node. *simulate* runs it without pins; *state_dir* holds its journal.

    It runs at most *running* tasks at once, and queues at most *queued* more.
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


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The language model. An empty *base_url* or *model* means the provider's own; without *api_key* there is none."""

    provider: str = "volcengine"
    base_url: str = ""
    model: str = ""
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MasterSettings:
    """The master. *sentences* are folders or files of users' own templates, read after the shipped ones."""

    root: str = "pibot"
    broker: BrokerSettings = BrokerSettings()
    state_dir: Path = Path("~/.local/state/pibot")
    sentences: tuple[Path, ...] = ()
    model: ModelSettings = ModelSettings()
    request_timeout_s: float = 120.0
    open_requests: int = 500
    health_interval_s: float = 10.0
    log_level: str = "info"
