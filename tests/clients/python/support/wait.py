"""Waiting for conditions, never for time: a deadline only turns a hang into a failure that says what was missing."""

import threading
import time

PATIENCE = 20.0


class Missing(AssertionError):
    """Something did not come in time."""


def eventually(what, condition, seconds=PATIENCE):
    """Asks again and again until `condition` gives something true; for state that nobody announces. `what` may be a function of no arguments."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Missing(f'not within {seconds} s: {what() if callable(what) else what}')
        time.sleep(0.02)


class Inbox:
    """Things that arrive one by one, from any thread, and those who wait for some of them."""

    def __init__(self):
        self._items = []
        self._arrived = threading.Condition()

    @property
    def items(self):
        with self._arrived:
            return list(self._items)

    def push(self, item):
        with self._arrived:
            self._items.append(item)
            self._arrived.notify_all()

    def until(self, enough, what, seconds=PATIENCE, meanwhile=None):
        """The items, once `enough(items)` is true. `meanwhile` is called again and again by the one who waits."""
        deadline = time.monotonic() + seconds
        while True:
            with self._arrived:
                if enough(self._items):
                    return list(self._items)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Missing(f'waited for {what}; got {_summary(self._items)}')
                self._arrived.wait(left if meanwhile is None else min(left, 0.01))
            if meanwhile is not None:
                meanwhile()


def _summary(items):
    last = ' '.join(repr(item)[:120] for item in items[-20:])
    return f'{len(items)} item(s), the last: {last or "none"}'
