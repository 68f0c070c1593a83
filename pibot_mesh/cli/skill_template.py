"""The skill that ``pibot skills new`` writes: small, working, and worth a test."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from pibot_mesh.errors import ConfigError

NAME_PATTERN: Final = r"[a-z][a-z0-9_-]{0,31}"
_PYTHON: Final = '''"""Tools of the skill {name}. What each needs and does stands in its type hints and docstring."""

from __future__ import annotations

import math
from typing import Annotated

from pibot_mesh.agent.tools import Between, tool


@tool
def {prefix}_dew_point(
    temperature_c: Annotated[float, Between(-40, 60)],
    humidity_percent: Annotated[float, Between(1, 100)],
) -> dict[str, float]:
    """The temperature in °C at which dew forms: what is colder gets wet.

    Args:
        temperature_c: The temperature of the air in °C.
        humidity_percent: Its relative humidity.
    """
    # The Magnus formula, good to 0.4 °C from -45 to 60 °C.
    gamma = math.log(humidity_percent / 100) + 17.62 * temperature_c / (243.12 + temperature_c)
    return {{"dew_point_c": round(243.12 * gamma / (17.62 - gamma), 1)}}
'''
_TEXT: Final = """---
name: {name}
description: Tell whether something gets wet from dew.
---
# How to tell whether something gets wet

1. Read temperature and humidity where it stands, with sensor_read.
2. Ask {prefix}_dew_point with both.
3. What is colder than the answer gets wet: say so, with both numbers.
"""


def write_skill(name: str, folder: Path, *, with_text: bool) -> Path:
    """Write the skill *name* into *folder*, which is made where it is missing; the path of what was written.

    *with_text* makes it a folder with a ``SKILL.md``. Raises ConfigError for a name that cannot be one or is taken, and
    OSError.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError([f"{name!r}: use 1 to 32 small letters, digits, '_' or '-', a letter first"])
    for taken in (folder / f"{name}.py", folder / name):
        if os.path.lexists(taken):
            raise ConfigError([f"{taken} is there already: choose another name, or remove it"])
    words = {"name": name, "prefix": name.replace("-", "_")}
    folder.mkdir(0o755, parents=True, exist_ok=True)
    if not with_text:
        _write(folder / f"{name}.py", _PYTHON.format(**words))
        return folder / f"{name}.py"
    (folder / name).mkdir(0o755)
    _write(folder / name / "tools.py", _PYTHON.format(**words))
    _write(folder / name / "SKILL.md", _TEXT.format(**words))
    return folder / name


def _write(path: Path, text: str) -> None:
    """Nobody else may write to it, whatever the umask says: such a skill would not be loaded."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
        file.write(text)
