"""What an operator refuses although the schema takes it, and what sweeps must not be: checked before anything is sent.

The rules are those of KubeRay 1.7's code, of Kueue 0.19 for RayJobs, and raysched's own about security and recovery.
`RULES` holds all of them; whatever reads them reads this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysched.errors import StudyError
from raysched.service.kubernetes import cluster_rules as of_cluster
from raysched.service.kubernetes.names import DNS_LABEL
from raysched.service.kubernetes.options import SHELL_SAFE
from raysched.study.messages import raise_all
from raysched.study.yaml_text import parse

Found = Iterable[tuple[str, str]]
"""Where, and what is wrong there."""
LONGEST = {"RayJob": 47, "RayCluster": 53, "RayCronJob": 36}
MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
DELETIONS = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")
"""Policies, in the order in which they may come."""
MOST_GROUPS = 17
"""Worker groups that Kueue admits in one workload."""
QUEUE, PRIORITY, ELASTIC = (f"kueue.x-k8s.io/{name}" for name in ("queue-name", "priority-class", "elastic-job"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that a manifest breaks: its name in `RULES`, the place, what stands there, and what to do."""

    rule: str
    where: str
    what: str
    hint: str


@dataclass(frozen=True, slots=True)
class Rule:
    """`find` looks into a whole manifest of one of `kinds`."""

    name: str
    find: Callable[[Mapping[str, Any]], Found]
    hint: str
    kinds: tuple[str, ...] = ("RayJob",)


def check(manifest: Mapping[str, Any]) -> list[Broken]:
    """Every rule that a manifest breaks, in the table's order; of kinds without rules none."""
    kind = manifest.get("kind")
    return [
        Broken(rule=rule.name, where=where, what=what, hint=rule.hint)
        for rule in RULES
        if kind in rule.kinds
        for where, what in rule.find(manifest)
    ]


def refuse(manifests: Sequence[Mapping[str, Any]]) -> None:
    """Raises StudyError where a rule is broken; all of them are told at once."""
    broken = [one for manifest in manifests for one in check(manifest)]
    if broken:
        raise_all([StudyError(f"{one.what} (rule {one.rule})", key=one.where, hint=one.hint) for one in broken])


