"""Every task by name: built-in ones, and those of installed plug-ins."""

from __future__ import annotations

from raysched.study import plugins
from raysched.study.model import Study
from raysched.tasks.choice import ChoiceTask
from raysched.tasks.nli import NLITask
from raysched.tasks.qa import QATask
from raysched.tasks.task import Task

BUILT_IN: dict[str, type[Task]] = {"qa": QATask, "choice": ChoiceTask, "nli": NLITask}


def task_class(name: str) -> type[Task]:
    """The class of a task. Raises StudyError where a plug-in's cannot be loaded."""
    found: type[Task] = BUILT_IN[name] if name in BUILT_IN else plugins.load("task", name)
    return found


def make_task(study: Study) -> Task:
    """The task of a study."""
    return task_class(study.task)(study)
