// Is there such a connection, user or group? Whichever shard is asked, the answer is that of the whole hub.

import { after, afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters } from '../support/rig.mjs';
import { Management } from '../support/management.mjs';

const rig = await Rig.start({ shards: Math.max(parameters.shards, 3) });
const management = new Management(rig.app);
after(() => rig.stop());
afterEach(() => rig.stopClients());

// The SDK chooses the server connection by what is named, so different names are asked for on different shards.
test('each of many connections, users and groups is there, and gone when it leaves', async () => {
  const clients = await rig.clients(12, (index) => ({ user: `user ${index}` }));
  for (const [index, client] of clients.entries()) await client.invoke('Join', `group ${index}`);
  const things = clients.flatMap(({ id }, index) => [['conn', id], ['user', `user ${index}`], ['group', `group ${index}`]]);
  for (const [what, id] of things) assert.equal(await management.exists(what, id), true, `${what} ${id}`);
  await rig.stopClients();
  const watcher = await rig.client();
  await watcher.invoke('Echo', 'the service has heard of it');
  for (const [what, id] of things) assert.equal(await management.exists(what, id), false, `${what} ${id}`);
});

test('what never was is not there', async () => {
  const client = await rig.client({ user: 'Ann' });
  await client.invoke('Join', 'Group');
  for (const [what, id] of [['conn', 'nosuch'], ['conn', `${client.id.slice(0, -1)}!`], ['user', 'ann'], ['group', 'group']]) {
    assert.equal(await management.exists(what, id), false, `${what} ${id}`);
  }
});

test('two hubs know nothing of each other', async () => {
  const client = await rig.client({ hub: 'second', user: 'sue' });
  assert.equal(await management.exists('conn', client.id), false);
  assert.equal(await management.exists('user', 'sue'), false);
  assert.equal(await rig.app.call(`/hub2/mgmt/exists/conn/${client.id}`), 'true');
  assert.equal(await rig.app.call('/hub2/mgmt/exists/user/sue'), 'true');
});
