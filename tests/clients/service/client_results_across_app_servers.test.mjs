// A hub method of one app server asks a client that belongs to another: the answer comes back through the service.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, parameters, protocols } from '../support/rig.mjs';
import { audience, token } from '../support/token.mjs';

// See hub/client_results.test.mjs.
const thoughtMs = 50;

for (const protocol of protocols) {
  test(`${protocol}: a client of another app server is asked, answers, refuses and leaves`, async () => {
    const rig = await Rig.start({ connections: parameters.shards });
    try {
      const { app: first, service } = rig;
      const direct = { protocol, url: `${service.url}/client/?hub=chat&asrs.op=%2Fchat`, accessToken: token(service.accessKey, audience('client')) };
      // Each app server has a connection to each shard, so that none is asked for another one.
      const askers = await rig.clients(parameters.shards, direct);
      const [asker] = askers;
      await rig.secondApp({ connections: parameters.shards });
      // It goes to a server connection with the fewest clients, which is one of the second app server's.
      let questioned;
      const wasAsked = new Promise((resolve) => { questioned = resolve; });
      const answers = [
        async () => 'yes',
        async () => { throw new Error('I will not say'); },
        () => { questioned(); return new Promise(() => {}); },
      ];
      const answer = async () => {
        await new Promise((resume) => setTimeout(resume, thoughtMs));
        return answers.shift()();
      };
      const asked = await rig.client({ ...direct, answer });
      if (parameters.app === 'sdk') assert.deepEqual((await first.connected()).sort(), askers.map((each) => each.id).sort());

      assert.equal(await asker.invoke('Ask', asked.id), 'yes');
      await assert.rejects(asker.invoke('Ask', asked.id), /I will not say/);
      const outcome = assert.rejects(asker.invoke('Ask', asked.id), /disconnected/);
      await wasAsked;
      await asked.stop();
      await outcome;
      assert.equal(await asker.invoke('Echo', 'alive'), 'alive');
    } finally {
      await rig.stop();
    }
  });
}
