// Whoever ends a connection, the client on it is told first, as on a WebSocket: whether it may come back, then the end.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Rig, unlessService } from '../support/rig.mjs';
import { HttpConnection } from '../support/http.mjs';
import { closeAllowingReconnect } from '../support/raw.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Each with `farewell`: all that came after it was greeted.
async function greeted() {
  const streaming = await (await HttpConnection.streaming(rig)).greeted();
  const before = streaming.stream.body.toString();
  const polling = [];
  for (const protocol of ['json', 'messagepack']) {
    const connection = await (await HttpConnection.polling(rig)).greeted(protocol);
    const poll = await connection.openPoll();
    polling.push({ connection, protocol, farewell: async () => (await poll.answer()).body });
  }
  return { streaming: { connection: streaming, farewell: async () => (await streaming.stream.answer()).body.toString().slice(before.length) }, polling };
}

async function assertMayComeBack({ streaming, polling }) {
  assert.equal(await streaming.farewell(), `data: ${closeAllowingReconnect.json}\r\n\r\n`);
  for (const { protocol, farewell } of polling) assert.deepEqual(await farewell(), closeAllowingReconnect[protocol]);
}

test('the app server is killed', { skip: unlessService }, async () => {
  const clients = await greeted();
  await rig.app.process.kill();
  await assertMayComeBack(clients);
  for (const { connection } of clients.polling) {
    assert.equal((await connection.poll().answer()).status, 204);
    assert.equal((await connection.poll().answer()).status, 404);
  }
  assert.equal((await clients.streaming.connection.events().answer()).status, 404);
  rig.app = await App.start(rig.service, { ports: rig.app.ports });
});

test('the app server stops in order', { skip: unlessService }, async () => {
  const clients = await greeted();
  await rig.app.process.stop();
  await assertMayComeBack(clients);
  rig.app = await App.start(rig.service, { ports: rig.app.ports });
});

test('the service stops in order', { skip: unlessService }, async () => {
  const clients = await greeted();
  const ended = rig.service.process.stop();
  await assertMayComeBack(clients);
  assert.deepEqual(await ended, { code: 0, signal: null });
});
