// Each transport through each proxy, with clients sent to the proxy and app servers past it, as ClientEndpoint says.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { behindEachProxy } from '../support/rig.mjs';
import { HttpConnection } from '../support/http.mjs';
import { eventually } from '../support/wait.mjs';

const transports = ['websockets', 'sse', 'longpolling'];
const large = 'x'.repeat(200_000);
const calls = 21;
// Where the kernel is asked to wait for more before it sends, it does so for 200 ms, and every event is late.
const delayMs = 150;
const items = Array.from({ length: 100 }, (_, index) => index);

const rigs = await behindEachProxy({ onlyClients: true, args: ['--trust-forwarded-for'] });
after(() => Promise.all(rigs.map(({ rig }) => rig?.stop())));

for (const { kind, skip, rig } of rigs) {
  for (const transport of transports) {
    test(`${kind}, ${transport}: calls, streams, groups, large messages and client results`, { skip }, async () => {
      const [client, other] = await rig.clients(2, { transport, user: 'ida', answer: (question) => `${question}!` });
      assert.equal(client.hello.user, 'ida');
      assert.equal(await client.invoke('Echo', large), large);
      assert.deepEqual(await client.collect('Count', items.length), items);
      assert.equal(await client.invoke('AskMe', 'why'), 'why!');
      for (const member of [client, other]) await member.invoke('Join', transport);
      await client.invoke('ToGroup', transport, 'news');
      await Promise.all([client, other].map((member) => member.receives('group', 'news')));
    });

    test(`${kind}, ${transport}: the hub sees the address that the proxy has seen, not the one that a client names`, { skip }, async () => {
      const client = await rig.client({ transport, http: { headers: { 'X-Forwarded-For': '203.0.113.9' } } });
      const { headers } = await client.invoke('Request');
      const [, addresses] = Object.entries(headers).find(([name]) => name.toLowerCase() === 'x-forwarded-for');
      // First the client, as the proxy says; then the proxy, as the service says.
      assert.equal(addresses, '127.0.0.1, 127.0.0.1');
    });
  }

  test(`${kind}: an event is there at once, while its stream stays open`, { skip }, async () => {
    const connection = await (await HttpConnection.streaming(rig)).greeted();
    const { stream } = connection;
    const times = [];
    for (let call = 0; call < calls; call += 1) {
      const started = performance.now();
      await connection.say(`{"type":1,"invocationId":"${call}","target":"Echo","arguments":["e"]}\x1e`);
      await stream.until((text) => text.includes(`"invocationId":"${call}"`), `the answer to call ${call}`);
      times.push(performance.now() - started);
    }
    const shortest = Math.min(...times);
    assert.ok(shortest < delayMs, `events take ${shortest} ms at the least`);
    stream.abort();
  });

  test(`${kind}: no access token is in its log, and no app server has come through it`, { skip }, async () => {
    await rig.stopClients();
    const { proxy } = rig.service;
    // Event streams of the client in Node have it in their query. They are logged when they have ended.
    for (const line of [/POST \/client\/negotiate HTTP\/1\.1 200 /, /GET \/client\/ HTTP\/1\.1 101 /, /GET \/client\/ HTTP\/1\.1 200 /]) {
      await eventually(`a line like ${line} in the log`, () => line.test(proxy.log()));
    }
    assert.doesNotMatch(proxy.log(), /access_token|eyJ|\/server/);
  });
}
