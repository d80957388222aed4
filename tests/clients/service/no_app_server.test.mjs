// A hub that nobody serves: clients are told so, soon and in words.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { App, Service, parameters, protocols } from '../support/rig.mjs';
import { Client } from '../support/client.mjs';
import { RawClient, handshakes } from '../support/raw.mjs';
import { eventually } from '../support/wait.mjs';
import { audience, token } from '../support/token.mjs';

const service = await Service.start();
after(() => service.process.stop());

const url = `${service.url}/client/?hub=chat&asrs.op=%2Fchat`;
const accessToken = token(service.accessKey, audience('client'));

for (const protocol of protocols) {
  test(`${protocol}: start fails and says that no app server is there`, async () => {
    const client = new Client(undefined, { url, accessToken, protocol });
    await assert.rejects(client.start(), /app server/i);
  });

  test(`${protocol}: the error comes as a handshake response, then close 1000`, async () => {
    const client = await RawClient.open(url, { token: accessToken });
    client.send(handshakes[protocol]);
    assert.equal((await client.end()).code, 1000);
    assert.match(client.text, /^\{"error":"[^"]*app server[^"]*"\}\x1e$/i);
  });
}

test('an app server without its service answers negotiate with an error, and serves once the service is there', async () => {
  const { ports } = service;
  await service.process.stop();
  const app = await App.start(service, { kind: parameters.app, healthy: false });
  try {
    await eventually('negotiate answers 500', async () => {
      const response = await fetch(`${app.url}/chat/negotiate?negotiateVersion=1`, { method: 'POST' }).catch(() => undefined);
      await response?.arrayBuffer();
      return response?.status === 500;
    });
    await assert.rejects(new Client(app).start(), /500/);
    Object.assign(service, await Service.start({ ports }));
    await app.healthy();
    const client = new Client(app);
    await client.start();
    assert.equal(await client.invoke('Echo', 'at last'), 'at last');
    await client.stop();
  } finally {
    await app.process.stop();
  }
});
