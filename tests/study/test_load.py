"""Finding, extending, overriding and describing studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import raysched
from raysched.errors import StudyError
from raysched.study import lookup
from raysched.study.load import diff, load_study, study_names
from raysched.study.overrides import merge
from raysched.study.yaml_text import parse

Write = Callable[..., Path]
GOOD = Path(__file__).with_name("good.yaml").read_text()


def test_a_path_comes_first_then_search_spaces_then_the_package(write: Write, tmp_path: Path) -> None:
    packaged = load_study("xquad-mini", cwd=tmp_path)
    assert packaged.source.is_relative_to(Path(raysched.__file__).parents[1])
    own = write(GOOD, "search_spaces/xquad-mini.yaml")
    assert load_study("xquad-mini", cwd=tmp_path).source == own
    beside = write(GOOD, "xquad-mini.yaml")
    for name in ("xquad-mini", "xquad-mini.yaml", "./xquad-mini", str(beside), beside):
        assert load_study(name, cwd=tmp_path).source.resolve() == beside
    assert load_study("search_spaces/xquad-mini", cwd=tmp_path).source == own
    (tmp_path / "xquad-xlmr").mkdir()
    assert load_study("xquad-xlmr", cwd=tmp_path).name == "xquad-xlmr"


def test_studies_travel_inside_the_wheel(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(GOOD, "site/raysched/_search_spaces/inside.yaml")
    monkeypatch.setattr(lookup, "__file__", str(tmp_path / "site/raysched/study/lookup.py"))
    assert lookup.packaged_folder() == tmp_path / "site/raysched/_search_spaces"
    assert load_study("inside", cwd=tmp_path / "elsewhere").name == "inside"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("xquad-xmlr", "did you mean xquad-xlmr?"),
        ("xquad-mini.yml", "did you mean xquad-mini?"),
        ("nothing-like-it", "the path of your own file"),
        ("", "the path of your own file"),
        ("..", "the path of your own file"),
        ("a\0b", "the path of your own file"),
        ("x" * 5000, "the path of your own file"),
    ],
)
def test_an_unknown_study(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(StudyError, match="names no study") as caught:
        load_study(name, cwd=tmp_path)
    assert set(caught.value.choices) >= {"xquad-mini", "xquad-mini-search", "xquad-xlmr"}
    assert hint in str(caught.value.hint)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("name", ["My Study.yaml", "a..b.yaml", "-x.yaml", "x" * 64 + ".yaml", "Ä.yaml"])
def test_the_stem_must_be_a_sweep_name_unless_another_is_given(write: Write, name: str) -> None:
    path = write(GOOD, name)
    with pytest.raises(StudyError, match="file name: must match") as caught:
        load_study(path)
    assert "--name" in str(caught.value.hint)
    assert load_study(path, name="other").name == "other"


@pytest.mark.parametrize("name", ["", "a/b", "../x", "..", "/abs", "A", "a..b", "a b", "x" * 64, "a\n"])
def test_a_given_name_is_checked(write: Write, name: str) -> None:
    with pytest.raises(StudyError, match="--name: must match"):
        load_study(write(), name=name)


def test_extends_merges_sections_and_replaces_lists(write: Write) -> None:
    write(GOOD, "base.yaml")
    write("extends: base\nsearch: {k: [9]}\nseeds: 3\n", "middle.yaml")
    study = load_study(write("extends: ./middle.yaml\ntraining:\n  batch_size: 4\nsearch:\n  lr: [5e-4]\n")).study
    assert (study.search.k, study.search.lr, study.search.schedule) == ((9,), (5e-4,), ("standard", "gu"))
    assert (study.training.steps, study.training.batch_size, study.seeds) == (10, 4, (0, 1, 2))


def test_of_several_bases_the_later_one_is_on_top_and_the_file_on_all(write: Write) -> None:
    write(GOOD, "base.yaml")
    write("search: {k: [9], lr: [1e-4]}\nseeds: 3\n", "_one.yaml")  # no study by themselves
    write("extends: _deep\nsearch: {k: [8]}\n", "_two.yaml")
    write("training: {batch_size: 7}\nsearch: {k: [1]}\n", "_deep.yaml")
    study = load_study(write("extends: [base, _one, _two]\nseeds: 5\n")).study
    assert (study.search.k, study.search.lr, study.search.schedule) == ((8,), (1e-4,), ("standard", "gu"))
    assert (study.training.steps, study.training.batch_size, len(study.seeds)) == (10, 7, 5)


def test_extends_looks_beside_the_file_first(write: Write, tmp_path: Path) -> None:
    write(GOOD.replace("seeds: 2", "seeds: 5"), "xquad-mini.yaml")
    write(GOOD.replace("seeds: 2", "seeds: 7"), "deep/xquad-mini.yaml")
    near = write("extends: xquad-mini\n", "deep/near.yaml")
    assert len(load_study(near, cwd=tmp_path).study.seeds) == 7
    far = write("extends: xquad-mini\n", "other/far.yaml")
    assert len(load_study(far, cwd=tmp_path).study.seeds) == 5
    packaged = write("extends: xquad-mini-search\n", "other/packaged.yaml")
    assert load_study(packaged, cwd=tmp_path).study.search.points == 8


def test_messages_name_the_file_that_gave_the_value(write: Write, tmp_path: Path) -> None:
    write(GOOD.replace("k: [2, 3]", "k: [0]"), "base.yaml")
    path = write("extends: base\nseeds: 3\n")
    with pytest.raises(StudyError, match=r"search\.k\[0\].*\n  at:    base\.yaml:12:7\n"):
        load_study(path, cwd=tmp_path)
    assert load_study(path, ["search.k=[4]"], cwd=tmp_path).study.search.k == (4,)


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"mine": "extends: mine\n"}, "must not lead back to itself, but goes mine.yaml -> mine.yaml"),
        ({"mine": "extends: b\n", "b": "extends: mine\n"}, "goes mine.yaml -> b.yaml -> mine.yaml"),
        (
            {"mine": "extends: s1", **{f"s{n}": f"extends: s{n + 1}" for n in range(1, 9)}, "s9": GOOD},
            "at most 8 files",
        ),
        (
            {"mine": "extends: [a, 1]\n"},
            'must be the name or path of another study, or a list of them, but got ["a", 1]',
        ),
        ({"mine": "extends: []\n"}, "or a list of them, but got []"),
        ({"mine": "seeds: 2\nextends:\n"}, "or a list of them, but got null"),
        ({"mine": "extends: [b, c]\n", "b": GOOD, "c": "extends: mine\n"}, "goes mine.yaml -> c.yaml -> mine.yaml"),
        ({"mine": "extends: [b, nothing-like-it]\n", "b": GOOD}, "'nothing-like-it': names no study"),
        ({"mine": "extends: xquad-mimi\n"}, "names no study"),
        ({"mine": "extends: b\n", "b": "- 1\n"}, "must hold keys and values, but got [1]"),
    ],
)
def test_extends_that_leads_nowhere(write: Write, tmp_path: Path, files: dict[str, str], rule: str) -> None:
    for name, text in files.items():
        write(text, f"{name}.yaml")
    with pytest.raises(StudyError) as caught:
        load_study("mine", cwd=tmp_path)
    assert rule in str(caught.value)
    assert "  at:    " in str(caught.value)
    assert caught.value.hint


def test_options_win_over_files_and_later_ones_over_earlier(write: Write) -> None:
    options = [
        "search.lr=[1e-4]",
        "training.steps=7",
        "search.lr=[2e-4]",
        "seeds=[3, 5]",
        "resources={gpu: 0.5}",
        "resources.cpu=2",
    ]
    study = load_study(write(), options).study
    assert (study.search.lr, study.training.steps, study.seeds) == ((2e-4,), 7, (3, 5))
    assert (study.resources.gpu, study.resources.cpu) == (0.5, 2.0)


def test_values_of_options_may_hold_equals_signs(write: Write) -> None:
    assert load_study(write(), ["description=a=b"]).study.description == "a=b"


def test_no_language_is_taken_for_a_boolean(write: Write) -> None:
    assert load_study(write(), ["evaluation.languages=[no, en]"]).study.evaluation.languages == ("no", "en")


def test_merge_replaces_what_is_not_a_mapping() -> None:
    base, over = parse("a: {b: 1, c: [1, 2]}\nd: 1", "f"), parse("a: {c: [3]}\nd: {e: 2}", "g")
    assert merge(base, over).plain() == {"a": {"b": 1, "c": [3]}, "d": {"e": 2}}


OVERRIDES = "model.language_adapter_overrides"


@pytest.mark.parametrize(
    ("text", "options", "overrides", "also"),
    [
        ("", [], {"it": "x", "th": "y"}, ["far"]),
        ("model: {language_adapter_overrides: {}}", [], {}, ["far"]),
        ("evaluation: {also: {}}", [], {"it": "x", "th": "y"}, []),
        ("evaluation: {}", ["evaluation.languages=[vel]"], {"it": "x", "th": "y"}, []),
        ("", [OVERRIDES + "={}", "evaluation.also={}"], {}, []),
        ("", [OVERRIDES + "={}", OVERRIDES + ".it=z"], {"it": "z"}, ["far"]),
        ("", [OVERRIDES + ".it=z", OVERRIDES + "={}"], {}, ["far"]),
        ("model: {language_adapter_overrides: {}}", [OVERRIDES + "={th: z}"], {"th": "z"}, ["far"]),
    ],
)
def test_an_empty_section_empties_the_inherited_one(
    write: Write, text: str, options: list[str], overrides: dict[str, str], also: list[str]
) -> None:
    model = "language_adapters: mini\n  language_adapter_overrides: {it: x, th: y}"
    write(
        GOOD.replace("language_adapters: mini", model) + "  also: {far: {test: mini, languages: [xim]}}\n", "base.yaml"
    )
    study = load_study(write(f"extends: base\n{text}\n"), options).study
    assert study.model.language_adapter_overrides == overrides
    assert list(study.evaluation.also) == also
    assert study.model.backbone == "mini"


def test_an_empty_section_with_required_keys_asks_for_them(write: Write) -> None:
    write(GOOD, "base.yaml")
    with pytest.raises(StudyError, match=r"evaluation\.languages: must be given"):
        load_study(write("extends: base\nevaluation: {}\n"))


def test_the_resolved_text_is_the_same_study(write: Write) -> None:
    loaded = load_study(write(), ["description='no: \"1e-4\" \\ é # x'", "search.lr=[1e-5]"])
    again = load_study(write(loaded.text, "again.yaml"))
    assert again.study == loaded.study
    assert again.text == loaded.text


def test_byte_order_mark_and_windows_lines(write: Write) -> None:
    text = ("\ufeff" + GOOD).replace("\n", "\r\n")
    assert load_study(write(text.encode())).study == load_study(write(GOOD)).study


def test_an_unreadable_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StudyError, match="must be readable, but Permission denied"):
        load_study(path)


def test_names_list_own_studies_first_and_broken_ones_with_their_problem(write: Write, tmp_path: Path) -> None:
    write(GOOD, "search_spaces/xquad-mini.yaml")
    write("task: qq", "search_spaces/broken.yaml")
    write("seeds: 3", "search_spaces/_part.yaml")
    infos = {info.name: info for info in study_names(tmp_path)}
    assert set(infos) >= {"broken", "xquad-mini", "xquad-mini-search", "xquad-xlmr"}
    assert not any(name.startswith("_") for name in infos)
    assert (infos["xquad-mini"].points, infos["xquad-mini"].runs) == (6, 12)
    assert "task" in str(infos["broken"].problem)
    assert (infos["xquad-xlmr"].points, infos["xquad-xlmr"].runs, infos["xquad-xlmr"].problem) == (24, 96, None)
    assert "XLM-R" in infos["xquad-xlmr"].description


def test_diff_lists_each_changed_key(write: Write) -> None:
    path = write()
    old = load_study(path).study
    new = load_study(path, ["search.lr=[1e-3]", "seeds=3", "data.folder=x", "resources.gpu=1"]).study
    assert diff(old, old) == []
    assert diff(old, new) == [
        'data.folder: null -> "x"',
        "search.lr: [0.001, 0.002] -> [0.001]",
        "seeds: [0, 1] -> [0, 1, 2]",
        'resources.gpu: "auto" -> 1.0',
    ]
