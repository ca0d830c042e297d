"""The processes of a run meet before JAX joins them, and stay in touch.

JAX ends a process without a word of its own where another one is missing or has died.
So all of them meet first, on the port that JAX uses afterwards: process 0 hears who the
others are and says what is wrong to everybody. The connections stay open, one from each
process to process 0. What ends one process is passed on to the others over them, and
whoever is killed or cut off is missed by the others.
"""

import contextlib
import dataclasses
import errno
import json
import os
import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

BEAT_SECONDS = 2.0  # between two signs of life
SILENT_SECONDS = 30.0  # without one, until a process is taken for dead
LINGER_SECONDS = 3.0  # that process 0 still tells late ones what went wrong
PAUSE_SECONDS = 0.2  # between two attempts to reach process 0
HELLO_BYTES = 1 << 20  # of what a process says of itself, at the most

Missed = Callable[[str, bool], None]  # (what to say, it may be worth another start)


@dataclasses.dataclass(frozen=True)
class Seat:
    """Where the processes meet, and which of them this one is."""

    address: str  # of the machine of process 0
    port: int
    count: int
    index: int
    local_devices: tuple[int, ...] | None = None  # numbers of those that it may use

    @property
    def where(self) -> str:
        """Address and port as one text."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A process of a run, as it introduces itself."""

    index: int
    count: int
    host: str
    pid: int
    card: dict[str, Any]  # what must be the same everywhere

    def __str__(self) -> str:
        return f"process {self.index} (pid {self.pid} on {self.host})"


class Line:
    """One open connection; messages are JSON, one a line."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message; nothing happens if nobody listens any more."""
        data = json.dumps(message).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(data)

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Returns the next message, None if the other side has gone.

        Raises:
            TimeoutError: there is none for so long.
            ValueError: what comes is no message of ours.
        """
        until = time.monotonic() + max(seconds, 0.0)
        while b"\n" not in self._rest:
            left = max(until - time.monotonic(), 0.0)
            try:
                there = _readable(self._connection, left)
                data = self._connection.recv(1 << 16) if there else b""
            except (OSError, ValueError):  # closed meanwhile, by us or by them
                return None
            if not there:
                raise TimeoutError
            if not data:
                return None
            self._rest += data
            if len(self._rest) > HELLO_BYTES:
                raise ValueError("it is too long")
        text, _, self._rest = self._rest.partition(b"\n")
        message = json.loads(text)
        if not isinstance(message, dict):
            raise ValueError("it is no message")
        return message

    def refuse(self, problem: str) -> None:
        """Says why the run does not begin, and hangs up."""
        self.send({"error": problem})
        self.close()

    def close(self) -> None:
        """Hangs up."""
        with contextlib.suppress(OSError):
            self._connection.close()


def meet(
    seat: Seat, card: dict[str, Any], seconds: float
) -> tuple[list[Peer], dict[int, Line]]:
    """Returns all processes, and lines: of process 0 to all, of others to process 0.

    Args:
        seat: of this process.
        card: what must be the same everywhere.
        seconds: after which those who have not come are missing.

    Raises:
        ValueError: somebody is missing, or they do not fit together. Everybody who is
            there gets the same words.
    """
    me = Peer(seat.index, seat.count, socket.gethostname(), os.getpid(), card)
    if seat.count == 1:
        return [me], {}
    if seat.index == 0:
        return _host(seat, me, seconds)
    return _visit(seat, me, seconds)


def _host(seat: Seat, me: Peer, seconds: float) -> tuple[list[Peer], dict[int, Line]]:
    until = time.monotonic() + seconds
    peers, lines = {0: me}, {}
    _make_room(seat.count)
    with contextlib.closing(_listening(seat)) as server:
        try:
            while len(peers) < seat.count:
                for line, peer in _arrivals(server, until):
                    problem = _unfit(peer, peers, seat)
                    if problem:
                        line.refuse(problem)
                        raise ValueError(problem)
                    peers[peer.index], lines[peer.index] = peer, line
                    break
                else:
                    raise ValueError(_missing(seat, peers, seconds))
        except ValueError as error:
            for line in lines.values():
                line.refuse(str(error))
            for line, _ in _arrivals(server, time.monotonic() + LINGER_SECONDS):
                line.refuse(str(error))
            raise
    everybody = [peers[index] for index in range(seat.count)]
    # Without their cards, which are the same: of a thousand they would be megabytes.
    named = [dataclasses.asdict(peer) | {"card": {}} for peer in everybody]
    for line in lines.values():
        line.send({"all": named})
    return everybody, lines


def _listening(seat: Seat) -> socket.socket:
    """Returns the socket of process 0.

    Raises:
        ValueError: the port cannot be had.
    """
    with contextlib.suppress(OSError):
        if socket.gethostbyname(seat.address).startswith("127."):
            return _bound((seat.address, seat.port), socket.AF_INET, seat)
    if socket.has_dualstack_ipv6():
        return _bound(("", seat.port), socket.AF_INET6, seat)
    return _bound(("", seat.port), socket.AF_INET, seat)


def _bound(where: tuple[str, int], family: int, seat: Seat) -> socket.socket:
    dual = family == socket.AF_INET6
    try:
        return socket.create_server(
            where, family=family, backlog=seat.count + 16, dualstack_ipv6=dual
        )
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            why = "the port is taken, by another run or by a second process 0"
        raise ValueError(
            f"process 0 cannot wait for the others at {seat.where}: {why}. Give all"
            " processes another port, as in hosts=ADDRESS:PORT,N,I."
        ) from error


def _readable(connection: socket.socket, seconds: float) -> bool:
    """Whether something can be read, or comes within so many seconds."""
    # Not `select`, which takes no more than the first thousand files of a process.
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _make_room(lines: int) -> None:
    """Lets this process hold so many connections beside its files, if it may."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = lines + 1024
        if soft < wanted and soft != resource.RLIM_INFINITY:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _arrivals(server: socket.socket, until: float) -> Iterator[tuple[Line, Peer]]:
    """Yields who comes, until a time; what is no process of ours is left alone."""
    while (left := until - time.monotonic()) > 0:
        if not _readable(server, left):
            return
        connection, _ = server.accept()
        line = Line(connection)
        try:
            message = line.receive(min(left, LINGER_SECONDS)) or {}
            yield line, Peer(**message)
        except (TimeoutError, ValueError, TypeError):
            line.close()


