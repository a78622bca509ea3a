"""Every input the main job refuses: exit code, key, rule, value, valid choices, next step; nothing half-created."""

# ruff: noqa: E501  (one row of a table is one line)
from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysched import mini
from raysched.errors import BAD_INPUT, OUTSIDE_MISSING, RESUMABLE
from raysched.records.entries import Opened
from raysched.records.layout import SweepLayout
from raysched.records.ledger import Ledger
from raysched.records.lock import DriverLock
from raysched.study.load import load_study
from tests.cli.conftest import Answer, Raysched, closed_port

SCREEN = 24
GOOD = "extends: xquad-mini\nsearch:\n  lr: [1e-3]\n"


def check(answer: Answer, code: int, *parts: str, storage: Path | None = None) -> None:
    """One screen that says all of `parts`, no traceback, and no sweep left in the storage."""
    assert answer.code == code, answer
    for part in parts:
        assert part in answer.err, answer.err
    assert len(answer.err.splitlines()) <= SCREEN
    assert answer.err.startswith("raysched: ")
    assert "Traceback" not in answer.out + answer.err
    assert "next:" in answer.err or "valid:" in answer.err
    assert storage is None or not storage.exists()


# the study file (None: xquad-mini), options; then the key with which the message begins, rule, value, choices, next step
STUDIES = [
    ("unknown study", None, ["xquad-minni"], "'xquad-minni': ", "names no study", "xquad-xlmr", "did you mean xquad-mini?"),
    ("misspelled key", "extends: xquad-mini\ntrainig:\n  steps: 3\n", [], "trainig: ", "unknown key", "mine.yaml:2:1", "training", "did you mean training?"),
    ("misspelled key in --set", GOOD, ["--set", "search.lrs=[1]"], "search.lrs: ", "unknown key", "did you mean search.lr?"),
    ("k: 0", GOOD + "  k: 0\n", [], "search.k: ", "must be a list", "but got 0", "a whole number >= 1", "k: [...]"),
    ("k: [0]", GOOD + "  k: [0]\n", [], "search.k[0]: ", "must be a whole number >= 1, early or even", "but got 0", "a whole number >= 1", "choose a larger value"),
    ("lr as text", 'extends: xquad-mini\nsearch:\n  lr: ["1e-3"]\n', [], "search.lr[0]: ", "must be a number, not text", '"1e-3"', "a number > 0 and < 1", "without quotes"),
    ("duplicate key", GOOD + "  lr: [2e-3]\n", [], "search.lr: ", "must be given once", "mine.yaml:3:3", "mine.yaml:4:3", "remove one of the two"),
    ("schedule without k", GOOD + "  schedule: [gu]\n  k: []\n", [], "search.k: ", "must hold at least one interval for schedule gu", "none", "whole numbers from 1", "add k: [100]"),
    ("target objective", GOOD + "  objective: test/orl/f1\n", [], "search.objective: ", "must be a source-language dev score", "'test/orl/f1'", "source_dev/f1", "targets are tested after training"),
    ("no seeds", GOOD + "seeds: []\n", [], "seeds: ", "must hold at least 1 value", "[]", "a list", "give at least one value"),
    ("no seeds at all", GOOD + "seeds: 0\n", [], "seeds: ", "must be a number of seeds from 1", "but got 0", "seeds: 4"),
    ("duplicate seeds", GOOD + "seeds: [1, 2, 1]\n", [], "seeds: ", "must not repeat a value", "1 stands twice in [1, 2, 1]", "remove the repetition"),
    ("gpu between 1 and 2", GOOD + "resources: {gpu: 1.5}\n", [], "resources.gpu: ", "must be auto", "1.5", "auto, 0, 0.25", "auto takes a GPU"),
    ("name with /", GOOD, ["--name", "a/b"], "--name: ", "must match", "'a/b'", "lower-case letters", "choose another --name"),
    ("name with ..", GOOD, ["--name", "a..b"], "--name: ", "hold no ..", "'a..b'", "lower-case letters", "choose another --name"),
    ("name that climbs", GOOD, ["--name", "../evil"], "--name: ", "must match", "'../evil'", "choose another --name"),
    ("two permutations", GOOD + "training: {permutation: [1, 1]}\n", [], "training.permutation: ", "must not repeat a value", "[1, 1]", "remove the repetition"),
    ("layers of another backbone", GOOD + "  schedule: [permutation]\n  k: [5]\ntraining: {permutation: [0, 1]}\n", [], "training.permutation: ", "must hold each of the layers below the top", "but got [0, 1]", "an order of [0, 1, 2"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "parts"), [(row[1], row[2], row[3:]) for row in STUDIES], ids=[row[0] for row in STUDIES])  # fmt: skip
