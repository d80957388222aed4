// What /client and /client/negotiate answer: ids, transports, statuses, and what a browser of another origin needs.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig } from '../support/rig.mjs';
import { RawClient, upgradeStatus } from '../support/raw.mjs';
import { audience, token } from '../support/token.mjs';

const rig = await Rig.start();
after(() => rig.stop());

const { service } = rig;
const authorized = (hub = 'chat') => ({ Authorization: `Bearer ${token(service.accessKey, audience('client', hub))}` });
const clientUrl = (query) => `${service.url}/client/?${query}`;

async function negotiated(query, { headers = authorized(), method = 'POST', path = '/client/negotiate' } = {}) {
  const response = await fetch(`${service.url}${path}?${query}`, { method, headers });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: text.startsWith('{') ? JSON.parse(text) : undefined };
}

test('version 1 hands out an id to show and a token to connect with', async () => {
  const { status, headers, body } = await negotiated('hub=chat&negotiateVersion=1');
  assert.equal(status, 200);
  assert.match(headers.get('content-type'), /^application\/json/);
  assert.equal(body.negotiateVersion, 1);
  for (const id of [body.connectionId, body.connectionToken]) assert.match(id, /^[A-Za-z0-9_-]{16,}$/);
  assert.notEqual(body.connectionId, body.connectionToken);
  assert.deepEqual(body.availableTransports[0], { transport: 'WebSockets', transferFormats: ['Text', 'Binary'] });
  assert.equal('useStatefulReconnect' in body, false);
});

test('a stateful reconnect is promised only where the app server allows it, which this one does not', async () => {
  const { status, body } = await negotiated('hub=chat&negotiateVersion=1&useStatefulReconnect=true');
  assert.equal(status, 200);
  assert.equal('useStatefulReconnect' in body, false);
});

test('version 0 hands out one id for both', async () => {
  const { status, body } = await negotiated('hub=chat');
  assert.equal(status, 200);
  assert.equal(body.negotiateVersion, 0);
  assert.match(body.connectionId, /^[A-Za-z0-9_-]{16,}$/);
  assert.equal('connectionToken' in body, false);
});

test('query names in another case, repeated versions and a trailing slash are accepted', async () => {
  assert.equal((await negotiated('hub=chat&NegotiateVersion=1')).body.negotiateVersion, 1);
  assert.equal((await negotiated('hub=chat&negotiateVersion=1&negotiateVersion=1')).body.negotiateVersion, 1);
  assert.equal((await negotiated('hub=chat&negotiateVersion=1', { path: '/client/negotiate/' })).status, 200);
  assert.equal((await negotiated('hub=chat&negotiateVersion=7')).body.negotiateVersion, 1, 'a newer client is answered in version 1');
});

test('a version that is no number is an error in the answer', async () => {
  const { status, body } = await negotiated('hub=chat&negotiateVersion=abc');
  assert.equal(status, 200);
  assert.match(body.error, /non-integer protocol version/);
});

test('no hub is 400, everywhere', async () => {
  for (const query of ['', 'hub=', 'negotiateVersion=1']) {
    assert.equal((await negotiated(query)).status, 400, `negotiate?${query}`);
    assert.equal((await upgradeStatus(clientUrl(query), authorized())).status, 400, `client/?${query}`);
  }
  assert.equal((await upgradeStatus(`${service.url}/server/`, authorized())).status, 400);
});

test('negotiate is a POST', async () => {
  assert.equal((await negotiated('hub=chat', { method: 'GET' })).status, 405);
});

test('a negotiated token connects once: a second use is refused and harms nobody', async () => {
  const { body } = await negotiated('hub=chat&negotiateVersion=1');
  const url = clientUrl(`hub=chat&asrs.op=%2Fchat&id=${body.connectionToken}`);
  const first = await RawClient.open(url, { headers: authorized() });
  await first.handshake('json');
  await first.messages.until(() => first.text.includes(body.connectionId), 'hello with the id of the negotiate answer');

  assert.equal((await upgradeStatus(url, authorized())).status, 409);
  first.send('{"type":1,"invocationId":"1","target":"Echo","arguments":["still here"]}\x1e');
  await first.messages.until(() => first.text.includes('"result":"still here"'), 'an echo');

  first.socket.close();
  await first.end();
  assert.equal((await upgradeStatus(url, authorized())).status, 404, 'a finished connection does not come back');
});

test('an unknown id is 404', async () => {
  const { status, body } = await upgradeStatus(clientUrl('hub=chat&id=AAAAAAAAAAAAAAAAAAAAAA'), authorized());
  assert.equal(status, 404);
  assert.match(body, /No Connection with that ID/);
});

test('an id of one hub does not open another', async () => {
  const { body } = await negotiated('hub=chat&negotiateVersion=1');
  assert.equal((await upgradeStatus(clientUrl(`hub=second&id=${body.connectionToken}`), authorized('second'))).status, 404);
});

test('a client without an id is connected on the spot', async () => {
  const client = await RawClient.open(clientUrl('hub=chat&asrs.op=%2Fchat'), { headers: authorized() });
  await client.handshake('json');
  client.close();
});

test('an address of 11,000 bytes is served, one of 20,000 refused', async () => {
  assert.equal((await upgradeStatus(clientUrl(`hub=chat&pad=${'p'.repeat(11_000)}`), authorized())).status, 101);
  const { status } = await upgradeStatus(clientUrl(`hub=chat&pad=${'p'.repeat(20_000)}`), authorized());
  assert.ok([414, 431].includes(status), `got ${status}`);
});

test('upgrades that break RFC 6455 are refused', async () => {
  assert.equal((await upgradeStatus(clientUrl('hub=chat'), { ...authorized(), 'Sec-WebSocket-Key': 'short' })).status, 400);
  const old = await upgradeStatus(clientUrl('hub=chat'), { ...authorized(), 'Sec-WebSocket-Version': '8' });
  assert.equal(old.status, 426);
  assert.equal(old.headers['sec-websocket-version'], '13');
});

const origin = 'https://app.example.com';

function assertOpenTo(headers) {
  assert.equal(headers.get('access-control-allow-origin'), origin);
  assert.equal(headers.get('access-control-allow-credentials'), 'true');
  assert.match(headers.get('vary') ?? '', /Origin/i);
}

test('a preflight is answered without a token', async () => {
  const { status, headers } = await negotiated('hub=chat', {
    method: 'OPTIONS',
    headers: { Origin: origin, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'authorization,x-requested-with,x-signalr-user-agent,x-own' },
  });
  assert.ok(status >= 200 && status < 300, `got ${status}`);
  assertOpenTo(headers);
  assert.match(headers.get('access-control-allow-methods'), /POST/);
  for (const name of ['authorization', 'x-requested-with', 'x-signalr-user-agent', 'x-own']) {
    assert.ok(headers.get('access-control-allow-headers').toLowerCase().includes(name), name);
  }
});

test('every answer to another origin may be read by it, also the refusals', async () => {
  for (const [query, headers, expected] of [['hub=chat', authorized(), 200], ['hub=chat', {}, 401], ['', authorized(), 400]]) {
    const answer = await negotiated(query, { headers: { Origin: origin, ...headers } });
    assert.equal(answer.status, expected);
    assertOpenTo(answer.headers);
  }
});

test('without an origin there is nothing about origins in the answer', async () => {
  const { headers } = await negotiated('hub=chat');
  assert.equal(headers.get('access-control-allow-origin'), null);
});
