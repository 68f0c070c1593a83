"""What a file says of agents: what asks first, what they may use, what they cost, and where they may write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pibot_mesh.config.loader import check_file, load_master, load_node, role_of
from pibot_mesh.config.settings import (
    MESH_MODEL,
    ApprovalSettings,
    BudgetSettings,
    GatewaySettings,
    ModelSettings,
    Prices,
)
from pibot_mesh.config.source import Source
from pibot_mesh.config.workspace import lies_in


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    """A file with *text* in it."""
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with a file, without the folder's name."""
    return [problem.replace(f"{folder}/", "") for problem in check_file(write(folder, text))]


def test_a_master_is_told_what_agents_may_do(tmp_path: Path) -> None:
    """Every key ends in its field; paths are relative to the file."""
    write(tmp_path, "You are a butler.", "butler.md")
    path = write(
        tmp_path,
        """
state_dir: state
master: {soul: butler.md, workspace: desk}
approval: {ask: [actuate, shell_exec], within_s: 30}
budget: {turns: 5, tool_calls: 0, tokens: 9000}
gateway: {requests_per_minute: 2, tokens_per_day: 0}
model: {prices: {input: 0.8, output: 2, cached: 0.1, currency: CNY}}
""",
    )

    master = load_master(path, {})

    assert (master.soul, master.workspace) == (tmp_path / "butler.md", tmp_path / "desk")
    assert master.approval == ApprovalSettings(("actuate", "shell_exec"), 30.0)
    assert master.budget == BudgetSettings(5, 0, 9000)
    assert master.gateway == GatewaySettings(2, 0)
    assert master.prices == Prices(0.8, 2.0, 0.1, "CNY")


def test_what_is_cached_costs_as_much_as_the_rest_where_nothing_is_said(tmp_path: Path) -> None:
    """So that a bill is never too small."""
    path = write(tmp_path, "model: {prices: {input: 3, output: 15}}")

    assert load_master(path, {}).prices == Prices(3.0, 15.0, 3.0, "USD")
    assert load_master(None, {}).prices is None


def test_a_node_asks_the_masters_model_by_default(tmp_path: Path) -> None:
    """Also where it says how much of it, and however it spells that."""
    usual = MESH_MODEL

    assert load_node(None, {}).model == usual
    assert load_node(write(tmp_path, "model: {provider: mesh}"), {}).model == usual
    model = load_node(write(tmp_path, "model: {max_tokens: 300, temperature: 1}"), {}).model
    assert model == replace(MESH_MODEL, max_tokens=300, temperature=1.0)


def test_a_node_may_have_a_model_of_its_own(tmp_path: Path) -> None:
    """By its file or by variables; then it is like any other."""
    path = write(tmp_path, "model: {provider: ollama, model: small}\napproval: {ask: [write]}")
    node = load_node(path, {"OLLAMA_HOST": "attic.lan", "OLLAMA_API_KEY": "k3y"})

    assert node.model == ModelSettings("ollama", "http://attic.lan:11434/v1", "small", "k3y")
    assert node.ask == ("write",)
    env = {
        "PIBOT_PROVIDER": "openai",
        "MODEL_NAME": "m",
        "OPENAI_API_KEY": "k3y",
        "OPENAI_BASE_URL": "https://o.example",
    }
    assert load_node(None, env).model == ModelSettings("openai", "https://o.example", "m", "k3y")


def test_a_masters_variables_say_nothing_to_a_node_without_a_model_of_its_own() -> None:
    """They run side by side on one machine."""
    env = {"MODEL_NAME": "m", "VOLC_API_KEY": "k3y", "VOLC_BASE_URL": "https://v.example", "OPENAI_API_KEY": "k3y"}

    assert load_node(None, env).model == MESH_MODEL
    assert load_master(None, env).model.model == "m"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "node: {}\napproval: {ask: [acutate]}",
            "c.yaml:2: approval.ask[0]: 'acutate' is hardly a tool: did you mean the effect 'actuate'?",
        ),
        (
            "node: {}\napproval: {ask: [door_open, Write]}",
            "c.yaml:2: approval.ask[1]: 'Write' is hardly a tool: did",
        ),
        (
            "approval: {ask: ['rm -rf']}",
            "c.yaml:1: approval.ask[0]: the name of a tool, or an effect such as actuate is expected, not 'rm -rf'",
        ),
        ("approval: {ask: [actuate, actuate]}", "c.yaml:1: approval.ask: an entry stands twice: remove one"),
        ("approval: {ask: actuate}", "c.yaml:1: approval.ask: a list is expected, not 'actuate'"),
        ("approval: {asks: [actuate]}", "c.yaml:1: approval.asks: unknown key (did you mean 'ask'?)"),
        ("node: {}\napproval: {within_s: 5}", "c.yaml:2: approval.within_s: unknown key; known are: ask"),
        ("master: {}\napproval: {within_s: 0}", "c.yaml:2: approval.within_s: a number from 1 to 86400 is expected"),
        ("budget: {tokens: 10}", "c.yaml:1: budget.tokens: a whole number from 1000 to 1000000000 is expected, not 10"),
        ("budget: {turns: 0}", "c.yaml:1: budget.turns: a whole number from 1 to 10000 is expected, not 0"),
        ("gateway: {requests_per_minute: 0}", "c.yaml:1: gateway.requests_per_minute: a whole number from 1 to 10000"),
        ("model: {prices: {input: 1}}", "c.yaml:1: model.prices.output: is missing: add 'output: ...' (a number)"),
        ("model: {prices: {input: -1, output: 1}}", "c.yaml:1: model.prices.input: a number from 0 to 1000000"),
        (
            "model: {prices: {input: 1, output: 1, currency: dollars}}",
            "c.yaml:1: model.prices.currency: three capital letters such as USD is expected, not 'dollars'",
        ),
        ("node: {}\nmodel: {prices: {input: 1, output: 1}}", "c.yaml:2: model.prices: unknown key; known are: "),
        (
            "node: {}\nmodel: {api_key_file: key}",
            "c.yaml:2: model.api_key_file: is for a model of the node's own, and the provider mesh is the master's",
        ),
        ("node: {}\nmodel: {provider: mesh, base_url: 'http://h'}", "c.yaml:2: model.base_url: is for a model of the"),
        ("node: {}\nmodel: {model: large}", "c.yaml:2: model.model: is for a model of the node's own"),
        (
            "node: {}\nmodel: {provider: mash, model: m}",
            "c.yaml:2: model.provider: mesh, volcengine, openai, deepseek, ",
        ),
        (
            "master: {}\nmodel: {provider: mesh}",
            "c.yaml:2: model.provider: volcengine, openai, deepseek, ollama or cust",
        ),
        ("node: {}\nmodel: {api_key: x}", "c.yaml:2: model.api_key: a key does not belong here"),
        ("master: {soul: none.md}", "c.yaml:1: master.soul: there is no file none.md that can be read"),
        ("master: {workspace: c.yaml}", "c.yaml:1: master.workspace: c.yaml is a file: name a folder"),
    ],
)
def test_each_mistake_is_told_in_words(text: str, expected: str, tmp_path: Path) -> None:
    """What is wrong, where, and what to do; and nothing else."""
    assert [problem[: len(expected)] for problem in problems(tmp_path, text)] == [expected]


