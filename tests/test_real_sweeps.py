"""One point of each task's study on the published data, by the command the README gives, with a random backbone.

Marked slow: minutes on two cores. Needs the data folder (RAYSCHED_DATA_DIR, or shared/data beside the checkout).
"""

from __future__ import annotations

import gzip
import json
import re
import string
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.real_data import DATA

TOKENIZER = DATA / "tokenizers" / "xlm-roberta-base"
QA = ["en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh"]
COPA = ["et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh"]
NLI = ["ar", "de", "el", "es", "hi", "ru", "sw", "th", "tr", "vi", "zh"]
COMMAND = [sys.executable, "-m", "raysched"]
LABELS = ("entailment", "neutral", "contradiction")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(not TOKENIZER.is_dir(), reason=f"no real data: {TOKENIZER} is not there (RAYSCHED_DATA_DIR)"),
]


@dataclass(frozen=True)
class Swept:
    """The one run of a finished sweep, and its report."""

    record: dict[str, Any]
    folder: Path
    report: str

    @property
    def tests(self) -> dict[str, dict[str, float]]:
        (tests,) = self.record["tests"].values()
        return tests

    def said(self, language: str) -> dict[str, str]:
        """example_id -> prediction."""
        path = self.folder / self.record["attempt_folder"] / "predictions" / f"{language}.parquet"
        return {row["example_id"]: row["prediction"] for row in pq.read_table(path).to_pylist()}


def sweep(tmp_path: Path, study: str, languages: Sequence[str], layers: int, settings: Sequence[str]) -> Swept:
    made = subprocess.run(
        [
            *(*COMMAND, "pretrain", "random", "--to", tmp_path / "xlmr", "--tokenizer", TOKENIZER),
            *("--languages", ",".join(dict.fromkeys(["en", *languages])), "--layers", str(layers), "--width", "64"),
        ],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    all_settings = [
        f"data.folder={DATA}",
        f"model.backbone={tmp_path}/xlmr/backbone",
        f"model.language_adapters={tmp_path}/xlmr/adapters/{{language}}",
        *("training.epochs=null", "search.schedule=[gu]", "search.lr=[5e-4]", "search.sampler=grid", "seeds=1"),
        *("evaluation.dev_points=2", "resources.cpu=1", "fisher.log.every_steps=50", *settings),
    ]
    command = [*COMMAND, "sweep", study, "--storage", tmp_path / "runs"]
    swept = subprocess.run(
        [*command, *(part for setting in all_settings for part in ("--set", setting))], capture_output=True, text=True
    )
    assert swept.returncode == 0, swept.stdout + swept.stderr
    (path,) = (tmp_path / "runs" / study / "runs").glob("*/record.json")
    report = (tmp_path / "runs" / study / "reports" / "report.md").read_text()
    assert all(f"| {language}" in report for language in languages)
    return Swept(json.loads(path.read_text()), path.parent, report)


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
    steps = ("training.steps=200", "training.batch_size=8", "evaluation.dev_limit=512", "search.k=[10]")
    swept = sweep(tmp_path, "xquad-xlmr", QA, 12, steps)
    assert sorted(swept.tests) == sorted(QA)
    for language in QA:
        gold = {
            question["id"]: [answer["text"] for answer in question["answers"]]
            for article in json.loads((DATA / "xquad" / f"xquad.{language}.json").read_text())["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        }
        said = swept.said(language)
        assert said.keys() == gold.keys()
        assert len(said) == 1190
        scores = [official(said[key], golds) for key, golds in gold.items()]
        scored = swept.tests[language]
        assert scored["f1"] == pytest.approx(100 * sum(f1 for f1, _ in scores) / len(scores), abs=1e-9)
        assert scored["em"] == pytest.approx(100 * sum(em for _, em in scores) / len(scores), abs=1e-9)


def accuracy(said: dict[str, str], gold: list[str]) -> float:
    """Ids end in the row's number: counted apart from the package."""
    numbered = {int(re.findall(r"\d+", key)[-1]): label for key, label in said.items()}
    assert sorted(numbered) == list(range(len(gold)))
    return 100 * sum(numbered[index] == label for index, label in enumerate(gold)) / len(gold)


def test_copa_to_xcopa_by_one_command(tmp_path: Path) -> None:
    swept = sweep(tmp_path, "xcopa-xlmr", COPA, 4, ("training.steps=60", "training.batch_size=16", "search.k=[5]"))
    assert sorted(swept.tests) == sorted(COPA)
    for language in COPA:
        lines = (DATA / "xcopa" / "data" / language / f"test.{language}.jsonl").read_text().splitlines()
        gold = [f"choice{json.loads(line)['label'] + 1}" for line in lines]
        assert len(gold) == 500
        assert swept.tests[language]["accuracy"] == pytest.approx(accuracy(swept.said(language), gold), abs=1e-9)
    assert "as published and kept here" in swept.report


def test_multinli_to_xnli_by_one_command(tmp_path: Path) -> None:
    settings = (f"data.train={DATA}/nli_en/multinli_1.0_dev_matched.csv.gz", "training.steps=60", "search.k=[5]")
    swept = sweep(tmp_path, "xnli-xlmr", NLI, 4, (*settings, "training.batch_size=16"))
    assert set(NLI) <= swept.tests.keys()
    for language in NLI:
        with gzip.open(DATA / "xnli" / f"test-{language}.tsv.gz", "rt", encoding="utf-8", newline="\n") as file:
            gold = [line.rstrip("\n").split("\t")[2] for line in file]
        assert len(gold) == 5010
        assert {label: gold.count(label) for label in LABELS} == dict.fromkeys(LABELS, 1670)
        assert swept.tests[language]["accuracy"] == pytest.approx(accuracy(swept.said(language), gold), abs=1e-9)
