"""The section ``model``, which a master's file and a node's both have, and the variables that go before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, cast

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.settings import KEY_VARIABLES, MESH, URL_VARIABLES, ModelSettings, Prices
from pibot_mesh.config.source import KeyPath, Problem

MODEL_VARIABLES: Final[Mapping[str, str]] = {
    **{
        variable: f"The key for the model where model.provider is {provider}, in place of model.api_key_file."
        for provider, variable in KEY_VARIABLES.items()
    },
    **{
        variable: f"The address of the model where model.provider is {provider}, in place of model.base_url."
        for provider, variable in URL_VARIABLES.items()
    },
}
"""The environment variables for keys and addresses, and what they mean."""
OF_A_SERVICE: Final = ("base_url", "model", "api_key_file")
"""Keys that say nothing where the model is the master's."""


def override_model(draft: Draft, default_provider: str) -> None:
    """Take what variables say for the provider that file and environment name; another one's say nothing about it.

    The variable for a model's name may be meant for a master on the same machine, so it says nothing to a node without
    a model of its own.
    """
    provider = draft.text(("model", "provider"), default_provider)
    if provider == MESH and draft.is_by_variable(("model", "model")):
        draft.forget(("model", "model"))
    variable = URL_VARIABLES.get(provider, "")
    if variable in draft.env:
        if variable == "OLLAMA_HOST":
            draft.env[variable] = ollama_url(draft.env[variable])
        draft.override(variable, ("model", "base_url"))


def model_settings(draft: Draft, defaults: ModelSettings) -> ModelSettings:
    """The model; *defaults* hold where the provider is that of theirs, and otherwise those of any other model."""
    provider = draft.text(("model", "provider"), defaults.provider)
    if provider != defaults.provider:
        defaults = ModelSettings(provider)
    if provider == MESH and not draft.is_refused(("model", "provider")):
        _refuse_what_a_service_has(draft)
    base_url = draft.text(("model", "base_url"))
    if set("@?#") & set(base_url):
        # The schema's words would show it.
        text = "holds '@', '?' or '#': a key does not belong here, but in a variable or in api_key_file"
        draft.note(Problem(("model", "base_url"), text))
    transport = draft.text(("model", "transport"), defaults.transport)
    return ModelSettings(
        provider=provider,
        base_url=base_url,
        model=draft.text(("model", "model")),
        api_key=None if provider == MESH else _key(draft, provider),
        max_tokens=draft.whole(("model", "max_tokens"), 0) or None,
        temperature=draft.number(("model", "temperature"), 0) if draft.is_set(("model", "temperature")) else None,
        first_content_s=draft.number(("model", "first_content_s"), defaults.first_content_s),
        between_s=draft.number(("model", "between_s"), defaults.between_s),
        connect_s=draft.number(("model", "connect_s"), defaults.connect_s),
        context_tokens=draft.whole(("model", "context_tokens"), defaults.context_tokens),
        transport=cast(Literal["auto", "openai", "standard"], transport),
    )


def model_prices(draft: Draft) -> Prices | None:
    """What the model costs, if that is told: what is cached costs as much as other input where nothing is said."""
    at: KeyPath = ("model", "prices")
    if not draft.is_set(at) or draft.is_refused(at):
        return None
    price = draft.number((*at, "input"), 0)
    return Prices(
        price,
        draft.number((*at, "output"), 0),
        draft.number((*at, "cached"), price),
        draft.text((*at, "currency"), "USD"),
    )


def is_for_a_master(model: object) -> bool:
    """Whether a section *model* makes sense in a master's file alone.

    Only there are prices, and only there a model without a provider is one with an address or a key of its own.
    """
    if not isinstance(model, Mapping):
        return False
    return "prices" in model or ("provider" not in model and any(key in model for key in OF_A_SERVICE))


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


def _refuse_what_a_service_has(draft: Draft) -> None:
    for key in OF_A_SERVICE:
        if draft.is_set(("model", key)):
            text = f"is for a model of the node's own, and the provider {MESH} is the master's: name another provider"
            draft.refuse(Problem(("model", key), text))


def _key(draft: Draft, provider: str) -> str | None:
    return draft.env.get(KEY_VARIABLES[provider], "").strip() or draft.secret(("model", "api_key_file"), "key")
