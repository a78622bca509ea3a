"""The JSON Schema of study files, for editors (`raysched schema`)."""

from __future__ import annotations

import json
from typing import Any

from raysched.study.lookup import PART
from raysched.study.model import Study

SCHEMA_ID = "urn:raysched:schema:study:1"


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a study file, which holds a study or a suite of several.

    A study that extends another may leave out whatever that one gives, so keys are required only where there is
    no `extends`. Rules over several keys are checked by `raysched` alone.
    """
    study = Study.model_json_schema()
    defs = study.pop("$defs")
    sections = {
        name: value["$ref"].rsplit("/", 1)[-1] for name, value in study["properties"].items() if "$ref" in value
    }
    needed = {name: defs[title].pop("required", None) for name, title in sections.items()}
    extends = {
        "description": "another study, or several, by name or path: this file changes only what it gives; lists are "
        "replaced, and of several studies the later one is on top",
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
        ],
        "title": "Extends",
    }
    complete = {
        "required": study.pop("required"),
        "properties": {name: {"required": keys} for name, keys in needed.items() if keys},
    }
    defs["Study"] = {
        **study,
        "properties": {"extends": extends, **study["properties"]},
        "if": {"not": {"required": ["extends"]}},
        "then": complete,
    }
    defs["Suite"] = {
        "description": "Several studies in one file; `raysched sweep` runs one after the other.",
        "type": "object",
        "additionalProperties": False,
        "required": ["parts"],
        "properties": {
            "description": {"description": "one line about this suite", "type": "string", "title": "Description"},
            "parts": {
                "description": "studies by name; the sweep of each is named SUITE.PART",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": False,
                "patternProperties": {f"^{PART.pattern}$": {"$ref": "#/$defs/Study"}},
                "title": "Parts",
            },
        },
        "title": "Suite",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "raysched study",
        "description": study["description"],
        "anyOf": [{"$ref": "#/$defs/Study"}, {"$ref": "#/$defs/Suite"}],
        "$defs": defs,
    }


def schema_text() -> str:
    """The schema as it is published in `search_spaces/study.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
