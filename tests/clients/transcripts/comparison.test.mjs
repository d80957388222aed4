// The differential tests can fail: whatever is changed in a transcript is seen, and a script is shrunk to what shows it.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { difference, stuckLane } from './support/compare.mjs';
import { Random } from './support/random.mjs';
import { print, scriptOf, without } from './support/script.mjs';
import { shrink } from './support/shrink.mjs';

const transcript = [
  { step: 0, client: 'A', lane: 'hello', events: ['hello'] },
  { step: 3, client: 'A', lane: '3a', events: ['recv all "3a.0"', 'completion null'] },
  { step: 3, client: 'B', lane: '3a', events: ['recv all "3a.0"', 'recv all "3a.1"', 'recv all "3a.2"'] },
  { step: 4, client: 'B', lane: 'connection', events: ['closed'] },
];

test('equal transcripts are equal', () => {
  assert.equal(difference(transcript, structuredClone(transcript)), undefined);
});

test('an event that is lost, doubled, changed, late or out of order is a difference, at its step', () => {
  const mutations = [
    (events) => events.slice(1),
    (events) => events.slice(0, -1),
    (events) => [...events, events.at(-1)],
    (events) => [events[0], ...events],
    (events) => events.toReversed(),
    (events) => events.with(-1, `${events.at(-1)} `),
  ];
  for (const [index, entry] of transcript.entries()) {
    for (const mutation of mutations) {
      const events = mutation(entry.events);
      if (entry.events.length === 1 && events.join() === entry.events.join()) continue;
      const mutated = transcript.with(index, { ...entry, events });
      for (const found of [difference(transcript, mutated), difference(mutated, transcript)]) {
        assert.ok(found, `not seen: ${JSON.stringify(events)} instead of ${JSON.stringify(entry.events)}`);
        assert.ok(found.step <= (transcript[index + 1]?.step ?? entry.step), `${found.step}`);
      }
    }
    const elsewhere = { ...entry, step: entry.step + 1 };
    assert.ok(difference(transcript, transcript.with(index, elsewhere)), 'an event of another step');
    assert.ok(difference(transcript, transcript.with(index, { ...entry, client: 'C' })), 'an event at another client');
  }
});

test('a play that got stuck is a difference, even from one that got stuck in the same way', () => {
  const stuck = [...transcript.slice(0, 3), { step: 3, client: '', lane: stuckLane, events: ['A: no end of invoke Echo'] }];
  for (const [left, right] of [[stuck, stuck], [stuck, transcript], [transcript, stuck]]) {
    const { step, text } = difference(left, structuredClone(right));
    assert.equal(step, 3);
    assert.match(text, /no end of invoke Echo/);
  }
});

test('a difference is shown with what comes before it and what was there instead', () => {
  const mutated = transcript.with(2, { ...transcript[2], events: transcript[2].events.toReversed() });
  const { step, text } = difference(transcript, mutated, ['the original', 'the copy']);
  assert.equal(step, 3);
  assert.match(text, /the same in both:[^]*completion null\n {2}then the original:\n.*3a\.0[^]*but the copy:\n.*3a\.2/);
});

test('a seed always gives the same script, another seed another one', () => {
  assert.equal(print(scriptOf(7)), print(scriptOf(7)));
  assert.notEqual(print(scriptOf(7)), print(scriptOf(8)));
  const first = new Random(1);
  assert.deepEqual([first.below(1000), first.below(1000), first.below(1000)], [11, 336, 964]);
});

test('scripts do everything that they can', () => {
  const all = Array.from({ length: 100 }, (_, seed) => print(scriptOf(seed))).join('\n');
  const words = [
    ...['start', 'stop', 'restart', 'abort', 'leave', 'garble'].map((kind) => `\n  ${kind} `),
    ...['Echo', 'EchoAny', 'Big', 'Slow', 'Nothing', 'Fail', 'Crash', 'NoSuchMethod', 'Broadcast', 'Others', 'Caller', 'AllExcept', 'ToConn', 'Clients', 'ToUser', 'Users', 'Flood',
      'ToGroup', 'ToGroupExcept', 'OthersInGroup', 'Groups', 'GroupsExcept', 'Join', 'Leave', 'Ask', 'AskMe'].map((method) => `invoke ${method}(`),
    'send Broadcast(', 'stream Count(', 'stream Ticks(', 'stream NoSuchStream(', 'upload Sum(', 'upload Upper(', ' || ', ' & ', ' ; ',
  ];
  assert.deepEqual(words.filter((word) => !all.includes(word)), []);
});

test('what is left of a script can be played: nobody speaks who is not there', () => {
  const random = new Random(3);
  for (let seed = 0; seed < 50; seed += 1) {
    const script = scriptOf(seed);
    const dropped = new Set(random.some([...script.steps.keys()], random.between(1, 20)));
    const less = without(script, dropped);
    assert.equal(without(script, new Set()).steps.length, script.steps.length);
    if (!less) continue;
    const online = new Set();
    for (const step of less.steps) {
      if (step.kind === 'start') online.add(step.client);
      else for (const { client } of step.lanes ?? [step]) assert.ok(online.has(client), print(less));
      if (step.kind === 'stop' || step.kind === 'leave') online.delete(step.client);
    }
  }
});

test('a script shrinks to the steps that a difference needs', async () => {
  const script = scriptOf(5);
  const isCause = (step) => JSON.stringify(step).includes('Flood');
  const differs = async ({ steps }) => steps.some(isCause);
  assert.ok(await differs(script), 'this seed floods');
  const smallest = await shrink(script, script.steps.length, differs);
  const { kind, lanes } = smallest.steps.at(-1);
  assert.equal(kind, 'lanes');
  const people = new Set(lanes.map(({ client }) => client));
  assert.ok(smallest.steps.length <= 1 + people.size + 2, print(smallest));
});
