"""What a sweep asks of a Kubernetes cluster: validated first, and bounded by what its plan can use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from raysched import __version__
from raysched.errors import StudyError
from raysched.service.submit import holds_secret
from raysched.study.messages import raise_all
from raysched.study.values import refused

NAMESPACE = "raysched"
CLAIM, MOUNT = "raysched-storage", "/storage"
SWEEPS = f"{MOUNT}/sweeps"
"""Where sweeps are kept unless `--storage` says otherwise."""
NAMESPACED = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
FOLDER = r"^(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$"
DNS_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
LABEL_NAME = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
IMAGE = r"^[a-z0-9]([-a-z0-9._:/]{0,254}[A-Za-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$"
IN_WORDS = {
    DNS_NAME: "must be a name of lower-case letters, digits, - and .",
    NAMESPACED: "must be a name of at most 63 lower-case letters, digits and -",
    IMAGE: "must be REGISTRY/NAME:TAG, or ...@sha256:DIGEST",
    FOLDER: "must be an absolute path of letters, digits and . _ -",
}
"""What each pattern asks for."""
MEMORY = re.compile(r"([1-9][0-9]{0,5})(Mi|Gi|Ti)")
BYTES = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
OWN = ("ray.io/", "raysched.io/", "kueue.x-k8s.io/", "app.kubernetes.io/")
"""Beginnings of labels that are set here or by an operator."""
SHELL_SAFE = re.compile(r"[A-Za-z0-9_./:=,@%+-]+")

SHORTER = {"spot_node_selector": "spot_selector", "gpu_tolerations": "gpu_toleration", "labels": "label"} | {
    "spot_tolerations": "spot_toleration",
    "tolerations": "toleration",
}
"""Options that are not called as their field."""

DnsName = Annotated[str, Field(pattern=DNS_NAME)]
Count = Annotated[int, Field(ge=0, le=1000)]
Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
Labels = dict[str, str]


class Toleration(BaseModel):
    """A taint that a pod may run beside, written as `kubectl taint` writes it: KEY[=VALUE][:EFFECT]."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    key: str
    value: str | None = None
    effect: str | None = None

    @classmethod
    def parse(cls, text: str) -> Toleration:
        """Raises ValueError where it is none."""
        left, colon, effect = text.partition(":")
        key, equals, value = left.partition("=")
        if not LABEL_NAME.fullmatch(key) or not LABEL_VALUE.fullmatch(value) or (colon and effect not in EFFECTS):
            raise ValueError(f"must be KEY[=VALUE][:EFFECT], EFFECT one of {', '.join(EFFECTS)}, but got {text!r}")
        return cls(key=key, value=value if equals else None, effect=effect or None)

    def manifest(self) -> dict[str, str]:
        found = {"key": self.key, "operator": "Exists" if self.value is None else "Equal"}
        found |= {} if self.value is None else {"value": self.value}
        return found | ({} if self.effect is None else {"effect": self.effect})


