// Messages of one sender arrive in the order sent, at every receiver, whatever shard it lives on.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters, protocols } from '../support/rig.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Every message costs a client on long polling a request of its own.
const count = parameters.transport === 'longpolling' ? 100 : 300;

for (const protocol of protocols) {
  const expected = Array.from({ length: count }, (_, index) => `${protocol} ${index}`);
  const seen = (client, kind) => client.texts(kind).filter((text) => text.startsWith(protocol));
  const all = (client, kind) => client.inbox.until(() => seen(client, kind).length >= count, `${count} messages`);

  test(`${protocol}: ${count} broadcasts arrive in order at 8 clients`, async () => {
    const clients = await rig.clients(8, { protocol });
    for (const text of expected) await clients[0].invoke('Broadcast', text);
    for (const client of clients) {
      await all(client, 'all');
      assert.deepEqual(seen(client, 'all'), expected);
    }
  });

  test(`${protocol}: broadcasts and group sends of one caller don't overtake each other`, async () => {
    const [caller, member] = await rig.clients(2, { protocol });
    await member.invoke('Join', `order ${protocol}`);
    for (let index = 0; index < 50; index += 1) {
      await caller.invoke('Broadcast', `mixed ${protocol} ${2 * index}`);
      await caller.invoke('ToGroup', `order ${protocol}`, `mixed ${protocol} ${2 * index + 1}`);
    }
    const mixed = () => member.inbox.items.map((item) => item.text).filter((text) => text.startsWith(`mixed ${protocol}`));
    await member.inbox.until(() => mixed().length === 100, '100 messages');
    assert.deepEqual(mixed(), Array.from({ length: 100 }, (_, index) => `mixed ${protocol} ${index}`));
  });

  test(`${protocol}: a joined group is visible to the very next send of another client`, async () => {
    const [first, second] = await rig.clients(2, { protocol });
    for (let round = 0; round < 20; round += 1) {
      const group = `round ${protocol} ${round}`;
      await first.invoke('Join', group);
      await second.invoke('ToGroup', group, group);
      await first.receives('group', group);
    }
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
