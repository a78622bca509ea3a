"""Ctrl-C and SIGTERM as a flag."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from raysched.errors import CTRL_C, TERMINATED
from raysched.runners.signals import signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, CTRL_C), (signal.SIGTERM, TERMINATED)])
def test_a_signal_is_a_flag_and_handlers_come_back(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with signals() as asked:
        assert asked() == 0
        os.kill(os.getpid(), number)
        assert asked() == code
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_leaves_a_notebook_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    with signals() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert asked() == CTRL_C


def test_outside_the_main_thread_nothing_changes() -> None:
    before, found = signal.getsignal(signal.SIGINT), []

    def elsewhere() -> None:
        with signals() as asked:
            found.append((asked(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [(0, before)]