@pytest.mark.parametrize("command", ["sweep", "plan"])
def test_malformed_studies(
    raysched: Raysched, tmp_path: Path, command: str, text: str | None, options: list[str], parts: tuple[str, ...]
) -> None:
    if command == "plan" and "permutation: [0, 1]" in (text or ""):
        pytest.skip("plan does not open the backbone")
    study = options[:1] if text is None else ["mine.yaml"]
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text)
    storage = tmp_path / "storage"
    answer = raysched(command, *study, "--storage", storage, *(options if text is not None else options[1:]))
    check(answer, BAD_INPUT, "raysched: " + parts[0], *parts[1:], storage=storage)


# options that fit no run of the mini world's backbone: key, rule, value
UNFIT = [
    ("fisher.select={labels: exact, estimator: batch}", "fisher.select.labels: ", "must not be exact with estimator=batch", "per_example"),
    ("model.task_adapter.reduction=100", "model.task_adapter.reduction: ", "at most the backbone's hidden size 64", "100"),
    ("data.max_length=128", "data.max_length: ", "positions of the backbone", "128", "--set data.max_length="),
    ("data.doc_stride=30", "data.doc_stride: ", "must leave room for a question", "30", "customary"),
    ("model.language_adapter_config.reduction=16", "model.language_adapter_config.reduction: ", "adapter_config.json", "expected 16 and found 2"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "parts"), [(row[0], row[1:]) for row in UNFIT], ids=[row[1] for row in UNFIT])
def test_what_would_fail_in_every_run_is_refused_before(
    raysched: Raysched, tmp_path: Path, setting: str, parts: tuple[str, ...]
) -> None:
    storage = tmp_path / "storage"
    answer = raysched("sweep", "xquad-mini", "--storage", storage, "--set", setting)
    check(answer, BAD_INPUT, *parts, storage=storage)


# options of `pretrain random`: key, rule, value
PRETRAIN = [
    (["--width", "10"], BAD_INPUT, "--width: must be a multiple of the 4 attention heads, but got 10"),
    (["--languages", "en,a.b"], BAD_INPUT, "--languages: must be names such as en or zh, but got 'a.b'"),
    (["--tokenizer", "empty"], BAD_INPUT, "--tokenizer: empty holds no tokenizer that can be read"),
    (["--tokenizer", "nowhere"], OUTSIDE_MISSING, "--tokenizer: no tokenizer.json in nowhere"),
    (["--to", "file/x"], OUTSIDE_MISSING, "file/x"),
    (["--to", "other"], BAD_INPUT, "--to: other holds a backbone that was not made here"),
]


@pytest.mark.parametrize(("options", "code", "text"), PRETRAIN)
def test_pretrain_random(raysched: Raysched, tmp_path: Path, options: list[str], code: int, text: str) -> None:
    for folder in ("empty", "good", "other/backbone"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "empty" / "tokenizer.json").write_text("{}")
    shutil.copy(mini.backbone_path() / "tokenizer.json", tmp_path / "good" / "tokenizer.json")
    (tmp_path / "file").write_text("")
    given = {"--to": "made", "--tokenizer": "good", "--languages": "en", "--layers": "1", "--width": "8"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    answer = raysched("pretrain", "random", *(part for pair in given.items() for part in pair))
    assert answer.code == code, answer
    assert text in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "made").exists() or not any((tmp_path / "made").iterdir())


def squad(answer: str = "Rome", start: int = 12) -> dict[str, Any]:
    row = {"id": "1", "question": "Where?", "answers": [{"text": answer, "answer_start": start}]}
    return {"data": [{"paragraphs": [{"context": "It stands in Rome.", "qas": [row]}]}]}


def good_file(path: Path) -> None:
    path.write_text(json.dumps(squad(start=13)))


