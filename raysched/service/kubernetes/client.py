"""A Kubernetes cluster, reached with the rights of whoever calls: the package's only door to its client library.

Every failure is told in words: StudyError where what was asked is refused, MissingError for all that is not there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raysched.errors import MissingError, RayschedError
from raysched.service.kubernetes.log_lines import Place, after
from raysched.service.kubernetes.pod_state import Pod, read_pod
from raysched.service.kubernetes.refusals import Absent, Asked, Gone, Lost, explained, shown, unreachable

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"
CONNECT_S = 10.0
ANSWER_S = 60.0
WATCH_S = 120
"""A watch is begun anew after so long, however quiet: a connection that died in silence is noticed."""
AGAIN_S = 1.0
LOST_S = 300.0
"""A cluster that has not answered for so long is given up."""
MANAGER = "raysched"
MERGE = "application/merge-patch+json"
EXTRA = "pip install 'raysched[kubernetes]'"
Manifest = dict[str, Any]


class Cluster:
    """One namespace of a cluster, as kubeconfig names it (`context`), or the one that this process runs in.

    `server` is its address. `sleep` and `clock` are those of `time`.

    Raises:
        MissingError: no client library is installed here, or no cluster is configured.
    """

    def __init__(
        self,
        namespace: str,
        context: str | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.namespace, self.context, self.sleep, self.clock = namespace, context, sleep, clock
        self._api, self.server = _connect(context)
        from kubernetes import client

        self._custom: Any = client.CustomObjectsApi(self._api)
        self._core: Any = client.CoreV1Api(self._api)

    def close(self) -> None:
        self._api.close()

    def create(self, body: Manifest, *, dry_run: bool = False) -> Manifest:
        """Create a RayJob, or a ConfigMap; every field that the server does not know is refused.

        With `dry_run` the server only says whether it would: schema, admission, rights and quota.

        Raises:
            Taken: an object of this name is there.
        """
        name = str(body["metadata"]["name"])
        options: dict[str, Any] = {"field_validation": "Strict", "field_manager": MANAGER}
        options |= {"dry_run": "All"} if dry_run else {}
        if body["kind"] == "RayJob":
            asked = self._asked("create", PLURAL, name)
            create = self._custom.create_namespaced_custom_object
            return self._call(asked, create, *self._rayjobs(), body, **options)
        asked = self._asked("create", "configmaps", name)
        return self._call(asked, self._core.create_namespaced_config_map, self.namespace, body, **options)

    def config_map(self, name: str) -> Manifest | None:
        """None where there is none (any more)."""
        with contextlib.suppress(Absent):
            read = self._core.read_namespaced_config_map
            return self._call(self._asked("get", "configmaps", name), read, name, self.namespace)
        return None

    def rayjobs(self, selector: str) -> list[Manifest]:
        """Those with these labels."""
        answer = self._call(
            self._asked("list", PLURAL),
            self._custom.list_namespaced_custom_object,
            *self._rayjobs(),
            label_selector=selector,
        )
        return list(answer["items"])

    def rayjob(self, name: str) -> Manifest | None:
        """None where there is none (any more)."""
        with contextlib.suppress(Absent):
            get = self._custom.get_namespaced_custom_object
            return self._call(self._asked("get", PLURAL, name), get, *self._rayjobs(), name)
        return None

    def suspend(self, name: str, suspended: bool) -> Manifest:
        """Set its `spec.suspend`: KubeRay takes its cluster away, or makes it a new one."""
        asked, patch = self._asked("patch", PLURAL, name), self._custom.patch_namespaced_custom_object
        body = {"spec": {"suspend": suspended}}
        options = {"field_manager": MANAGER, "field_validation": "Strict", "_content_type": MERGE}
        return self._call(asked, patch, *self._rayjobs(), name, body, **options)

    def delete(self, name: str, uid: str) -> None:
        """Delete this RayJob, and in its wake all that belongs to it; one that is gone is fine.

        Its cluster goes after it: KubeRay holds it until it has asked Ray to stop the driver.
        """
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        with contextlib.suppress(Absent):
            delete = self._custom.delete_namespaced_custom_object
            self._call(self._asked("delete", PLURAL, name), delete, *self._rayjobs(), name, body=body)

    def watch(self, name: str, until: float | None = None) -> Iterator[Manifest | None]:
        """A RayJob as it is, and again at each change; None once it is gone, which ends it. So does `until`, a time.

        Whatever breaks a watch (a lost connection, a forgotten version, silence), it is listed anew, and goes on.
        """
        lost: float | None = None
        while True:
            try:
                found, version = self._list_one(name)
                yield found
                lost = None
                if found is None or (until is not None and self.clock() >= until):
                    return
                for event in self._events(name, version, until):
                    if event["type"] == "DELETED":
                        yield None
                        return
                    yield dict(event["object"])
            except Gone:
                continue
            except Lost:
                lost = self.clock() if lost is None else lost
                if self.clock() - lost > LOST_S or (until is not None and self.clock() >= until):
                    raise
                self.sleep(AGAIN_S)

    def pods(self, selector: str) -> list[Pod]:
        """Those with these labels, the oldest first."""
        asked, ask = self._asked("list", "pods"), self._core.list_namespaced_pod
        answer = self._call(asked, ask, self.namespace, label_selector=selector)
        found = [read_pod(pod) for pod in answer["items"]]
        return sorted(found, key=lambda pod: (pod.created, pod.name))

    def log(self, pod: str, most: int | None = None) -> list[str]:
        """The lines that a pod has printed, or its last ones; none before it starts, and once it is gone."""
        options = {} if most is None else {"tail_lines": most}
        with contextlib.suppress(Absent), self._log(pod, **options) as answer:
            return [line.decode(errors="replace").rstrip("\n") for line in answer.data.splitlines()]
        return []

    def follow(self, pod: str, place: Place) -> Iterator[str]:
        """The lines that a pod prints from `place` on, until its end or until the connection breaks.

        Raises:
            Lost: it broke, or nothing came for long: go on with the same `place`.
        """
        try:
            with self._log(pod, follow=True, timestamps=True) as answer:
                yield from after(place, answer)
        except Absent:
            return

    def _list_one(self, name: str) -> tuple[Manifest | None, str]:
        answer = self._call(
            self._asked("list", PLURAL),
            self._custom.list_namespaced_custom_object,
            *self._rayjobs(),
            field_selector=f"metadata.name={name}",
        )
        return next((dict(item) for item in answer["items"]), None), str(answer["metadata"]["resourceVersion"])

    def _events(self, name: str, version: str, until: float | None) -> Iterator[Mapping[str, Any]]:
        from kubernetes import watch

        left = WATCH_S if until is None else max(1, min(WATCH_S, math.ceil(until - self.clock())))
        with self._told(self._asked("watch", PLURAL, name)):
            for event in watch.Watch().stream(
                self._custom.list_namespaced_custom_object,
                *self._rayjobs(),
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=left,
                allow_watch_bookmarks=True,
                _request_timeout=(CONNECT_S, left + ANSWER_S),
            ):
                if event is not None and event["type"] != "BOOKMARK":
                    yield event

    def _log(self, pod: str, **options: Any) -> contextlib.AbstractContextManager[Any]:
        read = self._core.read_namespaced_pod_log
        return self._open(self._asked("get", "pods/log", pod), read, pod, self.namespace, **options)

    def _rayjobs(self) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, PLURAL

    def _asked(self, verb: str, resource: str, name: str = "") -> Asked:
        return Asked(verb=verb, resource=resource, namespace=self.namespace, name=name)

    def _call(self, asked: Asked, function: Callable[..., Any], *arguments: Any, **options: Any) -> Manifest:
        """What is answered as it is. The library's own models refuse whatever is newer than they are."""
        with self._open(asked, function, *arguments, **options) as answer:
            return dict(json.loads(answer.data))

    @contextlib.contextmanager
    def _open(self, asked: Asked, function: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        with self._told(asked):
            limits = (CONNECT_S, ANSWER_S)
            answer = function(*arguments, _preload_content=False, _request_timeout=limits, **options)
            try:
                if not 200 <= answer.status < 300:
                    raise _said(explained(answer.status, answer.data.decode(errors="replace"), asked))
                yield answer
            finally:
                answer.close()

    @contextlib.contextmanager
    def _told(self, asked: Asked) -> Iterator[None]:
        """Turn whatever the server, the network or the client library raise into an error in words."""
        from kubernetes import client
        from urllib3.exceptions import HTTPError

        try:
            yield
        except client.ApiException as error:  # its own text holds headers, and whatever was sent
            body = error.body if error.body is not None else str(error.reason or "")
            raise _said(explained(error.status, body, asked)) from None
        except (HTTPError, OSError) as error:
            raise unreachable(self.server, error) from None


def _said(error: RayschedError | Gone) -> Exception:
    return error


def _connect(context: str | None) -> tuple[Any, str]:
    """A client of the configured cluster, and its address without credentials."""
    try:
        from kubernetes import client, config
    except ImportError:
        raise MissingError("the client of Kubernetes is not installed", hint=EXTRA) from None
    settings = client.Configuration()
    settings.retries = False  # a broken connection is told, and gone on from, here
    try:
        if _in_cluster(context):
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(_kubeconfig(), context, client_configuration=settings)
    except config.ConfigException as error:
        raise MissingError(
            f"no cluster is configured: {shown(str(error))}",
            key="--context",
            hint="name a kubeconfig in KUBECONFIG; `kubectl config get-contexts` lists its contexts",
        ) from None
    except Exception as error:  # a kubeconfig that is damaged: YAML, base64, missing files
        raise MissingError(
            f"the kubeconfig cannot be read: {type(error).__name__}", key="KUBECONFIG", hint="kubectl config view"
        ) from None
    parts = urlsplit(settings.host)
    return client.ApiClient(settings), f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


def _kubeconfig() -> str:
    """As the environment names it now; the library knows only how it was when it was imported."""
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _in_cluster(context: str | None) -> bool:
    """Whether this process runs in a pod and was given no kubeconfig."""
    there = any(Path(file).expanduser().exists() for file in _kubeconfig().split(os.pathsep) if file)
    return context is None and not there and "KUBERNETES_SERVICE_HOST" in os.environ
