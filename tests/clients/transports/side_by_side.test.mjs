// Clients of all transports in one hub: to the hub, and to each other, they are alike.

import { after, afterEach, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, kinds } from '../support/rig.mjs';
import { fence } from '../support/client.mjs';

const rig = await Rig.start();
after(() => rig.stop());
afterEach(() => rig.stopClients());

const crowd = (options = () => ({})) => rig.clients(kinds.length, (index) => ({ ...kinds[index], ...options(index) }));
const nameOf = ({ transport, protocol }) => `${transport}, ${protocol}`;

test('sends to all, a group, a user, a connection and all others reach whom they name', async () => {
  const clients = await crowd((index) => ({ user: `user ${index}` }));
  for (const client of clients) await client.invoke('Join', 'everybody');
  for (const [index, client] of clients.entries()) {
    const next = (index + 1) % clients.length;
    await client.invoke('Broadcast', `all ${index}`);
    await client.invoke('Others', `others ${index}`);
    await client.invoke('ToGroup', 'everybody', `group ${index}`);
    await client.invoke('ToUser', `user ${next}`, `user ${index}`);
    await client.invoke('ToConn', clients[next].id, `conn ${index}`);
    await fence(client, clients);
  }
  const everyone = clients.map((_, index) => index);
  for (const [index, client] of clients.entries()) {
    const before = (index + clients.length - 1) % clients.length;
    const heard = (kind) => client.texts(kind).filter((text) => !text.startsWith('fence'));
    assert.deepEqual(heard('all'), everyone.map((sender) => `all ${sender}`));
    assert.deepEqual(heard('others'), everyone.filter((sender) => sender !== index).map((sender) => `others ${sender}`));
    assert.deepEqual(heard('group'), everyone.map((sender) => `group ${sender}`));
    assert.deepEqual(heard('user'), [`user ${before}`]);
    assert.deepEqual(heard('conn'), [`conn ${before}`]);
  }
});

test('who has left its group, or gone, hears it no more', async () => {
  const [sender, ...members] = [await rig.client(kinds[0]), ...await crowd()];
  for (const member of members) await member.invoke('Join', 'g');
  await sender.invoke('ToGroup', 'g', 'first');
  for (const member of members) await member.receives('group', 'first');
  for (const member of members) await member.invoke('Leave', 'g');
  await sender.invoke('ToGroup', 'g', 'second');
  await fence(sender, members);
  for (const member of members) assert.deepEqual(member.texts('group'), ['first']);
});

test('each answers the questions of another', async () => {
  const clients = await crowd((index) => ({ answer: async (question) => {
    // The SDK forgets an answer that comes before it has noted the question.
    await new Promise((resume) => setTimeout(resume, 50));
    return `${index} to ${question}`;
  } }));
  const answers = await Promise.all(clients.map((client, index) => client.invoke('Ask', clients[(index + 1) % clients.length].id)));
  assert.deepEqual(answers, clients.map((_, index) => `${(index + 1) % clients.length} to q`));
});

for (const kind of kinds) {
  test(`${nameOf(kind)}: 1,000 messages there and back stay in order`, async () => {
    const client = await rig.client(kind);
    const texts = Array.from({ length: 1000 }, (_, index) => `${index}`);
    const sent = texts.map((text) => client.send('ToConn', client.id, text));
    await client.receives('conn', '999');
    await Promise.all(sent);
    assert.deepEqual(client.texts('conn'), texts);
  });
}

test('1,000 broadcasts in one burst reach all in order, 200 KB in their middle', async () => {
  const [sender, ...clients] = [await rig.client(kinds[0]), ...await crowd()];
  const texts = Array.from({ length: 1000 }, (_, index) => (index === 500 ? `${index} `.padEnd(200_000, 'x') : `${index}`));
  const sent = texts.map((text) => sender.send('Broadcast', text));
  for (const [index, client] of clients.entries()) {
    await client.receives('all', '999');
    assert.ok(client.texts('all').every((text, at) => text === texts[at]), `${nameOf(kinds[index])}: messages are missing or out of order`);
  }
  await Promise.all(sent);
});

test('whoever stops is gone at once, and whoever vanishes soon after', async () => {
  // Of who only polls, silence is the only sign: for 2 s, where the token can say so.
  const impatient = rig.service?.direct({ 'asrs.s.ttl': '2' });
  const [stopping, vanishing] = [await crowd(), await crowd(() => impatient)];
  const started = Date.now();
  await Promise.all(stopping.map((client) => client.stop()));
  for (const [index, client] of stopping.entries()) {
    await rig.app.event('disconnected', client.id);
    assert.ok(Date.now() - started < 10_000, `${nameOf(kinds[index])}: it was taken for gone only when it had been silent for long`);
  }
  for (const client of vanishing) client.cut();
  for (const client of vanishing) await rig.app.event('disconnected', client.id);
});

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
