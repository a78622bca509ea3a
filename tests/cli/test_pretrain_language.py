"""`raysched pretrain language`: stopped and killed and continued to the same bits, used by a run; what it refuses."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from raysched import mini
from raysched.errors import BAD_INPUT, OUTSIDE_MISSING, RESUMABLE, TERMINATED
from raysched.mini.text import mlm_text
from raysched.records.files import sha256_tree
from raysched.records.lock import DriverLock
from raysched.runners import preflight
from raysched.study.load import load_study
from tests.cli.conftest import Answer, Raysched
from tests.hub_stub import private_hub, serve
from tests.processes import shell, wait

DATA = Path(os.environ.get("RAYSCHED_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))
GERMAN = (DATA / "mlm_text" / "pud" / "de.txt", DATA / "mlm_text" / "tatoeba" / "de-en.de")
TOKENIZER = DATA / "tokenizers" / "xlm-roberta-base"
MISSING = [path for path in (*GERMAN, TOKENIZER) if not path.exists()]


def orlan(n: int) -> str:
    """Lines of the mini world's second language, with nothing hidden."""
    lines = []
    for row in itertools.islice(mlm_text("orl", 3), n):
        told = dict(row.targets)
        lines.append(" ".join(told.get(at, word) for at, word in enumerate((*row.first, *(row.second or ())))))
    return "\n".join(lines)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "orl.txt"
    path.write_text(orlan(400))
    return path


def options(source: Path | str, to: str = "adapters", **changed: object) -> list[str]:
    values = {
        "backbone": "mini",
        "language": "orl",
        "text": source,
        "to": to,
        "lr": 2e-3,
        "batch-size": 8,
        "length": 32,
    }
    values |= {"steps": 24, "every": 8, "device": "cpu"} | {
        key.replace("_", "-"): value for key, value in changed.items()
    }
    return ["pretrain", "language", *(str(part) for key, value in values.items() for part in (f"--{key}", value))]


def losses(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "training.json").read_text())["held_out_loss"]
    return found


def test_stopped_killed_and_continued_to_the_same_adapter_which_a_run_uses(
    raysched: Raysched, tmp_path: Path, text: Path
) -> None:
    torch.set_num_threads(1)  # as in the other processes: more add up in another order
    folder = tmp_path / "shell" / "adapters" / "orl"
    with shell(tmp_path / "shell") as sh:
        stopped = sh.raysched(*options(text))
        wait(lambda: (folder / ".training" / "step-00000000").is_dir())
        os.kill(stopped.pid, signal.SIGTERM)
        assert stopped.end() == TERMINATED
        assert "raysched: SIGTERM: stopped after step" in stopped.text
        assert f"continue: raysched pretrain language --backbone mini --language orl --text {text}" in stopped.text
        assert not (folder / "training.json").exists()

        killed = sh.raysched(*options(text))
        wait(lambda: (folder / ".training" / "step-00000008").is_dir())
        killed.kill()

    answer = raysched(*options(text, to="shell/adapters"))
    assert answer.code == 0, answer
    assert "continues after step" in answer.out
    assert "step 24: held-out loss" in answer.out
    assert "use it:  --set model.language_adapter_overrides.orl=shell/adapters/orl" in answer.out
    assert raysched(*options(text, to="whole")).code == 0
    assert sha256_tree(folder) == sha256_tree(tmp_path / "whole" / "orl")
    assert losses(folder)["best"] < losses(folder)["without_adapter"] - 0.5

    settings = ["model.language_adapter_overrides.orl=whole/orl", "evaluation.languages=[vel, orl]", "training.steps=2"]
    settings += ["evaluation.dev_limit=20", "evaluation.test_limit=20", "fisher.log.every_steps=0"]
    resolved = preflight.resolve(load_study("xquad-mini", settings).study, device="cpu")
    assert resolved.language_adapters["orl"].revision == sha256_tree(folder)
    used = [part for setting in settings for part in ("--set", setting)]
    answer = raysched("run", "xquad-mini", "--point", "schedule=standard", *used)
    assert answer.code == 0, answer
    assert "test orl" in answer.out


