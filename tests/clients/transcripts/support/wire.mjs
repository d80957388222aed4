// Clients of each transport below any library, strict about the form of what they get.
//
// All have the same face. `records` are the hub messages in order of arrival, without pings; `facts` is what the transport itself has
// shown, each different one once. Whatever is not exactly as it must be becomes a fact too.

import http from 'node:http';
import { once } from 'node:events';
import WebSocket from 'ws';
import { Inbox, patienceMs, within } from '../../support/wait.mjs';

const recordSeparator = 0x1e;

// A connection over 'websockets', 'sse' or 'longpolling' to where the app server's negotiate answer sends it.
export async function connect(transport, app, query = '') {
  const wire = new { websockets: WebSocketWire, sse: ServerSentEventsWire, longpolling: LongPollingWire }[transport]();
  await wire.negotiate(app, query);
  await within(patienceMs, wire.open(), () => `${transport}: the connection did not open`);
  return wire;
}

class Wire {
  records = new Inbox();
  facts = new Set();
  agent = new http.Agent({ keepAlive: true });
  #ended;
  #isOver = false;
  isLeaving = false;
  #sending = Promise.resolve();
  #calls = 0;

  constructor() {
    this.ended = new Promise((resolve) => { this.#ended = resolve; });
  }

  async negotiate(app, query) {
    let url = `${app.url}/chat${query}`;
    let answer = await this.#negotiateAt(url);
    while (answer.url) {
      url = answer.url;
      this.authorization = { Authorization: `Bearer ${answer.accessToken}` };
      answer = await this.#negotiateAt(url);
    }
    this.url = `${url}${url.includes('?') ? '&' : '?'}id=${answer.connectionToken}`;
    this.fact(`negotiated ${JSON.stringify(answer.availableTransports)}`);
  }

  async #negotiateAt(url) {
    const { origin, pathname, searchParams } = new URL(url);
    searchParams.set('negotiateVersion', '1');
    const { status, body } = await this.request('POST', `${origin}${pathname.replace(/\/?$/, '/negotiate')}?${searchParams}`);
    if (status !== 200) throw new Error(`negotiate: ${status} ${body}`);
    return JSON.parse(body);
  }

  // In the order of the calls; what fails becomes a fact.
  send(bytes) {
    this.#sending = this.#sending.then(() => this.write(bytes)).catch((error) => this.fact(`not sent: ${error.message}`));
    return this.#sending;
  }

  // A hub message.
  say(message) {
    return this.send(`${JSON.stringify(message)}\u001e`);
  }

  // Calls a method, as a stream if that is said, and waits for its end.
  async call(target, args, type = 1) {
    const invocationId = `call ${++this.#calls}`;
    await this.say({ type, invocationId, target, arguments: args });
    await this.completed(invocationId);
  }

  completed(invocationId) {
    const start = `{"type":3,"invocationId":"${invocationId}"`;
    return this.until((records) => records.some((record) => record.startsWith(start)), `the completion of ${invocationId}`);
  }

  // Leaves, unless the connection is over. What is still said to somebody who has left is left to chance.
  async leave() {
    await this.#sending;
    this.isLeaving = true;
    if (!this.#isOver) await within(patienceMs, this.hangUp(), () => 'the end is not confirmed');
    this.agent.destroy();
  }

  fact(text) {
    this.facts.add(text);
  }

  // One unit of the transport: whole hub messages, at least one.
  take(payload, unit) {
    if (this.isLeaving) return;
    if (payload.length === 0 || payload.at(-1) !== recordSeparator) {
      this.fact(`${unit} without the end of a hub message: …${payload.subarray(-40).toString('hex')}`);
      return;
    }
    const text = new TextDecoder('utf-8', { fatal: true }).decode(payload);
    for (const record of text.split('\u001e').slice(0, -1)) if (record !== '{"type":6}') this.records.push(record);
  }

  end(how) {
    if (this.#isOver) return;
    this.#isOver = true;
    if (!this.isLeaving) this.fact(`ended: ${how}`);
    this.#ended();
  }

  until(enough, what) {
    return this.records.until(enough, what, patienceMs);
  }

  hasEnded() {
    return within(patienceMs, this.ended, () => `the connection did not end; ${[...this.facts].join(' ')} ${JSON.stringify(this.records.items.slice(-3))}`);
  }

  // { status, headers, body }, the body as bytes.
  async request(method, url, body = '') {
    const headers = { ...this.authorization, 'Content-Length': Buffer.byteLength(body), ...(body && { 'Content-Type': 'text/plain;charset=UTF-8' }) };
    const request = http.request(url, { method, headers, agent: this.agent });
    request.end(body);
    const [response] = await within(patienceMs, once(request, 'response'), () => `no answer to ${method}`);
    const parts = [];
    for await (const part of response) parts.push(part);
    return { status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) };
  }

  // A hub message, or part of one, as the transports send it that have no way up of their own.
  async post(bytes) {
    const { status, headers, body } = await this.request('POST', this.url, bytes);
    this.fact(`POST ${described(status, headers, body)}`);
  }
}

class WebSocketWire extends Wire {
  async open() {
    this.socket = new WebSocket(this.url.replace(/^http/, 'ws'), { headers: this.authorization ?? {}, perMessageDeflate: false });
    this.socket.on('message', (data, isBinary) => {
      if (isBinary) this.fact('a binary message');
      this.take(data, 'a message');
    });
    this.socket.on('ping', () => this.fact('a WebSocket ping'));
    this.socket.once('close', (code, reason) => this.end(`${code} "${reason}"`));
    await once(this.socket, 'open');
  }

  async write(bytes) {
    this.socket.send(bytes);
  }

  // Without a closing handshake.
  async hangUp() {
    this.end();
    this.socket.terminate();
  }
}

class ServerSentEventsWire extends Wire {
  #unread = '';
  #lines = [];

  async open() {
    this.get = http.get(this.url, { headers: { ...this.authorization, Accept: 'text/event-stream' }, agent: false });
    this.get.on('error', () => {});
    const [response] = await once(this.get, 'response');
    this.fact(`stream ${described(response.statusCode, response.headers, '')}`);
    response.setEncoding('latin1');
    response.on('data', (part) => this.#read(part));
    response.on('error', () => this.end('broken off'));
    response.once('end', () => this.end(`the body is complete${this.#unread || this.#lines.length > 0 ? ', an event is not' : ''}`));
    // The comment that makes a browser's `open` event fire.
    await new Promise((resolve) => { this.opened = resolve; });
  }

  write(bytes) {
    return this.post(bytes);
  }

  async hangUp() {
    this.end();
    this.get.destroy();
  }

  // Lines end in CR LF, and are `data: …`, the empty one behind an event, or the one comment at the very beginning.
  #read(part) {
    this.#unread += part;
    const lines = this.#unread.split('\r\n');
    this.#unread = lines.pop();
    for (const line of lines) {
      if (this.opened) {
        this.fact(`begins with ${JSON.stringify(line)}`);
        this.opened();
        this.opened = undefined;
      } else if (line === '' && this.#lines.length > 0) {
        this.take(Buffer.from(this.#lines.join('\n'), 'latin1'), 'an event');
        this.#lines = [];
      } else if (line.startsWith('data: ') && !line.includes('\n') && !line.includes('\r')) {
        this.#lines.push(line.slice('data: '.length));
      } else {
        this.fact(`a line that is no data: ${JSON.stringify(line.slice(0, 60))}`);
      }
    }
  }
}

class LongPollingWire extends Wire {
  async open() {
    const { status, headers, body } = await this.request('GET', `${this.url}&_=${Date.now()}`);
    this.fact(`first poll ${described(status, headers, body)}`);
    this.#poll().catch((error) => this.end(error.message));
  }

  write(bytes) {
    return this.post(bytes);
  }

  // The poll that is open ends then.
  async hangUp() {
    const { status, headers, body } = await this.request('DELETE', this.url);
    this.fact(`DELETE ${described(status, headers, body)}`);
    await this.hasEnded();
  }

  async #poll() {
    for (;;) {
      const { status, headers, body } = await this.request('GET', `${this.url}&_=${Date.now()}`);
      if (status !== 200) return this.end(`poll ${described(status, headers, body)}`);
      if (body.length === 0) {
        this.fact(`poll ${described(status, headers, body)}`);
      } else {
        this.fact(`poll with data ${described(status, headers, '')}`);
        if (Number(headers['content-length']) !== body.length) this.fact('a poll without Content-Length');
        this.take(body, 'a poll');
      }
    }
  }
}

// What a client can rely on; of lists in headers, whatever blanks they have.
function described(status, headers, body) {
  const known = ['content-type', 'content-encoding', 'cache-control', 'pragma', 'expires'].map((name) => headers[name]?.replaceAll(', ', ','));
  return JSON.stringify([status, ...known, body.toString()]);
}
