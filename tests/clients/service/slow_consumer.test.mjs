// A client that does not read is closed. Nobody else waits for it, and nobody else loses anything.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols } from '../support/rig.mjs';
import { RawClient } from '../support/raw.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Far more than the kernel buffers of one connection hold.
const count = 600;
const size = 100_000;

for (const protocol of protocols) {
  test(`${protocol}: a client that stops reading is closed, the others get everything in order`, async () => {
    const slow = await RawClient.viaApp(rig.app);
    await slow.handshake(protocol);
    slow.socket.pause();

    const [sender, reader] = await rig.clients(2, { protocol });
    const text = (index) => `${protocol} ${index} `.padEnd(size, 'x');
    for (let index = 0; index < count; index += 1) await sender.invoke('Broadcast', text(index));
    for (const client of [sender, reader]) {
      const mine = () => client.texts('all').filter((each) => each.startsWith(protocol));
      await client.inbox.until(() => mine().length === count, `${count} messages`);
      assert.ok(mine().every((each, index) => each === text(index)), 'messages are missing or out of order');
      assert.deepEqual(client.changes.items, []);
    }

    slow.socket.resume();
    await slow.end();
    const received = slow.messages.items.reduce((bytes, item) => bytes + item.length, 0);
    assert.ok(received < count * size, `the slow client got all ${received} bytes: nothing limits what waits for it`);
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
