from __future__ import annotations

import re
from typing import Final

import pytest

from distributor.store import keys
from distributor.store.functions import FOLDER, library_source

TEMPLATES: Final = {
    name: value
    for name, value in vars(keys).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str) and name != "ONLY_SHARD"
}
OF_A_COMMAND: Final = {"COMMAND", "STATUS", "AGENT_COMMAND", "RESULT", "LATE_RESULT", "OUTPUT"}


def test_the_four_names_that_other_programs_read() -> None:
    assert keys.COMMAND == "command:queue:{command_id}"
    assert keys.STATUS == "command:status:{command_id}"
    assert keys.AGENT_COMMAND == "agent:{agent_id}:command:list:{command_id}"
    assert keys.RESULT == "cmd:result:{command_id}"


def test_every_name_reaches_the_functions_as_it_is_written() -> None:
    prelude = keys.lua_prelude()
    for name, template in TEMPLATES.items():
        definition = re.search(rf"function {name.lower()}_key\((.*)\) return (.*) end", prelude)
        assert definition is not None, name
        parameters, expression = definition.groups()
        assert re.findall(r"\w+", parameters) == re.findall(r"{(\w+)}", template)
        if name in OF_A_COMMAND:
            expression = expression.replace("named(command_id)", "command_id")
            assert "SHARD" not in expression
        pieces = [part.strip("'") if "'" in part else f"{{{part}}}" for part in expression.split(" .. ")]
        prefix = "" if name in OF_A_COMMAND else "{SHARD}"
        assert "".join(pieces) == prefix + template


def test_names_of_a_shard_begin_with_its_tag() -> None:
    assert keys.in_shard(keys.READY, agent_id="a") == "agent:a:ready"
    assert keys.in_shard(keys.READY, "{07f}", agent_id="a") == "{07f}agent:a:ready"


def test_names_of_a_command_have_its_id_as_it_is_if_it_was_minted_for_the_shard() -> None:
    assert keys.of_command(keys.STATUS, "0199") == "command:status:0199"
    assert keys.of_command(keys.STATUS, "{07f}0199", "{07f}") == "command:status:{07f}0199"
    assert keys.of_command(keys.AGENT_COMMAND, "{07f}01", "{07f}", agent_id="a") == "agent:a:command:list:{07f}01"


@pytest.mark.parametrize("command_id", ["0199", "{0a1}0199"])
def test_names_of_a_command_minted_elsewhere_have_the_tag_of_its_shard(command_id: str) -> None:
    name = keys.of_command(keys.STATUS, command_id, "{07f}")
    assert name == f"command:status:{{07f}}.{command_id}"
    assert name.partition("{")[2].partition("}")[0] == "07f"


def test_every_field_has_its_number() -> None:
    fields = keys.OFTEN_READ + keys.RARE + keys.REQUEST
    assert len(set(fields)) == len(fields)
    prelude = keys.lua_prelude()
    listed: dict[str, tuple[str, ...]] = {
        "FIELDS": keys.OFTEN_READ,
        "RARE_FIELDS": keys.RARE,
        "REQUEST_FIELDS": keys.REQUEST,
        "ROW_FIELDS": keys.ROW,
    }
    for name, words in listed.items():
        found = re.search(rf"local {name} = {{(.*)}}", prelude)
        assert found is not None
        assert found.group(1).replace("'", "").split(", ") == list(words)
    numbers = dict(re.findall(r"local F_(\w+) = (\d+)", prelude))
    assert numbers.pop("RARE_END") == str(len(keys.OFTEN_READ + keys.RARE))
    assert numbers == {name.upper(): str(place) for place, name in enumerate(fields, start=1)}
    for name, number in re.findall(r"local ROW_(\w+) = (\d+)", prelude):
        assert keys.ROW[int(number) - 1] == name.lower()


def test_names_of_different_kinds_cannot_meet() -> None:
    """Whatever the ids are: an agent may be called like a part of a key, but no id has a colon in it."""
    patterns = [re.sub(r"{\w+}", "X", template) for template in TEMPLATES.values()]
    assert len(set(patterns)) == len(patterns)
    assert all(pattern.count(":") for pattern in patterns if "X" in pattern)


def test_what_is_shown_is_stored() -> None:
    stored = {"queued_ms", "finished_ms", *keys.OFTEN_READ, *keys.RARE}
    assert set(keys.ROW) <= stored


def test_functions_spell_no_key_themselves() -> None:
    for file in FOLDER.iterdir():
        if file.name.endswith(".lua"):
            code = re.sub(r"--.*", "", file.read_text())
            assert not re.search(r"'(command|commands|agent|cmd):", code), file.name


def test_the_version_is_of_the_source_and_in_every_name() -> None:
    source, version = library_source()
    assert (source, version) == library_source()
    assert re.fullmatch(r"[0-9a-f]{8}", version)
    assert source.startswith(f"#!lua name=distributor_{version}\n")
    assert f"local VERSION = '{version}'" in source
