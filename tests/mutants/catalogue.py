"""The faults that would break a promise most quietly. Each must fail a test."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutation import Edit, Mutation

MUTATIONS: Final = (
    Mutation(
        "ack before write",
        (
            Edit(
                "distributor/dispatch/agent_reports.py",
                "            outcomes = await self._store.finish(completions)\n",
                "            asyncio.ensure_future(self._store.finish(completions))\n"
                "            outcomes = [CompletionOutcome.STORED] * len(completions)\n",
            ),
        ),
        "tests/unit/rpc/test_agent_stream.py::test_a_result_is_acknowledged_once_it_is_stored",
    ),
    Mutation(
        "finish without the terminal check",
        (
            Edit(
                "distributor/store/functions/finish.lua",
                "if fields[F_LEASE_ID] == lease_id and among(args[5], fields[F_STATUS]) then",
                "if fields[F_LEASE_ID] == lease_id then",
            ),
        ),
        "tests/integration/store/test_finish.py::test_only_an_assigned_command_takes_a_result",
    ),
    Mutation(
        "release without the lease check",
        (
            Edit(
                "distributor/store/functions/release.lua",
                "then return fields[F_LEASE_ID] == lease_id end",
                "then return true end",
            ),
        ),
        "tests/integration/store/test_release.py::test_another_agent_or_lease_changes_nothing",
    ),
    Mutation(
        "result overwritten",
        (Edit("distributor/store/functions/finish.lua", "'SET', late_result_key(id)", "'SET', result_key(id)"),),
        "tests/integration/store/test_finish.py::test_a_later_report_is_kept_beside_the_result",
    ),
    Mutation(
        "no journal",
        (
            Edit(
                "distributor/agent/starts.py",
                "if not self._record.durable or (held.control and not self._record.starts_wait):",
                "if self._record:",
            ),
        ),
        "tests/unit/agent/test_session_state_journal.py::test_a_handler_is_called_once_the_journal_has_its_start",
    ),
    Mutation(
        "no freshness check",
        (
            Edit("distributor/agent/admission.py", "if now >= fresh_until:", "if not fresh_until:"),
            Edit("distributor/agent/starts.py", "if now >= waiting.fresh_until:", "if now < 0:"),
        ),
        "tests/unit/agent/test_session_state.py::test_a_command_starts_only_while_its_heartbeat_is_fresh",
    ),
    Mutation(
        "unbounded writer queue",
        (
            Edit(
                "distributor/rpc/agent_stream.py",
                "            if self._outbox.waiting_acks > MAX_WAITING_ACKS:\n",
                "            if self._outbox.waiting_acks > MAX_WAITING_ACKS * 1_000_000:\n",
            ),
        ),
        "tests/unit/rpc/test_agent_stream.py::test_an_agent_that_reads_no_answers_is_not_heard",
    ),
    Mutation(
        "pub/sub as the only wake-up",
        (
            Edit(
                "distributor/dispatch/command_distributor.py",
                "await self._wakeups.wait(max(0.0, next_poll - loop.time()))",
                "await self._wakeups.wait(86_400.0)",
            ),
        ),
        "tests/unit/dispatch/test_command_distributor.py::test_the_loop_polls_all_agents",
    ),
    Mutation(
        "retry of a state-changing call",
        (
            Edit(
                "distributor/store/exchanges.py",
                "        error = replies.exception()\n        if error is not None:\n",
                "        error = replies.exception()\n"
                "        if error is not None and not hasattr(self, 'tried'):\n"
                "            self.tried = True\n"
                "            self._in_flight -= 1\n"
                "            self._exchange(batches)\n"
                "            return\n"
                "        if error is not None:\n",
            ),
        ),
        "tests/unit/store/test_exchanges.py::test_a_lost_connection_fails_the_exchange_and_the_next_one_goes_out",
    ),
    Mutation(
        "heartbeat answered by another task than the reader",
        (
            Edit(
                "distributor/rpc/agent_stream.py",
                "                await self._handle(request, now)\n",
                "                handling = asyncio.ensure_future(self._handle(request, now))\n"
                "                handling.add_done_callback(_consume_exception)\n"
                "                await asyncio.sleep(0)\n",
            ),
        ),
        "tests/unit/rpc/test_agent_stream.py::test_a_heartbeat_is_not_answered_before_what_came_ahead_of_it_is_stored",
    ),
    Mutation(
        "a token for another audience",
        (
            Edit(
                "distributor/identity/tokens.py",
                "    if rules.audience not in (audience if isinstance(audience, list) else [audience]):\n",
                "    if not audience:\n",
            ),
        ),
        "tests/unit/identity/test_tokens.py::test_claims_that_will_not_do",
    ),
    Mutation(
        "the algorithm that a token names",
        (
            Edit(
                "distributor/identity/token_keys.py",
                "if key.algorithm == algorithm and (not key_id",
                "if (not key_id",
            ),
        ),
        "tests/unit/identity/test_token_keys.py::test_a_key_is_found_by_algorithm_and_id",
    ),
    Mutation(
        "anybody calls on behalf of a user",
        (
            Edit(
                "distributor/identity/authenticator.py",
                "        if Role.DELEGATE not in delegate.roles:\n",
                "        if not delegate.known:\n",
            ),
        ),
        "tests/unit/identity/test_authenticator.py::test_others_cannot_call_on_behalf_of_a_user",
    ),
    Mutation(
        "a delegate keeps its own roles",
        (
            Edit(
                "distributor/identity/authenticator.py",
                "            roles=user.roles - {Role.DELEGATE},\n",
                "            roles=user.roles | delegate.roles,\n",
            ),
        ),
        "tests/unit/identity/test_authenticator.py::test_a_delegate_has_its_users_rights_and_none_of_its_own",
    ),
    Mutation(
        "live changes of other tenants",
        (
            Edit(
                "distributor/bridge/event_hub.py",
                "                if _permits(dashboard, state, labels):\n",
                "                if state is not None or _permits(dashboard, state, labels):\n",
            ),
        ),
        "tests/integration/bridge/test_tenants.py::test_each_sees_its_own_and_nothing_of_the_other",
    ),
    Mutation(
        "output of other tenants",
        (
            Edit(
                "distributor/bridge/snapshot_sync.py",
                "        if dashboard.caller.grants.everything or not what.output:\n",
                "        if dashboard is not None or not what.output:\n",
            ),
        ),
        "tests/integration/bridge/test_tenants.py::test_a_command_of_the_other_is_as_unknown_as_one_that_never_was",
    ),
    Mutation(
        "a session for any origin",
        (
            Edit(
                "distributor/bridge/session_cookie.py",
                "    if not may_use_session(connection, listed_origins):\n",
                "    if not may_use_session and listed_origins:\n",
            ),
        ),
        "tests/integration/bridge/test_sessions.py::test_the_cookie_is_nothing_from_another_origin",
    ),
    Mutation(
        "an agent chooses the labels of its credential",
        (
            Edit(
                "distributor/rpc/agent_gateway.py",
                "hello._replace(labels=labels.effective), labels",
                "hello, labels",
            ),
        ),
        "tests/integration/rpc/test_agent_labels.py::test_a_stolen_agent_does_not_leave_the_stop_of_its_label",
    ),
    Mutation(
        "a revoked token keeps its connection",
        (
            Edit(
                "distributor/bridge/dashboard_session.py",
                "            if lapse := self._services.credentials.lapse_of(caller):\n",
                "            if lapse := None:\n",
            ),
        ),
        "tests/integration/bridge/test_sessions.py::test_a_revoked_token_ends_its_connection",
    ),
)
