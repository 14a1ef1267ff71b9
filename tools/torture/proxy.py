"""A TCP proxy between daemon and LDAP server that does what bad networks do.

It passes on whole LDAP messages (RFC 4511), so that a single modify can be held back, and let through when the daemon's
connection has long been cut.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Optional

# Operations (RFC 4511, section 4.2 and following): [APPLICATION number], constructed
ENTRY, SEARCH_DONE, MODIFY, MODIFY_RESPONSE = 0x64, 0x65, 0x66, 0x67
UP, DOWN = "up", "down"  # daemon to server, server to daemon


def element(data: bytes, at: int) -> Optional[tuple[int, int, int]]:
    """The BER element at an offset: its tag, and where its contents begin and end; None where it is not all there."""
    if len(data) < at + 2:
        return None
    length, start = data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        if len(data) < start + count:
            return None
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    return (data[at], start, start + length) if len(data) >= start + length else None


@dataclass(frozen=True)
class Message:
    """One LDAPMessage."""

    data: bytes
    number: int
    operation: int
    body: bytes

    @staticmethod
    def take(buffer: bytes) -> Optional[Message]:
        """The first message of what has come; None where it is not all there."""
        whole = element(buffer, 0)
        if whole is None:
            return None
        number = element(buffer, whole[1])
        assert number is not None
        operation = element(buffer, number[2])
        assert operation is not None
        return Message(
            buffer[: whole[2]], int.from_bytes(buffer[number[1] : number[2]], "big"), operation[0],
            buffer[operation[1] : operation[2]])

    def with_result(self, code: int) -> Message:
        """The same answer with another result code, of less than 128."""
        at = self.data.rindex(self.body) + 2  # behind tag and length of the result code, which comes first
        return replace(self, data=self.data[:at] + bytes([code]) + self.data[at + 1 :])

    def first(self) -> bytes:
        """The first element of the operation: the DN of a modify, the result code of an answer."""
        found = element(self.body, 0)
        assert found is not None
        return self.body[found[1] : found[2]]


class Link:
    """One connection of the daemon, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = socket.create_connection(("127.0.0.1", proxy.server_port), 5)
        self.server.settimeout(None)
        self.is_deaf = False
        self.is_detached = False
        self.answers: queue.Queue[Message] = queue.Queue()

    def begin(self) -> None:
        for source, target, direction in ((self.client, self.server, UP), (self.server, self.client, DOWN)):
            threading.Thread(target=self._pump, args=(source, target, direction), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        buffer = b""
        try:
            while data := source.recv(65536):
                buffer += data
                while message := Message.take(buffer):
                    buffer = buffer[len(message.data) :]
                    self._pass(message, target, direction)
        except OSError:
            pass
        if not (self.is_detached and direction == UP):
            self.cut()

    def _pass(self, message: Message, target: socket.socket, direction: str) -> None:
        self.proxy.wait_while_frozen(direction)
        if direction == DOWN and (lie := self.proxy.lie()) and message.operation == lie.operation:
            if lie.code is None:
                return
            message = message.with_result(lie.code)
        if direction == UP and message.operation == MODIFY and self.proxy.catches(self, message):
            return
        if direction == DOWN and (self.is_detached or self.is_deaf):
            self.answers.put(message)
        elif not self.proxy.swallows():
            target.sendall(message.data)

    def cut_client(self) -> None:
        """Cuts the daemon off; the server does not notice."""
        self.is_detached = True
        close(self.client)

    def cut(self) -> None:
        close(self.client)
        close(self.server)
        self.proxy.forget(self)


def close(connection: socket.socket) -> None:
    """Ends a connection, also for a thread that reads from it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


@dataclass
class Held:
    """A modify that was held back, of a connection that is cut since."""

    link: Link
    message: Message

    @property
    def dn(self) -> str:
        return self.message.first().decode()

    def release(self) -> Optional[int]:
        """Lets it through. Returns the server's result code; None where the server did not answer."""
        try:
            self.link.server.sendall(self.message.data)
            while True:
                answer = self.link.answers.get(timeout=5)
                if answer.number == self.message.number and answer.operation == MODIFY_RESPONSE:
                    return int.from_bytes(answer.first(), "big")
        except (OSError, queue.Empty):
            return None
        finally:
            self.link.cut()


@dataclass(frozen=True)
class Lie:
    """What the daemon is told instead of the server's answers."""

    operation: int
    code: Optional[int]  # the result code; None: such messages are left out


@dataclass
class Trap:
    """Waits for a modify of the daemon that contains `mark`."""

    mark: bytes
    holds: bool  # holds it back and cuts the daemon off; else passes it on and swallows the answer
    refuses: bool  # and lets the daemon not connect again, until `refuse(0)`
    caught: queue.Queue[Held]

    def wait(self, limit: float) -> Optional[Held]:
        try:
            return self.caught.get(timeout=limit)
        except queue.Empty:
            return None


class Proxy:
    """Listens on a port of its own and passes everything on, but for the faults that are asked for."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self._trap: Optional[Trap] = None
        self._frozen = {UP: 0.0, DOWN: 0.0}
        self._hole = 0.0
        self._lie: Optional[Lie] = None
        self._lie_ends = 0.0
        self._refuses = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if time.monotonic() < self._refuses:
                    raise OSError("refused")
                link = Link(self, client)
            except OSError:
                close(client)
                continue
            with self._lock:
                self._links.add(link)
            link.begin()

    # Faults

    def cut(self) -> None:
        """Cuts every connection."""
        with self._lock:
            links = list(self._links)
        for link in links:
            if not link.is_detached:
                link.cut()

    def refuse(self, seconds: float) -> None:
        """Cuts every connection, and takes none for a while."""
        self._refuses = time.monotonic() + seconds
        self.cut()

    def freeze(self, direction: str, seconds: float) -> None:
        """Holds back everything of one direction for a while; then all of it goes on."""
        self._frozen[direction] = time.monotonic() + seconds

    def swallow(self, seconds: float) -> None:
        """Loses everything for a while, without a word. To be followed by `cut`: half a conversation is none."""
        self._hole = time.monotonic() + seconds

    def tell(self, lie: Lie, seconds: float) -> None:
        """Answers otherwise than the server for a while, which does what it is asked to."""
        self._lie, self._lie_ends = lie, time.monotonic() + seconds

    def trap(self, mark: bytes, holds: bool, refuses: bool = False) -> Trap:
        """Sets a trap for the next modify; there is one at a time."""
        with self._lock:
            self._trap = Trap(mark, holds, refuses, queue.Queue())
            return self._trap

    def disarm(self) -> None:
        with self._lock:
            self._trap = None

    def close(self) -> None:
        close(self._listener)
        self.disarm()
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    # For links

    def wait_while_frozen(self, direction: str) -> None:
        while (rest := self._frozen[direction] - time.monotonic()) > 0:
            time.sleep(rest)

    def lie(self) -> Optional[Lie]:
        return self._lie if time.monotonic() < self._lie_ends else None

    def swallows(self) -> bool:
        return time.monotonic() < self._hole

    def catches(self, link: Link, message: Message) -> bool:
        """Whether a modify goes no further."""
        with self._lock:
            trap = self._trap
            if trap is None or trap.mark not in message.data:
                return False
            self._trap = None
        if trap.refuses:
            self._refuses = float("inf")
        if trap.holds:
            link.cut_client()
        else:
            link.is_deaf = True
        trap.caught.put(Held(link, message))
        return trap.holds

    def forget(self, link: Link) -> None:
        with self._lock:
            self._links.discard(link)