def _unfit(peer: Peer, peers: dict[int, Peer], seat: Seat) -> str:
    """Returns why a process that came does not belong to the others, "" if it does."""
    first = peers[0]
    if peer.count != seat.count:
        return (
            f"{peer} was started as one of {peer.count} processes, {first} as one of"
            f" {seat.count}. Give all of them the same number: hosts=ADDRESS:PORT,N,I."
        )
    if peer.index in peers:
        return (
            f"there are two of index {peer.index}: {peers[peer.index]} and {peer}."
            f" Give each of the {seat.count} processes another index, from 0 to"
            f" {seat.count - 1}: hosts=ADDRESS:PORT,N,I."
        )
    return difference(peer, first)


def difference(peer: Peer, first: Peer) -> str:
    """Returns in what a process differs from the first one, "" if in nothing."""
    for name in sorted(first.card | peer.card):
        here, there = peer.card.get(name), first.card.get(name)
        if here != there:
            return (
                f"{peer} has {name} = {here!r}, {first} has {there!r}. All processes of"
                " a run must be started with the same."
            )
    return ""


def _missing(seat: Seat, peers: dict[int, Peer], seconds: float) -> str:
    names = ", ".join(str(i) for i in range(seat.count) if i not in peers)
    one = "," not in names
    there = "; ".join(str(peer) for _, peer in sorted(peers.items()))
    return (
        f"process{'' if one else 'es'} {names} of {seat.count} did not come to"
        f" {seat.where} within {seconds:g} s (hosts_timeout). Here: {there}. Start all"
        " of them, and see that they reach this address and port."
    )


