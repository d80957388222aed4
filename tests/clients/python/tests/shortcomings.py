"""What signalrcore cannot do, and how that shows on the wire.

After a redirect it does not negotiate again, so it has no id, without which neither Server-Sent Events nor long polling can name their
connection. It polls without the token: only one in the address lets it in. In MessagePack it leaves out the id of a call that uploads a
stream.
"""

from signalrcore.transport.sockets.errors import SocketHandshakeError

from support.relay import Redirect, Relay
from support.rig import BEHIND_SERVICE
from support.suite import test
from support.tokens import client_token
from support.ways import LONG_POLLING, Way

SSE = Way('signalrcore', 'json', 'sse')
POLLING = Way('signalrcore', 'json', 'longpolling')


@test([SSE], apps=BEHIND_SERVICE)
def events_are_refused_without_an_id(rig, way):
    relay, client = redirected(rig, way)
    try:
        client.begin()
    except SocketHandshakeError as error:
        assert '400' in str(error) and 'Connection ID required' in str(error), error
    else:
        raise AssertionError('it connected')
    [request] = [passage.request for passage in relay.passages.items]
    assert request.startswith('GET /client/?'), request
    assert 'Authorization: Bearer ' in request, request
    assert 'id' not in names_of(request), request


@test([POLLING], apps=BEHIND_SERVICE)
def a_handshake_is_refused_without_an_id(rig, way):
    relay, client = redirected(rig, way)
    client.begin()
    refused = relay.passage(lambda passage: 'Connection ID required' in passage.answer, 'a refusal')
    assert refused.status == 400, refused.answer
    assert refused.request.startswith('POST /client/?'), refused.request
    assert 'id' not in names_of(refused.request), refused.request


@test([LONG_POLLING], apps=BEHIND_SERVICE)
def a_poll_is_refused_without_a_token(rig, way):
    relay = Relay(rig.service.port)
    rig.at_the_end(relay.stop)
    url = f'http://127.0.0.1:{relay.port}/client/?hub=chat'
    client = rig.new_client(way, url=url)
    client.begin()
    poll = relay.passage(lambda passage: passage.request.startswith('GET ') and passage.status, 'a poll')
    assert poll.status == 401, poll.answer
    assert 'id' in names_of(poll.request) and 'Authorization' not in poll.request, poll.request
    handshake = relay.passage(lambda passage: passage.request.startswith('POST /client/?'), 'a handshake')
    assert 'Authorization: Bearer ' in handshake.request and handshake.status == 200, handshake.answer


@test([Way('signalrcore', 'messagepack')])
def an_upload_in_messagepack_breaks_the_hub_protocol(rig, way):
    client = rig.client(way)
    client.begin_upload('Sum')
    close = client.is_told_to_close()
    assert close.error.startswith('Connection closed with an error.'), close


def redirected(rig, way):
    relay = Relay(rig.service.port)
    rig.at_the_end(relay.stop)
    redirect = Redirect(rig.app, relay)
    rig.at_the_end(redirect.stop)
    return relay, rig.new_client(way, url=redirect.url)


def names_of(request):
    query = request.split(' ')[1].partition('?')[2]
    return [pair.partition('=')[0] for pair in query.split('&')]
