"""Profiles, addresses and names."""

from __future__ import annotations

import pytest

from pibot_mesh.agent.providers import PROFILES, base_url_of, is_configured, model_of, profile_of
from pibot_mesh.config.loader import VARIABLES, load_schema
from pibot_mesh.config.settings import KEY_VARIABLES, URL_VARIABLES, ModelSettings
from pibot_mesh.errors import ConfigError


def test_every_provider_of_the_configuration_has_a_profile() -> None:
    """And its variables are among those that are documented."""
    schema = load_schema("master")
    providers = schema["properties"]["model"]["properties"]["provider"]["enum"]  # type: ignore[index]  # plain JSON

    assert list(PROFILES) == list(KEY_VARIABLES) == providers
    for profile in PROFILES.values():
        assert profile.key_variable in VARIABLES
        assert profile.url_variable in ({*VARIABLES} | {""})
    assert {profile.url_variable for profile in PROFILES.values()} - {""} == set(URL_VARIABLES.values())


@pytest.mark.parametrize("provider", [name for name in PROFILES if name != "custom"])
def test_a_provider_has_an_address_and_a_model_of_its_own(provider: str) -> None:
    """A key is all that is missing."""
    settings = ModelSettings(provider)

    assert base_url_of(settings) == PROFILES[provider].base_url
    assert model_of(settings) == PROFILES[provider].model


def test_the_default_is_volcengine() -> None:
    """As the settings have it."""
    assert profile_of(ModelSettings()).name == "volcengine"
    assert base_url_of(ModelSettings()) == "https://ark.cn-beijing.volces.com/api/v3"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://host/v1/", "https://host/v1"),
        (" https://host/v1/chat/completions ", "https://host/v1"),
        ("http://[::1]:11434/v1", "http://[::1]:11434/v1"),
    ],
)
def test_an_address_is_taken_as_people_write_it(url: str, expected: str) -> None:
    """With what they copied behind it."""
    assert base_url_of(ModelSettings("custom", url, "m")) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "model.base_url: is missing, and the provider 'custom' has none of its own"),
        ("host:8000", "is no address"),
        ("ftp://host/", "is no address"),
        ("https:///v1", "is no address"),
        ("http://host:99999", "is no address"),
        ("http://[::1", "is no address"),
        ("http://ho st", "is no address"),
        ("http://host/ü", "is no address"),
        ("https://me:s3cret@host", "a key does not belong here"),
        ("https://host/?key=s3cret", "a key does not belong here"),
        ("https://host/#s3cret", "a key does not belong here"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, says: str) -> None:
    """Without saying the key that may stand in it."""
    with pytest.raises(ConfigError) as caught:
        base_url_of(ModelSettings("custom", url, "m"))

    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_what_is_not_known_is_told() -> None:
    """A provider, and a model where the provider has none of its own."""
    with pytest.raises(ConfigError, match="'mesh' is not known: one of volcengine, openai"):
        profile_of(ModelSettings("mesh"))
    with pytest.raises(ConfigError, match=r"model\.model: is missing"):
        model_of(ModelSettings("custom", "http://host"))


@pytest.mark.parametrize(
    ("settings", "is_there"),
    [
        (ModelSettings("openai", api_key="k"), True),
        (ModelSettings("openai"), False),
        (ModelSettings("ollama"), True),
        (ModelSettings("custom", base_url="http://127.0.0.1:1/v1", model="m"), True),
        (ModelSettings("custom", model="m"), False),
        (ModelSettings("custom", base_url="http://127.0.0.1:1/v1"), False),
        (ModelSettings("mesh"), False),
        (ModelSettings("nobody's"), False),
    ],
)
def test_a_model_can_be_asked_where_all_that_it_needs_is_there(settings: ModelSettings, *, is_there: bool) -> None:
    """A key where the provider wants one, an address and a name; the master's own is no model of a node's."""
    assert is_configured(settings) is is_there
