"""What a cluster refuses, and where there is none: told in words, and never with credentials in them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

from raysched.errors import MissingError, RayschedError, StudyError
from raysched.service.kubernetes import jobs
from raysched.service.kubernetes.client import Cluster
from raysched.service.kubernetes.options import ClusterOptions
from raysched.service.kubernetes.rayjob import manifests
from tests.cli.conftest import closed_port
from tests.deploy.crd import needs_crds
from tests.service.kubernetes.api import Answer, status
from tests.service.kubernetes.orders import order
from tests.service.kubernetes.simulated import TOKEN, Operator

OPTIONS = ClusterOptions()

FORBIDDEN = status(403, "Forbidden", 'rayjobs.ray.io is forbidden: User "dev" cannot create resource "rayjobs"')
QUOTA = status(
    403,
    "Forbidden",
    'rayjobs.ray.io "x" is forbidden: exceeded quota: team, requested: pods=1, used: 1',
)
WEBHOOK = status(403, "Forbidden", 'admission webhook "policy.example.org" denied the request: label team is missing')
PODS = status(403, "Forbidden", 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot')


@pytest.mark.parametrize(
    ("verb", "answer", "kind", "rule"),
    [
        ("list", status(401, "Unauthorized", f"bad Bearer {TOKEN}"), MissingError, "does not know who you are"),
        ("list", FORBIDDEN, MissingError, r"you may not list rayjobs in the namespace raysched\n.*can-i list rayjobs"),
        ("create", FORBIDDEN, MissingError, r"you may not create rayjobs .*\n.*raysched-submitter.*can-i create"),
        ("create", QUOTA, MissingError, r"quota of the namespace raysched is used up: team, requested: pods=1"),
        ("create", WEBHOOK, StudyError, "webhook policy.example.org refuses it: label team is missing"),
        ("create", PODS, StudyError, "does not let such pods in"),
        ("list", Answer(404, "404 page not found\n"), MissingError, r"KubeRay is not installed\n.*KubeRay 1.7"),
        ("list", status(404, "NotFound", "could not find the requested resource"), MissingError, "KubeRay is"),
        ("create", status(404, "NotFound", 'namespaces "raysched" not found'), MissingError, "no namespace raysched"),
        ("create", status(400, "BadRequest", 'strict decoding error: unknown field "spec.x"'), StudyError, "spec.x"),
        ("create", status(422, "Invalid", "spec.suspend: Invalid value"), StudyError, "refuses xquad-mini-.*spec.susp"),
        ("create", status(500, "InternalError", "failed calling webhook"), MissingError, "HTTP 500.*failed calling"),
        ("list", status(503, "ServiceUnavailable", f"token={TOKEN}"), MissingError, "could not list rayjobs"),
        ("create", status(403, "Forbidden", "because it is being terminated"), MissingError, "is being deleted"),
    ],
)  # fmt: skip
def test_what_a_cluster_refuses_is_told_in_words(
    cluster: Operator, door: Cluster, verb: str, answer: Answer, kind: type[RayschedError], rule: str
) -> None:
    cluster.refusals[verb, "rayjobs"] = (1, answer)
    with pytest.raises(kind, match=rule) as caught:
        jobs.submit(door, order(), OPTIONS)
    assert TOKEN not in str(caught.value)
    assert cluster.rayjobs == {}


def test_where_no_cluster_is(tmp_path: Path, cluster: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match=r"--context: no cluster is configured.*\n.*KUBECONFIG"):
        Cluster("raysched", "other")
    config = (tmp_path / "kubeconfig").read_text()
    for text, rule in {
        "clusters: {": "the kubeconfig cannot be read",
        "": "no cluster is configured|cannot be read",
        config.replace("127.0.0.1:", f"127.0.0.1:{closed_port()}/"): r"no cluster answers at http://127.0.0.1:\d+\n",
        config.replace(TOKEN, "wrong"): "does not know who you are",
    }.items():
        (tmp_path / "other").write_text(text)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "other"))
        with pytest.raises(MissingError, match=rule) as caught:
            jobs.jobs(Cluster("raysched"))
        assert TOKEN not in str(caught.value)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(MissingError, match="no cluster is configured"):
        Cluster("raysched")
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(MissingError, match=r"not installed\n.*pip install 'raysched\[kubernetes\]'"):
        Cluster("raysched")


@needs_crds
def test_fields_that_the_cluster_does_not_know_are_refused_and_not_dropped(cluster: Operator, door: Cluster) -> None:
    (good,) = manifests(order(), OPTIONS)
    bad = copy.deepcopy(good)
    bad["spec"]["shutdownAfterJobFinish"] = True
    with pytest.raises(StudyError, match=r"does not know what is asked: .*shutdownAfterJobFinish(.|\n)*KubeRay 1.7"):
        door.create(bad, dry_run=True)
    wrong = copy.deepcopy(good)
    wrong["spec"]["backoffLimit"] = "three"
    with pytest.raises(StudyError, match=r"the cluster refuses xquad-mini-.*backoffLimit"):
        door.create(wrong, dry_run=True)
    door.create(good, dry_run=True)
    assert cluster.rayjobs == {}
