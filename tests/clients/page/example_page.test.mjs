// The page of examples/aspnetcore in a real browser. The files are served as that app serves them; behind them is the hub of the other
// tests, which has the same calls under other names. Microsoft's client comes from npm here too, so that the checksum in the page is that
// of the released file.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';
import { once } from 'node:events';
import { openBrowser, unlessBrowser } from '../support/browser.mjs';
import { repository } from '../support/process.mjs';
import { Rig, unlessService } from '../support/rig.mjs';
import { eventually } from '../support/wait.mjs';

const folder = path.join(repository, 'examples', 'aspnetcore', 'wwwroot');
const pages = { '/': ['index.html', 'text/html; charset=utf-8'], '/chat.js': ['chat.js', 'text/javascript; charset=utf-8'] };
const names = { '"Say"': '"ToGroup"', '"said"': '"recv"' };
const client = new URL('../node_modules/@microsoft/signalr/dist/browser/signalr.min.js', import.meta.url);

async function page(name) {
  const text = await readFile(path.join(folder, name), 'utf8');
  if (!name.endsWith('.js')) return text;
  return Object.entries(names).reduce((changed, [from, to]) => {
    assert.equal(changed.split(from).length, 2, `${from} in ${name}`);
    return changed.replace(from, to);
  }, text);
}

// The app as the browser sees it: the page, and the hub's negotiate at the same origin, from whichever app server there is.
function serve(rig) {
  return async (request, response) => {
    const { pathname, search } = new URL(request.url, 'http://app');
    if (pages[pathname]) {
      const [name, type] = pages[pathname];
      response.writeHead(200, { 'Content-Type': type }).end(await page(name));
    } else {
      const answer = await fetch(rig.app.url + pathname + search, { method: request.method });
      response.writeHead(answer.status, { 'Content-Type': answer.headers.get('content-type') ?? 'text/plain' }).end(await answer.text());
    }
  };
}

test('two tabs of the example talk in a room, and do so again when their app server has gone', { skip: unlessBrowser || unlessService }, async () => {
  const rig = await Rig.start();
  const site = http.createServer(serve(rig)).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const { browser, close } = await openBrowser();
  after(async () => {
    await close();
    site.close();
    await rig.stop();
  });
  await browser.route('https://cdn.jsdelivr.net/npm/@microsoft/signalr@*/dist/browser/signalr.min.js', async (route) => {
    await route.fulfill({ body: await readFile(client), contentType: 'text/javascript', headers: { 'Access-Control-Allow-Origin': '*' } });
  });

  const enter = async (name, room) => {
    const tab = await browser.newPage();
    await tab.goto(`http://127.0.0.1:${site.address().port}/`);
    await tab.locator('#name').fill(name);
    await tab.locator('#room').fill(room);
    await tab.locator('#enter button').click();
    await tab.locator('#status', { hasText: `in ${room}` }).waitFor();
    return tab;
  };
  const say = async (tab, text) => {
    await tab.locator('#text').fill(text);
    await tab.locator('#say').click();
  };
  const heard = (tab, text) => tab.locator('#messages li', { hasText: text }).waitFor();

  const alice = await enter('alice', 'kitchen');
  const bob = await enter('bob', 'kitchen');
  const carol = await enter('carol', 'garden');
  const users = (await rig.service.listing()).clients.map(({ user }) => user).sort();
  assert.deepEqual(users, ['alice', 'bob', 'carol'], 'the user behind the hub\'s address is the user of the connection');

  await say(alice, 'is there <b>tea</b>?');
  for (const tab of [alice, bob]) await heard(tab, 'is there <b>tea</b>?');
  await say(carol, 'nobody here');
  await heard(carol, 'nobody here');
  assert.equal(await carol.locator('#messages li').count(), 1, 'what is said in another room');

  // Told to connect again, they come to another app server, which knows of no room.
  const first = rig.app;
  rig.app = await rig.secondApp();
  const ids = async () => (await rig.service.listing()).clients.map(({ id }) => id);
  const before = await ids();
  await first.process.stop();
  await eventually('all to have connected again', async () => {
    const now = await ids();
    return now.length === before.length && now.every((id) => !before.includes(id));
  });
  for (const tab of [alice, bob]) await tab.locator('#status', { hasText: 'in kitchen' }).waitFor();
  await say(bob, 'there is again');
  for (const tab of [alice, bob]) await heard(tab, 'there is again');
});
