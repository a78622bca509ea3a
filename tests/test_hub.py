from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysched import hub
from raysched.errors import MissingError, StudyError
from raysched.study.identity import Content
from tests.hub_stub import HubStub, private_hub, serve

FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000, "code.py": b"boom"}


def parquet(*ids: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": list(ids)}), sink)
    return sink.getvalue()


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder."""
    private_hub(monkeypatch, tmp_path / "hf")
    return tmp_path / "hf" / "hub"


@pytest.fixture
def stub(private: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    with serve() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_resolve_and_snapshot(stub: HubStub, private: Path, kind: hub.Kind) -> None:
    commit = stub.add(kind, "owner/name", FILES)
    assert hub.resolve("owner/name", kind) == hub.resolve("owner/name", kind, commit) == commit
    assert hub.files("owner/name", kind, commit) == sorted(FILES)
    folder = hub.snapshot("owner/name", kind, commit, ["*.json", "*.safetensors"])
    assert folder == private / f"{kind}s--owner--name" / "snapshots" / commit
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    hub.snapshot("owner/name", kind, commit, ["*.json", "*.safetensors"])
    assert len(stub.downloads()) == 2, "what is there is not fetched again"


def test_a_moved_branch_does_not_move_a_pinned_commit(stub: HubStub) -> None:
    old = stub.add("model", "owner/name", {"a": b"1"})
    new = stub.add("model", "owner/name", {"a": b"2"})
    assert hub.resolve("owner/name") == new != old
    assert (hub.snapshot("owner/name", "model", old, ["*"]) / "a").read_bytes() == b"1"
    assert (hub.snapshot("owner/name", "model", new, ["*"]) / "a").read_bytes() == b"2"


def test_file_lost_from_the_cache_is_fetched_again(stub: HubStub) -> None:
    commit = stub.add("model", "owner/name", FILES)
    folder = hub.snapshot("owner/name", "model", commit, ["*.json"])
    (folder / "config.json").resolve().unlink()
    assert hub.snapshot("owner/name", "model", commit, ["*.json"]).joinpath("config.json").read_bytes() == b"{}"


def test_offline_uses_the_cache_alone(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = stub.add("model", "owner/name", FILES)
    hub.snapshot("owner/name", "model", commit, ["config.json"])
    asked = len(stub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.resolve("owner/name") == hub.resolve("owner/name", revision=commit) == commit
    assert (hub.snapshot("owner/name", "model", commit, ["*.json"]) / "config.json").is_file()
    with pytest.raises(MissingError, match=r"has no file like \*\.safetensors in the cache"):
        hub.snapshot("owner/name", "model", commit, ["*.safetensors"])
    assert len(stub.requests) == asked


def test_offline_with_several_commits_asks_for_one(
    stub: HubStub, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [stub.add("model", "owner/name", {"a": content}) for content in (b"1", b"2")]
    for commit in commits:
        hub.snapshot("owner/name", "model", commit, ["*"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    with pytest.raises(MissingError, match="which commit of model owner/name is 'main'") as caught:
        hub.resolve("owner/name")
    assert caught.value.choices == tuple(sorted(commits))
    (private / "models--owner--name" / "refs").mkdir()
    (private / "models--owner--name" / "refs" / "main").write_text(commits[0])
    assert hub.resolve("owner/name") == commits[0]
    for revision in ("v9", "../../../etc/passwd", "f" * 40):
        with pytest.raises(MissingError, match="HF_HUB_OFFLINE is set"):
            hub.resolve("owner/name", revision=revision)


@pytest.mark.parametrize("name", ["name", "a/b/c", "../etc", "", "own er/x", "https://x/y"])
def test_names_that_no_repository_has(private: Path, name: str) -> None:
    with pytest.raises(StudyError, match="form owner/name"):
        hub.resolve(name)


def test_name_that_the_hub_forbids(stub: HubStub) -> None:
    with pytest.raises(StudyError, match="no name that the hub allows"):
        hub.resolve("owner/a..b")


def test_not_found(stub: HubStub) -> None:
    with pytest.raises(
        MissingError, match=rf"dataset owner/none is not on the hub at {stub.url}, or is private"
    ) as caught:
        hub.resolve("owner/none", "dataset")
    assert caught.value.exit_code == 3
    stub.add("model", "owner/name", FILES)
    with pytest.raises(MissingError, match="model owner/name has no revision 'v9'"):
        hub.resolve("owner/name", revision="v9")


def test_gated(stub: HubStub) -> None:
    commit = stub.add("model", "owner/secret", FILES, gated=True)
    with pytest.raises(MissingError, match=r"model owner/secret is gated(.|\n)*HF_TOKEN"):
        hub.snapshot("owner/secret", "model", commit, ["*"])


def test_passing_faults_are_asked_again_and_lasting_ones_named(stub: HubStub) -> None:
    commit = stub.add("model", "owner/name", FILES)
    stub.fail_next = [503, 502]
    assert hub.resolve("owner/name") == commit
    stub.fail_next = [503] * 3
    with pytest.raises(MissingError, match="answered 503 for model owner/name"):
        hub.resolve("owner/name")
    stub.fail_next = [429]
    with pytest.raises(MissingError, match="answered 429"):
        hub.resolve("owner/name")


def test_answer_without_a_commit(stub: HubStub) -> None:
    stub.repositories["model", "owner/name"] = {"refs": {"main": None}, "commits": {None: {}}, "gated": False}
    with pytest.raises(MissingError, match="gave no commit"):
        hub.resolve("owner/name")


def test_closed_port(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}/")
        begin = time.monotonic()
        with pytest.raises(MissingError, match="could not be taken from the hub") as caught:
            hub.resolve("owner/name", timeout_s=5)
        assert time.monotonic() - begin < 4
    for way in ("--set data.folder=", "--set model.backbone=", "HF_HUB_OFFLINE=1"):
        assert way in str(caught.value)
    assert caught.value.exit_code == 3
    assert "Traceback" not in str(caught.value)
    assert len(str(caught.value)) < 900


def _silent(connection: socket.socket) -> None:
    pass


def _dripping(connection: socket.socket) -> None:
    """One byte at a time: no single read is ever late."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass


@pytest.mark.parametrize("behaviour", [_silent, _dripping])
def test_black_hole(private: Path, monkeypatch: pytest.MonkeyPatch, behaviour: object) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
                    threading.Thread(target=behaviour, args=(held[-1],), daemon=True).start()  # type: ignore[arg-type]
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(MissingError, match="could not be taken from the hub"):
            hub.resolve("owner/name", timeout_s=1)
        assert time.monotonic() - begin < 3
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_revision_must_be_pinned(private: Path) -> None:
    for call in (
        lambda: hub.files("owner/name", "model", "main"),
        lambda: hub.snapshot("owner/name", "model", "main", ["*"]),
    ):
        with pytest.raises(ValueError, match="40-hex"):
            call()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["plain_text/train-00000-of-00001.parquet"], {("plain_text", "train"): 1}),
        (["xquad.th/validation-00000-of-00001.parquet"], {("xquad.th", "validation"): 1}),
        (["data/train-00000-of-00002-0a1b.parquet", "data/train-00001-of-00002-0a1b.parquet"], {("data", "train"): 2}),
        (["mlqa.de.de/test/0000.parquet"], {("mlqa.de.de", "test"): 1}),
        (["README.md", "a/b.parquet", "train.json", "a/b/c/0000.parquet"], {}),
    ],
)
def test_parquet_layouts(names: list[str], expected: dict[tuple[str, str], int]) -> None:
    assert {pair: len(files) for pair, files in hub.parquet_files(names).items()} == expected


