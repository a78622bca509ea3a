"""How MLflow shows a sweep: the kind of its experiment, a note, and a view of its runs with the right columns."""

from __future__ import annotations

import base64
import json
import zlib

VIEW = "raysched"
"""Name of the shared view; `runs_page` links to it."""

COLUMNS = (
    *(f"params.`{name}`" for name in ("schedule", "method", "lr", "k", "epochs", "steps", "seed")),
    *(
        f"metrics.`{name}/{metric}`"
        for metric in ("f1", "accuracy")
        for name in ("val/selected", "test/average", "mean/val", "mean/test/average")
    ),
)
"""Columns of parameters and metrics that no run has stay hidden."""

NOTE = """A raysched sweep: sweep > cell (one point) > run (one seed), nested.

- `val/*`: source-language dev, by step; the only scores that steer. `val/selected/*`: those of the selected checkpoint.
- `test/<language>/*`: the selected checkpoint, zero-shot. `test/average/*`: mean over the targets, the source left out.
- `test/<set>/<language>/*`: the same on a further test set of the study (`evaluation.also`).
- `fisher/layer_NN`, `fisher/mean`: logged tr(F). `fisher_select/*`: the measurement that steers FUN.
- `unfrozen_layers`: layers awake, by step; the order is in the tag and the artifact `unfreeze_order`.
- Cells hold mean, std (ddof 1) and n over their seeds once every seed has ended.

To compare runs: search for `tags."raysched.level" = 'run'`, take the chart view and unfold the cells; *Group by* the
tag `cell` or `schedule`, or the parameter `k`, `lr` or `seed`. Charts are grouped by what stands before the last `/`.

- Of a run, `tables/scores.json` and `tables/unfreeze_order.json` are tables, `fisher_trace.csv` holds every
  measurement, and the data sets that it was trained, selected and tested on are named with their revisions.
- Of the sweep, `report/` is the last report that was logged (`raysched report`: tables, statistics, figures), and
  `tables/` its tables.
- `raysched register` puts the best run's adapter into the model registry, under the alias `best`.
"""


def experiment_tags() -> dict[str, str]:
    """Tags of a sweep's experiment; MLflow's own pages read them."""
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(COLUMNS),
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.note.content": NOTE,
        f"mlflow.sharedViewState.{VIEW}": f"deflate;{packed}",
    }


def runs_page(experiment_id: str) -> str:
    """Path of the experiment's table of runs with our columns, below a server's address."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"
