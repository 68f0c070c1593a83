"""Skills from real folders: what is loaded, what is left out and why, and what a change does."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pibot_mesh.agent import skill_files, skills
from pibot_mesh.agent.skill_files import SkillProblem
from pibot_mesh.agent.skills import Changes, SkillLoader, check
from pibot_mesh.agent.tools import DEFAULT, Tool, ToolRegistry
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, ToolSpec

HELLO = '''
from pibot_mesh.agent.tools import tool

@tool
def {name}(who: str = "you") -> str:
    """Say hello.

    Args:
        who: To whom.
    """
    return f"{word} {{who}}"
'''
TEXT = """---
name: {name}
description: How to {name}.
---
First this,
then that.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "skills"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Python itself is as it was before, but for the modules of skills that are loaded."""
    path, default = list(sys.path), len(DEFAULT)
    yield
    assert sys.path == path
    assert len(DEFAULT) == default


def hello(name: str = "hello", word: str = "hello") -> str:
    return HELLO.format(name=name, word=word)


def write(path: Path, text: str | bytes) -> Path:
    """Write a file that nobody takes for the one that was there: its time is another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if path.stat().st_mtime_ns == before:
        os.utime(path, ns=(before + 1, before + 1))
    return path


def folder_skill(path: Path, name: str | None = None, **files: str) -> Path:
    write(path / "SKILL.md", TEXT.format(name=name or path.name))
    for file, text in files.items():
        write(path / f"{file}.py", text)
    return path


def loader_of(*folders: Path, **options: object) -> SkillLoader:
    return SkillLoader(folders, ToolRegistry(), **options)  # type: ignore[arg-type]  # fits alone


def names(loader: SkillLoader) -> list[str]:
    return [spec.name for spec in loader._registry.specs()]


async def call(loader: SkillLoader, name: str, args: Mapping[str, JSON] | None = None) -> Output:
    return await loader._registry.call(name, args or {})


def modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("_pibot_skill_")}


# What is loaded


async def test_a_python_file_brings_its_tools(folder: Path) -> None:
    """Under the file's name, with the file as their source; the function's hints are the schema."""
    path = write(folder / "greeting.py", hello())
    loader = loader_of(folder)

    assert loader.refresh() == Changes(loaded=("greeting",))
    assert names(loader) == ["hello"]
    assert loader._registry.source("hello") == str(path)
    assert (await call(loader, "hello", {"who": "world"})).text == "hello world"
    with pytest.raises(ToolError):
        await call(loader, "hello", {"who": 5})
    assert not list(folder.rglob("__pycache__")), "nothing is written beside a user's files"


async def test_a_folder_brings_tools_and_a_text(folder: Path) -> None:
    """Its files import each other; the text is given when it is asked for, by names that are there only."""
    folder_skill(
        folder / "garden",
        _words="WORD = 'moist'",
        tools=hello("soil", "{WORD}").replace("import tool\n", "import tool\nfrom ._words import WORD\n"),
        more=hello("water", "wet") + "\nfrom . import tools\nassert tools.soil.tool.spec.name == 'soil'\n",
    )
    loader = loader_of(folder)
    loader.refresh()

    assert [str(problem) for problem in loader.problems] == []
    assert sorted(names(loader)) == ["skill_read", "soil", "water"]
    assert (await call(loader, "soil")).text == "moist you"
    assert (await call(loader, "skill_read", {"name": "garden"})).text == "First this,\nthen that."
    assert "garden: How to garden." in loader._registry["skill_read"].spec.description
    for name in ("../garden", "well", ""):
        with pytest.raises(ToolError) as caught:
            await call(loader, "skill_read", {"name": name})
        assert caught.value.code == ErrorCode.BAD_ARGUMENTS
    unchecked = await loader._registry.run("skill_read", {"name": "../garden"})
    assert unchecked.error is not None
    assert unchecked.error.message == "no skill is named '../garden': there are garden"
    assert not list(folder.rglob("__pycache__"))