def truncated(path: Path) -> None:
    whole = gzip.compress(json.dumps(squad(start=13)).encode())
    path.write_bytes(whole[: len(whole) // 2])


# what lies at data.train, the file's name; then exit code, key, rule, value, next step
DATA: list[tuple[str, Callable[[Path], object], str, int, tuple[str, ...]]] = [
    ("missing", lambda path: None, "squad.json", OUTSIDE_MISSING, ("data.train: ", "no such file", "squad.json", "--set data.train=FILE")),
    ("truncated gzip", truncated, "squad.json.gz", BAD_INPUT, ("squad.json.gz: ", "not a whole gzip file", "fetch the file again")),
    ("not JSON", lambda path: path.write_text("<html>sign in</html>"), "squad.json", BAD_INPUT, ("squad.json: ", "not JSON", "fetch the file again")),
    ("not SQuAD", lambda path: path.write_text('{"version": "1.1"}'), "squad.json", BAD_INPUT, ("squad.json: ", "the file has no 'data'", "SQuAD v1.1")),
    ("of another task", lambda path: path.write_text('{"premise": "p", "choice1": "a", "choice2": "b", "question": "cause", "label": 0}'), "copa.jsonl", BAD_INPUT, ("copa.jsonl: ", "looks like rows of COPA", "which task choice reads", "set task: choice")),
    ("answer elsewhere", lambda path: path.write_text(json.dumps(squad(start=3))), "squad.json", BAD_INPUT, ("squad.json: ", "is not in its context", "'Rome'", "answer_start=3", "correct answer_start")),
    ("no answer", lambda path: path.write_text(json.dumps(squad()).replace('{"text": "Rome", "answer_start": 12}', "")), "squad.json", BAD_INPUT, ("squad.json: ", "must have at least one answer", "SQuAD v2")),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "code", "parts"), [row[1:] for row in DATA], ids=[row[0] for row in DATA])
def test_data_files(
    raysched: Raysched, tmp_path: Path, make: Callable[[Path], object], name: str, code: int, parts: tuple[str, ...]
) -> None:
    make(tmp_path / name)
    storage = tmp_path / "storage"
    answer = raysched("sweep", "xquad-mini", "--storage", storage, "--set", f"data.train=./{name}")
    check(answer, code, *parts, storage=storage)


@pytest.mark.parametrize(
    ("option", "code", "parts"),
    [
        ("model.backbone=./nowhere", OUTSIDE_MISSING, ("model.backbone: ", "there is no folder", "nowhere", "mini")),
        ("model.backbone=nobody", BAD_INPUT, ("model.backbone: ", "owner/name", "'nobody'")),
        ("model.language_adapters=./no/{language}", OUTSIDE_MISSING, ("model.language_adapters: ", "there is no folder")),
        ("evaluation.languages=[vel, zz]", BAD_INPUT, ("zz", "orl")),
        ("model.source_language=zz", BAD_INPUT, ("zz", "vel")),
        ("data.train_examples=1000000", BAD_INPUT, ("data.train_examples: ", "at most the 6000 rows", "1000000")),
    ],
)  # fmt: skip
def test_inputs_that_are_not_there(
    raysched: Raysched, tmp_path: Path, option: str, code: int, parts: tuple[str, ...]
) -> None:
    storage = tmp_path / "storage"
    check(raysched("sweep", "xquad-mini", "--storage", storage, "--set", option), code, *parts, storage=storage)


def test_an_unreachable_hub_is_found_in_seconds_before_ray_starts(raysched: Raysched, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    began = time.monotonic()
    answer = raysched("sweep", "xquad-xlmr", "--storage", storage)
    assert time.monotonic() - began < 15
    parts = ("127.0.0.1", "data.folder=FOLDER", "model.backbone=FOLDER", "HF_HUB_OFFLINE=1")
    check(answer, OUTSIDE_MISSING, *parts, storage=storage)
    assert "Ray" not in answer.out


@pytest.mark.parametrize(
    ("option", "uri", "variable"),
    [
        ("--mlflow", "https://me:secret@host:5000", "RAYSCHED_MLFLOW"),
        ("--optuna", "postgresql://me:secret@host/optuna", "RAYSCHED_OPTUNA"),
        ("--optuna", "postgresql://host/optuna?password=secret", "RAYSCHED_OPTUNA"),
    ],
)
def test_a_password_on_the_command_line(raysched: Raysched, option: str, uri: str, variable: str) -> None:
    answer = raysched("sweep", "xquad-mini", option, uri)
    check(answer, BAD_INPUT, f"raysched: {option}: ", f"put the address into {variable}")
    assert "secret" not in answer.out + answer.err


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("postgres://somewhere", ("'postgres://somewhere'", "http://...", "sqlite:///...")),
        ("mlflow.db", ("'mlflow.db'", "sqlite:///...")),
        ("http://127.0.0.1:{port}", ("no MLflow server answers at http://127.0.0.1:",)),
        ("http://user:secret@127.0.0.1:{port}", ("no MLflow server answers at http://",)),
        ("sqlite:///{folder}/no.db", ("is no SQLite database",)),
    ],
)
def test_a_tracking_store_that_cannot_work(
    raysched: Raysched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, parts: tuple[str, ...]
) -> None:
    (tmp_path / "no.db").write_text("not a database at all")
    storage = tmp_path / "storage"
    began = time.monotonic()
    uri = uri.format(port=closed_port(), folder=tmp_path)
    monkeypatch.setenv("RAYSCHED_MLFLOW", uri)
    answer = raysched("sweep", "xquad-mini", "--storage", storage)
    assert time.monotonic() - began < 15
    check(answer, OUTSIDE_MISSING, "raysched: --mlflow: ", "--allow-offline-tracking", *parts, storage=storage)
    assert "secret" not in answer.out + answer.err
    assert "Ray" not in answer.out


