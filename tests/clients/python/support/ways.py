"""The ways in which a client connects: library, hub protocol, transport, and where it begins."""

from dataclasses import dataclass

from .pysignalr_client import PysignalrClient
from .signalrcore_client import SignalrcoreClient

_LIBRARIES = {'pysignalr': PysignalrClient, 'signalrcore': SignalrcoreClient}


@dataclass(frozen=True)
class Way:
    """Begins with negotiate at the app server or, when it `goes_to_service`, at the service with a token of its own."""

    library: str
    protocol: str
    transport: str = 'websockets'
    goes_to_service: bool = False

    def __str__(self):
        transport = '' if self.transport == 'websockets' else f' {self.transport}'
        return f'{self.library} {self.protocol}{transport}'

    @property
    def shows_close(self):
        """Whether a Close message is certain to be seen. signalrcore drops the event that it reads together with the end of the stream, and
        takes the next message for a handshake when it has been refused a request meanwhile."""
        return self.transport == 'websockets'

    def new_client(self, **options):
        return _LIBRARIES[self.library](self, **options)


PYSIGNALR = [Way('pysignalr', 'json'), Way('pysignalr', 'messagepack')]
SIGNALRCORE = [Way('signalrcore', 'json'), Way('signalrcore', 'messagepack')]
SOCKETS = [*PYSIGNALR, *SIGNALRCORE]

# After an app server's redirect signalrcore does neither, see tests/shortcomings.py: it has to begin at the service.
SSE = Way('signalrcore', 'json', 'sse', goes_to_service=True)
LONG_POLLING = Way('signalrcore', 'json', 'longpolling', goes_to_service=True)
EVERY = [*SOCKETS, SSE, LONG_POLLING]
