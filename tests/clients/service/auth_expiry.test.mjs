// A client that is to be closed when its authentication expires is closed then, and told that it may come back.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters, protocols } from '../support/rig.mjs';
import { RawClient, upgradeStatus } from '../support/raw.mjs';
import { audience, token } from '../support/token.mjs';

const text = 'The authentication has expired.';

async function withRig(options, body) {
  const rig = await Rig.start(options);
  try {
    await body(rig);
  } finally {
    await rig.stop();
  }
}

function expiring(service, seconds, claims = {}) {
  const at = Math.floor(Date.now() / 1000) + seconds;
  return token(service.accessKey, audience('client'), { 'asrs.s.coae': 'true', 'asrs.s.aeo': `${at}`, ...claims });
}

const close = {
  json: (flag) => Buffer.from(`{"type":7,"error":"${text}"${flag ? ',"allowReconnect":true' : ''}}\x1e`),
  messagepack: (flag) => Buffer.concat([Buffer.from([0x23, 0x93, 0x07, 0xbf]), Buffer.from(text), Buffer.from([flag ? 0xc3 : 0xc2])]),
};

for (const protocol of protocols) {
  for (const [who, claims, flag] of [['a client', {}, true], ['a diagnostic client', { 'asrs.s.dc': 'true' }, false]]) {
    test(`${protocol}: ${who} ${flag ? 'may' : 'is not told to'} come back`, () => withRig({}, async ({ service }) => {
      const client = await RawClient.open(`${service.url}/client/?hub=chat`, { token: expiring(service, 2, claims) });
      await client.handshake(protocol);
      assert.equal((await client.end()).code, 1000);
      assert.deepEqual(client.messages.items.at(-1), close[protocol](flag), client.text);
      assert.equal(await service.metric('hubring_authentications_expired_total'), 1);
    }));
  }
}

test('who is signed in no longer is not let in', () => withRig({}, async ({ service }) => {
  const headers = { Authorization: `Bearer ${expiring(service, -1)}` };
  const { status } = await upgradeStatus(`${service.url}/client/?hub=chat`, headers);
  assert.equal(status, 401);
  const negotiated = await fetch(`${service.url}/client/negotiate?hub=chat`, { method: 'POST', headers });
  assert.equal(negotiated.status, 401);
  assert.match(negotiated.headers.get('www-authenticate'), /The authentication expired/);
}));

test('the SDK\'s clients are closed in time and come back by themselves', { skip: parameters.app !== 'sdk' && 'the SDK writes the claims' }, () => (
  withRig({ environment: { COAE: '3' } }, async (rig) => {
    const once = await rig.client({ user: 'ann' });
    const again = await rig.client({ user: 'bob', reconnect: true });
    const dropped = [once.id, again.id];
    assert.equal(await again.invoke('Echo', 'in'), 'in');
    await once.has('closed');
    assert.match(once.changes.items.at(-1).error, new RegExp(text));
    await again.reconnected();
    assert.equal(await again.invoke('Echo', 'back'), 'back');
    assert.notEqual(again.id, dropped[1]);
    const connected = await rig.app.connected();
    for (const id of dropped) assert.ok(!connected.includes(id), `the app still counts ${id}`);
  })
));
