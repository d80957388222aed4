"""How connections live and end: closed by the hub, dropped and made again, kept alive, stopped."""

from pysignalr.exceptions import ServerError

from support.client import Close
from support.rig import BEHIND_SERVICE
from support.suite import test
from support.ways import EVERY, PYSIGNALR, SOCKETS, SSE

# Not a message of either hub protocol: an object without a type, a number in place of an array.
MALFORMED = {'json': '{}\x1e', 'messagepack': b'\x01\x05'}


@test(EVERY)
def a_hub_that_aborts_its_caller_closes_nobody_else(rig, way):
    caller, other = rig.clients(2, way)
    caller.send('AbortMe')
    if way.shows_close:
        assert caller.is_told_to_close() == Close(None, False)
    assert other.invoke('Echo', 'unharmed') == 'unharmed'
    if way.library == 'signalrcore':
        caller.has_ended()
    else:
        # It pays no heed to a Close without an error, and connects again once the socket has ended.
        caller.has_come_up(2)


@test(EVERY)
def a_client_that_breaks_the_protocol_is_closed_with_an_error(rig, way):
    client = rig.client(way)
    client.send_raw(MALFORMED[way.protocol])
    end = client.has_ended()
    if not way.shows_close:
        return
    close = client.is_told_to_close()
    assert close.error.startswith('Connection closed with an error.'), close
    assert close.allow_reconnect, close
    if way.library == 'pysignalr':
        assert isinstance(end, ServerError), repr(end)
        assert str(end) == close.error


@test(PYSIGNALR)
def a_websocket_ping_is_answered(rig, way):
    client = rig.client(way, ping_interval=0.05)
    assert client.round_trip() > 0
    assert client.invoke('Echo', 'between pings') == 'between pings'


@test([*SOCKETS, SSE])
def a_client_that_is_closed_comes_back(rig, way):
    client = rig.client(way, reconnect=True)
    first = client.id
    # By the service, if there is one.
    rig.app.call(f'/close/{first}?how=message' if rig.has_service else f'/close/{first}')
    client.has_come_up(2)
    assert client.id != first
    assert client.invoke('Echo', 'back') == 'back'


@test(PYSIGNALR)
def a_message_too_large_for_the_client_costs_that_connection_only(rig, way):
    caller, other = rig.clients(2, way)
    # It takes 1 MiB, and closes with 1009 otherwise.
    caller.send('Caller', 'x' * 1_000_000)
    caller.receives('caller', 'x' * 1_000_000)
    caller.send('Big', 1_100_000)
    assert caller.invoke('Echo', 'a call without an answer has none') == 'a call without an answer has none'
    caller.begin_call('Big', 1_100_000)
    caller.has_come_up(2)
    assert caller.invoke('Echo', 'back') == 'back'
    assert other.invoke('Echo', 'unharmed') == 'unharmed'


@test(EVERY, apps=BEHIND_SERVICE)
def a_client_that_stops_leaves_nothing(rig, way):
    clients = rig.clients(3, way)
    for client in clients:
        client.invoke('Join', 'left behind')
    assert {client['id'] for client in rig.service.clients()} == {client.id for client in clients}
    rig.stop_clients()
    for client in clients:
        rig.app.event('disconnected', client.id)
    # That nothing is left is checked after every test.
