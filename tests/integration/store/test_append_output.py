from __future__ import annotations

import gzip
from random import Random

import pytest

from distributor.model.delivery import OutputPiece, OutputRefusal, OutputStream
from distributor.model.event import OutputArrived
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, changed, completion, own_keys

STDOUT, STDERR = 1, 2
NUMBERS = {OutputStream.STDOUT: STDOUT, OutputStream.STDERR: STDERR}


def piece(command_id: str, offset: int, data: bytes, stream: int = STDOUT, lease_id: str = LEASE) -> OutputPiece:
    return OutputPiece(command_id, AGENT, lease_id, stream, offset, data)


async def kept(world: StoreWorld, command_id: str, offset: int = 0) -> list[tuple[int, int, bytes]]:
    chunks = await world.output.read(command_id, offset, 1 << 30)
    return [(NUMBERS[chunk.stream], chunk.offset, chunk.data) for chunk in chunks]


async def run_again(world: StoreWorld, command_id: str, lease_id: str) -> None:
    outcomes = await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0)])
    assert outcomes == ["run_again"]
    await world.claim(lease_id=lease_id)


@pytest.mark.parametrize("status", CommandStatus)
async def test_only_an_assigned_command_has_output(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status)
    before = await world.dump()
    safe = await world.output.append([piece(command_id, 0, b"\x00\xffbytes")])
    after = await world.dump()
    assert (await world.state(command_id)).status is status
    if status is not CommandStatus.ASSIGNED:
        assert safe == [OutputRefusal.ENDED if status.terminal else OutputRefusal.STALE]
        assert after == before
        return
    assert safe == [7]
    assert await kept(world, command_id) == [(STDOUT, 0, b"\x00\xffbytes")]
    assert changed(before, after) == {*own_keys(command_id, keys.STATUS, keys.OUTPUT), keys.EVENTS}


@pytest.mark.parametrize(("agent_id", "lease_id"), [("other", LEASE), (AGENT, "lease0"), (AGENT, "")])
async def test_another_agent_or_lease_changes_nothing(world: StoreWorld, agent_id: str, lease_id: str) -> None:
    command_id = await world.assigned()
    before = await world.dump()
    refusal = OutputRefusal.STALE if agent_id == AGENT else OutputRefusal.UNKNOWN
    assert await world.output.append([OutputPiece(command_id, agent_id, lease_id, STDOUT, 0, b"x")]) == [refusal]
    assert await world.dump() == before


async def test_an_unknown_command_leaves_nothing(world: StoreWorld) -> None:
    assert await world.output.append([piece(world.new_id(), 0, b"x")]) == [OutputRefusal.UNKNOWN]
    assert await world.dump() == {}


async def test_both_streams_share_one_count(world: StoreWorld) -> None:
    command_id = await world.assigned()
    assert await world.output.append([piece(command_id, 0, b"out"), piece(command_id, 3, b"err!", STDERR)]) == [3, 7]
    assert await kept(world, command_id) == [(STDOUT, 0, b"out"), (STDERR, 3, b"err!")]
    assert (await world.details(command_id)).output_bytes == 7


@pytest.mark.parametrize(
    ("offset", "data", "safe", "stored"),
    [
        (0, b"01234", 5, [b"01234"]),
        (0, b"012", 5, [b"01234"]),
        (2, b"234", 5, [b"01234"]),
        (0, b"", 5, [b"01234"]),
        (3, b"34567", 8, [b"01234", b"567"]),
        (0, b"01234567", 8, [b"01234", b"567"]),
        (5, b"567", 8, [b"01234", b"567"]),
    ],
    ids=["duplicate", "beginning", "end", "nothing", "overlap", "overlap of all", "next"],
)
async def test_no_byte_is_kept_twice(
    world: StoreWorld, offset: int, data: bytes, safe: int, stored: list[bytes]
) -> None:
    command_id = await world.assigned()
    assert await world.print_output(command_id, 0, b"01234") == 5
    before = await world.dump()
    assert await world.print_output(command_id, offset, data) == safe
    assert [data for _, _, data in await kept(world, command_id)] == stored
    if len(stored) == 1:
        assert await world.dump() == before


async def test_a_gap_is_seen_as_one(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"01")
    assert await world.print_output(command_id, 10, b"ab") == 12
    assert await kept(world, command_id) == [(STDOUT, 0, b"01"), (STDOUT, 10, b"ab")]
    assert await kept(world, command_id, 5) == [(STDOUT, 10, b"ab")]


@pytest.mark.parametrize("offset", range(11))
async def test_reading_from_any_byte(world: StoreWorld, offset: int) -> None:
    command_id = await world.assigned()
    await world.output.append([piece(command_id, 0, b"0123"), piece(command_id, 4, b"456789", STDERR)])
    chunks = await kept(world, command_id, offset)
    assert b"".join(data for _, _, data in chunks) == b"0123456789"[offset:]
    assert not chunks or chunks[0][1] == offset


