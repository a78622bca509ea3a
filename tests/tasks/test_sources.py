from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysched.errors import DamageError, MissingError, RayschedError, StudyError
from raysched.mini import world
from raysched.study.model import Study
from raysched.tasks import sources
from tests.hub_stub import HubStub, private_hub, serve

MakeStudy = Callable[..., Study]


def squad(n: int, prefix: str = "q") -> dict[str, Any]:
    qas = [{"id": f"{prefix}{i}", "question": "?", "answers": [{"text": "b", "answer_start": 2}]} for i in range(n)]
    return {"data": [{"title": "t", "paragraphs": [{"context": "a b c", "qas": qas}]}]}


def put(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return path


def asked(
    study: MakeStudy, languages: tuple[str, ...] = ("en",), evaluation: dict[str, Any] | None = None, **data: Any
) -> Study:
    mini = any(data.get(role, "mini") == "mini" for role in ("train", "dev"))
    source = world.SOURCE if mini else "en"
    return study(
        data={"train": "mini", "dev": "mini", "test": "mini"} | data,
        model={"source_language": source},
        evaluation={"languages": languages} | (evaluation or {}),
    )


# The mini world


def test_mini(study: MakeStudy) -> None:
    made = asked(study, world.LANGUAGES, {"dev_limit": 7, "test_limit": 5}, train_examples=10)
    found = sources.resolve(made)
    contents = [found.train, found.dev, *found.test.values()]
    assert len({content.revision for content in contents}) == 2 + len(world.LANGUAGES)
    assert {(content.where, content.path) for content in contents} == {("mini", None)}
    assert all(len(content.revision) == 64 for content in contents)
    assert len(sources.rows(found.train, made, "train", world.SOURCE)) == 10
    assert len(sources.rows(found.dev, made, "dev", world.SOURCE)) == 7
    assert len(sources.rows(found.test[world.TARGETS[0]], made, "test", world.TARGETS[0], limit=3)) == 3
    assert sources.resolve(made) == found


def test_mini_sizes(study: MakeStudy) -> None:
    made = asked(study, world.TARGETS[:1])
    found = sources.resolve(made, check=False)
    assert len(sources.rows(found.train, made, "train", world.SOURCE)) == 6000
    assert len(sources.rows(found.dev, made, "dev", world.SOURCE)) == 400
    assert len(sources.rows(found.test[world.TARGETS[0]], made, "test", world.TARGETS[0])) == 400


def test_mini_knows_its_languages(study: MakeStudy) -> None:
    with pytest.raises(StudyError, match="no rows in language 'sw'") as caught:
        sources.resolve(asked(study, ("sw",)))
    assert set(caught.value.choices) == set(world.LANGUAGES)
    assert caught.value.key == "evaluation.languages"


# Subsets


@pytest.fixture
def local(study: MakeStudy, tmp_path: Path) -> Callable[..., Study]:
    put(tmp_path / "train.json", squad(50))
    put(tmp_path / "dev.json.gz", squad(20, "d"))
    for language in ("en", "th"):
        put(tmp_path / f"test.{language}.json", squad(4, language))
    names = {"train": "train.json", "dev": "dev.json.gz", "test": "test.{language}.json"}
    paths = {role: str(tmp_path / name) for role, name in names.items()}
    return lambda *arguments, **data: asked(study, *arguments, **(paths | data))


def ids(study: Study, role: sources.Role = "train", **options: Any) -> list[str]:
    content = getattr(sources.resolve(study), role)
    return [row["id"] for row in sources.rows(content, study, role, "en", **options)]


def test_subsets(local: Callable[..., Study]) -> None:
    whole = ids(local())
    assert whole == [f"q{n}" for n in range(50)]
    assert ids(local(train_examples=5, subset="first_n")) == whole[:5]
    few, more = ids(local(train_examples=5)), ids(local(train_examples=20))
    assert len(few) == 5
    assert set(few) < set(more)
    assert few != whole[:5]
    assert few == sorted(few, key=whole.index), "in data order"
    assert ids(local(train_examples=5)) == few
    assert ids(local(train_examples=5), seed_for_subset=1) != few
    assert ids(local(train_examples=50)) == whole


def test_more_rows_than_there_are(local: Callable[..., Study]) -> None:
    with pytest.raises(StudyError, match=r"data\.train_examples: train_examples must be at most the 50 rows .* got 51"):
        sources.resolve(local(train_examples=51))


def test_identity_tells_apart_what_rows_differ_in(local: Callable[..., Study]) -> None:
    content = sources.resolve(local()).train
    made = [local(), local(train_examples=5), local(train_examples=5, subset="first_n")]
    values = [json.dumps(sources.identity(content, one, "train", "en"), sort_keys=True) for one in made]
    assert len(set(values)) == 3
    few = local(("en",), {"dev_limit": 3})
    assert ids(few, "dev") == ["d0", "d1", "d2"]
    dev = [json.dumps(sources.identity(content, one, "dev", "en"), sort_keys=True) for one in (few, local())]
    assert len({*values, *dev}) == 5


# Local files


def test_local_files(local: Callable[..., Study], tmp_path: Path) -> None:
    made = local(("en", "th"))
    found = sources.resolve(made)
    assert found.test["th"].path == str(tmp_path / "test.th.json")
    assert [row["id"] for row in sources.rows(found.test["th"], made, "test", "th")] == ["th0", "th1", "th2", "th3"]
    assert found.train.revision != found.dev.revision


def test_local_names_are_relative_to_where_one_is(
    local: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("./train.json", "train.json", "~/train.json"):
        assert sources.resolve(local(train=name)).train.path == str(tmp_path / "train.json")


def test_file_that_changed_since_is_refused(local: Callable[..., Study], tmp_path: Path) -> None:
    made = local()
    found = sources.resolve(made)
    put(tmp_path / "train.json", squad(49))
    with pytest.raises(DamageError, match="the file has changed"):
        sources.rows(found.train, made, "train", "en")


BAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": "a b c",
                    "qas": [{"id": "x", "question": "?", "answers": [{"text": "z", "answer_start": 0}]}],
                }
            ]
        }
    ]
}


