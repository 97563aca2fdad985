"""The list of revocations on a real Valkey."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from distributor.errors import FailedPrecondition, NotFound
from distributor.model.enrolment import Enrolment, NewEnrolmentToken
from distributor.model.revocation import RevocationList, RevokedKind
from distributor.store import keys
from tests.support.store_world import StoreWorld


async def the_list(world: StoreWorld) -> RevocationList:
    found = await world.revocations.changed_since(-1)
    assert found is not None
    return found


async def enrol(world: StoreWorld) -> int:
    await world.enrolment.create(NewEnrolmentToken("token1", "digest", "press-7", {}, 1, 60_000))
    return await world.enrolment.enrol(Enrolment("press-7", "token1", "digest", False, False))


async def test_the_list_is_read_only_if_it_has_changed(world: StoreWorld) -> None:
    assert await world.revocations.changed_since(0) is None
    entry = await world.revocations.revoke(RevokedKind.TOKEN, "jti-1", "user:ada", 'lost "laptop"')
    changed = await world.revocations.changed_since(0)
    assert changed is not None
    assert list(changed) == [entry]
    assert (entry.kind, entry.subject, entry.revoked_by) == (RevokedKind.TOKEN, "jti-1", "user:ada")
    assert entry.reason == 'lost "laptop"'
    assert await world.revocations.changed_since(changed.version) is None


async def test_an_entry_that_cannot_be_read_hides_no_other(world: StoreWorld) -> None:
    entry = await world.revocations.revoke(RevokedKind.TOKEN, "jti-1", "user:ada", "")
    unreadable: dict[str | bytes, str | bytes] = {
        "agent:press-7": "{",
        "agent:press-8": "[]",
        "agent:press-9": '{"revoked_ms": "soon"}',
        "planet:mars": '{"revoked_ms": 1, "generation": 0, "revoked_by": "", "reason": ""}',
        b"agent:\xff": b"\xff",
    }
    for field, text in unreadable.items():
        await world.connection.call("HSET", keys.REVOCATIONS, field, text)
    with capture_logs() as logs:
        assert list(await the_list(world)) == [entry]
    assert len([line for line in logs if line["log_level"] == "error"]) == len(unreadable)


async def test_a_revoked_agent_can_enrol_again(world: StoreWorld) -> None:
    assert await enrol(world) == 1
    await world.revocations.revoke(RevokedKind.AGENT, "press-7", "user:ada", "stolen")
    assert (await the_list(world)).is_certificate_revoked("press-7", 1)
    assert await enrol(world) == 2
    found = await the_list(world)
    assert found.is_certificate_revoked("press-7", 1)
    assert not found.is_certificate_revoked("press-7", 2)


async def test_a_restored_agent_counts_again(world: StoreWorld) -> None:
    await enrol(world)
    await world.revocations.revoke(RevokedKind.AGENT, "press-7", "user:ada", "")
    await world.revocations.restore_agent("press-7")
    assert len(await the_list(world)) == 0


async def test_an_agent_that_was_replaced_is_not_restored(world: StoreWorld) -> None:
    await enrol(world)
    await enrol(world)
    with pytest.raises(FailedPrecondition, match="enrolled again"):
        await world.revocations.restore_agent("press-7")
    assert (await the_list(world)).is_certificate_revoked("press-7", 1)


async def test_restoring_an_agent_does_not_restore_what_it_had_before_it_enrolled_again(world: StoreWorld) -> None:
    await enrol(world)
    await enrol(world)
    await world.revocations.revoke(RevokedKind.AGENT, "press-7", "user:ada", "")
    await world.revocations.restore_agent("press-7")
    found = await the_list(world)
    assert found.is_certificate_revoked("press-7", 1)
    assert not found.is_certificate_revoked("press-7", 2)
    assert found.is_agent_token_revoked("press-7", 0)
    with pytest.raises(FailedPrecondition, match="enrolled again"):
        await world.revocations.restore_agent("press-7")


async def test_credentials_revoked_before_an_enrolment_are_not_restored_with_it(world: StoreWorld) -> None:
    """Generation 0: a certificate of another CA, or a token."""
    await world.revocations.revoke(RevokedKind.AGENT, "press-7", "user:ada", "stolen")
    enrolled = await enrol(world)
    with pytest.raises(FailedPrecondition, match="enrolled again"):
        await world.revocations.restore_agent("press-7")
    await world.revocations.revoke(RevokedKind.AGENT, "press-7", "user:ada", "by mistake")
    await world.revocations.restore_agent("press-7")
    found = await the_list(world)
    assert found.is_certificate_revoked("press-7", 0)
    assert not found.is_certificate_revoked("press-7", enrolled)


async def test_what_is_not_revoked_cannot_be_restored(world: StoreWorld) -> None:
    with pytest.raises(NotFound):
        await world.revocations.restore_agent("press-7")


async def test_an_agent_may_have_an_id_with_any_permitted_character(world: StoreWorld) -> None:
    await world.revocations.revoke(RevokedKind.TOKEN, "urn:id:with:colons", "", "")
    assert (await the_list(world)).is_token_revoked("urn:id:with:colons")
