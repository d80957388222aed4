// How the SDK's app server takes what becomes of its server connections.
//
// | The app server reacts to                     | The service causes it when                                  | Tested by                         |
// |----------------------------------------------|-------------------------------------------------------------|-----------------------------------|
// | 401 to the upgrade: it backs off             | the access key is another one                               | "another key"                     |
// | 503 to the upgrade: it backs off             | it holds as many connections as it may                      | "full"                            |
// | Close 1000 on all server connections         | it stops in order                                           | "SIGTERM"                         |
// | all server connections reset                 | it is killed                                                | "SIGKILL"                         |
// | ServiceError, then one connection closed     | the app server sent a message that is too long              | "too long"                        |
// | 30 s without a message                       | it hangs                                                    | service/silence.test.mjs          |
// | status replies, echo pings                   | the app server asks; ten seconds have passed                | service/silence.test.mjs          |
// | FinAck                                       | the app server shuts down                                   | service/rolling_restarts.test.mjs |
// | `target` pings                               | a hub is not on every shard                                 | service/rebalance.test.mjs        |
//
// Never caused: text WebSocket messages, frames that cannot be decoded, partial messages, unknown types, another answer to the
// handshake than the response, closing without reason what has just been accepted.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Rig, Service, protocols, unlessSdk } from '../support/rig.mjs';
import { RawClient, negotiate } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';

const oneHub = { HUB2: '0' };
const otherKey = 'another key that nobody else has of 44 letters';

const refused = (service) => service.metric('hubring_refused_total');

// Twice as long on the wire, as it goes out in both protocols.
const tooLong = 40_000_000;

// Each has processes of its own, and most of the time is spent waiting for an app server that backs off.
describe('the SDK app server', { skip: unlessSdk, concurrency: 2 }, () => {
  test('an app server with another key is refused, backs off, and comes in once the key is right', async () => {
    let service = await Service.start();
    const connectionString = service.connectionString.replace(/AccessKey=[^;]*/, `AccessKey=${otherKey}`);
    const app = await App.start(service, { connections: 1, environment: { ...oneHub, ASRS: connectionString }, healthy: false });
    try {
      await eventually('the first attempt', async () => (await refused(service)) >= 1);
      const first = Date.now();
      // The next one at once, the others after a second, two, four, …
      await eventually('four attempts', async () => (await refused(service)) >= 4);
      assert.ok(Date.now() - first > 2_500, 'it does not back off');
      await assert.rejects(negotiate(app), /500/);
      await service.process.stop();
      service = await Service.start({ ports: service.ports, args: ['--access-key', otherKey] });
      await app.healthy();
      const client = await RawClient.connected(app, 'json');
      client.close();
    } finally {
      await app.process.stop();
      await service.process.stop();
    }
  });

  test('a service that is full refuses, and takes the rest as soon as there is room', async () => {
    // One shard, or the service asks for a server connection on the other and is full again.
    const service = await Service.start({ shards: 1, args: ['--connections-max', '4'] });
    const first = await App.start(service, { connections: 3, environment: oneHub });
    const second = await App.start(service, { connections: 3, environment: oneHub, healthy: false });
    try {
      await eventually('attempts are refused', async () => (await refused(service)) >= 4);
      assert.equal(await service.metric('hubring_server_connections'), 4);
      await first.process.stop();
      await second.healthy();
      assert.ok((await refused(service)) < 20, 'it did not back off');
      const client = await RawClient.connected(second, 'json');
      client.close();
    } finally {
      await first.process.stop();
      await second.process.stop();
      await service.process.stop();
    }
  });

  for (const signal of ['SIGTERM', 'SIGKILL']) {
    test(`${signal} of the service: the hub loses its clients without an error, and is up again as soon as the service is`, async () => {
      const rig = await Rig.start({ connections: 2 });
      try {
        const clients = await Promise.all(protocols.map((protocol) => RawClient.connected(rig.app, protocol)));
        const before = await connectionsOf(rig.service);
        rig.service.process.signal(signal);
        for (const client of clients) {
          const { reason, type } = await rig.app.event('disconnected', client.id);
          assert.deepEqual([reason, type], [null, null]);
        }
        await rig.service.process.ended;
        await eventually('negotiate answers 500', () => negotiate(rig.app).then(() => false, (error) => /500/.test(error.message)));
        assert.deepEqual(await rig.app.connected(), []);
        rig.service = await Service.start({ ports: rig.service.ports });
        await rig.app.healthy();
        const after = await connectionsOf(rig.service);
        assert.equal(after.length, before.length);
        assert.deepEqual(after.filter((id) => before.includes(id)), [], 'a server connection came back under its old id');
        for (const protocol of protocols) await RawClient.connected(rig.app, protocol);
      } finally {
        await rig.stop();
      }
    });
  }

  test('a message that is too long costs the server connection on which it came, and no other', async () => {
    const rig = await Rig.start({ connections: 3 });
    try {
      const clients = await Promise.all(Array.from({ length: 6 }, () => RawClient.connected(rig.app, 'json')));
      const before = await connectionsOf(rig.service);
      await rig.app.call(`/rate/1/${tooLong}`);
      await eventually('one of them is replaced', async () => (await connectionsOf(rig.service)).some((id) => !before.includes(id)));
      await rig.app.healthy();
      const after = await connectionsOf(rig.service);
      assert.equal(after.length, before.length);
      assert.equal(after.filter((id) => before.includes(id)).length, before.length - 1);

      await rig.app.process.line(/ReceivedServiceErrorMessage/);

      // Two of the six clients were on each.
      await eventually('two clients are gone', async () => (await rig.app.connected()).length === 4);
      const left = await rig.app.connected();
      const [lost, kept] = [clients.filter((client) => !left.includes(client.id)), clients.filter((client) => left.includes(client.id))];
      for (const client of lost) {
        assert.equal((await client.end()).code, 1000);
        assert.deepEqual(client.received.items.at(-1), { type: 7, allowReconnect: true });
      }
      await rig.app.call('/broadcast/short');
      for (const client of kept) await client.received.until((items) => items.some((item) => item.arguments?.[1] === 'short'), 'the next broadcast');
      assert.equal(await rig.service.metric('hubring_protocol_errors_total'), 1);
    } finally {
      await rig.stop();
    }
  });
});

async function connectionsOf(service) {
  return (await service.listing()).server_connections.map(({ id }) => id);
}
