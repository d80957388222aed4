// App servers with two services: what they send reaches the clients of both, once, and when one service is gone the other goes on.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Service, isSdk, protocols } from '../support/rig.mjs';
import { Client } from '../support/client.mjs';
import { audience, token } from '../support/token.mjs';
import { eventually } from '../support/wait.mjs';

const thoughtMs = 50;

// With one server connection to each service, all that an app server sends arrives in order, so a broadcast is a fence.
const connections = 1;

test('one app server, two services: everything reaches the clients of both exactly once', () => withServices(async (world) => {
  const [west, east] = world.services;
  const app = await world.app({ primary: [west, east] });
  const [a, b] = [await world.direct(west, 'json'), await world.direct(west, 'messagepack')];
  const [c, d] = [await world.direct(east, 'json'), await world.direct(east, 'messagepack')];
  const all = [a, b, c, d];
  assert.deepEqual(await app.connected().then((ids) => ids.sort()), all.map((client) => client.id).sort());

  await a.invoke('Join', 'both');
  await app.call(`/join/both/${d.id}`);
  await app.call('/join/both/AAAAAAAAAAAAAAAAAAAAAA');
  const sends = [
    ['all', all, () => a.invoke('Broadcast', 'x')],
    ['others', [a, b, d], () => c.invoke('Others', 'x')],
    ['allexcept', [b, c], () => b.invoke('AllExcept', [a.id, d.id], 'x')],
    ['user', all, () => d.invoke('ToUser', 'everybody', 'x')],
    ['conn', [d], () => a.invoke('ToConn', d.id, 'x')],
    ['conns', [b, c], () => a.invoke('Clients', [b.id, c.id], 'x')],
    ['group', [a, d], () => c.invoke('ToGroup', 'both', 'x')],
    ['groupexcept', [d], () => a.invoke('ToGroupExcept', 'both', 'x')],
    ['http', all, () => app.call('/broadcast/x')],
    ['togroup', [a, d], () => app.call('/group/both/x')],
    ['touser', all, () => app.call('/user/everybody/x')],
    ['toconn', [c], () => app.call(`/conn/${c.id}/x`)],
  ];
  await reaches(sends, all, (text) => app.call(`/broadcast/${text}`));

  await app.call(`/leave/both/${d.id}`);
  await reaches([['togroup', [a], () => app.call('/group/both/x')]], all, (text) => app.call(`/broadcast/${text}`));
  assert.equal(await a.invoke('Ask', c.id), 'answer to q');
  assert.equal(await d.invoke('Ask', b.id), 'answer to q');
  assert.equal(await app.call(`/invoke/${d.id}?q=why`), 'answer to why');
}));

test('one of two services dies: its clients move to the other, and spread again when it is back', () => withServices(async (world) => {
  const [west, east] = world.services;
  const app = await world.app({ primary: [west, east] });
  await world.spread(app);
  const before = await world.counts();
  const stayed = new Set((await west.listing()).clients.map((client) => client.id));

  await east.process.kill();
  await eventually('all are at the service that is left', async () => (await west.metric('hubring_client_connections')) === world.clients.length);
  await Promise.all(world.clients.filter((client) => !stayed.has(client.id)).map((client) => client.reconnected()));
  const moved = world.clients.filter((client) => client.changes.items.length > 0);
  assert.equal(moved.length, before[1]);
  await reaches([['all', world.clients, () => world.clients[0].invoke('Broadcast', 'x')]], world.clients, (text) => app.call(`/broadcast/${text}`));

  Object.assign(east, await Service.start({ ports: east.ports }));
  await app.healthy();
  await world.spread(app);
  for (const client of world.clients) assert.equal(await client.invoke('Echo', 'spread'), 'spread');
  await reaches([['all', world.clients, () => world.clients[0].invoke('Broadcast', 'x')]], world.clients, (text) => app.call(`/broadcast/${text}`));
}));

