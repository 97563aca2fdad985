"""`distributor serve --workers 2`: one server of two processes, through kills and signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from distributor.app.audit_key_file import add_key
from distributor.client import CommandClient, CommandRequest, CommandStatus, Queued
from distributor.model.audit_entry import AuditEvent
from distributor.settings import ServerSettings
from tests.support.audited_server import stored_trail
from tests.support.certificates import CertificateMaker
from tests.support.launched_server import command_line, descendants_of, gone, launched_server
from tests.support.running_bridge import TOKEN_KEY, token_of
from tests.support.several_workers import SOME_AGENTS, Fleet, SeveralWorkers, fleet_on_all, several_workers, spread
from tests.support.waiting import PATIENCE_SECONDS, eventually, until
from tests.support.wire_agent import wire_agent

OF_EACH: Final = 5
AN_HOUR: Final = "3600"


async def queue_for_all(client: CommandClient, fleet: Fleet) -> list[str]:
    requests = [CommandRequest(agent_id, "COUNT") for agent_id in fleet.agent_ids for _ in range(OF_EACH)]
    outcomes = await client.queue_many(requests)
    queued = [outcome for outcome in outcomes if isinstance(outcome, Queued)]
    assert len(queued) == len(requests), outcomes
    return [outcome.command_id for outcome in queued]


async def all_run_once(client: CommandClient, fleet: Fleet, command_ids: list[str]) -> None:
    async for state in client.wait_many(command_ids, PATIENCE_SECONDS):
        assert state.status is CommandStatus.COMPLETED, state
    assert fleet.starts == dict.fromkeys(command_ids, 1)


async def restarts(workers: SeveralWorkers) -> bool:
    return "distributor_worker_restarts_total 1.0" in (await workers.get("/metrics"))[1]


async def test_commands_queued_at_one_worker_run_on_the_agents_of_both(tmp_path: Path) -> None:
    async with several_workers(f"--data-dir={tmp_path}", DISTRIBUTOR_AUDIT="on") as workers:
        async with fleet_on_all(workers) as fleet:
            fleet.release.set()
            # A client has one connection, and so one worker.
            async with CommandClient(workers.address) as client:
                await all_run_once(client, fleet, await queue_for_all(client, fleet))
        children = descendants_of(workers.server.process.pid)
        assert sum(b"valkey-server" in command_line(pid) for pid in children) == 1
        numbers = {line.partition('"worker": ')[2][:1] for line in workers.server.stderr if '"worker serves"' in line}
        assert numbers == {"0", "1"}
        assert sum("made a key for the audit trail" in line for line in workers.server.stderr) == 1
        workers.server.process.send_signal(signal.SIGTERM)
        assert await workers.server.ended() == 0
        await gone(children)


async def test_a_killed_worker_is_replaced_and_no_command_is_lost_or_run_twice(valkey_url: str) -> None:
    async with several_workers(f"--valkey-url={valkey_url}") as workers, fleet_on_all(workers) as fleet:
        async with CommandClient(workers.address) as client:
            command_ids = await queue_for_all(client, fleet)
            await until(lambda: len(fleet.starts) == len(command_ids))
        before = workers.pids
        os.kill(min(before), signal.SIGKILL)
        fleet.release.set()
        async with CommandClient(workers.address) as client:
            await all_run_once(client, fleet, command_ids)

            async def replaced() -> bool:
                return len(workers.pids) == 2 and await restarts(workers)

            await eventually(replaced)
            assert len(workers.pids - before) == 1
            await spread(workers, fleet)
            fleet.starts.clear()
            await all_run_once(client, fleet, await queue_for_all(client, fleet))


async def test_a_worker_that_is_stopped_hands_its_agents_to_the_other(valkey_url: str) -> None:
    async with several_workers(f"--valkey-url={valkey_url}") as workers, fleet_on_all(workers) as fleet:
        fleet.release.set()
        os.kill(min(workers.pids), signal.SIGTERM)
        await workers.server.line("worker ended, restarting it")
        await spread(workers, fleet)
        assert await eventually(lambda: restarts(workers))
        async with CommandClient(workers.address) as client:
            await all_run_once(client, fleet, await queue_for_all(client, fleet))
        assert '"exit_code": 0' in await workers.server.line("worker ended, restarting it")


@pytest.mark.parametrize("to_all", [False, True], ids=["supervisor", "control group"])
async def test_sigterm_drains_all(valkey_url: str, to_all: bool) -> None:
    async with several_workers(f"--valkey-url={valkey_url}") as workers, AsyncExitStack() as stack:
        agents = [
            await stack.enter_async_context(wire_agent(workers.address, f"agent-{number}"))
            for number in range(SOME_AGENTS)
        ]
        assignments = []
        async with CommandClient(workers.address) as client:
            for number, agent in enumerate(agents):
                queued = await client.queue(CommandRequest(f"agent-{number}", "PRINT"))
                assignments.append(await agent.next_assignment(queued.command_id))
        children, pids = descendants_of(workers.server.process.pid), workers.pids
        workers.server.process.send_signal(signal.SIGTERM)
        # As systemd does it.
        for pid in pids if to_all else ():
            os.kill(pid, signal.SIGTERM)
        for agent, assignment in zip(agents, assignments, strict=True):
            await agent.until(lambda agent=agent: agent.drained)  # type: ignore[misc]
            # Still served.
            await agent.finish(assignment)
            await agent.leave()
        assert await workers.server.ended() == 0, workers.server.everything
        assert "Traceback" not in workers.server.everything
        assert "restarting" not in workers.server.everything
        await gone(children)


async def test_a_second_signal_ends_all_at_once(valkey_url: str) -> None:
    serving = several_workers(f"--valkey-url={valkey_url}", DISTRIBUTOR_DRAIN_TIMEOUT=AN_HOUR)
    async with serving as workers, wire_agent(workers.address) as agent:
        children = descendants_of(workers.server.process.pid)
        workers.server.process.send_signal(signal.SIGINT)
        await agent.until(lambda: agent.drained)
        workers.server.process.send_signal(signal.SIGINT)
        assert await workers.server.ended() == -signal.SIGINT
        await gone(children)


async def test_workers_do_not_outlive_their_supervisor(valkey_url: str) -> None:
    serving = several_workers(f"--valkey-url={valkey_url}", DISTRIBUTOR_DRAIN_TIMEOUT=AN_HOUR)
    async with serving as workers, wire_agent(workers.address):
        children = descendants_of(workers.server.process.pid)
        # One hangs.
        os.kill(min(workers.pids), signal.SIGSTOP)
        workers.server.process.kill()
        await gone(children)


async def test_the_next_server_starts_while_the_workers_of_the_last_one_drain(valkey_url: str) -> None:
    serving = several_workers(f"--valkey-url={valkey_url}", DISTRIBUTOR_DRAIN_TIMEOUT=AN_HOUR)
    async with serving as workers, wire_agent(workers.address) as agent:
        workers.server.process.send_signal(signal.SIGTERM)
        await agent.until(lambda: agent.drained)
        same = [f"--listen={workers.address}", f"--http-listen={workers.http}", f"--valkey-url={valkey_url}"]
        async with launched_server("serve", "--workers=2", *same) as following:
            await following.line("workers=2")
            await agent.leave()
            assert await workers.server.ended() == 0
            async with wire_agent(workers.address):
                pass


@pytest.mark.parametrize("count", [1, 2])
async def test_no_other_server_shares_the_port(valkey_url: str, count: int) -> None:
    async with several_workers(f"--valkey-url={valkey_url}") as workers:
        listen = [f"--listen={workers.address}", "--http-listen=127.0.0.1:0", f"--valkey-url={valkey_url}"]
        async with launched_server("serve", f"--workers={count}", *listen) as second:
            assert await second.ended() == 2
            (line,) = second.stderr
            assert f"cannot listen on {workers.address} (listen): Address already in use" in line


async def test_a_server_that_is_started_twice_says_so_once(tmp_path: Path) -> None:
    async with several_workers(f"--data-dir={tmp_path}") as workers:
        same = [f"--listen={workers.address}", f"--http-listen={workers.http}", f"--data-dir={tmp_path}"]
        async with launched_server("serve", "--workers=2", *same) as second:
            assert await second.ended() == 2
            (line,) = second.stderr
            for part in (f"{workers.address} (listen)", f"{workers.http} (http_listen)", "in use by another server"):
                assert part in line


async def test_a_port_in_use_is_one_clear_error(valkey_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = [f"--listen={listen}", "--http-listen=127.0.0.1:0", f"--valkey-url={valkey_url}"]
        async with launched_server("serve", "--workers=2", *arguments) as server:
            assert await server.ended() == 2
            (line,) = server.stderr
            assert f"cannot listen on {listen} (listen): Address already in use" in line


async def test_a_worker_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nowhere.sock"
    arguments = ["--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0", f"--valkey-url={url}"]
    async with launched_server("serve", "--workers=4", *arguments) as server:
        assert await server.ended() == 2, server.everything
        (line,) = [line for line in server.stderr if line.startswith("distributor: ")]
        assert "cannot use the Valkey at" in line
        assert "Traceback" not in server.everything


async def test_the_number_of_workers_has_limits() -> None:
    async with launched_server("serve", "--workers=65") as server:
        assert await server.ended() == 2
        assert "--workers must be less than or equal to 64" in server.stderr[0]


async def test_metrics_and_readiness_are_those_of_all_workers(valkey_url: str) -> None:
    async with several_workers(f"--valkey-url={valkey_url}") as workers:
        assert set(await workers.samples("process_resident_memory_bytes")) == {"0", "1", "supervisor"}
        assert set(await workers.agents()) == {"0", "1"}
        assert await workers.ready() == (200, {"worker 0": "ok", "worker 1": "ok", "draining": "ok"})
        assert "distributor_workers 2.0" in (await workers.get("/metrics"))[1]
        paused = min(workers.pids)
        os.kill(paused, signal.SIGSTOP)
        try:
            _, text = await workers.get("/metrics")
            assert len(set(re.findall(r'distributor_agents_connected{worker="(.)"}', text))) == 1
            assert "distributor_worker_metrics_missed_total 1.0" in text
            status, checks = await workers.ready()
            assert status == 200
            assert sorted(checks.values()) == ["no answer within 2 s", "ok", "ok"]
        finally:
            os.kill(paused, signal.SIGCONT)
        assert (await workers.get("/healthz"))[0] == 200


async def test_metrics_need_the_same_credentials_as_those_of_one_process(valkey_url: str) -> None:
    settings = ServerSettings(token_key=TOKEN_KEY)
    environment = {"DISTRIBUTOR_TOKEN_KEY": TOKEN_KEY, "DISTRIBUTOR_AUDIT": "off"}
    async with several_workers(f"--valkey-url={valkey_url}", **environment) as workers:
        assert await workers.get("/metrics") == (401, "credentials are required: a token (Authorization: Bearer …)\n")
        assert (await workers.get("/metrics", "not-a-token"))[0] == 401
        assert (await workers.get("/metrics", token_of(settings, "viewer", agents=("web-*",))))[0] == 403
        status, text = await workers.get("/metrics", token_of(settings, "viewer"))
        assert status == 200
        assert 'worker="1"' in text
        assert (await workers.get("/readyz"))[0] == 200


async def test_workers_share_the_port_for_client_certificates_and_the_door_to_the_metrics(
    valkey_url: str, tmp_path: Path
) -> None:
    maker = CertificateMaker()
    files = maker.server().write(tmp_path, "server")
    (tmp_path / "policy.toml").write_text('[services.prometheus]\nroles = ["viewer"]\n')
    environment = {
        "DISTRIBUTOR_TLS_CERT": str(files.certificate),
        "DISTRIBUTOR_TLS_KEY": str(files.key),
        "DISTRIBUTOR_CLIENT_CA": str(files.ca),
        "DISTRIBUTOR_MTLS_LISTEN": "127.0.0.1:0",
        "DISTRIBUTOR_POLICY_FILE": str(tmp_path / "policy.toml"),
        "DISTRIBUTOR_HTTP_TLS": "true",
        "DISTRIBUTOR_AUDIT": "off",
    }
    own = maker.service("prometheus").write(tmp_path, "client")
    context = ssl.create_default_context(cafile=files.ca)
    async with several_workers(f"--valkey-url={valkey_url}", **environment) as workers:
        assert listeners(workers.address) == 2
        assert listeners(workers.mutual_tls) == 2
        assert await workers.get_over_tls("/metrics", context) == 401
        context.load_cert_chain(own.certificate, own.key)
        assert await workers.get_over_tls("/metrics", context) == 200


async def test_each_worker_writes_to_the_audit_trail_and_none_sees_changed_settings(
    valkey_url: str, tmp_path: Path
) -> None:
    add_key(tmp_path / "audit.key", "first")
    environment = {"DISTRIBUTOR_AUDIT": "on", "DISTRIBUTOR_AUDIT_KEY_FILE": str(tmp_path / "audit.key")}
    async with stored_trail(valkey_url, tmp_path / "audit.key") as trail:
        for _ in range(2):
            async with several_workers(f"--valkey-url={valkey_url}", **environment) as workers:
                workers.server.process.send_signal(signal.SIGTERM)
                assert await workers.server.ended() == 0
        assert len(await trail.rows(AuditEvent.SERVER_STARTED)) == 4
        assert len(await trail.rows(AuditEvent.SERVER_STOPPED)) == 4
        assert await trail.rows(AuditEvent.SETTINGS_CHANGED) == []
        assert (await trail.verify()).ok


def listeners(address: str) -> int:
    """How many sockets listen at this loopback address."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()]
    return sum(row[1].endswith(port) and row[3] == "0A" for row in rows)