def test_a_folder_may_have_its_own_init_and_no_tools_at_all(folder: Path) -> None:
    """Instructions alone are a skill; what stands in ``__init__.py`` counts."""
    folder_skill(folder / "how")
    folder_skill(folder / "package", __init__=hello("first") + "VALUE = 1\n", other="from . import VALUE\n")
    write(folder / "silent" / "SKILL.md", TEXT.format(name="silent").split("First")[0])
    loader = loader_of(folder)
    loader.refresh()

    assert [str(problem) for problem in loader.problems] == []
    assert [skill.name for skill in loader.skills] == ["how", "package", "silent"]
    assert loader._registry["skill_read"].spec.parameters["properties"]["name"]["enum"] == ["how", "package"]


def test_what_is_no_skill_is_not_looked_at(folder: Path) -> None:
    """Other files, hidden ones, and those for tests and caches."""
    for name in ("notes.txt", "_draft.py", ".hidden.py", "__pycache__/x.py", "data/readings.csv"):
        write(folder / name, "raise SystemExit")

    changes = loader_of(folder, folder / "nowhere").refresh()

    assert changes == Changes()
    assert not changes


async def test_dataclasses_and_async_functions_work_as_anywhere(folder: Path) -> None:
    """Python finds a module's names by the module's own name."""
    text = '''
from __future__ import annotations
from dataclasses import dataclass
from pibot_mesh.agent.tools import tool

@dataclass
class Place:
    room: str
    floor: int = 0

@tool(effect="actuate")
async def go(place: Place) -> dict[str, str]:
    """Go there."""
    return {"at": f"{place.room} {place.floor}"}
'''
    write(folder / "walk.py", text)
    loader = loader_of(folder)
    loader.refresh()

    assert (await call(loader, "go", {"place": {"room": "hall"}})).data == {"at": "hall 0"}
    assert loader._registry["go"].spec.effect == "actuate"


def test_a_tool_of_a_library_belongs_to_who_imports_it_by_name(tmp_path: Path, folder: Path) -> None:
    """The first time and every other time, and what a library marks besides does not."""
    library = write(tmp_path / "lib" / "pibot_test_library.py", hello("wanted") + hello("unwanted") + hello("hidden"))
    sys.path.insert(0, str(library.parent))
    try:
        write(folder / "one.py", "from pibot_test_library import wanted, hidden as _hidden\n")
        loader = loader_of(folder)
        for _ in range(2):
            loader.refresh(everything=True)
            assert names(loader) == ["wanted"]
    finally:
        sys.path.remove(str(library.parent))
        sys.modules.pop("pibot_test_library", None)


def test_folders_and_names_are_taken_in_their_order(tmp_path: Path) -> None:
    """So the same skill wins after every restart."""
    for name, file in (("b", "z"), ("b", "a"), ("a", "m")):
        write(tmp_path / name / f"{file}.py", hello(f"{name}_{file}"))
    loader = loader_of(tmp_path / "b", tmp_path / "a")
    loader.refresh()

    assert names(loader) == ["b_a", "b_z", "a_m"]


# What is left out


BROKEN: Sequence[tuple[str, str | bytes, int | None, str]] = (
    ("syntax", "x = 1\ndef f(:\n", 2, "not valid Python"),
    ("zero", b"x = '\0'\n", None, "null bytes"),
    ("encoding", b"# -*- coding: utf-8 -*-\nx = '\xff'\n", None, "not valid Python"),
    ("module", "import os\nimport no_such_module_here\n", 2, "it needs the module no_such_module_here, which is not"),
    ("name", "\n\nundefined\n", 3, "NameError: name 'undefined' is not defined"),
    ("deep", "def f():\n    1 / 0\n\nf()\n", 2, "ZeroDivisionError"),
    ("exit", "import sys\nsys.exit(3)\n", 2, "it ends the program (SystemExit)"),
    ("interrupt", "raise KeyboardInterrupt\n", 1, "KeyboardInterrupt"),
    ("cancel", "import asyncio\nraise asyncio.CancelledError\n", 2, "CancelledError"),
    ("relative", "from .other import x\n", 1, "make it a folder with a SKILL.md"),
    ("empty", "x = 1\n", None, "no function is marked @tool"),
    ("hint", hello().replace("who: str", "who: set"), 5, "function hello(who): set cannot be expressed"),
    ("undocumented", "from pibot_mesh.agent.tools import tool\n@tool\ndef f(): ...\n", 2, "has no docstring"),
    ("twice", hello() + hello(), 15, "there are two tools named 'hello': rename one"),
    ("talkative", "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E\n", 3, "E"),
    ("elsewhere", "import json\njson.loads('{')\n", 2, "JSONDecodeError"),
    ("bad name!", hello(), None, "rename it"),
    ("own", "from pibot_mesh.errors import ToolDefinitionError as E\nraise E(['own words'])\n", None, "own words"),
)


