"""``pibot model``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from pibot_mesh.cli.model_options import model_options, model_settings
from pibot_mesh.cli.screen import say, say_json

if TYPE_CHECKING:
    from pibot_mesh.agent.model_check import Finding
    from pibot_mesh.config.settings import ModelSettings

_MARKS: Final = {"works": "✓", "slow": "!", "wrong": "✗"}
_TRANSPORTS: Final = {"openai": "the openai package", "standard": "the standard library's HTTP"}
_TONES: Final = {"works": "good", "slow": "odd", "wrong": "bad"}


@click.group("model")
def command() -> None:
    """The language model."""


@command.command("test")
@model_options
@click.option("--json", "is_json", is_flag=True, help="Print the findings as one JSON object.")
def test(*, config: str | None, provider: str | None, model: str | None, base_url: str | None, is_json: bool) -> None:
    """Try the model with one short request and one tool call.

    Says what works, what is slow and what is wrong; ends with 2 where anything is wrong. Costs a few hundred tokens.
    """
    from pibot_mesh.cli.exits import FAILED

    settings = model_settings(config, provider, model, base_url)
    findings, about = asyncio.run(_try(settings))
    is_wrong = any(finding.verdict == "wrong" for finding in findings)
    if is_json:
        say_json({**about, "works": not is_wrong, "findings": [asdict(finding) for finding in findings]})
    else:
        say(
            f"{about['provider']}: {about['model']} at {about['url']}, over {_TRANSPORTS[about['transport']]}", dim=True
        )
        for finding in findings:
            say(f"{_MARKS[finding.verdict]} {finding.text}", tone=_TONES[finding.verdict])
    if is_wrong:
        click.get_current_context().exit(FAILED)


async def _try(settings: ModelSettings) -> tuple[list[Finding], dict[str, str]]:
    from pibot_mesh.agent.client import LLMClient
    from pibot_mesh.agent.model_check import check_model

    async with LLMClient(settings) as client:
        about = {
            "provider": settings.provider,
            "model": client.model,
            "url": client.base_url,
            "transport": client.transport_name,
        }
        return await check_model(client), about
