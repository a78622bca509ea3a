"""Which form a task reads, and a file of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysched.errors import StudyError
from raysched.study import plugins
from raysched.tasks import forms, local, sources
from raysched.tasks.registry import task_class
from tests.tasks.written import MakeStudy, asked, copa, json_lines, multinli, multinli_txt, put, squad, xnli

SQUAD, COPA = squad(1), json_lines(copa())


@pytest.mark.parametrize("task", ["qa", "choice", "nli"])
def test_tasks_name_their_form(task: str) -> None:
    assert forms.form_of(task).name == task_class(task).form == task


def test_the_form_of_a_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pairs:
        form = "nli"

    class Odd:
        form = "table"

    monkeypatch.setattr(plugins, "load", lambda kind, name: {"pairs": Pairs, "odd": Odd}[name])
    assert forms.form_of("pairs").name == "nli"
    with pytest.raises(StudyError, match=r"task 'odd' has form 'table'\n  valid: qa, choice, nli"):
        forms.form_of("odd")


@pytest.mark.parametrize(
    ("task", "name", "value", "looks", "other"),
    [
        ("choice", "train.json", SQUAD, "SQuAD JSON", "qa"),
        ("nli", "train.json.gz", SQUAD, "SQuAD JSON", "qa"),
        ("choice", "train.tsv", xnli(), "rows of XNLI", "nli"),
        ("choice", "train.txt", multinli_txt(1), "rows of MultiNLI", "nli"),
        ("choice", "train.csv.gz", "pairID,sentence1,sentence2,label\n1,a,b,neutral\n", "rows of MultiNLI", "nli"),
        ("qa", "train.jsonl", json_lines(multinli()), "rows of MultiNLI", "nli"),
        ("qa", "train.jsonl", COPA, "rows of COPA", "choice"),
        ("nli", "train.jsonl", "\ufeff" + COPA, "rows of COPA", "choice"),
        ("nli", "train.tsv", COPA, "rows of COPA", "choice"),
    ],
)
def test_a_file_of_another_task(
    study: MakeStudy, tmp_path: Path, task: str, name: str, value: Any, looks: str, other: str
) -> None:
    path = put(tmp_path / name, value)
    with pytest.raises(
        StudyError, match=rf"{name}: looks like {looks}, which task {other} reads, but this study's task reads"
    ) as caught:
        sources.resolve(asked(study, ("vel",), task=task, train=str(path)))
    assert f"set task: {other}" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("value", "task"),
    [('{"data": [{"paragraphs": []}]}', "qa"), (COPA, "choice"), (xnli(), "nli"), ("a,b\n", None), ("", None)],
)
def test_recognised(value: str, task: str | None) -> None:
    found = forms.recognised(forms._names(value.encode()))
    assert (found[0] if found else None) == task


@pytest.mark.parametrize("task", ["qa", "choice", "nli"])
def test_known_hub_names_of_another_task(study: MakeStudy, task: str) -> None:
    for repo, known in local.PUBLISHED.items():
        if known.form != task:
            with pytest.raises(StudyError, match=rf"data\.test: looks like {repo}, .* which task {known.form} reads"):
                sources.resolve(asked(study, ("vel",), task=task, test=repo), check=False)