@pytest.mark.parametrize(("name", "text", "line", "words"), BROKEN, ids=[name for name, *_ in BROKEN])
def test_a_file_that_cannot_be_loaded_is_left_out_and_named(
    folder: Path, name: str, text: str | bytes, line: int | None, words: str
) -> None:
    """With file and line and the reason, and the rest works."""
    path = write(folder / f"{name}.py", text)
    write(folder / "fine.py", hello("fine"))
    loader, changes = loader_of(folder), list[Changes]()
    thread = threading.Thread(target=lambda: changes.append(loader.refresh()))  # where nobody presses Ctrl-C
    thread.start()
    thread.join()

    [problem] = changes[0].broken
    assert names(loader) == ["fine"]
    assert problem.skill == name
    assert problem.file == path
    assert words in problem.text
    if line is not None:
        assert problem.line is not None
        assert abs(problem.line - line) <= (name in ("hint", "undocumented"))
        assert str(problem) == f"{path}:{problem.line}: {problem.text}"
    assert loader.broken == 1
    assert not any(name in module for module in modules()), "nothing is kept of it"


def test_who_presses_ctrl_c_while_a_skill_is_loaded_is_heard(folder: Path) -> None:
    """In the thread that gets the signal: there, it is no doing of the skill."""
    write(folder / "slow.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        loader_of(folder).refresh()


FRONT = "---\nname: {}\ndescription: {}\n---\nbody\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "front matter is missing"),
        ("# Garden\n", 1, "front matter is missing"),
        ("---\nname: x\n", 1, "has no end"),
        ("---\nname: x\n---\n", 1, "description: a text of 1 to 1024"),
        ("---\ndescription: x\n---\n", 1, "name: 1 to 64 letters"),
        (FRONT.format("../up", "x"), 2, "name: 1 to 64 letters"),
        (FRONT.format("a b", "x"), 2, "name: 1 to 64 letters"),
        (FRONT.format("[a]", "x"), 2, "name: 1 to 64 letters"),
        (FRONT.format("x", "''"), 3, "description: a text"),
        (FRONT.format("x", "y" * 1025), 3, "description: a text"),
        ("---\n- a\n---\n", 2, "'key: value' lines are expected"),
        ("---\n---\n", 2, "'key: value' lines are expected"),
        ("---\nname: x\n  y: z\n---\n", 3, "not valid YAML"),
        ("---\nname: x\n\x01\n---\n", 1, "not valid YAML"),
        ("---\n" + "[" * 5000 + "\n---\n", 1, "not valid YAML"),
        (b"---\nname: x\ndescription: \xff\n---\n", 3, "not UTF-8"),
        (FRONT.format("x", "y") + "z" * 40_000, None, "larger than 32 KiB"),
    ],
)
def test_a_text_that_is_not_as_it_should_be_is_named(
    folder: Path, text: str | bytes, line: int | None, words: str
) -> None:
    """And none of the folder's files is run."""
    path = write(folder / "garden" / "SKILL.md", text)
    write(folder / "garden" / "tools.py", "raise SystemExit")
    loader = loader_of(folder)
    loader.refresh()

    [problem] = loader.problems
    assert (problem.skill, problem.file, problem.line) == ("garden", path, line)
    assert words in problem.text


def test_a_text_may_say_more_than_we_read(folder: Path) -> None:
    """Other programs' keys, a description over several lines, and words that YAML takes for something else."""
    write(
        folder / "garden" / "SKILL.md",
        "\ufeff---\nname: on\nlicense: MIT\nmetadata: {a: [1]}\ndescription: >\n  Water it\n  well.\n---\r\n\nBody.\n",
    )
    loader = loader_of(folder)
    loader.refresh()

    [skill] = loader.skills
    assert (skill.name, skill.description, skill.body) == ("on", "Water it well.", "Body.")


