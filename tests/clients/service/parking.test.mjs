// With --park-on-drop the clients of an app server that is killed go on at another one, or at the same when it is back in time.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Rig, isSdk, protocols } from '../support/rig.mjs';
import { eventually } from '../support/wait.mjs';

const skip = isSdk ? false : 'needs an app server that lets its clients move';
const app = { connections: 4, environment: { GRACEFUL: 'migrate' } };

async function withRig(seconds, body) {
  const rig = await Rig.start({ ...app, args: ['--park-on-drop', `${seconds}`] });
  try {
    await body(rig);
  } finally {
    await rig.stop();
  }
}

// Calls one after the other; those that were open when the app server was lost fail, and only those.
function talk(client) {
  const talk = { answered: 0, failed: [], stopped: false };
  talk.ended = (async () => {
    while (!talk.stopped) {
      const text = `${talk.answered}`;
      try {
        assert.equal(await client.invoke('Echo', text), text);
        talk.answered += 1;
      } catch (error) {
        talk.failed.push(error.message);
      }
    }
  })();
  return talk;
}

async function stop(talks) {
  const answered = talks.map((each) => each.answered);
  await eventually('each has got answers since', () => talks.every((each, index) => each.answered > answered[index] + 5));
  for (const each of talks) each.stopped = true;
  await Promise.all(talks.map((each) => each.ended));
  for (const { failed } of talks) {
    assert.ok(failed.length <= 1, `only one call was open: ${failed}`);
    for (const message of failed) assert.match(message, /app server left before it answered/);
  }
}

const eight = (rig) => rig.clients(8, (index) => ({ protocol: protocols[index % 2], user: `user${index}` }));
const ids = (clients) => clients.map((client) => client.id).sort();

test('the app server is killed: its clients go on at another one', { skip }, () => withRig(10, async (rig) => {
  const clients = await eight(rig);
  const before = ids(clients);
  for (const client of clients) await client.invoke('Join', 'room');
  const other = await rig.secondApp(app);
  const talks = clients.map(talk);
  await eventually('all talk', () => talks.every((each) => each.answered > 3));
  await rig.app.process.kill();
  await stop(talks);
  for (const client of clients) assert.deepEqual(client.changes.items, [], 'a client was cut off');
  assert.deepEqual((await other.connected()).sort(), before);
  assert.deepEqual(ids(clients), before);
  await other.call('/group/room/still');
  await Promise.all(clients.map((client) => client.receives('togroup', 'still')));
  assert.equal(await rig.service.metric('hubring_clients_parked_total'), 8);
  assert.equal(await rig.service.metric('hubring_clients_reopened_total'), 8);
  await rig.assertNoRelayCrossed();
}));

test('the only app server is killed and comes back: what was said meanwhile is answered', { skip }, () => withRig(25, async (rig) => {
  const clients = await eight(rig);
  const before = ids(clients);
  await rig.app.process.kill();
  await eventually('all are parked', async () => await rig.service.metric('hubring_clients_parked_total') === 8);
  const answers = clients.map((client) => client.invoke('Echo', 'meanwhile'));
  rig.app = await App.start(rig.service, { ...app, ports: rig.app.ports });
  for (const answer of answers) assert.equal(await answer, 'meanwhile');
  for (const client of clients) assert.deepEqual(client.changes.items, [], 'a client was cut off');
  assert.deepEqual(ids(clients), before);
  assert.deepEqual((await rig.app.connected()).sort(), before);
}));

test('nobody comes: the clients are closed when the time is over, and may reconnect', { skip }, () => withRig(2, async (rig) => {
  const clients = await rig.clients(2, (index) => ({ protocol: protocols[index % 2], reconnect: true }));
  await rig.app.process.kill();
  await Promise.all(clients.map((client) => client.has('reconnecting')));
  rig.app = await App.start(rig.service, { ...app, ports: rig.app.ports });
  await Promise.all(clients.map((client) => client.reconnected()));
}));
