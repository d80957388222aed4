// The app server asks a client and gets its answer.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols } from '../support/rig.mjs';

const rig = await Rig.start();
after(() => rig.stop());

// The SDK forgets an answer to the first question of a process that comes before it has noted the question, some milliseconds later.
const thoughtMs = 50;
const answer = (text) => async (question) => {
  await new Promise((resume) => setTimeout(resume, thoughtMs));
  return `${text} to ${question}`;
};

for (const protocol of protocols) {
  test(`${protocol}: Ask returns what another client answers`, async () => {
    const asker = await rig.client({ protocol });
    const asked = await rig.client({ protocol, answer: answer('yes') });
    assert.equal(await asker.invoke('Ask', asked.id), 'yes to q');
  });

  test(`${protocol}: answers go to the question they belong to`, async () => {
    const asker = await rig.client({ protocol });
    const asked = await rig.clients(6, (index) => ({ protocol: protocols[index % protocols.length], answer: answer(`client ${index}`) }));
    const answers = await Promise.all(asked.map((client) => asker.invoke('Ask', client.id)));
    assert.deepEqual(answers, asked.map((_, index) => `client ${index} to q`));
  });

  test(`${protocol}: a client may ask itself`, async () => {
    const client = await rig.client({ protocol, answer: answer('me') });
    assert.equal(await client.invoke('Ask', client.id), 'me to q');
  });

  test(`${protocol}: an answer that is an error fails the question`, async () => {
    const asker = await rig.client({ protocol });
    const asked = await rig.client({ protocol, answer: async () => { throw new Error('I will not say'); } });
    await assert.rejects(asker.invoke('Ask', asked.id), /I will not say/);
  });

  test(`${protocol}: asking nobody fails`, async () => {
    const asker = await rig.client({ protocol });
    await assert.rejects(asker.invoke('Ask', 'no-such-connection'), (error) => !error.message.includes('no completion of'));
  });

  test(`${protocol}: asking a client that leaves instead of answering fails`, async () => {
    const asker = await rig.client({ protocol });
    let questioned;
    const wasAsked = new Promise((resolve) => { questioned = resolve; });
    const asked = await rig.client({ protocol, answer: () => { questioned(); return new Promise(() => {}); } });
    const outcome = assert.rejects(asker.invoke('Ask', asked.id), (error) => !error.message.includes('no completion of'));
    await wasAsked;
    await asked.stop();
    await outcome;
    assert.equal(await asker.invoke('Echo', 'alive'), 'alive');
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