def test_all_that_is_wrong_in_a_folder_is_named(folder: Path) -> None:
    """One broken file does not hide the other; who imports a broken one is not to blame."""
    folder_skill(folder / "garden", a="1 / 0\n", b="\nundefined\n", c="from . import a\n", d="from . import nothing\n")
    loader = loader_of(folder)
    loader.refresh()

    assert [(problem.file.name, problem.line) for problem in loader.problems] == [
        ("a.py", 1),
        ("b.py", 2),
        ("d.py", 1),
    ]
    assert loader.broken == 1
    assert names(loader) == []


def test_a_missing_neighbour_is_named(folder: Path) -> None:
    """Not by the name that only we know."""
    folder_skill(folder / "garden", tools="from .readings import mean\n")
    folder_skill(folder / "package", __init__="import nothing_of_that_name\n", tools="raise SystemExit\n")
    loader = loader_of(folder)
    loader.refresh()

    assert [problem.text for problem in loader.problems] == [
        "there is no readings.py beside it",
        "it needs the module nothing_of_that_name, which is not installed here",
    ]


def test_a_folder_with_python_files_and_no_text_is_named(folder: Path) -> None:
    """It was meant as a skill; a folder of other things was not."""
    write(folder / "garden" / "tools.py", hello())
    write(folder / "data" / "notes.md", "x")
    loader = loader_of(folder)
    loader.refresh()

    [problem] = loader.problems
    assert problem.file == folder / "garden"
    assert "a folder is a skill where it has a SKILL.md" in problem.text


@pytest.mark.parametrize("what", ["file", "text", "skill", "skills", "above"])
def test_what_everybody_may_write_to_is_not_run(tmp_path: Path, what: str) -> None:
    """It would run somebody else's code; once nobody else may, it is loaded by itself."""
    folder = tmp_path / "above" / "skills"
    write(folder / "one.py", hello("one"))
    folder_skill(folder / "two", tools=hello("two"))
    paths = {
        "file": folder / "one.py",
        "text": folder / "two" / "SKILL.md",
        "skill": folder / "two",
        "skills": folder,
        "above": folder.parent,
    }
    paths[what].chmod(0o777)
    loader = loader_of(folder)
    loader.refresh()

    refused = {"file": {"one"}, "text": {"two"}, "skill": {"two"}}.get(what, {"one", "two"})
    assert {problem.skill for problem in loader.problems} == refused
    assert f"{paths[what]}, and it would run their code: chmod o-w {paths[what]}" in loader.problems[0].text
    paths[what].chmod(0o755)
    if what == "above":
        loader.refresh(everything=True)  # what lies above the folders is not looked at every second
    else:
        assert loader.has_changed()
        loader.refresh()
    assert loader.problems == ()


def test_a_folder_in_which_everybody_has_files_may_hold_the_folder(tmp_path: Path) -> None:
    """As in /tmp: nobody can put another's folder away there. But the skills do not lie in it."""
    write(tmp_path / "skills" / "one.py", hello("one"))
    tmp_path.chmod(0o1777)
    assert loader_of(tmp_path / "skills").refresh() == Changes(loaded=("one",))

    (tmp_path / "skills").chmod(0o1777)
    assert "everybody may write" in loader_of(tmp_path / "skills").refresh().broken[0].text


def test_what_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to nowhere, a pipe, a folder with a file's name, a file that is too large."""
    (folder / "a.py").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "b.py")
    (folder / "c.py").mkdir()
    write(folder / "d.py", "#" * (256 * 1024 + 1))
    folder_skill(folder / "e", tools="")
    (folder / "e" / "tools.py").unlink()
    (folder / "e" / "tools.py").symlink_to("nowhere.py")
    loader = loader_of(folder)
    loader.refresh()

    assert [(problem.file.name, problem.text) for problem in loader.problems] == [
        ("a.py", "cannot be read: No such file or directory"),
        ("b.py", "is no regular file"),
        ("d.py", "is larger than 256 KiB"),
        ("tools.py", "cannot be read: No such file or directory"),
    ]


