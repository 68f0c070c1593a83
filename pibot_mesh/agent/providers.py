"""What is known of each provider of models, as data. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from pibot_mesh.config.settings import KEY_VARIABLES, URL_VARIABLES, ModelSettings
from pibot_mesh.errors import ConfigError

LimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens", ""]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a service wants its requests. The defaults are what most of them take; what one refuses is learned."""

    max_tokens_field: LimitField = "max_tokens"
    """Under which name the answer's limit is sent; empty for not at all."""
    refused_fields: frozenset[str] = frozenset()
    """What was refused and might be tried again otherwise: names for the limit, and ``reasoning``."""
    has_stream_options: bool = True
    """Whether usage is asked for; most services tell it in a stream only then."""
    parallel_tool_calls: bool | None = None
    """What is sent under that name; None for nothing, which means the service's own way."""
    system_role: Literal["system", "developer", "user"] = "system"
    has_temperature: bool = True
    reasoning_back: Literal["never", "with_tools", "always"] = "never"
    """When the reasoning of earlier answers is sent back, then with each of them (empty where there was none)."""
    reasoning_field: str = "reasoning_content"
    """The name for reasoning that came without one of its own."""
    empty_content: Literal["null", "text"] = "null"
    """What stands for the text of a message that has calls alone."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A provider. *base_url* and *model* are used where the settings name none; an empty one must be named there."""

    name: str
    base_url: str = ""
    model: str = ""
    needs_key: bool = True
    dialect: Dialect = Dialect()

    @property
    def key_variable(self) -> str:
        """The environment variable for the key."""
        return KEY_VARIABLES[self.name]

    @property
    def url_variable(self) -> str:
        """The environment variable for the address; empty where there is none."""
        return URL_VARIABLES.get(self.name, "")


PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile("volcengine", "https://ark.cn-beijing.volces.com/api/v3", "doubao-seed-2-0-lite-260215"),
        Profile(
            "openai",
            "https://api.openai.com/v1",
            "gpt-5-mini",
            dialect=Dialect(max_tokens_field="max_completion_tokens"),
        ),
        Profile(
            "deepseek",
            "https://api.deepseek.com",
            "deepseek-v4-flash",
            dialect=Dialect(reasoning_back="with_tools"),
        ),
        Profile("ollama", "http://127.0.0.1:11434/v1", "qwen3:4b", needs_key=False),
        Profile("custom", needs_key=False),
    )
}


def profile_of(settings: ModelSettings) -> Profile:
    """The provider that *settings* name. Raises ConfigError where there is none of that name."""
    try:
        return PROFILES[settings.provider]
    except KeyError:
        known = ", ".join(PROFILES)
        raise ConfigError([f"model.provider: {settings.provider!r} is not known: one of {known}"]) from None


def is_configured(settings: ModelSettings) -> bool:
    """Whether there is a model to be asked: a key where the provider wants one, and an address and a name."""
    if settings.provider not in PROFILES:
        return False
    profile = PROFILES[settings.provider]
    has_key = bool(settings.api_key) or not profile.needs_key
    return has_key and bool(settings.base_url or profile.base_url) and bool(settings.model or profile.model)


def base_url_of(settings: ModelSettings) -> str:
    """The address without a slash at its end, and without ``/chat/completions``, which people copy with it.

    Raises ConfigError for one that is missing or wrong; a key in it is refused, since addresses are shown and logged.
    """
    profile = profile_of(settings)
    url = (settings.base_url or profile.base_url).strip().rstrip("/").removesuffix("/chat/completions")
    if not url:
        text = f"is missing, and the provider {profile.name!r} has none of its own (on the command line: --base-url)"
        raise ConfigError([f"model.base_url: {text}"])
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if "@" in url or "?" in url or "#" in url:
        raise ConfigError(["model.base_url: holds '@', '?' or '#': a key does not belong here, set it as a key"])
    if not is_address or not (url.isascii() and url.isprintable()) or " " in url:
        # It is not repeated: people put a key into the wrong variable.
        raise ConfigError(["model.base_url: is no address: https://HOST/PATH or http://HOST:PORT/PATH is expected"])
    return url


def model_of(settings: ModelSettings) -> str:
    """The model's name. Raises ConfigError where none is known."""
    profile = profile_of(settings)
    model = settings.model or profile.model
    if not model:
        text = f"is missing, and the provider {profile.name!r} has no model of its own (on the command line: --model)"
        raise ConfigError([f"model.model: {text}"])
    return model
