"""The HTTP half of the double of a cluster: paths, verbs, selectors, watches and logs of the Kubernetes API."""

from __future__ import annotations

import contextlib
import copy
import http.server
import json
import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from tests.service.kubernetes.simulated import Operator

PATH = re.compile(r"/(?:apis/ray\.io/v1|api/v1)/namespaces/([^/]+)/(rayjobs|configmaps|pods)(?:/([^/]+))?(/log)?")
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Answer:
    code: int
    body: dict[str, Any] | str


def status(code: int, reason: str, message: str) -> Answer:
    return Answer(
        code,
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code},
    )


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    cluster: Operator
    token: str

    def __init__(self, *arguments: Any) -> None:
        self.open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Let go of connections that a client keeps for its next request."""
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is none of our errors."""


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _serve(self) -> None:
        cluster, url = self.server.cluster, urlsplit(self.path)
        asked = dict(parse_qsl(url.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with cluster.changed:
            answer = self._answer(cluster, url.path, asked, body)
        if answer is not None:
            self._send(answer)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def _answer(self, cluster: Operator, path: str, asked: dict[str, str], body: Any) -> Answer | None:
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return status(401, "Unauthorized", "Unauthorized")
        if (found := PATH.fullmatch(path)) is None:
            return Answer(404, "404 page not found\n")
        namespace, resource, name, log = found.groups()
        verb = VERBS.get(self.command) or ("watch" if asked.get("watch") else "get" if name else "list")
        resource_name = resource + (log or "")
        cluster.requests.append((verb, resource_name, asked, body))
        left, refusal = cluster.refusals.get((verb, resource_name), (0, None))
        if refusal is not None and left:
            cluster.refusals[verb, resource_name] = (left - 1, refusal)
            return refusal
        if namespace != "raysched":
            return self._foreign(namespace, resource, verb)
        if log:
            return self._log(cluster, name, asked)
        if verb == "create":
            made = cluster.create(resource, body, asked.get("dryRun") == "All")
            return made if isinstance(made, Answer) else Answer(201, made)
        if verb == "watch":
            return self._watch(cluster, asked)
        kept: dict[str, Any] = getattr(cluster, resource)
        if verb == "list":
            return self._list(cluster, resource, kept, asked)
        if name not in kept:
            return status(404, "NotFound", f'{resource} "{name}" not found')
        return self._one(cluster, kept[name], resource, verb, body)

    def _foreign(self, namespace: str, resource: str, verb: str) -> Answer:
        if verb == "create":
            return status(404, "NotFound", f'namespaces "{namespace}" not found')
        return status(
            403, "Forbidden",
            f'{resource} is forbidden: User "dev" cannot {verb} resource "{resource}" in API group "ray.io" '
            f'in the namespace "{namespace}"',
        )  # fmt: skip

    def _one(self, cluster: Operator, one: dict[str, Any], resource: str, verb: str, body: Any) -> Answer:
        if verb == "patch":
            if self.headers["Content-Type"] != MERGE:
                return status(
                    415, "UnsupportedMediaType", f"the body of the request was in {self.headers['Content-Type']}"
                )
            one["spec"] |= body["spec"]
            cluster.write(one)
        if verb == "delete":
            if body.get("preconditions", {}).get("uid") not in (None, one["metadata"]["uid"]):
                return status(409, "Conflict", "the UID in the precondition does not match")
            cluster.delete(one)
        if verb == "get" and resource == "rayjobs":
            cluster.seen(one)
        return Answer(200, copy.deepcopy(one))

    def _list(self, cluster: Operator, resource: str, kept: dict[str, Any], asked: dict[str, str]) -> Answer:
        found = [one for one in kept.values() if _selected(one, asked)]
        if resource == "rayjobs":
            for one in found:
                cluster.seen(one)
        if resource == "pods" and cluster.linger and not cluster.rayjobs:
            cluster.linger -= 1
            if not cluster.linger:
                kept.clear()
        metadata = {"resourceVersion": str(cluster.version)}
        return Answer(200, {"kind": "List", "metadata": metadata, "items": copy.deepcopy(found)})

    def _watch(self, cluster: Operator, asked: dict[str, str]) -> Answer | None:
        """Stream what happens from a version on. Called with the lock, which waiting gives back."""
        seen, end = int(asked["resourceVersion"]), time.monotonic() + float(asked["timeoutSeconds"])
        self._begin("application/json")
        if cluster.gone_watches:
            cluster.gone_watches -= 1
            self._event("ERROR", status(410, "Expired", f"too old resource version: {seen}").body)
            return self._finish()
        self._event("BOOKMARK", {"kind": "RayJob", "metadata": {"resourceVersion": str(seen)}})
        while not cluster.closed and time.monotonic() < end:
            for version, kind, one in [
                event for event in cluster.events if event[0] > seen and _selected(event[2], asked)
            ]:
                if cluster.cut_watches:
                    cluster.cut_watches -= 1
                    return self._cut()
                if self._event(kind, one):
                    cluster.seen(one)
                seen = version
            cluster.changed.wait(min(0.2, max(0.0, end - time.monotonic())))
        return self._finish()

    def _log(self, cluster: Operator, name: str, asked: dict[str, str]) -> Answer | None:
        if name not in cluster.pods:
            return status(404, "NotFound", f'pods "{name}" not found')
        if cluster.pods[name]["status"]["phase"] == "Pending":
            return status(400, "BadRequest", f'container "ray" in pod "{name}" is waiting to start: ContainerCreating')
        lines, sent = cluster.logs.get(name, []), 0
        cut = cluster.cut_logs.pop(0) if asked.get("follow") and cluster.cut_logs else None
        first = max(0, len(lines) - int(asked["tailLines"])) if "tailLines" in asked else 0
        self._begin("text/plain")
        while True:
            for number, line in list(enumerate(lines))[first + sent :]:
                if sent == cut:
                    return self._cut()
                stamp = f"2026-11-21T10:01:00.{number // 2:09}Z " if asked.get("timestamps") else ""  # two share one
                self._chunk(f"{stamp}{line}\n")
                sent += 1
            over = name not in cluster.pods or cluster.pods[name]["status"]["phase"] != "Running"
            if over or not asked.get("follow") or cluster.closed:
                return self._finish()
            if job := cluster.rayjobs.get(cluster.pods[name]["metadata"]["labels"].get("job-name")):
                cluster.seen(job)  # who reads a log to its end reads no states meanwhile
            cluster.changed.wait(0.2)

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _event(self, kind: str, one: Any) -> bool:
        return self._chunk(json.dumps({"type": kind, "object": one}) + "\n")

    def _chunk(self, text: str) -> bool:
        """Whether somebody is there who takes it."""
        part = text.encode()
        try:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()
        except OSError:
            self.close_connection = True
            return False
        return True

    def _finish(self) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")

    def _cut(self) -> None:
        """As a load balancer does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, answer: Answer) -> None:
        content = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        self.send_response(answer.code)
        self.send_header("Content-Type", "text/plain" if isinstance(answer.body, str) else "application/json")
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _selected(one: dict[str, Any], asked: dict[str, str]) -> bool:
    for part in filter(None, asked.get("labelSelector", "").split(",")):
        key, _, value = part.partition("=")
        labels = one["metadata"].get("labels", {})
        if key not in labels or (value and labels[key] != value):
            return False
    name = asked.get("fieldSelector", "").partition("metadata.name=")[2]
    return not name or one["metadata"]["name"] == name
