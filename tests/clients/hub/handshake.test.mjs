// The first words of a client: whatever is wrong with them, it is told what in the words its SDK knows, and closed with 1000.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols, unlessService } from '../support/rig.mjs';
import { RawClient, handshakes, ping } from '../support/raw.mjs';
import { audience, token } from '../support/token.mjs';

const rig = await Rig.start();
after(() => rig.stop());

const unexpected = 'An unexpected error occurred during connection handshake.';

async function refusedWith(client, text) {
  assert.equal((await client.end()).code, 1000);
  assert.ok(client.text.startsWith(`{"error":"${text}`), `expected the error ${text}, got ${client.text}`);
  assert.ok(client.text.endsWith('\x1e'));
}

const bad = [
  ['no JSON', 'foo\x1e', unexpected],
  ['an empty record', '\x1e', unexpected],
  ['JSON that ends early', '{\x1e', unexpected],
  ['an array', '[]\x1e', unexpected],
  ['no protocol', '{"version":1}\x1e', unexpected],
  ['no version', '{"protocol":"json"}\x1e', unexpected],
  ['a version that is a text', '{"protocol":"json","version":"1"}\x1e', unexpected],
  ['a protocol that is a number', '{"protocol":42,"version":1}\x1e', unexpected],
  ['an unknown protocol', '{"protocol":"foo","version":1}\x1e', "The protocol 'foo' is not supported."],
  ['a version from the future', '{"protocol":"json","version":3}\x1e', "The server does not support version 3 of the 'json' protocol."],
];

for (const [what, bytes, text] of bad) {
  test(`${what} is refused`, async () => {
    const client = await RawClient.viaApp(rig.app);
    client.send(bytes);
    await refusedWith(client, text);
  });
}

test('a handshake that does not come is waited for as long as the token says', { skip: unlessService }, async () => {
  const { service } = rig;
  const client = await RawClient.open(`${service.url}/client/?hub=chat&asrs.op=%2Fchat`, { token: token(service.accessKey, audience('client'), { 'asrs.s.cht': '1' }) });
  await refusedWith(client, 'Handshake was canceled.');
});

test('a handshake without end is cut', { skip: unlessService }, async () => {
  const client = await RawClient.viaApp(rig.app);
  client.send(`{"protocol":"json","pad":"${'x'.repeat(40_000)}`);
  await refusedWith(client, 'Handshake was canceled.');
});

for (const protocol of protocols) {
  test(`${protocol}: unknown members, any order and blanks are accepted`, async () => {
    const client = await RawClient.viaApp(rig.app);
    client.send(`{ "extra" : [ { } ], "version" : 1, "protocol" : "${protocol}" }\x1e`);
    await client.messages.until((items) => items.some((item) => item.includes('{}\x1e')), 'the handshake response');
    client.close();
  });

  test(`${protocol}: hub messages in the same WebSocket message as the handshake are not lost`, async () => {
    const client = await RawClient.viaApp(rig.app);
    const call = protocol === 'json'
      ? Buffer.from('{"type":1,"invocationId":"7","target":"Echo","arguments":["glued"]}\x1e')
      : Buffer.from('12960180a137a44563686f91a5676c75656490', 'hex');
    client.send(Buffer.concat([Buffer.from(handshakes[protocol]), ping[protocol], call]));
    await client.messages.until(() => /glued/.test(client.text), 'the completion of Echo');
    assert.match(client.text, /^\{\}\x1e/, 'nothing comes before the handshake response');
    client.close();
  });

  test(`${protocol}: one byte at a time is as good as all at once`, async () => {
    const client = await RawClient.viaApp(rig.app);
    for (const byte of Buffer.from(handshakes[protocol])) client.send(Buffer.from([byte]));
    await client.messages.until(() => /hello/.test(client.text), 'hello');
    assert.match(client.text, /^\{\}\x1e/);
    client.close();
  });

  test(`${protocol}: the answer comes as the kind of WebSocket message that the protocol has`, async () => {
    const client = await RawClient.viaApp(rig.app);
    const kinds = [];
    client.socket.on('message', (_, isBinary) => kinds.push(isBinary ? 'messagepack' : 'json'));
    await client.handshake(protocol);
    await client.messages.until(() => /hello/.test(client.text), 'hello');
    assert.deepEqual([...new Set(kinds)], [protocol]);
    client.close();
  });
}

test('200 clients get their handshake response before the greeting that the hub sends on connect', async () => {
  await Promise.all(Array.from({ length: 200 }, async (_, index) => {
    const client = await RawClient.viaApp(rig.app, `?user=u${index}`);
    client.send(handshakes[protocols[index % protocols.length]]);
    await client.messages.until(() => /hello/.test(client.text), 'hello');
    assert.match(client.text, /^\{\}\x1e/);
    client.close();
  }));
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
