// However many shards there are: each carries its part, fan-out reaches all of them, and no relay leaves its own.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols } from '../support/rig.mjs';

for (const shards of [1, 2, 4]) {
  test(`${shards} shard(s): 40 clients, echoes, broadcasts in order, groups`, async () => {
    const rig = await Rig.start({ shards, connections: 5 });
    try {
      const clients = await rig.clients(40, (index) => ({ protocol: protocols[index % 2] }));
      await Promise.all(clients.map(async (client, index) => {
        for (let round = 0; round < 10; round += 1) assert.equal(await client.invoke('Echo', `${index}.${round}`), `${index}.${round}`);
      }));
      await Promise.all(clients.filter((_, index) => index % 3 === 0).map((client) => client.invoke('Join', 'thirds')));

      const texts = Array.from({ length: 50 }, (_, index) => `broadcast ${index}`);
      for (const text of texts) await clients[0].invoke('Broadcast', text);
      await clients[0].invoke('ToGroup', 'thirds', 'to a third');
      await clients[0].invoke('Broadcast', 'the end');
      for (const [index, client] of clients.entries()) {
        await client.receives('all', 'the end');
        assert.deepEqual(client.texts('all'), [...texts, 'the end']);
        assert.deepEqual(client.texts('group'), index % 3 === 0 ? ['to a third'] : []);
      }

      const relayed = (await rig.service.samples()).filter((sample) => sample.name === 'hubring_relayed_messages_total' && sample.value > 0);
      assert.deepEqual(relayed.map((sample) => Number(sample.labels.shard)).sort(), Array.from({ length: shards }, (_, index) => index), 'every shard relays');
      await rig.assertNoRelayCrossed();
    } finally {
      await rig.stop();
    }
  });
}
