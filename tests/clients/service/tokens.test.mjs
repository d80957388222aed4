// Who gets in: good tokens everywhere they belong, bad ones nowhere.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Service } from '../support/rig.mjs';
import { upgradeStatus } from '../support/raw.mjs';
import { audience, token } from '../support/token.mjs';

// Without the argument a token may have been made for any host: the key alone decides.
const service = await Service.start({ args: ['--audience-host', '127.0.0.1'] });
after(() => service.process.stop());

const key = service.accessKey;
const now = Math.floor(Date.now() / 1000);
const bearer = (text) => ({ Authorization: `Bearer ${text}` });

const endpoints = [
  { name: '/client', audience: 'client', admitted: 101, ask: async (headers, extra = '') => (await upgradeStatus(`${service.url}/client/?hub=chat${extra}`, headers)).status },
  { name: '/client/negotiate', audience: 'client', admitted: 200, ask: async (headers, extra = '') => (await fetch(`${service.url}/client/negotiate?hub=chat${extra}`, { method: 'POST', headers })).status },
  { name: '/server', audience: 'server', admitted: 101, ask: async (headers) => (await upgradeStatus(`${service.url}/server/?hub=chat&cid=6b8c3a52-0f5e-4a51-9f0c-3f1f0b9d7c11`, headers)).status },
];

for (const endpoint of endpoints) {
  const good = audience(endpoint.audience);
  const other = endpoint.audience === 'client' ? 'server' : 'client';
  const valid = token(key, good);
  const [head, body, signature] = valid.split('.');
  const forged = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(body, 'base64url')), sub: 'admin' })).toString('base64url');

  const bad = {
    'no token': {},
    'an empty token': bearer(''),
    'another scheme': { Authorization: `Basic ${valid}` },
    'no token at all but text': bearer('open sesame'),
    'two parts only': bearer(`${head}.${body}`),
    'another key': bearer(token('another key, just as long as the first one', good)),
    'a changed body': bearer(`${head}.${forged}.${signature}`),
    'a cut signature': bearer(valid.slice(0, -4)),
    'algorithm none': bearer(token(key, good, {}, 'none')),
    'algorithm none with the signature left': bearer(`${Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')}.${body}.${signature}`),
    'an asymmetric algorithm': bearer(`${Buffer.from('{"alg":"RS256","typ":"JWT"}').toString('base64url')}.${body}.${signature}`),
    'expired an hour ago': bearer(token(key, good, { iat: now - 7200, nbf: now - 7200, exp: now - 3600 })),
    'valid from tomorrow': bearer(token(key, good, { nbf: now + 86_400, exp: now + 90_000 })),
    'never expiring': bearer(token(key, good, { exp: undefined })),
    'no audience': bearer(token(key, undefined)),
    'another hub\'s audience': bearer(token(key, audience(endpoint.audience, 'second'))),
    [`the audience of /${other}`]: bearer(token(key, audience(other))),
    'another host\'s audience': bearer(token(key, `http://elsewhere.example.com/${endpoint.audience}/?hub=chat`)),
  };

  for (const [what, headers] of Object.entries(bad)) {
    test(`${endpoint.name}: ${what} is 401`, async () => {
      assert.equal(await endpoint.ask(headers), 401);
    });
  }

  const fine = {
    'HS256': valid,
    'HS384': token(key, good, {}, 'HS384'),
    'HS512': token(key, good, {}, 'HS512'),
    'the audience with its port': token(key, good.replace('127.0.0.1', `127.0.0.1:${service.ports[0]}`)),
    'several audiences': token(key, ['urn:something-else', good]),
    'a clock that is 10 s ahead': token(key, good, { iat: now + 10, nbf: now + 10 }),
  };

  for (const [what, text] of Object.entries(fine)) {
    test(`${endpoint.name}: ${what} is admitted`, async () => {
      assert.equal(await endpoint.ask(bearer(text)), endpoint.admitted);
    });
  }
}

test('/client: a browser\'s token comes in the query', async () => {
  const good = token(key, audience('client'));
  const [client] = endpoints;
  assert.equal(await client.ask({}, `&access_token=${good}`), 101);
  assert.equal(await client.ask({}, `&access_token=stray&access_token=${good}`), 101, 'the last one is the browser\'s');
  assert.equal(await client.ask({}, '&access_token=nonsense'), 401);
});

test('/server: a token in the query does not count', async () => {
  const good = token(key, audience('server'));
  assert.equal((await upgradeStatus(`${service.url}/server/?hub=chat&access_token=${good}`)).status, 401);
});
