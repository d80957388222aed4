"""signalrcore, which receives on a thread of its own.

What one has to know to drive it:

* It sends the call for a stream before anybody can subscribe, so receiving pauses meanwhile.
* `stop()` closes the socket and waits for the thread that reads from it, which the next message wakes. One that comes before the socket
  is closed would be taken for a handshake, and the socket forgotten.
* It leaves the connection open on which an event stream has ended, so it is closed behind it: the service would keep it for more requests.
* From the answer to a poll it hands over only the first hub message; each further answer releases one more. So whoever waits keeps calling.
* It has no call to cancel a stream and none to get the answer to one that it uploads, though it has the messages for both.
* It does not answer what the hub asks.
"""

import threading
import uuid

from signalrcore.hub.errors import HubConnectionError
from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.messages.cancel_invocation_message import CancelInvocationMessage
from signalrcore.messages.invocation_message import InvocationClientStreamMessage
from signalrcore.messages.message_type import MessageType
from signalrcore.subject import Subject
from signalrcore.transport.long_polling.long_polling_transport import LongPollingTransport
from signalrcore.transport.sse.sse_transport import SSETransport
from signalrcore.transport.websockets.websocket_transport import WebsocketTransport
from signalrcore.types import HttpTransportType, HubProtocolEncoding

from .client import Client, Close, Stream
from .wait import PATIENCE, Inbox, Missing

_ENCODINGS = {'json': HubProtocolEncoding.text, 'messagepack': HubProtocolEncoding.binary}
_TRANSPORTS = {
    'websockets': (HttpTransportType.web_sockets, WebsocketTransport),
    'sse': (HttpTransportType.server_sent_events, SSETransport),
    'longpolling': (HttpTransportType.long_polling, LongPollingTransport),
}


class SignalrcoreClient(Client):
    """`app` is asked to wake the client when it stops."""

    def __init__(self, way, url, token=None, app=None, reconnect=False):
        super().__init__()
        self._app = app
        self._opened = Inbox()
        self._errors = {}
        # Held while a message is handed over.
        self._receiving = threading.RLock()
        preferred, self._transport = _TRANSPORTS[way.transport]
        options = {'transport': preferred, 'headers': {'Authorization': f'Bearer {token}'} if token else {}}
        builder = HubConnectionBuilder().with_url(url, options=options).with_hub_protocol(_ENCODINGS[way.protocol])
        if reconnect:
            builder.with_automatic_reconnect({'type': 'raw', 'reconnect_interval': 1, 'max_attempts': 5})
        self._library = builder.build()
        self._take = self._library.on_message
        self._library.on_message = self._on_messages
        self._library.on_open(lambda: self._opened.push(True))
        self._library.on_close(lambda: self.ends.push('closed'))
        self._library.on_error(lambda message: self._errors[message.invocation_id].push((None, message.error)))
        self._library.on('recv', lambda arguments: self.inbox.push(tuple(arguments)))
        self._library.on('hello', self.hellos.push)
        if way.transport == 'longpolling':
            self.meanwhile = self._release

    def start(self):
        self.begin()
        self._opened.until(bool, 'the connection to open')
        self.has_come_up()

    def begin(self):
        """Starts without waiting for anything."""
        self._library.start()
        # It takes WebSockets where the server has nothing better.
        used = type(self._library.transport)
        assert used is self._transport, f'it uses {used.__name__}'

    def stop(self):
        ending = threading.Thread(target=self._library.stop, daemon=True)
        ending.start()
        for _ in range(int(PATIENCE / 0.02)):
            ending.join(0.02)
            if not ending.is_alive():
                return self._close_socket()
            if self._reads_from_closed_socket():
                self._app.call(f'/conn/{self.id}/goodbye')
        raise Missing('stop() does not return')

    def _reads_from_closed_socket(self):
        return self._socket is not None and self._socket.fileno() == -1

    def _close_socket(self):
        if self._socket is not None:
            self._socket.close()

    @property
    def _socket(self):
        return getattr(getattr(self._library.transport, '_client', None), 'sock', None)

    def send(self, method, *arguments):
        self._library.send(method, list(arguments))

    def begin_upload(self, method):
        """Only the call, as the library makes it."""
        self._library.send(method, Subject())

    def send_raw(self, data):
        """Whatever one likes, below the library's hub protocol."""
        self._library.transport._client.send(data)

    @property
    def negotiated_id(self):
        return self._library.transport.connection_id

    def stream(self, method, *arguments):
        with self._receiving:
            handler = self._library.stream(method, list(arguments))
            call = handler.invocation_id
            stream = Stream(self, lambda: self._library.transport.send(CancelInvocationMessage(call)))
            handler.subscribe({
                'next': stream.items.push,
                'complete': lambda message: stream.completion.push((message.result, None)),
                'error': lambda message: stream.completion.push((None, message.error)),
            })
            self._errors[call] = stream.completion
        return stream

    def upload_unanswered(self, method, items):
        """As the library does it: without an id, so that nobody answers."""
        self._send_subject(Subject(), method, items)

    def _release(self):
        """Makes the service answer one more poll, if the connection is still there."""
        try:
            self.send('Nothing')
        except (HubConnectionError, ValueError):
            pass

    def _call(self, completion, method, arguments):
        call = str(uuid.uuid4())
        self._errors[call] = completion
        self._library.invoke(method, arguments, lambda message: completion.push((message.result, None)), call)

    def _upload(self, completion, method, items):
        call = str(uuid.uuid4())
        self._errors[call] = completion
        handler = _Handler(lambda message: completion.push((message.result, None)))
        self._library.stream_handlers[call].append(handler)
        subject = Subject()
        # In place of the library's own, which leaves the id out.
        subject.start = lambda: self._begin_upload(subject, call)
        self._send_subject(subject, method, items)

    def _begin_upload(self, subject, call):
        message = InvocationClientStreamMessage([subject.invocation_id], subject.target, [])
        message.invocation_id = call
        self._library.transport.send(message)

    def _send_subject(self, subject, method, items):
        self._library.send(method, subject)
        for item in items:
            subject.next(item)
        subject.complete()

    def _on_messages(self, messages):
        with self._receiving:
            for message in messages:
                if message.type == MessageType.close:
                    self.closes.push(Close(message.error, bool(message.allow_reconnect)))
            self._take(messages)


class _Handler:
    def __init__(self, complete):
        self.complete_callback = complete
