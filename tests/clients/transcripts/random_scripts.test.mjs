// To a client, neither its transport nor the service in between is visible: what random scripts of client actions come to is the same over
// every transport and hub protocol, and the same as at plain ASP.NET Core SignalR.
//
// The original is the SDK's app server without a service; without HUBRING_SDK_APP it is the app server under test over WebSockets.
// A failure prints the first difference and the smallest script that shows it. To play one script again, over everything, or many:
//
//   HUBRING_SEED=17 node --test tests/clients/transcripts/random_scripts.test.mjs
//   HUBRING_SEEDS=200 HUBRING_TEST_APP=sdk node --test tests/clients/transcripts/random_scripts.test.mjs

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Rig, hasService, parameters } from '../support/rig.mjs';
import { Client } from '../support/client.mjs';
import { difference, linesOf } from './support/compare.mjs';
import { play, worlds } from './support/play.mjs';
import { print, scriptOf } from './support/script.mjs';
import { shrink } from './support/shrink.mjs';

// Scripts of a run that is no hunt; each app server has its own.
const seedCount = 6;
const firstSeed = parameters.app === 'reference' ? seedCount + 1 : 1;
// Of a script that is not hunted with: half of the worlds, and the next script the other half.
const halves = [
  ['WebSockets, json', 'Server-Sent Events, json', 'long polling, messagepack'],
  ['WebSockets, messagepack', 'long polling, json', 'one of each'],
];
const originalWorld = 'WebSockets, json';

const number = (name) => (process.env[name] === undefined ? undefined : Number(process.env[name]));
const isHunt = ['HUBRING_SEED', 'HUBRING_SEEDS'].some((name) => number(name) !== undefined);
const from = (first, count) => Array.from({ length: count }, (_, index) => first + index);
const seeds = number('HUBRING_SEED') === undefined ? from(isHunt ? 1 : firstSeed, number('HUBRING_SEEDS') ?? seedCount) : [number('HUBRING_SEED')];
const worldsOf = (seed) => (isHunt ? Object.keys(worlds) : halves[seed % halves.length]);

let rig;
let original;

before(async () => {
  rig = await Rig.start();
  original = hasService && process.env.HUBRING_SDK_APP ? await App.start(undefined, { kind: 'selfhost' }) : rig.app;
  for (const app of new Set([rig.app, original])) await askOnce(app);
});

after(async () => {
  await rig.stop();
  if (original !== rig.app) await original.process.stop();
});

for (const seed of seeds) {
  const script = scriptOf(seed);
  test(`the script of seed ${seed} comes to the same everywhere`, async () => {
    const expected = await play(script, original, originalWorld);
    assert.ok(linesOf(expected).length > script.steps.length, 'next to nothing happens in this script');
    for (const world of worldsOf(seed)) {
      const found = difference(expected, await play(script, rig.app, world), names(world));
      if (found) assert.fail(await explained(script, world, found));
    }
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());

const names = (world) => [`${original.kind} over ${originalWorld}`, `${parameters.app} over ${world}`];

async function explained(script, world, { step, text }) {
  const compare = async (candidate) => difference(await play(candidate, original, originalWorld), await play(candidate, rig.app, world), names(world));
  const smallest = await shrink(script, step, compare);
  const again = await compare(smallest);
  return [
    `${world}: seed ${script.seed} comes to something else`,
    text,
    `${again ? 'The smallest script that was found to differ' : 'It does not differ each time; the smallest script that did'}:`,
    print(smallest),
    again?.text ?? '',
  ].join('\n\n');
}

// The SDK forgets an answer to the first question of a process that comes before it has noted the question, some milliseconds later.
async function askOnce(app) {
  const thoughtMs = 50;
  const client = new Client(app, { answer: () => new Promise((resolve) => setTimeout(resolve, thoughtMs, 'yes')) });
  await client.start();
  assert.equal(await client.invoke('AskMe', 'anybody there?'), 'yes');
  await client.stop();
}
