// A process hangs: its connections stay open, and nobody answers on them. Both ends find out after 30 s, and nobody else notices. By
// then the others have said what they say every ten seconds: echoes, and the status that the SDK asks for.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, isSdk, protocols } from '../support/rig.mjs';
import { RawClient } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';
import { audience, token } from '../support/token.mjs';

// Either end allows 30 s and looks every few seconds; the rest is for a machine that is busy.
const silenceMs = 60_000;
// Counted from the last that was heard, which may be ten seconds before an app server hangs.
const silenceMinMs = 15_000;

describe('a process that hangs', { concurrency: true }, () => {
  test('an app server: its clients are closed and come back through another, whose clients notice nothing', async () => {
    const rig = await Rig.start({ shards: 1, connections: 1 });
    try {
      const { app: hung, service } = rig;
      const direct = (index) => ({ protocol: protocols[index % 2], reconnect: true, url: `${service.url}/client/?hub=chat&asrs.op=%2Fchat`, accessToken: token(service.accessKey, audience('client')) });
      const dropped = await rig.clients(4, direct);
      const raw = await RawClient.connected(hung, 'json');
      const other = await rig.secondApp({ connections: 1, environment: { LOG: 'Debug' } });
      // New clients go to the server connection with the fewest of them.
      const kept = await rig.clients(4, direct);

      hung.process.pause();
      const paused = Date.now();
      assert.equal((await raw.end(silenceMs)).code, 1000);
      assert.ok(Date.now() - paused > silenceMinMs, 'it was given up too soon');
      assert.deepEqual(raw.received.items.at(-1), { type: 7, allowReconnect: true });
      await Promise.all(dropped.map((client) => client.reconnected()));
      for (const client of [...dropped, ...kept]) assert.equal(await client.invoke('Echo', 'after'), 'after');
      for (const client of kept) assert.deepEqual(client.changes.items, [], 'a client of the other app server noticed');
      for (const client of dropped) assert.deepEqual(client.changes.items.map((item) => item.change), ['reconnecting', 'reconnected']);
      // One server connection for each of the two hubs.
      assert.equal(await service.metric('hubring_silent_servers_total'), 2);
      const { server_connections: connections } = await service.listing();
      for (const each of connections) assert.ok(each.round_trip_us > 0, 'an echo did not come back in all that time');
      if (isSdk) {
        assert.equal((await other.connected()).length, 8);
        // It asks every ten seconds or so whether its hubs have clients anywhere.
        await other.process.line(/service status active=True .* hub Chat/);
        await other.process.line(/service status active=False .* hub Second/);
      }

      hung.process.resume();
      await hung.healthy();
      const again = await RawClient.connected(hung, 'messagepack');
      again.close();
    } finally {
      rig.app.process.resume();
      await rig.stop();
    }
  });

  test('the service: the app server gives its connections up, and all come back when it goes on', async () => {
    // The SDK's app server is patient with clients, which it does not hear either and might give up first.
    const rig = await Rig.start({ connections: 2, environment: { CLIENT_TIMEOUT: '300' } });
    try {
      const clients = await rig.clients(4, (index) => ({ protocol: protocols[index % 2], reconnect: true }));
      const ids = clients.map((client) => client.id);
      rig.service.process.pause();
      for (const id of ids) {
        const { reason } = await rig.app.event('disconnected', id, silenceMs);
        if (isSdk) assert.equal(reason, null);
      }
      rig.service.process.resume();
      await eventually('the app server is up again', async () => (await fetch(`${rig.app.url}/healthz`)).status === 200, silenceMs);
      await Promise.all(clients.map((client) => client.reconnected()));
      for (const client of clients) assert.equal(await client.invoke('Echo', 'back'), 'back');
    } finally {
      rig.service.process.resume();
      await rig.stop();
    }
  });
});
