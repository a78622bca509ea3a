"""raysched from Python: what a notebook loads, sees and runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import raysched
from raysched import api
from raysched.errors import MissingError, StudyError
from raysched.reports.results import Results, SweepResults
from raysched.study.load import load_study
from raysched.study.space import Point
from tests.object_store import Store, store  # noqa: F401 - a fixture
from tests.processes import shell
from tests.reports.conftest import MadeUp, study
from tests.runners.world import SETTINGS
from tests.training.tiny_training import Tiny

HEAVY = ("torch", "ray", "mlflow", "optuna", "transformers", "adapters", "datasets", "matplotlib")


def in_a_process(folder: Path, code: str) -> Any:
    """What a fresh Python prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def sweep_there(tmp_path: Path) -> MadeUp:
    bed = MadeUp(tmp_path / "raysched-runs", study(schedules=("standard", "gu")), "mine")
    bed.all()
    return bed


# -- imports -----------------------------------------------------------------------------------------------------------


def test_import_is_instant(tmp_path: Path) -> None:
    code = "import sys, json; before = set(sys.modules); import raysched; print(json.dumps([*{*sys.modules} - before]))"
    packages = {name.partition(".")[0] for name in in_a_process(tmp_path, code)}
    assert packages - sys.stdlib_module_names == {"raysched"}


def test_to_read_a_sweep_imports_nothing_that_trains(sweep_there: MadeUp, tmp_path: Path) -> None:
    code = f"""
import sys, json, raysched
n = len(raysched.load_sweep("mine").runs)
print(json.dumps([n, [name for name in {HEAVY!r} if name in sys.modules]]))
"""
    assert in_a_process(tmp_path, code) == [4, []]


def test_what_the_package_shows() -> None:
    assert {"load_sweep", "load_sweeps", "sweep", "Results", "SweepResults", "__version__"} <= set(dir(raysched))
    assert raysched.load_sweep is api.load_sweep
    assert callable(raysched.sweep)
    assert raysched.Results is Results
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        raysched.load  # type: ignore[attr-defined]  # noqa: B018


# -- loading -----------------------------------------------------------------------------------------------------------


