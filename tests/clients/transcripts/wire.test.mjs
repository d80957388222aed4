// What a client gets on the wire, hub message by hub message and byte by byte, is the same over every transport, and the same as from
// plain ASP.NET Core SignalR; and each transport wraps it in the same way as there: whole hub messages, status codes, headers, ends.
//
// Without HUBRING_SDK_APP the app server under test over WebSockets is the measure, and of the transports only what they carry is compared.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Rig, hasService, isSdk } from '../support/rig.mjs';
import { connect } from './support/wire.mjs';

const transports = ['websockets', 'sse', 'longpolling'];
const handshake = '{"protocol":"json","version":1}\u001e';

let rig;
let original;

before(async () => {
  rig = await Rig.start();
  original = hasService && process.env.HUBRING_SDK_APP ? await App.start(undefined, { kind: 'selfhost' }) : undefined;
});

after(async () => {
  await rig.stop();
  await original?.process.stop();
});

// What a client does that behaves, once it has been greeted.
const scripts = {
  'a client that is greeted, and leaves without a word': async () => {},

  'answers': async (client) => {
    for (const [target, ...args] of [['Echo', 'x'], ['Echo', 'ümläut 中文 🎉 <&>+\'"\\ \n\r\u001e\u2028'], ['EchoAny', { a: [1, 1.5, null, true, { b: '' }] }], ['Nothing'], ['Join', 'group']]) {
      await client.call(target, args);
    }
  },

  'errors': async (client) => {
    for (const [target, ...args] of [['Fail'], ['Crash'], ['NoSuchMethod', 1], ['Echo'], ['Nothing', 1], ['Count', 1]]) await client.call(target, args);
    client.say({ type: 1, target: 'Fail', arguments: [] });
    await client.call('Echo', ['a call without an id gets no answer, not even an error']);
  },

  'long messages, up and down': async (client) => {
    await client.call('Big', [300_000]);
    await client.call('Echo', ['é'.repeat(100_000)]);
    await client.call('Caller', [`${'y\n'.repeat(40_000)}`]);
  },

  'many messages': async (client) => {
    await client.call('Flood', [300, 'flood ']);
    await client.call('Count', [300], 4);
  },

  'streams up and down, and given up': async (client) => {
    client.say({ type: 1, invocationId: 'sum', target: 'Sum', arguments: [], streamIds: ['s1'] });
    for (const item of [1, 2, 3]) client.say({ type: 2, invocationId: 's1', item });
    client.say({ type: 3, invocationId: 's1' });
    await client.completed('sum');
    client.say({ type: 4, invocationId: 'upper', target: 'Upper', arguments: [], streamIds: ['s2'] });
    client.say({ type: 2, invocationId: 's2', item: 'ä' });
    client.say({ type: 3, invocationId: 's2' });
    await client.completed('upper');
    client.say({ type: 4, invocationId: 'ticks', target: 'Ticks', arguments: [3_600_000] });
    await client.until((records) => records.some((record) => record.includes('"invocationId":"ticks"')), 'the first item');
    client.say({ type: 5, invocationId: 'ticks' });
    await client.completed('ticks');
  },

  'a question that is answered': async (client) => {
    await client.call('Echo', ['the first question of a process must not be answered at once']);
    client.say({ type: 1, invocationId: 'ask', target: 'AskMe', arguments: ['what?'] });
    await client.until((records) => records.some((record) => record.includes('"question"')), 'the question');
    const { invocationId } = JSON.parse(client.records.items.find((record) => record.includes('"question"')));
    await new Promise((resume) => setTimeout(resume, 50));
    client.say({ type: 3, invocationId, result: 'this' });
    await client.completed('ask');
  },

  'hub messages in pieces, inside a character too, and several in one': async (client) => {
    const echo = (invocationId) => Buffer.from(`{"type":1,"invocationId":"${invocationId}","target":"Echo","arguments":["ä🎉"]}\u001e`);
    const call = echo('cut at 000');
    for (const at of [1, call.indexOf('ä') + 1, call.indexOf('🎉') + 2, call.length - 1]) {
      const id = `cut at ${`${at}`.padStart(3, '0')}`;
      client.send(echo(id).subarray(0, at));
      client.send(echo(id).subarray(at));
      await client.completed(id);
    }
    client.send(Buffer.concat([Buffer.from('{"type":6}\u001e'), echo('first'), echo('last').subarray(0, 20)]));
    await client.completed('first');
    client.send(echo('last').subarray(20));
    await client.completed('last');
  },

  'the hub ends it': async (client) => {
    client.say({ type: 1, target: 'AbortMe', arguments: [] });
    await client.hasEnded();
  },

  'the client says goodbye': async (client) => {
    client.say({ type: 7 });
    await client.hasEnded();
  },
};

