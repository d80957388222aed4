// The service stops in order: clients are told that they may come back, app servers are closed, the process ends well.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, Service, kinds, protocols } from '../support/rig.mjs';
import { RawClient, closeAllowingReconnect } from '../support/raw.mjs';

const rig = await Rig.start();
after(() => rig.stop());

test('SIGTERM: every client gets Close with allowReconnect, then 1000; the exit code is 0', async () => {
  const clients = await Promise.all(protocols.map((protocol, index) => RawClient.connected(rig.app, protocol, `?user=u${index}`)));
  const ended = rig.service.process.stop();
  for (const [index, client] of clients.entries()) {
    assert.equal((await client.end()).code, 1000);
    assert.deepEqual(client.messages.items.at(-1), closeAllowingReconnect[protocols[index]]);
  }
  assert.deepEqual(await ended, { code: 0, signal: null });
});

test('SIGTERM and a new start: clients and app server find back by themselves', async () => {
  rig.service = await Service.start({ ports: rig.service.ports });
  await rig.app.healthy();
  const clients = await rig.clients(kinds.length, (index) => ({ ...kinds[index], reconnect: true }));
  await rig.service.process.stop();
  rig.service = await Service.start({ ports: rig.service.ports });
  await Promise.all(clients.map((client) => client.reconnected()));
  for (const client of clients) assert.equal(await client.invoke('Echo', 'back'), 'back');
});
