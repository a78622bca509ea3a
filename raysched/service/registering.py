"""A sweep's best adapter, or another one, in MLflow's model registry, loadable with `mlflow.pyfunc`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from raysched.errors import MissingError, StudyError
from raysched.records.layout import SweepLayout
from raysched.records.record import Record
from raysched.reports.sweep import Sweep, read_sweep
from raysched.service import choosing
from raysched.study.values import form
from raysched.tracking import rows
from raysched.tracking.mlflow_registry import BEST, Columns, Packed, Registry
from raysched.tracking.mlflow_store import Store
from raysched.tracking.rows import mask
from raysched.tracking.target import target

CODE = Path(__file__).with_name("pyfunc_model.py")
REQUIREMENTS = ("raysched", "torch", "transformers", "adapters", "mlflow", "safetensors", "tokenizers", "pandas")
INPUTS: dict[str, tuple[str, ...]] = {
    "qa": ("question", "context"),
    "choice": ("premise", "question", "choice1", "choice2"),
    "nli": ("premise", "hypothesis"),
}
LABEL: Columns = (("prediction", "string", True), ("score", "double", True))
SPAN: Columns = (("answer", "string", True), ("score", "double", True), ("start", "long", True), ("end", "long", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Version `version` of the model `name` in the registry at `uri` (without credentials) is this run's adapter.

    `best`: the alias `best` stands for it; `new`: it was not there before.
    """

    uri: str
    name: str
    version: str
    run_id: str
    best: bool
    new: bool


def register(
    layout: SweepLayout, *, run: str | None = None, name: str | None = None, given: str | None = None
) -> Registered:
    """Register the adapter of the best run on source dev, or of `run`; the same run again makes no second version.

    `name` is the registered model's (default: the sweep's), `given` the store (default: where the sweep is tracked).
    Only the best run's version gets the alias `best`.

    Raises:
        StudyError: no such run, or a name that no model can have.
        MissingError: no run is done; the store does not answer, or does not hold the run.
        DamageError: the run's files are not what was recorded.
    """
    name = name or layout.name
    if not name.strip() or any(character in name for character in "/:'\""):
        raise StudyError(f"must be a name without / : and quotes, but got {name!r}", key="--as")
    sweep = read_sweep(layout)
    best = choosing.best(sweep)
    record = choosing.named(sweep, run) if run is not None else best
    store = Store(target(layout, given), layout.name)
    store.check()
    held = store.held(f"run:{record.run_id}", sweep.state.uid)
    if held is None:
        raise MissingError(
            f"MLflow at {mask(store.uri)} does not hold run {record.run_id}",
            key="--mlflow",
            hint=f"raysched sync {layout.named}, then register",
        )
    registry, mark = Registry(store), f"{sweep.state.uid} {record.run_id}"
    before = registry.version(name, mark)
    with tempfile.TemporaryDirectory() as scratch:
        adapter = Path(scratch) / "adapter"
        if before is None:
            choosing.write(sweep, record, adapter)
        version = registry.register(name, _packed(sweep, record, held, mark, adapter))
    if record.run_id == best.run_id:
        registry.point(name, BEST, version)
    return Registered(
        uri=mask(store.uri),
        name=name,
        version=version,
        run_id=record.run_id,
        best=record.run_id == best.run_id,
        new=before is None,
    )


def _packed(sweep: Sweep, record: Record, mlflow_id: str, mark: str, adapter: Path) -> Packed:
    kind = form(sweep.study.task)
    ids = choosing.about(sweep, record).spec.evaluation_ids
    finals = rows.final_scalars(record, ids, sweep.study.model.source_language)
    scores = [one for one in finals if one.key.startswith("val/") or "/average/" in one.key]
    tags = {
        "sweep": sweep.layout.name,
        "run_id": record.run_id,
        "cell": record.cell_id,
        **{key: str(value) for key, value in record.params.items()},
        "seed": str(record.seed),
        "task": sweep.study.task,
        "backbone": sweep.study.model.backbone,
        "languages": ",".join(sweep.study.languages),
        **{one.key: f"{one.value:.4f}" for one in scores},
    }
    columns = INPUTS[kind]
    return Packed(
        name=f"adapter-{record.run_id}",
        mark=mark,
        run_id=mlflow_id,
        code=CODE,
        adapter=adapter,
        inputs=(*((name, "string", True) for name in columns), ("language", "string", False)),
        outputs=SPAN if kind == "qa" else LABEL,
        example=_example(columns, sweep.study.model.source_language),
        requirements=[f"{package}=={_version(package)}" for package in REQUIREMENTS],
        tags=rows.flatten(tags),
        scores=scores,
    )


def _example(columns: tuple[str, ...], language: str) -> dict[str, str]:
    texts = {
        "question": "Who opened the door?" if "context" in columns else "cause",
        "context": "Ada opened the door.",
        "premise": "The door was open.",
        "choice1": "Ada opened it.",
        "choice2": "Ada was asleep.",
        "hypothesis": "Somebody opened the door.",
    }
    return {name: texts[name] for name in columns} | {"language": language}


def _version(package: str) -> str:
    """As an index of packages knows it: without what tells builds of torch apart."""
    return metadata.version(package).partition("+")[0]