async def test_reading_stops_after_enough_bytes(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.output.append([piece(command_id, 4 * place, b"1234") for place in range(10)])
    read = await world.output.read(command_id, 0, 10)
    assert b"".join(chunk.data for chunk in read) == b"1234" * 3
    assert abs(read[0].received_ms - await world.now_ms()) < 10_000


async def test_the_oldest_goes_beyond_the_cap_and_the_result_says_how_much(world: StoreWorld) -> None:
    world = world.under(output_kept_bytes=10)
    command_id = await world.assigned()
    for place in range(5):
        await world.print_output(command_id, 4 * place, b"%d234" % place)
    assert await kept(world, command_id) == [(STDOUT, 8, b"2234"), (STDOUT, 12, b"3234"), (STDOUT, 16, b"4234")]
    await world.store.finish([completion(command_id, output_bytes=20)])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.output_bytes, result.output_dropped_bytes) == (20, 8)


@pytest.mark.parametrize("size", [9, 10, 11, 25])
async def test_a_piece_around_the_cap(world: StoreWorld, size: int) -> None:
    """Whole pieces are dropped, never a part of one, and the last one stays."""
    world = world.under(output_kept_bytes=10)
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"x" * size)
    assert await kept(world, command_id) == [(STDOUT, 0, b"x" * size)]
    assert (await world.hash(command_id)).get("output_dropped", "0") == "0"
    await world.print_output(command_id, size, b"y" * 10)
    assert await kept(world, command_id) == [(STDOUT, size, b"y" * 10)]
    assert (await world.hash(command_id))["output_dropped"] == str(size)


async def test_the_oldest_of_too_many_pieces_goes(world: StoreWorld) -> None:
    world = world.under(output_kept_pieces=3)
    command_id = await world.assigned()
    await world.output.append([piece(command_id, place, b"%d" % place) for place in range(5)])
    assert await kept(world, command_id) == [(STDOUT, 2, b"2"), (STDOUT, 3, b"3"), (STDOUT, 4, b"4")]
    assert (await world.hash(command_id))["output_dropped"] == "2"


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_kept_and_read_is_exact(world: StoreWorld, seed: int) -> None:
    """Pieces of any size, sent again, overlapping, compressed, and with gaps, against a list of bytes."""
    rng = Random(seed)
    source = rng.randbytes(10_000)
    kept_bytes, kept_pieces = rng.choice([(40, 1_000), (300, 1_000), (300, 7), (100_000, 1_000)])
    world = world.under(output_kept_bytes=kept_bytes, output_kept_pieces=kept_pieces)
    command_id = await world.assigned()
    end, printed, ends = 0, set[int](), list[int]()
    for _ in range(60):
        pieces = []
        for _ in range(rng.randint(1, 4)):
            gap = 3 if rng.random() < 0.1 else 0
            offset = end + gap if gap else max(ends[-2] if len(ends) > 1 else 0, end - rng.choice([0, 0, 0, 1, 5]))
            data = source[offset : offset + rng.choice([1, 1, 2, 5, 20, 60])]
            packed = gzip.compress(data) if rng.random() < 0.2 else b""
            pieces.append(OutputPiece(command_id, AGENT, LEASE, rng.choice([STDOUT, STDERR]), offset, data, packed))
            printed.update(range(offset, offset + len(data)))
            if offset + len(data) > end:
                end = offset + len(data)
                ends += [offset, end] if gap else [end]
        await world.output.append(pieces)
    dropped = int((await world.hash(command_id)).get("output_dropped", 0))
    stored = await world.output.read(command_id, 0, 1 << 30)
    assert stored[0].offset == dropped or not dropped
    assert end - dropped >= min(kept_bytes, end) or kept_pieces < 100
    for offset in [0, dropped, end, *rng.sample(range(end), 60)]:
        position, read = offset, dict[int, int]()
        while chunks := await world.output.read(command_id, position, rng.choice([1, 10, 1_000])):
            for chunk in chunks:
                assert chunk.offset >= position
                read.update(enumerate(chunk.data, start=chunk.offset))
                position = chunk.offset + len(chunk.data)
        assert read == {place: source[place] for place in printed if place >= max(offset, dropped)}


@pytest.mark.parametrize("head", [b"4 1", b"4 9 1", b"4 1 1 many", b"4 1 1 2 3"])
async def test_a_piece_that_another_program_has_spoiled_is_a_gap(world: StoreWorld, head: bytes) -> None:
    command_id = await world.assigned()
    await world.output.append([piece(command_id, 4 * place, b"%d234" % place) for place in range(3)])
    await world.connection.call("LSET", keys.OUTPUT.format(command_id=command_id), 0, head)
    chunks = await world.output.read(command_id, 0, 1)
    assert [(chunk.offset, chunk.data) for chunk in chunks] == [(4, b"1234")]


