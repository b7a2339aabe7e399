"""One page, shown to this machine only, for as long as it is open.

The server listens on 127.0.0.1, at an address that cannot be guessed, and answers nobody who came by another name: a
page of somebody else's that has its name point here is told nothing. The page keeps a connection open; when the last
one has ended, it has been closed.
"""

from __future__ import annotations

import secrets
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

HOST = "127.0.0.1"
LIVE = "open"
"""Where a page keeps its connection, beside its own address."""
_BEAT = 0.5
"""s between two signs of life; one that is not taken says that the page is gone."""
GRACE = 3.0
"""s without a connection after which the page counts as closed: to load it again takes less."""


class PageServer:
    """Serves one page.

    Parameters
    ----------
    text : str
        The page; it opens an event stream at `LIVE`.
    port : int
        0: one that is free.
    grace : float
        s without an open page after which `wait` returns.

    Raises
    ------
    OSError
        The port is taken.
    """

    def __init__(self, text: str, port: int = 0, grace: float = GRACE) -> None:
        self._grace = grace
        self._connections, self._seen, self._last = 0, False, time.monotonic()
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._path = f"/{secrets.token_urlsafe(24)}/"
        names: set[str] = set()
        given = {"page": text.encode(), "home": self._path, "names": names, "owner": self}
        self._server = ThreadingHTTPServer((HOST, port), type("Handler", (_Handler,), given))
        self._server.daemon_threads = True
        names.update(f"{name}:{self._server.server_port}" for name in (HOST, "localhost"))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self._server.server_port}{self._path}"

    def wait(self) -> None:
        """Return once the page has been opened and closed."""
        while not self._closed():
            time.sleep(0.1)

    def close(self) -> None:
        """Answer nobody any more."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, handler: BaseHTTPRequestHandler) -> None:
        """Keep the connection of an open page until it ends."""
        with self._lock:
            self._connections, self._seen = self._connections + 1, True
        try:
            while not self._ended.wait(_BEAT):
                handler.wfile.write(b":\n\n")
        except OSError:
            pass  # the page is gone
        finally:
            with self._lock:
                self._connections, self._last = self._connections - 1, time.monotonic()

    def _closed(self) -> bool:
        with self._lock:
            return self._seen and not self._connections and time.monotonic() - self._last > self._grace


class _Handler(BaseHTTPRequestHandler):
    """Answers whoever came by the right name to the right address."""

    page: ClassVar[bytes]
    home: ClassVar[str]
    names: ClassVar[set[str]]
    owner: ClassVar[PageServer]
    server_version, sys_version = "slicesplat", ""

    def do_GET(self) -> None:
        """The page, or its event stream."""
        if self.headers.get("Host") not in self.names:
            self.send_error(HTTPStatus.FORBIDDEN)
        elif secrets.compare_digest(self.path, self.home):
            self._begin("text/html; charset=utf-8", len(self.page))
            self.wfile.write(self.page)
        elif secrets.compare_digest(self.path, self.home + LIVE):
            self._begin("text/event-stream", None)
            self.owner.hold(self)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _begin(self, kind: str, length: int | None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in (
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is asked for is nobody's business, and the terminal is for messages."""
