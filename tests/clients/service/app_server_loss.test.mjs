// An app server goes: exactly its clients are closed, in a way that lets them come back.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters, protocols } from '../support/rig.mjs';
import { RawClient, closeAllowingReconnect } from '../support/raw.mjs';
import { audience, token } from '../support/token.mjs';

async function withRig(options, body) {
  const rig = await Rig.start(options);
  try {
    await body(rig);
  } finally {
    await rig.stop();
  }
}

for (const protocol of protocols) {
  // Each app server has a connection to each shard, so that none is asked for another one. Six clients come while there is one app
  // server only. Then a second one joins, and as new clients go to the server connection with the fewest of them, the next six are its.
  test(`${protocol}: exactly the clients of a killed app server drop, and come back through the other`, () => withRig({ connections: parameters.shards }, async (rig) => {
    const { app: lost, service } = rig;
    const direct = { protocol, reconnect: true, url: `${service.url}/client/?hub=chat&asrs.op=%2Fchat`, accessToken: token(service.accessKey, audience('client')) };
    const six = async () => {
      const clients = [];
      while (clients.length < 6) clients.push(await rig.client(direct));
      return clients;
    };
    const dropped = await six();
    const kept = await rig.secondApp({ connections: parameters.shards });
    const others = await six();
    if (parameters.app === 'sdk') assert.deepEqual((await lost.connected()).sort(), dropped.map((client) => client.id).sort());

    await lost.process.kill();
    await Promise.all(dropped.map((client) => client.reconnected()));
    for (const client of [...dropped, ...others]) assert.equal(await client.invoke('Echo', 'after'), 'after');
    for (const client of others) assert.deepEqual(client.changes.items, [], 'a client of the other app server noticed');
    for (const client of dropped) assert.deepEqual(client.changes.items.map((item) => item.change), ['reconnecting', 'reconnected']);
    if (parameters.app === 'sdk') assert.equal((await kept.connected()).length, 12);
  }));

  test(`${protocol}: the clients of a killed app server get Close with allowReconnect, then 1000`, () => withRig({}, async ({ app }) => {
    const client = await connected(app, protocol);
    await app.process.kill();
    assert.equal((await client.end()).code, 1000);
    assert.deepEqual(client.messages.items.at(-1), closeAllowingReconnect[protocol]);
  }));

  test(`${protocol}: an app server that stops in order says the same itself, once`, () => withRig({}, async ({ app }) => {
    const client = await connected(app, protocol);
    await app.process.stop();
    assert.equal((await client.end()).code, 1000);
    const goodbyes = client.messages.items.filter((item) => item.equals(closeAllowingReconnect[protocol]));
    assert.equal(goodbyes.length, 1, `got ${JSON.stringify(client.text)}`);
    assert.deepEqual(client.messages.items.at(-1), closeAllowingReconnect[protocol]);
  }));
}

async function connected(app, protocol) {
  const client = await RawClient.viaApp(app);
  await client.handshake(protocol);
  await client.messages.until(() => /hello/.test(client.text), 'hello');
  return client;
}
