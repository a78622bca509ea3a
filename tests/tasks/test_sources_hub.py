"""Data sets of the hub, of a local one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysched.errors import MissingError, StudyError
from raysched.study.model import MAIN
from raysched.tasks import sources
from tests.hub_stub import HubStub, private_hub, serve
from tests.tasks.written import PUBLIC, MakeStudy, asked, copa


def parquet(*ids: str, answer: str = "b") -> bytes:
    table = pa.Table.from_pylist(
        [
            {
                "id": i,
                "title": "t",
                "context": "a b c",
                "question": "?",
                "answers": {"text": [answer], "answer_start": [2]},
            }
            for i in ids
        ],
        schema=pa.schema(
            [(name, pa.string()) for name in ("id", "title", "context", "question")]
            + [("answers", pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))]))]
        ),
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    private_hub(monkeypatch, tmp_path / "hf")
    with serve() as stub:
        monkeypatch.setenv("HF_ENDPOINT", stub.url)
        one = "-00000-of-00001.parquet"
        stub.add(
            "dataset",
            "rajpurkar/squad",
            {f"plain_text/train{one}": parquet("1", "2"), f"plain_text/validation{one}": parquet("3")},
        )
        stub.add("dataset", "google/xquad", {f"xquad.{name}/validation{one}": parquet(name) for name in ("en", "th")})
        yield stub


def test_hub(study: MakeStudy, hub: HubStub) -> None:
    made = asked(study, ("en", "th"), **PUBLIC)
    found = sources.resolve(made)
    assert len(hub.requests) == 4, "each repository is asked for its commit, then for its files"
    assert not hub.downloads()
    assert (
        found.train.revision
        == found.dev.revision
        != found.tests[MAIN]["th"].revision
        == found.tests[MAIN]["en"].revision
    )
    assert found.train.model_dump() == {"where": "rajpurkar/squad", "revision": found.train.revision, "path": None}
    assert [row["id"] for row in sources.rows(found.train, made, "train", "en")] == ["1", "2"]
    assert [row["id"] for row in sources.rows(found.dev, made, "dev", "en")] == ["3"]
    (row,) = sources.rows(found.tests[MAIN]["th"], made, "test", "th")
    assert row == {"id": "th", "context": "a b c", "question": "?", "answers": {"text": ["b"], "answer_start": [2]}}


def test_hub_moved_after_the_resolution(study: MakeStudy, hub: HubStub) -> None:
    made = asked(study, ("th",), **PUBLIC)
    found = sources.resolve(made)
    hub.add("dataset", "google/xquad", {"xquad.th/validation-00000-of-00001.parquet": parquet("new")})
    assert [row["id"] for row in sources.rows(found.tests[MAIN]["th"], made, "test", "th")] == ["th"]


def test_hub_conversion(study: MakeStudy, hub: HubStub) -> None:
    hub.add("dataset", "facebook/mlqa", {"mlqa.py": b""})
    files = {"mlqa.de.de/test/0000.parquet": parquet("de"), "mlqa.en.de/test/0000.parquet": parquet("x")}
    converted = hub.add("dataset", "facebook/mlqa", files, ref="refs/convert/parquet")
    made = asked(study, ("de",), **(PUBLIC | {"test": "facebook/mlqa"}))
    found = sources.resolve(made)
    assert found.tests[MAIN]["de"].revision == converted
    assert [row["id"] for row in sources.rows(found.tests[MAIN]["de"], made, "test", "de")] == ["de"]


def test_hub_faults_name_the_key(study: MakeStudy, hub: HubStub) -> None:
    with pytest.raises(StudyError, match=r"evaluation\.languages: google/xquad .*'sw'\n  valid: en, th"):
        sources.resolve(asked(study, ("sw",), **PUBLIC))
    with pytest.raises(MissingError, match=r"data\.dev: dataset owner/none is not on the hub"):
        sources.resolve(asked(study, **(PUBLIC | {"dev": "owner/none"})))
    for repo, named in (("google/xquad", "languages: google/xquad .*'sw'"), ("owner/none", "test: dataset owner/none")):
        also = {"far": {"test": repo, "languages": ("sw",)}}
        with pytest.raises((StudyError, MissingError), match=rf"evaluation\.also\.far\.{named}"):
            sources.resolve(asked(study, ("en",), {"also": also}, **PUBLIC))
    one = "-00000-of-00001.parquet"
    hub.add("dataset", "o/many", {f"{config}/train{one}": parquet("1") for config in ("a", "b")})
    with pytest.raises(StudyError, match=r"data\.train: o/many has no single config(.|\n)*valid: a, b"):
        sources.resolve(asked(study, **(PUBLIC | {"train": "o/many"})))
    hub.add("dataset", "o/test", {f"a/test{one}": parquet("1")})
    with pytest.raises(StudyError, match=r"data\.train: o/test has no split for train .*\n  valid: test"):
        sources.resolve(asked(study, **(PUBLIC | {"train": "o/test"})))


@pytest.mark.parametrize(
    ("content", "message"),
    [(parquet("1", answer="z"), "is not in its context"), (parquet("1", "1"), "occurs twice")],
)
def test_hub_rows_are_checked(study: MakeStudy, hub: HubStub, content: bytes, message: str) -> None:
    hub.add("dataset", "o/bad", {"c/train-00000-of-00001.parquet": content})
    made = asked(study, **(PUBLIC | {"train": "o/bad"}))
    with pytest.raises(StudyError, match=f"o/bad c train: .*{message}"):
        sources.rows(sources.resolve(made).train, made, "train", "en")


def test_hub_rows_of_another_form(study: MakeStudy, hub: HubStub) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"premise": ["p"]}), sink)
    hub.add("dataset", "o/other", {"c/train-00000-of-00001.parquet": sink.getvalue()})
    made = asked(study, **(PUBLIC | {"train": "o/other"}))
    with pytest.raises(StudyError, match="o/other c train: row 0: the data set has no column 'answers'"):
        sources.rows(sources.resolve(made).train, made, "train", "en")


# The other tasks

ONE = "-00000-of-00001.parquet"


def table(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def nli(prefix: str, *labels: int) -> bytes:
    rows = [{"premise": f"{prefix} {n}", "hypothesis": "h", "label": label} for n, label in enumerate(labels)]
    return table([row | {"pairID": "1e", "genre": "fiction", "premise_parse": "(x)"} for row in rows])


def test_copa(study: MakeStudy, hub: HubStub) -> None:
    """`aps/super_glue` is a script, with a conversion that holds other tasks too; its test labels are hidden."""
    hub.add("dataset", "aps/super_glue", {"super_glue.py": b""})
    files = {"copa/train/0000.parquet": table([copa(0), copa(1)]), "copa/validation/0000.parquet": table([copa(5)])}
    files |= {"copa/test/0000.parquet": table([copa(0, label=-1)]), "boolq/train/0000.parquet": b""}
    hub.add("dataset", "aps/super_glue", files, ref="refs/convert/parquet")
    xcopa = {
        f"{name}/test{ONE}": table([copa(0, changed=False, premise=name)]) for name in ("et", "th", "translation-et")
    }
    hub.add("dataset", "cambridgeltl/xcopa", xcopa)
    named = {"train": "aps/super_glue", "dev": "aps/super_glue", "test": "cambridgeltl/xcopa"}
    made = asked(study, ("et", "th"), {"also": ENGLISH}, task="choice", **named)
    found = sources.resolve(made)
    assert not hub.downloads()
    assert found.train.revision == hub.repositories["dataset", "aps/super_glue"]["refs"]["refs/convert/parquet"]
    assert [row["id"] for row in sources.rows(found.train, made, "train", "en")] == ["0", "1"]
    assert [row["id"] for row in sources.rows(found.dev, made, "dev", "en")] == ["5"]
    assert [row["id"] for row in sources.rows(found.tests["english"]["en"], made, "test", "en")] == ["5"]
    assert sources.rows(found.tests[MAIN]["th"], made, "test", "th") == [
        {"id": "0", "premise": "th", "choices": ["It is wet.", "It is dry."], "question": "effect", "label": 0}
    ]
    with pytest.raises(StudyError, match=r"cambridgeltl/xcopa has no rows in language 'en'\n  valid: et, th$"):
        sources.resolve(asked(study, ("en",), task="choice", **named))


ENGLISH = {"english": {"test": "aps/super_glue", "languages": ("en",)}}


def test_xnli(study: MakeStudy, hub: HubStub) -> None:
    hub.add(
        "dataset",
        "nyu-mll/multi_nli",
        {f"data/train{ONE}": nli("m", 0, -1, 2), f"data/validation_matched{ONE}": nli("v", 1)},
    )
    splits = {
        (name, split): nli(f"{name} {split}", 0, 1, 2) for name in ("en", "sw") for split in ("validation", "test")
    }
    files = {f"{name}/{split}{ONE}": content for (name, split), content in splits.items()}
    hub.add("dataset", "facebook/xnli", files | {f"all_languages/test{ONE}": b""})
    named = {"train": "nyu-mll/multi_nli", "dev": "facebook/xnli", "test": "facebook/xnli"}
    made = asked(study, ("en", "sw"), task="nli", **named)
    found = sources.resolve(made)
    assert not hub.downloads()
    assert [(row["id"], row["label"]) for row in sources.rows(found.train, made, "train", "en")] == [("0", 0), ("2", 2)]
    assert sources.rows(found.dev, made, "dev", "en")[1] == {
        "id": "1",
        "premise": "en validation 1",
        "hypothesis": "h",
        "label": 1,
    }
    assert [row["premise"] for row in sources.rows(found.tests[MAIN]["sw"], made, "test", "sw")][2] == "sw test 2"
    matched = asked(study, ("sw",), task="nli", **(named | {"dev": "nyu-mll/multi_nli"}))
    assert [row["premise"] for row in sources.rows(sources.resolve(matched).dev, matched, "dev", "en")] == ["v 0"]
    with pytest.raises(StudyError, match=r"facebook/xnli has no rows in language 'ur'\n  valid: en, sw$"):
        sources.resolve(asked(study, ("ur",), task="nli", **named))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([copa()], "looks like rows of COPA, which task choice reads"),
        ([{"premise": "p", "hypothesis": "h", "label": 3}], "row 0: label is 3"),
        ([{"premise": "p", "hypothesis": "h", "label": -1}], "holds no row with a label: all 1 are"),
        ([{"a": 1}], "row 0: has no 'gold_label' or 'label'"),
    ],
)
def test_rows_that_are_not_inference(study: MakeStudy, hub: HubStub, rows: list[dict[str, Any]], message: str) -> None:
    hub.add("dataset", "o/bad", {f"c/train{ONE}": table(rows)})
    made = asked(study, ("vel",), task="nli", train="o/bad")
    with pytest.raises(StudyError, match=f"o/bad c train: {message}"):
        sources.rows(sources.resolve(made).train, made, "train", "vel")
