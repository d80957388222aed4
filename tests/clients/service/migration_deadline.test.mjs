// A client that cannot be moved without a loss is moved at a deadline all the same, and is told what it has lost.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { migrate, skip } from '../support/migrate.mjs';
import { eventually } from '../support/wait.mjs';

test('a stream that never ends is ended with an error at the deadline', { skip }, () => migrate({
  count: 2,
  begin: async (client) => {
    const stream = { items: 0 };
    stream.ended = new Promise((resolve) => {
      client.connection.stream('Ticks', 50).subscribe({ next: () => { stream.items += 1; }, error: resolve, complete: resolve });
    });
    await eventually('items come', () => stream.items > 2);
    return stream;
  },
  after: async ({ begun, seconds }) => {
    assert.ok(seconds > 18 && seconds < 27, `it took ${seconds} s`);
    for (const stream of begun) assert.match((await stream.ended).message, /app server left before it answered/);
  },
}));
