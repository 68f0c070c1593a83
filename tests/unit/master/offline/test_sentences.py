"""Users' own sentence files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pibot_mesh.errors import ConfigError
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.master.offline.sentences import INTENTS
from pibot_mesh.protocol.messages import Output, Plan, State, StepResult
from tests.unit.master.offline.house import HOUSE, refusal, steps


def written(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    """A file with *text*."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


MINE = """
language: en
intents:
  SetOutput:
    data:
      - sentences: ["lights out [<where>]"]
        slots: {thing: lights, state: off}
      - sentences: ["movie time"]
        slots: {thing: lamp, place: kitchen, value: 20, minutes: 90}
      - sentences: ["(fire|warm) up {thing}", "set {thing} to level {1..9:value}"]
        slots: {state: on, place: worker-1}
      - sentences: ["no more light"]
        slots: {thing: lamp, place: kitchen, state: off}
      - sentences: [party, dance, "party and dance"]
        slots: {thing: disco ball, state: on}
      - sentences: ["go to mars"]
        slots: {thing: fan, place: mars, state: on}
  Read:
    data:
      - sentences: ["weather"]
        slots: {thing: temperature, place: balcony}
  Condition:
    data:
      - sentences: ["if it is hot {rest}"]
expansion_rules: {unused: "[a] {state}"}
lists: {state: {values: [{in: alive, out: "on"}, {in: dead, out: "off"}]}}
kinds: [{words: [luminary], many: [luminaries], kinds: [lamp]}]
measures: {humidity: [damp]}
examples: ["lights out"]
responses: {state_on: "{device} runs"}
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> OfflineEngine:
    """The engine with the sentences above, in a folder."""
    folder = tmp_path_factory.mktemp("sentences")
    written(folder, MINE)
    return OfflineEngine([folder])


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("lights out", ["worker-1 lamp = OFF", "worker-2 lamp = OFF", "worker-3 lamp = OFF"]),
        ("lights out in the kitchen", ["worker-1 lamp = OFF"]),
        ("movie time", ["worker-1 lamp = 20 for 5400"]),
        ("fire up the fan", []),
        ("warm up fan", ["worker-1 fan = ON"]),
        ("turn the kitchen fan dead", ["worker-1 fan = OFF"]),
        ("turn on the kitchen luminary", ["worker-1 lamp = ON"]),
        ("turn off all luminaries on worker-1", ["worker-1 lamp = OFF"]),
        (
            "weather and read the damp on the balcony",
            ["worker-2 sensor_read climate temperature", "worker-2 sensor_read climate humidity"],
        ),
        (
            "lights out in the kitchen, then turn on the kitchen fan",
            ["worker-1 lamp = OFF", "worker-1 fan = ON after s1"],
        ),
        ("turn on the fan on worker-1", ["worker-1 fan = ON"]),
    ],
)
def test_own_sentences_work_beside_the_shipped_ones(mine: OfflineEngine, sentence: str, expected: list[str]) -> None:
    """Templates, fixed slots, kinds, measures and list values are added; words in slots are looked up."""
    outcome = mine.plan(sentence, HOUSE)

    assert (steps(outcome) if isinstance(outcome, Plan) else []) == expected


@pytest.mark.parametrize("sentence", ["party and dance", "go to mars", "if it is hot turn on the kitchen fan"])
def test_own_sentences_about_what_is_not_there_are_refused(mine: OfflineEngine, sentence: str) -> None:
    """A slot that names nothing, or a condition without a limit, is no reason to fail."""
    assert "nothing was done" in refusal(mine.plan(sentence, HOUSE)).text


def test_own_sentences_act_no_more_than_others_in_a_negation(mine: OfflineEngine) -> None:
    """The guards stand before every sentence."""
    assert "question" in refusal(mine.plan("lights out?", HOUSE)).text
    assert 'negation ("no")' in refusal(mine.plan("no more light", HOUSE)).text
    assert '"jump"' in refusal(mine.plan("party and dance and jump", HOUSE)).text
    assert isinstance(mine.plan("lights out", HOUSE), Plan)


def test_own_responses_and_examples_take_effect(mine: OfflineEngine) -> None:
    """A response of the same name replaces the shipped one."""
    plan = mine.plan("turn on the kitchen fan", HOUSE)
    assert isinstance(plan, Plan)
    result = StepResult("s1", State.COMPLETED, output=Output(data={"name": "fan", "value": "ON"}))

    assert mine.answer(plan, [result]) == "worker-1: fan runs."
    assert "lights out" in mine.examples("en")


GERMAN = """
language: de
intents:
  SetOutput: {data: [{sentences: ["schalte <der> {thing} (in|auf) [der] {place} {state}"]}]}
  Read: {data: [{sentences: ["wie warm ist es"], slots: {thing: Temperatur, place: balcony}}]}
  Help: {data: [{sentences: ["hilfe"]}]}
