from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from distributor.v1 import command_pb2
from distributor.wire.json_values import plain_struct
from distributor.wire.secret_params import hide_secrets, is_masked, mask, secret_steps, shown_params, without_secrets

PARAMS: dict[str, Any] = {"a": "x", "b": {"c": "y", "d": [1, {"e": "z"}]}, "n": 7, "none": None}


def struct(values: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(values)
    return made


def masked(*steps: str, params: dict[str, Any] = PARAMS) -> Any:
    made = struct(params)
    mask(made, [steps])
    return plain_struct(made)


def test_what_a_pointer_names_is_masked() -> None:
    assert masked("a") == PARAMS | {"a": "***"}
    assert masked("n") == PARAMS | {"n": "***"}
    assert masked("none") == PARAMS | {"none": "***"}
    assert masked("b") == PARAMS | {"b": "***"}
    assert masked("b", "c")["b"]["c"] == "***"
    assert masked("b", "d", "0")["b"]["d"] == ["***", {"e": "z"}]
    assert masked("b", "d", "1", "e")["b"]["d"] == [1, {"e": "***"}]


@pytest.mark.parametrize("steps", [("z",), ("b", "z"), ("b", "d", "2"), ("b", "d", "1", "z")])
def test_a_pointer_to_nothing_masks_nothing(steps: tuple[str, ...]) -> None:
    assert masked(*steps) == PARAMS


@pytest.mark.parametrize(("steps", "hidden"), [(("a", "b"), {"a": "***"}), (("n", "0"), {"n": "***"})])
def test_a_value_of_another_form_is_masked_as_a_whole(steps: tuple[str, ...], hidden: dict[str, str]) -> None:
    assert masked(*steps) == PARAMS | hidden


def test_a_name_in_a_list_masks_the_list() -> None:
    assert masked("b", "d", "password")["b"]["d"] == "***"


def test_hiding_takes_the_signature_too() -> None:
    command = command_pb2.Command(params=struct(PARAMS), secret_params=["/a"])
    command.signature.key_id, command.signature.value = "k", bytes(64)
    hide_secrets(command)
    assert (command.signature.key_id, command.signature.value) == ("k", b"")
    assert command.params["a"] == "***"


def test_a_command_without_secrets_stays_as_it_is() -> None:
    command = command_pb2.Command(params=struct(PARAMS))
    command.signature.value = bytes(64)
    hide_secrets(command)
    assert plain_struct(command.params) == PARAMS
    assert command.signature.value == bytes(64)
    assert without_secrets(command) is not None
    assert shown_params(command.params, ()) is command.params


def test_the_original_is_not_changed_by_what_is_shown() -> None:
    command = command_pb2.Command(params=struct(PARAMS), secret_params=["/a", "no pointer"])
    assert plain_struct(without_secrets(command)) == PARAMS | {"a": "***"}
    assert plain_struct(command.params) == PARAMS
    assert secret_steps(command) == (("a",),)


def test_a_mask_in_place_of_a_secret_is_found() -> None:
    shown = struct(PARAMS | {"a": "***", "list": ["x", "***"], "plain": "***"})
    assert is_masked(shown, [("a",)])
    assert is_masked(shown, [("list", "1")])
    assert not is_masked(shown, [("b", "c"), ("b", "d", "9"), ("z", "y"), ("list", "0"), ("n", "0")])
