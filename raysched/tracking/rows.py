"""What MLflow is told, as plain values: metrics from rows and records, parameters, tags, names. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from raysched.records.files import canonical
from raysched.records.history import Row
from raysched.records.record import Record, Scores
from raysched.study.model import MAIN

MAX_TEXT = 500
"""Characters of a parameter or tag."""

_CREDENTIALS = re.compile(r"(?<=://)[^\s\"'/@:]*(?::[^\s\"']*)?@")
"""To the last @ of a word, as a password may hold @ and / itself."""
_QUERY_SECRET = re.compile(r"(?i)\b((?:[a-z_]*(?:token|password|passwd|secret|api_?key))=)[^&\s\"']+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """One value of a metric at `step` completed steps, at `time_ms` since 1970."""

    key: str
    value: float
    step: int
    time_ms: int


def mask(text: str) -> str:
    """`text` with user names and passwords in URLs, and secrets in their queries, hidden."""
    return _QUERY_SECRET.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def without_credentials(text: str) -> str:
    """`text` with user names and passwords taken out of its URLs."""
    return _CREDENTIALS.sub("", text)


def short(value: object) -> str:
    text = mask(value if isinstance(value, str) else canonical(value))
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def scalars(row: Row) -> list[Scalar]:
    """The metrics of one row of history. Test scores come from the record, once it is accepted."""
    return [Scalar(key=key, value=value, step=row.step, time_ms=row.time_ms) for key, value in _values(row).items()]


def _values(row: Row) -> dict[str, float]:
    data = row.data
    if row.kind == "metrics":
        return dict(data["values"])
    if row.kind == "evaluated":
        return {f"val/{metric}": score for metric, score in data["scores"].items()}
    if row.kind == "unfroze":
        return {"unfrozen_layers": float(len(data["awake"]))}
    if row.kind == "fisher":
        prefix = "fisher" if data["purpose"] == "log" else "fisher_select"
        traces: Sequence[float] = data["traces"]
        values = {f"{prefix}/layer_{layer:02d}": trace for layer, trace in enumerate(traces)}
        if data["awake"]:
            values[f"{prefix}/mean"] = fmean(traces[layer] for layer in data["awake"])
        return values
    return {}


def average(tests: Mapping[str, Scores], source_language: str) -> Scores:
    """Mean over the target languages; the source language is never among them."""
    targets = [scores for language, scores in tests.items() if language != source_language]
    metrics = list(targets[0]) if targets else []
    return {metric: fmean(scores[metric] for scores in targets) for metric in metrics}


def final_scores(record: Record, evaluation_ids: Mapping[str, str], source_language: str) -> dict[str, float]:
    """test/<language>/<metric> and test/average/<metric>, of other test sets test/<set>/<language>/<metric>.

    `evaluation_ids` are those of this record, by test set.
    """
    scores: dict[str, float] = {}
    for name, evaluation_id in evaluation_ids.items():
        prefix = "test" if name == MAIN else f"test/{name}"
        tests = record.tests.get(evaluation_id, {})
        named = {**tests, "average": average(tests, source_language)}
        scores |= {
            f"{prefix}/{language}/{metric}": score
            for language, values in named.items()
            for metric, score in values.items()
        }
    return scores


def final_scalars(record: Record, evaluation_ids: Mapping[str, str], source_language: str) -> list[Scalar]:
    """Test scores, and those on source dev, of the selected checkpoint, at its step."""
    step = record.selected_step if record.selected_step is not None else record.steps
    scores = {f"val/selected/{metric}": score for metric, score in record.source_dev.items()}
    scores |= final_scores(record, evaluation_ids, source_language)
    return [Scalar(key=key, value=value, step=step, time_ms=record.ended_ms) for key, value in scores.items()]


def cell_scalars(
    records: Sequence[Record],
    evaluation_ids: Sequence[Mapping[str, str]],
    n_seeds: int,
    source_language: str,
    time_ms: int,
) -> list[Scalar]:
    """Mean and standard deviation (ddof 1) over a cell's runs; only counts where a seed is missing or failed."""
    finished = [
        (record, ids) for record, ids in zip(records, evaluation_ids, strict=True) if record.status == "finished"
    ]
    values = {
        "n_seeds": float(len(finished)),
        "n_failed": float(len(records) - len(finished)),
    }
    if finished and len(finished) == n_seeds:
        each = [
            {f"val/{metric}": score for metric, score in record.source_dev.items()}
            | final_scores(record, ids, source_language)
            for record, ids in finished
        ]
        for key in sorted(set.intersection(*map(set, each))):
            seeds = [scores[key] for scores in each]
            values[f"mean/{key}"] = fmean(seeds)
            if len(seeds) > 1:
                values[f"std/{key}"] = stdev(seeds)
    return [Scalar(key=key, value=value, step=n_seeds, time_ms=time_ms) for key, value in values.items()]


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted key -> text of at most `MAX_TEXT` characters; empty mappings and nulls are left out."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= flatten(item, f"{prefix}{key}.")
        elif item is not None:
            flat[f"{prefix}{key}"] = short(item)
    return flat


def point_name(params: Mapping[str, Any]) -> str:
    """Such as "gu lr=0.001 k=20"."""
    names = sorted(params, key=lambda name: ({"schedule": 0, "lr": 1, "k": 2}.get(name, 3), name))
    shown = {name: f"{params[name]:g}" if isinstance(params[name], float) else str(params[name]) for name in names}
    return " ".join(text if name == "schedule" else f"{name}={text}" for name, text in shown.items())


def unfreeze_text(order: Iterable[tuple[int, Sequence[int]]]) -> str:
    """Step and layers of every event that woke something, such as "0:11 20:10 40:9,8"."""
    return short(" ".join(f"{step}:{','.join(map(str, layers))}" for step, layers in order if layers))


def fisher_csv(rows: Iterable[Row]) -> str:
    """One line per measurement and layer; floats read back exactly."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "step",
            "purpose",
            "layer",
            "trace",
            "se",
            "awake",
            "labels",
            "n_batches",
            "n_examples",
            "estimator",
            "scale",
        ]
    )
    for row in rows:
        if row.kind != "fisher":
            continue
        data = row.data
        awake = set(data["awake"])
        for layer, (trace, se) in enumerate(zip(data["traces"], data["se"] or [""] * len(data["traces"]), strict=True)):
            how = [data.get(name, "") for name in ("labels", "n_batches", "n_examples", "estimator", "scale")]
            writer.writerow(
                [
                    row.step,
                    data["purpose"],
                    layer,
                    trace,
                    se,
                    int(layer in awake),
                    *how,
                ]
            )
    return out.getvalue()
