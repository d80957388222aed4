// What the SDK's app server is told about a client, and what it does then: how clients come, go and answer.
//
// | The app server reacts to                        | The service causes it when                                    | Tested by                |
// |-------------------------------------------------|---------------------------------------------------------------|--------------------------|
// | OpenConnection, then the handshake              | a client has sent a handshake that is right                   | "connects"               |
// | CloseConnection of a client that it serves      | the client leaves, with Close, close frame or without a word  | "leaves"                 |
// | the same, and its last words cross ours         | the client leaves at once, or amid calls and streams          | "leaves at once"         |
// | CloseConnection that it asked for               | another process, or a hub, has closed it by message           | "by message"             |
// | hub Ping, and 30 s without                      | a client falls silent: the app server closes                  | "falls silent"           |
// | a message too long, or no hub message           | a client sends it: it is relayed as it is                     | "too long", "garbage"    |
// | `Context.Abort()`                               | -, the app server closes by itself                            | "aborts"                 |
// | Ack 1, 2, 3                                     | a join succeeds, names nobody, names too long a group         | "joins"                  |
// | ErrorCompletion                                 | a client result is wanted from nobody, or of one that leaves  | "client results"         |
// | ClientCompletion after it gave up               | an answer comes late: it is dropped here                      | "client results"         |
// | messages for clients that have left             | -, it sends them; they are dropped without a word             | "leaves at once"         |
//
// Never caused: an id that is in use (ids are random and unique), an OpenConnection without protocol, with one that differs from
// the handshake's, with claims or headers that cannot be read or a query without its question mark (the service writes them all);
// a handshake that is late, wrong or of an unknown protocol (the service answers it, and the app server never hears of that
// client: "never hears"). A hub whose OnConnected throws closes its client as after a silence; this hub has no such method.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols, unlessSdk } from '../support/rig.mjs';
import { fence } from '../support/client.mjs';
import { RawClient, handshakes } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';
import { audience, token } from '../support/token.mjs';

const messageMax = 4096;
const silenceSeconds = 2;

const rig = unlessSdk ? undefined : await Rig.start({ environment: { MAXMESSAGE: `${messageMax}` } });
after(() => rig?.stop());

const sdkTest = (name, body) => test(name, { skip: unlessSdk }, body);
const gone = (client) => rig.app.event('disconnected', client.id);

for (const protocol of protocols) {
  sdkTest(`${protocol}: a client that connects is announced with its user and its query`, async () => {
    const client = await RawClient.connected(rig.app, protocol, '?user=carol');
    const [, user, claims, query] = client.received.items.find((message) => message.target === 'hello').arguments;
    assert.equal(user, 'carol');
    assert.ok(claims.includes('custom=v1'));
    assert.match(query, /^\?/);
    assert.equal((await rig.app.event('connected', client.id)).user, 'carol');
    client.close();
    await gone(client);
  });

  for (const [how, leave] of Object.entries({
    'with Close': (client) => { client.say({ type: 7 }); client.socket.close(1000); },
    'with a close frame': (client) => client.socket.close(1000),
    'without a word': (client) => client.close(),
  })) {
    sdkTest(`${protocol}: of a client that leaves ${how} the hub hears without an error`, async () => {
      const client = await RawClient.connected(rig.app, protocol);
      leave(client);
      const { reason, type } = await gone(client);
      assert.deepEqual([reason, type], [null, null]);
      assert.ok(!(await rig.app.connected()).includes(client.id));
    });
  }

  sdkTest(`${protocol}: 60 clients leave at once, amid calls, broadcasts and streams`, async () => {
    const [witness] = await rig.clients(1, { protocol });
    const clients = await Promise.all(Array.from({ length: 60 }, () => RawClient.connected(rig.app, protocol)));
    for (const client of clients) {
      client.say({ type: 4, invocationId: '1', target: 'Ticks', arguments: [1], streamIds: [] });
      client.say({ type: 1, invocationId: '2', target: 'Flood', arguments: [20, protocol], streamIds: [] });
      client.say({ type: 1, invocationId: '3', target: 'Join', arguments: ['crowd'], streamIds: [] });
    }
    await Promise.all(clients.map((client, index) => client.received.until((items) => items.length > index / 2, 'something to leave amid')));
    for (const client of clients) client.close();
    for (const client of clients) {
      const { reason, type } = await gone(client);
      assert.deepEqual([reason, type], [null, null]);
      await rig.app.event('stream-ended', client.id);
    }
    await fence(witness, [witness]);
    assert.deepEqual(witness.changes.items, []);
  });

  sdkTest(`${protocol}: of a client that leaves before its handshake, or with a wrong one, the app server never hears`, async () => {
    const before = rig.app.events('connected').length;
    const [silent, wrong, unknown] = await Promise.all(Array.from({ length: 3 }, () => RawClient.viaApp(rig.app)));
    const late = await RawClient.open(`${rig.service.url}/client/?hub=chat&asrs.op=%2Fchat`, { token: token(rig.service.accessKey, audience('client'), { 'asrs.s.cht': '1' }) });
    silent.close();
    wrong.send('wrong\x1e');
    unknown.send(handshakes[protocol].replace(protocol, 'unknown'));
    await Promise.all([wrong, unknown, late].map((client) => client.end()));
    // On each server connection, somebody comes after them.
    const [...right] = await Promise.all(Array.from({ length: 10 }, () => RawClient.connected(rig.app, protocol)));
    assert.equal(rig.app.events('connected').length, before + right.length);
    for (const client of right) client.close();
    await Promise.all(right.map(gone));
  });

  sdkTest(`${protocol}: a client that the hub aborts is closed for good`, async () => {
    const client = await RawClient.connected(rig.app, protocol);
    client.say({ type: 1, target: 'AbortMe', arguments: [], streamIds: [] });
    assert.equal((await client.end()).code, 1000);
    assert.deepEqual(goodbyes(client), [{ error: undefined, allowReconnect: false }]);
    assert.equal((await gone(client)).reason, null);
  });

  for (const [reason, query] of [['', ''], ['moved & gone', '&reason=moved%20%26%20gone']]) {
    sdkTest(`${protocol}: a client that is closed by message ${reason ? 'with' : 'without'} a reason leaves the hub, once`, async () => {
      const client = await RawClient.connected(rig.app, protocol);
      await rig.app.call(`/close/${client.id}?how=message${query}`);
      assert.equal((await client.end()).code, 1000);
      assert.deepEqual(goodbyes(client), reason ? [{ error: reason, allowReconnect: false }] : []);
      assert.equal((await gone(client)).reason, null);
      await eventually('the app server forgets it', async () => !(await rig.app.connected()).includes(client.id));
    });
  }

  for (const [what, bytes, type] of [
    ['a message that is too long', { json: `{"type":1,"target":"Echo","arguments":["${'x'.repeat(messageMax)}"]}\x1e`, messagepack: Buffer.concat([Buffer.from([0x80, 0x40]), Buffer.alloc(8192)]) }, 'InvalidDataException'],
    ['garbage', { json: 'garbage\x1e', messagepack: Buffer.from([0x02, 0xc1, 0xff]) }, /./],
  ]) {
    sdkTest(`${protocol}: a client that sends ${what} is told, and may come back`, async () => {
      const client = await RawClient.connected(rig.app, protocol);
      client.send(bytes[protocol]);
      assert.equal((await client.end()).code, 1000);
      const [{ error, allowReconnect }, ...others] = goodbyes(client);
      assert.match(error, /^Connection closed with an error\./);
      assert.deepEqual([allowReconnect, others], [true, []]);
      assert.match((await gone(client)).type, new RegExp(type));
    });
  }

  sdkTest(`${protocol}: client results: nobody to ask, an answer too late, one who leaves`, async () => {
    let hold;
    const held = new Promise((resolve) => { hold = resolve; });
    const asked = [];
    const answer = async (question) => {
      asked.push(question);
      if (question === 'slow') await held;
      if (question === 'q') return new Promise(() => {});
      await new Promise((resume) => setTimeout(resume, 50));
      return `answer to ${question}`;
    };
    const [asker, other] = await rig.clients(2, { protocol, answer });
    // A process may miss the first answer of all when it comes within milliseconds.
    assert.equal(await asker.invoke('AskMe', 'first'), 'answer to first');
    await assert.rejects(asker.invoke('Ask', 'AAAAAAAAAAAAAAAAAAAAAA'), /not found|not connected/i);
    await assert.rejects(rig.app.call(`/invoke/${other.id}?q=slow&timeout=1`), /500/);
    hold();
    assert.equal(await rig.app.call(`/invoke/${other.id}?q=next`), 'answer to next');
    const outcome = assert.rejects(asker.invoke('Ask', other.id), /disconnected/);
    await eventually('the question is there', () => asked.includes('q'));
    await other.stop();
    await outcome;
    assert.equal(await asker.invoke('Echo', 'alive'), 'alive');
  });
}

