// App servers are restarted in turn while clients call all the time. What the clients notice depends on how an app server shuts down:
// off closes them, wait keeps them until its time is over, migrate moves them to another one. In no case does a call hang.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols } from '../support/rig.mjs';
import { RawClient } from '../support/raw.mjs';
import { audience, token } from '../support/token.mjs';
import { eventually } from '../support/wait.mjs';

const restarts = 3;
const clientCount = 8;
// Between two calls of a client, so that the processes that start get some of the machine.
const paceMs = 5;

describe('rolling restarts under load', { concurrency: 2 }, () => {
  test('off: the clients of the app server that goes come back through the other', () => withCallers({ mode: 'off' }, async (world) => {
    for (let round = 1; round <= restarts; round += 1) {
      if (round > 1) await world.startAnother();
      const { going, moving, staying } = await world.nextToGo();
      await going.app.process.stop();
      await Promise.all(moving.map((caller) => caller.reconnected()));
      await world.callsGoOn();
      for (const caller of staying) caller.assertUndisturbed();
    }
  }));

  test('wait: nobody is closed before the time is over, and who comes new goes to the other', () => withCallers({ mode: 'wait', timeoutSeconds: 3 }, async (world) => {
    for (let round = 1; round <= restarts; round += 1) {
      if (round > 1) await world.startAnother();
      const { going, moving, staying } = await world.nextToGo();
      const [signalled, callsThen] = [Date.now(), moving.map((caller) => caller.calls)];
      const ended = going.app.process.stop();
      await eventually('the service knows', async () => (await world.connectionsOf(going)).every((each) => !each.is_routable));
      assert.ok(!(await world.takes(going)), 'a new client went to an app server that shuts down');
      await ended;
      await Promise.all(moving.map((caller) => caller.reconnected()));
      await world.callsGoOn();
      for (const [index, caller] of moving.entries()) {
        const { at, calls } = caller.drops.at(-1);
        assert.ok(at - signalled >= 3_000, 'a client was closed while its app server waits');
        assert.ok(calls > callsThen[index], 'an app server that waits did not answer');
      }
      for (const caller of staying) caller.assertUndisturbed();
    }
  }));

  test('wait: an app server ends as soon as its last client has left', () => withCallers({ mode: 'wait', timeoutSeconds: 60 }, async (world) => {
    const { going, moving } = await world.nextToGo();
    const ended = going.app.process.stop();
    await Promise.all(moving.map((caller) => caller.goesOn()));
    assert.ok(!going.app.process.hasEnded, 'it did not wait');
    await Promise.all(moving.map((caller) => caller.leave()));
    assert.deepEqual(await ended, { code: 0, signal: null });
  }));

  test('migrate: no client is dropped, no call fails, everything arrives in order', () => withCallers({ mode: 'migrate', timeoutSeconds: 60 }, async (world) => {
    for (let round = 1; round <= restarts; round += 1) {
      if (round > 1) await world.startAnother();
      const { going } = await world.nextToGo();
      assert.deepEqual(await going.app.process.stop(), { code: 0, signal: null });
      await world.callsGoOn();
    }
    await world.stopCalling();
    for (const caller of world.callers) {
      assert.deepEqual(caller.client.changes.items, []);
      assert.deepEqual(caller.failures, []);
      for (const other of world.callers) {
        const expected = Array.from({ length: other.calls }, (_, index) => `${other.name} ${index}`);
        const heard = () => caller.client.texts('group').filter((text) => text.startsWith(`${other.name} `));
        await caller.client.inbox.until(() => heard().length >= expected.length, `${expected.length} messages of ${other.name} at ${caller.name}`);
        assert.deepEqual(heard(), expected);
      }
    }
  }));
});

async function withCallers(options, body) {
  const world = await World.start(options);
  try {
    await body(world);
    await world.stopCalling();
    for (const caller of world.callers) assert.deepEqual(caller.wrong, []);
    await world.rig.assertNoRelayCrossed();
  } finally {
    await world.stop();
  }
}

// A service, two app servers that shut down in one way, and clients that call.
class World {
  callers = [];
  // The oldest first.
  apps = [];

