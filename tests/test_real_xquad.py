"""One point of xquad-xlmr on real SQuAD and XQuAD, by the command the README gives, with a random backbone.

Marked slow: minutes on two cores. Needs the data folder (RAYSCHED_DATA_DIR, or shared/data beside the checkout).
"""

from __future__ import annotations

import json
import os
import re
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

DATA = Path(os.environ.get("RAYSCHED_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
TOKENIZER = DATA / "tokenizers" / "xlm-roberta-base"
LANGUAGES = ["en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh"]
COMMAND = [sys.executable, "-m", "raysched"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not TOKENIZER.is_dir(), reason=f"no real data: {TOKENIZER} is not there (RAYSCHED_DATA_DIR)"),
]


def official(prediction: str, golds: list[str]) -> tuple[float, float]:
    """(F1, EM) of the SQuAD v1.1 rule, written apart from the package: lower, no punctuation, no articles."""

    def words(text: str) -> list[str]:
        kept = "".join(character for character in text.lower() if character not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", kept).split()

    def f1(gold: str) -> float:
        p, g = words(prediction), words(gold)
        same = sum((Counter(p) & Counter(g)).values())
        return 2 * same / (len(p) + len(g)) if same else 0.0

    return max(map(f1, golds)), max(float(words(prediction) == words(gold)) for gold in golds)


def test_squad_to_xquad_by_one_command(tmp_path: Path) -> None:
    made = subprocess.run(
        [
            *(*COMMAND, "pretrain", "random", "--to", tmp_path / "xlmr", "--tokenizer", TOKENIZER),
            *("--languages", ",".join(LANGUAGES), "--layers", "12", "--width", "64"),
        ],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    settings = [
        f"data.folder={DATA}",
        f"model.backbone={tmp_path}/xlmr/backbone",
        f"model.language_adapters={tmp_path}/xlmr/adapters/{{language}}",
        *("training.epochs=null", "training.steps=200", "training.batch_size=8", "evaluation.dev_limit=512"),
        *("search.schedule=[gu]", "search.lr=[5e-4]", "search.k=[10]", "search.sampler=grid", "seeds=1"),
        *("evaluation.dev_points=2", "resources.cpu=1", "fisher.log.every_steps=50"),
    ]
    command = [*COMMAND, "sweep", "xquad-xlmr", "--storage", tmp_path / "runs"]
    swept = subprocess.run(
        [*command, *(part for setting in settings for part in ("--set", setting))], capture_output=True, text=True
    )
    assert swept.returncode == 0, swept.stdout + swept.stderr

    (record_path,) = (tmp_path / "runs" / "xquad-xlmr" / "runs").glob("*/record.json")
    record = json.loads(record_path.read_text())
    (tests,) = record["tests"].values()
    assert sorted(tests) == sorted(LANGUAGES)
    for language in LANGUAGES:
        gold = {
            question["id"]: [answer["text"] for answer in question["answers"]]
            for article in json.loads((DATA / "xquad" / f"xquad.{language}.json").read_text())["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        }
        path = record_path.parent / record["attempt_folder"] / "predictions" / f"{language}.parquet"
        said = {row["example_id"]: row["prediction"] for row in pq.read_table(path).to_pylist()}
        assert said.keys() == gold.keys()
        assert len(said) == 1190
        scores = [official(said[key], golds) for key, golds in gold.items()]
        assert tests[language]["f1"] == pytest.approx(100 * sum(f1 for f1, _ in scores) / len(scores), abs=1e-9)
        assert tests[language]["em"] == pytest.approx(100 * sum(em for _, em in scores) / len(scores), abs=1e-9)