class ClusterOptions(BaseModel):
    """The options of `raysched render` and `raysched submit --kubernetes`. Make one with `cluster_options`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    namespace: Annotated[str, Field(pattern=NAMESPACED)] = NAMESPACE
    image: Annotated[str, Field(pattern=IMAGE)] | None = None
    """None: raysched's own of this version, for GPU or CPU."""
    image_pull_secret: DnsName | None = None
    gpus: Count = 0
    """Whole GPUs of a worker pod; 0: its runs use the CPU."""
    gpu_resource: str = "nvidia.com/gpu"
    workers: Annotated[int, Field(ge=0, le=1000)] = 4
    """Most on-demand worker pods; fewer where the plan cannot use so many."""
    min_workers: Count = 0
    """Worker pods that autoscaling keeps."""
    spot_workers: Count = 0
    """Most worker pods on nodes that may be taken away."""
    node_selector: Labels = {}
    spot_node_selector: Labels = {}
    tolerations: tuple[Toleration, ...] = ()
    """Of every worker."""
    gpu_tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu", effect="NoSchedule"),)
    spot_tolerations: tuple[Toleration, ...] = ()
    worker_cpu: Annotated[int, Field(ge=1, le=1024)] = 4
    worker_memory: str = "16Gi"
    head_cpu: Annotated[int, Field(ge=1, le=1024)] = 2
    head_memory: str = "8Gi"
    queue: DnsName | None = None
    """A LocalQueue of Kueue."""
    priority_class: DnsName | None = None
    """With a queue a WorkloadPriorityClass of Kueue, else the pods' PriorityClass."""
    autoscale: bool = False
    elastic: bool = False
    """Kueue's gate ElasticJobsViaWorkloadSlices is on, so that a queue and autoscaling go together."""
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 3
    """Clusters that are made anew, each continuing the sweep, where its head was lost."""
    deadline_s: Seconds | None = None
    pre_running_deadline_s: Seconds | None = None
    ttl_s: Annotated[int, Field(ge=0, le=31_536_000)] = 600
    claim: DnsName | None = CLAIM
    """A PersistentVolumeClaim (ReadWriteMany), mounted on every node at `mount`; None: an object store alone."""
    mount: Annotated[str, Field(pattern=FOLDER, max_length=200)] = MOUNT
    mlflow: str | None = "http://mlflow:5000"
    database: bool = True
    """The search is kept in PostgreSQL (Secret raysched-db); else in the sweep's folder."""
    service_account: DnsName = "raysched"
    offline: bool = True
    """Nothing is asked of the hub: `raysched prepare` has put everything on the claim."""
    labels: Labels = {}

    @field_validator("node_selector", "spot_node_selector", "labels")
    @classmethod
    def _labels(cls, given: Labels) -> Labels:
        for key, value in given.items():
            if not LABEL_NAME.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
                raise refused(f"must be KEY=VALUE as Kubernetes takes labels, but got {key + '=' + value!r}")
        return given

    @field_validator("labels")
    @classmethod
    def _not_ours(cls, given: Labels) -> Labels:
        if ours := next((key for key in given if key.startswith(OWN)), None):
            raise refused(f"must not set {ours}, which is set here or by an operator", hint="choose another key")
        return given

    @field_validator("worker_memory", "head_memory")
    @classmethod
    def _memory(cls, given: str) -> str:
        if not MEMORY.fullmatch(given):
            raise refused(f"must be a whole number of Mi, Gi or Ti, but got {given!r}", choices=["16Gi", "512Mi"])
        return given

    @field_validator("gpu_resource")
    @classmethod
    def _gpu_resource(cls, given: str) -> str:
        if "/" not in given or not LABEL_NAME.fullmatch(given):
            raise refused(
                f"must be a device plugin's resource, but got {given!r}", choices=["nvidia.com/gpu", "amd.com/gpu"]
            )
        return given

    @field_validator("image")
    @classmethod
    def _fixed_image(cls, given: str | None) -> str | None:
        if given is not None and moves(given):
            raise refused(
                f"must name one image for good, but got {given!r}",
                choices=["registry/raysched:1.0-cuda", "...@sha256:..."],
            )
        return given

    @field_validator("mlflow")
    @classmethod
    def _mlflow(cls, given: str | None) -> str | None:
        if given is not None and holds_secret(given):
            raise refused(
                "holds a password, and everybody who may read the manifest could read it",
                hint="leave it out: it comes from the Secret raysched-mlflow-auth",
            )
        if given is not None and not re.fullmatch(r"https?://[A-Za-z0-9][^\s\"'`$\\]*", given):
            raise refused("must be the address of an MLflow server", choices=["http://mlflow:5000"])
        return given

    @model_validator(mode="after")
    def _consistent(self) -> ClusterOptions:
        if self.queue is not None and self.autoscale and not self.elastic:
            raise refused(
                "cannot go with --queue: Kueue admits a job of a fixed size",
                key="autoscale",
                hint="leave one of them out, or add --elastic where Kueue's gate ElasticJobsViaWorkloadSlices is on",
            )
        if self.elastic and not (self.queue is not None and self.autoscale):
            raise refused("is for --queue with --autoscale", key="elastic", hint="leave it out")
        if self.workers + self.spot_workers == 0:
            raise refused("must leave at least one worker", key="workers", hint="--workers 1, or --spot-workers 1")
        if self.spot_workers and not (self.spot_node_selector or self.spot_tolerations):
            raise refused(
                "must say which nodes may be taken away",
                key="spot_workers",
                hint="--spot-selector KEY=VALUE (their label), or --spot-toleration KEY=VALUE:EFFECT (their taint)",
            )
        if self.min_workers and not self.autoscale:
            raise refused(
                "is for --autoscale: without it, all workers are kept", key="min_workers", hint="leave it out"
            )
        most = self.workers or self.spot_workers
        if self.autoscale and self.min_workers > most:
            raise refused(
                f"min_workers <= {most} must hold, but got {self.min_workers}",
                key="min_workers",
                hint=f"--min-workers {most}, or more --workers",
            )
        return self

    @property
    def image_name(self) -> str:
        return self.image or f"raysched:{__version__}-{'cuda' if self.gpus else 'cpu'}"

    @property
    def hub_home(self) -> str | None:
        """HF_HOME: on the claim, where `raysched prepare` fills it; else the image's, or one that is lost."""
        if self.claim is not None:
            return f"{self.mount}/hub"
        return None if self.offline else "/tmp/hub"


