// Below the client library: HTTP requests, upgrades and hub messages by hand.

import http from 'node:http';
import { once } from 'node:events';
import WebSocket from 'ws';
import { JsonHubProtocol, NullLogger } from '@microsoft/signalr';
import { MessagePackHubProtocol } from '@microsoft/signalr-protocol-msgpack';
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

const hubProtocols = { json: new JsonHubProtocol(), messagepack: new MessagePackHubProtocol() };

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
  // Every hub message behind the handshake response.
  received = new Inbox();

  static async open(url, { token, headers = {}, agent } = {}) {
    const client = new RawClient();
    client.socket = new WebSocket(url.replace(/^http/, 'ws'), { headers: { ...(token && { Authorization: `Bearer ${token}` }), ...headers }, perMessageDeflate: false, agent });
    client.socket.on('message', (data) => client.#take(data));
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

  // The same, as far as hello: the app server knows it by `id`.
  static async connected(app, protocol, query) {
    const client = await RawClient.viaApp(app, query);
    await client.handshake(protocol);
    const hello = () => client.received.items.find((message) => message.target === 'hello');
    await client.received.until(hello, 'hello');
    return Object.assign(client, { id: hello().arguments[0] });
  }

  send(data) {
    this.socket.send(data);
  }

  // Sends a hub message in the protocol of the handshake.
  say(message) {
    this.send(hubProtocols[this.protocol].writeMessage(message));
  }

  // Sends the handshake and waits for its answer.
  async handshake(protocol) {
    this.protocol = protocol;
    this.send(handshakes[protocol]);
    await this.messages.until((items) => items.some((item) => item.includes('{}\x1e')), 'the handshake response');
  }

  #take(data) {
    if (this.protocol && this.messages.items.length > 0) {
      const input = this.protocol === 'json' ? data.toString() : new Uint8Array(data).buffer;
      for (const message of hubProtocols[this.protocol].parseMessages(input, NullLogger.instance)) this.received.push(message);
    }
    this.messages.push(data);
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
