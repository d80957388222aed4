// Users in groups: connections they have and connections to come, on every shard, for as long as was said.

import { after, afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters, protocols } from '../support/rig.mjs';
import { Management } from '../support/management.mjs';
import { fence } from '../support/client.mjs';
import { eventually } from '../support/wait.mjs';

const rig = await Rig.start({ shards: Math.max(parameters.shards, 3) });
const management = new Management(rig.app);
after(() => rig.stop());
afterEach(() => rig.stopClients());

// Enough that every shard has some.
const many = 12;
const clientsOf = (user, protocol = 'json') => rig.clients(many, { user, protocol });

const ids = (clients) => clients.map((client) => client.id);

// Which of these clients a message to the group reaches: one that has not come before the fence never will.
async function hearers(group, clients) {
  const sender = await rig.client();
  const text = `to ${group} from ${sender.id}`;
  await sender.invoke('ToGroup', group, text);
  await fence(sender, clients);
  return ids(clients.filter((client) => client.texts('group').includes(text)));
}

for (const protocol of protocols) {
  test(`${protocol}: a user joins with present and later connections and leaves with all`, async () => {
    const user = `ann ${protocol}`;
    const group = `group of ${user}`;
    const present = await clientsOf(user, protocol);
    const other = await rig.client({ user: 'bob', protocol });
    assert.equal(await management.isUserInGroup(user, group), false);
    assert.equal(await management.userJoins(user, group), true);
    assert.equal(await management.isUserInGroup(user, group), true);
    const later = await clientsOf(user, protocol);
    const all = [...present, ...later, other];
    assert.deepEqual(await hearers(group, all), ids([...present, ...later]));
    assert.equal(await management.userLeaves(user, group), true);
    assert.equal(await management.isUserInGroup(user, group), false);
    assert.equal(await management.exists('group', group), false, 'nobody is left');
    const afterwards = await rig.client({ user, protocol });
    assert.deepEqual(await hearers(group, [...all, afterwards]), []);
  });
}

test('a user that is not connected joins, and has joined when it comes', async () => {
  assert.equal(await management.userJoins('eve', 'night'), true);
  assert.equal(await management.exists('group', 'night'), false, 'nobody is there yet');
  const clients = await clientsOf('eve');
  assert.deepEqual(await hearers('night', clients), ids(clients));
});

test('with a time to live later connections join for that long only', async () => {
  const present = await rig.client({ user: 'tim' });
  assert.equal(await management.userJoins('tim', 'short', { ttl: 2 }), true);
  const inTime = await rig.client({ user: 'tim' });
  await eventually('the membership to end', async () => !(await management.isUserInGroup('tim', 'short')));
  const tooLate = await rig.client({ user: 'tim' });
  assert.deepEqual(await hearers('short', [present, inTime, tooLate]), ids([present, inTime]));
});

test('with none to live only present connections join', async () => {
  const present = await rig.client({ user: 'zoe' });
  assert.equal(await management.userJoins('zoe', 'now', { ttl: 0 }), true);
  assert.equal(await management.isUserInGroup('zoe', 'now'), false);
  const later = await rig.client({ user: 'zoe' });
  assert.deepEqual(await hearers('now', [present, later]), ids([present]));
});

test('a user leaves all groups, those joined by connection too', async () => {
  const clients = await clientsOf('max');
  for (const client of clients) await client.invoke('Join', 'by connection');
  await management.userJoins('max', 'by user');
  assert.equal(await management.userLeaves('max'), true);
  for (const group of ['by user', 'by connection']) assert.equal(await management.exists('group', group), false, group);
  const later = await rig.client({ user: 'max' });
  assert.deepEqual(await hearers('by user', [...clients, later]), []);
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
