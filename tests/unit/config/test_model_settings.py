"""The model's section, its key and its address."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.config.loader import load_master
from pibot_mesh.config.model_section import ollama_url
from pibot_mesh.config.settings import KEY_VARIABLES, URL_VARIABLES, ModelSettings
from pibot_mesh.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    """A master's file."""
    path = folder / "c.yaml"
    path.write_text(text, "utf-8")
    return path


def model(folder: Path, text: str, **env: str) -> ModelSettings:
    """The model that a master's file and variables name."""
    return load_master(write(folder, text), env).model


def problems(folder: Path, text: str, **env: str) -> list[str]:
    """What loading a master's file ends with, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        load_master(write(folder, text), env)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_every_key_ends_in_its_field(tmp_path: Path) -> None:
    """The key of the provider stands in a file of its own."""
    secret = tmp_path / "key"
    secret.write_text("s3cret\n", "utf-8")
    secret.chmod(0o600)
    text = """
model:
  provider: custom
  base_url: http://127.0.0.1:8000/v1
  model: small
  api_key_file: key
  max_tokens: 500
  temperature: 0
  first_content_s: 5
  between_s: 7.5
  connect_s: 3
  context_tokens: 8000
  transport: standard
"""

    settings = model(tmp_path, text)

    assert settings == ModelSettings(
        provider="custom",
        base_url="http://127.0.0.1:8000/v1",
        model="small",
        api_key="s3cret",
        max_tokens=500,
        temperature=0.0,
        first_content_s=5.0,
        between_s=7.5,
        connect_s=3.0,
        context_tokens=8000,
        transport="standard",
    )
    assert "s3cret" not in repr(settings)


def test_an_empty_section_has_the_defaults(tmp_path: Path) -> None:
    """Those of the dataclass."""
    assert model(tmp_path, "model: {}") == ModelSettings()


@pytest.mark.parametrize("provider", KEY_VARIABLES)
def test_each_provider_has_a_variable_for_its_key(provider: str, tmp_path: Path) -> None:
    """Which goes before the file; another one's says nothing."""
    secret = tmp_path / "key"
    secret.write_text("of the file", "utf-8")
    secret.chmod(0o600)
    text = f"model: {{provider: {provider}, api_key_file: key}}"
    others = {variable: "another's" for name, variable in KEY_VARIABLES.items() if name != provider}

    assert model(tmp_path, text, **others).api_key == "of the file"
    assert model(tmp_path, text, **others, **{KEY_VARIABLES[provider]: " k3y "}).api_key == "k3y"


@pytest.mark.parametrize("provider", KEY_VARIABLES)
def test_a_provider_may_have_a_variable_for_its_address(provider: str, tmp_path: Path) -> None:
    """Which goes before the file; another one's says nothing."""
    text = f"model: {{provider: {provider}, base_url: 'https://file.example/v1'}}"
    env = {variable: f"https://{name}.example/v1" for name, variable in URL_VARIABLES.items()}
    expected = {"ollama": "https://ollama.example:443/v1", "deepseek": "https://file.example/v1"}

    assert model(tmp_path, text, **env).base_url == expected.get(provider, f"https://{provider}.example/v1")
    assert model(tmp_path, text).base_url == "https://file.example/v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        (":8000", "http://127.0.0.1:8000/v1"),
        ("", "http://127.0.0.1:11434/v1"),
        ("attic.lan", "http://attic.lan:11434/v1"),
        ("attic.lan:8000/", "http://attic.lan:8000/v1"),
        ("[::]:8000", "http://127.0.0.1:8000/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        ("http://attic.lan", "http://attic.lan:80/v1"),
        ("https://attic.lan", "https://attic.lan:443/v1"),
        ("http://attic.lan:8000/ollama/v1", "http://attic.lan:8000/ollama/v1"),
        ("attic.lan:many", "attic.lan:many"),
    ],
)
def test_ollamas_own_variable_is_understood(text: str, expected: str) -> None:
    """It often says where Ollama listens, and not where it is."""
    assert ollama_url(text) == expected


@pytest.mark.parametrize(
    ("text", "env", "problem"),
    [
        (
            "model: {provider: mesh}",
            {},
            "c.yaml:1: model.provider: volcengine, openai, deepseek, ollama or custom is expected",
        ),
        ("model: {base_url: host}", {}, "c.yaml:1: model.base_url: an address that begins with https:// or http://"),
        ("model: {base_url: 'https://me:s3cret@host'}", {}, "c.yaml:1: model.base_url: holds '@', '?' or '#'"),
        ("model: {base_url: 'https://host?key=s3cret'}", {}, "c.yaml:1: model.base_url: holds '@', '?' or '#'"),
        ("", {"VOLC_BASE_URL": "host"}, "VOLC_BASE_URL (environment): an address that begins with"),
        ("model: {provider: ollama}", {"OLLAMA_HOST": "a:b:c"}, "OLLAMA_HOST (environment): an address that begins"),
        ("model: {max_tokens: 0}", {}, "c.yaml:1: model.max_tokens: "),
        ("model: {max_tokens: 1.5}", {}, "c.yaml:1: model.max_tokens: a whole number"),
        ("model: {temperature: 3}", {}, "c.yaml:1: model.temperature: "),
        ("model: {first_content_s: 0}", {}, "c.yaml:1: model.first_content_s: "),
        ("model: {transport: curl}", {}, "c.yaml:1: model.transport: auto, openai or standard is expected"),
        ("model: {api_key: s3cret}", {}, "c.yaml:1: model.api_key: a key does not belong here"),
        ("model: {api_key_file: none}", {}, "c.yaml:1: model.api_key_file: there is no file none that can be read"),
        ("model: 5", {}, "c.yaml:1: model: a section of 'key: value' lines is expected"),
    ],
)
def test_each_mistake_is_told_in_words(text: str, env: dict[str, str], problem: str, tmp_path: Path) -> None:
    """With its place; a key that stands where none belongs is not repeated."""
    [told] = problems(tmp_path, text, **env)

    assert told.startswith(problem)
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"x", 0o644, "others may read key (mode 0644): run chmod 600 key"),
        (b"\n", 0o600, "key is empty: write the key into it"),
        (b"\xff", 0o600, "key cannot be read: "),
    ],
)
def test_a_key_file_must_be_ours_alone(tmp_path: Path, content: bytes, mode: int, says: str) -> None:
    """A key that others can read is none."""
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(mode)
    [problem] = problems(tmp_path, "model: {api_key_file: key}")

    assert problem.startswith(f"c.yaml:1: model.api_key_file: {says}")
