"""Manifests against the schemas of custom resources and their CEL rules, as an API server would check them.

The definitions are looked for in `$RAYSCHED_CRD_DIR`, else in `../shared/crds` beside the repository; they belong to
their projects and are not in this one. What this cannot see are rules that only an operator's code knows
(`raysched/service/kubernetes/rules.py`), and transition rules, which compare an object with what it was.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(os.environ.get("RAYSCHED_CRD_DIR") or Path(__file__).parents[3] / "shared" / "crds")
GROUPS = ("ray.io/", "kueue.x-k8s.io/")
QUANTITY = r"^[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"

needs_crds = pytest.mark.skipif(
    not any(FOLDER.glob("*.yaml")), reason=f"no custom resource definitions in {FOLDER} (RAYSCHED_CRD_DIR)"
)
"""On tests that call `problems` of a custom resource."""


def problems(manifest: Mapping[str, Any]) -> list[str]:
    """What an API server would refuse: `spec.x: what is wrong`; empty where all is well.

    Of a kind that is no custom resource of KubeRay or Kueue nothing is known: such a manifest is refused here, since
    a test that checks nothing would pass.
    """
    kind, version = str(manifest.get("kind")), str(manifest.get("apiVersion"))
    schema = definitions().get((version, kind))
    if schema is None:
        return [f"no definition of {version} {kind} in {FOLDER}"]
    import jsonschema

    checker = jsonschema.Draft202012Validator(_closed(version, kind))
    found = [f"{_path(error.absolute_path)}: {error.message}" for error in checker.iter_errors(manifest)]
    return found or list(_broken_rules(manifest, schema, ""))


def is_custom(manifest: Mapping[str, Any]) -> bool:
    """Whether `problems` is the one to ask, and not the schemas of Kubernetes' own kinds."""
    return str(manifest.get("apiVersion", "")).startswith(GROUPS)


@functools.cache
def definitions() -> dict[tuple[str, str], dict[str, Any]]:
    """The OpenAPI schema of each served version: {(apiVersion, kind): schema}."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        for one in yaml.load_all(path.read_text(), yaml.CSafeLoader):  # ruamel takes a quarter of a minute
            if one and one.get("kind") == "CustomResourceDefinition":
                spec = one["spec"]
                for version in spec["versions"]:
                    if version["served"]:
                        key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                        found[key] = version["schema"]["openAPIV3Schema"]
    return found


@functools.cache
def _closed(version: str, kind: str) -> dict[str, Any]:
    schema = copy.deepcopy(definitions()[version, kind])
    schema["properties"]["metadata"] = {"type": "object"}  # an API server checks it by itself
    closed = _close(schema)
    assert isinstance(closed, dict)
    return closed


def _close(schema: Any) -> Any:
    """As JSON Schema: unknown fields refused unless they are kept, defaults never required, quantities spelled out."""
    if isinstance(schema, list):
        return [_close(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        plain = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
        pattern = schema.get("pattern")
        return plain if pattern is None else {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": QUANTITY}]}
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: _close(one) for name, one in value.items()}
        elif key == "required":
            below = schema.get("properties", {})
            found[key] = [name for name in value if "default" not in below.get(name, {})]
        elif key not in ("default", "description", "format", "nullable") and not key.startswith("x-kubernetes-"):
            found[key] = _close(value) if isinstance(value, dict | list) and key != "enum" else value
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not open_ended:
        found["additionalProperties"] = False
    if schema.get("nullable") and "type" in found:
        found["type"] = [found["type"], "null"]
    return found


def _broken_rules(value: Any, schema: Mapping[str, Any], at: str) -> Iterator[str]:
    """Rules in CEL of a value and of all that is in it."""
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _holds(rule["rule"], value):
            yield f"{at or '.'}: {rule.get('message', rule['rule'])}"
    if isinstance(value, dict):
        for name, below in value.items():
            of = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(of, dict):
                yield from _broken_rules(below, of, f"{at}.{name}" if at else name)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for position, below in enumerate(value):
            yield from _broken_rules(below, schema["items"], f"{at}[{position}]")


def _holds(rule: str, value: Any) -> bool:
    import celpy

    return bool(_program(rule).evaluate({"self": celpy.json_to_cel(value)}))


@functools.cache
def _program(rule: str) -> Any:
    import celpy

    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def _path(parts: Any) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.lstrip(".") or "."
