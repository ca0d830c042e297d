"""A line between a run and its server on loopback that can be cut, as told."""

import contextlib
import socket
import threading
from collections.abc import Callable


class Line:
    """Passes bytes on, counts uploads, and may be away."""

    def __init__(self, server: int) -> None:
        """Listens on a port of its own.

        Args:
            server: port of the server on this machine.
        """
        self.away = False
        self.uploads = 0  # PUT requests that have begun
        self.on_upload: Callable[[int], None] = lambda count: None
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends all connections; as long as `away` is set no new one is answered."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            try:
                if self.away:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if up and data.startswith(b"PUT "):
                    self.uploads += 1
                    self.on_upload(self.uploads)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open -= {source, target}
