// Closing from outside: exactly those that are meant, with the reason, and their app server is told.

import { after, afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters, protocols } from '../support/rig.mjs';
import { Management } from '../support/management.mjs';
import { eventually } from '../support/wait.mjs';

const rig = await Rig.start({ shards: Math.max(parameters.shards, 3) });
const management = new Management(rig.app);
after(() => rig.stop());
afterEach(() => rig.stopClients());

// Twelve clients of two users by turns; every third is in group `g`.
async function crowd(protocol) {
  const clients = await rig.clients(12, (index) => ({ protocol, user: ['ann', 'bob'][index % 2] }));
  for (const client of clients.filter((_, index) => index % 3 === 0)) await client.invoke('Join', 'g');
  return clients;
}

async function assertClosed(clients, closed, reason) {
  for (const client of closed) {
    await client.has('closed');
    const [{ error }] = client.changes.items;
    assert.equal(error, reason && `Server returned an error on close: ${reason}`);
  }
  const left = clients.filter((client) => !closed.includes(client));
  for (const client of left) assert.equal(await client.invoke('Echo', 'alive'), 'alive');
  await eventually('the app server to know', async () => {
    const connected = await rig.app.connected();
    return left.every(({ id }) => connected.includes(id)) && !closed.some(({ id }) => connected.includes(id));
  });
}

for (const protocol of protocols) {
  test(`${protocol}: one connection, with a reason`, async () => {
    const clients = await crowd(protocol);
    assert.equal(await management.close('conn', clients[5].id, { reason: 'bye & gone' }), true);
    assert.equal(await management.exists('conn', clients[5].id), false);
    await assertClosed(clients, [clients[5]], 'bye & gone');
    assert.equal(await management.close('conn', clients[5].id), false);
    assert.equal(await management.close('conn', 'nosuch'), false);
  });

  test(`${protocol}: all connections of a user but one`, async () => {
    const clients = await crowd(protocol);
    const spared = clients[2];
    assert.equal(await management.close('user', 'ann', { reason: 'not you', except: [spared.id] }), true);
    await assertClosed(clients, clients.filter((client, index) => index % 2 === 0 && client !== spared), 'not you');
    assert.equal(await management.close('user', 'nobody'), true);
  });

  test(`${protocol}: all members of a group`, async () => {
    const clients = await crowd(protocol);
    assert.equal(await management.close('group', 'g', { reason: 'over' }), true);
    assert.equal(await management.exists('group', 'g'), false);
    await assertClosed(clients, clients.filter((_, index) => index % 3 === 0), 'over');
  });

  test(`${protocol}: everybody but two, without a reason`, async () => {
    const clients = await crowd(protocol);
    const foreign = await rig.client({ protocol, hub: 'second' });
    const spared = [clients[1], clients[8]];
    assert.equal(await management.close('all', undefined, { except: spared.map((client) => client.id) }), true);
    await assertClosed(clients, clients.filter((client) => !spared.includes(client)));
    assert.equal(await foreign.invoke('Echo', 'alive'), 'alive');
  });
}

test('a client that is closed so may come back', async () => {
  const client = await rig.client({ reconnect: true });
  assert.equal(await management.close('conn', client.id, { reason: 'again' }), true);
  await client.reconnected();
  assert.equal(await client.invoke('Echo', 'back'), 'back');
});

test('a close for a client of another app server reaches it with its reason', async () => {
  const second = await rig.secondApp({ connections: 1 });
  // New clients go to the server connection with the fewest, by turns to either app server.
  const clients = await rig.clients(12, {});
  const ofSecond = new Set(await second.connected());
  const strange = clients.find((client) => ofSecond.has(client.id));
  assert.ok(strange, 'the second app server has clients');
  assert.equal(await rig.app.call(`/close/${strange.id}?how=message&reason=enough`), 'asked the service');
  await strange.has('closed');
  assert.match(strange.changes.items[0].error, /enough/);
  await eventually('its app server to know', async () => !(await second.connected()).includes(strange.id));
});
