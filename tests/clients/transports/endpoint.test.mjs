// What the endpoint of clients answers to each request, on each kind of connection. The table is the original's: `run.mjs --app selfhost`
// plays the same rows to plain ASP.NET Core SignalR.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, hasService, unlessService } from '../support/rig.mjs';
import { HttpConnection } from '../support/http.mjs';
import { RawClient, handshakes } from '../support/raw.mjs';

const rig = await Rig.start();
after(() => rig.stop());

const origin = 'https://app.example.com';
const headers = { Origin: origin };

const required = [400, 'Connection ID required'];
const unknown = [404, 'No Connection with that ID'];
const bound = [400, 'Cannot change transports mid-connection'];
const active = [409, ''];
const notAllowed = [405, ''];
const noPost = [405, 'POST requests are not allowed for WebSocket connections.'];
const noDelete = [400, 'Cannot terminate this connection using the DELETE endpoint.'];

const requests = {
  'a poll': (connection) => connection.poll().answer(),
  'an event stream': (connection) => connection.events().answer(),
  'a POST': (connection) => connection.post(handshakes.json).answer(),
  'an empty POST': (connection) => connection.post('').answer(),
  'a DELETE': (connection) => connection.delete().answer(),
  'a PUT': (connection) => connection.request({ method: 'PUT', body: 'x' }).answer(),
  'a PATCH': (connection) => connection.request({ method: 'PATCH', body: 'x' }).answer(),
  'a HEAD': (connection) => connection.request({ method: 'HEAD' }).answer(),
  'an upgrade': (connection) => connection.upgrade(),
};

const other = { 'a PUT': notAllowed, 'a PATCH': notAllowed, 'a HEAD': notAllowed };
const onEach = (answer) => ({ 'a poll': answer, 'an event stream': answer, 'a POST': answer, 'an empty POST': answer, 'a DELETE': answer, ...other });

const rows = {
  'without an id': onEach(required),
  'with an empty id': onEach(required),
  'with an unknown id': { ...onEach(unknown), 'an upgrade': unknown },
  'with an id given twice': { ...onEach(unknown), 'an upgrade': unknown },
  'on no transport yet': { 'a DELETE': noDelete, ...other },
  'on WebSockets': { 'a poll': bound, 'an event stream': bound, 'a POST': noPost, 'an empty POST': noPost, 'a DELETE': noDelete, 'an upgrade': active, ...other },
  'on Server-Sent Events': { 'a poll': bound, 'an event stream': active, 'an empty POST': [200, ''], 'a DELETE': noDelete, 'an upgrade': bound, ...other },
  'on long polling': { 'an event stream': bound, 'an empty POST': [200, ''], 'an upgrade': bound, ...other },
};

const withId = (id) => {
  const connection = new HttpConnection(rig, { headers });
  for (const each of id) connection.query.append('id', each);
  return connection;
};

// Each with `works`, which fails when the connection has been harmed.
const connections = {
  'without an id': () => withId([]),
  'with an empty id': () => withId(['']),
  'with an unknown id': () => withId(['AAAAAAAAAAAAAAAAAAAAAA']),
  'with an id given twice': async () => {
    const connection = await polling();
    connection.query.append('id', connection.offer.connectionToken);
    return Object.assign(connection, { works: undefined });
  },
  'on no transport yet': () => HttpConnection.negotiated(rig, { headers }),
  'on WebSockets': async () => {
    const connection = await HttpConnection.negotiated(rig, { headers });
    const client = await RawClient.open(connection.url, { headers: connection.headers });
    await client.handshake('json');
    const works = async () => {
      client.send(echo);
      await client.messages.until(() => isEchoed(client.text), 'the echo');
      client.close();
    };
    return Object.assign(connection, { works });
  },
  'on Server-Sent Events': async () => {
    const connection = await HttpConnection.streaming(rig, { headers });
    await connection.say(handshakes.json);
    const works = async () => {
      await connection.say(echo);
      await connection.stream.until(isEchoed, 'the echo');
      connection.stream.abort();
    };
    return Object.assign(connection, { works });
  },
  'on long polling': () => polling(),
};

async function polling() {
  const connection = await HttpConnection.polling(rig, { headers });
  await connection.say(handshakes.json);
  const works = async () => {
    await connection.say(echo);
    await connection.pollUntil(isEchoed, 'the echo');
  };
  return Object.assign(connection, { works });
}

