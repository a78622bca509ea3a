"""Who may speak with whom, by the NetworkPolicies of rendered manifests: what a network plug-in should enforce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A pod (with a namespace), or a machine outside of the cluster (with an address)."""

    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None


def allowed(policies: Sequence[Policy], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` may open a connection to `target`."""
    out = _rules(policies, source, "Egress")
    into = _rules(policies, target, "Ingress")
    return _passes(out, target, port, protocol, "to") and _passes(into, source, port, protocol, "from")


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector; an empty one takes all."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_expression(one, labels) for one in selector.get("matchExpressions", ()))


def _expression(one: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(one["key"]), one.get("values", ())
    match one["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"no operator of selectors: {one['operator']}")


def _rules(policies: Sequence[Policy], end: End, kind: str) -> list[tuple[str, Mapping[str, Any]]] | None:
    """All rules that hold for a pod, with the namespace of their policy; None: no policy selects it, all is allowed."""
    if end.namespace is None:
        return None
    chosen = [
        one
        for one in policies
        if one["metadata"]["namespace"] == end.namespace
        and kind in one["spec"]["policyTypes"]
        and matches(one["spec"]["podSelector"], end.labels)
    ]
    if not chosen:
        return None
    return [(one["metadata"]["namespace"], rule) for one in chosen for rule in one["spec"].get(kind.lower(), ())]


def _passes(rules: list[tuple[str, Mapping[str, Any]]] | None, peer: End, port: int, protocol: str, side: str) -> bool:
    if rules is None:
        return True
    return any(
        _port(rule.get("ports"), port, protocol)
        and (not rule.get(side) or any(_peer(one, peer, namespace) for one in rule[side]))
        for namespace, rule in rules
    )


def _port(ports: Sequence[Mapping[str, Any]] | None, port: int, protocol: str) -> bool:
    if not ports:
        return True
    for one in ports:
        if not isinstance(one["port"], int) or "endPort" in one:
            raise ValueError(f"only single ports by their number are understood here, not {one}")
        if one["port"] == port and one.get("protocol", "TCP") == protocol:
            return True
    return False


def _peer(rule: Mapping[str, Any], peer: End, namespace: str) -> bool:
    if (block := rule.get("ipBlock")) is not None:
        return peer.address is not None and _in_block(block, peer.address)
    if peer.namespace is None:
        return False
    if (wanted := rule.get("namespaceSelector")) is not None:
        if not matches(wanted, {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != namespace:
        return False
    return matches(rule.get("podSelector", {}), peer.labels)


def _in_block(block: Mapping[str, Any], address: str) -> bool:
    here = ip_address(address)
    within = here in ip_network(block["cidr"])
    return within and not any(here in ip_network(one) for one in block.get("except", ()))
