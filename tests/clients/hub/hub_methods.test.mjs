// Every method of the reference hub, in both hub protocols.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, hasService, protocols, unlessBinary } from '../support/rig.mjs';
import { fence } from '../support/client.mjs';

const rig = await Rig.start();
after(() => rig.stop());

const nameIdentifier = 'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier';
// With the service in between, roles arrive under the name that IsInRole looks for.
const role = hasService ? 'http://schemas.microsoft.com/ws/2008/06/identity/claims/role' : 'role';

for (const protocol of protocols) {
  test(`${protocol}: hello tells id, user, claims and query`, async () => {
    const client = await rig.client({ protocol, user: 'alice', query: { room: 'a b+c', pad: 'p'.repeat(4000), access_token: 'stray' } });
    const { id, user, claims, query } = client.hello;
    assert.match(id, /^[A-Za-z0-9_-]+$/);
    assert.equal(user, 'alice');
    for (const claim of [`${nameIdentifier}=alice`, 'custom=v1', `${role}=a`, `${role}=b`]) {
      assert.ok(claims.includes(claim), `${claim} is not among ${JSON.stringify(claims)}`);
    }
    assert.match(query, /^\?/);
    const parts = new URLSearchParams(query);
    assert.equal(parts.get('user'), 'alice');
    assert.equal(parts.get('room'), 'a b+c');
    assert.equal(parts.get('pad').length, 4000);
    if (hasService) {
      assert.equal(parts.get('asrs.op'), '/chat');
      assert.equal(parts.has('access_token'), false, 'an access token reached the app server');
    }
  });

  test(`${protocol}: a client without a user has no user id`, async () => {
    const client = await rig.client({ protocol });
    assert.equal(client.hello.user ?? null, null);
  });

  test(`${protocol}: claims of the negotiate request reach the hub, repeated ones too`, async () => {
    const client = await rig.client({ protocol, url: `${rig.app.url}/chat?user=ann&claim=team:red&claim=team:blue` });
    for (const claim of ['team=red', 'team=blue']) assert.ok(client.hello.claims.includes(claim), JSON.stringify(client.hello.claims));
  });

  test(`${protocol}: Echo gives back every text`, async () => {
    const client = await rig.client({ protocol });
    for (const text of ['hi', '', 'ümläut 中文 🎉', 'line\nbreak \u001e record separator', '{"type":7}', '\\"\0']) {
      assert.equal(await client.invoke('Echo', text), text);
    }
  });

  test(`${protocol}: calls in flight together are answered each`, async () => {
    const client = await rig.client({ protocol });
    const texts = Array.from({ length: 100 }, (_, index) => `call ${index}`);
    assert.deepEqual(await Promise.all(texts.map((text) => client.invoke('Echo', text))), texts);
  });

  test(`${protocol}: Broadcast reaches all, Others all but the caller`, async () => {
    const [caller, ...rest] = await rig.clients(3, { protocol });
    const all = [caller, ...rest];
    await caller.invoke('Broadcast', `to all, ${protocol}`);
    await caller.invoke('Others', `to others, ${protocol}`);
    await fence(caller, all);
    for (const client of all) assert.equal(client.texts('all').filter((text) => text === `to all, ${protocol}`).length, 1);
    for (const client of rest) assert.deepEqual(client.texts('others'), [`to others, ${protocol}`]);
    assert.deepEqual(caller.texts('others'), []);
  });

  test(`${protocol}: ToConn reaches one connection`, async () => {
    const [caller, target, other] = await rig.clients(3, { protocol });
    await caller.invoke('ToConn', target.id, 'only you');
    await caller.invoke('ToConn', caller.id, 'only me');
    await caller.invoke('ToConn', 'no-such-connection', 'nobody');
    await fence(caller, [caller, target, other]);
    assert.deepEqual(target.texts('conn'), ['only you']);
    assert.deepEqual(caller.texts('conn'), ['only me']);
    assert.deepEqual(other.texts('conn'), []);
  });

  test(`${protocol}: Fail ends with the hub's error, the connection lives on`, async () => {
    const client = await rig.client({ protocol });
    await assert.rejects(client.invoke('Fail'), /boom/);
    await assert.rejects(client.invoke('NoSuchMethod'), /NoSuchMethod/);
    assert.equal(await client.invoke('Echo', 'still here'), 'still here');
  });

  test(`${protocol}: AbortMe closes the caller for good and nobody else`, async () => {
    const [caller, other] = await rig.clients(2, { protocol, reconnect: true });
    await caller.send('AbortMe');
    await caller.has('closed');
    assert.deepEqual(caller.changes.items.map((item) => item.change), ['closed'], 'a Close without allowReconnect is final');
    assert.equal(await other.invoke('Echo', 'unharmed'), 'unharmed');
  });
}

test('both protocols share one hub', { skip: unlessBinary }, async () => {
  const json = await rig.client({ protocol: 'json' });
  const messagepack = await rig.client({ protocol: 'messagepack' });
  await json.invoke('Broadcast', 'from json');
  await messagepack.invoke('Broadcast', 'from messagepack');
  for (const client of [json, messagepack]) {
    await client.receives('all', 'from json');
    await client.receives('all', 'from messagepack');
  }
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
