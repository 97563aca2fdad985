"""What deploy/ says: no rights, a read-only file system, pinned packages with hashes, and settings that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from distributor.settings import AgentSettings, BridgeSettings, ServerSettings
from tests.support.compose_file import document, services
from tests.support.source_tree import ROOT

DEPLOY: Final = ROOT / "deploy"
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))
HARDENED: Final = """
    CapabilityBoundingSet= AmbientCapabilities= NoNewPrivileges=yes DynamicUser=yes UMask=0077
    ProtectSystem=strict ProtectHome=yes ProtectClock=yes ProtectControlGroups=yes ProtectHostname=yes
    ProtectKernelLogs=yes ProtectKernelModules=yes ProtectKernelTunables=yes ProtectProc=invisible
    PrivateTmp=yes PrivateDevices=yes PrivateUsers=yes RestrictNamespaces=yes RestrictRealtime=yes
    RestrictSUIDSGID=yes LockPersonality=yes RemoveIPC=yes SystemCallArchitectures=native
    SystemCallFilter=@system-service SystemCallFilter=~@privileged
""".split()
SETTINGS: Final[dict[str, type[Any]]] = {
    "DISTRIBUTOR_AGENT_": AgentSettings,
    "DISTRIBUTOR_BRIDGE_": BridgeSettings,
    "DISTRIBUTOR_": ServerSettings,
}
PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^\s;\\]+)", re.MULTILINE)


def lines_of(unit: Path) -> list[str]:
    return [line for line in unit.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_gives_no_rights(unit: Path) -> None:
    assert set(HARDENED) <= set(lines_of(unit))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_secrets_reach_a_unit_as_credentials(unit: Path) -> None:
    lines = lines_of(unit)
    passed = {line.partition("=")[2].partition(":")[0] for line in lines if line.startswith("LoadCredential=")}
    used = set(re.findall(r"%d/([a-z-]+)", "\n".join(lines)))
    assert used == passed
    assert not any(re.search(r"(KEY|TOKEN|PASSWORD)=[^%]", line) for line in lines)


def environment_names() -> set[str]:
    units = "\n".join(line for unit in UNITS for line in lines_of(unit))
    composed = {name for service in services().values() for name in service.get("environment", {})}
    return composed | set(re.findall(r"DISTRIBUTOR_[A-Z_]+", units))


@pytest.mark.parametrize("name", sorted(environment_names()))
def test_settings_in_the_environment_exist(name: str) -> None:
    prefix = next(prefix for prefix in SETTINGS if name.startswith(prefix))
    assert name.removeprefix(prefix).lower() in SETTINGS[prefix].model_fields


@pytest.mark.parametrize("name", services())
def test_a_service_runs_as_nobody_on_a_read_only_file_system(name: str) -> None:
    service = services()[name]
    assert service["user"] == "65534:65534"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "healthcheck" in service
    assert not {"privileged", "cap_add", "devices", "pid", "ipc"} & service.keys()


def test_every_secret_is_a_file_that_a_service_uses() -> None:
    whole = document()
    used = {name for service in whole["services"].values() for name in service.get("secrets", ())}
    assert {name: of["file"] for name, of in whole["secrets"].items()} == {name: f"secrets/{name}" for name in used}


def test_images_name_no_registry() -> None:
    bases = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    for image in [*bases, *(service["image"] for service in services().values())]:
        assert "." not in image.partition(":")[0]
        assert not image.endswith(":latest")


def test_the_image_runs_as_nobody_and_installs_only_by_hash() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    final = text[text.rindex("\nFROM ") :]
    assert "\nUSER 65534:65534\n" in final
    assert "\nRUN " not in final
    installs = [step for step in re.split(r"&&|\n", text) if re.search(r"pip\b.* install ", step)]
    assert len(installs) == 3
    assert all("--require-hashes" in install or "--no-deps /wheel" in install for install in installs)


@pytest.mark.parametrize("file", ["README.md", "docs/security.md", "docs/operations.md"])
def test_instructions_install_only_by_hash(file: str) -> None:
    """What has no hash is the wheel that one has built, without anything that it depends on."""
    text = (ROOT / file).read_text(encoding="utf-8")
    steps = [step for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for step in re.split(r"&&|\n", block)]
    installs = [step for step in steps if re.search(r"pip install ", step)]
    assert installs or file == "docs/operations.md"
    for install in installs:
        assert "--require-hashes --" in install or re.search(r"--no-deps \S*command_distributor-\S+\.whl", install)


@pytest.mark.parametrize("file", ["requirements.txt", "deploy/build-requirements.txt"])
def test_requirements_are_pinned_as_tested_and_have_hashes(file: str) -> None:
    """`scripts/hash_requirements.sh` writes them."""
    text = (ROOT / file).read_text(encoding="utf-8")
    tested = dict(PIN.findall((ROOT / "constraints.txt").read_text(encoding="utf-8").replace("_", "-").lower()))
    for name, version in PIN.findall(text):
        # Those for other platforms and versions are in no environment here.
        assert tested.get(name.replace("_", "-").lower(), version) == version
    entries = re.split(r"\n(?=\S)", text)
    assert all("--hash=sha256:" in entry for entry in entries if PIN.match(entry))


def test_requirements_have_all_that_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["embedded"], *extras["speed"]]
    names = {re.split(r"[^A-Za-z0-9._-]", one)[0].lower() for one in needed}
    pinned = {name.lower() for name, _ in PIN.findall((ROOT / "requirements.txt").read_text(encoding="utf-8"))}
    assert names <= pinned