def cluster_options(options: Mapping[str, Any]) -> ClusterOptions:
    """The options, each under the name of its field.

    Raises:
        StudyError: some are malformed; each is named as on the command line, and all are told at once.
    """
    try:
        return ClusterOptions(**options)
    except ValidationError as error:
        found = error.errors(include_url=False)
    errors = []
    for one in found:
        context = one.get("ctx", {}) if one["type"] == "rule" else {}
        field = context.get("key") or str(one["loc"][0])
        given = "" if one["type"] == "rule" else f", but got {one['input']!r}"
        words = IN_WORDS.get(one.get("ctx", {}).get("pattern", ""), one["msg"])
        errors.append(
            StudyError(
                words[:1].lower() + words[1:] + given,
                key=option_name(field),
                choices=context.get("choices", ()),
                hint=context.get("hint") or None,
            )
        )
    raise_all(errors)


def option_name(field: str) -> str:
    """How a field is called on the command line."""
    return "--" + SHORTER.get(field, field.removesuffix("_s")).replace("_", "-")


def parse_labels(option: str, given: Sequence[str]) -> Labels:
    """KEY=VALUE, several times. Raises StudyError."""
    labels: Labels = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key in labels:
            what = "given twice" if key in labels else f"must be KEY=VALUE, but got {text!r}"
            raise StudyError(what, key=option, hint=f"{option} {key or 'KEY'}=VALUE")
        labels[key] = value
    return labels


def parse_tolerations(option: str, given: Sequence[str]) -> tuple[Toleration, ...]:
    """KEY[=VALUE][:EFFECT], several times. Raises StudyError."""
    try:
        return tuple(Toleration.parse(text) for text in given)
    except ValueError as error:
        raise StudyError(
            str(error), key=option, choices=["spot=true:NoSchedule", "nvidia.com/gpu:NoSchedule"]
        ) from None


def moves(image: str) -> bool:
    """Whether the name of an image may be another image tomorrow."""
    return "@" not in image and image.rpartition("/")[2].partition(":")[2] in ("", "latest")


def bytes_of(memory: str) -> int:
    """Of a quantity such as 16Gi."""
    return int(memory[:-2]) * BYTES[memory[-2:]]