def test_storage_of_a_scheme_that_is_not_there(raysched: Raysched, tmp_path: Path) -> None:
    answer = raysched("sweep", "xquad-mini", "--storage", "s4://bucket/x")
    assert answer.code == BAD_INPUT
    assert "--storage: cannot store a sweep under s4://" in answer.err
    assert "valid: " in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def opened(tmp_path: Path) -> SweepLayout:
    """A sweep of xquad-mini that a driver opened and left."""
    layout = SweepLayout(tmp_path / "storage", "xquad-mini").create()
    study = load_study("xquad-mini").study.model_dump(mode="json")
    with Ledger.take_over(layout.ledger, host="here", pid=1) as ledger:
        ledger.append(Opened(study=study, resolved={}, provenance={}))
    return layout


@pytest.mark.parametrize("command", ["sweep", "plan"])
def test_a_changed_study_under_an_old_name(raysched: Raysched, opened: SweepLayout, command: str) -> None:
    before = opened.ledger.read_bytes()
    changes = ("--set", "search.lr=[2e-3]", "--set", "training.steps=9", "--set", "resources.cpu=2")
    answer = raysched(command, "xquad-mini", "--storage", opened.storage, *changes)
    check(
        answer,
        BAD_INPUT,
        "raysched: --name: the sweep 'xquad-mini' was started with another study",
        "search.lr: [0.001] -> [0.002]",
        f"training.steps: {load_study('xquad-mini').study.training.steps} -> 9",
        "next:  run the changed study under a name of its own: --name xquad-mini-2",
    )
    assert "resources" not in answer.err  # what changes no result may change
    assert opened.ledger.read_bytes() == before


def test_a_second_driver(raysched: Raysched, opened: SweepLayout) -> None:
    before = opened.ledger.read_bytes()
    with DriverLock(opened.lock) as first:
        began = time.monotonic()
        answer = raysched("sweep", "xquad-mini", "--storage", opened.storage)
        assert time.monotonic() - began < 3
        check(
            answer,
            RESUMABLE,
            f"another driver runs this sweep: host {first.host}, pid {first.pid}, since 20",
            "give this sweep another --name",
        )
    assert opened.ledger.read_bytes() == before


def test_a_damaged_ledger(raysched: Raysched, opened: SweepLayout) -> None:
    data = bytearray(opened.ledger.read_bytes())
    data[20] ^= 1
    opened.ledger.write_bytes(bytes(data))
    answer = raysched("sweep", "xquad-mini", "--storage", opened.storage)
    check(answer, 1, str(opened.ledger), "is damaged at byte 0", "restore the file from a copy")
    assert opened.ledger.read_bytes() == bytes(data)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("swep",), ("No such command 'swep'",)),
        (("sweep",), ("Missing argument 'STUDY'",)),
        (("sweep", "xquad-mini", "--max-concurrent", "0"), ("--max-concurrent", "greater than or equal to 1")),
        (("run", "xquad-mini"), ("Missing option '--point'",)),
    ],
)
def test_malformed_command_lines(raysched: Raysched, arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    answer = raysched(*arguments)
    assert answer.code == BAD_INPUT
    assert all(part in answer.err for part in parts), answer.err
    assert "Traceback" not in answer.err
