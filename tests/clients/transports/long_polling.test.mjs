// Long polling, poll by poll: what each answers and when, which of two wins, how it ends.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, hasService, unlessService } from '../support/rig.mjs';
import { HttpConnection, call } from '../support/http.mjs';
import { handshakes } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Echo('glued') in MessagePack.
const glued = Buffer.from('12960180a137a44563686f91a5676c75656490', 'hex');

// A client that the hub has greeted.
async function greeted(options) {
  return (await HttpConnection.polling(rig, options)).greeted();
}

function assertPoll(answer, status, type) {
  assert.equal(answer.status, status);
  assert.equal(answer.type, type);
  assert.equal(answer.headers['cache-control'], 'no-cache, no-store');
  assert.equal(answer.headers.pragma, 'no-cache');
  assert.equal(answer.headers.expires, 'Thu, 01 Jan 1970 00:00:00 GMT');
  if (status === 200) assert.equal(answer.headers['content-length'], `${answer.body.length}`);
}

// By a newer poll. Where the two meet within a moment, plain ASP.NET Core SignalR may call it a conflict.
function assertOutdone(answer) {
  assertPoll(answer, !hasService && answer.status === 409 ? 409 : 204, 'text/plain');
}

async function assertUnknown(connection) {
  await eventually('the id is unknown', async () => (await connection.delete().answer()).status === 404);
  for (const request of [connection.poll(), connection.post('{"type":6}\x1e')]) assert.equal((await request.answer()).status, 404);
}

async function assertGone(connection) {
  await rig.app.event('disconnected', connection.id);
  await assertUnknown(connection);
}

test('the first poll is answered at once, empty', async () => {
  const connection = await HttpConnection.negotiated(rig);
  const answer = await connection.poll().answer();
  assertPoll(answer, 200, 'application/octet-stream');
  assert.equal(answer.body.length, 0);
});

test('what is posted before a poll waits for it', async () => {
  const connection = await HttpConnection.polling(rig);
  await connection.say(`${handshakes.json}${call('Echo', 'early')}`);
  const text = await connection.pollUntil((body) => body.includes('"early"'), 'the echo');
  assert.ok(text.startsWith('{}\x1e'), 'nothing comes before the handshake response');
});

test('a client may send before it polls for the first time', async () => {
  const connection = await HttpConnection.negotiated(rig);
  await connection.say(`${handshakes.json}${call('Echo', 'earlier')}`);
  const text = await connection.pollUntil((body) => body.includes('"earlier"'), 'the echo');
  assert.ok(text.startsWith('{}\x1e'), 'nothing comes before the handshake response');
  assert.equal((await connection.events().answer()).status, 400, 'it is on long polling now');
});

test('an open poll ends with the next message', async () => {
  const connection = await greeted();
  const poll = await connection.openPoll();
  await connection.say(call('Echo', 'wake up'));
  const answer = await poll.answer();
  assertPoll(answer, 200, 'application/octet-stream');
  assert.match(answer.body.toString(), /wake up[^]*\x1e$/);
});

test('one poll takes all that waits, in order and as whole messages', async () => {
  const connection = await greeted();
  const other = await rig.client();
  const texts = Array.from({ length: 100 }, (_, index) => `${index}`);
  for (const text of texts) await other.invoke('ToConn', connection.id, text);
  const { body } = await connection.poll().answer();
  const messages = body.toString().split('\x1e').slice(0, -1).map((text) => JSON.parse(text));
  assert.ok(messages.length > 1, 'every message took a poll of its own');
  assert.ok(body.toString().endsWith('\x1e'));
  let rest = '';
  if (messages.length < texts.length) rest = await connection.pollUntil((text) => text.includes('"99"'), 'the last message');
  const all = `${body}${rest}`.split('\x1e').slice(0, -1).map((text) => JSON.parse(text));
  assert.deepEqual(all.map((message) => message.arguments[1]), texts);
});

test('a message of 500,000 characters comes whole', async () => {
  const connection = await greeted();
  const text = Array.from({ length: 50_000 }, (_, index) => String(index).padStart(10, '.')).join('');
  await connection.say(call('Echo', text));
  const { body } = await connection.poll().answer();
  assert.equal(JSON.parse(body.toString().slice(0, -1)).result, text);
});

