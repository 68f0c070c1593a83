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

from pibot_mesh.config.settings import (
    KEY_VARIABLES,
    SHIPPED_SKILLS,
    URL_VARIABLES,
    BrokerSettings,
    DeviceSettings,
    MasterSettings,
    ModelSettings,
    NodeSettings,
    SkillSettings,
    Tls,
)
from pibot_mesh.config.skill_folders import mingled
from pibot_mesh.config.source import KeyPath, Problem, Source, Value, format_path, read_yaml
from pibot_mesh.config.words import schema_problems, show
from pibot_mesh.errors import ConfigError

DEFAULT_PORT: Final = 1883
TLS_PORT: Final = 8883

Role: TypeAlias = Literal["master", "node"]

VARIABLES: Final[Mapping[str, str]] = {
    "PIBOT_BROKER": "The broker as HOST:PORT, HOST or [ADDRESS]:PORT, in place of broker.host and broker.port.",
    "PIBOT_PASSWORD": "The password for the broker, in place of broker.password_file.",
    **{
        variable: f"The key for the model where model.provider is {provider}, in place of model.api_key_file."
        for provider, variable in KEY_VARIABLES.items()
    },
    **{
        variable: f"The address of the model where model.provider is {provider}, in place of model.base_url."
        for provider, variable in URL_VARIABLES.items()
    },
}
"""The environment variables that no single key of a file stands for; the others have ``x-environment`` in a schema."""


class DeviceCheck(Protocol):
    """Finds what is wrong with devices beyond the schema: `pibot_mesh.hardware.kinds.check`."""

    def __call__(self, devices: Sequence[DeviceSettings], *, simulate: bool) -> Sequence[Problem]: ...


def load_master(path: Path | str | None = None, env: Mapping[str, str] = os.environ) -> MasterSettings:
    """The master's settings from the file at *path* (the defaults without one); variables in *env* go before it.

    Raises ConfigError with everything that is wrong.
    """
    draft = _Draft.read(path, "master", env)
    settings = draft.master()
    draft.finish()
    return settings


def load_node(
    path: Path | str | None = None,
    env: Mapping[str, str] = os.environ,
    *,
    check_devices: DeviceCheck | None = None,
) -> NodeSettings:
    """A node's settings from the file at *path* (the defaults without one); variables in *env* go before it.

    With *check_devices*, what the hardware has against the devices is among the errors. Raises ConfigError with
    everything that is wrong.
    """
    draft = _Draft.read(path, "node", env)
    settings = draft.node(check_devices)
    draft.finish()
    return settings


def check_file(path: Path | str, *, check_devices: DeviceCheck | None = None) -> list[str]:
    """Everything that is wrong with one file, a master's or a node's; the environment does not count. Never raises."""
    try:
        source = read_yaml(path)
        role = role_of(source)
        draft = _Draft(source, role, {})
        if role == "master":
            draft.master()
        else:
            draft.node(check_devices)
        draft.finish()
    except ConfigError as error:
        return list(error.problems)
    return []


def role_of(source: Source) -> Role:
    """Whose file it is, by the sections that only one of the two has; a node's where it has none of them.

    Raises ConfigError where it has both.
    """
    only = {role: [key for key in source.values if key in _own_sections(role)] for role in ("master", "node")}
    if only["master"] and only["node"]:
        [of_master, of_node] = only["master"][0], only["node"][0]
        problem = f"is for a node, and {of_master!r} is for the master: use one file for each"
        raise ConfigError([source.show(Problem((of_node,), problem))])
    return "master" if only["master"] else "node"


