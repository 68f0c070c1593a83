"""The events of an agent's run as lines for people. Pure: no I/O."""

from __future__ import annotations

import json

from pibot_mesh.agent.events import (
    AgentEvent,
    Compacted,
    MessageDelta,
    MessageEnd,
    MessageTaken,
    Retry,
    RunEnd,
    RunState,
    ToolEnd,
    ToolStart,
    ToolUpdate,
)
from pibot_mesh.cli.story import Line, short
from pibot_mesh.protocol.messages import Usage


class ChatView:
    """Turns events into lines. What has no line end yet is `partial`, and comes as a line when it has.

    *shows_reasoning*: what the model thinks is shown too, dimmed.
    """

    def __init__(self, *, shows_reasoning: bool = False) -> None:
        self._shows_reasoning = shows_reasoning
        self._kind = "text"
        self._heard: list[str] = []
        self.partial = ""

    def lines(self, event: AgentEvent) -> list[Line]:
        """What is to be printed now."""
        match event:
            case MessageDelta(text=text, kind=kind):
                return self._hear(text, kind)
            case MessageEnd(message=message, is_whole=is_whole):
                return self._end_message(message.text, is_whole)
            case ToolStart(name=name, arguments=arguments):
                return [Line(f"→ {name} {short(_tidy(arguments))}".rstrip(), "key")]
            case ToolUpdate(text=text):
                return [Line(f"  {short(text)}", dim=True)]
            case ToolEnd(name=name, text=text, is_error=is_error):
                return [Line(f"← {name}: {short(text) or 'done'}", "bad" if is_error else "", dim=not is_error)]
            case Retry(text=text, delay_s=delay_s):
                return [Line(f"! {text}; again in {delay_s:.1f} s", "odd")]
            case Compacted():
                return [Line("! the conversation grew long: older turns were summarised", "odd")]
            case MessageTaken(text=text):
                return [Line(f"> {text}", dim=True)]
            case RunEnd(outcome=outcome):
                ended = [] if outcome.state is RunState.COMPLETED else [_end_line(outcome.state, outcome.reason)]
                return [*ended, *_usage_lines(outcome.usage)]
        return []

    def _hear(self, text: str, kind: str) -> list[Line]:
        if kind == "reasoning" and not self._shows_reasoning:
            return []
        before = self._flush() if kind != self._kind else []
        self._kind = kind
        if kind == "text":
            self._heard.append(text)
        *whole, self.partial = (self.partial + text).split("\n")
        return [*before, *(self._line(line) for line in whole)]

    def _end_message(self, text: str, is_whole: bool) -> list[Line]:
        heard, self._heard = "".join(self._heard), []
        lines = self._flush()
        self._kind = "text"
        if is_whole and heard != text:
            missing = text[len(heard) :] if text.startswith(heard) else text
            lines += [Line(line) for line in missing.split("\n")]
        if not is_whole:
            lines.append(Line("! the answer broke off here", "odd"))
        return lines

    def _flush(self) -> list[Line]:
        partial, self.partial = self.partial, ""
        return [self._line(partial)] if partial else []

    def _line(self, text: str) -> Line:
        return Line(text, dim=self._kind == "reasoning")


def _tidy(arguments: str) -> str:
    """``path=notes.txt, lines=5`` for a flat object; anything else as it stands."""
    try:
        values = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(values, dict):
        return arguments
    return ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
    )


def _end_line(state: RunState, reason: str) -> Line:
    return Line(f"{state}: {reason}" if reason else str(state), "bad" if state is RunState.FAILED else "odd")


def _usage_lines(usage: Usage) -> list[Line]:
    if usage == Usage():
        return []
    cached = f" ({usage.cached} cached)" if usage.cached else ""
    return [Line(f"{usage.input}{cached} tokens in, {usage.output} out", dim=True)]
