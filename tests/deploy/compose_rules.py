"""What a compose file for one host must keep to: each rule gives a line per breach. There is no daemon to ask."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\})")
# fmt: off
SERVICE_KEYS = frozenset([
    "build", "cap_drop", "command", "depends_on", "deploy", "entrypoint", "environment", "healthcheck", "image",
    "init", "logging", "networks", "ports", "profiles", "read_only", "restart", "secrets", "security_opt",
    "shm_size", "stop_grace_period", "tmpfs", "user", "volumes", "working_dir",
])
# fmt: on
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|OPTUNA|STORE_URI|DATABASE_URI")
BY_FILE = re.compile(r"_(FILE|PATH)$")
BY_SCRIPT = {"db": {"optuna-password", "mlflow-db-password"}}
"""Secrets that a script of the service reads, and no variable names."""
PACE = {"interval", "timeout", "retries", "start_period"}
Services = Mapping[str, Mapping[str, Any]]


def interpolate(text: str, given: Mapping[str, str]) -> str:
    """As compose does it: `${NAME:-default}` and `$$`."""

    def value(found: re.Match[str]) -> str:
        return "$" if found["dollar"] else given.get(found["name"]) or found["default"]

    return VARIABLE.sub(value, text)


def variables(text: str) -> dict[str, str]:
    """Every variable with its default."""
    return {found["name"]: found["default"] for found in VARIABLE.finditer(text) if found["name"]}


def breaches(compose: Mapping[str, Any], folder: Path) -> list[str]:
    """Every breach of every rule; `folder` is the one that the file lies in."""
    services: Services = compose["services"]
    found = [f"networks: {line}" for line in _networks(compose)]
    for name, service in services.items():
        rules = (
            _keys(service),
            _image(service),
            _hardened(service),
            _limits(service),
            _ports(service),
            _secrets(name, service, compose),
            _waits(service, services),
            _volumes(service, compose, folder),
            _health(service),
        )
        found += [f"{name}: {line}" for rule in rules for line in rule]
    used = {one for service in services.values() for one in service.get("secrets", [])}
    return found + [f"secrets: nobody uses {one}" for one in compose["secrets"] if one not in used]


def _keys(service: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key} is no key of a service" for key in service if key not in SERVICE_KEYS)


def _image(service: Mapping[str, Any]) -> Iterator[str]:
    name, _, tag = str(service.get("image", "")).rpartition("/")[2].partition(":")
    if not name or not tag or tag.split("@")[0] == "latest":
        yield f"image {service.get('image')!r} has no tag that stays"


def _hardened(service: Mapping[str, Any]) -> Iterator[str]:
    user = str(service.get("user", ""))
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        yield f"user {user!r} may be root"
    if service.get("read_only") is not True:
        yield "its root can be written"
    if service.get("cap_drop") != ["ALL"]:
        yield "keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges"
    if not any(str(one).startswith("/tmp:") for one in service.get("tmpfs", [])):
        yield "has no /tmp"


def _limits(service: Mapping[str, Any]) -> Iterator[str]:
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    yield from (f"has no limit of {kind}" for kind in ("cpus", "memory", "pids") if kind not in limits)


def _ports(service: Mapping[str, Any]) -> Iterator[str]:
    for port in service.get("ports", []):
        if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", str(port)):
            yield f"port {port} is open beyond loopback"


def _secrets(name: str, service: Mapping[str, Any], compose: Mapping[str, Any]) -> Iterator[str]:
    mounted = set(service.get("secrets", []))
    yield from (f"secret {one} is not defined" for one in mounted - set(compose["secrets"]))
    named = set(BY_SCRIPT.get(name, ()))
    for key, value in service.get("environment", {}).items():
        if BY_FILE.search(key) and str(value).startswith("/run/secrets/"):
            named.add(str(value).removeprefix("/run/secrets/"))
        elif SECRET.search(key) or re.search(r"://[^/@]*:[^/@]*@", str(value)):
            yield f"{key} is a secret in plain sight"
    yield from (f"secret {one} is named and not mounted" for one in named - mounted)
    yield from (f"secret {one} is mounted and not named" for one in mounted - named)


def _waits(service: Mapping[str, Any], services: Services) -> Iterator[str]:
    waits = service.get("depends_on", {})
    if isinstance(waits, list):
        yield "depends_on names no condition"
        return
    for name, rule in waits.items():
        other = services.get(name)
        condition = rule.get("condition")
        if other is None:
            yield f"waits for {name}, which is not there"
        elif condition == "service_healthy" and "test" not in other.get("healthcheck", {}):
            yield f"waits for the health of {name}, which tells none"
        elif condition == "service_completed_successfully" and other.get("restart") in ("always", "unless-stopped"):
            yield f"waits for the end of {name}, which is always restarted"
        elif condition not in ("service_healthy", "service_completed_successfully"):
            yield f"waits for {name} with condition {condition}"
        elif other.get("profiles") and other["profiles"] != service.get("profiles"):
            yield f"waits for {name}, which `up` does not start"
        elif not _meet(service, other):
            yield f"waits for {name}, which it cannot reach"


def _volumes(service: Mapping[str, Any], compose: Mapping[str, Any], folder: Path) -> Iterator[str]:
    made = (folder / "compose" / "setup").read_text()
    for volume in service.get("volumes", []):
        source, target, *mode = str(volume).split(":")
        if source.startswith("/") or ".." in source or target == "/var/run/docker.sock":
            yield f"{source} is a part of the host"
        elif not source.startswith("."):
            if source not in compose["volumes"]:
                yield f"volume {source} is not defined"
        elif f" {source} " not in made and f" {source};" not in made:
            if not (folder / source).exists():
                yield f"{source} is not there"
            if mode != ["ro"]:
                yield f"{source} of the repository can be written"


def _health(service: Mapping[str, Any]) -> Iterator[str]:
    health = service.get("healthcheck", {})
    ends = service.get("restart") in ("no", "on-failure:3")
    if health.get("disable") is True:
        if not ends:
            yield "tells nothing of its health"
    elif ends:
        yield "ends, and has a healthcheck"
    elif health.get("test", [None])[0] != "CMD" or not {"interval", "timeout", "retries", "start_period"} <= set(
        health
    ):
        yield "tells nothing of its health"


def _networks(compose: Mapping[str, Any]) -> Iterator[str]:
    services: Services = compose["services"]
    for name, service in services.items():
        unknown = set(service.get("networks", [])) - set(compose["networks"])
        yield from (f"{name} is in {one}, which is not defined" for one in unknown)
        if not service.get("networks"):
            yield f"{name} is in the default network, with everybody"
    for one, other in combinations(services, 2):
        if _meet(services[one], services[other]) and frozenset((one, other)) not in MAY_MEET:
            yield f"{one} reaches {other}"
    for name, network in compose["networks"].items():
        if name != "front" and not (network or {}).get("internal"):
            yield f"{name} has a way out"


MAY_MEET = {
    frozenset(pair.split())
    for pair in (
        "db mlflow-migrate",
        "db mlflow",
        "db ray-head",
        "db backup",
        "mlflow ray-head",
        "mlflow mlflow-migrate",
        "mlflow backup",
        "mlflow prepare",
        "mlflow-migrate ray-head",
        "mlflow-migrate backup",
        "ray-head backup",
        "ray-head ray-worker",
        "ray-head sweep",
        "ray-worker sweep",
    )
}


def _meet(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(set(one.get("networks", [])) & set(other.get("networks", [])))