@pytest.mark.parametrize("name", ["train.json", "dev.json.gz", "test.th.json"])
def test_bad_files_are_refused_at_once(local: Callable[..., Study], tmp_path: Path, name: str) -> None:
    put(tmp_path / name, BAD)
    with pytest.raises(StudyError, match=f"{name}: the answer of question 'x' is not in its context"):
        sources.resolve(local(("en", "th")))


@pytest.mark.parametrize(
    ("data", "languages", "kind", "message"),
    [
        ({"train": "./none.json"}, ("en",), MissingError, r"data\.train: no such file: /"),
        ({"test": "./none.{language}.json"}, ("en",), MissingError, r"data\.test: no such file"),
        ({"test": "./test.json"}, ("en",), StudyError, r"data\.test: a local test file must hold \{language\}"),
        ({"train": "squad"}, ("en",), StudyError, r"data\.train: must name data, but got 'squad'(.|\n)*owner/name"),
        ({}, ("en", "sw"), StudyError, r"language 'sw'\n  valid: en, th"),
    ],
)
def test_bad_values(
    local: Callable[..., Study],
    data: dict[str, Any],
    languages: tuple[str, ...],
    kind: type[RayschedError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        sources.resolve(local(languages, **data))


# A folder of published files

PUBLIC = {"train": "rajpurkar/squad", "dev": "rajpurkar/squad", "test": "google/xquad"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "squad" / "v1.1" / "train-v1.1.rebuilt.json.gz", squad(5))
    put(tmp_path / "squad" / "v1.1" / "dev-v1.1.json", squad(4))
    for language in ("en", "th", "pt-br"):
        put(tmp_path / "xquad" / f"xquad.{language}.json", squad(3, language))
    return tmp_path


def test_folder(study: MakeStudy, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # never asked
    found = sources.resolve(asked(study, ("en", "pt-br"), folder=str(folder), **PUBLIC))
    assert found.train.where == "rajpurkar/squad squad/v1.1/train-v1.1.rebuilt.json.gz"
    assert found.dev.path == str(folder / "squad/v1.1/dev-v1.1.json")
    assert found.test["pt-br"].path == str(folder / "xquad/xquad.pt-br.json")


def test_folder_prefers_the_published_name(study: MakeStudy, folder: Path) -> None:
    put(folder / "dev-v1.1.cut.json", squad(1))
    made = asked(study, folder=str(folder), **PUBLIC)
    assert sources.resolve(made).dev.path == str(folder / "squad/v1.1/dev-v1.1.json")
    put(folder / "train-v1.1.cut.json", squad(1))
    with pytest.raises(StudyError, match=r"several files could be train(.|\n)*train-v1\.1\.cut\.json"):
        sources.resolve(made)


@pytest.mark.parametrize(
    ("change", "languages", "kind", "message"),
    [
        ({}, ("sw",), StudyError, r"google/xquad has no rows in language 'sw'\n  valid: en, pt-br, th"),
        (
            {"test": "facebook/mlqa"},
            ("en",),
            MissingError,
            r"looked for test-context-en-question-en\.json and .*found xquad/xquad\.en",
        ),
        (
            {"train": "nyu-mll/multi_nli"},
            ("en",),
            StudyError,
            r"data\.train: .*'nyu-mll/multi_nli'\n  valid: rajpurkar/squad",
        ),
        ({"dev": "google/xquad"}, ("en",), StudyError, r"data\.dev: with data\.folder"),
        ({"folder": "./nowhere"}, ("en",), MissingError, r"data\.folder: no such folder"),
        ({"folder": "."}, ("en",), MissingError, r"data\.folder: .*found no \.json or \.json\.gz file"),
    ],
)
def test_folder_without_the_file(
    study: MakeStudy,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    languages: tuple[str, ...],
    kind: type[RayschedError],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(kind, match=message):
        sources.resolve(asked(study, languages, **({"folder": str(folder)} | PUBLIC | change)))


# The hub


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
    assert found.train.revision == found.dev.revision != found.test["th"].revision == found.test["en"].revision
    assert found.train.model_dump() == {"where": "rajpurkar/squad", "revision": found.train.revision, "path": None}
    assert [row["id"] for row in sources.rows(found.train, made, "train", "en")] == ["1", "2"]
    assert [row["id"] for row in sources.rows(found.dev, made, "dev", "en")] == ["3"]
    (row,) = sources.rows(found.test["th"], made, "test", "th")
    assert row == {"id": "th", "context": "a b c", "question": "?", "answers": {"text": ["b"], "answer_start": [2]}}


def test_hub_moved_after_the_resolution(study: MakeStudy, hub: HubStub) -> None:
    made = asked(study, ("th",), **PUBLIC)
    found = sources.resolve(made)
    hub.add("dataset", "google/xquad", {"xquad.th/validation-00000-of-00001.parquet": parquet("new")})
    assert [row["id"] for row in sources.rows(found.test["th"], made, "test", "th")] == ["th"]


def test_hub_conversion(study: MakeStudy, hub: HubStub) -> None:
    hub.add("dataset", "facebook/mlqa", {"mlqa.py": b""})
    files = {"mlqa.de.de/test/0000.parquet": parquet("de"), "mlqa.en.de/test/0000.parquet": parquet("x")}
    converted = hub.add("dataset", "facebook/mlqa", files, ref="refs/convert/parquet")
    made = asked(study, ("de",), **(PUBLIC | {"test": "facebook/mlqa"}))
    found = sources.resolve(made)
    assert found.test["de"].revision == converted
    assert [row["id"] for row in sources.rows(found.test["de"], made, "test", "de")] == ["de"]


def test_hub_faults_name_the_key(study: MakeStudy, hub: HubStub) -> None:
    with pytest.raises(StudyError, match=r"evaluation\.languages: google/xquad .*'sw'\n  valid: en, th"):
        sources.resolve(asked(study, ("sw",), **PUBLIC))
    with pytest.raises(MissingError, match=r"data\.dev: dataset owner/none is not on the hub"):
        sources.resolve(asked(study, **(PUBLIC | {"dev": "owner/none"})))
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
    with pytest.raises(StudyError, match="no column 'answers'"):
        sources.rows(sources.resolve(made).train, made, "train", "en")
