// A client that does not read its event stream, or does not poll, is closed once too much waits for it. Nobody else waits for it, and
// nobody else loses anything.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, kinds, unlessService } from '../support/rig.mjs';
import { HttpConnection } from '../support/http.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Far more than the kernel buffers of one connection hold.
const count = 100;
const size = 100_000;

test('who does not take what it is sent is closed, the others get everything in order', { skip: unlessService }, async () => {
  const streaming = await (await HttpConnection.streaming(rig)).greeted();
  await streaming.stream.pause();
  const polling = await (await HttpConnection.polling(rig)).greeted();

  const [sender, ...readers] = [await rig.client(kinds[0]), ...await rig.clients(kinds.length, (index) => kinds[index])];
  const text = (index) => `${index} `.padEnd(size, 'x');
  for (let index = 0; index < count; index += 1) {
    await sender.invoke('Broadcast', text(index));
    // No faster than the readers read, who would be slow themselves otherwise.
    for (const reader of readers) await reader.inbox.until((items) => items.length > index, `message ${index}`);
  }
  for (const reader of readers) {
    assert.ok(reader.texts('all').every((each, index) => each === text(index)), 'messages are missing or out of order');
    assert.deepEqual(reader.changes.items, []);
  }

  for (const slow of [streaming, polling]) await rig.app.event('disconnected', slow.id);
  await streaming.stream.resume();
  await streaming.stream.gone();
  assert.ok(streaming.stream.body.length < count * size, 'the slow reader got everything: nothing limits what waits for it');
  for (const slow of [streaming, polling]) assert.equal((await slow.post('{"type":6}\x1e').answer()).status, 404);
});

// The original lets the sender wait instead, for as long as nobody polls.
test('who is slow but reads gets everything', { skip: unlessService }, async () => {
  const connection = await (await HttpConnection.polling(rig)).greeted();
  const sender = await rig.client();
  for (let index = 0; index < 30; index += 1) {
    // Less than what may wait for a client.
    for (let part = 0; part < 5; part += 1) await sender.invoke('ToConn', connection.id, `${index}.${part} `.padEnd(size, 'x'));
    const text = await connection.pollUntil((body) => body.includes(`${index}.4 `), 'the last of five messages');
    assert.deepEqual([...text.matchAll(/"(\d+\.\d) /g)].map(([, name]) => name), Array.from({ length: 5 }, (_, part) => `${index}.${part}`));
  }
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
