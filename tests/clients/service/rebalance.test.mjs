// A hub is on every shard, however few server connections an app server opens by itself: it is asked for more, and not more often than it
// answers.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters } from '../support/rig.mjs';
import { eventually } from '../support/wait.mjs';

const hubs = ['chat', 'second'];

async function withRig(options, body) {
  const rig = await Rig.start(options);
  try {
    await body(rig);
  } finally {
    await rig.stop();
  }
}

// The server connections that take clients: [{ hub, shard, type, round_trip_us, … }].
async function serverConnections(service) {
  const { server_connections: all } = await (await fetch(`${service.admin}/connections`)).json();
  return all.filter((each) => each.is_routable);
}

// By shard: how many of the hub's server connections it has.
function spread(connections, hub, shards) {
  return Array.from({ length: shards }, (_, shard) => connections.filter((each) => each.hub === hub && each.shard === shard).length);
}

const asked = async (service) => (await service.metric('hubring_servers_asked_for_total')) ?? 0;

test('four shards share five server connections, and none is asked for', () => withRig({ shards: 4, connections: 5 }, async ({ service }) => {
  for (const hub of hubs) {
    const counts = spread(await serverConnections(service), hub, 4);
    assert.deepEqual(counts.sort(), [1, 1, 1, 2], hub);
  }
  // By the time the round trips are known, whoever was to be asked has been asked.
  await eventually('the round trip of each', async () => (await serverConnections(service)).every((each) => each.round_trip_us > 0));
  await eventually('the longest one', async () => (await service.metric('hubring_server_round_trip_us_max')) > 0);
  assert.equal(await asked(service), 0);
  assert.deepEqual([...new Set((await serverConnections(service)).map((each) => each.type))], ['Default']);
}));

test('eight shards get the three that are missing, each once, and clients on all of them', () => withRig({ shards: 8, connections: 5 }, async (rig) => {
  const { service } = rig;
  const complete = async () => {
    const connections = await serverConnections(service);
    return hubs.every((hub) => spread(connections, hub, 8).every((count) => count === 1)) && connections;
  };
  const connections = await eventually('each hub to be on each shard', complete);
  for (const hub of hubs) assert.equal(connections.filter((each) => each.hub === hub && each.type === 'OnDemand').length, 3, hub);
  assert.equal(await asked(service), 6);
  assert.equal(await service.metric('hubring_servers_came_as_asked_total'), 6);

  const clients = await rig.clients(16);
  await Promise.all(clients.map((client) => client.invoke('Echo', 'all over')));
  const relaying = (await service.samples()).filter((sample) => sample.name === 'hubring_relayed_messages_total' && sample.value > 0);
  assert.equal(relaying.length, 8, 'every shard relays');
  await clients[0].invoke('Broadcast', 'to all');
  for (const client of clients) await client.receives('all', 'to all');
  await rig.assertNoRelayCrossed();
  assert.equal(await asked(service), 6, 'nobody is asked twice');
}));

test('what an app server that is killed leaves behind the other one is asked for', () => withRig({ shards: 4, connections: 2 }, async (rig) => {
  const { service, app } = rig;
  await rig.secondApp({ connections: 2 });
  const complete = async () => {
    const connections = await serverConnections(service);
    return hubs.every((hub) => spread(connections, hub, 4).every((count) => count > 0)) && connections;
  };
  const before = await eventually('each hub to be on each shard', complete);
  assert.equal(new Set(before.map((each) => each.server_id)).size, 2);
  await app.process.kill();
  await eventually('one app server to be left', async () => new Set((await serverConnections(service)).map((each) => each.server_id)).size === 1);
  await eventually('each hub to be on each shard again', complete);
}));

test('an app server at its limit is asked less and less often, and goes on working', { skip: parameters.app !== 'sdk' && 'needs the SDK\'s limit' }, () => (
  withRig({ shards: 8, connections: 5, environment: { MAXCONNS: '5' } }, async (rig) => {
    const { service } = rig;
    const round = async (count) => {
      await eventually(`${count} to be asked for`, async () => (await asked(service)) >= count, 30_000);
      return Date.now();
    };
    const times = [await round(6), await round(12), await round(18)];
    // The first round may have been over long before it was looked at, so the first pause says nothing.
    const pause = times[2] - times[1];
    assert.ok(pause > 7500, `a pause of ${pause} ms instead of 10 s`);
    assert.equal(await asked(service), 18);
    assert.equal((await serverConnections(service)).length, 10);
    const client = await rig.client();
    assert.equal(await client.invoke('Echo', 'well'), 'well');
  })
));
