// A proxy that takes up a new configuration keeps the connections it has; one that ends closes them.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { behindEachProxy } from '../support/rig.mjs';
import { eventually } from '../support/wait.mjs';

const rigs = await behindEachProxy({ onlyClients: true });
after(() => Promise.all(rigs.map(({ rig }) => rig?.stop())));

for (const { kind, skip, rig } of rigs) {
  const listed = async () => (await rig.service.listing()).clients.map(({ id }) => id);

  test(`${kind}: a reload is not noticed by anybody, and the end of the proxy is noticed by all`, { skip }, async () => {
    const { proxy } = rig.service;
    const lasting = await Promise.all(['websockets', 'sse'].map((transport) => rig.client({ transport })));
    const polling = await rig.client({ transport: 'longpolling' });
    const before = [...lasting, polling];
    const old = proxy.workers();

    await proxy.reload();
    const late = await Promise.all(['websockets', 'sse'].map((transport) => rig.client({ transport })));
    for (const client of before) assert.equal(await client.invoke('Echo', 'still here'), 'still here');
    assert.ok(proxy.workers().some((worker) => old.includes(worker)), 'the old workers hold the connections they had');
    for (const client of [...before, ...late]) assert.deepEqual(client.changes.items, [], 'a client that noticed');
    const ids = await listed();
    for (const client of before) assert.ok(ids.includes(client.id), 'a client under the id it had');

    await polling.stop();
    await proxy.stop();
    for (const client of [...lasting, ...late]) await client.has('closed');
    await eventually('the service to have no client', async () => (await listed()).length === 0);
  });
}
