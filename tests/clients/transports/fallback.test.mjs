// Which transports a client is offered, and on which of them it ends up when some do not work.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import WebSocket from 'ws';
import { Rig, parameters, unlessService } from '../support/rig.mjs';
import { HttpConnection } from '../support/http.mjs';

const rig = await Rig.start();
// Like a proxy that knows nothing of WebSockets.
const proxy = http.createServer((_, response) => response.writeHead(502).end()).listen(0, '127.0.0.1');
await once(proxy, 'listening');
after(async () => {
  proxy.close();
  await rig.stop();
});

class BlockedWebSocket extends WebSocket {
  constructor(_, ...rest) {
    super(`ws://127.0.0.1:${proxy.address().port}`, ...rest);
  }
}

class BlockedEventSource {
  constructor() {
    queueMicrotask(() => this.onerror());
  }

  close() {}
}

const any = { transport: 'any' };
const works = async (client) => assert.equal(await client.invoke('Echo', 'here'), 'here');

const cases = [
  ['nothing is blocked', 'WebSocket', {}],
  ['WebSockets are blocked', 'ServerSentEvents', { http: { WebSocket: BlockedWebSocket } }],
  ['WebSockets and event streams are blocked', 'LongPolling', { http: { WebSocket: BlockedWebSocket, EventSource: BlockedEventSource } }],
  ['WebSockets are blocked and the protocol is MessagePack', 'LongPolling', { protocol: 'messagepack', http: { WebSocket: BlockedWebSocket } }],
];

for (const signalr of [10, 8]) {
  for (const [what, transport, options] of cases) {
    test(`release ${signalr}: ${transport} where ${what}`, async () => {
      const client = await rig.client({ ...any, signalr, ...options });
      assert.equal(client.transport, transport);
      assert.equal(client.connection.connectionId, client.id, 'the id of the negotiate that counted');
      await works(client);
    });
  }
}

const names = ['WebSockets', 'ServerSentEvents', 'LongPolling'];

for (const allowed of [1, 2, 3, 4, 5, 6, 7]) {
  const isAllowed = (name) => (allowed & (1 << names.indexOf(name))) !== 0;
  const offered = names.filter(isAllowed);

  test(`a token for ${offered.join(', ')} gets an offer of that and admits nothing else`, { skip: unlessService }, async () => {
    const options = { claims: { 'asrs.s.htt': `${allowed}` } };
    const { offer } = await HttpConnection.negotiated(rig, options);
    assert.deepEqual(offer.availableTransports.map(({ transport }) => transport), offered);
    const ask = { WebSockets: (each) => each.upgrade(), ServerSentEvents: (each) => each.events().answer(), LongPolling: (each) => each.poll().answer() };
    for (const name of names.filter((each) => !isAllowed(each))) {
      const answer = await ask[name](await HttpConnection.negotiated(rig, options));
      assert.equal(answer.status, 404);
      assert.equal(answer.body.toString(), `${name} transport not supported by this end point type`);
    }
  });
}

test('a client takes the first transport of the offer', { skip: unlessService }, async () => {
  for (const [allowed, transport] of [['6', 'ServerSentEvents'], ['4', 'LongPolling']]) {
    const client = await rig.client({ ...any, ...rig.service.direct({ 'asrs.s.htt': allowed }) });
    assert.equal(client.transport, transport);
    await works(client);
  }
});

test('an app server decides on the transports of its clients', { skip: parameters.app === 'sdk' ? false : 'needs an app server that decides' }, async () => {
  const app = await rig.secondApp({ environment: { TRANSPORTS: 'ServerSentEvents, LongPolling' } });
  for (const [protocol, transport] of [['json', 'ServerSentEvents'], ['messagepack', 'LongPolling']]) {
    const client = await rig.client({ ...any, app, protocol });
    assert.equal(client.transport, transport);
    await works(client);
  }
  await assert.rejects(rig.client({ app, transport: 'websockets' }), /Unable to connect/);
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
