// Streams in both directions.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Subject } from '@microsoft/signalr';
import { Rig, parameters, protocols } from '../support/rig.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Items of a stream that is given up after five. Node's event source reads slower than a hub streams, and so does a client that polls: all
// of these fit into what may wait for it.
const plenty = parameters.transport === 'websockets' ? 1_000_000 : 2_000;

for (const protocol of protocols) {
  test(`${protocol}: Count streams every number in order`, async () => {
    const client = await rig.client({ protocol });
    for (const count of [0, 1, 500]) {
      assert.deepEqual(await client.collect('Count', count), Array.from({ length: count }, (_, index) => index));
    }
  });

  test(`${protocol}: streams of one client run beside each other`, async () => {
    const client = await rig.client({ protocol });
    const [first, second, echo] = await Promise.all([client.collect('Count', 200), client.collect('Count', 100), client.invoke('Echo', 'between')]);
    assert.equal(first.length, 200);
    assert.equal(second.length, 100);
    assert.equal(echo, 'between');
  });

  test(`${protocol}: a stream that the client gives up ends, the connection goes on`, async () => {
    const client = await rig.client({ protocol });
    await new Promise((resolve, reject) => {
      const subscription = client.connection.stream('Count', plenty).subscribe({
        next: (item) => {
          if (item === 5) {
            subscription.dispose();
            resolve();
          }
        },
        error: reject,
        complete: () => reject(new Error('the stream ended by itself')),
      });
    });
    assert.equal(await client.invoke('Echo', 'after'), 'after');
  });

  test(`${protocol}: Sum adds up what the client streams`, async () => {
    const client = await rig.client({ protocol });
    const numbers = new Subject();
    const sum = client.invoke('Sum', numbers);
    for (let number = 1; number <= 200; number += 1) numbers.next(number);
    numbers.complete();
    assert.equal(await sum, 20_100);
  });

  test(`${protocol}: an empty stream sums to nothing`, async () => {
    const client = await rig.client({ protocol });
    const numbers = new Subject();
    const sum = client.invoke('Sum', numbers);
    numbers.complete();
    assert.equal(await sum, 0);
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