  static async start({ mode, timeoutSeconds = 30 }) {
    const world = new World();
    world.options = {
      connections: 2,
      environment: { GRACEFUL: mode, GRACEFUL_TIMEOUT: `${timeoutSeconds}` },
      appArgs: ['--graceful', mode, '--graceful-timeout', `${timeoutSeconds}`],
    };
    const rig = await Rig.start(world.options);
    world.rig = rig;
    world.apps.push({ app: rig.app, serverId: await world.#newServerId() });
    world.direct = { url: `${rig.service.url}/client/?hub=chat&asrs.op=%2Fchat`, accessToken: token(rig.service.accessKey, audience('client')) };
    // The second half comes when the second app server is there, which then has the fewest.
    const clients = [];
    for (let index = 0; index < clientCount; index += 1) {
      if (index === clientCount / 2) await world.startAnother();
      clients.push(await rig.client({ ...world.direct, protocol: protocols[index % 2], reconnect: true }));
    }
    await Promise.all(clients.map((client) => client.invoke('Join', 'callers')));
    world.callers = clients.map((client, index) => new Caller(client, `caller ${index}`));
    await world.callsGoOn();
    return world;
  }

  async connectionsOf({ serverId }) {
    return (await this.rig.service.listing()).server_connections.filter((each) => each.server_id === serverId);
  }

  async startAnother() {
    const app = await this.rig.secondApp(this.options);
    this.apps.push({ app, serverId: await this.#newServerId() });
  }

  async #newServerId() {
    const { server_connections: all } = await this.rig.service.listing();
    return all.map((each) => each.server_id).find((id) => !this.apps.some((app) => app.serverId === id));
  }

  // The app server whose turn it is, with the callers that it serves and the others.
  async nextToGo() {
    const going = this.apps.shift();
    const itsConnections = (await this.connectionsOf(going)).map((each) => each.id);
    const { clients } = await this.rig.service.listing();
    const itsClients = clients.filter((each) => itsConnections.includes(each.server_connection)).map((each) => each.id);
    for (const caller of this.callers) caller.dropsBefore = caller.drops.length;
    const moving = this.callers.filter((caller) => itsClients.includes(caller.client.id));
    assert.ok(moving.length > 0, 'the app server that is to go has no clients');
    return { going, moving, staying: this.callers.filter((caller) => !moving.includes(caller)) };
  }

  // Whether it gets a client that comes now.
  async takes({ serverId }) {
    const probe = await RawClient.open(this.direct.url, { token: this.direct.accessToken });
    await probe.handshake('json');
    await probe.received.until((items) => items.length > 0, 'hello');
    const { clients, server_connections: connections } = await this.rig.service.listing();
    probe.close();
    const serverOf = (client) => connections.find((each) => each.id === client.server_connection)?.server_id;
    const id = probe.received.items[0].arguments[0];
    return serverOf(clients.find((client) => client.id === id)) === serverId;
  }

  async callsGoOn() {
    await Promise.all(this.callers.map((caller) => caller.goesOn()));
  }

  async stopCalling() {
    await Promise.all(this.callers.map((caller) => caller.stop()));
  }

  async stop() {
    await this.stopCalling().catch(() => {});
    await this.rig.stop();
  }
}

// One client that calls, and tells its group, one after the other.
class Caller {
  calls = 0;
  // When it was closed, and after how many calls.
  drops = [];
  failures = [];
  wrong = [];
  #isRunning = true;

  constructor(client, name) {
    this.client = client;
    this.name = name;
    client.connection.onreconnecting(() => this.drops.push({ at: Date.now(), calls: this.calls }));
    this.ended = this.#call();
    this.ended.catch(() => {});
  }

  async #call() {
    while (this.#isRunning) {
      await eventually('the client is connected', () => this.client.isConnected || !this.#isRunning);
      if (!this.#isRunning) break;
      const text = `${this.name} ${this.calls}`;
      try {
        await this.client.invoke('ToGroup', 'callers', text);
        const answer = await this.client.invoke('Echo', text);
        if (answer !== text) this.wrong.push({ text, answer });
        this.calls += 1;
        await new Promise((resume) => setTimeout(resume, paceMs));
      } catch (error) {
        if (/no completion/.test(error.message)) throw error;
        this.failures.push(error.message);
      }
    }
  }

  assertUndisturbed() {
    assert.equal(this.drops.length, this.dropsBefore, 'a client of the other app server noticed');
  }

  reconnected() {
    return this.client.reconnected(this.dropsBefore + 1);
  }

  // Resolves when calls made from now on have been answered.
  async goesOn() {
    const enough = this.calls + 3;
    await Promise.race([eventually(`${this.name} calls and is answered`, () => this.calls >= enough), this.ended.then(() => assert.ok(this.calls >= enough, `${this.name} has stopped`))]);
  }

  stop() {
    this.#isRunning = false;
    return this.ended;
  }

  async leave() {
    await this.stop();
    await this.client.stop();
  }
}
