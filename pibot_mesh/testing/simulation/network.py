"""A broker, and the connections to it: what MQTT promises, what it does not, and what goes wrong on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pibot_mesh.mqtt.outbox import Outgoing
from pibot_mesh.protocol.topics import Address, Kind
from pibot_mesh.testing.simulation.nature import Nature

if TYPE_CHECKING:
    from pibot_mesh.testing.simulation.client import Client

KEEPALIVE_S: Final = 15.0
"""After so long without a word a connection is given up, by whoever hears nothing."""
SESSION_S: Final = 60.0
_WINDOW: Final = 100
"""Messages that a client has not acknowledged, after which the broker sends no more."""
_QUEUE: Final = 1_000
"""Messages that wait for one client; retained ones are not counted."""
_WILL_DELAY_S: Final = 10.0
_HEALTH_EXPIRES_S: Final = 30.0
LATE_S: Final = (5.0, 5.0, 40.0)
"""How late a message may be: most come soon, some from a queue that nobody remembers."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Parcel(Outgoing):
    """A message of the mesh on its way; its topic is *address*. Where *content* is None it takes the topic away."""

    address: Address
    content: object = None


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A message as it arrives. *mid* is 0 for one that needs no acknowledgement."""

    address: Address
    content: Any
    line: Line
    mid: int
    is_retained: bool
    is_copy: bool


class Way:
    """One direction of a connection: in order, each message with a delay of its own."""

    __slots__ = ("_held", "_is_dead", "_last_at", "_nature")

    def __init__(self, nature: Nature) -> None:
        self._nature = nature
        self._last_at = 0.0
        self._is_dead = False
        self._held: list[tuple[Callable[..., object], tuple[object, ...]]] | None = None

    def send(self, action: Callable[..., object], *args: object) -> None:
        """Have *action* done at the other end."""
        if self._is_dead:
            return
        nature = self._nature
        at = self._last_at = max(self._last_at, nature.now + nature.between(0.0005, 0.005))
        nature.after(at - nature.now, self._arrive, action, args)

    def fall_silent(self) -> None:
        """Nothing arrives any more; it waits, as in the buffers of a TCP connection."""
        if self._held is None:
            self._held = []

    def speak(self) -> None:
        """All that was held arrives at once."""
        held, self._held = self._held or [], None
        for action, args in held:
            self._arrive(action, args)

    def die(self) -> None:
        """Nothing arrives any more, for ever."""
        self._is_dead, self._held = True, None

    def _arrive(self, action: Callable[..., object], args: tuple[object, ...]) -> None:
        if self._is_dead:
            return
        if self._held is not None:
            self._held.append((action, args))
        else:
            action(*args)


class Line:
    """One connection of one client."""

    __slots__ = ("client", "down", "up")

    def __init__(self, nature: Nature, client: Client) -> None:
        self.client = client
        self.up = Way(nature)
        self.down = Way(nature)

    def die(self) -> None:
        """Nothing passes any more, either way; who notices is another matter."""
        self.up.die()
        self.down.die()


class Session:
    """What the broker remembers of one client."""

    __slots__ = ("client_id", "in_flight", "life", "line", "listen", "mid", "queue", "will")

    def __init__(self, client: Client) -> None:
        self.client_id = client.id
        self.listen = client.listen
        self.will = client.will
        self.line: Line | None = None
        self.life = 0
        """Grows at each connect and at each end of a connection that the broker notices."""
        self.queue: deque[tuple[Parcel, bool]] = deque()
        self.in_flight: dict[int, tuple[Parcel, bool]] = {}
        self.mid = 0


class Broker:
    """Brings messages to those who listen, most of the time."""

    def __init__(self, nature: Nature) -> None:
        self._nature = nature
        self._is_up = True
        self._sessions: dict[str, Session] = {}
        self._listeners: dict[tuple[Kind, str], dict[str, Session]] = {}
        self._retained: dict[Kind, dict[str, tuple[Parcel, float]]] = {}
        self._unreachable: dict[str, float] = {}

    # Connections

    def connect(self, client: Client) -> Line | None:
        """A connection for *client*, or None where the broker cannot be reached from there."""
        if not self._is_up or self._unreachable.get(client.id, 0.0) > self._nature.now:
            return None
        session = self._sessions.get(client.id)
        if session is None:
            session = self._begin(client)
        elif session.line is not None:
            self._take_over(session)
        session.line = line = Line(self._nature, client)
        session.life += 1
        session.will = client.will
        for mid, (parcel, is_retained) in session.in_flight.items():
            _send_down(line, parcel, mid, is_retained, is_copy=True)
        for parcel in self._retained_for(session):
            session.queue.append((parcel, True))
        self._pump(session)
        return line

    def lost(self, line: Line) -> None:
        """The broker notices that *line* is gone: it will say so, sooner or later, or never."""
        session = self._sessions.get(line.client.id)
        if session is None or session.line is not line:
            return
        session.line = None
        session.life += 1
        nature = self._nature
        nature.after(nature.between(0.0, _WILL_DELAY_S), self._fire_will, session, session.life)
        nature.after(SESSION_S, self._expire, session, session.life)

    def disconnected(self, line: Line) -> None:
        """*line* was closed in peace: there is no will."""
        session = self._sessions.get(line.client.id)
        if session is not None and session.line is line:
            session.will = None
            self.lost(line)

    def _begin(self, client: Client) -> Session:
        session = self._sessions[client.id] = Session(client)
        for what in client.listen:
            self._listeners.setdefault(what, {})[client.id] = session
        return session

    def _take_over(self, session: Session) -> None:
        assert session.line is not None
        session.line.die()
        if session.will is not None and self._nature.happens(0.5):
            self._publish_will(session.will)

    def _fire_will(self, session: Session, life: int) -> None:
        if session.will is None:
            return
        if session.life == life or self._nature.happens(self._nature.faults.late_will):
            if session.life != life:
                self._nature.fault("late will", session.client_id)
            self._publish_will(session.will)

    def _publish_will(self, will: Address) -> None:
        parcel = Parcel(topic="will", payload=b"offline", qos=1, retain=True, keep=False, address=will, content=False)
        self._route(parcel)

    def _expire(self, session: Session, life: int) -> None:
        if session.life == life and self._sessions.get(session.client_id) is session:
            self._forget(session)

    def _forget(self, session: Session) -> None:
        del self._sessions[session.client_id]
        for what in session.listen:
            del self._listeners[what][session.client_id]

    # Messages

    def receive(self, line: Line, parcel: Parcel, mid: int) -> None:
        """A client's message has arrived."""
        session = self._sessions.get(line.client.id)
        if session is None or session.line is not line:
            return
        if mid:
            line.down.send(line.client.answered, line, mid)
        self._route(parcel)

    def acknowledged(self, line: Line, mid: int) -> None:
        """A client has taken a message."""
        session = self._sessions.get(line.client.id)
        if session is not None and session.line is line:
            session.in_flight.pop(mid, None)
            self._pump(session)

    def _route(self, parcel: Parcel) -> None:
        address = parcel.address
        if parcel.retain:
            kept = self._retained.setdefault(address.kind, {})
            if parcel.content is not None:
                kept[address.node] = (parcel, self._nature.now)
            else:
                kept.pop(address.node, None)
        for node in ("+", address.node) if address.node else ("+", ""):
            for session in list(self._listeners.get((address.kind, node), {}).values()):
                self._offer(session, parcel)

    def _offer(self, session: Session, parcel: Parcel) -> None:
        """Bring it to one listener: once, twice or never, and sometimes late. Retained ones in order, and once."""
        nature, faults = self._nature, self._nature.faults
        if parcel.retain or not _may_fail(parcel):
            self._enqueue(session, parcel)
            return
        if nature.happens(faults.loss):
            nature.tally["lost message"] += 1
            return
        if nature.happens(faults.twice):
            nature.tally["doubled message"] += 1
            nature.after(self._delay_s(), self._enqueue, session, parcel)
        if nature.happens(faults.late):
            nature.tally["late message"] += 1
            nature.after(self._delay_s(), self._enqueue, session, parcel)
        else:
            self._enqueue(session, parcel)

    def _delay_s(self) -> float:
        return self._nature.between(0.0, self._nature.chance.choice(LATE_S))

    def _enqueue(self, session: Session, parcel: Parcel) -> None:
        if self._sessions.get(session.client_id) is not session:
            return
        if parcel.qos == 0:
            if session.line is not None:
                _send_down(session.line, parcel, 0, False, is_copy=False)
        elif len(session.queue) < _QUEUE or parcel.retain:
            session.queue.append((parcel, False))
            self._pump(session)
        else:
            self._nature.tally["dropped by a full broker"] += 1

    def _pump(self, session: Session) -> None:
        while session.queue and session.line is not None and len(session.in_flight) < _WINDOW:
            parcel, is_retained = session.queue.popleft()
            session.mid = session.mid % 65_535 + 1
            session.in_flight[session.mid] = (parcel, is_retained)
            _send_down(session.line, parcel, session.mid, is_retained, is_copy=False)

    def _retained_for(self, session: Session) -> Iterator[Parcel]:
        for kind, node in session.listen:
            kept = self._retained.get(kind, {})
            for name in list(kept) if node == "+" else [node]:
                parcel, at = kept.get(name, (None, 0.0))
                is_expired = kind is Kind.NODE_HEALTH and self._nature.now - at > _HEALTH_EXPIRES_S
                if parcel is not None and not is_expired:
                    yield parcel

    # What goes wrong

    def restart(self, *, away_s: float, is_forgetful: bool) -> None:
        """The broker goes, and comes again; where it *is_forgetful*, without its store."""
        self._is_up = False
        nature = self._nature
        for session in list(self._sessions.values()):
            if session.line is not None:
                session.line.die()
                nature.after(nature.between(0.01, 1.0), session.line.client.lost, session.line)
                session.line = None
                session.life += 1
                nature.after(SESSION_S, self._expire, session, session.life)
            if is_forgetful:
                self._forget(session)
        if is_forgetful:
            self._retained.clear()
        nature.after(away_s, self._come_up)

    def cut_off(self, clients: Sequence[str], for_s: float) -> None:
        """Nothing passes between the broker and *clients* for so long."""
        for client_id in clients:
            self._unreachable[client_id] = max(self._unreachable.get(client_id, 0.0), self._nature.now + for_s)

    def _come_up(self) -> None:
        self._is_up = True


def _send_down(line: Line, parcel: Parcel, mid: int, is_retained: bool, *, is_copy: bool) -> None:
    line.down.send(line.client.arrived, Message(parcel.address, parcel.content, line, mid, is_retained, is_copy))


def _may_fail(parcel: Parcel) -> bool:
    """A request in plain text has no id, so nobody could tell a copy that the broker makes from a second request."""
    return not isinstance(parcel.content, str)