// What breaks the hub protocol, and the handshake.
const broken = [
  '\u001e', '{"type":6\u001e', 'null\u001e', '"foo"\u001e', '[42]\u001e', '{}\u001e', '{"type":"foo"}\u001e', '{"type":1,"invocationId":42,"target":"x","arguments":[]}\u001e',
  '{"type":1,"arguments":[]}\u001e', '{"type":1,"target":"x"}\u001e', '{"type":1,"target":"x","arguments":{}}\u001e', '{"type":1,"target":"x","arguments":[],"headers":{"Foo":42}}\u001e',
  '{"type":3}\u001e', '{"type":3,"invocationId":"1","error":"x","result":1}\u001e',
];
const brokenHandshakes = [
  '\u001e', 'foo\u001e', '[]\u001e', '42\u001e', '{}\u001e', '{"version":1}\u001e', '{"protocol":"json"}\u001e', '{"protocol":42,"version":1}\u001e', '{"protocol":"json","version":"1"}\u001e',
  '{"protocol":"foo","version":1}\u001e', '{"protocol":"json","version":3}\u001e',
];

for (const [name, script] of Object.entries(scripts)) {
  test(`the same on every wire: ${name}`, () => compared((transport, app) => perform(transport, app, script)));
}

test('the same on every wire: what breaks the hub protocol', async () => {
  for (const bytes of broken) {
    await compared((transport, app) => perform(transport, app, async (client) => {
      client.send(bytes);
      await client.hasEnded();
    }), bytes);
  }
});

test('the same on every wire: what breaks the handshake', async () => {
  for (const bytes of brokenHandshakes) await compared((transport, app) => handshakeOnly(transport, app, bytes), bytes);
});

test('MessagePack needs a transport for bytes', async () => {
  const bytes = '{"protocol":"messagepack","version":1}\u001e';
  const { records } = await handshakeOnly('sse', rig.app, bytes);
  assert.deepEqual(records, [`{"error":"Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format."}`]);
});

// A transcript over each transport: what each carries is the same, and the same as from the original; the original's own facts too.
async function compared(transcript, what = '') {
  const { records: measure } = await transcript('websockets', rig.app);
  if (original) assert.deepEqual(measure.map(written), (await transcript('websockets', original)).records.map(written), `service and original ${what}`);
  for (const transport of transports) {
    const { records, facts } = await transcript(transport, rig.app);
    assert.deepEqual(records, measure, `${transport} ${what}`);
    if (original) assert.deepEqual(facts, (await transcript(transport, original)).facts, `${transport} ${what}`);
  }
}

// Which characters of a JSON text are escaped is a matter of who writes it, and the original's writer is .NET's.
const written = (record) => (isSdk ? record : JSON.stringify(JSON.parse(record)));

// One connection from its handshake to its end: { records, facts }.
function perform(transport, app, script) {
  return talk(transport, app, handshake, async (client) => {
    await client.until((records) => records.length >= 2, 'hello');
    await script(client);
  });
}

function handshakeOnly(transport, app, bytes) {
  return talk(transport, app, bytes, (client) => client.hasEnded());
}

async function talk(transport, app, begin, script) {
  const client = await connect(transport, app);
  try {
    client.send(begin);
    await script(client);
  } finally {
    await client.leave();
  }
  return { records: client.records.items.map(normalised), facts: [...client.facts].sort() };
}

// Ids are random, and the query that a hub sees has the transport's id or what the service needs to know. What is wrong with a handshake
// that cannot be read the service does not say: it never gets to an app server, which alone would know whether clients may learn it.
function normalised(record) {
  const [, hello] = /^(\{"type":1,"target":"hello","arguments":\[)/.exec(record) ?? [];
  if (hello) return `${hello}${JSON.stringify(JSON.parse(record).arguments.slice(1, -1))}]}`;
  return record.replace(/^(\{"type":1,"invocationId":")[^"]*/, '$1id').replace(/^(\{"error":"An unexpected error occurred during connection handshake\.).*/, '$1"}');
}