def test_what_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a skill's folder; root, as whom tests may run, may read everything."""
    write(folder / "a.py", hello())
    folder_skill(folder / "b")
    (folder / "loop").symlink_to(folder / "loop")

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    loader = loader_of(folder)
    loader.refresh()

    assert [problem.text for problem in loader.problems] == [
        "cannot be read: Permission denied",
        "the folder cannot be read: Permission denied",
    ]


def test_a_file_in_place_of_the_folder_is_named(folder: Path) -> None:
    """There is nothing in it."""
    assert "the folder cannot be read" in loader_of(write(folder / "x.py", "")).refresh().broken[0].text


def test_there_is_an_end_to_what_is_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of thousands of files would be gone through every second."""
    monkeypatch.setattr(skill_files, "MAX_SKILLS", 2)
    monkeypatch.setattr(skill_files, "MAX_ENTRIES", 5)
    monkeypatch.setattr(skill_files, "MAX_FILES", 1)
    for name in ("a", "b", "c"):
        write(folder / f"{name}.py", hello(name))
    loader = loader_of(folder)
    assert "only the first 2 skills" in loader.refresh().broken[0].text
    assert names(loader) == ["a", "b"]

    for number in range(5):
        write(folder / f"{number}.txt", "")
    assert any("more than 5 names" in problem.text for problem in loader.refresh().broken)

    folder_skill(folder.parent / "other" / "many", a=hello("x"), b=hello("y"))
    assert "more than 1 Python files" in loader_of(folder.parent / "other").refresh().broken[0].text


def test_a_name_that_is_taken_stays_with_who_has_it(folder: Path) -> None:
    """A tool of the program, the tool for texts, and a skill before; the later one comes once the name is free."""
    program = ToolRegistry([Tool(ToolSpec("output_set"), lambda args, context: Output("the program's"))])
    first = write(folder / "a.py", hello("hello"))
    write(folder / "b.py", hello("hello") + hello("extra"))
    write(folder / "c.py", hello("output_set"))
    write(folder / "d.py", hello("skill_read"))
    loader = SkillLoader([folder], program)
    loader.refresh()

    assert [spec.name for spec in program.specs()] == ["output_set", "hello"]
    assert [problem.text for problem in loader.problems] == [
        f"a tool named 'hello' is there already, brought by {first}",
        "a tool named 'output_set' is there already, brought by the program itself",
        "a tool named 'skill_read' is there already, brought by the program itself",
    ]
    assert program.source("output_set") == ""
    first.unlink()
    assert loader.refresh() == Changes(loaded=("b",), removed=("a",))
    assert sorted(spec.name for spec in program.specs()) == ["extra", "hello", "output_set"]


def test_two_skills_of_one_name_are_one_too_many(folder: Path) -> None:
    """Nobody could say which text is meant."""
    folder_skill(folder / "one", "garden")
    folder_skill(folder / "two", "garden")
    loader = loader_of(folder)
    loader.refresh()

    assert [str(problem) for problem in loader.problems] == [
        f"{folder / 'two'}: a skill named 'garden' is there already: {folder / 'one'}"
    ]


def test_a_skill_that_is_too_much_is_left_out(folder: Path) -> None:
    """Those that fit are there, before it and behind it; the tool for texts counts as well."""
    for name, tools in (("a", 1), ("b", 3), ("c", 1)):
        write(folder / f"{name}.py", "".join(hello(f"{name}{number}") for number in range(tools)))
    folder_skill(folder / "d", tools=hello("d0"))

    def fits(specs: Sequence[ToolSpec]) -> str:
        return f"{len(specs)} are too many" if len(specs) > 3 else ""

    loader = loader_of(folder, fits=fits)
    loader.refresh()

    assert names(loader) == ["a0", "c0"]
    assert [(problem.skill, problem.text) for problem in loader.problems] == [
        ("b", "4 are too many"),
        ("d", "4 are too many"),
    ]


def test_a_tool_that_no_message_can_carry_is_named(folder: Path) -> None:
    """A message has 64 KiB."""
    write(folder / "long.py", hello("talk").replace("Say hello.", "Say hello" + " and hello" * 8000))
    loader = loader_of(folder)
    loader.refresh()

    [problem] = loader.problems
    assert problem.skill == "long"
    assert "the tool talk cannot be shown to others" in problem.text
    assert names(loader) == []
    assert not any("_long" in module for module in modules())


# What a change does


async def test_a_changed_file_is_loaded_again(folder: Path) -> None:
    """Also a neighbour that it imports; what has not changed is left alone."""
    write(folder / "one.py", hello("one", "old"))
    folder_skill(folder / "two", _word="WORD = 'old'", tools="from ._word import WORD\n" + hello("two", "{WORD}"))
    write(folder / "still.py", hello("still"))
    loader = loader_of(folder)
    loader.refresh()
    still = loader._registry["still"]
    assert not loader.has_changed()
    assert loader.refresh() == Changes()

    write(folder / "one.py", hello("one", "new").replace("who:", "whom:").replace("who}", "whom}"))
    write(folder / "two" / "_word.py", "WORD = 'new'")

    assert loader.has_changed()
    assert loader.refresh() == Changes(reloaded=("one", "two"))
    assert [(await call(loader, name)).text for name in ("one", "two")] == ["new you", "new you"]
    assert list(loader._registry["one"].spec.parameters["properties"]) == ["whom"]
    assert loader._registry["still"] is still
    assert len(modules() & {skill.module for skill in loader.skills}) == 3


def test_everything_can_be_loaded_again(folder: Path) -> None:
    """What a skill read at its import may have changed."""
    write(folder / "one.py", hello("one"))
    loader = loader_of(folder)
    loader.refresh()

    assert loader.refresh(everything=True) == Changes(reloaded=("one",))


def test_a_removed_file_takes_its_tools_away(folder: Path) -> None:
    """And its modules; the text too."""
    before = modules()
    folder_skill(folder / "garden", tools=hello("soil"))
    path = write(folder / "one.py", hello("one"))
    loader = loader_of(folder)
    loader.refresh()

    path.unlink()
    (folder / "garden").rename(folder.parent / "garden")

    assert loader.refresh() == Changes(removed=("garden", "one"))
    assert names(loader) == []
    assert modules() == before


async def test_a_skill_that_a_change_breaks_is_taken_away(folder: Path) -> None:
    """It is named once, and comes back when it is mended."""
    path = write(folder / "one.py", hello("one"))
    loader = loader_of(folder)
    loader.refresh()
    write(path, "def broken(:\n")

    changes = loader.refresh()

    assert changes.removed == ("one",)
    assert [str(problem) for problem in changes.broken] == [f"{path}:1: not valid Python: invalid syntax"]
    assert names(loader) == []
    assert loader.refresh() == Changes()
    assert loader.broken == 1
    write(path, hello("one"))
    assert loader.refresh() == Changes(loaded=("one",))
    assert loader.broken == 0


async def test_a_tool_that_moves_from_one_skill_to_another_is_never_missing(folder: Path) -> None:
    """Whichever of the two comes first."""
    write(folder / "a.py", hello("one") + hello("moved", "of a"))
    write(folder / "b.py", hello("two"))
    loader = loader_of(folder)
    loader.refresh()
    write(folder / "a.py", hello("one"))
    write(folder / "b.py", hello("two") + hello("moved", "of b"))

    assert loader.refresh() == Changes(reloaded=("a", "b"))
    assert (await call(loader, "moved")).text == "of b you"


async def test_what_still_runs_goes_on_when_its_file_is_gone(folder: Path) -> None:
    """The function is there as long as somebody holds it."""
    path = folder_skill(
        folder / "garden", _word="WORD = 'wet'", tools="from . import _word\n" + hello("x", "{_word.WORD}")
    )
    loader = loader_of(folder)
    loader.refresh()
    tool = loader._registry["x"]
    path.rename(folder.parent / "away")
    loader.refresh()

    output = tool.run({}, None)  # type: ignore[arg-type]  # it asks for no context
    assert isinstance(output, Output)
    assert output.text == "wet you"


def test_nothing_of_the_registry_changes_while_files_are_run(folder: Path) -> None:
    """A service runs them in a thread; only what follows is done in the loop."""
    write(folder / "one.py", hello("one"))
    loader = loader_of(folder)

    found = loader.load()

    assert names(loader) == []
    loader.take(found)
    assert names(loader) == ["one"]
    assert loader.loading is None


def test_who_waits_for_a_skill_can_say_which(folder: Path) -> None:
    """One that does not end holds up the others, and is to be named."""
    text = "import threading\nthreading.gate.wait(10)\n" + hello("slow")
    path = write(folder / "slow.py", text)
    threading.gate = threading.Event()  # type: ignore[attr-defined]  # a place that a skill can reach
    loader = loader_of(folder)
    thread = threading.Thread(target=loader.load)
    thread.start()
    while loader.loading is None:
        pass
    assert loader.loading == path
    threading.gate.set()  # type: ignore[attr-defined]
    thread.join()
    del threading.gate  # type: ignore[attr-defined]
    assert loader.loading is None


def test_looking_for_changes_opens_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done every second, also where nothing ever changes."""
    write(folder / "one.py", hello("one"))
    folder_skill(folder / "two")
    loader = loader_of(folder)
    loader.refresh()
    (folder / "dangling.py").symlink_to("nowhere")
    loader.refresh()
    monkeypatch.setattr(os, "open", None)
    monkeypatch.setattr(skills, "load_candidate", None)

    assert not loader.has_changed()
    assert loader.refresh() == Changes()


