"""Every rule of the linter has a manifest that breaks it, and what is generated breaks none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from raysched.errors import StudyError
from raysched.service.kubernetes import rules
from tests.service.kubernetes.made import rayjob

Manifest = dict[str, Any]
Change = Callable[[Manifest], object]

HEAD = "spec.rayClusterSpec.headGroupSpec"
HEAD_POD = f"{HEAD}.template.spec"
HEAD_ENV = f"{HEAD_POD}.containers.0.env"
GROUP = "spec.rayClusterSpec.workerGroupSpecs.0"
CLUSTER = "spec.rayClusterSpec"
ENDED = {"jobStatus": "SUCCEEDED", "ttlSeconds": 10}


def put(path: str, value: Any) -> Change:
    """Set a value by its dotted path; `...` removes it."""

    def change(manifest: Manifest) -> None:
        *parents, last = path.replace("\\.", "\0").split(".")
        at: Any = manifest
        for name in parents:
            at = at[int(name)] if isinstance(at, list) else at.setdefault(name.replace("\0", "."), {})
        last = last.replace("\0", ".")
        if value is ...:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = value

    return change


def add(path: str, *values: Any) -> Change:
    def change(manifest: Manifest) -> None:
        at: Any = manifest
        for name in path.split("."):
            at = at[int(name)] if isinstance(at, list) else at[name]
        at.extend(values)

    return change


def both(*changes: Change) -> Change:
    return lambda manifest: [change(manifest) for change in changes]


def deletion(*given: dict[str, Any]) -> Change:
    return both(
        put("spec.shutdownAfterJobFinishes", False),
        put("spec.ttlSecondsAfterFinished", 0),
        put("spec.deletionStrategy.deletionRules", list(given)),
    )


SELECTOR = both(put(CLUSTER, ...), put("spec.clusterSelector", {"ray.io/cluster": "other"}))
QUEUED = put("metadata.labels.kueue\\.x-k8s\\.io/queue-name", "team-a")
SCALED = both(put(f"{CLUSTER}.enableInTreeAutoscaling", True), put(f"{CLUSTER}.autoscalerOptions", {"version": "v2"}))

BROKEN: list[tuple[str, str, Change]] = [
    ("name", "at most 47 characters", put("metadata.name", "a" * 48)),
    ("name", "DNS-1035", put("metadata.name", "2-begins-with-a-digit")),
    ("name", "DNS-1035", put("metadata.name", "Upper")),
    ("name", "at most 47", both(put("metadata.name", ...), put("metadata.generateName", "a" * 43))),
    ("shutdown", "needs shutdown", both(put("spec.shutdownAfterJobFinishes", False), put("spec.suspend", True))),
    ("shutdown", "needs shutdown", put("spec.shutdownAfterJobFinishes", ...)),
    ("one-cluster", "exactly one", put(CLUSTER, ...)),
    ("one-cluster", "exactly one", put("spec.clusterSelector", {"ray.io/cluster": "other"})),
    ("selector", "cannot go with clusterSelector", both(SELECTOR, put("spec.suspend", True))),
    ("selector", "cannot go with clusterSelector", both(SELECTOR, put("spec.backoffLimit", 1))),
    ("selector", "SidecarMode cannot", both(SELECTOR, put("spec.submissionMode", "SidecarMode"))),
    (
        "deletion",
        "cannot go with shutdown",
        put("spec.deletionStrategy.deletionRules", [{"policy": "DeleteSelf", "condition": ENDED}]),
    ),
    ("deletion", "with autoscaling", both(deletion({"policy": "DeleteWorkers", "condition": ENDED}), SCALED)),
    ("deletion", "with clusterSelector", both(deletion({"policy": "DeleteCluster", "condition": ENDED}), SELECTOR)),
    ("deletion", "must not repeat", deletion(*[{"policy": "DeleteSelf", "condition": ENDED}] * 2)),
    (
        "deletion",
        "must not fall",
        deletion(
            {"policy": "DeleteWorkers", "condition": ENDED},
            {"policy": "DeleteSelf", "condition": ENDED | {"ttlSeconds": 5}},
        ),
    ),
    ("mode", "must be one of K8sJobMode", put("spec.submissionMode", "K8sJob")),
    ("mode", "cannot go with SidecarMode", put("spec.submissionMode", "SidecarMode")),
    (
        "mode",
        "must be Never with SidecarMode",
        both(put("spec.submissionMode", "SidecarMode"), put(f"{HEAD_POD}.restartPolicy", "Always")),
    ),
    ("mode", "cannot go with InteractiveMode", put("spec.submissionMode", "InteractiveMode")),
    ("numbers", "at least 1", put("spec.activeDeadlineSeconds", 0)),
    ("numbers", "at least 1", put("spec.preRunningDeadlineSeconds", -1)),
    ("numbers", "at least 0", put("spec.backoffLimit", -1)),
    ("numbers", "at least 0", put("spec.ttlSecondsAfterFinished", -1)),
    ("runtime-env", "must be YAML", put("spec.runtimeEnvYAML", "env_vars: [")),
    ("entrypoint", "no shell changes, but got '\\$\\(id\\)'", put("spec.entrypoint", "python -m raysched $(id)")),
    ("entrypoint", "no shell changes", put("spec.entrypoint", "cd /x; python")),
    ("entrypoint", "no shell changes", put("spec.entrypoint", "python\nid")),
    ("entrypoint", "no shell changes", put("spec.entrypoint", "python 'a b'")),
    ("entrypoint", "no shell changes", put("spec.entrypoint", "")),
    ("kueue", "must be true in a queue", both(QUEUED, put("spec.shutdownAfterJobFinishes", False))),
    ("kueue", "cannot be in a queue", both(QUEUED, SELECTOR)),
    (
        "kueue",
        "at most 17 groups, but got 18",
        both(QUEUED, put(f"{CLUSTER}.workerGroupSpecs", [{"groupName": f"g{n}"} for n in range(18)])),
    ),
    ("kueue", "elastic-job", both(QUEUED, SCALED)),
    ("k8s-tokens", "not supported for a RayJob", put(f"{CLUSTER}.authOptions.enableK8sTokenAuth", True)),
    ("recovery", "not for sweeps", put(f"{CLUSTER}.gcsFaultToleranceOptions", {"redisAddress": "redis:6379"})),
    ("recovery", "not for sweeps", put("metadata.annotations.ray\\.io/ft-enabled", "true")),
    ("auth", "must be token", put(f"{CLUSTER}.authOptions", ...)),
    ("auth", "must be token", put(f"{CLUSTER}.authOptions.mode", "disabled")),
    ("auth-version", "at least 2.52.0", put(f"{CLUSTER}.rayVersion", "2.51.1")),
    ("auth-version", "at least 2.52.0", put(f"{CLUSTER}.rayVersion", ...)),
    (
        "auth-version",
        "at least 2.55.0",
        both(
            put(f"{CLUSTER}.rayVersion", "2.54.0"),
            put(f"{CLUSTER}.authOptions", {"mode": "token", "enableK8sTokenAuth": True}),
        ),
    ),
    ("auth-version", "cannot go with enableK8sTokenAuth", put(f"{CLUSTER}.authOptions.enableK8sTokenAuth", True)),
    ("containers", "at least one container", put(f"{HEAD_POD}.containers", [])),
    (
        "restart",
        "must be Never with autoscaler v2",
        both(SCALED, put(f"{GROUP}.template.spec.restartPolicy", "Always")),
    ),
    ("restart", "must be Never with autoscaler v2", both(SCALED, put(f"{HEAD_POD}.restartPolicy", "OnFailure"))),
    (
        "autoscaler-env",
        "cannot go with autoscalerOptions",
        both(SCALED, add(HEAD_ENV, {"name": "RAY_enable_autoscaler_v2", "value": "1"})),
    ),
    ("autoscaler-env", "without enableInTree", add(HEAD_ENV, {"name": "RAY_enable_autoscaler_v2", "value": "true"})),
    (
        "autoscaler-env",
        "the operator's own",
        put(f"{CLUSTER}.autoscalerOptions", {"env": [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD", "value": "x"}]}),
    ),
    ("autoscaler-v2", "needs autoscaler v2", put(f"{GROUP}.idleTimeoutSeconds", 60)),
    (
        "autoscaler-v2",
        "needs autoscaler v2",
        both(SCALED, put(f"{CLUSTER}.autoscalerOptions.version", "v1"), put(f"{GROUP}.priority", 1)),
    ),
    (
        "autoscaler-v2",
        "needs rayVersion 2.56",
        both(SCALED, put(f"{CLUSTER}.rayVersion", "2.55.0"), put(f"{GROUP}.priority", 1)),
    ),
    ("replicas", "must be set without autoscaling", put(f"{GROUP}.minReplicas", ...)),
    ("replicas", "must hold", put(f"{GROUP}.minReplicas", 5)),
    ("replicas", "must hold", put(f"{GROUP}.replicas", 9)),
    ("replicas", "must hold", put(f"{GROUP}.minReplicas", -1)),
    ("replicas", "at least 0", both(SCALED, put(f"{CLUSTER}.autoscalerOptions.idleTimeoutSeconds", -1))),
    ("resources", "cannot go with rayStartParams.num-cpus", put(f"{HEAD}.resources", {"CPU": "1"})),
    ("labels", "is not taken", put(f"{GROUP}.rayStartParams.labels", "a=b")),
    ("labels", "Kubernetes takes", put(f"{GROUP}.labels", {"a b": "c"})),
    ("labels", "Kubernetes takes", put(f"{HEAD}.labels", {"a": "c d"})),
    ("groups", "DNS label that no other has", put(f"{GROUP}.groupName", "Workers")),
    (
        "groups",
        "no other has",
        lambda one: one["spec"]["rayClusterSpec"]["workerGroupSpecs"].append(
            copy.deepcopy(one["spec"]["rayClusterSpec"]["workerGroupSpecs"][0])
        ),
    ),
    ("gates", "gate is off", put(f"{CLUSTER}.networkPolicy", {"mode": "DenyAll"})),
    ("gates", "gate is off", put(f"{CLUSTER}.tlsOptions", {"certificateSecretName": "x"})),
    ("gates", "rocksdb", put(f"{CLUSTER}.gcsFaultToleranceOptions", {"backend": "rocksdb"})),
    ("redis", "RAY_REDIS_ADDRESS", add(HEAD_ENV, {"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"})),
    ("redis", "a name for Redis", add(HEAD_ENV, {"name": "REDIS_USERNAME", "value": "me"})),
    (
        "redis",
        "a password for Redis",
        both(
            put(f"{CLUSTER}.gcsFaultToleranceOptions", {"redisAddress": "r"}),
            put(f"{HEAD}.rayStartParams.redis-password", "x"),
        ),
    ),
    ("redis", "rocksdb alone", put(f"{CLUSTER}.gcsFaultToleranceOptions", {"storage": {"size": "1Gi"}})),
    ("suspended-group", "with autoscaling", both(SCALED, put(f"{GROUP}.suspend", True))),
    ("exposed", "must be ClusterIP, but got NodePort", put(f"{HEAD}.serviceType", "NodePort")),
    ("exposed", "must be ClusterIP, but got LoadBalancer", put(f"{HEAD}.headService.spec.type", "LoadBalancer")),
    ("exposed", "must not be set", put(f"{HEAD}.enableIngress", True)),
    ("exposed", "must not be set", put(f"{GROUP}.template.spec.hostNetwork", True)),
    ("idle-head", "so that no run takes the head", put(f"{HEAD}.rayStartParams", {})),
    ("spot-head", "must not be on spot", put(f"{HEAD}.labels", {"ray.io/market-type": "spot"})),
    ("limits", "as much in requests", put(f"{GROUP}.template.spec.containers.0.resources.requests.cpu", "1")),
    ("limits", "must give cpu and memory", put(f"{HEAD_POD}.containers.0.resources", {})),
    ("grace", "more than 30, but got 30", put(f"{GROUP}.template.spec.terminationGracePeriodSeconds", ...)),
    ("image", "one image for good", put(f"{HEAD_POD}.containers.0.image", "registry:5000/raysched")),
    ("image", "one image for good", put(f"{GROUP}.template.spec.containers.0.image", "raysched:latest")),
    (
        "plain-secret",
        "must not stand in a manifest",
        add(HEAD_ENV, {"name": "MLFLOW_TRACKING_PASSWORD", "value": "geheim"}),
    ),
    (
        "plain-secret",
        "must not stand in a manifest",
        add(HEAD_ENV, {"name": "RAYSCHED_OPTUNA", "value": "postgresql://me:geheim@db/x"}),
    ),
    (
        "hardened",
        "must be true",
        both(put(f"{HEAD_POD}.securityContext", {}), put(f"{HEAD_POD}.containers.0.securityContext.runAsNonRoot", ...)),
    ),
    ("hardened", "must be false", put(f"{HEAD_POD}.containers.0.securityContext.allowPrivilegeEscalation", ...)),
    ("hardened", "must hold ALL", put(f"{GROUP}.template.spec.containers.0.securityContext.capabilities", ...)),
]


@pytest.fixture(scope="module")
def good() -> Manifest:
    return rayjob()


@pytest.mark.parametrize(
    ("rule", "what", "change"), BROKEN, ids=[f"{rule}-{number}" for number, (rule, _, _) in enumerate(BROKEN)]
)
def test_a_broken_rule_is_found(good: Manifest, rule: str, what: str, change: Change) -> None:
    assert rules.check(good) == []
    bad = copy.deepcopy(good)
    change(bad)
    assert rule in {one.rule for one in rules.check(bad)}
    with pytest.raises(StudyError, match=what) as caught:
        rules.refuse([bad])
    assert "geheim" not in str(caught.value)
    assert all(one.hint and one.where and one.what for one in rules.check(bad))


def test_every_rule_has_an_example() -> None:
    names = [rule.name for rule in rules.RULES]
    assert sorted(set(names)) == sorted(names)
    assert set(names) == {rule for rule, _, _ in BROKEN}


def test_all_broken_rules_are_told_at_once(good: Manifest) -> None:
    bad = copy.deepcopy(good)
    for change in (put("metadata.name", "A"), put("spec.backoffLimit", -1), put(f"{HEAD}.serviceType", "NodePort")):
        change(bad)
    with pytest.raises(StudyError, match="3 problems") as caught:
        rules.refuse([bad])
    for part in ("metadata.name: ", "spec.backoffLimit: ", "headGroupSpec.serviceType: ", "(rule exposed)"):
        assert part in str(caught.value)


def test_rules_of_a_cluster_hold_for_a_raycluster(good: Manifest) -> None:
    cluster = {
        "kind": "RayCluster",
        "metadata": {"name": "c" * 53},
        "spec": copy.deepcopy(good["spec"]["rayClusterSpec"]),
    }
    assert rules.check(cluster) == []
    cluster["spec"]["authOptions"]["mode"] = "disabled"
    cluster["metadata"]["name"] = "c" * 54
    assert [(one.rule, one.where) for one in rules.check(cluster)] == [
        ("name", "metadata.name"),
        ("auth", "spec.authOptions.mode"),
    ]


def test_other_kinds_have_no_rules() -> None:
    assert rules.check({"kind": "ConfigMap", "metadata": {"name": "A"}}) == []


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster", "RayCronJob"])
def test_an_empty_manifest_breaks_rules_and_nothing_else(kind: str) -> None:
    assert rules.check({"kind": kind})