def test_parquet_rows_in_order_of_the_parts(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"plain_text/train-0000{n}-of-00002.parquet" for n in (0, 1)]
    commit = stub.add(
        "dataset", "owner/data", {names[1]: parquet("c"), names[0]: parquet("a", "b"), "data.py": b"boom"}
    )
    assert hub.parquet_rows("owner/data", "plain_text", "train", commit) == [{"id": "a"}, {"id": "b"}, {"id": "c"}]
    assert len(stub.downloads()) == 2, "code is not even fetched"
    with pytest.raises(
        MissingError, match=r"lacks files of config plain_text, split dev(.|\n)*valid: plain_text train"
    ):
        hub.parquet_rows("owner/data", "plain_text", "dev", commit)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert len(hub.parquet_rows("owner/data", "plain_text", "train", commit)) == 3
    folder = hub.snapshot("owner/data", "dataset", commit, names)
    (folder / names[0]).resolve().write_bytes(b"PAR1")
    with pytest.raises(StudyError, match="not a whole Parquet file"):
        hub.parquet_rows("owner/data", "plain_text", "train", commit)
    (folder / names[0]).unlink()
    with pytest.raises(MissingError, match="lacks files of config plain_text, split train"):
        hub.parquet_rows("owner/data", "plain_text", "train", commit)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, "/c"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "/h"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HOME": "/home/u"}, "/home/u/.cache/huggingface/hub"),
    ],
)
def test_cache_folder(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub.cache_folder() == Path(expected)


def test_download_that_breaks_is_named(stub: HubStub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = stub.add("model", "owner/name", FILES)
    folder = hub.cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the cache should be")
    with pytest.raises(MissingError, match="model owner/name could not be taken from the hub"):
        hub.snapshot("owner/name", "model", commit, ["*.json"])


def test_answer_that_is_not_json(stub: HubStub) -> None:
    stub.fail_next = [200]
    with pytest.raises(MissingError, match="gave an answer that cannot be read"):
        hub.resolve("owner/name")


def test_local_folder(stub: HubStub, tmp_path: Path) -> None:
    assert hub.local_folder(Content(where="./x", revision="0" * 64, path=str(tmp_path))) == tmp_path
    commit = stub.add("model", "owner/name", FILES)
    folder = hub.local_folder(Content(where="owner/name", revision=commit))
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
