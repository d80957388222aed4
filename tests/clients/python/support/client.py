"""What both libraries are made to look like, so that one test drives either of them, and what a client has received."""

from dataclasses import dataclass

from .wait import Inbox


class HubError(Exception):
    """The hub answered a call with an error."""


@dataclass(frozen=True)
class Close:
    """A Close message."""

    error: str
    allow_reconnect: bool


class Stream:
    """What a hub streams to a client: the items, then a completion of (result, error)."""

    def __init__(self, client, cancel):
        self.items = Inbox()
        self.completion = Inbox()
        self._client = client
        self._cancel = cancel

    def has(self, count):
        self.items.until(lambda items: len(items) >= count, f'{count} item(s)', meanwhile=self._client.meanwhile)

    def to_the_end(self):
        self._client.answer_of(self.completion, 'the stream')
        return self.items.items

    def cancel(self):
        self._cancel()


class Client:
    """One connection of one library. Subclasses know the library: start, stop, send, stream, and `_call` and `_upload`."""

    # Called again and again by whoever waits.
    meanwhile = None

    def __init__(self):
        # Every recv(kind, text), in order of arrival.
        self.inbox = Inbox()
        # The arguments of every hello: one for each time the connection came up.
        self.hellos = Inbox()
        # Every Close message.
        self.closes = Inbox()
        # Every end of the connection that the library told of.
        self.ends = Inbox()

    def invoke(self, method, *arguments):
        completion = Inbox()
        self._call(completion, method, list(arguments))
        return self.answer_of(completion, method)

    def begin_call(self, method, *arguments):
        """Wants an answer, but does not wait for it."""
        self._call(Inbox(), method, list(arguments))

    def upload(self, method, items):
        """Calls a method with a stream of items."""
        completion = Inbox()
        self._upload(completion, method, items)
        return self.answer_of(completion, method)

    def answer_of(self, completion, method):
        [(result, error), *_] = completion.until(bool, f'the completion of {method}', meanwhile=self.meanwhile)
        if error:
            raise HubError(error)
        return result

    @property
    def id(self):
        return self.hellos.items[-1][0]

    @property
    def user(self):
        return self.hellos.items[-1][1]

    def has_come_up(self, times=1):
        self.hellos.until(lambda items: len(items) >= times, f'hello {times}', meanwhile=self.meanwhile)

    def receives(self, kind, text):
        what = f'recv({kind}, {text[:60]})'
        self.inbox.until(lambda items: (kind, text) in items, what, meanwhile=self.meanwhile)

    def texts(self, kind):
        return [text for each, text in self.inbox.items if each == kind]

    def is_told_to_close(self):
        """The first Close message."""
        return self.closes.until(bool, 'a Close message')[0]

    def has_ended(self):
        return self.ends.until(bool, 'the library to say that the connection has ended', meanwhile=self.meanwhile)[0]
