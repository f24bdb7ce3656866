"""One persistent inference thread, fed from the window's thread by a timer. Knows nothing of segments or models.

Slicer's event loop keeps the interpreter lock, so a thread runs only while the window's thread waits for it: a 0 ms
timer whose callback waits 10 ms gives the thread full speed and the window a gap of 13 ms (measured in Slicer 5.8.1;
an empty 20 ms timer is nine times slower). One thread for all jobs, because backends keep caches per thread.
"""
from __future__ import annotations

import collections
import concurrent.futures

import qt

WAIT_SECONDS = 0.010


class Task:
    """One action. `prepare`, `finish`, `fail` and `cancel` run in the window's thread, `run` and `undo` in the worker's.

    progress: (done, total) of a long `run`, which sets it; None where nobody counts. stays: it is not given up when the user
    cancels, for it reads or writes files.
    """

    progress = None
    stays = False

    def prepare(self) -> bool:
        """Collect what `run` needs from Slicer; False drops the task."""
        return True

    def run(self):
        """The slow part, without touching Slicer or Qt; its result goes to `finish`."""
        raise NotImplementedError

    def finish(self, result) -> None:
        """Bring the result into Slicer."""

    def fail(self, error: BaseException) -> None:
        """`run` raised: tell the user."""

    def cancel(self) -> None:
        """The user has cancelled while `run` is at work: a long one should end soon, by raising."""

    def undo(self) -> None:
        """`run` ended after the user had cancelled: take its effect back."""


class Worker:
    """Runs tasks one after the other in the order given; none is lost."""

    def __init__(self, on_change=lambda: None) -> None:
        self._on_change = on_change  # called in the window's thread whenever `pending` may have changed
        self._waiting = collections.deque()
        self._current = None  # (task, future)
        self._cancelled = False
        self._shown = None  # the progress of which `on_change` was last told
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="InteractiveSeg")
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._pump)

    @property
    def pending(self) -> tuple[Task, ...]:
        """The running task and those waiting, oldest first."""
        running = (self._current[0],) if self._current and not self._cancelled else ()
        return running + tuple(self._waiting)

    @property
    def busy(self) -> bool:
        """True until the last task is finished, a cancelled one included."""
        return self._current is not None or bool(self._waiting)

    def submit(self, task: Task) -> None:
        """Queue a task; returns at once."""
        self._waiting.append(task)
        if self._current is None:
            self._start_next()
        self._on_change()

    def cancel(self) -> None:
        """Forget all waiting tasks and the result of the running one, but for those that stay."""
        self._waiting = collections.deque(task for task in self._waiting if task.stays)
        if self._current is not None and not self._current[0].stays:
            self._cancelled = True
            self._current[0].cancel()
        self._on_change()

    def close(self) -> None:
        """Cancel, and end the thread after what it is doing."""
        self.cancel()
        self._timer.stop()
        self._current = None
        self._thread.shutdown(wait=False)

    def _start_next(self) -> None:
        while self._waiting and self._current is None:
            task = self._waiting.popleft()
            if task.prepare():
                self._current = (task, self._thread.submit(task.run))
        if self._current is None:
            self._timer.stop()
        else:
            self._timer.start()

    def _pump(self) -> None:
        if self._current is None:
            self._timer.stop()
            return
        task, future = self._current
        concurrent.futures.wait([future], timeout=WAIT_SECONDS)  # the wait is what lets the thread run
        if task.progress != self._shown:
            self._shown = task.progress
            self._on_change()
        if not future.done():
            return
        cancelled, self._current, self._cancelled = self._cancelled, None, False
        error = future.exception()
        try:
            if cancelled and error is None:
                self._thread.submit(task.undo)
            elif not cancelled and error is not None:
                task.fail(error)
            elif not cancelled:
                task.finish(future.result())
        finally:
            self._start_next()
            self._on_change()