const echo = '{"type":1,"invocationId":"7","target":"Echo","arguments":["unharmed"]}\x1e';
const isEchoed = (text) => text.includes('"result":"unharmed"');

function assertOpenToOrigin(answer) {
  assert.equal(answer.headers['access-control-allow-origin'], origin);
  assert.equal(answer.headers['access-control-allow-credentials'], 'true');
  assert.match(answer.headers.vary ?? '', /Origin/i);
}

for (const [what, answers] of Object.entries(rows)) {
  test(what, async (t) => {
    const connection = await connections[what]();
    for (const [request, [status, body]] of Object.entries(answers)) {
      await t.test(`${request}: ${status} ${body}`, async () => {
        const answer = await requests[request](connection);
        assert.equal(answer.status, status);
        assert.equal(answer.body.toString(), body);
        // A browser asks no leave for an upgrade, and shows no page why it was refused.
        if (request === 'an upgrade') return;
        assertOpenToOrigin(answer);
        assert.equal(answer.headers['content-type'], 'text/plain');
      });
    }
    await connection.works?.();
  });
}

const versions = [
  ['negotiateVersion=abc', { error: 'The client requested a non-integer protocol version.' }],
  ['negotiateVersion=-1', { error: "The client requested version '-1', but the server does not support this version." }],
];

for (const [query, answer] of versions) {
  test(`negotiate with ${query} is an error in the answer`, async () => {
    const { status, type, body } = await new HttpConnection(rig).negotiate(query).answer();
    assert.equal(status, 200);
    assert.match(type, /^application\/json/);
    assert.deepEqual(JSON.parse(body), answer);
  });
}

for (const method of ['GET', 'PUT', 'DELETE']) {
  test(`negotiate by ${method} is 405`, async () => {
    const { status } = await new HttpConnection(rig).negotiate('negotiateVersion=1', { method }).answer();
    assert.equal(status, 405);
  });
}

test('negotiate offers the three transports in order', async () => {
  const { offer } = await HttpConnection.negotiated(rig);
  assert.deepEqual(offer.availableTransports, [
    { transport: 'WebSockets', transferFormats: ['Text', 'Binary'] },
    { transport: 'ServerSentEvents', transferFormats: ['Text'] },
    { transport: 'LongPolling', transferFormats: ['Text', 'Binary'] },
  ]);
});

for (const method of ['GET', 'POST', 'DELETE']) {
  test(`the preflight of a ${method} is answered without a token`, async () => {
    const connection = await HttpConnection.polling(rig);
    const { status, headers } = await connection.request({
      method: 'OPTIONS',
      headers: { Authorization: '', Origin: origin, 'Access-Control-Request-Method': method, 'Access-Control-Request-Headers': 'authorization,x-requested-with,x-signalr-user-agent,x-own' },
    }).answer();
    assert.ok(status >= 200 && status < 300, `got ${status}`);
    // The original's answer to a preflight does not say that it differs by origin.
    assertOpenToOrigin({ headers: hasService ? headers : { vary: 'Origin', ...headers } });
    assert.ok(headers['access-control-allow-methods'].includes(method));
    for (const name of ['authorization', 'x-requested-with', 'x-signalr-user-agent', 'x-own']) {
      assert.ok(headers['access-control-allow-headers'].toLowerCase().includes(name), name);
    }
    assert.equal((await connection.delete().answer()).status, 202, 'it is there as before');
  });
}

test('without a token every request is 401, which a page of another origin may read', { skip: unlessService }, async (t) => {
  const kinds = { polling: await HttpConnection.polling(rig), streaming: await HttpConnection.streaming(rig), fresh: await HttpConnection.negotiated(rig) };
  for (const [kind, connection] of Object.entries(kinds)) {
    const rightful = connection.headers;
    connection.headers = headers;
    for (const [request, ask] of Object.entries(requests)) {
      // Of a method that nothing answers it does not matter who asks.
      if (request in other) continue;
      await t.test(`${kind}: ${request}`, async () => {
        const answer = await ask(connection);
        assert.equal(answer.status, 401);
        if (request !== 'an upgrade') assertOpenToOrigin(answer);
      });
    }
    connection.headers = rightful;
  }
  for (const connection of [kinds.polling, kinds.streaming]) await connection.greeted();
  kinds.streaming.stream.abort();
});
