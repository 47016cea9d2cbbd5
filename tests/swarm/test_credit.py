"""Flow control between two zttp ends without a socket: windows, refills, turns."""

import asyncio

import zttp
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import UnreachableError
from mycoswarm.swarm.credit import (
    CONNECTION_WINDOW_BYTES,
    GREETING,
    MAX_UNREAD_BYTES,
    SLICE_BYTES,
    STREAM_WINDOW_BYTES,
    ReceiveCredit,
    SendCredit,
)

MB = 1 << 20


def _take(end: zttp.H2Connection, data: bytes) -> list[object]:
    if data:
        end.receive_data(data)
    events: list[object] = []
    while (event := end.next_event()) is not zttp.NEED_DATA:
        events.append(event)
    return events


class _Ends:
    """A sender with one open stream, and a receiver whose refills pass through `credit`."""

    def __init__(self) -> None:
        self.sender = zttp.Connection(zttp.CLIENT, protocol=zttp.HTTP2)
        self.receiver = zttp.Connection(zttp.SERVER, protocol=zttp.HTTP2)
        self.sender.initiate_connection()
        self.receiver.initiate_connection()
        self.credit = ReceiveCredit()
        _take(self.receiver, self.sender.data_to_send() + GREETING)
        _take(self.sender, self.credit.outgoing(self.receiver.data_to_send()) + GREETING)
        self.stream = self.open()
        self.move()

    def open(self) -> zttp.Stream:
        return self.sender.send_request(b"POST", b"/", b"2", [(b"host", b"x")])

    def move(self) -> int:
        """Carry what is queued across; returns how many body bytes arrived."""
        events = _take(self.receiver, self.sender.data_to_send())
        count = sum(len(event.data) for event in events if isinstance(event, zttp.Data))
        self.credit.received(count)
        _take(self.sender, self.credit.outgoing(self.receiver.data_to_send()))
        return count

    def send(self, stream: zttp.Stream, count: int) -> int:
        count = min(count, stream.send_window or 0, self.sender.send_window)
        if count:
            stream.send_data(bytes(count))
        return self.move()


def test_the_greeting_widens_both_windows() -> None:
    ends = _Ends()
    assert ends.stream.send_window == STREAM_WINDOW_BYTES
    assert ends.sender.send_window == CONNECTION_WINDOW_BYTES


def test_a_stream_nobody_reads_stops_at_its_window_and_leaves_the_connection_free() -> None:
    ends = _Ends()
    sent = 0
    while count := ends.send(ends.stream, 100_000):
        sent += count
    assert sent == STREAM_WINDOW_BYTES
    assert ends.sender.send_window > CONNECTION_WINDOW_BYTES // 2


def test_what_is_read_is_given_back() -> None:
    ends = _Ends()
    sent = 0
    for _ in range(40):
        sent += (count := ends.send(ends.stream, MB))
        _take(ends.sender, ends.credit.consumed(1, count))
    assert sent == 40 * MB


def test_the_whole_connection_waits_when_too_much_is_unread() -> None:
    ends = _Ends()
    streams = [ends.stream, *(ends.open() for _ in range(14))]
    sent = 0
    for stream in streams:
        while count := ends.send(stream, MB):
            sent += count
    assert MAX_UNREAD_BYTES < sent <= MAX_UNREAD_BYTES + CONNECTION_WINDOW_BYTES
    _take(ends.sender, ends.credit.dropped(sent))
    assert ends.sender.send_window > CONNECTION_WINDOW_BYTES // 2
    assert ends.send(streams[-1], MB) == MB


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * MB)), max_size=30))
def test_credit_is_neither_lost_nor_made_up(moves: list[tuple[bool, int]]) -> None:
    ends = _Ends()
    unread = 0
    for is_read, count in moves:
        if is_read:
            count = min(count, unread)
            _take(ends.sender, ends.credit.consumed(1, count))
            unread -= count
        else:
            unread += ends.send(ends.stream, count)
        assert 0 <= unread <= STREAM_WINDOW_BYTES
    _take(ends.sender, ends.credit.consumed(1, unread))
    assert ends.stream.send_window is not None
    assert ends.stream.send_window > STREAM_WINDOW_BYTES * 7 // 8 - 1


def test_late_data_on_a_stream_that_was_reset_gives_the_connection_its_credit_back() -> None:
    ends = _Ends()
    ends.receiver.stream(1).reset(8)
    ends.credit.close(1)
    for _ in range(64):
        ends.stream.send_data(bytes(100_000))
    ends.move()
    assert ends.sender.send_window > CONNECTION_WINDOW_BYTES - STREAM_WINDOW_BYTES // 4


def test_a_stream_without_credit_holds_nobody_up() -> None:
    async def main() -> None:
        ends = _Ends()
        credit = SendCredit(ends.sender)
        while ends.send(ends.stream, MB):
            pass
        stuck = asyncio.create_task(credit.take(ends.stream))
        other = ends.open()
        async with asyncio.timeout(5):
            assert await credit.take(other) == SLICE_BYTES
            assert not stuck.done()
            _take(ends.sender, ends.credit.consumed(1, STREAM_WINDOW_BYTES))
            credit.credited(1)
            assert await stuck == SLICE_BYTES

    asyncio.run(main())


def test_a_full_socket_holds_all_up_in_order() -> None:
    async def main() -> None:
        ends = _Ends()
        credit = SendCredit(ends.sender)
        credit.pause()
        order: list[int] = []

        async def one(number: int) -> None:
            await credit.take(ends.open())
            order.append(number)

        async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(one(number))
            await asyncio.sleep(0)
            assert not order
            credit.resume()
        assert order == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_a_closed_connection_fails_every_waiting_sender() -> None:
    async def main() -> None:
        ends = _Ends()
        credit = SendCredit(ends.sender)
        while ends.send(ends.stream, MB):
            pass
        aside = asyncio.create_task(credit.take(ends.stream))
        credit.pause()
        in_turn = [asyncio.create_task(credit.take(ends.open())) for _ in range(3)]
        await asyncio.sleep(0)
        credit.close()
        async with asyncio.timeout(5):
            results = await asyncio.gather(aside, *in_turn, return_exceptions=True)
        assert all(isinstance(result, UnreachableError) for result in results)

    asyncio.run(main())


def test_a_sender_that_is_cancelled_frees_its_turn() -> None:
    async def main() -> None:
        ends = _Ends()
        credit = SendCredit(ends.sender)
        credit.pause()
        first = asyncio.create_task(credit.take(ends.stream))
        second = asyncio.create_task(credit.take(ends.open()))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        credit.resume()
        async with asyncio.timeout(5):
            assert await second == SLICE_BYTES

    asyncio.run(main())
