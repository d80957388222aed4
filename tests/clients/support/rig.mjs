// What a test file runs against: the service and one app server, or, to calibrate the tests, plain ASP.NET Core SignalR.
//
//   HUBRING_TEST_APP          reference (hubring app-server), sdk (HUBRING_SDK_APP), selfhost (HUBRING_SDK_APP alone)
//   HUBRING_TEST_CONNECTIONS  server connections of a hub
//   HUBRING_TEST_SHARDS       shards of the service
//   HUBRING_TEST_TRANSPORT    of the clients: websockets, sse, longpolling
//   HUBRING_TEST_SIGNALR      release of Microsoft's client: 10, 8
//   HUBRING_TEST_PROXY        between service, clients and app servers: none, nginx, haproxy
//   HUBRING_BIN               the binary under test

import { existsSync } from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';
import { Process, freePorts, repository } from './process.mjs';
import { Client } from './client.mjs';
import { Proxy, proxyKinds, unlessProxy } from './proxy.mjs';
import { audience, token } from './token.mjs';
import { eventually } from './wait.mjs';

export const parameters = {
  app: process.env.HUBRING_TEST_APP ?? 'reference',
  connections: Number(process.env.HUBRING_TEST_CONNECTIONS ?? 5),
  shards: Number(process.env.HUBRING_TEST_SHARDS ?? 2),
  transport: process.env.HUBRING_TEST_TRANSPORT ?? 'websockets',
  signalr: Number(process.env.HUBRING_TEST_SIGNALR ?? 10),
  proxy: process.env.HUBRING_TEST_PROXY ?? 'none',
};

// Server-Sent Events are text, so that what is for every protocol is for JSON alone there.
export const protocols = parameters.transport === 'sse' ? ['json'] : ['json', 'messagepack'];
// Each transport with each protocol that it carries, for clients that stand side by side whatever the run's own transport is.
export const kinds = [
  { transport: 'websockets', protocol: 'json' },
  { transport: 'sse', protocol: 'json' },
  { transport: 'longpolling', protocol: 'messagepack' },
  { transport: 'websockets', protocol: 'messagepack' },
  { transport: 'longpolling', protocol: 'json' },
];
export const hasService = parameters.app !== 'selfhost';
export const isSdk = parameters.app !== 'reference';

// Reasons to skip a test, for node:test's `skip` option.
export const unlessService = hasService ? false : 'needs the service';
export const unlessBinary = protocols.includes('messagepack') ? false : 'needs a transport that carries MessagePack';
export const unlessSdk = isSdk ? false : 'a method of the SDK app server only';

export function binary() {
  const named = process.env.HUBRING_BIN;
  const candidates = named ? [path.resolve(named)] : ['release', 'debug'].map((profile) => path.join(repository, 'target', profile, 'hubring'));
  const found = candidates.find(existsSync);
  assert.ok(found, `no binary to test: build it or set HUBRING_BIN (looked at ${candidates.join(', ')})`);
  return found;
}

export class Service {
  // `onlyClients`: app servers reach it past the proxy. `secure`: and clients by TLS.
  static async start({ shards = parameters.shards, proxy: kind = parameters.proxy, onlyClients = false, secure = false, ports, args = [] } = {}) {
    const [port, adminPort] = ports ?? await freePorts(2);
    const child = new Process('service', binary(), ['serve', '--listen', `127.0.0.1:${port}`, '--admin', `127.0.0.1:${adminPort}`, '--shards', `${shards}`, ...args]);
    const service = new Service();
    const line = child.line(/^\s*Endpoint=/);
    await Promise.all([child.healthy(`http://127.0.0.1:${adminPort}/healthz`), line]);
    Object.assign(service, {
      process: child,
      ports: [port, adminPort],
      url: `http://127.0.0.1:${port}`,
      admin: `http://127.0.0.1:${adminPort}`,
      connectionString: await line,
    });
    if (kind !== 'none') await service.#standBehind(kind, { onlyClients, secure });
    return service;
  }

  // What is public of it is the proxy from now on.
  async #standBehind(kind, { onlyClients, secure }) {
    this.proxy = await Proxy.start(kind, this.url, { secure });
    this.url = this.proxy.url;
    this.connectionString = onlyClients
      ? `${this.connectionString}ClientEndpoint=${secure ? this.proxy.secureUrl : this.url};`
      : this.connectionString.replace(/Port=\d+/, `Port=${new URL(this.url).port}`);
  }

  get accessKey() {
    return /AccessKey=([^;]+)/.exec(this.connectionString)[1];
  }

  // For a client that no app server sends here: address and token, with these claims in it.
  direct(claims) {
    return { url: `${this.url}/client/?hub=chat&asrs.op=%2Fchat`, accessToken: token(this.accessKey, audience('client'), claims) };
  }

  // Who is there: { clients: [{ id, user, server_connection, … }], server_connections: [{ id, server_id, is_routable, … }], … }.
  listing() {
    // 503 as long as a shard does not answer within a second.
    return eventually('the service lists its connections', async () => {
      const response = await fetch(`${this.admin}/connections`);
      const text = await response.text();
      return response.status === 200 && JSON.parse(text);
    });
  }

  // All samples of the metrics page: [{ name, labels, value }].
  async samples() {
    const text = await (await fetch(`${this.admin}/metrics`)).text();
    return [...text.matchAll(/^([a-z_]+)(?:\{(.*)\})? ([-+0-9.eE]+)/gm)].map(([, name, labels = '', value]) => ({
      name,
      labels: Object.fromEntries([...labels.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, key, text]) => [key, text])),
      value: Number(value),
    }));
  }

  // A counter summed over its labels, or nothing when the page does not have it.
  async metric(name) {
    const samples = (await this.samples()).filter((sample) => sample.name === name);
    return samples.length === 0 ? undefined : samples.reduce((sum, sample) => sum + sample.value, 0);
  }
}

