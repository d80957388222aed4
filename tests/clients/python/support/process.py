"""Child processes: started on free ports, logged to tests/artifacts/, stopped by their id."""

import collections
import http.client
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from .wait import PATIENCE, Inbox, Missing

REPOSITORY = Path(__file__).resolve().parents[4]
ARTIFACTS = REPOSITORY / 'tests' / 'artifacts'

# The kernel ends a child whose parent has gone, so not even a runner that is killed leaves one behind.
_DIE_WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL', '--'] if shutil.which('setpriv') else []

# An app server on .NET takes two seconds of processor time to start.
_START = 120.0
_STOP = 30.0
# Below the range from which the kernel takes the ports of outgoing connections.
_PORTS = range(15_000, 32_000)

_started = itertools.count(1)


class Process:
    """A program that runs until it is stopped; `lines` is its standard output."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.lines = Inbox()
        self._tail = collections.deque(maxlen=40)
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        self.log_path = ARTIFACTS / f'python-{os.getpid()}-{next(_started)}-{name}.log'
        self._log = self.log_path.open('w')
        self._child = subprocess.Popen(
            [*_DIE_WITH_PARENT, *map(str, command)], env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace',
        )
        streams = [(self._child.stdout, self.lines.push), (self._child.stderr, lambda line: None)]
        self._readers = [threading.Thread(target=self._read, args=each, daemon=True) for each in streams]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self):
        return self._child.pid

    @property
    def tail(self):
        """The last lines of both streams: what to show when the process did not do its job."""
        return f'--- {self.name}, log {self.log_path}\n{"".join(self._tail)}'

    def line(self, pattern, seconds=PATIENCE):
        """The first line of standard output that matches."""
        matching = lambda items: next((item for item in items if re.search(pattern, item)), None)
        try:
            return matching(self.lines.until(matching, f'a line like {pattern}', seconds))
        except Missing as error:
            raise Missing(f'{error}\n{self.tail}') from None

    def healthy(self, port):
        """Waits until GET /healthz on `port` answers 200."""
        deadline = time.monotonic() + _START
        while self._child.poll() is None:
            status = _health(port)
            if status == 200:
                return
            if time.monotonic() > deadline:
                raise Missing(f'/healthz of {self.name} answers {status}\n{self.tail}')
            time.sleep(0.02)
        raise Missing(f'{self.name} ended before it was healthy\n{self.tail}')

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        """Asks politely; whoever does not go in time is killed and reported."""
        try:
            self._end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Missing(f'{self.name} did not end on SIGTERM\n{self.tail}') from None

    def _end(self, how):
        if self._child.poll() is None:
            self._child.send_signal(how)
        self._child.wait(_STOP)
        for reader in self._readers:
            reader.join(_STOP)
        self._log.close()

    def _read(self, stream, push):
        for line in stream:
            self._log.write(line)
            self._tail.append(line)
            push(line.rstrip('\n'))


def free_ports(count):
    """Ports on which nobody listens."""
    ports = set()
    while len(ports) < count:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
        ports.add(port)
    return list(ports)


def _health(port):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=PATIENCE)
    try:
        connection.request('GET', '/healthz')
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return error
    finally:
        connection.close()
