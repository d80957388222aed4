// An app server shuts down and gives its clients to another one: no client is cut off, no answer is lost, order is kept.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { migrate, skip } from '../support/migrate.mjs';
import { eventually } from '../support/wait.mjs';

// Calls one after the other until told to stop; each call also makes the hub send something, whose order is looked at in the end.
function talk(client) {
  const talk = { calls: 0, stopped: false };
  talk.ended = (async () => {
    while (!talk.stopped) {
      const text = `${talk.calls}`;
      await client.invoke('Caller', text);
      assert.equal(await client.invoke('Echo', text), text);
      talk.calls += 1;
    }
  })();
  return talk;
}

// Several calls at a time, so that there is never none.
function talkAtOnce(client) {
  const talk = { calls: 0, stopped: false };
  const caller = async (delay) => {
    await new Promise((resume) => setTimeout(resume, delay));
    while (!talk.stopped) {
      await client.invoke('Slow', 400);
      talk.calls += 1;
    }
  };
  talk.ended = Promise.all([0, 100, 200, 300].map(caller));
  return talk;
}

// What is open when the app server is told to go is answered by it.
async function ask(client) {
  const talk = { calls: 1 };
  talk.ended = client.invoke('Slow', 3000).then(() => { talk.calls += 1_000; });
  return talk;
}

test('calls before, during and after a migration are all answered, in order', { skip }, () => migrate({
  count: 12,
  begin: (client, index) => [talk, talk, talkAtOnce, ask][index % 4](client),
  after: async ({ clients, begun, seconds }) => {
    assert.ok(seconds < 20, `it took ${seconds} s`);
    const calls = begun.map((each) => each.calls);
    await eventually('all go on at the other app server', () => begun.every((each, index) => each.calls > calls[index] || each.calls > 1_000));
    for (const each of begun) each.stopped = true;
    await Promise.all(begun.map((each) => each.ended));
    for (const [index, client] of clients.entries()) {
      if (index % 4 > 1) continue;
      const expected = Array.from({ length: begun[index].calls }, (_, call) => `${call}`);
      assert.deepEqual(client.texts('caller'), expected, 'in order, none twice, none lost');
    }
  },
}));
