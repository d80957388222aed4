"""What the service itself owes these clients: negotiate in version 0, ids, tokens, and care with what they cannot read."""

import base64
import os
import socket

from pysignalr.exceptions import AuthorizationError

from support.client import Close
from support.relay import Relay
from support.rig import BEHIND_SERVICE, Rig
from support.suite import test
from support.tokens import client_token
from support.wait import PATIENCE
from support.ways import PYSIGNALR, SOCKETS, Way

# With a token of their own, past the app server.
AT_SERVICE = [Way(way.library, way.protocol, goes_to_service=True) for way in SOCKETS]


@test(AT_SERVICE, apps=BEHIND_SERVICE)
def version_0_hands_out_an_id_to_connect_with(rig, way):
    client = rig.client(way, user='alice')
    assert client.id == client.negotiated_id, 'the hub knows the client by another id'
    assert client.user == 'alice'
    assert client.invoke('Echo', 'hi') == 'hi'


@test(AT_SERVICE, apps=BEHIND_SERVICE)
def a_client_whose_connection_is_lost_gets_another(rig, way):
    relay = Relay(rig.service.port)
    rig.at_the_end(relay.stop)
    token = client_token(rig.service.access_key)
    client = rig.client(way, url=rig.service_url(token, relay.port), reconnect=True)
    first = client.id
    relay.cut()
    client.has_come_up(2)
    assert client.id != first
    assert client.invoke('Echo', 'back') == 'back'
    if way.library == 'pysignalr':
        # It tries the old id first.
        refused = relay.passage(lambda passage: f'id={first}' in passage.request and passage.status == 404, 'a refusal of the old id')
        assert 'No Connection with that ID' in refused.answer, refused.answer


@test(PYSIGNALR, apps=BEHIND_SERVICE)
def a_client_that_comes_back_with_the_token_of_its_application_is_refused(rig, way):
    """pysignalr does, to the service's address, once it has been there with the right one."""
    client = rig.client(way, own_token=lambda: 'for the application')
    rig.app.call(f'/close/{client.id}')
    end = client.has_ended()
    assert isinstance(end, AuthorizationError), repr(end)


@test([Way('signalrcore', 'json', goes_to_service=True)], apps=BEHIND_SERVICE)
def a_host_without_its_port_is_a_host(rig, way):
    relay = Relay(rig.service.port)
    rig.at_the_end(relay.stop)
    client = rig.client(way, url=rig.service_url(client_token(rig.service.access_key), relay.port))
    assert client.invoke('Echo', 'hi') == 'hi'
    upgrade = relay.passage(lambda passage: 'Upgrade: websocket' in passage.request, 'an upgrade')
    assert 'Host: 127.0.0.1\r\n' in upgrade.request, upgrade.request
    assert upgrade.status == 101, upgrade.answer


@test(apps=BEHIND_SERVICE)
def nothing_comes_with_the_answer_to_an_upgrade(rig):
    """signalrcore loses what it reads together with the answer's head."""
    witness = rig.client(SOCKETS[0])
    url = rig.service_url(client_token(rig.service.access_key))
    with socket.create_connection(('127.0.0.1', rig.service.port), timeout=PATIENCE) as client:
        key = base64.b64encode(os.urandom(16)).decode()
        head = [
            f'GET {url.partition(str(rig.service.port))[2]} HTTP/1.1', 'Host: 127.0.0.1', 'Upgrade: websocket', 'Connection: Upgrade',
            f'Sec-WebSocket-Key: {key}', 'Sec-WebSocket-Version: 13', '', '',
        ]
        client.sendall('\r\n'.join(head).encode())
        answer = b''
        while b'\r\n\r\n' not in answer:
            answer += client.recv(65_536)
        assert answer.startswith(b'HTTP/1.1 101') and answer.endswith(b'\r\n\r\n'), answer
        # Neither do messages to everybody, as long as the client has not shaken hands.
        rig.fence(witness, [witness])
        client.setblocking(False)
        try:
            early = client.recv(65_536)
        except BlockingIOError:
            early = None
        assert early is None, f'{early} came before the hub handshake'


@test(apps=['reference'])
def a_lost_app_server_is_told_in_the_hub_protocol_of_each_client(rig):
    """signalrcore takes no JSON where it speaks MessagePack."""
    told_when(lambda own: own.app.process.kill(), rig)


@test(apps=['reference'])
def the_end_of_the_service_is_told_in_the_hub_protocol_of_each_client(rig):
    told_when(lambda own: own.service.process.stop(), rig)


def told_when(end, rig):
    """All clients of another service, and that they may come back, when the end comes."""
    own = Rig(rig.app.kind)
    rig.at_the_end(own.stop)
    rig.at_the_end(own.end_test)
    clients = [own.client(way) for way in SOCKETS]
    end(own)
    for client in clients:
        assert client.is_told_to_close() == Close(None, True)
