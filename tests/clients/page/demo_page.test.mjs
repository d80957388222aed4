// `hubring demo` in a real browser: two tabs chat with each other. The screenshots stay in tests/artifacts/.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { openBrowser, unlessBrowser } from '../support/browser.mjs';
import { Process, artifacts, freePorts } from '../support/process.mjs';
import { binary } from '../support/rig.mjs';

test('two tabs chat, and the page shows what flows', { skip: unlessBrowser }, async () => {
  const [port, appPort] = await freePorts(2);
  const demo = new Process('demo', binary(), ['demo', '--listen', `127.0.0.1:${port}`, '--app-listen', `127.0.0.1:${appPort}`]);
  const url = `http://127.0.0.1:${appPort}/`;
  await demo.healthy(url);
  const { browser, close } = await openBrowser();
  after(async () => {
    await close();
    await demo.stop();
  });

  const faults = [];
  const open = async (name) => {
    const page = await browser.newPage();
    page.on('pageerror', (error) => faults.push(`${name}: ${error}`));
    page.on('console', (message) => message.type() === 'error' && !message.location().url.endsWith('/favicon.ico') && faults.push(`${name}: ${message.text()}`));
    await page.goto(url);
    await page.locator('#status', { hasText: /\bconnected\b/i }).waitFor();
    await page.locator('#name').fill(name);
    return page;
  };
  const alice = await open('Alice');
  const bob = await open('Bob');

  const say = async (page, text) => {
    await page.locator('#message').fill(text);
    await page.locator('#send').click();
    for (const each of [alice, bob]) await each.locator('#messages', { hasText: text }).waitFor();
  };
  await say(alice, 'Hello Bob, this is Alice');
  await say(bob, 'Hello Alice, <b>no markup</b> here');
  assert.equal(await alice.locator('#messages b', { hasText: 'no markup' }).count(), 0, 'what people write is text, not markup');
  assert.match(await bob.locator('#messages').innerText(), /Alice/);

  // Two clients stand in the table of connections.
  await alice.waitForFunction(() => document.querySelectorAll('#flow tr:has(td)').length >= 2);
  await alice.screenshot({ path: path.join(artifacts, 'demo-page.png'), fullPage: true });
  await bob.emulateMedia({ colorScheme: 'dark' });
  await bob.screenshot({ path: path.join(artifacts, 'demo-page-dark.png'), fullPage: true });
  assert.deepEqual(faults, []);
});
