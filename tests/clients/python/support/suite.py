"""Which tests there are."""

from dataclasses import dataclass
from typing import Callable, Optional, Sequence

from .rig import APPS

TESTS = []


@dataclass(frozen=True)
class Test:
    """One test in one way, or without any."""

    name: str
    body: Callable
    way: Optional[object]
    apps: Sequence

    def run(self, rig):
        self.body(rig) if self.way is None else self.body(rig, self.way)


def test(ways=None, apps=APPS):
    """Makes a function a test, once for each of `ways`, against each of `apps`. Its name is what it claims."""
    def register(body):
        group = body.__module__.rpartition('.')[2].replace('_', ' ')
        claim = body.__name__.replace('_', ' ')
        for way in [None] if ways is None else ways:
            name = f'{group}: {claim}' if way is None else f'{group}: {way}: {claim}'
            TESTS.append(Test(name, body, way, apps))
        return body

    return register