def test_a_finished_training_says_so_and_goes_on_to_a_higher_limit(
    raysched: Raysched, tmp_path: Path, text: Path
) -> None:
    assert raysched(*options(text, steps=2, every=2)).code == 0
    first = losses(tmp_path / "adapters" / "orl")
    before = sha256_tree(tmp_path)
    answer = raysched(*options(text, steps=2, every=2))
    assert answer.code == 0
    assert answer.out.startswith("adapters/orl is finished; nothing was left to do")
    assert "use it:" in answer.out
    assert sha256_tree(tmp_path) == before
    answer = raysched(*options(text, steps=4, every=2))
    assert answer.code == 0
    assert "continues after step 2" in answer.out
    assert losses(tmp_path / "adapters" / "orl")["last"] < first["last"]

    for changed, message in (
        (
            {"lr": 1e-4, "every": 2},
            "--lr: adapters/orl was begun with other settings: lr is 0.002 there and 0.0001 here",
        ),
        ({"seed": 3, "every": 2, "reduction": 4}, "reduction is 2.0 there and 4.0 here, seed is 0 there and 3 here"),
    ):
        answer = raysched(*options(text, steps=2, every=2) + options(text, **changed)[2:])
        assert answer.code == BAD_INPUT
        assert message in answer.err
        assert "give another --to" in answer.err
    (tmp_path / "other.txt").write_text(orlan(300))
    answer = raysched(*options("other.txt", steps=2, every=2))
    assert (answer.code, "--text: adapters/orl was begun with other settings: text is" in answer.err) == (
        BAD_INPUT,
        True,
    )
    with DriverLock(tmp_path / "adapters" / "orl" / ".training" / "lock"):
        answer = raysched(*options(text, steps=5, every=2))
    assert (answer.code, "--to: another process trains this adapter" in answer.err) == (RESUMABLE, True)


# options; exit code, key and rule, next step
BAD = [
    ({"language": "o.l"}, BAD_INPUT, "--language: must be a code of letters, digits, - and _, but got 'o.l'"),
    ({"source": "nowhere.txt"}, OUTSIDE_MISSING, "--text: there is no file nowhere.txt"),
    ({"source": "."}, OUTSIDE_MISSING, "--text: . is a folder"),
    ({"source": "empty.txt"}, BAD_INPUT, "--text: the text is empty"),
    ({"source": "latin.txt"}, BAD_INPUT, "latin.txt: line 401 is not UTF-8 text"),
    ({"backbone": "./nowhere"}, OUTSIDE_MISSING, "--backbone: there is no folder nowhere"),
    ({"backbone": "./bare"}, OUTSIDE_MISSING, "--backbone: no tokenizer in bare"),
    ({"backbone": "./gpt"}, BAD_INPUT, "--backbone: must be an encoder with masked-language-model training"),
    ({"length": 65}, BAD_INPUT, "--length: must be from 8 to the 64 positions of the backbone, but got 65"),
    ({"held_out": 400}, BAD_INPUT, "--held-out: must leave some of the text to train on, but 400 lines"),
    ({"held_out": 1.5}, BAD_INPUT, "--held-out: must be a share below 1 or a number of lines, but got 1.5"),
    ({"lr": 3}, BAD_INPUT, "--lr: must be between 0 and 1, but got 3"),
    ({"precision": "fp16"}, BAD_INPUT, "--precision: must be fp32 or bf16, but got 'fp16'"),
    ({"reduction": 200}, BAD_INPUT, "--reduction: must be from 1 to the backbone's hidden size 64, but got 200"),
    ({"device": "tpu"}, BAD_INPUT, "--device: must be a device, but got 'tpu'"),
    ({"device": "cuda:99"}, OUTSIDE_MISSING, "--device: cuda:99 is not there"),
    ({"to": "other"}, BAD_INPUT, "--to: other/orl holds something that was not made here"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "code", "message"), BAD, ids=[row[2].partition(",")[0] for row in BAD])
