// Below the client library: HTTP requests, upgrades and hub messages by hand.

import http from 'node:http';
import { once } from 'node:events';
import WebSocket from 'ws';
import { Inbox, within, patienceMs } from './wait.mjs';

export const handshakes = {
  json: '{"protocol":"json","version":1}\x1e',
  messagepack: '{"protocol":"messagepack","version":1}\x1e',
};

// What the hub sends as Close when the client is welcome to come back.
export const closeAllowingReconnect = {
  json: Buffer.from('{"type":7,"allowReconnect":true}\x1e'),
  messagepack: Buffer.from('049307c0c3', 'hex'),
};

export const ping = { json: Buffer.from('{"type":6}\x1e'), messagepack: Buffer.from('029106', 'hex') };

// The answer to a WebSocket upgrade; a connection that was accepted is cut at once.
export async function upgradeStatus(url, headers = {}) {
  const request = http.get(url, {
    headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers },
  });
  const answered = new Promise((resolve, reject) => {
    request.once('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: 101, headers: response.headers, body: '' });
    });
    request.once('response', async (response) => {
      response.setEncoding('utf8');
      let body = '';
      for await (const part of response) body += part;
      resolve({ status: response.statusCode, headers: response.headers, body });
    });
    request.once('error', reject);
  });
  return within(patienceMs, answered, () => `no answer to the upgrade of ${url}`);
}

// One WebSocket that speaks the hub protocol only as far as a test makes it.
export class RawClient {
  // Every WebSocket message, as bytes.
  messages = new Inbox();

  static async open(url, { token, headers = {} } = {}) {
    const client = new RawClient();
    client.socket = new WebSocket(url.replace(/^http/, 'ws'), { headers: { ...(token && { Authorization: `Bearer ${token}` }), ...headers }, perMessageDeflate: false });
    client.socket.on('message', (data) => client.messages.push(data));
    client.closed = once(client.socket, 'close').then(([code, reason]) => ({ code, reason: reason.toString() }));
    client.closed.catch(() => {});
    await within(patienceMs, once(client.socket, 'open'), () => `${url} did not open`);
    return client;
  }

  // Goes where the app server's negotiate answer sends it, without an id of its own; plain ASP.NET Core SignalR sends it nowhere.
  static async viaApp(app, query = '', options = {}) {
    const { url = `${app.url}/chat`, accessToken } = await negotiate(app, query);
    return RawClient.open(url, { token: accessToken, ...options });
  }

  send(data) {
    this.socket.send(data);
  }

  // Sends the handshake and waits for its answer.
  async handshake(protocol) {
    this.send(handshakes[protocol]);
    await this.messages.until((items) => items.some((item) => item.includes('{}\x1e')), 'the handshake response');
  }

  // All that came, as text.
  get text() {
    return Buffer.concat(this.messages.items).toString();
  }

  close() {
    this.socket.terminate();
  }

  end(ms = patienceMs) {
    return within(ms, this.closed, () => `the service did not close; so far it sent ${JSON.stringify(this.text.slice(-300))}`);
  }
}

// The app server's negotiate answer: { url, accessToken }.
export async function negotiate(app, query = '', hub = 'chat') {
  const response = await fetch(`${app.url}/${hub}/negotiate${query || '?negotiateVersion=1'}`, { method: 'POST' });
  if (response.status !== 200) throw new Error(`negotiate: ${response.status} ${await response.text()}`);
  return response.json();
}
