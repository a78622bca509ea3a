"""Small data files in the published forms, and studies that name them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysched.mini import world
from raysched.study.model import Study

MakeStudy = Callable[..., Study]
PUBLIC = {"train": "rajpurkar/squad", "dev": "rajpurkar/squad", "test": "google/xquad"}
MULTINLI = [
    *("gold_label", "sentence1_binary_parse", "sentence1", "sentence2", "promptID", "pairID", "genre"),
    *("label1", "label2", "label3", "label4", "label5"),
]


def squad(n: int, prefix: str = "q") -> dict[str, Any]:
    qas = [{"id": f"{prefix}{i}", "question": "?", "answers": [{"text": "b", "answer_start": 2}]} for i in range(n)]
    return {"data": [{"title": "t", "paragraphs": [{"context": "a b c", "qas": qas}]}]}


def copa(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A published row of COPA."""
    row = {"premise": f"It rained {index} times.", "choice1": "It is wet.", "choice2": "It is dry."}
    return row | {"question": "effect", "label": index % 2, "idx": index} | changes


def multinli(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A published row of MultiNLI."""
    label = ("entailment", "neutral", "contradiction")[index % 3]
    row = {"annotator_labels": [label], "gold_label": label, "pairID": "1e", "genre": "fiction"}
    return row | {"sentence1": f'He said "{index}', "sentence2": "He spoke, loudly.\u2028"} | changes


def json_lines(*rows: Any, end: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def tsv(*rows: list[str], end: str = "\n") -> str:
    return "".join("\t".join(row) + end for row in rows)


def multinli_txt(n: int, **changes: str) -> str:
    """A table of MultiNLI; as published, a row ends at the last annotator it had."""
    rows = [multinli(index, promptID="1", sentence1_binary_parse="( x )", label1="neutral") for index in range(n)]
    return tsv(MULTINLI, *([(row | changes)[name] for name in MULTINLI[:8]] for row in rows))


def xnli(n: int = 3, language: str = "en") -> str:
    """XNLI as one file per language: no header, no quotation."""
    labels = ("entailment", "neutral", "contradiction")
    return tsv(*([f'"{language} {index}', "so, what?\u0085", labels[index % 3]] for index in range(n)))


def put(path: Path, value: Any) -> Path:
    """Writes text as it is and other values as JSON, packed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = (value if isinstance(value, str) else json.dumps(value)).encode()
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def asked(
    study: MakeStudy,
    languages: tuple[str, ...] = ("en",),
    evaluation: dict[str, Any] | None = None,
    task: str = "qa",
    **data: Any,
) -> Study:
    """A study on `data`, on the mini world where it says nothing else."""
    mini = any(data.get(role, "mini") == "mini" for role in ("train", "dev"))
    source = world.SOURCE if mini else "en"
    return study(
        task=task,
        data={"train": "mini", "dev": "mini", "test": "mini"} | data,
        model={"source_language": source},
        evaluation={"languages": languages} | (evaluation or {}),
    )
