"""The wire protocol: topics, messages and plans. No I/O; `docs/protocol.md` is its reference."""