export class App {
  // `service` is not used by selfhost. `environment` is for the SDK's app server, `appArgs` for the reference one.
  static async start(service, { kind = parameters.app, connections = parameters.connections, ports, environment = {}, appArgs = [], healthy = true } = {}) {
    const [port] = ports ?? await freePorts(1);
    const child = kind === 'reference' ? reference(service, port, connections, appArgs) : sdk(kind, service, port, connections, environment);
    const app = Object.assign(new App(), { process: child, ports: [port], url: `http://127.0.0.1:${port}`, kind, service });
    if (healthy) await app.healthy();
    return app;
  }

  healthy() {
    return this.process.healthy(`${this.url}/healthz`);
  }

  // One of the SDK app server's own endpoints: its answer as text.
  async call(pathAndQuery) {
    const response = await fetch(this.url + pathAndQuery, { method: 'POST' });
    const text = await response.text();
    assert.equal(response.status, 200, `${pathAndQuery}: ${response.status} ${text}`);
    return text;
  }

  // The connection ids that this process serves (SDK app server only).
  async connected() {
    return JSON.parse(await this.call('/connections'));
  }

  // What the app server has printed about a connection: [{ event: 'connected' | 'disconnected' | …, id, user, reason, type }].
  events(name, id = '') {
    return this.process.lines.items.filter((line) => line.includes(`"event":"${name}"`) && line.includes(id)).map((line) => JSON.parse(line));
  }

  // The first of them, as soon as it is there.
  async event(name, id, ms) {
    await this.process.lines.until(() => this.events(name, id).length > 0, `the app server to say ${name} ${id}`, ms);
    return this.events(name, id)[0];
  }
}

function reference(service, port, connections, args) {
  return new Process('app-server', binary(), ['app-server', '--connection-string', service.connectionString, '--listen', `127.0.0.1:${port}`, '--server-connections', `${connections}`, '--hub2', '--actions', '--events', ...args]);
}

function sdk(kind, service, port, connections, environment) {
  const program = process.env.HUBRING_SDK_APP;
  assert.ok(program, 'HUBRING_SDK_APP names no SDK app server: see tests/README.md');
  const mode = kind === 'selfhost' ? { SELFHOST: '1' } : { ASRS: service.connectionString, CONNS: `${connections}` };
  return new Process('sdk-app-server', program, ['--urls', `http://127.0.0.1:${port}`], { HUB2: '1', ...mode, ...environment });
}

export class Rig {
  #clients = new Set();
  #extra = [];

  static async start(options = {}) {
    const rig = new Rig();
    rig.service = hasService ? await Service.start(options) : undefined;
    rig.app = await App.start(rig.service, options);
    return rig;
  }

  // A connected client that has got its hello.
  async client(options = {}) {
    const { app = this.app, ...rest } = options;
    const client = new Client(app, { transport: parameters.transport, signalr: parameters.signalr, ...rest });
    this.#clients.add(client);
    await client.start();
    return client;
  }

  clients(count, options = {}) {
    return Promise.all(Array.from({ length: count }, (_, index) => this.client(typeof options === 'function' ? options(index) : options)));
  }

  // One more app server on the same service, stopped with the rig.
  async secondApp(options) {
    const app = await App.start(this.service, options);
    this.#extra.push(app);
    return app;
  }

  async stopClients() {
    await Promise.all([...this.#clients].map((client) => client.stop()));
    this.#clients.clear();
  }

  async stop() {
    await this.stopClients();
    for (const app of [...this.#extra, this.app]) await app?.process.stop();
    await this.service?.process.stop();
    await this.service?.proxy?.stop();
  }

  // The rule of the data plane: what one client and its app server say to each other stays on one shard.
  async assertNoRelayCrossed() {
    if (!this.service) return;
    const relayed = await this.service.metric('hubring_relayed_messages_total');
    const crossed = await this.service.metric('hubring_relays_crossed_shard_total');
    assert.ok(relayed > 0, `hubring_relayed_messages_total is ${relayed} after a test that relayed messages`);
    assert.equal(crossed, 0, 'hubring_relays_crossed_shard_total');
  }

  // Neither side broke the protocol, in the eyes of the other.
  async assertNothingWrong() {
    for (const counter of ['protocol_errors', 'service_messages_malformed', 'service_messages_skipped']) {
      assert.equal(await this.service.metric(`hubring_${counter}_total`), 0, `hubring_${counter}_total`);
    }
    const complaints = this.app.process.lines.items.filter((line) => /^(error|critical) Microsoft\.Azure\.SignalR/.test(line));
    assert.deepEqual(complaints, []);
  }
}

// Behind each proxy a rig of its own: [{ kind, rig }], or [{ kind, skip }] with the reason why there is none.
export function behindEachProxy(options) {
  return Promise.all(proxyKinds.map(async (kind) => {
    const skip = unlessProxy(kind);
    return skip ? { kind, skip } : { kind, skip, rig: await Rig.start({ ...options, proxy: kind }) };
  }));
}