test('two app servers, each with the service of the other as its secondary', () => withServices(async (world) => {
  const [west, east] = world.services;
  const [appWest, appEast] = [await world.app({ primary: [west], secondary: [east] }), await world.app({ primary: [east], secondary: [west] })];
  const [a, b] = [await world.client(appWest, 'json'), await world.client(appEast, 'messagepack')];
  const [c, d] = [await world.client(appWest, 'messagepack'), await world.client(appEast, 'json')];
  const all = [a, b, c, d];
  // Nobody gets clients on a weak connection.
  assert.deepEqual((await appWest.connected()).sort(), [a.id, c.id].sort());
  assert.deepEqual((await appEast.connected()).sort(), [b.id, d.id].sort());
  assert.deepEqual(await world.counts(), [2, 2]);

  await a.invoke('Join', 'both');
  await b.invoke('Join', 'both');
  await appWest.call(`/join/both/${d.id}`);
  const sends = [
    ['all', all, () => a.invoke('Broadcast', 'x')],
    ['others', [a, c, d], () => b.invoke('Others', 'x')],
    ['user', all, () => a.invoke('ToUser', 'everybody', 'x')],
    ['conn', [d], () => a.invoke('ToConn', d.id, 'x')],
    ['group', [a, b, d], () => a.invoke('ToGroup', 'both', 'x')],
    ['togroup', [a, b, d], () => appWest.call('/group/both/x')],
  ];
  await reaches(sends, all, (text) => appWest.call(`/broadcast/${text}`));
  await reaches([['http', all, () => appEast.call('/broadcast/x')]], all, (text) => appEast.call(`/broadcast/${text}`));

  assert.equal(await a.invoke('AskMe', 'first'), 'answer to first');
  assert.equal(await a.invoke('Ask', b.id), 'answer to q');
  assert.equal(await appWest.call(`/invoke/${d.id}?q=why`), 'answer to why');
  await assert.rejects(a.invoke('Ask', 'AAAAAAAAAAAAAAAAAAAAAA'), /not found/);

  await west.process.kill();
  await Promise.all([a, c].map((client) => client.reconnected()));
  assert.equal((await appEast.connected()).length, 4, 'somebody else than the app server that is left serves clients there');
  await reaches([['all', all, () => a.invoke('Broadcast', 'x')], ['http', all, () => appWest.call('/broadcast/x')]], all, (text) => appWest.call(`/broadcast/${text}`));
  for (const client of [b, d]) assert.deepEqual(client.changes.items, []);

  Object.assign(west, await Service.start({ ports: west.ports }));
  await Promise.all([appWest, appEast].map((app) => app.healthy()));
  const late = await world.client(appWest, 'json');
  assert.ok((await appWest.connected()).includes(late.id));
  await reaches([['all', [...all, late], () => b.invoke('Broadcast', 'x')]], [...all, late], (text) => appEast.call(`/broadcast/${text}`));
}));

let fences = 0;

// Each [kind, receivers, send] reaches exactly its receivers, once. `broadcast` sends the fence behind them.
async function reaches(sends, clients, broadcast) {
  const before = new Map(clients.map((client) => [client, client.inbox.items.length]));
  for (const [, , send] of sends) await send();
  const text = `fence ${++fences}`;
  await broadcast(text);
  await Promise.all(clients.map((client) => client.receives('http', text)));
  for (const [kind, receivers] of sends) {
    for (const [index, client] of clients.entries()) {
      const got = client.inbox.items.slice(before.get(client)).filter((item) => item.kind === kind && item.text === 'x').length;
      assert.equal(got, receivers.includes(client) ? 1 : 0, `${kind} at client ${index}`);
    }
  }
}

async function withServices(body) {
  const world = new World();
  try {
    world.services = await Promise.all([Service.start(), Service.start()]);
    await body(world);
  } finally {
    await world.stop();
  }
}

class World {
  services = [];
  apps = [];
  clients = [];

  async app({ primary: [first, ...others], secondary: [second] = [] }) {
    const app = await App.start(first, { connections, ...(isSdk ? sdkEndpoints(others, second) : referenceEndpoints(others, second)) });
    this.apps.push(app);
    return app;
  }

  // A client of whatever service the app server sends it to.
  client(app, protocol) {
    return this.#started(new Client(app, { protocol, user: 'everybody', reconnect: true, answer }));
  }

  // A client of that service.
  direct(service, protocol) {
    const accessToken = token(service.accessKey, audience('client'), { nameid: 'everybody' });
    return this.#started(new Client(undefined, { protocol, answer, url: `${service.url}/client/?hub=chat&asrs.op=%2Fchat`, accessToken }));
  }

  async #started(client) {
    this.clients.push(client);
    await client.start();
    return client;
  }

  // Clients of each service.
  counts() {
    return Promise.all(this.services.map((service) => service.metric('hubring_client_connections')));
  }

  // Lets clients come until each service has two. The app server chooses by chance.
  async spread(app) {
    for (let index = 0; index < 60; index += 1) {
      if ((await this.counts()).every((count) => count >= 2)) return;
      await this.client(app, protocols[index % 2]);
    }
    assert.fail(`clients do not spread: ${await this.counts()}`);
  }

  async stop() {
    await Promise.all(this.clients.map((client) => client.stop()));
    await Promise.all(this.apps.map((app) => app.process.stop()));
    await Promise.all(this.services.map((service) => service.process.stop()));
  }
}

// An app server may miss the answer to its first question when it comes within milliseconds.
async function answer(question) {
  await new Promise((resume) => setTimeout(resume, thoughtMs));
  return `answer to ${question}`;
}

// The SDK takes more endpoints from the configuration, and never more server connections than MAXCONNS.
function sdkEndpoints(others, secondary) {
  const environment = { HUB2: '0', MAXCONNS: `${connections}`, ...(secondary && { ASRS_SECONDARY: secondary.connectionString }) };
  for (const [index, service] of others.entries()) environment[`Azure__SignalR__ConnectionString__other${index}`] = service.connectionString;
  return { environment };
}

function referenceEndpoints(others, secondary) {
  const more = others.flatMap((service) => ['--connection-string', service.connectionString]);
  return { appArgs: ['--max-connections', `${connections}`, ...more, ...(secondary ? ['--secondary', secondary.connectionString] : [])] };
}
