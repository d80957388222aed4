// Debian's Chromium, with a profile of its own that goes with it.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';
import { patienceMs } from './wait.mjs';

const executablePath = process.env.HUBRING_CHROMIUM ?? '/usr/bin/chromium';
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

// Reason to skip a test, for node:test's `skip` option.
export const unlessBrowser = existsSync(executablePath) ? false : `no browser at ${executablePath}: install Debian's chromium or set HUBRING_CHROMIUM`;
if (unlessBrowser) assert.notEqual(process.env.HUBRING_REQUIRE_BROWSER, '1', `HUBRING_REQUIRE_BROWSER is set, but there is ${unlessBrowser}`);

export async function openBrowser(options = {}) {
  const profile = await mkdtemp(path.join(os.tmpdir(), 'hubring-browser-'));
  const browser = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args, viewport: { width: 1100, height: 800 }, ...options });
  browser.setDefaultTimeout(patienceMs);
  const close = async () => {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { browser, close };
}
