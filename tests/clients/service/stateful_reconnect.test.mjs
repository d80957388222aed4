// Stateful reconnect: Microsoft's client loses its TCP connection again and again, and neither its application nor the app server notices.
// The app server only allows it; the service does it alone.

import { after, afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters, protocols } from '../support/rig.mjs';
import { cuttable, hasLost } from '../support/cutter.mjs';
import { negotiate } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';

// The reference app server does not allow it.
const skip = parameters.app === 'sdk' ? false : 'needs an app server that allows it';

const rig = skip ? undefined : await Rig.start({ environment: { STATEFUL: '1' } });
after(() => rig?.stop());
afterEach(() => rig?.stopClients());

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));
const metric = (name) => rig.service.metric(`hubring_${name}`);

for (const protocol of protocols) {
  test(`${protocol}: whatever is cut, each message arrives once and in order, and each call is answered`, { skip }, async () => {
    const { client, cutter } = await cuttable(rig, { protocol });
    const resumed = await metric('clients_resumed_total');
    const count = 300;
    const rounds = 20;
    const sends = [];
    const calls = [];
    const stream = client.collect('Count', 200);
    let isSending = true;
    const cutting = (async () => {
      for (let round = 0; round < rounds || isSending; round += 1) {
        await pause(5 + Math.random() * 60);
        cutter.cut();
      }
    })();
    for (let index = 0; index < count; index += 1) {
      sends.push(client.send('Broadcast', `${protocol} ${index}`));
      calls.push(client.invoke('Echo', `echo ${index}`));
      if (index % 20 === 0) await rig.app.call(`/conn/${client.id}/pushed%20${index}`);
      await pause(3);
    }
    isSending = false;
    await Promise.all(sends);
    const echoes = await Promise.all(calls);
    await cutting;
    assert.deepEqual(echoes, Array.from({ length: count }, (_, index) => `echo ${index}`));
    assert.equal((await stream).length, 200);
    await client.receives('all', `${protocol} ${count - 1}`);
    assert.deepEqual(client.texts('all'), Array.from({ length: count }, (_, index) => `${protocol} ${index}`));
    const pushed = client.inbox.items.map(({ text }) => text).filter((text) => text.startsWith('pushed'));
    assert.deepEqual(pushed, Array.from({ length: count / 20 }, (_, index) => `pushed ${index * 20}`));
    assert.equal(client.hellos.items.length, 1, 'it is one connection');
    assert.deepEqual(client.changes.items, []);
    assert.equal(hasLost(rig.app, client.id), false);
    assert.ok((await metric('clients_resumed_total')) - resumed >= rounds / 2, 'it was cut and came back');
    assert.equal(await metric('resumes_refused_total'), 0);
  });
}

test('a client that stops itself is gone at once', { skip }, async () => {
  const { client } = await cuttable(rig);
  await client.stop();
  await eventually('the app server to be told', () => hasLost(rig.app, client.id));
});

test('after its hub has ended it, it is refused and does not storm', { skip }, async () => {
  const { client, cutter } = await cuttable(rig);
  const resumed = await metric('clients_resumed_total');
  await client.connection.invoke('AbortMe').catch(() => {});
  await client.has('closed');
  await pause(300);
  assert.equal(await metric('clients_resumed_total'), resumed);
  // Negotiate, the connection, and at the most one attempt to resume it.
  assert.ok(cutter.accepted <= 3, `${cutter.accepted} connections`);
});

test('when its app server is lost it is told so, and comes back as a new one', { skip }, async () => {
  const app = await rig.secondApp({ environment: { STATEFUL: '1' } });
  const { client, cutter } = await cuttable(rig, { app, reconnect: true });
  const first = client.id;
  // Where it is bound is the service's choice: each app server in turn is asked.
  await Promise.all([app, rig.app].map(async (each) => {
    if ((await each.connected()).includes(first)) await each.process.kill();
  }));
  await client.reconnected();
  assert.notEqual(client.id, first);
  assert.equal(await client.invoke('Echo', 'again'), 'again');
  cutter.cut();
  assert.equal(await client.invoke('Echo', 'and again'), 'and again');
  assert.equal(client.hellos.items.length, 2, 'the new one has state as well');
  assert.ok(cutter.accepted < 60, `${cutter.accepted} connections`);
});
