"""Enrolment tokens on a real Valkey: how often they serve, and for whom."""

from __future__ import annotations

import asyncio

import pytest

from distributor.errors import AlreadyExists, PermissionDenied
from distributor.model.enrolment import Enrolment, NewEnrolmentToken
from distributor.model.revocation import RevokedKind
from distributor.store import keys
from tests.support.store_world import StoreWorld

DIGEST = "d" * 64
HOUR_MS = 3_600_000


async def made(world: StoreWorld, agents: str = "press-7", uses: int = 1, lifetime_ms: int = HOUR_MS) -> str:
    """A stored token; its id."""
    token = NewEnrolmentToken(world.new_id(), DIGEST, agents, {"site": "lab"}, uses, lifetime_ms)
    await world.enrolment.create(token)
    return token.token_id


def enrolment(token_id: str, agent_id: str = "press-7", group: bool = False, replace: bool = False) -> Enrolment:
    return Enrolment(agent_id, token_id, DIGEST, group, replace)


async def test_a_token_serves_once(world: StoreWorld) -> None:
    token_id = await made(world)
    token = await world.enrolment.token(token_id, DIGEST)
    assert (token.agents, token.labels, token.left) == ("press-7", {"site": "lab"}, 1)
    assert await world.enrolment.enrol(enrolment(token_id)) == 1
    with pytest.raises(PermissionDenied, match="used up"):
        await world.enrolment.enrol(enrolment(token_id))
    with pytest.raises(PermissionDenied) as caught:
        await world.enrolment.token(token_id, DIGEST)
    assert caught.value.reason == "ENROLMENT_TOKEN_REFUSED"


async def test_a_token_serves_once_even_if_two_use_it_at_the_same_time(world: StoreWorld) -> None:
    token_id = await made(world, "press-*", uses=2)
    tries = [world.enrolment.enrol(enrolment(token_id, f"press-{n}", group=True)) for n in range(6)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert outcomes.count(1) == 2
    assert sum(isinstance(outcome, PermissionDenied) for outcome in outcomes) == 4


async def test_the_secret_counts(world: StoreWorld) -> None:
    token_id = await made(world)
    with pytest.raises(PermissionDenied):
        await world.enrolment.token(token_id, "e" * 64)
    with pytest.raises(PermissionDenied):
        await world.enrolment.enrol(enrolment(token_id)._replace(token_digest="e" * 64))
    assert await world.enrolment.enrol(enrolment(token_id)) == 1


async def test_a_token_expires(world: StoreWorld) -> None:
    token_id = await made(world, lifetime_ms=1)
    await world.next_millisecond()
    await world.next_millisecond()
    with pytest.raises(PermissionDenied, match="expired"):
        await world.enrolment.enrol(enrolment(token_id))


async def test_a_revoked_token_serves_no_more(world: StoreWorld) -> None:
    token_id = await made(world)
    await world.revocations.revoke(RevokedKind.TOKEN, token_id, "user:ada", "")
    with pytest.raises(PermissionDenied, match="revoked"):
        await world.enrolment.enrol(enrolment(token_id))


async def test_a_revoked_agent_has_no_unused_token_left(world: StoreWorld) -> None:
    await made(world)
    unused, of_another, of_a_group = await made(world), await made(world, "press-8"), await made(world, "press-*")
    await world.revocations.revoke(RevokedKind.AGENT, "press-7", "user:ada", "stolen")
    with pytest.raises(PermissionDenied, match="revoked"):
        await world.enrolment.enrol(enrolment(unused))
    assert await world.enrolment.enrol(enrolment(of_another, "press-8")) == 1
    assert await world.enrolment.enrol(enrolment(of_a_group, "press-9", group=True)) == 1
    # Neither enrolling again nor restoring brings it back.
    assert await world.enrolment.enrol(enrolment(await made(world))) == 2
    with pytest.raises(PermissionDenied, match="revoked"):
        await world.enrolment.enrol(enrolment(unused))


async def test_the_tokens_of_an_agent_are_forgotten_with_the_last(world: StoreWorld) -> None:
    await made(world, lifetime_ms=HOUR_MS)
    await made(world, lifetime_ms=1_000)
    left = await world.connection.call("PTTL", keys.ENROLMENT_TOKENS.format(agent="press-7"))
    assert 1_000 < left <= HOUR_MS


async def test_a_group_token_replaces_no_agent(world: StoreWorld) -> None:
    await world.enrolment.enrol(enrolment(await made(world)))
    group = await made(world, "press-*", uses=5)
    for replace in (False, True):
        with pytest.raises(AlreadyExists, match="enrol-token press-7") as caught:
            await world.enrolment.enrol(enrolment(group, group=True, replace=replace))
        assert caught.value.reason == "AGENT_ENROLLED"
    assert (await world.enrolment.token(group, DIGEST)).left == 5, "a refusal uses nothing"


async def test_a_group_token_takes_no_agent_that_has_other_credentials(world: StoreWorld) -> None:
    """An agent with a token, or with a certificate of another CA, has connected but never enrolled."""
    attached = await world.attach("press-7")
    await world.sessions.detach([("press-7", attached.epoch)])
    group = await made(world, "press-*", uses=5)
    with pytest.raises(AlreadyExists) as caught:
        await world.enrolment.enrol(enrolment(group, group=True))
    assert caught.value.reason == "AGENT_ENROLLED"
    assert await world.enrolment.enrol(enrolment(await made(world))) == 1, "a token of its own admits it"


async def test_a_group_token_brings_no_revoked_agent_back(world: StoreWorld) -> None:
    await world.revocations.revoke(RevokedKind.AGENT, "press-7", "user:ada", "stolen")
    group = await made(world, "press-*", uses=5)
    with pytest.raises(AlreadyExists) as caught:
        await world.enrolment.enrol(enrolment(group, group=True))
    assert caught.value.reason == "AGENT_ENROLLED"


async def test_a_live_agent_keeps_its_id_unless_it_is_to_be_replaced(world: StoreWorld) -> None:
    await world.attach("press-7")
    token_id = await made(world)
    with pytest.raises(AlreadyExists, match="another live agent is connected as 'press-7'") as caught:
        await world.enrolment.enrol(enrolment(token_id))
    assert caught.value.reason == "AGENT_ID_TAKEN"
    with pytest.raises(AlreadyExists):
        await world.enrolment.enrol(enrolment(await made(world, "press-*"), group=True, replace=True))
    assert await world.enrolment.enrol(enrolment(token_id, replace=True)) == 1


async def test_enrolling_again_revokes_earlier_generations(world: StoreWorld) -> None:
    await world.enrolment.enrol(enrolment(await made(world)))
    assert await world.revocations.changed_since(0) is None
    assert await world.enrolment.enrol(enrolment(await made(world))) == 2
    found = await world.revocations.changed_since(0)
    assert found is not None
    assert found.is_certificate_revoked("press-7", 1)
    assert not found.is_certificate_revoked("press-7", 2)
