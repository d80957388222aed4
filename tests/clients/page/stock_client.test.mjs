// Microsoft's client in a browser, on a page of another origin than app server and service: preflights, the token in the query, both protocols.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { once } from 'node:events';
import { openBrowser, unlessBrowser } from '../support/browser.mjs';
import { Rig, protocols } from '../support/rig.mjs';

const scripts = {
  '/signalr.js': '@microsoft/signalr/dist/browser/signalr.js',
  '/msgpack.js': '@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.js',
};

async function serve(request, response) {
  const script = scripts[request.url];
  if (script) {
    response.setHeader('Content-Type', 'text/javascript');
    response.end(await readFile(new URL(`../node_modules/${script}`, import.meta.url)));
  } else {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>test</title><script src="/signalr.js"></script><script src="/msgpack.js"></script>');
  }
}

test('the stock client talks to the hub from a page of another origin', { skip: unlessBrowser }, async () => {
  const rig = await Rig.start();
  const site = http.createServer(serve).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const { browser, close } = await openBrowser();
  after(async () => {
    await close();
    site.close();
    await rig.stop();
  });
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);

  for (const protocol of protocols) {
    const heard = await page.evaluate(async ([url, protocol]) => {
      const { signalR } = window;
      const builder = new signalR.HubConnectionBuilder().withUrl(url);
      if (protocol === 'messagepack') builder.withHubProtocol(new signalR.protocols.msgpack.MessagePackHubProtocol());
      const connection = builder.build();
      const hello = new Promise((resolve) => connection.on('hello', (id, user) => resolve({ id, user })));
      const broadcast = new Promise((resolve) => connection.on('recv', (kind, text) => resolve({ kind, text })));
      await connection.start();
      const echo = await connection.invoke('Echo', 'é中 from a browser');
      await connection.invoke('Broadcast', 'to all');
      const result = { echo, id: connection.connectionId, hello: await hello, broadcast: await broadcast };
      await connection.stop();
      return result;
    }, [`${rig.app.url}/chat?user=alice`, protocol]);
    assert.equal(heard.echo, 'é中 from a browser');
    assert.deepEqual(heard.hello, { id: heard.id, user: 'alice' });
    assert.deepEqual(heard.broadcast, { kind: 'all', text: 'to all' });
  }
});