async def test_what_is_no_output_at_all_is_none(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.connection.call("RPUSH", keys.OUTPUT.format(command_id=command_id), "no head", "data", "more")
    assert await kept(world, command_id) == []
    assert await world.print_output(command_id, 0, b"12") == 2


async def test_offsets_of_another_attempt_begin_where_the_last_one_ended(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=3)
    await world.print_output(command_id, 0, b"first")
    await run_again(world, command_id, "lease2")
    assert await world.print_output(command_id, 0, b"stale", LEASE) is OutputRefusal.STALE
    assert await world.print_output(command_id, 0, b"again", "lease2") == 5
    assert await world.print_output(command_id, 3, b"in!", "lease2") == 6
    assert b"".join(data for _, _, data in await kept(world, command_id)) == b"firstagain!"
    await world.store.finish(
        [completion(command_id, CommandStatus.FAILED, lease_id="lease2", output_bytes=6, rerun_delay_ms=0)]
    )
    await world.claim(lease_id="lease3")
    assert await world.print_output(command_id, 0, b"3", "lease3") == 1
    assert (await world.details(command_id)).output_bytes == 12


async def test_the_count_over_all_attempts_is_exact_to_its_limit(world: StoreWorld) -> None:
    counted = 2**53 - 3
    command_id = await world.acknowledged(max_runs=3)
    await world.print_output(command_id, counted - 1, b"1")
    await run_again(world, command_id, "lease2")
    assert await world.print_output(command_id, 0, b"two", "lease2") == 3
    assert await kept(world, command_id, counted) == [(STDOUT, counted, b"two")]
    assert (await world.details(command_id)).output_bytes == counted + 3


async def test_output_beyond_what_can_be_counted_over_all_attempts_is_dropped(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=3)
    await world.print_output(command_id, 2**53 - 3, b"all")
    await run_again(world, command_id, "lease2")
    assert await world.print_output(command_id, 0, b"x", "lease2") == 1, "the agent may discard it"
    assert await kept(world, command_id) == [(STDOUT, 2**53 - 3, b"all")]
    await world.store.finish([completion(command_id, lease_id="lease2", output_bytes=2**53 - 1)])
    assert (await world.details(command_id)).output_bytes == 2**53
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.output_bytes == 2**53


async def test_what_could_not_be_kept_at_the_end_of_a_run_is_a_gap_before_the_next(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=2)
    await world.print_output(command_id, 0, b"first")
    lossy = completion(command_id, CommandStatus.FAILED, output_bytes=8, rerun_delay_ms=0)
    # Reported again as the acknowledgement was lost: counted once.
    assert await world.store.finish([lossy, lossy]) == ["run_again"] * 2
    await world.claim(lease_id="lease2")
    assert await world.print_output(command_id, 0, b"again", "lease2") == 5
    assert await kept(world, command_id) == [(STDOUT, 0, b"first"), (STDOUT, 8, b"again")]
    await world.store.finish([completion(command_id, lease_id="lease2", output_bytes=5)])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert result.output_bytes == 13


@pytest.mark.parametrize("offset", [10**14, 2**53 - 2])
async def test_huge_offsets_do_not_spoil_the_call_for_others(world: StoreWorld, offset: int) -> None:
    await world.attach("other")
    command_id = await world.assigned()
    other = await world.assigned("other")
    pieces = [piece(command_id, offset, b"x"), OutputPiece(other, "other", LEASE, STDOUT, 0, b"12")]
    assert await world.output.append(pieces) == [offset + 1, 2]
    assert await kept(world, command_id) == [(STDOUT, offset, b"x")]
    assert (await world.details(command_id)).output_bytes == offset + 1
    assert offset + 1 in [event.end_offset for event in await world.events() if isinstance(event, OutputArrived)]
    await world.store.finish([completion(command_id, output_bytes=offset + 1)])
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.output_bytes, result.output_dropped_bytes) == (offset + 1, offset)


async def test_one_event_for_each_command_of_a_call(world: StoreWorld) -> None:
    command_id = await world.assigned()
    other = await world.assigned("other")
    position = await world.position()
    await world.output.append(
        [piece(command_id, 0, b"12"), OutputPiece(other, "other", LEASE, STDERR, 0, b"1"), piece(command_id, 2, b"3")]
    )
    events = await world.events(position)
    assert events == [
        OutputArrived(command_id, AGENT, 3),
        OutputArrived(other, "other", 1),
    ]