test('MessagePack comes as the bytes it is', async () => {
  const connection = await HttpConnection.polling(rig);
  await connection.say(Buffer.concat([Buffer.from(handshakes.messagepack), glued]));
  const parts = [];
  const bytes = () => Buffer.concat(parts);
  // Its completion is [3, {}, "7", 3, "glued"].
  const completion = Buffer.from('950380a13703a5676c756564', 'hex');
  while (!bytes().includes(completion)) parts.push((await connection.poll().answer()).body);
  assert.equal(bytes().subarray(0, 3).toString(), '{}\x1e');
});

test('hub messages may be posted in pieces, and several at once', async () => {
  const connection = await HttpConnection.polling(rig);
  const [first, second] = [call('Echo', 'one'), call('Caller', 'two')];
  for (const piece of [handshakes.json.slice(0, 7), `${handshakes.json.slice(7)}${first.slice(0, 20)}`, first.slice(20), '', `{"type":6}\x1e${second}${second}`]) {
    await connection.say(piece);
  }
  await connection.pollUntil((text) => text.includes('"one"') && text.split('"two"').length > 2, 'three answers');
});

test('of two polls the newer one gets what comes, the older one ends with 204', async () => {
  const connection = await greeted();
  let poll = await connection.openPoll();
  for (let round = 0; round < 5; round += 1) {
    const newer = connection.poll();
    assertOutdone(await poll.answer());
    poll = newer;
  }
  await connection.say(call('Echo', 'for the newest'));
  assert.match((await poll.answer()).body.toString(), /for the newest/);
});

test('a poll that was given up does not stand in the way of the next one', async () => {
  const connection = await greeted();
  for (let round = 0; round < 10; round += 1) {
    (await connection.openPoll()).abort();
    const poll = await connection.openPoll();
    await connection.say(call('Echo', `round ${round}`));
    assert.match((await poll.answer()).body.toString(), new RegExp(`round ${round}`));
  }
});

test('DELETE is 202, an open poll ends with 204, and the connection is gone', async () => {
  const connection = await HttpConnection.polling(rig);
  const poll = await connection.openPoll();
  const answer = await connection.delete().answer();
  assert.equal(answer.status, 202);
  assert.equal(answer.type, 'text/plain');
  assert.equal(answer.body.length, 0);
  assertPoll(await poll.answer(), 204, 'text/plain');
  await assertUnknown(connection);
});

test('DELETE by a client that the hub knows: its open poll ends, with the goodbye of the hub or without', async () => {
  const connection = await greeted();
  const poll = await connection.openPoll();
  assert.equal((await connection.delete().answer()).status, 202);
  const { status, body } = await poll.answer();
  assert.equal(status, body.length === 0 ? 204 : 200);
  assert.match(body.toString(), /^(\{"type":7.*\}\x1e)?$/);
  await assertGone(connection);
});

test('DELETE is 202 while no poll is open, too', async () => {
  const connection = await greeted();
  assert.equal((await connection.delete().answer()).status, 202);
  await assertGone(connection);
});

test('a connection that its hub ends says so, then 204, then it is gone', async () => {
  const connection = await greeted();
  await connection.say(call('AbortMe'));
  await connection.pollUntil((text) => text.endsWith('{"type":7}\x1e'), 'the goodbye');
  assertPoll(await connection.poll().answer(), 204, 'text/plain');
  await assertGone(connection);
});

test('a client that says goodbye is gone', async () => {
  const connection = await greeted();
  const poll = await connection.openPoll();
  await connection.say('{"type":7}\x1e');
  await poll.answer();
  await rig.app.event('disconnected', connection.id);
});

test('a POST of more than 1 MB is 413 and ends the connection', { skip: unlessService }, async () => {
  const connection = await greeted();
  assert.equal((await connection.post(call('Echo', 'x'.repeat(1_100_000))).answer()).status, 413);
  await rig.app.event('disconnected', connection.id);
});

test('who does not poll for as long as the token says is gone', { skip: unlessService }, async () => {
  const connection = await greeted({ claims: { 'asrs.s.ttl': '3' } });
  // An open poll is no silence, however long it is.
  const poll = await connection.openPoll();
  await new Promise((resume) => setTimeout(resume, 4_500));
  await connection.say(call('Echo', 'still here'));
  assert.match((await poll.answer()).body.toString(), /still here/);
  const started = Date.now();
  await rig.app.event('disconnected', connection.id);
  assert.ok(Date.now() - started < 10_000, 'a limit of 3 s took longer than 10 s');
  await assertUnknown(connection);
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
