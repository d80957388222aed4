// Microsoft's client in a browser, on a page of another origin than app server and service, with credentials as is its default: preflights,
// the token in the query, every transport with every protocol that it carries, both releases in use.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { once } from 'node:events';
import { openBrowser, unlessBrowser } from '../support/browser.mjs';
import { HttpConnection } from '../support/http.mjs';
import { Rig, kinds } from '../support/rig.mjs';

// What each release's page loads.
const scripts = {
  '/10/signalr.js': '@microsoft/signalr/dist/browser/signalr.js',
  '/10/msgpack.js': '@microsoft/signalr-protocol-msgpack/dist/browser/signalr-protocol-msgpack.js',
  '/8/signalr.js': 'signalr8/dist/browser/signalr.js',
  '/8/msgpack.js': 'signalr8-msgpack/dist/browser/signalr-protocol-msgpack.js',
};

const transportTypes = { websockets: 'WebSockets', sse: 'ServerSentEvents', longpolling: 'LongPolling' };

async function serve(request, response) {
  const script = scripts[request.url];
  if (script) {
    response.setHeader('Content-Type', 'text/javascript');
    response.end(await readFile(new URL(`../node_modules/${script}`, import.meta.url)));
  } else {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>test</title><script src="signalr.js"></script><script src="msgpack.js"></script>');
  }
}

// Runs in the page: one connection from its start to its stop, and what it saw.
async function converse([url, transport, protocol]) {
  const { signalR } = window;
  const builder = new signalR.HubConnectionBuilder().withUrl(url, { transport: signalR.HttpTransportType[transport] });
  if (protocol === 'messagepack') builder.withHubProtocol(new signalR.protocols.msgpack.MessagePackHubProtocol());
  const connection = builder.build();
  const arrival = (name) => new Promise((resolve) => connection.on(name, (...args) => resolve(args)));
  const hello = arrival('hello');
  const heard = {};
  const all = new Promise((resolve) => connection.on('recv', (kind, text) => {
    heard[kind] = text;
    if (heard.all && heard.group) resolve();
  }));
  connection.on('question', async (question) => {
    await new Promise((resume) => setTimeout(resume, 50));
    return `the page to ${question}`;
  });
  const closed = new Promise((resolve) => connection.onclose((error) => resolve(error?.message ?? null)));
  await connection.start();
  const [id, user] = await hello;
  const echo = await connection.invoke('Echo', 'é中 from a browser');
  await connection.invoke('Broadcast', 'to all');
  await connection.invoke('Join', 'pages');
  await connection.invoke('ToGroup', 'pages', 'to pages');
  await all;
  const items = [];
  await new Promise((complete, error) => connection.stream('Count', 50).subscribe({ next: (item) => items.push(item), error, complete }));
  const large = 'large '.repeat(35_000);
  const isLargeWhole = await connection.invoke('Echo', large) === large;
  const answer = await connection.invoke('Ask', id);
  const result = { id, shown: connection.connectionId, user, echo, heard, count: items.length, isLargeWhole, answer };
  await connection.stop();
  return { ...result, closed: await closed };
}

// Runs in the page: the status of a negotiate with a token that is none, and what the client makes of it.
async function refused(url) {
  const response = await fetch(url.replace('/client/', '/client/negotiate'), { method: 'POST', headers: { Authorization: 'Bearer nonsense' }, credentials: 'include' });
  const connection = new window.signalR.HubConnectionBuilder().withUrl(url, { accessTokenFactory: () => 'nonsense' }).configureLogging('none').build();
  const message = await connection.start().then(() => 'started', (error) => error.message);
  return { status: response.status, message };
}

// Runs in the page: the statuses of requests about an id that nobody has.
async function unknown([url, token]) {
  const statuses = [];
  for (const method of ['GET', 'POST', 'DELETE']) {
    statuses.push((await fetch(`${url}&id=AAAAAAAAAAAAAAAAAAAAAA`, { method, headers: { Authorization: token, 'X-Requested-With': 'XMLHttpRequest' }, credentials: 'include' })).status);
  }
  return statuses;
}

test('the stock client talks to the hub from a page of another origin', { skip: unlessBrowser }, async (t) => {
  const rig = await Rig.start();
  const site = http.createServer(serve).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const { browser, close } = await openBrowser();
  after(async () => {
    await close();
    site.close();
    await rig.stop();
  });
  const pageOf = async (release) => {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${site.address().port}/${release}/`);
    return page;
  };

  for (const release of [10, 8]) {
    for (const { transport, protocol } of kinds) {
      await t.test(`release ${release}, ${transport}, ${protocol}`, async () => {
        const page = await pageOf(release);
        const { id, shown, ...seen } = await page.evaluate(converse, [`${rig.app.url}/chat?user=alice`, transportTypes[transport], protocol]);
        assert.equal(shown, id);
        assert.deepEqual(seen, {
          user: 'alice',
          echo: 'é中 from a browser',
          heard: { all: 'to all', group: 'to pages' },
          count: 50,
          isLargeWhole: true,
          answer: 'the page to q',
          closed: null,
        });
        await rig.app.event('disconnected', id);
        await page.close();
      });
    }
  }

  await t.test('a page that is closed is gone', async () => {
    const page = await pageOf(10);
    // On long polling it is its silence that is noticed, after 2 s where the token can say so.
    const { url, accessToken } = rig.service?.direct({ 'asrs.s.ttl': '2' }) ?? { url: `${rig.app.url}/chat` };
    const ids = await page.evaluate(async ([url, accessToken, types]) => Promise.all(types.map(async (type) => {
      const { signalR } = window;
      const options = { transport: signalR.HttpTransportType[type], accessTokenFactory: () => accessToken };
      const connection = new signalR.HubConnectionBuilder().withUrl(url, options).build();
      await connection.start();
      return connection.connectionId;
    })), [url, accessToken, Object.values(transportTypes)]);
    await page.close();
    for (const id of ids) await rig.app.event('disconnected', id);
  });

  await t.test('a refusal is seen by the page as what it is', { skip: !rig.service && 'needs the service' }, async () => {
    const page = await pageOf(10);
    const { url } = rig.service.direct();
    const { status, message } = await page.evaluate(refused, url);
    assert.equal(status, 401);
    assert.match(message, /Status code '401'/);
    assert.deepEqual(await page.evaluate(unknown, [url, new HttpConnection(rig).headers.Authorization]), [404, 404, 404]);
    await page.close();
  });
});
