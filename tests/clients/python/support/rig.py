"""What the tests run against: the service and one app server, or, to calibrate the tests, plain ASP.NET Core SignalR."""

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .process import REPOSITORY, Process, free_ports
from .tokens import client_token
from .wait import eventually

# `hubring app-server`; HUBRING_SDK_APP behind the service; HUBRING_SDK_APP alone, as plain ASP.NET Core SignalR.
APPS = ('reference', 'sdk', 'selfhost')
BEHIND_SERVICE = ('reference', 'sdk')


class Service:
    """`hubring serve` on ports of its own."""

    def __init__(self):
        self.port, self._admin_port = free_ports(2)
        command = [_binary(), 'serve', '--listen', f'127.0.0.1:{self.port}', '--admin', f'127.0.0.1:{self._admin_port}', '--shards', '2']
        self.process = Process('service', command)
        self.process.healthy(self._admin_port)
        self.connection_string = self.process.line(r'^\s*Endpoint=').strip()
        self.access_key = re.search('AccessKey=([^;]+)', self.connection_string)[1]

    def clients(self):
        """The clients that it lists."""
        status, text = _get(f'http://127.0.0.1:{self._admin_port}/connections')
        # 503 as long as a shard does not answer within a second.
        return json.loads(text)['clients'] if status == 200 else None

    def metric(self, name):
        """A counter, summed over its labels."""
        _, text = _get(f'http://127.0.0.1:{self._admin_port}/metrics')
        samples = re.findall(rf'^{name}(?:{{.*}})? (\S+)$', text, re.MULTILINE)
        assert samples, f'the metrics page has no {name}'
        return sum(map(float, samples))

    def sockets(self):
        """How many sockets it holds open."""
        count = 0
        for descriptor in Path(f'/proc/{self.process.pid}/fd').iterdir():
            try:
                count += os.readlink(descriptor).startswith('socket:')
            except FileNotFoundError:
                # Closed since it was listed.
                pass
        return count


class App:
    """An app server on a port of its own."""

    def __init__(self, kind, service):
        self.kind = kind
        [self.port] = free_ports(1)
        self.url = f'http://127.0.0.1:{self.port}'
        start = _reference if kind == 'reference' else _sdk
        self.process = start(kind, service, self.port)
        self.process.healthy(self.port)

    def call(self, path):
        """One of its own endpoints: the answer as text."""
        status, text = _get(self.url + path)
        assert status == 200, f'{path}: {status} {text}'
        return text

    def events(self, name, connection_id):
        """What it has printed about a connection."""
        lines = self.process.lines.items
        return [json.loads(line) for line in lines if f'"event":"{name}"' in line and connection_id in line]

    def event(self, name, connection_id):
        """The first of them, as soon as it is there."""
        self.process.lines.until(lambda _: self.events(name, connection_id), f'the app server to say {name} {connection_id}')
        return self.events(name, connection_id)[0]


class Rig:
    """The service, the app server and the clients of one test."""

    def __init__(self, app_kind):
        self.has_service = app_kind != 'selfhost'
        self.service = Service() if self.has_service else None
        self.app = App(app_kind, self.service)
        self._sockets_at_rest = eventually('the service holds sockets', self.service.sockets) if self.has_service else 0
        self._clients = []
        self._ends = []
        self._fences = 0

    def client(self, way, **options):
        """A connected client that has got its hello; stopped when the test ends."""
        client = self.new_client(way, **options)
        client.start()
        return client

    def clients(self, count, way, **options):
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda _: self.client(way, **options), range(count)))

    def new_client(self, way, url=None, user=None, query=None, **options):
        """One that is not started yet. `url` replaces where the way leads."""
        token = None
        if way.goes_to_service and self.has_service:
            token = client_token(self.service.access_key, **({'nameid': user} if user else {}))
            url = url or self.service_url(token)
        elif url is None:
            parts = {**({'user': user} if user else {}), **(query or {})}
            url = f'{self.app.url}/chat?{urllib.parse.urlencode(parts)}'.rstrip('?')
        client = way.new_client(url=url, token=token, app=self.app, **options)
        self._clients.append(client)
        return client

    def service_url(self, token, port=None):
        """Where a client goes that has a token of the service already. In the query as well, for requests without the header."""
        query = urllib.parse.urlencode({'hub': 'chat', 'asrs.op': '/chat', 'access_token': token})
        return f'http://127.0.0.1:{port or self.service.port}/client/?{query}'

    def fence(self, sender, receivers):
        """After this, whatever `sender` caused before has arrived at `receivers` or never will."""
        self._fences += 1
        text = f'fence {self._fences}'
        sender.invoke('Broadcast', text)
        for receiver in receivers:
            receiver.receives('all', text)

    def at_the_end(self, action):
        """What this test has to undo."""
        self._ends.append(action)

    def end_test(self):
        """Stops the clients and undoes the rest, the last first; all of it, whatever fails."""
        try:
            self.stop_clients()
        finally:
            self._undo()

    def stop_clients(self):
        clients, self._clients = self._clients, []
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda client: client.stop(), clients))

    def _undo(self):
        if self._ends:
            try:
                self._ends.pop()()
            finally:
                self._undo()

    def assert_at_rest(self):
        """No client is left, nor a descriptor of one."""
        if not self.has_service:
            return
        eventually(lambda: f'the service lists no client, but {self.service.clients()}', lambda: self.service.clients() == [])
        held = lambda: f'the service holds {self._sockets_at_rest} sockets as before the test, but {self.service.sockets()}'
        eventually(held, lambda: self.service.sockets() == self._sockets_at_rest)

    def stop(self):
        self.app.process.stop()
        if self.service:
            self.service.process.stop()


def _binary():
    named = os.environ.get('HUBRING_BIN')
    candidates = [Path(named).resolve()] if named else [REPOSITORY / 'target' / profile / 'hubring' for profile in ('release', 'debug')]
    found = next((path for path in candidates if path.exists()), None)
    assert found, f'no binary to test: build it or set HUBRING_BIN (looked at {", ".join(map(str, candidates))})'
    return found


def _reference(_kind, service, port):
    command = [_binary(), 'app-server', '--connection-string', service.connection_string, '--listen', f'127.0.0.1:{port}', '--actions', '--events']
    return Process('app-server', command)


def _sdk(kind, service, port):
    mode = {'SELFHOST': '1'} if kind == 'selfhost' else {'ASRS': service.connection_string, 'CONNS': '5'}
    return Process('sdk-app-server', [os.environ['HUBRING_SDK_APP'], '--urls', f'http://127.0.0.1:{port}'], mode)


def _get(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
