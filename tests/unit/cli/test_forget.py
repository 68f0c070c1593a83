"""Whether a node may be forgotten, and what was not."""

from __future__ import annotations

from pibot_mesh.cli.forget import why_left, why_not


def test_a_node_that_is_online_is_not_forgotten() -> None:
    """Unless somebody insists; one that is offline, or of which no status is kept, is."""
    online = {"card": b"{}", "status": b"online"}

    assert "attic is online: end it first" in why_not("attic", online)
    assert "wait for a minute" in why_not("attic", online)
    assert why_not("attic", online, is_forced=True) == ""
    assert why_not("attic", {"card": b"{}", "status": b"offline"}) == ""
    assert why_not("attic", {"out/fan": b"ON"}) == ""


def test_what_was_refused_is_named() -> None:
    """It stands as it stood; a few are named, and the number of the others."""
    few = {"status": b"offline", "card": b"{}"}
    many = {f"out/o{number}": b"ON" for number in range(7)}

    assert why_left("attic", few, few) == (
        "attic: 0 of 2 retained messages cleared; kept: card, status. This user may not write there: be one who may, "
        "by PIBOT_USERNAME and PIBOT_PASSWORD"
    )
    assert "kept: out/o0, out/o1, out/o2, out/o3, out/o4 and 2 more." in why_left("attic", many, many)
    some = why_left("attic", {**few, "task": b"x"}, {"task": b"x"})
    assert some.startswith("attic: 2 of 3 retained messages cleared; kept: task. This user may not write there")
    assert why_left("attic", few, {}) == ""


def test_what_is_said_anew_comes_from_a_node_that_lives() -> None:
    """A value that changed meanwhile, or a topic that was not there."""
    before = {"status": b"online", "health": b"1"}

    assert "the node is alive; end it first" in why_left("attic", before, {"health": b"2"})
    assert "the node is alive; end it first" in why_left("attic", before, {"card": b"{}"})


def test_the_will_of_a_node_is_no_sign_of_life() -> None:
    """The broker publishes it when it notices that the node is gone, and that may be after the node was forgotten."""
    problem = why_left("attic", {"status": b"online", "card": b"{}"}, {"status": b"offline"})

    assert problem.endswith("The broker has noticed just now that the node is gone: try again")
