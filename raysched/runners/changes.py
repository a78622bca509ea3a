"""What a sweep was, and what may change when the same name is given again."""

from __future__ import annotations

import json
from collections.abc import Iterable

from raysched.errors import StudyError
from raysched.records import ledger as ledgers
from raysched.records.layout import SweepLayout
from raysched.records.state import SweepState
from raysched.runners import growth
from raysched.study.identity import Content, Resolved
from raysched.study.load import LoadedStudy, diff
from raysched.study.model import Study
from raysched.study.stored import stored

MAY_CHANGE = ("description", "budget", "resources", "tracking", "evaluation.batch_size", "evaluation.candidates")
"""Parts of a study that change no result: a sweep continues with new ones."""
TESTS = (
    "data.test",
    "evaluation.also",
    "evaluation.languages",
    "evaluation.test_limit",
    "evaluation.scoring",
    "evaluation.chinese_metric",
)
"""Keys that say on what a trained run is tested, and nothing else: runs are tested anew, and none is trained again."""


def previous(layout: SweepLayout) -> SweepState | None:
    """The sweep as its ledger tells it; None if there is none yet. Raises DamageError."""
    if not layout.exists():
        return None
    state = SweepState.of(ledgers.read(layout.ledger))
    return state if state.opened is not None else None


def known_resolved(state: SweepState | None) -> Resolved | None:
    """What the inputs were resolved to when the sweep was opened."""
    if state is None or state.opened is None:
        return None
    return Resolved.model_validate_json(json.dumps(state.opened.resolved))


def refuse_changes(loaded: LoadedStudy, state: SweepState | None, *, extend: bool = False) -> None:
    """A sweep's name stands for one study; with `extend` the study may have grown.

    Raises:
        StudyError: the study under this name was another one, with the difference.
    """
    if state is None or state.opened is None:
        return
    before = stored(state.opened.study)
    changed = [line for line in diff(before, loaded.study) if not line.startswith((*MAY_CHANGE, *TESTS))]
    grown = [line for line in changed if growth.grows(_key(line), before, loaded.study)]
    if extend:
        changed = [line for line in changed if line not in grown]
    if not changed:
        return
    name, differences = loaded.name, "\n    " + "\n    ".join(changed)
    if extend:
        raise StudyError(
            f"a sweep can grow by seeds and points, and by nothing else, but this would change {name!r}:{differences}",
            key="extend",
            choices=growth.GROWTH,
            hint=f"every value that is there must stay; for another study: raysched sweep ... --name {name}-2",
        )
    if len(grown) == len(changed):
        raise StudyError(
            f"the sweep {name!r} was started with a smaller study:{differences}",
            key="--name",
            hint=f"to add the new runs to the sweep: {growth.extend_command(name, before, loaded.study)}",
        )
    if _all_shrink(changed, loaded, before):
        raise StudyError(
            f"the sweep {name!r} has grown since this study started it:{differences}",
            key="--name",
            hint=f"to continue it as it is now: raysched resume {name}",
        )
    raise StudyError(
        f"the sweep {name!r} was started with another study:{differences}",
        key="--name",
        hint=f"run the changed study under a name of its own: --name {name}-2",
    )


def _all_shrink(changed: Iterable[str], loaded: LoadedStudy, before: Study) -> bool:
    return all(growth.grows(_key(line), loaded.study, before) for line in changed)


def _key(line: str) -> str:
    """Of a line of `diff`."""
    return line.partition(": ")[0]


def _changes(loaded: LoadedStudy, state: SweepState) -> list[str]:
    assert state.opened is not None
    return diff(stored(state.opened.study), loaded.study)


def refuse_other_inputs(old: Resolved, new: Resolved, name: str) -> None:
    """Continuing a sweep on other data or weights would mix two experiments in one table.

    Raises:
        StudyError: an input is not what it was.
    """
    changed = [
        key
        for key in ("train", "dev", "backbone", "replay")
        if _revision(getattr(old, key)) != _revision(getattr(new, key))
    ]
    tests = {f"test {name} {language}": one for name in ("test", *old.also) for language, one in _tests(old, name)}
    tests_now = {f"test {name} {language}": one for name in ("test", *new.also) for language, one in _tests(new, name)}
    # A test set may come, go, or be replaced by one from another place; what was asked for before is what it was.
    changed += [key for key in tests.keys() & tests_now.keys() if _is_other(tests[key], tests_now[key])]
    adapters, now = old.language_adapters, new.language_adapters
    changed += [f"language adapter {key}" for key in adapters.keys() & now.keys() if _is_other(adapters[key], now[key])]
    if changed:
        raise StudyError(
            f"the content of {', '.join(sorted(changed))} is not what the sweep {name!r} was started with",
            hint=f"restore it, or start another sweep: --name {name}-2",
        )


def _tests(resolved: Resolved, name: str) -> Iterable[tuple[str, Content]]:
    return resolved.tests(name).items()


def _revision(content: Content | None) -> str | None:
    return content.revision if content is not None else None


def _is_other(old: Content, new: Content) -> bool:
    return old.where == new.where and old.revision != new.revision


def tests_changed(loaded: LoadedStudy, state: SweepState) -> bool:
    """Whether the study names other tests than the sweep has; those of its runs are made when it continues."""
    return any(line.startswith(TESTS) for line in _changes(loaded, state))
