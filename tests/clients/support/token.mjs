// Access tokens made by hand, good and bad ones.

import { createHmac } from 'node:crypto';

const digests = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' };
const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

// `claims` replace the defaults; a claim that is undefined is left out.
export function token(key, audience, claims = {}, algorithm = 'HS256') {
  const now = Math.floor(Date.now() / 1000);
  const body = { nbf: now, exp: now + 3600, iat: now, iss: 'azure-signalr', aud: audience, ...claims };
  const signed = `${encoded({ alg: algorithm, typ: 'JWT' })}.${encoded(body)}`;
  const digest = digests[algorithm];
  return `${signed}.${digest ? createHmac(digest, key).update(signed).digest('base64url') : ''}`;
}

// The SDK leaves the port out.
export const audience = (endpoint, hub = 'chat') => `http://127.0.0.1/${endpoint}/?hub=${hub}`;
