"""The page is served to this machine only, at an address that cannot be guessed, until it is closed."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from slicesplat.report.serving import LIVE, PageServer


@pytest.fixture
def server() -> Iterator[PageServer]:
    made = PageServer("<p>seen</p>", grace=0.2)
    yield made
    made.close()


def asked(server: PageServer, path: str | None = None, host: str | None = None) -> http.client.HTTPResponse:
    """What the server answers."""
    where = urlsplit(server.address)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
    connection.request("GET", where.path if path is None else path, headers={"Host": host or where.netloc})
    return connection.getresponse()


def test_the_page_is_there_and_is_not_kept_by_anybody(server: PageServer) -> None:
    answer = asked(server)
    assert answer.status == 200 and answer.read() == b"<p>seen</p>"
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Frame-Options"] == "DENY"
    assert urlsplit(server.address).hostname == "127.0.0.1"


def test_nobody_gets_it_by_another_name_or_another_address(server: PageServer) -> None:
    where = urlsplit(server.address)
    for host in ("evil.example", f"evil.example:{where.port}", "127.0.0.1", f"127.0.0.1:{where.port + 1}"):
        answer = asked(server, host=host)
        assert answer.status == 403 and b"seen" not in answer.read()
    for path in ("/", "/index.html", where.path.rstrip("/"), where.path + "x", f"/{LIVE}"):
        answer = asked(server, path)
        assert answer.status == 404 and b"seen" not in answer.read()


def test_addresses_differ_and_are_long() -> None:
    servers = [PageServer("") for _ in range(2)]
    paths = [urlsplit(server.address).path for server in servers]
    for server in servers:
        server.close()
    assert paths[0] != paths[1] and min(map(len, paths)) > 30


def test_it_waits_for_as_long_as_the_page_is_open(server: PageServer) -> None:
    waiting = threading.Thread(target=server.wait, daemon=True)
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive(), "it has not been opened yet"
    answer = asked(server, urlsplit(server.address).path + LIVE)
    assert answer.status == 200 and answer.headers["Content-Type"] == "text/event-stream"
    time.sleep(1.0)
    assert waiting.is_alive()
    answer.close()
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_a_port_that_is_taken_is_an_error(server: PageServer) -> None:
    with pytest.raises(OSError):
        PageServer("", port=int(urlsplit(server.address).port or 0))
