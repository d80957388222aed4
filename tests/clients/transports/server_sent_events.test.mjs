// Server-Sent Events, byte by byte: what opens the stream, what an event is, how it ends, and what is posted beside it.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, unlessService } from '../support/rig.mjs';
import { HttpConnection, call } from '../support/http.mjs';
import { handshakes } from '../support/raw.mjs';

const rig = await Rig.start();
after(() => rig.stop());


// A client that the hub has greeted.
async function greeted() {
  return (await HttpConnection.streaming(rig)).greeted();
}

// The payloads of a stream that is nothing but the comment at its beginning and events of one line.
function eventsOf(text) {
  assert.match(text, /^:\r\n(data: [^\r\n]*\r\n\r\n)*$/);
  return [...text.matchAll(/^data: (.*)\r\n\r\n/gm)].map(([, payload]) => payload);
}

const messagesOf = (payload) => payload.split('\x1e').slice(0, -1).map((text) => JSON.parse(text));

async function goneAtTheApp(connection) {
  await rig.app.event('disconnected', connection.id);
}

test('a comment opens the stream before anything is said, under the headers of an event stream', async () => {
  const { stream } = await HttpConnection.streaming(rig);
  const { headers } = await stream.begun();
  await stream.until((text) => text.length >= 3, 'the comment');
  assert.deepEqual(stream.body, Buffer.from(':\r\n'));
  assert.equal(headers['content-type'], 'text/event-stream');
  assert.equal(headers['cache-control'], 'no-cache,no-store');
  assert.equal(headers.pragma, 'no-cache');
  assert.equal(headers['content-encoding'], 'identity');
  assert.equal('content-length' in headers, false);
  stream.abort();
});

test('the handshake response is the first event, and every event is whole messages', async () => {
  const { stream } = await greeted();
  const payloads = eventsOf(stream.body.toString());
  assert.ok(payloads[0].startsWith('{}\x1e'), payloads[0]);
  for (const payload of payloads) assert.ok(payload.endsWith('\x1e'));
  stream.abort();
});

test('a message of 500,000 characters is one event, whatever pieces it came in', async () => {
  const connection = await greeted();
  const text = Array.from({ length: 50_000 }, (_, index) => String(index).padStart(10, '.')).join('');
  await connection.say(call('Echo', text));
  await connection.stream.until((body) => body.includes('"result"') && body.endsWith('\r\n\r\n'), 'the echo');
  const messages = eventsOf(connection.stream.body.toString()).flatMap(messagesOf);
  assert.ok(messages.some((message) => message.result === text), 'the echo differs');
  connection.stream.abort();
});

test('hub messages may be posted in pieces, and several at once', async () => {
  const connection = await HttpConnection.streaming(rig);
  const [first, second] = [call('Echo', 'one'), call('Caller', 'two')];
  for (const piece of [handshakes.json.slice(0, 7), `${handshakes.json.slice(7)}${first.slice(0, 20)}`, first.slice(20), '', `{"type":6}\x1e${second}${second}`]) {
    await connection.say(piece);
  }
  await connection.stream.until((text) => text.includes('"one"') && text.split('"two"').length > 2, 'three answers');
  connection.stream.abort();
});

test('bytes that are no text end the connection in order', async () => {
  const connection = await greeted();
  await connection.post(Buffer.from([0xff, 0xfe, 0x1e])).answer();
  await connection.stream.answer();
  const [last] = eventsOf(connection.stream.body.toString()).flatMap(messagesOf).slice(-1);
  assert.equal(last.type, 7);
  assert.match(last.error, /^Connection closed with an error\./);
  await goneAtTheApp(connection);
});

test('MessagePack is refused with a reason', async () => {
  const connection = await HttpConnection.streaming(rig);
  await connection.say(handshakes.messagepack);
  await connection.stream.answer();
  const [payload] = eventsOf(connection.stream.body.toString());
  assert.deepEqual(messagesOf(payload), [{ error: "Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format." }]);
});

test('a POST of more than 1 MB is 413 and ends the connection', { skip: unlessService }, async () => {
  const connection = await greeted();
  const { status } = await connection.post(call('Echo', 'x'.repeat(1_100_000))).answer();
  assert.equal(status, 413);
  await connection.stream.answer();
  await goneAtTheApp(connection);
});

test('a connection that its hub ends says so, completes its stream and is gone', async () => {
  const connection = await greeted();
  await connection.say(call('AbortMe'));
  const { body } = await connection.stream.answer();
  const messages = eventsOf(body.toString()).flatMap(messagesOf);
  assert.deepEqual(messages.at(-1), { type: 7 });
  for (const request of [connection.post('{"type":6}\x1e'), connection.events()]) assert.equal((await request.answer()).status, 404);
});

test('a client that says goodbye is gone, and so is one that goes without a word', async () => {
  const [polite, abrupt] = [await greeted(), await greeted()];
  await polite.say('{"type":7}\x1e');
  await polite.stream.answer();
  abrupt.stream.abort();
  for (const connection of [polite, abrupt]) await goneAtTheApp(connection);
});

test('the token of the stream may come in the address, that of a POST may not', { skip: unlessService }, async () => {
  const connection = await HttpConnection.negotiated(rig);
  const rightful = connection.headers;
  connection.headers = {};
  connection.query.append('access_token', 'stray');
  connection.query.append('access_token', rightful.Authorization.slice('Bearer '.length));
  const stream = connection.events();
  assert.equal((await stream.begun()).status, 200);
  assert.equal((await connection.post(handshakes.json).answer()).status, 401);
  connection.headers = rightful;
  await connection.say(handshakes.json);
  await stream.until((text) => text.includes('"hello"'), 'hello');
  assert.equal(stream.body.includes('access_token'), false, 'an access token reached the app server');
  stream.abort();
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
