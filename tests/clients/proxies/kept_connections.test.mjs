// What a proxy does with its connections to the service: it keeps them, sends the requests of many clients on them, and upgrades one that
// has carried other requests. Clients and app servers both come through it.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { behindEachProxy } from '../support/rig.mjs';
import { HttpConnection, call } from '../support/http.mjs';
import { RawClient, handshakes } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';

const mebibyte = 1 << 20;
const requests = 64;
const origin = 'https://app.example.com';

const rigs = await behindEachProxy();
after(() => Promise.all(rigs.map(({ rig }) => rig?.stop())));

for (const { kind, skip, rig } of rigs) {
  const accepted = () => rig.service.metric('hubring_accepted_total');
  const negotiated = async (connection, options) => {
    const { status, body } = await connection.negotiate(undefined, options).answer();
    assert.equal(status, 200, body);
    return JSON.parse(body);
  };
  const oneConnection = () => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    after(() => agent.destroy());
    return agent;
  };

  test(`${kind}: the requests of one connection do not take one to the service each`, { skip }, async () => {
    const agent = oneConnection();
    const before = await accepted();
    for (let request = 0; request < requests; request += 1) await negotiated(new HttpConnection(rig), { agent });
    assert.ok(await accepted() - before <= requests / 8, `${await accepted() - before} connections for ${requests} requests`);
  });

  test(`${kind}: the requests of many connections share those to the service`, { skip }, async () => {
    const before = await accepted();
    for (let request = 0; request < requests; request += 1) await negotiated(new HttpConnection(rig));
    // Each worker has its own.
    assert.ok(await accepted() - before <= requests / 2, `${await accepted() - before} connections for ${requests} requests`);
  });

  test(`${kind}: an upgrade goes through on a connection that has carried requests`, { skip }, async () => {
    const counts = async () => [await accepted(), await rig.service.metric('hubring_handed_back_total')];
    // Again if the proxy has just closed the connection as one too many.
    await eventually('an upgrade on a connection that the service had already', async () => {
      const agent = oneConnection();
      const connection = new HttpConnection(rig);
      for (let request = 0; request < 3; request += 1) await negotiated(connection, { agent });
      const { connectionToken } = await negotiated(connection, { agent });
      connection.query.set('id', connectionToken);
      const [acceptedBefore, handedBackBefore] = await counts();

      const client = await RawClient.open(connection.url, { headers: connection.headers, agent });
      await client.handshake('json');
      client.say({ type: 1, invocationId: '1', target: 'Echo', arguments: ['over'] });
      await client.received.until((messages) => messages.some(({ result }) => result === 'over'), 'the answer');
      client.close();
      const [acceptedAfter, handedBackAfter] = await counts();
      return acceptedAfter === acceptedBefore && handedBackAfter === handedBackBefore + 1;
    });
  });

  test(`${kind}: a POST may have 1 MiB, and a page learns why a longer one is refused`, { skip }, async () => {
    const connection = await (await HttpConnection.polling(rig, { headers: { Origin: origin } })).greeted();
    const text = 'x'.repeat(mebibyte - call('Echo', '').length);
    const whole = call('Echo', text);
    assert.equal(whole.length, mebibyte);
    await connection.say(whole);
    const answer = await connection.pollUntil((body) => body.includes('"invocationId":"1"'), 'the answer');
    assert.ok(answer.includes(text), 'what was posted has come back');

    const { status, headers } = await connection.post(`${whole} `).answer();
    assert.equal(status, 413);
    assert.equal(headers['access-control-allow-origin'], origin);
    await connection.delete().answer();
  });

  // 16 KiB, less a little for what the proxy adds.
  test(`${kind}: a head may be as long as the service takes`, { skip }, async () => {
    const connection = new HttpConnection(rig, { headers: { 'X-Long': 'h'.repeat(4_300) } });
    connection.query.set('long', 'q'.repeat(11_000));
    await negotiated(connection);
  });

  test(`${kind}: the service learns at once that a client has gone`, { skip }, async () => {
    const connection = await HttpConnection.streaming(rig);
    await connection.say(handshakes.json);
    const isThere = async () => (await rig.service.listing()).clients.some(({ id }) => id === connection.id);
    await eventually('the client to be there', isThere);
    connection.stream.abort();
    await eventually('the client to have gone', async () => !await isThere(), 5_000);
  });

  test(`${kind}: nothing but clients and app servers is let through`, { skip }, async () => {
    const past = `http://127.0.0.1:${rig.service.ports[0]}`;
    for (const path of ['/', '/healthz', '/metrics', '/connections', '/clients', '/client.txt', '/servers', '/server-status']) {
      const [own, through] = await Promise.all([past, rig.service.url].map(async (url) => {
        const response = await fetch(url + path);
        return { status: response.status, body: await response.text() };
      }));
      assert.equal(through.status, 404, path);
      assert.notEqual(through.body, own.body, `${path} has reached the service`);
    }
  });
}
