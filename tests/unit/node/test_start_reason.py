"""Why a node's process started."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from pibot_mesh.node.start_reason import LastProcess, StartReason, read_machine_boot, start_reason


@pytest.mark.parametrize(
    ("last", "machine_boot", "reason"),
    [
        (None, "m1", "first"),
        (LastProcess("m1", is_ended=True), "m1", "restart"),
        (LastProcess("m1", is_ended=False), "m1", "crash"),
        (LastProcess("m1", is_ended=True), "m2", "reboot"),
        (LastProcess("m1", is_ended=False), "m2", "power_loss"),
    ],
)
def test_the_reason_is_told_from_the_end_before_and_the_machine(
    last: LastProcess | None, machine_boot: str, reason: StartReason
) -> None:
    """Whether it ended in good order, and whether the machine ran on."""
    assert start_reason(last, machine_boot) == reason


@pytest.mark.parametrize("is_ended", [True, False])
def test_a_machine_that_does_not_say_when_it_was_started_leaves_it_open(is_ended: bool) -> None:
    """Now or then, as a journal of an old version does not; only that it is the first needs no machine's word."""
    assert start_reason(LastProcess("m1", is_ended), "") is None
    assert start_reason(LastProcess("", is_ended), "m1") is None
    assert start_reason(LastProcess("", is_ended), "") is None
    assert start_reason(None, "") == "first"


def test_the_machines_boot_id_is_read(tmp_path: Path) -> None:
    """As Linux writes it, in one line; and it is nothing where there is none, or none that can be read."""
    (tmp_path / "boot_id").write_text("3f0c9a1e-boot\n")
    (tmp_path / "odd").write_bytes(b"\xff\xfe")

    assert read_machine_boot(tmp_path / "boot_id") == "3f0c9a1e-boot"
    assert read_machine_boot(tmp_path / "odd") == ""
    assert read_machine_boot(tmp_path / "missing") == ""
    assert read_machine_boot(tmp_path) == ""


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="no Linux")
def test_this_machine_has_one() -> None:
    """The same each time."""
    assert uuid.UUID(read_machine_boot())
    assert read_machine_boot() == read_machine_boot()
