// Microsoft's client in a browser, from a page of another origin, by TLS to each proxy: the way most clients come. HTTP/2 carries its
// requests and event streams, with HAProxy its WebSockets too (RFC 8441).

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { once } from 'node:events';
import { openBrowser, unlessBrowser } from '../support/browser.mjs';
import { behindEachProxy } from '../support/rig.mjs';

const script = new URL('../node_modules/@microsoft/signalr/dist/browser/signalr.js', import.meta.url);
const transports = ['WebSockets', 'ServerSentEvents', 'LongPolling'];
// A browser has six connections to one host at the most, unless it can put more than one request on each.
const streams = 8;

const rigs = unlessBrowser ? [] : await behindEachProxy({ onlyClients: true, secure: true });
const site = http.createServer(async (request, response) => {
  const isScript = request.url === '/signalr.js';
  response.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html');
  response.end(isScript ? await readFile(script) : '<!doctype html><title>test</title><script src="/signalr.js"></script>');
}).listen(0, '127.0.0.1');
await once(site, 'listening');
const { browser, close } = unlessBrowser ? {} : await openBrowser({ ignoreHTTPSErrors: true });
after(async () => {
  await close?.();
  site.close();
  await Promise.all(rigs.map(({ rig }) => rig?.stop()));
});

test('a browser', { skip: unlessBrowser }, async (suite) => {
  for (const { kind, skip, rig } of rigs) {
    for (const transport of transports) {
      await suite.test(`${kind}, ${transport}`, { skip }, async () => {
        const page = await browser.newPage();
        const asked = [];
        page.on('request', (request) => asked.push(request.url()));
        await page.goto(`http://127.0.0.1:${site.address().port}/`);
        const heard = await page.evaluate(async ([url, transport]) => {
          const { signalR } = window;
          const connection = new signalR.HubConnectionBuilder().withUrl(url, { transport: signalR.HttpTransportType[transport] }).build();
          const broadcast = new Promise((resolve) => connection.on('recv', (kind, text) => resolve({ kind, text })));
          await connection.start();
          const echo = await connection.invoke('Echo', 'x'.repeat(100_000));
          await connection.invoke('Broadcast', transport);
          const result = { echo: echo.length, broadcast: await broadcast };
          await connection.stop();
          return result;
        }, [`${rig.app.url}/chat`, transport]);
        assert.equal(heard.echo, 100_000);
        assert.deepEqual(heard.broadcast, { kind: 'all', text: transport });
        assert.ok(asked.some((url) => url.startsWith(`${rig.service.proxy.secureUrl}/client/negotiate?`)), asked.join('\n'));
        await page.close();
      });
    }

    await suite.test(`${kind}: more event streams than connections`, { skip }, async () => {
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${site.address().port}/`);
      const echoes = await page.evaluate(async ([url, count]) => {
        const { signalR } = window;
        const made = Array.from({ length: count }, () => new signalR.HubConnectionBuilder()
          .withUrl(url, { transport: signalR.HttpTransportType.ServerSentEvents }).build());
        await Promise.all(made.map((connection) => connection.start()));
        const results = await Promise.all(made.map((connection, index) => connection.invoke('Echo', `${index}`)));
        await Promise.all(made.map((connection) => connection.stop()));
        return results;
      }, [`${rig.app.url}/chat`, streams]);
      assert.deepEqual(echoes, Array.from({ length: streams }, (_, index) => `${index}`));
      await page.close();
    });
  }
});
