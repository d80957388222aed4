"""What a hub owes every client: answers, errors, groups, users, streams, order, large messages, values of every kind."""

import base64

from support.client import HubError
from support.suite import test
from support.ways import EVERY, LONG_POLLING, PYSIGNALR, SOCKETS, SSE

# A poll hands signalrcore one message, so a thousand would take a thousand polls.
STREAMING = [*SOCKETS, SSE]
# What signalrcore says in MessagePack is no upload, see shortcomings.py.
UPLOADING = [way for way in EVERY if (way.library, way.protocol) != ('signalrcore', 'messagepack')]


@test(EVERY)
def a_call_is_answered(rig, way):
    client = rig.client(way)
    for text in ['hi', '', 'ümläut 中文 🎉', 'line\nbreak \x1e record separator', '{"type":7}', '\\"\0']:
        assert client.invoke('Echo', text) == text
    assert client.invoke('Nothing') is None


@test(EVERY)
def an_error_of_the_hub_ends_the_call_and_nothing_else(rig, way):
    client = rig.client(way)
    for method, expected in [('Fail', 'boom'), ('NoSuchMethod', 'NoSuchMethod')]:
        try:
            client.invoke(method)
        except HubError as error:
            assert expected in str(error), error
        else:
            raise AssertionError(f'{method} did not fail')
    assert client.invoke('Echo', 'still here') == 'still here'


@test(EVERY)
def a_call_without_an_answer_is_made(rig, way):
    sender, receiver = rig.clients(2, way)
    sender.send('Others', 'sent')
    receiver.receives('others', 'sent')
    assert sender.texts('others') == []


@test()
def every_kind_of_client_is_on_the_same_hub(rig):
    clients = [rig.client(way) for way in EVERY]
    for way, client in zip(EVERY, clients):
        client.invoke('Broadcast', f'from {way}')
    for client in clients:
        for way in EVERY:
            client.receives('all', f'from {way}')


@test(EVERY)
def a_group_is_its_members(rig, way):
    sender, member, stranger = rig.clients(3, way)
    group = f'group of {way}'
    assert sender.invoke('Join', group) == 'joined'
    member.invoke('Join', group)
    sender.invoke('ToGroup', group, 'both')
    sender.invoke('OthersInGroup', group, 'the other')
    assert member.invoke('Leave', group) == 'left'
    sender.invoke('ToGroup', group, 'one')
    rig.fence(sender, [sender, member, stranger])
    assert sender.texts('group') == ['both', 'one']
    assert member.texts('group') == ['both']
    assert member.texts('othersingroup') == ['the other']
    assert stranger.texts('group') == []


@test(EVERY)
def a_user_is_all_its_connections(rig, way):
    sender = rig.client(way)
    alice = rig.clients(2, way, user='alice')
    bob = rig.client(way, user='bob')
    assert sender.user is None
    assert [client.user for client in [*alice, bob]] == ['alice', 'alice', 'bob']
    sender.invoke('ToUser', 'alice', 'for alice')
    rig.fence(sender, [*alice, bob])
    assert [client.texts('user') for client in [*alice, bob]] == [['for alice'], ['for alice'], []]


@test(EVERY)
def a_stream_comes_item_by_item_and_ends(rig, way):
    client = rig.client(way)
    for count in [0, 1, 20]:
        assert client.stream('Count', count).to_the_end() == list(range(count))


@test(EVERY)
def a_stream_that_the_client_cancels_ends_at_the_hub(rig, way):
    client = rig.client(way)
    stream = client.stream('Ticks', 5)
    stream.has(3)
    stream.cancel()
    rig.app.event('stream-ended', client.id)
    assert client.invoke('Echo', 'after') == 'after'


@test(UPLOADING)
def a_hub_adds_up_what_the_client_streams(rig, way):
    client = rig.client(way)
    assert client.upload('Sum', range(1, 21)) == 210
    assert client.upload('Sum', []) == 0
    client.upload_unanswered('Sum', [1, 2, 3])
    assert client.invoke('Echo', 'after') == 'after'


@test(PYSIGNALR)
def a_client_answers_what_the_hub_asks(rig, way):
    answers = {'what?': 'my answer', 'what else?': 'ümläut 🎉'}
    asked = rig.client(way, answer=lambda question: answers[question])
    for question, answer in list(answers.items()):
        assert asked.invoke('AskMe', question) == answer
    try:
        asked.invoke('AskMe', 'no such question')
    except HubError as error:
        assert 'no such question' in str(error), error
    else:
        raise AssertionError('the hub has an answer though the client failed')

    asking = rig.client(way)
    answers['q'] = 'to somebody else'
    assert asking.invoke('Ask', asked.id) == 'to somebody else'


@test(EVERY)
def two_hundred_kilobytes_arrive_whole(rig, way):
    client = rig.client(way)
    # Not periodic in any power of two, so that a piece put in the wrong place shows.
    text = ''.join(f'{index:.>7}' for index in range(30_000))[:200_000]
    assert client.invoke('Echo', text) == text, 'the echo differs'
    assert client.invoke('Big', 200_000) == 'x' * 200_000


@test(STREAMING)
def a_thousand_messages_keep_their_order(rig, way):
    sender, receiver = rig.clients(2, way)
    sender.invoke('Flood', 1000, 'number ')
    rig.fence(sender, [sender, receiver])
    expected = [f'number {index}' for index in range(1000)]
    for client in (sender, receiver):
        assert client.texts('flood') == expected, f'{len(client.texts("flood"))} message(s), or out of order'


@test([LONG_POLLING])
def messages_keep_their_order(rig, way):
    sender, receiver = rig.clients(2, way)
    sender.invoke('Flood', 20, 'number ')
    rig.fence(sender, [receiver])
    assert receiver.texts('flood') == [f'number {index}' for index in range(20)]


@test(EVERY)
def values_of_every_kind_come_back(rig, way):
    client = rig.client(way)
    values = [None, True, False, 0, 42, -7, 1.5, -0.25, '', 'text', [], [1, 'two', None, [3.5, [False]]], {'a': 1, 'b': {'c': [True, {}]}}]
    # Both sides of each length that MessagePack has for integers.
    bits = [5, 7, 8, 15, 16, 31, 32, 53]
    values += [value for bit in bits for value in (2**bit - 1, 2**bit, -(2**bit), -(2**bit) - 1)]
    assert client.invoke('EchoAny', values) == values


@test(EVERY)
def bytes_come_back(rig, way):
    client = rig.client(way)
    data = bytes(range(256)) * 3
    if way.protocol == 'json':
        assert base64.b64decode(client.invoke('EchoBytes', base64.b64encode(data).decode())) == data
    else:
        assert client.invoke('EchoBytes', data) == data
        assert client.invoke('EchoBytes', b'') == b''