def _visit(seat: Seat, me: Peer, seconds: float) -> tuple[list[Peer], dict[int, Line]]:
    line = Line(_connected(seat, time.monotonic() + seconds, seconds))
    line.send(dataclasses.asdict(me))
    try:
        return _answered(seat, me, line, seconds), {0: line}
    except ValueError:
        line.close()
        raise


def _answered(seat: Seat, me: Peer, line: Line, seconds: float) -> list[Peer]:
    """Returns all processes, as process 0 names them once they are there."""
    try:
        # Process 0 may have begun to wait later than this one.
        answer = line.receive(seconds + LINGER_SECONDS)
    except (TimeoutError, ValueError) as error:
        raise ValueError(
            f"process 0 of {seat.count} does not answer at {seat.where} as one would:"
            " something else listens there, or it stands still. Give all processes"
            " another port, as in hosts=ADDRESS:PORT,N,I."
        ) from error
    if answer is None:
        raise ValueError(
            f"process 0 of {seat.count}, at {seat.where}, ended while {me} waited for"
            " the others. See what it said."
        )
    if "all" not in answer:
        raise ValueError(str(answer.get("error")))
    return [Peer(**peer | {"card": me.card}) for peer in answer["all"]]


def _connected(seat: Seat, until: float, seconds: float) -> socket.socket:
    while True:
        left = until - time.monotonic()
        try:
            where = seat.address, seat.port
            connection = socket.create_connection(where, max(left, 0.1))
            connection.settimeout(None)
            return connection
        except OSError as error:
            if time.monotonic() + PAUSE_SECONDS < until:
                time.sleep(PAUSE_SECONDS)
                continue
            raise ValueError(
                f"process 0 of {seat.count} is missing: process {seat.index} could not"
                f" reach it at {seat.where} within {seconds:g} s (hosts_timeout):"
                f" {error.strerror or error}. Start process 0 on that machine, and see"
                " that the port is open there."
            ) from error


class Watch:
    """Threads that listen to the other processes, and say that this one lives."""

    def __init__(
        self, seat: Seat, peers: list[Peer], lines: dict[int, Line], missed: Missed
    ) -> None:
        """Starts to listen.

        Args:
            seat: of this process.
            peers: all processes.
            lines: to others, by index.
            missed: called in a thread when the run cannot go on.
        """
        self._seat, self._peers, self._lines = seat, peers, lines
        self._missed = missed
        self.hearers: list[Callable[[dict[str, Any]], None]] = []
        self._over = threading.Event()
        self._gone: queue.SimpleQueue[int] = queue.SimpleQueue()
        threading.Thread(target=self._beat, daemon=True).start()
        for index in lines:
            threading.Thread(target=self._listen, args=(index,), daemon=True).start()

    def tell(self, text: str, again: bool, but: int | None = None) -> None:
        """Says to the others why this process, or another one, has ended.

        Args:
            text: why.
            again: it may be worth another start.
            but: who knows.
        """
        for index, line in self._lines.items():
            if index != but:
                line.send({"ended": text, "again": again})

    def say(self, message: dict[str, Any]) -> None:
        """Sends a message to all at the other ends of the lines, to `hearers`."""
        for line in self._lines.values():
            line.send(message)

    def end(self, text: str, again: bool) -> None:
        """Says why this process ends; nobody is missed from now on."""
        self._over.set()
        self.tell(text, again)

    def part(self) -> None:
        """Says that this process is done: it is not missed from now on."""
        self._over.set()
        self.say({"done": True})

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            self.say({})

    def _listen(self, index: int) -> None:
        peer, line = self._peers[index], self._lines[index]
        while True:
            text, again = (
                f"{peer} has gone: it was killed, or its machine is down",
                True,
            )
            try:
                message = line.receive(SILENT_SECONDS)
            except TimeoutError:
                message = None
                text = f"{peer} has not been heard of for {SILENT_SECONDS:g} s"
            except ValueError:
                message = None
            if message is not None and "done" in message:
                return
            if message is not None and "ended" in message:
                text, again = str(message["ended"]), bool(message["again"])
            elif message is not None:
                for hear in self.hearers:
                    hear(message)
                continue
            if self._over.is_set():
                return
            self.tell(text, again, but=index)
            self._missed(text, again)
            return