def test_every_way_to_name_a_sweep(sweep_there: MadeUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = sweep_there.layout.root
    monkeypatch.chdir(tmp_path)
    ways: list[tuple[Any, ...]] = [
        ("mine",),
        ("mine", "raysched-runs"),
        ("mine", root.parent),
        (root,),
        (str(root) + "/",),
        ("raysched-runs/mine",),
        (f"file://{root}",),
        ("mine", f"file://{root.parent}"),
    ]
    for way in ways:
        found = raysched.load_sweep(*way)
        assert (found.name, len(found.runs)) == ("mine", 4), way
    monkeypatch.chdir(root)
    assert raysched.load_sweep(".").name == "mine"


def test_from_an_object_store(store: Store) -> None:  # noqa: F811
    with store.machine("a"):
        bed = MadeUp(store.uri, study(schedules=("gu",)), "far")  # type: ignore[arg-type]
        bed.all()
        bed.layout.push(bed.layout.runs)
    with store.machine("b"):
        for found in (raysched.load_sweep(f"{store.uri}/far"), raysched.load_sweep("far", store.uri)):
            assert list(found.runs["test/th/f1"]) == [49.0, 51.0]
            assert len(found.traces) == 2 * 2 * 2 * 4
            assert len(found.predictions("th")) == 2 * 3
        with pytest.raises(MissingError, match="there is no sweep 'near'") as missing:
            raysched.load_sweep(f"{store.uri}/near")
        assert missing.value.choices == ("far",)


@pytest.mark.parametrize(
    ("way", "error", "parts"),
    [
        (("yours",), MissingError, ("there is no sweep 'yours'", "valid: mine")),
        (("raysched-runs",), MissingError, ("this is a storage", "load_sweep('raysched-runs/mine')", "load_sweeps(")),
        (("mine", "nowhere"), MissingError, ("there is no sweep 'mine'", "give its folder, its URI")),
        (("Mine!", "raysched-runs"), StudyError, ("must match",)),
        (("ftp://host/mine",), StudyError, ("cannot store a sweep under ftp://",)),
    ],
)
def test_what_cannot_be_loaded(
    sweep_there: MadeUp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: tuple[str, ...],
    error: type[Exception],
    parts: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as refused:
        raysched.load_sweep(*way)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingError, match="there is no sweep in"):
        raysched.load_sweeps()
    for name in ("one", "paper-table2.xnli-mbert", "paper-table2.xcopa-mbert", "paper-table2.own"):
        MadeUp(tmp_path / "raysched-runs", study(schedules=("gu",), seeds=(0,)), name).all()
    parts = ("paper-table2.xcopa-mbert", "paper-table2.xnli-mbert", "paper-table2.own")  # in the suite's order
    for names, expected in (
        (None, ("one", "paper-table2.own", "paper-table2.xcopa-mbert", "paper-table2.xnli-mbert")),
        ("paper-table2", parts),
        (["one", "paper-table2", "one"], ("one", *parts)),
        ([tmp_path / "raysched-runs" / "one"], ("one",)),
    ):
        assert raysched.load_sweeps(names).names == expected
    with pytest.raises(StudyError, match="names no sweep"):
        raysched.load_sweeps([])


# -- shown -------------------------------------------------------------------------------------------------------------


def test_shown_in_a_notebook(sweep_there: MadeUp) -> None:
    found = raysched.load_sweep(sweep_there.layout.root)
    assert repr(found) == "<mine: 4 of 4 runs finished>"
    summary = found.summary().set_index("method")
    assert summary.loc["gu", "test target average F1"] == "60.00 ± 1.41"
    assert summary.loc["gu", "source dev F1"] == "81.00 ± 1.41"
    page = found._repr_html_()
    assert "<td>60.00 ± 1.41</td>" in page
    assert "mine: 4 of 4 runs finished" in page
    assert found.study.task == "qa"
    assert found.outcome is None


def test_a_mean_over_fewer_seeds_is_daggered(tmp_path: Path) -> None:
    bed = MadeUp(tmp_path, study(schedules=("gu",)))
    first, second = bed.take(0, Point(schedule="gu", lr=1e-3, k=25))
    bed.finish(first)
    bed.fail(second)
    found = raysched.load_sweep(bed.layout.root)
    assert repr(found) == "<made-up: 1 of 2 runs finished, 1 failed>"
    (row,) = found.summary().to_dict("records")
    assert (row["n"], row["source dev F1"]) == ("1 of 2", "80.00 †")


def test_figures_tables_and_the_report(sweep_there: MadeUp) -> None:
    found = raysched.load_sweep(sweep_there.layout.root)
    names = list(found.figures)
    assert [name for name in names if name.startswith("fisher")]
    for name in ("fisher", names[0]):
        figure = found.figure(name)
        assert figure.axes
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    with pytest.raises(StudyError, match="figure: there is none named 'nothing'") as refused:
        found.figure("nothing")
    assert set(refused.value.choices) == set(names)
    table = found.tables["scores-test"]
    of = table[(table["method"] == "gu") & (table["column"] == "th") & (table["metric"] == "f1")]
    assert of[["mean", "n"]].to_numpy().tolist() == [[50.0, 2]]
    assert found.report() == sweep_there.layout.reports / "report.html"
    assert {path.stem for path in sweep_there.layout.reports.glob("figures/*.png")} == set(names)


def test_grouped_otherwise(tmp_path: Path) -> None:
    bed = MadeUp(tmp_path, study(schedules=("standard", "gu"), lr=(1e-3, 1e-2)))
    bed.all()
    found = raysched.load_sweep(bed.layout.root)
    runs = found.runs
    by_lr = found.grouped(by=("lr",))
    assert isinstance(by_lr, SweepResults)
    assert by_lr.runs is runs
    assert list(by_lr.summary()["method"]) == ["lr=0.001", "lr=0.01"]
    assert list(found.summary()["method"]) == ["standard", "gu"]
    assert list(found.grouped(by="lr").summary()["method"]) == ["lr=0.001", "lr=0.01"]
    for wrong, key in (({"by": "nothing"}, "--by"), ({"reference": "fum"}, "--reference"), ({"margin": 0}, "margin")):
        with pytest.raises(StudyError) as refused:
            found.grouped(**wrong)
        assert refused.value.key == key


def test_of_several_the_report_needs_a_folder(sweep_there: MadeUp) -> None:
    MadeUp(sweep_there.layout.storage, study(schedules=("gu",)), "other")
    found = raysched.load_sweeps(storage=sweep_there.layout.storage)
    with pytest.raises(StudyError, match="needs a folder"):
        found.report()


# -- running -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options", "key"),
    [
        ("xquad-mimi", {}, "'xquad-mimi'"),
        ({"extends": "xquad-mini"}, {}, "name"),
        ({"extends": "xquad-mini"}, {"name": "No Name"}, "name"),
        ({"extends": "xquad-mini", "seed": 3}, {"name": "x"}, "seed"),
        ({"extends": "xquad-mini", "seeds": {1, 2}}, {"name": "x"}, "study"),
        (3, {}, "study"),
        ("xquad-mini", {"overrides": {"search.lrs": [1e-4]}}, "search.lrs"),
        ("xquad-mini", {"overrides": "seeds"}, "--set"),
        ("xquad-mini", {"address": "http://head:8265"}, "address"),
        ("xquad-mini", {"max_concurrent": 0}, "max_concurrent"),
    ],
)
def test_what_is_refused_before_anything_starts(tmp_path: Path, given: Any, options: dict[str, Any], key: str) -> None:
    with pytest.raises(StudyError) as refused:
        raysched.sweep(given, storage=tmp_path, **options)
    assert refused.value.key == key
    assert list(tmp_path.iterdir()) == []