def test_what_is_refused_leaves_nothing(
    raysched: Raysched, tmp_path: Path, text: Path, changed: dict[str, object], code: int, message: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(f"{text.read_text()}\nwörter\n".encode("latin-1"))
    (tmp_path / "other" / "orl").mkdir(parents=True)
    (tmp_path / "other" / "orl" / "mine").write_text("")
    for name in ("bare", "gpt"):
        shutil.copytree(mini.backbone_path(), tmp_path / name)
    for path in (tmp_path / "bare").glob("*token*"):
        path.unlink()
    config = json.loads((tmp_path / "gpt" / "config.json").read_text())
    (tmp_path / "gpt" / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    before = sorted(tmp_path.rglob("*"))
    answer = raysched(*options(text) + options(**({"source": text} | changed))[2:])
    assert (answer.code, message in answer.err.replace(f"{tmp_path}/", "")) == (code, True), answer.err
    assert "Traceback" not in answer.err
    assert "next:" in answer.err or "valid:" in answer.err
    assert sorted(tmp_path.rglob("*")) == before


def parquet(rows: list[dict[str, object]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def test_backbone_and_text_from_the_hub_stay_at_their_commits(
    raysched: Raysched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path
) -> None:
    private_hub(monkeypatch, tmp_path / "cache")
    lines = text.read_text().splitlines()
    pages: list[dict[str, object]] = [{"id": n, "text": "\n".join(lines[n : n + 5])} for n in range(0, 400, 5)]
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        commit = hub.add(
            "model", "some/xlmr", {path.name: path.read_bytes() for path in mini.backbone_path().iterdir()}
        )
        names = [f"orl/train-0000{n}-of-00002.parquet" for n in range(2)]
        files = {names[0]: parquet(pages[:40]), names[1]: parquet(pages[40:])}
        files["kes/train-00000-of-00001.parquet"] = parquet(pages[:1])
        hub.add("dataset", "some/pages", files)

        def pretrain(source: str, steps: int, *more: str) -> Answer:
            return raysched(*options(source, backbone="some/xlmr", steps=steps, every=2), *more)

        for source, more, message in (
            ("some/pages", (), "--text: must name a part of some/pages with a split train, but got none"),
            ("some/pages:fr", (), "but got fr\n  valid: some/pages:kes, some/pages:orl"),
            ("some/pages:orl", ("--column", "id"), "--column: must be a column of text of some/pages, but got 'id'"),
        ):
            answer = pretrain(source, 2, *more)
            assert (answer.code, message in answer.err) == (BAD_INPUT, True), answer
        answer = pretrain("some/none", 2)
        assert (answer.code, "--text: dataset some/none is not on the hub" in answer.err) == (OUTSIDE_MISSING, True)
        assert not (tmp_path / "adapters").exists()

        assert pretrain("some/pages:orl", 2).code == 0
        about = json.loads((tmp_path / "adapters" / "orl" / "training.json").read_text())
        assert about["settings"]["backbone"] == commit
        assert about["text"]["lines"] + about["text"]["held_out_lines"] == 400
        config = json.loads((tmp_path / "adapters" / "orl" / "adapter_config.json").read_text())
        assert config["model_name"] == "some/xlmr"
        hub.add("model", "some/xlmr", {"config.json": b"{}"})
        hub.add("dataset", "some/pages", {})
        assert pretrain("some/pages:orl", 4).code == 0  # goes on with what it began with


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(bool(MISSING), reason=f"no real data: {MISSING} not there (RAYSCHED_DATA_DIR)")
def test_real_german_stopped_and_continued_and_used_by_a_sweep(tmp_path: Path) -> None:
    """XLM-R's vocabulary, random weights: all that can be learned is which tokens German has."""
    with shell(tmp_path / "shell") as sh:
        (sh.folder / "de.txt").write_text("\n".join(path.read_text() for path in GERMAN))
        languages = ("--languages", "en,de", "--layers", "4", "--width", "64")
        code, out = sh.run("pretrain", "random", "--to", "xlmr", "--tokenizer", TOKENIZER, *languages)
        assert code == 0, out
        weights = sh.folder / "xlmr" / "backbone" / "model.safetensors"
        tensors = load_file(weights)
        tensors["embeddings.word_embeddings.weight"] *= 5  # longer vectors: the head can tell tokens apart
        save_file(tensors, weights, {"format": "pt"})
        chosen = {"backbone": "./xlmr/backbone", "language": "de", "length": 64, "lr": 5e-3, "steps": 100, "every": 20}
        chosen |= {"held-out": 0.05}
        command = options("de.txt", to="./trained", **chosen)
        stopped = sh.raysched(*command)
        wait(lambda: (sh.folder / "trained" / "de" / ".training" / "step-00000020").is_dir(), timeout_s=1200)
        os.kill(stopped.pid, signal.SIGTERM)
        assert stopped.end() == TERMINATED
        code, out = sh.run(*command, timeout_s=1800)
        assert code == 0, out
        assert "continues after step" in out
        found = losses(sh.folder / "trained" / "de")
        assert found["best"] < found["without_adapter"] - 0.3

        settings = [
            f"data.folder={DATA}",
            "model.backbone=./xlmr/backbone",
            "model.language_adapters=./xlmr/adapters/{language}",
            "model.language_adapter_overrides.de=./trained/de",
            *("evaluation.languages=[en, de]", "evaluation.dev_limit=32", "evaluation.test_limit=32", "seeds=1"),
            *("training.epochs=null", "training.steps=3", "training.batch_size=2", "data.train_examples=32"),
            *("search.schedule=[standard]", "search.lr=[5e-4]", "search.sampler=grid", "evaluation.dev_points=1"),
            *("resources.cpu=1", "fisher.log.every_steps=0"),
        ]
        code, out = sh.run("sweep", "xquad-xlmr", *(part for one in settings for part in ("--set", one)), timeout_s=600)
        assert code == 0, out
