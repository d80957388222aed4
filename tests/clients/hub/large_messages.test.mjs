// Messages far larger than a buffer, a frame or a segment.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols } from '../support/rig.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Not periodic in any power of two, so that a piece put in the wrong place shows.
const text = (length) => Array.from({ length: Math.ceil(length / 7) }, (_, index) => String(index % 9_999_999).padStart(7, '.')).join('').slice(0, length);

for (const protocol of protocols) {
  test(`${protocol}: an echo of each size comes back whole`, async () => {
    const client = await rig.client({ protocol });
    for (const length of [124, 125, 126, 127, 128, 4095, 4096, 4097, 16_383, 65_535, 65_536, 70_000, 200_000, 600_000]) {
      const sent = text(length);
      assert.ok(await client.invoke('Echo', sent) === sent, `the echo of ${length} characters differs`);
    }
  });

  test(`${protocol}: eight clients echo 200 KB at the same time, small calls in between`, async () => {
    const clients = await rig.clients(8, { protocol });
    const sent = text(200_000);
    await Promise.all(clients.map(async (client, index) => {
      const large = [client.invoke('Echo', sent), client.invoke('Echo', sent)];
      assert.equal(await client.invoke('Echo', `small ${index}`), `small ${index}`);
      for (const echo of await Promise.all(large)) assert.ok(echo === sent, 'a large echo differs');
    }));
  });

  test(`${protocol}: a 200 KB broadcast reaches everybody whole`, async () => {
    const clients = await rig.clients(4, { protocol });
    const sent = `${protocol} ${text(200_000)}`;
    await clients[0].invoke('Broadcast', sent);
    await Promise.all(clients.map((client) => client.receives('all', sent)));
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