def cluster_of(manifest: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The cluster that a manifest describes, and where."""
    spec = _spec(manifest)
    if manifest.get("kind") == "RayCluster":
        return "spec", spec
    return "spec.rayClusterSpec", spec.get("rayClusterSpec") or {}


def _spec(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return manifest.get("spec") or {}


def _in_cluster(find: Callable[[Mapping[str, Any]], Found]) -> Callable[[Mapping[str, Any]], Found]:
    """A rule about a cluster as one about the manifest that holds it."""

    def whole(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        at, cluster = cluster_of(manifest)
        if cluster or manifest.get("kind") == "RayCluster":
            yield from ((f"{at}.{where}", what) for where, what in find(cluster))

    return whole


def _name(manifest: Mapping[str, Any]) -> Found:
    about, longest = manifest.get("metadata", {}), LONGEST[manifest["kind"]]
    name = about.get("name", "")
    if not name and "generateName" in about:
        name = f"{about['generateName']}xxxxx"  # an API server adds five characters
    if not DNS_LABEL.fullmatch(name) or len(name) > longest:
        yield "metadata.name", f"must be a DNS-1035 label of at most {longest} characters, but got {name!r}"


def _shutdown(manifest: Mapping[str, Any]) -> Found:
    spec = _spec(manifest)
    if not spec.get("shutdownAfterJobFinishes"):
        if spec.get("suspend"):
            yield "spec.suspend", "needs shutdownAfterJobFinishes: true"
        if spec.get("ttlSecondsAfterFinished"):
            yield "spec.ttlSecondsAfterFinished", "needs shutdownAfterJobFinishes: true"


def _one_cluster(manifest: Mapping[str, Any]) -> Found:
    spec = _spec(manifest)
    if bool(spec.get("rayClusterSpec")) == bool(spec.get("clusterSelector")):
        yield "spec", "must have exactly one of rayClusterSpec and clusterSelector"


def _selector(manifest: Mapping[str, Any]) -> Found:
    spec = _spec(manifest)
    if spec.get("clusterSelector"):
        for key in ("suspend", "backoffLimit"):
            if spec.get(key):
                yield f"spec.{key}", "cannot go with clusterSelector"
        if spec.get("submissionMode") == "SidecarMode":
            yield "spec.submissionMode", "SidecarMode cannot go with clusterSelector"


def _deletion(manifest: Mapping[str, Any]) -> Found:
    spec = _spec(manifest)
    given = (spec.get("deletionStrategy") or {}).get("deletionRules") or []
    at = "spec.deletionStrategy.deletionRules"
    if given and spec.get("shutdownAfterJobFinishes"):
        yield at, "cannot go with shutdownAfterJobFinishes"
    ttls: dict[tuple[str, str], dict[str, int]] = {}
    for one in given:
        policy, condition = str(one.get("policy")), one.get("condition") or {}
        if policy == "DeleteWorkers" and of_cluster.scales(cluster_of(manifest)[1]):
            yield at, "DeleteWorkers cannot go with autoscaling"
        if policy in ("DeleteWorkers", "DeleteCluster") and spec.get("clusterSelector"):
            yield at, f"{policy} cannot go with clusterSelector"
        key = next(((key, value) for key, value in condition.items() if key != "ttlSeconds"), ("", ""))
        if policy in ttls.setdefault(key, {}):
            yield at, f"must not repeat {policy} for {key[1]}"
        ttls[key][policy] = condition.get("ttlSeconds", 0)
    for (_, state), ttl in ttls.items():
        order = [ttl[policy] for policy in DELETIONS if policy in ttl]
        if order != sorted(order):
            yield at, f"for {state}, ttlSeconds must not fall from {' to '.join(DELETIONS)}"


def _mode(manifest: Mapping[str, Any]) -> Found:
    spec = _spec(manifest)
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode not in MODES:
        yield "spec.submissionMode", f"must be one of {', '.join(MODES)}, but got {mode!r}"
    if mode == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig"):
            if spec.get(key):
                yield f"spec.{key}", "cannot go with SidecarMode"
        at, cluster = cluster_of(manifest)
        if of_cluster.head_pod(cluster).get("restartPolicy", "Never") != "Never":
            yield f"{at}.headGroupSpec.template.spec.restartPolicy", "must be Never with SidecarMode"
    if mode == "InteractiveMode" and spec.get("backoffLimit"):
        yield "spec.backoffLimit", "cannot go with InteractiveMode"


def _numbers(manifest: Mapping[str, Any]) -> Found:
    for key, least in {
        "activeDeadlineSeconds": 1,
        "preRunningDeadlineSeconds": 1,
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": 0,
    }.items():
        value = _spec(manifest).get(key)
        if value is not None and value < least:
            yield f"spec.{key}", f"must be at least {least}, but got {value}"


def _runtime_env(manifest: Mapping[str, Any]) -> Found:
    text = _spec(manifest).get("runtimeEnvYAML")
    if text:
        try:
            parse(text, "spec.runtimeEnvYAML")
        except StudyError:
            yield "spec.runtimeEnvYAML", "must be YAML with keys and values"


def _entrypoint(manifest: Mapping[str, Any]) -> Found:
    """The operator pastes it into a shell's script, whose words Ray joins again for another shell."""
    words = str(_spec(manifest).get("entrypoint", "")).split(" ")
    unsafe = [word for word in words if not SHELL_SAFE.fullmatch(word)]
    if unsafe and _spec(manifest).get("submissionMode") != "InteractiveMode":
        yield "spec.entrypoint", f"must be words that no shell changes, but got {unsafe[0]!r}"


def _queued(manifest: Mapping[str, Any]) -> Found:
    about, spec = manifest.get("metadata", {}), _spec(manifest)
    if QUEUE not in about.get("labels", {}):
        return
    if not spec.get("shutdownAfterJobFinishes"):
        yield "spec.shutdownAfterJobFinishes", "must be true in a queue of Kueue"
    if spec.get("clusterSelector"):
        yield "spec.clusterSelector", "cannot be in a queue of Kueue"
    at, cluster = cluster_of(manifest)
    if (number := len(cluster.get("workerGroupSpecs") or [])) > MOST_GROUPS:
        yield f"{at}.workerGroupSpecs", f"Kueue admits at most {MOST_GROUPS} groups, but got {number}"
    if of_cluster.scales(cluster) and about.get("annotations", {}).get(ELASTIC) != "true":
        yield f"{at}.enableInTreeAutoscaling", f"in a queue of Kueue needs the annotation {ELASTIC}: 'true'"


def _no_k8s_tokens(manifest: Mapping[str, Any]) -> Found:
    at, cluster = cluster_of(manifest)
    if (cluster.get("authOptions") or {}).get("enableK8sTokenAuth"):
        yield f"{at}.authOptions.enableK8sTokenAuth", "is not supported for a RayJob"


def _recovers(manifest: Mapping[str, Any]) -> Found:
    at, cluster = cluster_of(manifest)
    if manifest.get("metadata", {}).get("annotations", {}).get("ray.io/ft-enabled"):
        yield "metadata.annotations", "ray.io/ft-enabled is not for sweeps: they recover from their records"
    if cluster.get("gcsFaultToleranceOptions"):
        yield f"{at}.gcsFaultToleranceOptions", "is not for sweeps: they recover from their records"


_IN = ("RayJob", "RayCluster")
RULES = (
    Rule("name", _name, "names.rayjob_name makes one", ("RayJob", "RayCluster", "RayCronJob")),
    Rule("shutdown", _shutdown, "set spec.shutdownAfterJobFinishes: true"),
    Rule("one-cluster", _one_cluster, "a sweep has a cluster of its own: rayClusterSpec"),
    Rule("selector", _selector, "use rayClusterSpec, or leave it out"),
    Rule("deletion", _deletion, "use shutdownAfterJobFinishes with ttlSecondsAfterFinished, or deletionRules"),
    Rule("mode", _mode, "use K8sJobMode"),
    Rule("numbers", _numbers, "leave it out for no limit"),
    Rule("runtime-env", _runtime_env, "write env_vars: {KEY: value}"),
    Rule("entrypoint", _entrypoint, "put what needs quotes into a file or an environment variable"),
    Rule("kueue", _queued, "use a fixed number of workers, or Kueue's ElasticJobsViaWorkloadSlices"),
    Rule("k8s-tokens", _no_k8s_tokens, "use authOptions.secretName"),
    Rule("recovery", _recovers, "use spec.backoffLimit"),
    Rule("auth", _in_cluster(of_cluster.authenticated), "authOptions: {mode: token, secretName: ...}", _IN),
    Rule("auth-version", _in_cluster(of_cluster.auth_version), "use a newer Ray", _IN),
    Rule("containers", _in_cluster(of_cluster.containers), "the first container is Ray's", _IN),
    Rule("restart", _in_cluster(of_cluster.restarts), "set restartPolicy: Never, or leave it out", _IN),
    Rule(
        "autoscaler-env", _in_cluster(of_cluster.autoscaler_env), "leave it out: autoscalerOptions.version says it", _IN
    ),
    Rule("autoscaler-v2", _in_cluster(of_cluster.needs_v2), "set autoscalerOptions.version: v2", _IN),
    Rule("replicas", _in_cluster(of_cluster.replicas), "0 <= minReplicas <= replicas <= maxReplicas", _IN),
    Rule("resources", _in_cluster(of_cluster.resources), "keep one of rayStartParams and resources", _IN),
    Rule("labels", _in_cluster(of_cluster.labels), "use the group's labels", _IN),
    Rule("groups", _in_cluster(of_cluster.groups), "give each group a DNS name of its own", _IN),
    Rule("gates", _in_cluster(of_cluster.gates), "its feature gate is off by default; see deploy/README.md", _IN),
    Rule("redis", _in_cluster(of_cluster.redis), "use gcsFaultToleranceOptions alone, or none of it", _IN),
    Rule("suspended-group", _in_cluster(of_cluster.suspended), "set maxReplicas: 0", _IN),
    Rule("exposed", _in_cluster(of_cluster.exposed), "whoever reaches 8265 or 10001 runs code: ClusterIP only", _IN),
    Rule("idle-head", _in_cluster(of_cluster.idle_head), 'rayStartParams: {num-cpus: "0"}, with real requests', _IN),
    Rule("spot-head", _in_cluster(of_cluster.spot_head), "the driver runs there: keep it on demand", _IN),
    Rule("limits", _in_cluster(of_cluster.limits), "Ray counts on its limits: requests == limits", _IN),
    Rule("grace", _in_cluster(of_cluster.grace), "terminationGracePeriodSeconds: 60", _IN),
    Rule("image", _in_cluster(of_cluster.images), "name a version or a digest", _IN),
    Rule("plain-secret", _in_cluster(of_cluster.secrets), "valueFrom: {secretKeyRef: ...}", _IN),
    Rule("hardened", _in_cluster(of_cluster.hardened), "runAsNonRoot, drop ALL, no privilege escalation", _IN),
)
"""All rules, operators' before our own."""
