"""An HTTP proxy on loopback that fails as networks and servers do; what it does can be changed at any moment."""

from __future__ import annotations

import base64
import http.client
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, get_args
from urllib.parse import urlsplit

Mode = Literal["pass", "error", "drop", "lose", "hole", "slow"]
MODES: tuple[Mode, ...] = get_args(Mode)
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Proxy:
    """Between a client and the server at `upstream`.

    pass   answers as the server does
    error  500, and the server hears nothing
    drop   the connection is closed, and the server hears nothing
    lose   the server does it, and its answer is lost
    hole   no answer, ever; the server hears nothing
    slow   the answer comes `latency_s` later
    """

    def __init__(self, upstream: str, *, latency_s: float = 2.0, password: tuple[str, str] | None = None) -> None:
        """With `password` (user, password) others get 401, as from an MLflow server with basic authentication."""
        self.upstream, self.latency_s = urlsplit(upstream), latency_s
        self.mode: Mode = "pass"
        self.seen: Counter[str] = Counter()
        """Requests by mode."""
        self.over = threading.Event()
        token = base64.b64encode(":".join(password).encode()).decode() if password else ""
        self.authorization = f"Basic {token}" if password else None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        assert self.upstream.hostname
        connection = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port or 80, timeout=60)
        try:
            connection.request(method, path, body, headers | {"Host": self.upstream.netloc})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        proxy, mode = self.proxy, self.proxy.mode
        proxy.seen[mode] += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = mode != "pass"
        if proxy.authorization not in (None, self.headers.get("Authorization")):
            return self._answer(401, [("WWW-Authenticate", "Basic")], b"You are not authenticated.")
        if mode == "hole":
            proxy.over.wait(60)
            return None
        if mode == "drop":
            return None
        if mode == "error":
            return self._answer(500, [], b"made up")
        if mode == "slow" and proxy.over.wait(proxy.latency_s):
            return None
        try:
            status, headers, content = proxy.forward(self.command, self.path, dict(self.headers), body)
        except OSError:
            self.close_connection = True  # the server is away
            return None
        return None if mode == "lose" else self._answer(status, headers, content)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        try:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the client has given up

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
