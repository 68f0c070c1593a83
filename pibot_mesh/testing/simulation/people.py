"""People in a simulated world: they ask, ask again, change their minds, approve or not, and pull the emergency stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from pibot_mesh.master.events import Refusal
from pibot_mesh.protocol.messages import Control, Event, Limits, Plan, Request, State
from pibot_mesh.protocol.topics import Kind
from pibot_mesh.testing.simulation.client import Client
from pibot_mesh.testing.simulation.nature import Nature
from pibot_mesh.testing.simulation.network import Broker, Message
from pibot_mesh.testing.simulation.tools import random_plan

_PATIENCE: Final = 5
"""How often somebody hears that now is not the time, before that is the answer."""


class People:
    """All of them, behind one connection that does not break. *nodes* are those that they know of."""

    def __init__(self, nature: Nature, broker: Broker, nodes: Callable[[], Sequence[str]]) -> None:
        self.plans: dict[str, Plan | Refusal] = {}
        """What is to be done for each wish."""
        self.wishes: dict[str, Request] = {}
        """What was asked with an id, by that."""
        self.answered: set[str] = set()
        """What somebody has read the reply to."""
        self.approved: set[str] = set()
        """The calls that somebody has approved."""
        self._nature = nature
        self._nodes = nodes
        self._is_stopped = False
        self._refusals: Counter[str] = Counter()
        listen = [(Kind.REQUEST_EVENT, ""), (Kind.REQUEST_REPLY, "")]
        self._client = Client(nature, broker, self, "people", listen=listen, will=None)
        self._client.connect_soon()

    @property
    def is_content(self) -> bool:
        """Whether everybody who asked has read a reply."""
        return self.answered >= self.wishes.keys()

    # What they do

    def ask(self, number: int) -> None:
        """Somebody has a wish, and does not rest before there is a reply."""
        nature, chance = self._nature, self._nature.chance
        nodes = self._nodes()
        text = f"wish {number}"
        self.plans[text] = random_plan(chance, nodes)
        if nature.happens(0.03):
            self._client.publish(Kind.REQUEST, text)
            return
        request = Request(
            f"r{number}",
            text,
            mode="plan_only" if nature.happens(0.03) else "auto",
            node=chance.choice(nodes) if nature.happens(0.03) else None,
            timeout_s=chance.choice([2.0, 15.0]) if nature.happens(0.08) else None,
            limits=Limits(tool_calls=2, tokens=3_000) if nature.happens(0.06) else Limits(),
        )
        self.wishes[request.id] = request
        for _ in range(chance.choice([1, 1, 1, 2])):
            self._ask_until_answered(request)
        if nature.happens(0.08):
            nature.after(nature.between(0.0, 15.0), self._control, request.id, Control("cancel", reason="never mind"))
        if nature.happens(0.05):
            nature.after(nature.between(0.0, 8.0), self._control, request.id, Control("steer", text="be quick"))

    def pull_stop(self, for_s: float) -> None:
        """Somebody pulls the emergency stop, and releases it after so long."""
        self._say_stop(True)
        self._nature.after(for_s, self._say_stop, False)

    def _say_stop(self, is_stopped: bool) -> None:
        self._is_stopped = is_stopped
        self._nature.note("people", "stop" if is_stopped else "release the stop", "")
        self._client.publish(Kind.STOP, is_stopped)

    def _ask_until_answered(self, request: Request) -> None:
        if request.id in self.answered:
            return
        self._nature.note("people", "ask", request.id, request.mode)
        self._client.publish(Kind.REQUEST, request)
        self._nature.after(self._nature.between(5.0, 30.0), self._ask_until_answered, request)

    def _control(self, request_id: str, control: Control) -> None:
        self._nature.note("people", control.action, request_id, control.call or "")
        if control.action == "approve" and control.call is not None:
            self.approved.add(control.call)
        self._client.publish(Kind.REQUEST_CONTROL, control, id=request_id)

    # Their connection

    def soon(self, action: Callable[..., object], *args: object) -> None:
        action(*args)

    def connected(self) -> None:
        """A broker may have lost what they had set."""
        self._client.publish(Kind.STOP, self._is_stopped)

    def disconnected(self) -> None:
        """The broker is away for a while."""

    def received(self, message: Message) -> None:
        self._client.ack(message)
        if message.address.kind is Kind.REQUEST_REPLY:
            reply = message.content
            self._refusals[reply.id] += reply.state is State.REJECTED
            is_refused_for_now = reply.error is not None and reply.error.retryable and not reply.results
            if not is_refused_for_now or self._refusals[reply.id] >= _PATIENCE:
                self.answered.add(reply.id)
        elif message.content.type == "approval_required":
            self._asked_to_approve(message.content)

    def _asked_to_approve(self, event: Event) -> None:
        """Somebody approves, denies, means another call, names none, or does not look."""
        nature = self._nature
        lot, call = nature.chance.random(), str(event.data["call"])
        delay_s = nature.between(0.1, 25.0)
        if lot < 0.6:
            nature.after(delay_s, self._control, event.run, Control("approve", call=call))
        elif lot < 0.75:
            nature.after(delay_s, self._control, event.run, Control("deny", call=call))
        elif lot < 0.8:
            nature.after(delay_s, self._control, event.run, Control("approve", call="another"))
        elif lot < 0.85:
            nature.after(delay_s, self._control, event.run, Control("approve"))