def test_a_link_that_leads_in_a_circle_hides_no_change(folder: Path) -> None:
    """Whatever else lies there."""
    for name in ("a", "m", "z"):
        (folder / name).symlink_to(folder / name)
    path = write(folder / "one.py", hello("one"))
    loader = loader_of(folder)
    loader.refresh()
    write(path, hello("one", "changed"))

    assert loader.has_changed()


def test_a_folder_that_is_not_there_need_not_be_loaded(folder: Path) -> None:
    """Most nodes have none. One that comes is a change, and one that goes."""
    later = folder / "later"
    loader = loader_of(later, folder / "never")
    assert not loader.has_changed()
    write(later / "one.py", hello("one"))
    assert loader.has_changed()
    loader.refresh()
    assert not loader.has_changed()

    later.rename(folder / "elsewhere")

    assert loader.has_changed()
    assert loader.refresh() == Changes(removed=("one",))


# Checking one


def test_a_check_names_everything_at_once(folder: Path) -> None:
    """Each function that cannot be a tool, in every file, and the text; nothing is registered."""
    path = folder / "garden"
    bad = hello("one").replace("who: str", "who: set") + hello("two").replace("who: str", "who: bytes") + hello("three")
    write(path / "SKILL.md", "no front matter")
    write(path / "a.py", bad)
    write(path / "b.py", "undefined\n")

    skill, problems = check(path)

    assert skill is None
    assert [(problem.file.name, problem.line is not None) for problem in problems] == [
        ("SKILL.md", True),
        ("a.py", True),
        ("a.py", True),
        ("b.py", True),
    ]
    assert "set cannot" in problems[1].text
    assert "bytes cannot" in problems[2].text


def test_a_check_of_what_is_right_gives_the_skill(folder: Path) -> None:
    """With its tools."""
    skill, problems = check(write(folder / "one.py", hello("one")))

    assert problems == ()
    assert skill is not None
    assert [tool.spec.name for tool in skill.tools] == ["one"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("nothing", "there is no such file"), ("notes.txt", "a skill is a Python file"), ("data", "this one has not")],
)
def test_a_check_of_what_is_no_skill_says_so(folder: Path, name: str, words: str) -> None:
    """And what one would be."""
    write(folder / "notes.txt", "")
    (folder / "data").mkdir()

    skill, [problem] = check(folder / name)

    assert skill is None
    assert words in problem.text


def test_a_problem_without_a_line_names_the_file() -> None:
    """As it stands in the log."""
    assert str(SkillProblem("x", Path("x.py"), None, "is wrong")) == "x.py: is wrong"
