// A rolling restart as its clients see it: the app server that has them shuts down and gives them to another one.

import assert from 'node:assert/strict';
import { Rig, isSdk, protocols } from './rig.mjs';
import { within } from './wait.mjs';

export const skip = isSdk ? false : 'needs an app server that migrates its clients';
// At least two server connections a shard, and time enough for the deadline of the service.
const options = { connections: 4, environment: { GRACEFUL: 'migrate', GRACEFUL_TIMEOUT: '28' } };
const endMs = 35_000;

// Clients of a first app server, `begin` on each; then a second app server comes and the first one is told to go.
export async function migrate({ count = 8, begin = () => {}, after = () => {} }) {
  const rig = await Rig.start(options);
  try {
    const { app: leaving } = rig;
    const clients = await rig.clients(count, (index) => ({ protocol: protocols[index % 2], user: `user${index}`, query: { from: 'first' } }));
    const ids = clients.map((client) => client.id);
    for (const [index, client] of clients.entries()) await client.invoke('Join', `room${index % 2}`);
    const staying = await rig.secondApp(options);
    const begun = await Promise.all(clients.map(begin));
    const started = Date.now();
    leaving.process.signal('SIGTERM');
    const end = await within(endMs, leaving.process.ended, () => `the app server did not end\n${leaving.process.tail}`);
    const seconds = (Date.now() - started) / 1000;
    assert.equal(end.code, 0, leaving.process.tail);
    await after({ rig, clients, staying, begun, seconds });

    for (const [index, client] of clients.entries()) {
      assert.equal(await client.invoke('Echo', 'after'), 'after');
      assert.deepEqual(client.changes.items, [], 'a client was cut off');
      assert.equal(client.id, ids[index], 'a client keeps its id');
      assert.equal(client.hello.user, `user${index}`);
      assert.match(client.hello.query, /from=first/);
    }
    assert.deepEqual((await staying.connected()).sort(), ids.sort(), 'all are at the other app server, once');
    await staying.call('/group/room1/groups%20stay');
    await Promise.all(clients.filter((_, index) => index % 2 === 1).map((client) => client.receives('togroup', 'groups stay')));
    assert.equal(await rig.service.metric('hubring_clients_migrated_total'), count);
    await rig.assertNoRelayCrossed();
    return rig;
  } finally {
    await rig.stop();
  }
}
