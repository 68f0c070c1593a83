"""A real Home Assistant for tests: a process, spoken to by its REST API, with its log looked through for trouble."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pibot_mesh.config.settings import BrokerSettings
from tests.brokers import free_port
from tests.homeassistant.config_folder import write_config

COMMAND_VARIABLE: Final = "PIBOT_HOMEASSISTANT_COMMAND"
"""What starts a Home Assistant, as a shell would split it; the folder of its configuration is added to it."""
STARTS_WITHIN_S: Final = 120.0
STOPS_WITHIN_S: Final = 60.0
ANSWERS_WITHIN_S: Final = 20.0
_POLL_S: Final = 0.1
_LINE: Final = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) ")
_OF_ANY_START: Final = (
    "Skipping pip installation of required modules",
    "[aiohttp_fast_zlib] zlib_ng and isal are not available",
)
"""What it says of itself, whatever it is connected to."""
_OF_A_LOST_BROKER: Final = re.compile(
    r"\[homeassistant\.components\.mqtt\.client\] .*(connection was lost|Disconnected|Failed to connect|refused)"
)
"""What it says when the broker has gone, and until it is back."""


class Refused(Exception):
    """Home Assistant answered a call with an error: *status*, and its words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"Home Assistant said {status}: {text}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Entity:
    """What Home Assistant shows of one entity."""

    id: str
    state: str
    attributes: Mapping[str, Any]

    @property
    def platform(self) -> str:
        """``switch`` of ``switch.kitchen_fan``."""
        return self.id.split(".")[0]

    @property
    def name(self) -> str:
        """The name that people see: with that of its device before it."""
        return str(self.attributes.get("friendly_name", ""))

    @property
    def is_available(self) -> bool:
        """Whether it is not greyed out."""
        return self.state != "unavailable"


class HomeAssistant:
    """The Home Assistant that *command* starts, with a new configuration in *folder* and its MQTT at *broker*.

    As a context it runs until the block ends. *extra* are further lines of its ``configuration.yaml``.
    """

    def __init__(self, command: str, folder: Path, broker: BrokerSettings, *, extra: str = "") -> None:
        self._folder = folder
        self._port = free_port()
        self._token = write_config(folder, http_port=self._port, broker=broker, extra=extra)
        self._command = [*shlex.split(command), "--config", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None
        self._earlier: list[str] = []

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    # Life

    async def start(self) -> None:
        """Start it, and wait until it has started all that it is configured to."""
        with (self._folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        async with asyncio.timeout(STARTS_WITHIN_S):
            while not await self._has_started():
                await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """SIGTERM, and wait until it has ended."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL, where it runs."""
        if self._process is not None:
            await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop it, and start it again."""
        await self.stop()
        await self.start()

    async def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)
        await asyncio.to_thread(self._process.wait, STOPS_WITHIN_S)
        self._process = None
        self._earlier += self._complaints()

    async def _has_started(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Home Assistant ended: {self._output}"
        try:
            return bool((await self._get("/api/config"))["state"] == "RUNNING")
        except (OSError, Refused):  # it does not listen yet, or its API is not there yet
            return False

    # What it says

    @property
    def problems(self) -> list[str]:
        """The warnings and errors that it has logged since it was made, but for those of any start or lost broker."""
        lines = [*self._earlier, *(self._complaints() if self._process is not None else [])]
        return [
            line for line in lines if not (_OF_A_LOST_BROKER.search(line) or any(of in line for of in _OF_ANY_START))
        ]

    @property
    def _output(self) -> str:
        return (self._folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-2000:]

    def _complaints(self) -> list[str]:
        log = self._folder / "home-assistant.log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        return [line for line in lines if _LINE.match(line)]

    # What it shows, and does

    async def states(self) -> dict[str, Entity]:
        """All entities, by id."""
        return {
            each["entity_id"]: Entity(each["entity_id"], each["state"], each["attributes"])
            for each in await self._get("/api/states")
        }

    async def mqtt_states(self) -> dict[str, Entity]:
        """The entities that came by MQTT, by id."""
        ours = json.loads(await self.template("{{ integration_entities('mqtt') | to_json }}"))
        states = await self.states()
        return {each: states[each] for each in ours if each in states}

    async def call(self, domain: str, service: str, entity: str | Sequence[str] = (), **data: Any) -> None:
        """Do what a press on a card would do. Raises Refused."""
        target = {"entity_id": entity} if entity else {}
        await self._post(f"/api/services/{domain}/{service}", {**target, **data})

    async def template(self, text: str) -> str:
        """What *text* comes to, written in Home Assistant's template language. Raises Refused."""
        return str(await self._post("/api/template", {"template": text}))

    async def devices(self) -> dict[str, str]:
        """The names of all MQTT devices, by id."""
        ids = await self.template("{{ integration_entities('mqtt') | map('device_id') | unique | list | to_json }}")
        return {each: await self.template(f"{{{{ device_name('{each}') }}}}") for each in json.loads(ids)}

    async def say(self, sentence: str) -> str:
        """What Assist answers to *sentence*, in English."""
        answer = await self._post("/api/conversation/process", {"text": sentence, "language": "en"})
        return str(answer["response"]["speech"]["plain"]["speech"])

    async def until(
        self, condition: Callable[[dict[str, Entity]], object], what: str, *, timeout_s: float = 10.0
    ) -> dict[str, Entity]:
        """Wait until *condition* holds for the states, and return them; fails the test, naming *what*."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            states = await self.states()
            if condition(states):
                return states
            assert loop.time() < deadline, f"not within {timeout_s:g} s: {what}"
            await asyncio.sleep(_POLL_S)

    async def _get(self, path: str) -> Any:
        return await asyncio.to_thread(self._request, "GET", path, None)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await asyncio.to_thread(self._request, "POST", path, body)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWERS_WITHIN_S) as answer:
                text, kind = answer.read().decode(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from error
        return json.loads(text) if kind == "application/json" else text
