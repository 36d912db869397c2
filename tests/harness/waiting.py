# SPDX-License-Identifier: Apache-2.0
"""Bounded waiting. The difficulty: where there is no event to wait for, a condition is asked again
every few milliseconds, and what it last said must be in the failure's words."""
import threading
import time


class TimedOut(AssertionError):
    """A condition did not come true in time."""


def wait_until(condition, timeout, what, every=0.005):
    """Asks until the condition is truthy; returns what it said."""
    deadline = time.monotonic() + timeout
    while True:
        said = condition()
        if said:
            return said
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: not within {timeout} s (last: {said!r})")
        time.sleep(every)


class Mailbox:
    """A growing list that one thread fills and others wait on."""

    def __init__(self):
        self._items = []
        self._changed = threading.Condition()

    def put(self, item):
        """Adds an item and wakes who waits."""
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def all(self):
        """A copy of what came so far."""
        with self._changed:
            return list(self._items)

    def mark(self):
        """How many came so far: pass it to `wait` to look only at later ones."""
        with self._changed:
            return len(self._items)

    def wait(self, wanted, timeout, what, since=0):
        """The first item from `since` on for which wanted(item) holds."""
        return self.find(wanted, timeout, what, since)[0]

    def find(self, wanted, timeout, what, since=0):
        """The same, with the mark behind it: from there the next one is found."""
        deadline = time.monotonic() + timeout
        seen = since
        with self._changed:
            while True:
                for at, item in enumerate(self._items[seen:], seen):
                    if wanted(item):
                        return item, at + 1
                seen = len(self._items)
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    tail = self._items[since:][-8:]
                    raise TimedOut(f"{what}: not within {timeout} s (last: {tail!r})")


class Background:
    """A function on a thread of its own; `result` gives its value or raises what it raised."""

    def __init__(self, function, *args, **kwargs):
        self._value = None
        self._error = None
        self._thread = threading.Thread(
            target=self._run, args=(function, args, kwargs), daemon=True
        )
        self._thread.start()

    def _run(self, function, args, kwargs):
        try:
            self._value = function(*args, **kwargs)
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error

    def done(self):
        """Whether the function has ended."""
        return not self._thread.is_alive()

    def result(self, timeout):
        """Waits for the end."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimedOut(f"a background task did not end within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value


def together(functions, timeout):
    """Runs all functions at once and returns their values in order; the first error is raised."""
    running = [Background(function) for function in functions]
    deadline = time.monotonic() + timeout
    return [task.result(max(0.01, deadline - time.monotonic())) for task in running]
