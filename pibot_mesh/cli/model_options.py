"""The options with which a command is told which model to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pibot_mesh.cli.options import environment

if TYPE_CHECKING:
    from pibot_mesh.config.settings import MasterSettings, ModelSettings

PROVIDERS: Final = ("volcengine", "openai", "deepseek", "ollama", "custom")
F = TypeVar("F", bound=Callable[..., Any])


def model_options(function: F) -> F:
    """Add ``--config``, ``--provider``, ``--model`` and ``--base-url``."""
    config = click.option("--config", metavar="FILE", help="A master's file: its section 'model' counts.")
    return config(model_choice(function))


def model_choice(function: F) -> F:
    """Add ``--provider``, ``--model`` and ``--base-url``."""
    options = (
        click.option("--provider", type=click.Choice(PROVIDERS), help="Whose model it is; or PIBOT_PROVIDER."),
        click.option(
            "--model", metavar="NAME", help="The model's name; or MODEL_NAME. Else the provider's own choice."
        ),
        click.option("--base-url", metavar="URL", help="The address of the service. Else the provider's own."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def model_settings(config: str | None, provider: str | None, model: str | None, base_url: str | None) -> ModelSettings:
    """The model by options, environment and file, in this order. Raises ConfigError."""
    return master_settings(config, provider, model, base_url).model


def master_settings(
    config: str | None, provider: str | None, model: str | None, base_url: str | None
) -> MasterSettings:
    """All that file and environment say of a master, with the model by options. Raises ConfigError."""
    from pibot_mesh.config.loader import load_master

    settings = load_master(config, environment(None, None, PIBOT_PROVIDER=provider, MODEL_NAME=model))
    return replace(settings, model=replace(settings.model, base_url=base_url)) if base_url else settings


def model_words(settings: ModelSettings) -> str:
    """Which model it is; or that there is none, and what would give one."""
    from pibot_mesh.agent.providers import is_configured, model_of, profile_of
    from pibot_mesh.config.settings import MESH

    if settings.provider == MESH:
        return "the master's"
    profile = profile_of(settings)
    if is_configured(settings):
        return f"{model_of(settings)} ({profile.name})"
    lacks = [profile.key_variable] if profile.needs_key and not settings.api_key else []
    lacks += ["--base-url"] if not (settings.base_url or profile.base_url) else []
    lacks += ["--model"] if not (settings.model or profile.model) else []
    return f"none ({profile.name} needs {' and '.join(lacks)})"
