// Who is in a group: the SDK asks page after page, and every member is there once, whatever its shard.

import { after, afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters } from '../support/rig.mjs';
import { Management } from '../support/management.mjs';

const rig = await Rig.start({ shards: Math.max(parameters.shards, 3) });
const management = new Management(rig.app);
after(() => rig.stop());
afterEach(() => rig.stopClients());

const count = 25;

async function group(name) {
  const clients = await rig.clients(count, (index) => ({ user: index % 2 === 0 ? `user ${index}` : undefined }));
  const outsider = await rig.client();
  await outsider.invoke('Join', `not ${name}`);
  for (const client of clients) await client.invoke('Join', name);
  const members = clients.map((client, index) => `${client.id} ${index % 2 === 0 ? `user ${index}` : null}`);
  return members.sort();
}

const named = (pages) => pages.flat().map(({ connectionId, userId }) => `${connectionId} ${userId}`).sort();
const sizes = (pages) => pages.map((page) => page.length);

test('every member is named once with its user, however large the pages are', async () => {
  const members = await group('crowd');
  for (const [page, expected] of [[undefined, [25]], [25, [25]], [10, [10, 10, 5]], [24, [24, 1]]]) {
    const pages = await management.members('crowd', { page });
    assert.deepEqual(sizes(pages), expected);
    assert.deepEqual(named(pages), members);
  }
  assert.equal((await management.members('crowd', { page: 1 })).length, count);
});

test('no more are named than asked for', async () => {
  await group('some');
  for (const [top, page, expected] of [[7, undefined, [7]], [7, 3, [3, 3, 1]], [6, 3, [3, 3]], [30, 20, [20, 5]]]) {
    assert.deepEqual(sizes(await management.members('some', { top, page })), expected);
  }
});

test('a group without members has none', async () => {
  assert.deepEqual(named(await management.members('nobody')), []);
});
