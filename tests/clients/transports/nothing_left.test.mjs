// After the last client has gone, the service holds no descriptor more than it started with, and lists nobody.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { Rig, kinds, unlessService } from '../support/rig.mjs';
import { HttpConnection } from '../support/http.mjs';
import { RawClient, handshakes } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// Those of connections to the admin port left out: this test opens and keeps some itself.
function descriptors() {
  const { process, ports } = rig.service;
  const folder = `/proc/${process.pid}/fd`;
  const adminPort = ports[1].toString(16).toUpperCase().padStart(4, '0');
  const rows = readFileSync(`/proc/${process.pid}/net/tcp`, 'utf8').split('\n').map((row) => row.trim().split(/\s+/));
  const admin = new Set(rows.filter(([, local]) => local?.endsWith(`:${adminPort}`)).map((row) => `socket:[${row[9]}]`));
  return readdirSync(folder).map((name) => target(`${folder}/${name}`)).filter((what) => what && !admin.has(what)).sort();
}

function target(link) {
  try {
    return readlinkSync(link);
  } catch {
    // Closed since the folder was read.
    return undefined;
  }
}

const ways = {
  'that stop': async () => {
    const clients = await rig.clients(2 * kinds.length, (index) => kinds[index % kinds.length]);
    await Promise.all(clients.map((client) => client.invoke('Echo', 'x')));
    await Promise.all(clients.map((client) => client.stop()));
  },
  'that vanish': async () => {
    const impatient = rig.service.direct({ 'asrs.s.ttl': '2' });
    const clients = await rig.clients(2 * kinds.length, (index) => ({ ...kinds[index % kinds.length], ...impatient }));
    for (const client of clients) client.cut();
  },
  'that the hub aborts': async () => {
    const clients = await rig.clients(kinds.length, (index) => kinds[index]);
    for (const client of clients) await client.send('AbortMe').catch(() => {});
    await Promise.all(clients.map((client) => client.has('closed')));
  },
  'that never get to a handshake': async () => {
    const connections = await Promise.all(Array.from({ length: 4 }, () => HttpConnection.negotiated(rig, { claims: { 'asrs.s.ttl': '2' } })));
    const [stream, poll] = [connections[0].events(), connections[1].poll()];
    await Promise.all([stream.begun(), poll.answer()]);
    const [socket, answered] = [await RawClient.open(connections[2].url, { headers: connections[2].headers }), connections[1].poll()];
    for (const each of [stream, answered]) each.abort();
    socket.close();
  },
  'and of requests that are refused or given up': async () => {
    const nobody = new HttpConnection(rig);
    nobody.query.append('id', 'AAAAAAAAAAAAAAAAAAAAAA');
    for (const ask of [() => nobody.poll(), () => nobody.events(), () => nobody.post('x'), () => nobody.delete()]) await ask().answer();
    await nobody.upgrade();
    const connection = await HttpConnection.polling(rig);
    for (let index = 0; index < 5; index += 1) connection.poll().abort();
    connection.post(handshakes.json).abort();
    await connection.delete().answer();
  },
};

test(`nothing is left of clients ${Object.keys(ways).join(', ')}`, { skip: unlessService }, async () => {
  const before = descriptors();
  for (const come of Object.values(ways)) await come();
  await eventually('nobody is listed', async () => (await rig.service.listing()).clients.length === 0);
  let now;
  await eventually('the descriptors are those of before', () => {
    now = descriptors();
    return now.length <= before.length;
  }).catch((error) => assert.fail(`${error.message}; ${before.length} before, now ${now.length}:\n${now.join('\n')}`));
});
