"""pysignalr. It lives on an event loop, which runs on a thread of its own, so that tests are straight lines.

It has no call to cancel a stream and none to get the answer to one that it uploads, though it has the messages for both: they are sent
through its transport.
"""

import asyncio
import threading
import uuid
from urllib.parse import parse_qs, urlsplit

from pysignalr.client import ClientStream, SignalRClient
from pysignalr.messages import CancelInvocationMessage, InvocationClientStreamMessage
from pysignalr.protocol.json import JSONProtocol
from pysignalr.protocol.messagepack import MessagepackProtocol

from .client import Client, Close, Stream
from .wait import PATIENCE, eventually

_PROTOCOLS = {'json': JSONProtocol, 'messagepack': MessagepackProtocol}


class PysignalrClient(Client):
    """`answer` answers what the hub asks, `ping_interval` is that of WebSocket pings in seconds, `own_token` gives the application's token."""

    def __init__(self, way, url, token=None, app=None, answer=None, ping_interval=20, reconnect=True, own_token=None):
        super().__init__()
        assert reconnect, 'pysignalr always reconnects'
        headers = {'Authorization': f'Bearer {token}'} if token else None
        protocol = _PROTOCOLS[way.protocol]()
        self._library = _Library(url, protocol, headers, ping_interval=ping_interval, retry_sleep=0.05,
                                 access_token_factory=own_token)
        self._library.closes = self.closes
        self._task = None
        self._library.on('recv', self._recv)
        self._library.on('hello', self._hello)
        self._library.on_error(_ignore)
        if answer:
            self._library.on('question', _asynchronous(answer))

    def start(self):
        self._task = _run(self._begin())
        self.has_come_up()

    def stop(self):
        if self._task:
            _run(self._cancel())

    def send(self, method, *arguments):
        _run(self._library.send(method, list(arguments)))

    def stream(self, method, *arguments):
        stream = Stream(self, lambda: self._cancel_stream(take))

        async def take(item):
            stream.items.push(item)

        end = _into(stream.completion)
        _run(self._library.stream(method, list(arguments), take, end, end))
        return stream

    def upload_unanswered(self, method, items):
        """As the library does it: without an id, so that nobody answers."""
        async def upload():
            async with self._library.client_stream(method) as stream:
                for item in items:
                    await stream.send(item)

        _run(upload())

    def send_raw(self, data):
        """Whatever one likes, on the WebSocket below the library."""
        _run(self._library._transport._ws.send(data))

    def round_trip(self):
        """Seconds that the last WebSocket ping and its pong took; 0 as long as there was none."""
        return eventually('a WebSocket pong', lambda: self._library._transport._ws.latency)

    @property
    def negotiated_id(self):
        [connection_id] = parse_qs(urlsplit(self._library._transport._url).query)['id']
        return connection_id

    def _call(self, completion, method, arguments):
        _run(self._library.send(method, arguments, _into(completion)))

    def _upload(self, completion, method, items):
        async def upload():
            call = str(uuid.uuid4())
            self._library._invocation_handlers[call] = _into(completion)
            stream = ClientStream(self._library._transport, method)
            begin = InvocationClientStreamMessage([stream.invocation_id], method, [], invocation_id=call)
            await stream.transport.send(begin)
            for item in items:
                await stream.send(item)
            await stream.complete()

        _run(upload())

    def _cancel_stream(self, take):
        [call] = [call for call, (on_next, *_) in self._library._stream_handlers.items() if on_next is take]
        _run(self._library._transport.send(CancelInvocationMessage(call)))

    async def _begin(self):
        task = asyncio.create_task(self._library.run())
        task.add_done_callback(lambda task: self.ends.push('cancelled' if task.cancelled() else task.exception()))
        return task

    async def _cancel(self):
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _recv(self, arguments):
        self.inbox.push(tuple(arguments))

    async def _hello(self, arguments):
        self.hellos.push(arguments)


class _Library(SignalRClient):
    async def _on_close_message(self, message):
        self.closes.push(Close(message.error, bool(message.allow_reconnect)))
        await super()._on_close_message(message)


def _into(completion):
    async def take(message):
        completion.push((message.result, message.error))

    return take


def _asynchronous(answer):
    async def call(arguments):
        return answer(*arguments)

    return call


# An error reaches whoever made the call as well.
async def _ignore(_message):
    pass


_loop = asyncio.new_event_loop()
threading.Thread(target=_loop.run_forever, name='pysignalr', daemon=True).start()


def _run(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, _loop).result(PATIENCE)
