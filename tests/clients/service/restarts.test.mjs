// The app server and the service are restarted, in either order: clients that reconnect by themselves come back and work,
// whatever their transport.

import { after, afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Rig, Service, kinds } from '../support/rig.mjs';

const rig = await Rig.start();
after(() => rig.stop());
afterEach(() => rig.stopClients());

const startService = async () => { rig.service = await Service.start({ ports: rig.service.ports }); };
const startApp = async () => { rig.app = await App.start(rig.service, { ports: rig.app.ports, healthy: false }); };

const restarts = {
  'the app server is killed and comes back': [() => rig.app.process.kill(), startApp],
  'the app server stops and comes back': [() => rig.app.process.stop(), startApp],
  'the service is killed and comes back': [() => rig.service.process.kill(), startService],
  'both are killed, the service comes back first': [() => rig.service.process.kill(), () => rig.app.process.kill(), startService, startApp],
  'both are killed, the app server comes back first': [() => rig.app.process.kill(), () => rig.service.process.kill(), startApp, startService],
};

for (const [what, steps] of Object.entries(restarts)) {
  test(what, async () => {
    const clients = await rig.clients(2 * kinds.length, (index) => ({ ...kinds[index % kinds.length], user: `user${index}`, reconnect: true }));
    const before = clients.map((client) => client.id);
    for (const step of steps) await step();
    await Promise.all(clients.map((client) => client.reconnected()));
    for (const [index, client] of clients.entries()) {
      assert.notEqual(client.id, before[index], 'a new connection has a new id');
      assert.equal(client.hello.user, `user${index}`);
      assert.equal(await client.invoke('Echo', what), what);
    }
    await clients[0].invoke('Broadcast', what);
    await Promise.all(clients.map((client) => client.receives('all', what)));
  });
}