def test_mistakes_are_told_all_at_once(tmp_path: Path) -> None:
    """Those of the schema, and those beyond it, by line."""
    text = "approval:\n  ask: [writes]\nbudget: {turns: many}\nmaster:\n  soul: none.md\n"

    assert [problem.split(": ")[:2] for problem in problems(tmp_path, text)] == [
        ["c.yaml:2", "approval.ask[0]"],
        ["c.yaml:3", "budget.turns"],
        ["c.yaml:5", "master.soul"],
    ]


def test_agents_cannot_write_the_soul(tmp_path: Path) -> None:
    """Nor read a key or write sentences: none of them may lie in the workspace, be it named or the default one."""
    desk = tmp_path / "state" / "master-workspace"
    desk.mkdir(parents=True)
    for name in ("soul.md", "key", "words.yaml"):
        write(desk, "x", name).chmod(0o600)
    inside = "state/master-workspace"
    text = f"""state_dir: state
master: {{soul: {inside}/soul.md}}
model: {{api_key_file: {inside}/key}}
sentences: [{inside}/words.yaml]
"""

    told = problems(tmp_path, text)

    says = f"lies in the workspace {inside}, where agents could read and write it: keep it elsewhere"
    assert told == [
        f"c.yaml:{2 + n}: {key}: {says}" for n, key in enumerate(["master.soul", "model.api_key_file", "sentences[0]"])
    ]
    assert problems(tmp_path, text.replace("{soul", "{workspace: desk, soul")) == []


@pytest.mark.parametrize(
    ("key", "more"), [("master", ""), ("skills", ", folders: []")], ids=["the master's", "a node's"]
)
def test_a_workspace_has_no_settings_and_no_state_in_it(key: str, more: str, tmp_path: Path) -> None:
    """An agent that writes those makes rules of its own."""
    (tmp_path / "all").mkdir()

    [settings] = problems(tmp_path, f"{key}: {{workspace: .{more}}}")
    [state] = problems(tmp_path, f"state_dir: all/state\n{key}: {{workspace: all{more}}}")

    says = "and agents could write it: choose another folder"
    assert settings == f"c.yaml:1: {key}.workspace: this file lies in {tmp_path}, {says}"
    assert state == f"c.yaml:2: {key}.workspace: state_dir lies in all, {says}"
    assert problems(tmp_path, f"state_dir: all\n{key}: {{workspace: all/desk{more}}}") == []


def test_a_link_hides_nothing(tmp_path: Path) -> None:
    """Neither one that leads into the workspace, nor one that lies there: that could be replaced."""
    desk = tmp_path / "desk"
    desk.mkdir()
    soul = write(tmp_path, "x", "soul.md")
    (desk / "link.md").symlink_to(soul)
    write(desk, "x", "inner.md")
    (tmp_path / "link.md").symlink_to(desk / "inner.md")
    (tmp_path / "way").symlink_to(desk)

    assert lies_in(desk / "link.md", desk)
    assert lies_in(tmp_path / "link.md", desk)
    assert lies_in(desk / "inner.md", tmp_path / "way")
    assert lies_in(tmp_path / "way" / "inner.md", desk)
    assert not lies_in(soul, desk)


@pytest.mark.parametrize(
    ("values", "role"),
    [
        ({"model": {"prices": {}}}, "master"),
        ({"model": {"api_key_file": "key"}}, "master"),
        ({"model": {"provider": "mesh"}}, "node"),
        ({"model": {"provider": "openai", "api_key_file": "key"}}, "node"),
        ({"model": "?"}, "node"),
        ({"node": {}, "model": {"api_key_file": "key"}}, "node"),
        ({"budget": {}}, "master"),
        ({"approval": {}}, "node"),
    ],
)
def test_a_file_is_whose_it_can_only_be(values: dict[str, object], role: str) -> None:
    """Where both could have it, it is taken for a node's."""
    assert role_of(Source("c.yaml", values)) == role  # type: ignore[arg-type]  # plain values
