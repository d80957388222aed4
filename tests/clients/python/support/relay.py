"""What stands between a client and its server to see what they say, and to part them."""

import http.server
import json
import re
import socket
import threading
import urllib.request

from .wait import PATIENCE, Inbox


class Relay:
    """Passes bytes on to a port, and keeps them; each connection it takes is a `Passage`."""

    def __init__(self, port):
        self.passages = Inbox()
        self._target = port
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def passage(self, enough, what):
        """The first one for which `enough(passage)` is true."""
        find = lambda passages: next(filter(enough, passages), None)
        return find(self.passages.until(find, what, meanwhile=lambda: None))

    def cut(self):
        """Ends every connection without a word from either side."""
        for passage in self.passages.items:
            passage.cut()

    def stop(self):
        # Closing alone does not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                inward, _ = self._listener.accept()
            except OSError:
                return
            self.passages.push(Passage(inward, self._target))


class Passage:
    """One connection: what came from the client, and what went back."""

    def __init__(self, inward, port):
        self._ends = [inward, socket.create_connection(('127.0.0.1', port))]
        self._request, self._answer = bytearray(), bytearray()
        for source, sink, seen in [(*self._ends, self._request), (*reversed(self._ends), self._answer)]:
            threading.Thread(target=_copy, args=(source, sink, seen), daemon=True).start()

    def __repr__(self):
        return f'{self.request.partition("?")[0]}: {self.status}'

    @property
    def request(self):
        """The head of the first request."""
        return bytes(self._request).partition(b'\r\n\r\n')[0].decode()

    @property
    def answer(self):
        """All that came back, as text."""
        return bytes(self._answer).decode(errors='replace')

    @property
    def status(self):
        """Of the first answer; nothing as long as there is none."""
        found = re.match(r'HTTP/1\.1 (\d+)', self.answer)
        return found and int(found[1])

    def cut(self):
        for end in self._ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                # It was already gone.
                pass


class Redirect:
    """An app server's negotiate, which sends clients to a relay in front of the service instead of the service."""

    def __init__(self, app, relay):
        handler = type('Handler', (_Negotiate,), {'app_url': app.url, 'relay_port': relay.port})
        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}/chat'
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class _Negotiate(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = urllib.request.Request(self.app_url + self.path, method='POST')
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            answer = json.load(response)
        answer['url'] = re.sub(r'^http://127\.0\.0\.1:\d+/', f'http://127.0.0.1:{self.relay_port}/', answer['url'])
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Not to standard error."""


def _copy(source, sink, seen):
    try:
        while data := source.recv(65_536):
            seen += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # Either side was cut.
        pass