sdkTest('joins: one that succeeds, one of nobody, one of a name that is too long', async () => {
  const client = await rig.client();
  await rig.app.call(`/join/somewhere/${client.id}`);
  await rig.app.call('/join/somewhere/AAAAAAAAAAAAAAAAAAAAAA');
  await rig.app.call('/leave/somewhere/AAAAAAAAAAAAAAAAAAAAAA');
  const started = Date.now();
  await assert.rejects(rig.app.call(`/join/${'n'.repeat(2000)}/${client.id}`), /500/);
  assert.ok(Date.now() - started < 8_000, 'the app server waited for an answer that did not come');
  await rig.app.call('/group/somewhere/here');
  await client.receives('togroup', 'here');
});

sdkTest('each client was announced once and taken leave of once, and nothing was wrong on the wire', async () => {
  await rig.stopClients();
  const ids = rig.app.events('connected').map((event) => event.id);
  await eventually('all have gone', () => rig.app.events('disconnected').length >= ids.length);
  assert.deepEqual(rig.app.events('disconnected').map((event) => event.id).sort(), ids.sort());
  assert.deepEqual(await rig.app.connected(), []);
  await rig.assertNothingWrong();
  await rig.assertNoRelayCrossed();
});

sdkTest('a client that falls silent is told, and may come back', async () => {
  const impatient = await Rig.start({ connections: 1, environment: { CLIENT_TIMEOUT: `${silenceSeconds}` } });
  try {
    await Promise.all(protocols.map(async (protocol) => {
      const client = await RawClient.connected(impatient.app, protocol);
      // The app server counts from the first ping.
      client.say({ type: 6 });
      assert.equal((await client.end()).code, 1000);
      const [{ error, allowReconnect }] = goodbyes(client);
      assert.match(error, /ClientTimeoutInterval/);
      assert.equal(allowReconnect, true);
      assert.equal((await impatient.app.event('disconnected', client.id)).type, 'OperationCanceledException');
    }));
  } finally {
    await impatient.stop();
  }
});

// The Close messages that a client got, which nothing followed.
function goodbyes(client) {
  const first = client.received.items.findIndex((message) => message.type === 7);
  return first < 0 ? [] : client.received.items.slice(first).map(({ type, error, allowReconnect }) => {
    assert.equal(type, 7, 'something came behind Close');
    return { error: error ?? undefined, allowReconnect: allowReconnect ?? false };
  });
}