def test_a_study_in_any_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All name the same study."""
    path = tmp_path / "mine.yaml"
    path.write_text("extends: xquad-mini\nseeds: 2\nsearch: {lr: [5e-4]}\n")
    monkeypatch.chdir(tmp_path)
    values = {"extends": "xquad-mini", "seeds": 2, "search": {"lr": [5e-4]}}
    overrides = {"seeds": 2, "search.lr": [5e-4]}
    written = load_study(path)
    forms: list[tuple[Any, Any]] = [
        (path, ()),
        ("mine", ()),
        (values, ()),
        ({"extends": "mine"}, ()),
        (written.study, ()),
        ("xquad-mini", overrides),
        ("xquad-mini", ["seeds=2", "search.lr=[5e-4]"]),
        (load_study("xquad-mini").study, overrides),
    ]
    for given, changed in forms:
        loaded = api._loaded(given, api._options(changed), "any")
        assert (loaded.study, loaded.name, loaded.text) == (written.study, "any", written.text)


NOTEBOOK = '''
import asyncio, json, os, signal
import raysched
from raysched.errors import Interrupted

STUDY, STORAGE, SETTINGS = json.load(open("settings.json"))
seen, told = [], {}

def interrupt(now):
    """The stop button, once a run is done."""
    if now.done and not seen:
        seen.append(now)
        os.kill(os.getpid(), signal.SIGINT)

def watch(now):
    seen.append(now)
    raise ValueError("a progress bar that broke")

async def cells():
    """As in a notebook, whose event loop is running."""
    before = signal.getsignal(signal.SIGINT)
    again = dict(storage=STORAGE, overrides=SETTINGS, max_concurrent=1)
    try:
        raysched.sweep(STUDY, progress=interrupt, **again)
    except Interrupted as error:
        told["interrupted"] = str(error)
    half = raysched.load_sweep(STUDY, STORAGE)
    told["half"] = int(half.runs["finished"].sum())
    told["handler"] = signal.getsignal(signal.SIGINT) is before
    whole = raysched.sweep(STUDY, progress=watch, **again)
    told["whole"] = [int(whole.runs["finished"].sum()), whole.outcome.n_new, whole.outcome.exit_code]
    told["traces"] = len(whole.traces) > 0 and len(whole.evaluations) > 0
    nothing = raysched.sweep(STUDY, quiet=True, **again)
    told["nothing"] = [len(nothing.runs), nothing.outcome.n_new]
    told["umask"] = os.umask(0o022)
    told["seen"] = [len(seen), seen[0].total, str(seen[0])]
    import ray
    told["ray"] = ray.is_initialized()
    json.dump(told, open("told.json", "w"))

os.umask(0o022)
asyncio.run(cells())
'''


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_sweep_from_a_notebook(tiny: Tiny, tmp_path: Path) -> None:
    """Stopped after its first run, continued, and then nothing is left to do: in one process."""
    settings = SETTINGS | {
        "model.backbone": str(tiny.folder / "backbone"),
        "model.language_adapters": f"{tiny.folder}/adapters/{{language}}",
        "training.steps": 60,
    }
    (tmp_path / "settings.json").write_text(json.dumps(["xquad-mini", "runs", settings]))
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    with shell(tmp_path) as one:
        command = one.start(["notebook"])
        assert command.end(360) == 0, command.text
        told = json.loads((tmp_path / "told.json").read_text())
        assert one.settle() == []
    assert "stopped by Ctrl-C; everything done so far is saved" in told["interrupted"]
    assert 1 <= told["half"] < 4
    assert told["whole"] == [4, 4 - told["half"], 0]
    assert told["nothing"] == [4, 0]
    assert (told["handler"], told["traces"], told["umask"], told["ray"]) == (True, True, 0o022, False)
    assert told["seen"][:2] == [2, 4]
    assert "runs done; running: " in told["seen"][2]
    assert command.text.count("progress is not called again: ValueError: a progress bar that broke") == 1
    assert "starting Ray ..." in command.text
    assert "0 of 4 runs are done; 1 at a time from here" in command.text
