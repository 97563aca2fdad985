from __future__ import annotations

import re
from typing import Final

from distributor.store import keys
from distributor.store.functions import FOLDER, library_source

TEMPLATES: Final = {
    name: value
    for name, value in vars(keys).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
}


def test_the_four_names_that_other_programs_read() -> None:
    assert keys.COMMAND == "command:queue:{command_id}"
    assert keys.STATUS == "command:status:{command_id}"
    assert keys.AGENT_COMMAND == "agent:{agent_id}:command:list:{command_id}"
    assert keys.RESULT == "cmd:result:{command_id}"


def test_every_name_reaches_the_functions_as_it_is_written() -> None:
    prelude = keys.lua_prelude()
    for name, template in TEMPLATES.items():
        if "{" not in template:
            assert f"local {name}_KEY = '{template}'" in prelude
            continue
        definition = re.search(rf"function {name.lower()}_key\((.*)\) return (.*) end", prelude)
        assert definition is not None, name
        parameters, expression = definition.groups()
        assert parameters.split(", ") == re.findall(r"{(\w+)}", template)
        pieces = [part.strip("'") if "'" in part else f"{{{part}}}" for part in expression.split(" .. ")]
        assert "".join(pieces) == template


def test_every_field_has_its_number() -> None:
    fields = keys.ROW + keys.DECISIVE
    assert len(set(fields)) == len(fields)
    prelude = keys.lua_prelude()
    listed = re.search(r"local FIELDS = {(.*)}", prelude)
    assert listed is not None
    assert listed.group(1).replace("'", "").split(", ") == list(fields)
    numbers = dict(re.findall(r"local F_(\w+) = (\d+)", prelude))
    assert numbers == {name.upper(): str(place) for place, name in enumerate(fields, start=1)}
    assert f"local ROW_LENGTH = {len(keys.ROW)}" in prelude


def test_names_of_different_kinds_cannot_meet() -> None:
    """Whatever the ids are: an agent may be called like a part of a key, but no id has a colon in it."""
    patterns = [re.sub(r"{\w+}", "X", template) for template in TEMPLATES.values()]
    assert len(set(patterns)) == len(patterns)
    assert all(pattern.count(":") for pattern in patterns if "X" in pattern)


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
