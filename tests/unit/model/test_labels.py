from __future__ import annotations

from typing import Any

import pytest

from distributor.model.command import InvalidField
from distributor.model.labels import (
    MAX_CREDENTIAL_LABELS,
    MAX_CREDENTIAL_LABELS_BYTES,
    AgentLabels,
    agent_labels,
    canonical_labels,
    credential_labels,
)

LAB = {"site": "lab"}


@pytest.mark.parametrize(
    ("claimed", "proven", "verified", "expected"),
    [
        ({"line": "1"}, {}, (), AgentLabels({"line": "1"})),
        ({"line": "1"}, LAB, (), AgentLabels({"line": "1", "site": "lab"}, LAB)),
        (LAB, LAB, (), AgentLabels(LAB, LAB)),
        ({"site": "berlin"}, LAB, (), AgentLabels(LAB, LAB, (), ("site",))),
        ({"site": "berlin"}, LAB, ("site",), AgentLabels(LAB, LAB, (), ("site",))),
        ({"site": "berlin", "line": "1"}, {}, ("site", "zone"), AgentLabels({"line": "1"}, {}, ("site",))),
        ({}, {}, ("site",), AgentLabels({})),
        ({"b": "1", "a": "1"} | LAB, LAB, ("*",), AgentLabels(LAB, LAB, ("a", "b"))),
    ],
    ids=["claimed", "added", "confirmed", "overruled", "overruled though verified", "unproven", "none", "all verified"],
)
def test_what_a_credential_says_comes_first(
    claimed: dict[str, str], proven: dict[str, str], verified: tuple[str, ...], expected: AgentLabels
) -> None:
    assert agent_labels(claimed, proven, verified) == expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "must be an object"),
        (None, "must be an object"),
        ({"a": 1}, "must be an object"),
        ({1: "a"}, "must be an object"),
        ({str(place): "" for place in range(MAX_CREDENTIAL_LABELS + 1)}, "has 21 entries, the limit is 20"),
        ({"": "a"}, "must have names"),
        ({"a": "b" * 256}, "256 characters"),
        ({"a": "b\n"}, "printable"),
        ({"a\x00": "b"}, "printable"),
        ({"a": "\ud800"}, "printable"),
        ({f"{place:02}": "\U0001f600" * 60 for place in range(20)}, f"at most {MAX_CREDENTIAL_LABELS_BYTES:,} bytes"),
    ],
)
def test_labels_that_no_credential_may_have(value: Any, problem: str) -> None:
    with pytest.raises(InvalidField, match=problem) as caught:
        credential_labels(value, "labels")
    assert (caught.value.field, caught.value.reason) == ("labels", "INVALID_LABELS")


def test_labels_up_to_the_limits() -> None:
    labels = {f"{place:02}": "b" * (197 if place < 15 else 196) for place in range(20)}
    assert credential_labels(labels) == labels
    assert len(canonical_labels(labels)) == MAX_CREDENTIAL_LABELS_BYTES
    with pytest.raises(InvalidField, match="4,096 bytes"):
        credential_labels(labels | {"19": "b" * 197})
    assert credential_labels({"a": "b" * 255})


def test_nobody_changes_labels_that_were_checked() -> None:
    value = dict(LAB)
    labels = credential_labels(value)
    value["site"] = "berlin"
    assert labels == LAB


def test_equal_labels_have_equal_bytes() -> None:
    assert (
        canonical_labels({"b": "ü", "a": "1"}) == canonical_labels({"a": "1", "b": "ü"}) == '{"a":"1","b":"ü"}'.encode()
    )
