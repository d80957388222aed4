// A client of stateful reconnect that has lost its TCP connection and cannot come back: its app server is told when it is certain.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters } from '../support/rig.mjs';
import { cuttable, hasLost } from '../support/cutter.mjs';
import { eventually } from '../support/wait.mjs';

const skip = parameters.app === 'sdk' ? false : 'needs an app server that allows it';
const awayMs = 30_000;

const rig = skip ? undefined : await Rig.start({ environment: { STATEFUL: '1' } });
after(() => rig?.stop());

const metric = (name) => rig.service.metric(`hubring_${name}`);

test('a client that cannot come back is told at once, and its app server in time', { skip }, async () => {
  const { client, cutter } = await cuttable(rig);
  const { id } = client;
  cutter.hold();
  await client.has('closed');
  await eventually('the service to keep its place', async () => (await metric('clients_away')) === 1);
  const lost = Date.now();
  await rig.app.call(`/conn/${id}/unheard`);
  assert.equal(hasLost(rig.app, id), false);
  await eventually('the app server to be told', () => hasLost(rig.app, id), awayMs + 5_000);
  assert.ok(Date.now() - lost > awayMs - 5_000);
  // The app server's own patience with a silent client may have ended a moment earlier.
  await eventually('its place to be given up', async () => (await metric('clients_away')) === 0);
});
