"""The page in headless Chromium without a network: axe-core finds nothing, nothing is fetched, a phone shows it all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pytest

from raysched.reports.asked import Asked
from raysched.reports.report import write_report
from raysched.reports.sweep import read_sweep
from raysched.study.space import points
from tests import browser
from tests.reports.conftest import MadeUp, study

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING)),
]

OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking")
AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
RUN = """
return axe.run(document, {resultTypes: ['violations']}).then(found => ({
  passes: found.passes.length,
  violations: found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.target).join('; ')),
}));
"""
FETCHED = "return performance.getEntriesByType('resource').map(one => one.name)"
OVERFLOWING = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')]
  .filter(one => !one.closest('.scroll') && !one.closest('.skip') && one.getBoundingClientRect().right > width + 1)
  .map(one => one.tagName + ' ' + one.textContent.slice(0, 60));
"""


@dataclass
class Open:
    page: browser.Page
    failed: str

    def shown(self, *, theme: str, width: int) -> browser.Page:
        """The report anew, in a window so wide, in the light or the dark."""
        media = [{"name": "prefers-color-scheme", "value": theme}]
        self.page.devtools("Emulation.setEmulatedMedia", features=media)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.page.devtools("Emulation.setDeviceMetricsOverride", **size)
        self.page.call("POST", "/refresh")
        return self.page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Of two sweeps: one whole with a hostile description, one half finished, with failed runs."""
    folder = tmp_path_factory.mktemp("page")
    whole = MadeUp(folder / "storage", study(description="<script>document.title = 'hit'</script>"), "whole")
    whole.all()
    half = MadeUp(folder / "storage", study(schedules=("standard", "gu")), "half")
    for number, point in enumerate(points(half.study.search)):
        first, second = half.take(number, point)
        half.finish(first)
        half.fail(second)
    asked = Asked(sweeps=tuple(read_sweep(one.layout) for one in (whole, half)))
    written = write_report(asked, folder / "out", pdf=False)
    with browser.page(folder, 1280, 900, OFFLINE) as page:
        page.open(written.page.as_uri())
        yield Open(page, half.layout.name)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(report: Open, theme: str, width: int) -> None:
    page = report.shown(theme=theme, width=width)
    dark = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (theme == "light")
    page.run(AXE)
    found: dict[str, Any] = page.run(RUN)
    assert found["violations"] == []
    assert found["passes"] > 20, "axe-core looked at nothing"


def test_nothing_is_fetched_and_no_script_runs(report: Open) -> None:
    page = report.shown(theme="light", width=1280)
    assert page.run(FETCHED) == []
    assert page.run("return document.title") == "whole, half: report"
    assert page.run("return document.scripts.length") == 0
    assert page.run("return [...document.images].length") >= 5
    assert page.run("return [...document.images].every(one => one.complete && one.naturalWidth > 200)")


def test_a_phone_shows_all_of_it(report: Open) -> None:
    """Nothing is wider than the window, but what scrolls in a region of its own, which the keyboard reaches."""
    page = report.shown(theme="light", width=390)
    assert page.run("return document.documentElement.scrollWidth") == 390
    assert page.run(OVERFLOWING) == []
    wide = page.run("return [...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
                    ".map(one => [one.tabIndex, one.getAttribute('role')])")  # fmt: skip
    assert wide
    assert {tuple(one) for one in wide} == {(0, "region")}
    page.devtools("Emulation.setFocusEmulationEnabled", enabled=True)
    page.run("document.querySelector('.skip').focus()")
    assert page.run("return document.querySelector('.skip').getBoundingClientRect().left") >= 0


def test_axe_would_find_something(report: Open) -> None:
    page = report.shown(theme="light", width=1280)
    page.run("document.querySelector('img').removeAttribute('alt'); document.body.style.color = '#bbb';")
    page.run(AXE)
    rules = {one.partition(":")[0] for one in page.run(RUN)["violations"]}
    assert {"image-alt", "color-contrast"} <= rules