def parse_broker(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Host and port from ``HOST``, ``HOST:PORT``, ``[ADDRESS]:PORT``, all with or without ``mqtt://`` before.

    Raises ConfigError.
    """
    plain = text.strip().removeprefix("mqtt://").rstrip("/")
    if plain.startswith("mqtts://"):
        raise ConfigError(
            [f"broker {text!r}: for TLS give HOST:PORT here, and say 'tls: true' under broker in the file"]
        )
    if plain.count(":") > 1 and not plain.startswith("["):
        raise ConfigError([f"broker {text!r}: put an IPv6 address in brackets, such as [::1]:1883"])
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([A-Za-z0-9_.-]{1,253}))(?::([0-9]{1,5}))?", plain)
    if match is None:
        raise ConfigError([f"broker {text!r}: HOST:PORT is expected, such as 192.168.1.5:1883"])
    port = int(match[3] or default_port)
    if not 1 <= port <= 65535:
        raise ConfigError([f"broker {text!r}: a port is a number from 1 to 65535"])
    return match[1] or match[2], port


def ollama_url(text: str) -> str:
    """The address of an Ollama from its own variable, which is often only a host or a port to listen at."""
    scheme, separator, rest = text.strip().rstrip("/").rpartition("://")
    place, slash, path = rest.partition("/")
    bare = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::([0-9]+))?", place)
    if bare is None:
        return text
    host = "127.0.0.1" if bare[1] in ("", "0.0.0.0", "[::]") else bare[1]  # noqa: S104 - it is what Ollama listens at
    default_port = {"https": "443", "http": "80"}[scheme] if scheme in ("https", "http") else "11434"
    return f"{scheme if separator else 'http'}://{host}:{bare[2] or default_port}/{path if slash else 'v1'}"


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


class _Draft:
    """Settings in the making: what a schema refuses is noted, taken out, and replaced by its default."""

    def __init__(self, source: Source, role: Role, env: Mapping[str, str]) -> None:
        self._source = source
        self._env = {name: value for name, value in env.items() if value.strip()}
        self._problems: list[tuple[int, str]] = []
        self._refused: set[KeyPath] = set()
        self._refuse_other_role(role)
        for name, path in variables_of(role).items():
            if name in self._env:
                self._override(name, path)
        if role == "master":
            self._override_model_url()
        for problem in schema_problems(load_schema(role), source.values):
            self._note(problem)
            self._take_out(problem.path)

    @classmethod
    def read(cls, path: Path | str | None, role: Role, env: Mapping[str, str]) -> _Draft:
        return cls(Source() if path is None else read_yaml(path), role, env)

    def finish(self) -> None:
        """Raise ConfigError where anything was wrong: the environment's problems first, then the file's by line."""
        if self._problems:
            raise ConfigError([text for _, text in sorted(self._problems, key=lambda problem: problem[0])])

    def master(self) -> MasterSettings:
        return MasterSettings(
            root=self._text(("root",), "pibot"),
            broker=self._broker(None),
            state_dir=self._state_dir(),
            sentences=self._sentences(),
            model=self._model(),
            request_timeout_s=self._number(("master", "request_timeout_s"), 120.0),
            open_requests=int(self._number(("master", "open_requests"), 500)),
            health_interval_s=self._number(("master", "health_interval_s"), 10.0),
            log_level=self._text(("log_level",), "info"),
        )

    def node(self, check_devices: DeviceCheck | None) -> NodeSettings:
        node_id = self._text(("node", "id"), "") or fit_node_id(platform.node())
        simulate = bool(self._get(("node", "simulate"), False))
        devices = self._devices()
        state_dir = self._state_dir()
        if check_devices is not None:
            for problem in check_devices(devices, simulate=simulate):
                self._note(problem)
        return NodeSettings(
            id=node_id,
            root=self._text(("root",), "pibot"),
            broker=self._broker(node_id),
            state_dir=state_dir,
            labels=tuple(str(label) for label in self._list(("node", "labels"))),
            devices=devices,
            simulate=simulate,
            running=int(self._number(("node", "running"), 2)),
            queued=int(self._number(("node", "queued"), 16)),
            health_interval_s=self._number(("node", "health_interval_s"), 10.0),
            log_level=self._text(("log_level",), "info"),
            skills=self._skills(state_dir),
        )

    # --- What schemas cannot say ---

    def _broker(self, default_username: str | None) -> BrokerSettings:
        tls = self._tls()
        host = self._text(("broker", "host"), "127.0.0.1")
        default_port = TLS_PORT if tls else DEFAULT_PORT
        port = int(self._number(("broker", "port"), default_port))
        if "PIBOT_BROKER" in self._env:
            try:
                host, port = parse_broker(self._env["PIBOT_BROKER"], default_port)
            except ConfigError as error:
                self._problems += [(0, f"PIBOT_BROKER (environment): {problem}") for problem in error.problems]
        password = self._password()
        username = self._text(("broker", "username"), "") or (default_username if password else None)
        if password and not username:
            self._note(Problem(("broker", "username"), "is missing, and a password needs it (or set PIBOT_USERNAME)"))
        return BrokerSettings(
            host, port, username, password, tls, keepalive_s=int(self._number(("broker", "keepalive_s"), 15))
        )

    def _tls(self) -> Tls | None:
        value = self._get(("broker", "tls"), False)
        if not isinstance(value, dict):
            return Tls() if value else None
        tls = Tls(*(self._file(("broker", "tls", key)) for key in ("ca_file", "cert_file", "key_file")))
        if tls.key_file and not tls.cert_file:
            self._note(Problem(("broker", "tls", "cert_file"), "is missing, and key_file needs it"))
        return tls

    def _password(self) -> str | None:
        return self._env.get("PIBOT_PASSWORD") or self._secret(("broker", "password_file"), "password")

    def _model(self) -> ModelSettings:
        provider = self._text(("model", "provider"), "volcengine")
        key = self._env.get(KEY_VARIABLES[provider], "").strip() or self._secret(("model", "api_key_file"), "key")
        base_url = self._text(("model", "base_url"), "")
        if set("@?#") & set(base_url):
            # The schema's words would show it.
            text = "holds '@', '?' or '#': a key does not belong here, but in a variable or in api_key_file"
            self._note(Problem(("model", "base_url"), text))
        max_tokens = self._get(("model", "max_tokens"), None)
        temperature = self._get(("model", "temperature"), None)
        transport = self._text(("model", "transport"), "auto")
        return ModelSettings(
            provider=provider,
            base_url=base_url,
            model=self._text(("model", "model"), ""),
            api_key=key,
            max_tokens=None if max_tokens is None else int(self._number(("model", "max_tokens"), 0)),
            temperature=None if temperature is None else self._number(("model", "temperature"), 0),
            first_content_s=self._number(("model", "first_content_s"), 60.0),
            between_s=self._number(("model", "between_s"), 60.0),
            connect_s=self._number(("model", "connect_s"), 10.0),
            context_tokens=int(self._number(("model", "context_tokens"), 32_000)),
            transport=cast(Literal["auto", "openai", "standard"], transport),
        )

    def _secret(self, at: KeyPath, what: str) -> str | None:
        """What the file named at *at* holds, if one is named: a secret that nobody else may read."""
        file = self._file(at)
        if file is None:
            return None
        mode = file.stat().st_mode & 0o777
        if mode & 0o077:
            self._note(Problem(at, f"others may read {file} (mode {mode:04o}): run chmod 600 {file}"))
            return None
        try:
            secret = file.read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            self._note(Problem(at, f"{file} cannot be read: {error}"))
            return None
        if not secret:
            self._note(Problem(at, f"{file} is empty: write the {what} into it"))
        return secret or None

    def _sentences(self) -> tuple[Path, ...]:
        paths: list[Path] = []
        for index in range(len(self._list(("sentences",)))):
            at: KeyPath = ("sentences", index)
            path = self._path(at)
            if path is not None and not path.exists():
                self._note(Problem(at, f"there is no file or folder {path}"))
            elif path is not None:
                paths.append(path)
        return tuple(paths)

    def _skills(self, state_dir: Path) -> SkillSettings:
        folders = self._skill_folders()
        workspace = self._path(("skills", "workspace"))
        inside = mingled((state_dir / "skills",) if folders is None else folders, workspace or state_dir / "workspace")
        if inside is not None:
            text = f"must not lie in {inside}, nor around it, where skills are run: choose another folder"
            self._note(Problem(("skills", "workspace"), text))
        shipped = self._get(("skills", "shipped"), list(SHIPPED_SKILLS))
        return SkillSettings(
            folders,
            workspace,
            tuple(str(name) for name in self._list(("skills", "programs")) if name),
            tuple(name for name in SHIPPED_SKILLS if name in cast(list[object], shipped)),
        )

    def _skill_folders(self) -> tuple[Path, ...] | None:
        at: KeyPath = ("skills", "folders")
        if self._get(at, None) is None:
            return None
        paths: list[Path] = []
        for index in range(len(self._list(at))):
            path = self._path((*at, index))
            if path is not None and not path.is_dir():
                self._note(Problem((*at, index), f"there is no folder {path}"))
            elif path is not None:
                paths.append(path)
        return tuple(paths)

    def _state_dir(self) -> Path:
        self._source.values.setdefault("state_dir", "~/.local/state/pibot")
        at: KeyPath = ("state_dir",)
        path = self._path(at) or Path()
        if path.exists() and not path.is_dir():
            self._note(Problem(at, f"{path} is a file: name a folder"))
        return path

    def _devices(self) -> tuple[DeviceSettings, ...]:
        section = self._get(("devices",), {})
        assert isinstance(section, dict)
        return tuple(
            _device(id_, cast(dict[str, object], values))
            for id_, values in section.items()
            if not any(path[:2] == ("devices", id_) for path in self._refused)
        )

    def _file(self, at: KeyPath) -> Path | None:
        path = self._path(at)
        if path is None:
            return None
        if not path.is_file() or not os.access(path, os.R_OK):
            self._note(Problem(at, f"there is no file {path} that can be read"))
            return None
        return path

    def _path(self, at: KeyPath) -> Path | None:
        text = self._text(at, "")
        if not text:
            return None
        try:
            return self._source.folder(at).absolute() / Path(text).expanduser()
        except RuntimeError:
            self._note(Problem(at, f"the home directory for {show(text)} is not known: write the path in full"))
            return None

    # --- Values at their paths ---

    def _refuse_other_role(self, role: Role) -> None:
        other: Role = "node" if role == "master" else "master"
        for key in sorted(_own_sections(other) & set(self._source.values)):
            text = f"is for the {other}, and this file is read for the {role}: use a file of its own"
            self._note(Problem((key,), text))
            del self._source.values[key]

    def _override_model_url(self) -> None:
        """The address of the provider that the file names; another one's variable says nothing about it."""
        variable = URL_VARIABLES.get(self._text(("model", "provider"), "volcengine"), "")
        if variable in self._env:
            if variable == "OLLAMA_HOST":
                self._env[variable] = ollama_url(self._env[variable])
            self._override(variable, ("model", "base_url"))

    def _override(self, variable: str, path: KeyPath) -> None:
        values: Value = self._source.values
        for key in path[:-1]:
            if isinstance(values, dict):
                values = values.setdefault(str(key), {})
        if isinstance(values, dict):
            value = self._env[variable].strip()
            values[str(path[-1])] = value.lower() if path == ("log_level",) else value
            self._source.variables[path] = variable

    def _note(self, problem: Problem) -> None:
        line = 0 if problem.path in self._source.variables else self._source.line(problem.path)
        self._problems.append((line, self._source.show(problem)))

    def _take_out(self, path: KeyPath) -> None:
        self._refused.add(path)
        values: Value = self._source.values
        for key in path[:-1]:
            values = _below(values, key)
        if isinstance(values, dict):
            values.pop(str(path[-1]), None)
        elif isinstance(values, list) and isinstance(path[-1], int):
            values[path[-1]] = ""

    def _get(self, path: KeyPath, default: Value) -> Value:
        value: Value = self._source.values
        for key in path:
            value = _below(value, key)
            if value is None:
                return default
        return value

    def _text(self, path: KeyPath, default: str) -> str:
        return str(self._get(path, default))

    def _number(self, path: KeyPath, default: float) -> float:
        value = self._get(path, default)
        assert isinstance(value, (int, float)), format_path(path)
        return float(value)

    def _list(self, path: KeyPath) -> list[Value]:
        value = self._get(path, [])
        assert isinstance(value, list), format_path(path)
        return value


def _below(value: Value, key: str | int) -> Value:
    if isinstance(value, dict):
        return value.get(str(key))
    if isinstance(value, list) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _device(id_: str, values: Mapping[str, object]) -> DeviceSettings:
    own = ("kind", "pin", "name", "room")
    pin = values.get("pin")
    return DeviceSettings(
        id=id_,
        kind=str(values["kind"]),
        pin=int(cast(int, pin)) if pin is not None else None,
        name=str(values.get("name") or id_.replace("-", " ").replace("_", " ")),
        room=str(values.get("room", "")),
        options={key: value for key, value in values.items() if key not in own},
    )
