"""The study of a sweep that is there, out of its ledger: nobody has to give it again."""

from __future__ import annotations

from raysched.errors import MissingError
from raysched.records.layout import SweepLayout
from raysched.runners.changes import previous
from raysched.study.load import LoadedStudy
from raysched.study.stored import stored
from raysched.study.yaml_text import to_yaml


def stored_study(layout: SweepLayout) -> LoadedStudy:
    """The study as the sweep has it now, under the sweep's name; its source is the ledger.

    Raises:
        MissingError: there is no such sweep.
        StudyError: it takes a plug-in that is not installed here, or another version of raysched wrote it.
        DamageError: the ledger is not what was written.
    """
    layout.pull(layout.ledger)
    state = previous(layout)
    if state is None or state.opened is None:
        raise MissingError(
            f"there is no sweep {layout.name!r} in {layout.uri}",
            key="SWEEP",
            hint="look for it with --storage, or start it with `raysched sweep`",
        )
    study = stored(state.opened.study)
    return LoadedStudy(study=study, name=layout.name, source=layout.ledger, text=to_yaml(study.model_dump(mode="json")))
