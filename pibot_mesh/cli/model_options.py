"""The options with which a command is told which model to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pibot_mesh.cli.options import environment

if TYPE_CHECKING:
    from pibot_mesh.config.settings import ModelSettings

PROVIDERS: Final = ("volcengine", "openai", "deepseek", "ollama", "custom")
F = TypeVar("F", bound=Callable[..., Any])


def model_options(function: F) -> F:
    """Add ``--config``, ``--provider``, ``--model`` and ``--base-url``."""
    options = (
        click.option("--config", metavar="FILE", help="A master's file: its section 'model' counts."),
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
    from pibot_mesh.config.loader import load_master

    settings = load_master(config, environment(None, None, PIBOT_PROVIDER=provider, MODEL_NAME=model)).model
    return replace(settings, base_url=base_url) if base_url else settings