expansion_rules: {der: "[der|die|das|den]"}
lists: {state: {values: [{in: ein, out: "on"}, {in: aus, out: "off"}]}}
measures: {temperature: [Temperatur]}
words: {and: [und], negation: [nicht, kein], question_start: [wie]}
responses: {reading: "{measure}: {value}"}
"""
TLHINGAN = """
language: tlh
intents: {MeshStatus: {data: [{sentences: ["jatlh"]}]}}
examples: ["jatlh", "{output} {node}"]
"""


def test_a_new_language_needs_only_a_file(tmp_path: Path) -> None:
    """It is found by its sentences; responses that it lacks are English; hassil's number words come with it."""
    engine = OfflineEngine([written(tmp_path, GERMAN)])
    plan = engine.plan("Schalte den fan in der kitchen ein und schalte die lamp auf worker-2 aus", HOUSE)

    assert engine.languages == ("en", "zh-cn", "de")
    assert steps(plan) == ["worker-1 fan = ON", "worker-2 lamp = OFF"]
    assert plan.language == "de"
    reading = engine.plan("Wie warm ist es?", HOUSE)
    assert isinstance(reading, Plan)
    result = StepResult("s1", State.COMPLETED, output=Output(data={"values": {"temperature": 21}}))
    assert engine.answer(reading, [result]) == "worker-2: Temperatur: 21."
    assert refusal(engine.plan("schalte den fan in der kitchen nicht ein", HOUSE)).text


def test_a_language_without_responses_refuses_in_english(tmp_path: Path) -> None:
    """Found by its script; without examples it has none to offer."""
    engine = OfflineEngine([written(tmp_path, "language: ru\nintents: {Help: {data: [{sentences: [помощь]}]}}")])
    refused = refusal(engine.plan("привет", HOUSE))

    assert steps(engine.plan("Помощь!", HOUSE)) == ["master help ru"]
    assert (refused.language, refused.suggestions) == ("ru", ())
    assert 'I do not understand "привет"' in refused.text


def test_a_language_that_hassil_cannot_count_in_works_with_digits(tmp_path: Path) -> None:
    """Number words are a gift; a language without kinds has no usual names for its examples."""
    engine = OfflineEngine([written(tmp_path, TLHINGAN)])

    assert steps(engine.plan("jatlh", HOUSE)) == ["master mesh_status"]
    assert engine.examples("tlh") == ["jatlh"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("language: [", "not valid YAML"),
        ("intents: {}", "language: is missing"),
        ("language: english!", "language: a code such as en or zh-cn is expected"),
        ("language: en\nintent: {}", "intent: unknown key (did you mean 'intents'?)"),
        ("language: en\nintents: {SetOutputs: {data: []}}", "no intent 'SetOutputs' (did you mean 'SetOutput'?)"),
        ("language: en\nintents: {X: {data: []}}", f"known are: {', '.join(INTENTS)}"),
        (
            "language: en\nintents: {Read: {data: [{sentences: ['read (me']}]}}",
            "mine.yaml:2: intents.Read.data[0].sentences[0]: this is no template",
        ),
        (
            "language: en\nintents: {Read: {data: [{sentences: ['read {thin}']}]}}",
            "there is no list {thin} (did you mean 'thing'?)",
        ),
        (
            "language: en\nintents: {Read: {data: [{sentences: ['read <wher>']}]}}",
            "there is no rule <wher> (did you mean 'where'?)",
        ),
        (
            "language: en\nexpansion_rules: {a: 'x <b>', b: 'y [<a>]'}",
            "expansion_rules.a: this rule leads back to itself",
        ),
        ("language: en\nlists: {thing: {values: ['x']}}", "lists.thing: this list is made from the devices"),
        (
            "language: en\nlists: {state: {values: [{in: lit, out: bright}]}}",
            "one of on, off is expected, not 'bright'",
        ),
        ("language: en\nlists: {state: {values: [lit]}}", "one of on, off is expected, not 'lit'"),
        ("language: en\nlists: {x: {values: [off]}}", "text in quotes, or '{in: text, out: value}' is expected"),
        ("language: en\nresponses: {state_onn: x}", "there is no such response (did you mean 'state_on'?)"),
        ("language: en\nresponses: {state_on: '{devize} on'}", "there is no field {devize} here; it has: device"),
        ("language: en\nresponses: {comma: '{x}'}", "there is no field {x} here; it has none"),
        ("language: en\nresponses: {state_on: '{device.__class__}'}", "there is no field {device.__class__} here"),
        ("language: en\nresponses: {state_on: '{device'}", "this text cannot be filled"),
        ("language: en\nexamples: ['turn on {foo}']", "examples[0]: only these can stand for what is there"),
        ("language: en\nwords: {negation: [no]}", "put it in quotes"),
    ],
)
def test_a_bad_file_says_what_is_wrong_and_where(tmp_path: Path, text: str, problem: str) -> None:
    """With the file and the path in it."""
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        OfflineEngine([path])

    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to start the master five times."""
    written(tmp_path, "language: en\nintents: {X: {data: []}, Y: {data: []}}", "a.yml")
    written(tmp_path, "words: {}", "b.yaml")

    with pytest.raises(ConfigError) as caught:
        OfflineEngine([tmp_path, tmp_path / "none.yaml"])

    assert [problem.split(": ")[0].rsplit("/", 1)[-1] for problem in caught.value.problems] == [
        "a.yml:2",
        "a.yml:2",
        "b.yaml:1",
        "none.yaml",
    ]


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    """Somebody meant to have sentences there."""
    with pytest.raises(ConfigError, match=r"there is no file \*\.yaml in this folder"):
        OfflineEngine([tmp_path])
