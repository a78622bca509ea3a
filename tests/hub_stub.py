"""A small, real HTTP server that answers as the Hugging Face hub does."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest


class HubStub:
    """Repositories by `(kind, name)`: `{"sha", "refs": {branch: sha}, "files": {name: bytes}, "gated", "error"}`."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[str] = []
        self.fail_next: list[int] = []
        self.created: dict[str, bool] = {}
        """Repositories that a client made: name -> private."""
        self.refuse_writing = False
        self.url = ""

    def add(self, kind: str, name: str, files: dict[str, bytes], *, ref: str = "main", gated: bool = False) -> str:
        """Puts a repository there and gives the commit of `ref`."""
        content = [(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items())]
        sha = hashlib.sha1(json.dumps([kind, name, content]).encode()).hexdigest()
        repository = self.repositories.setdefault((kind, name), {"refs": {}, "commits": {}, "gated": gated})
        repository["refs"][ref] = sha
        repository["commits"][sha] = files
        return sha

    def downloads(self) -> list[str]:
        return [request for request in self.requests if request.startswith("GET") and "/resolve/" in request]


def _handler(stub: HubStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            stub.requests.append(f"POST {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if stub.refuse_writing or not self.headers.get("Authorization"):
                return self.send(403, b'{"error": "no right to write"}')
            name = "/".join(path.strip("/").split("/")[2:4])
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                stub.created[name] = asked.get("private", False)
                stub.add("model", name, {})
                return self.say({"url": f"{stub.url}/{name}", "name": name})
            if path.endswith("/preupload/main"):
                files = [file["path"] for file in json.loads(body)["files"]]
                return self.say({"files": [{"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files]})
            if path.endswith("/commit/main"):
                lines = [json.loads(line) for line in body.splitlines()]
                given = [line["value"] for line in lines if line["key"] == "file"]
                sha = stub.add("model", name, {one["path"]: base64.b64decode(one["content"]) for one in given})
                return self.say({"commitUrl": f"{stub.url}/{name}/commit/{sha}", "commitOid": sha, "success": True})
            self.say({"errors": [], "warnings": []})  # the card's front matter is checked before

        def say(self, value: Any) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            stub.requests.append(f"{self.command} {path}")
            if stub.fail_next:
                return self.send(stub.fail_next.pop(0), b"{}")
            parts = path.strip("/").split("/")
            if parts[0] == "api":
                return self.information(parts[1].removesuffix("s"), "/".join(parts[2:4]), "/".join(parts[5:]) or "main")
            kind = "dataset" if parts[0] == "datasets" else "model"
            parts = parts[1:] if kind == "dataset" else parts
            self.file(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))

        def commit(self, kind: str, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
            repository = stub.repositories.get((kind, name))
            if repository is None:
                self.send(401, b'{"error": "Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
                return None
            sha = repository["refs"].get(revision, revision)
            if sha not in repository["commits"]:
                self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return None
            return sha, repository["commits"][sha]

        def information(self, kind: str, name: str, revision: str) -> None:
            found = self.commit(kind, name, revision)
            if found is not None:
                value = {"id": name, "sha": found[0], "siblings": [{"rfilename": file} for file in found[1]]}
                self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def file(self, kind: str, name: str, revision: str, file: str) -> None:
            found = self.commit(kind, name, revision)
            if found is None:
                return
            if stub.repositories[kind, name]["gated"]:
                return self.send(403, b"{}", {"X-Error-Code": "GatedRepo"})
            if file not in found[1]:
                return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
            content = found[1][file]
            etag = hashlib.sha256(content).hexdigest()
            self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": found[0], "Accept-Ranges": "bytes"})

        def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for header, value in (headers or {}).items():
                self.send_header(header, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


@contextmanager
def serve() -> Iterator[HubStub]:
    stub = HubStub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def private_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No proxy, no token, no offline switch, and a cache below `folder`, whatever the environment says."""
    import huggingface_hub.constants
    from huggingface_hub.utils import _http

    for name in (
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(folder / "token"))
    _http.reset_sessions()
