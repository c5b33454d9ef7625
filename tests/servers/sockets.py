"""Servers that err below HTTP: they say nothing, or break off."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Counting:
    """A server at ``host`` (``127.0.0.1:port``)."""

    host: str
    connections: list[socket.socket] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def answering(*answers: bytes, close: bool = True) -> Iterator[Counting]:
    """Answer the first request of each connection with the next of ``answers``, and ``close`` it.

    Once there are none left, connections are kept open and nothing is said.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Counting(f"127.0.0.1:{listening.getsockname()[1]}")
        left = list(answers)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                server.connections.append(connection)
                if left:
                    server.requests.append(connection.recv(1 << 16))
                    connection.sendall(left.pop(0))
                    if close:
                        connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in server.connections:
                connection.close()
