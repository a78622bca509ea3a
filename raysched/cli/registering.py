"""`register`: a sweep's best adapter in MLflow's model registry."""

from __future__ import annotations

from raysched.cli.exporting import find
from raysched.cli.terminal import terminal


def register(sweep: str | None, storage: str, *, run: str | None, name: str | None, mlflow_uri: str | None) -> None:
    """Register one run's adapter, and say how it is loaded.

    Raises:
        StudyError: no such run, or a name that no model can have.
        MissingError: no such sweep; no run is done; the store does not answer, or does not hold the run.
        DamageError: the run's files are not what was recorded.
    """
    from raysched.service import registering

    layout = find(sweep, storage)
    done = registering.register(layout, run=run, name=name, given=mlflow_uri)
    console, place = terminal(), f"models:/{done.name}@best" if done.best else f"models:/{done.name}/{done.version}"
    state = "registered" if done.new else "registered before"
    lines = (
        f"run:    {done.run_id}",
        f"model:  {done.name}, version {done.version} ({state}{', alias best' if done.best else ''})",
        f"store:  {done.uri}",
        f"load:   MLFLOW_TRACKING_URI={done.uri} python -c "
        f"\"import mlflow; print(mlflow.pyfunc.load_model('{place}'))\"",
    )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
