"""The worker: in order, nothing lost, and only ever while somebody turns the event loop."""
from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import qt
from InteractiveSegBridge.worker import Task, Worker


class Note(Task):
    """Writes down what happens to it."""

    def __init__(self, log, name, ready=True, error=None, gate=None):
        self.log, self.name, self.ready, self.error, self.gate = log, name, ready, error, gate

    def _note(self, what):
        self.log.append((self.name, what, threading.current_thread() is threading.main_thread()))

    def prepare(self):
        self._note("prepare")
        return self.ready

    def run(self):
        if self.gate is not None:
            self.gate.wait(5)
        self._note("run")
        if self.error is not None:
            raise self.error
        return self.name

    def finish(self, result):
        self._note(f"finish {result}")

    def fail(self, error):
        self._note(f"fail {error}")

    def undo(self):
        self._note("undo")


@pytest.fixture()
def worker(qt_application):
    worker = Worker()
    yield worker
    worker.close()


def turn_until_idle(worker):
    while worker.busy:
        qt.QApplication.instance().processEvents()


def test_tasks_run_one_after_the_other_in_the_order_given_and_off_the_window_thread(worker):
    log = []
    for name in "abc":
        worker.submit(Note(log, name))
    assert [task.name for task in worker.pending] == ["a", "b", "c"]
    turn_until_idle(worker)
    assert log == [
        entry
        for name in "abc"
        for entry in ((name, "prepare", True), (name, "run", False), (name, f"finish {name}", True))
    ]


def test_a_failure_goes_to_the_window_thread_and_the_next_task_runs(worker):
    log = []
    worker.submit(Note(log, "a", error=ValueError("broken")))
    worker.submit(Note(log, "b"))
    turn_until_idle(worker)
    assert ("a", "fail broken", True) in log
    assert log[-1] == ("b", "finish b", True)


def test_a_task_that_is_not_ready_is_dropped(worker):
    log = []
    worker.submit(Note(log, "a", ready=False))
    worker.submit(Note(log, "b"))
    turn_until_idle(worker)
    assert [entry[:2] for entry in log] == [("a", "prepare"), ("b", "prepare"), ("b", "run"), ("b", "finish b")]


def test_cancelling_takes_the_running_task_back_before_the_next_one_runs(worker):
    log, gate = [], threading.Event()
    worker.submit(Note(log, "a", gate=gate))
    worker.submit(Note(log, "b"))
    worker.cancel()
    assert worker.pending == ()
    worker.submit(Note(log, "c"))
    gate.set()
    turn_until_idle(worker)
    assert [entry[:2] for entry in log] == [
        ("a", "prepare"), ("a", "run"), ("c", "prepare"), ("a", "undo"), ("c", "run"), ("c", "finish c"),
    ]


def test_the_timer_stands_still_when_there_is_nothing_to_do(worker):
    assert not worker._timer.active
    worker.submit(Note([], "a"))
    assert worker._timer.active
    turn_until_idle(worker)
    assert not worker._timer.active


def test_torchs_largest_library_is_there_before_torch_is_imported_and_torch_works_then():
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from InteractiveSegBridge.preload import LIBRARY, preload_torch\n"
        "preload_torch()\n"
        "assert sys.platform != 'linux' or LIBRARY in open('/proc/self/maps').read()\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "print(torch.ones(2, 3).matmul(torch.ones(3, 2)).sum().item())\n"
    )
    folders = [str(Path(__file__).resolve().parents[3] / name) for name in ("InteractiveSeg", "")]
    done = subprocess.run([sys.executable, "-c", code, *folders], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "12.0"
