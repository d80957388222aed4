// HTTP requests by hand: what a client on Server-Sent Events or long polling sends, and what no client would.

import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import { handshakes, upgradeStatus } from './raw.mjs';
import { audience, token } from './token.mjs';
import { Inbox, patienceMs, within } from './wait.mjs';

// A call of the hub, in JSON.
export const call = (method, ...args) => `${JSON.stringify({ type: 1, invocationId: '1', target: method, arguments: args })}\x1e`;

// One request, on a connection of its own unless an agent keeps some.
export class Exchange {
  // The body, piece by piece as it comes, without its chunking.
  pieces = new Inbox();

  #request;
  #response;

  constructor(url, { method = 'GET', headers = {}, body, agent = false } = {}) {
    const request = http.request(url, { method, headers, agent });
    this.what = `${method} ${url}`;
    this.#response = once(request, 'response').then(([response]) => response);
    this.head = this.#response.then((response) => {
      response.on('data', (piece) => this.pieces.push(piece));
      this.ended = once(response, 'end').then(() => true);
      this.ended.catch(() => {});
      return { status: response.statusCode, headers: response.headers, rawHeaders: response.rawHeaders };
    });
    this.head.catch(() => {});
    // Whoever waits for the answer is told; nobody else need know.
    request.on('error', () => {});
    this.#request = request;
    request.end(body);
  }

  get body() {
    return Buffer.concat(this.pieces.items);
  }

  // Status and headers, as soon as they are there.
  begun() {
    return within(patienceMs, this.head, () => `no answer to ${this.what}`);
  }

  // The whole answer: { status, headers, type, body }.
  async answer(ms = patienceMs) {
    const whole = this.head.then(async (head) => {
      await this.ended;
      return { ...head, type: head.headers['content-type'], body: this.body };
    });
    return within(ms, whole, () => `no end of the answer to ${this.what}; so far it is ${JSON.stringify(this.body.toString().slice(-300))}`);
  }

  // The end of the connection, whether the answer was complete or not.
  async gone(ms = patienceMs) {
    const closed = this.#response.then((response) => response.closed || new Promise((resolve) => response.once('close', resolve)));
    await within(ms, closed, () => `the answer to ${this.what} goes on`);
  }

  // Waits until the body is as `enough(text)` wants it.
  async until(enough, what) {
    await this.pieces.until(() => enough(this.body.toString()), what);
    return this.body.toString();
  }

  // Stops reading, and reads on.
  async pause() {
    (await this.#response).pause();
  }

  async resume() {
    (await this.#response).resume();
  }

  // Goes away without waiting.
  abort() {
    this.#request.destroy();
  }
}

// A client's connection, one request at a time. To plain ASP.NET Core SignalR it is the same but for address and token.
export class HttpConnection {
  // `claims` go into the token that the service gets.
  constructor({ service, app }, { claims = {}, headers = {} } = {}) {
    this.base = service ? `${service.url}/client` : `${app.url}/chat`;
    this.query = new URLSearchParams(service ? { hub: 'chat', 'asrs.op': '/chat' } : {});
    this.headers = { ...(service && { Authorization: `Bearer ${token(service.accessKey, audience('client'), claims)}` }), ...headers };
  }

  // With an id of its own, on no transport yet; `offer` is the answer to its negotiate.
  static async negotiated(rig, options) {
    const connection = new HttpConnection(rig, options);
    const { status, body } = await connection.negotiate().answer();
    assert.equal(status, 200, `negotiate: ${body}`);
    connection.offer = JSON.parse(body);
    connection.query.set('id', connection.offer.connectionToken);
    return connection;
  }

  // On long polling: its first poll has been answered.
  static async polling(rig, options) {
    const connection = await HttpConnection.negotiated(rig, options);
    const { status, body } = await connection.poll().answer();
    assert.equal(status, 200, `the first poll: ${body}`);
    return connection;
  }

  // On Server-Sent Events: `stream` is open.
  static async streaming(rig, options) {
    const connection = await HttpConnection.negotiated(rig, options);
    connection.stream = connection.events();
    const { status } = await connection.stream.begun();
    assert.equal(status, 200, 'the event stream');
    return connection;
  }

  // The id under which the hub knows it.
  get id() {
    return this.offer.connectionId;
  }

  get url() {
    return `${this.base}?${this.query}`;
  }

  request({ url = this.url, headers, ...options } = {}) {
    return new Exchange(url, { ...options, headers: { ...this.headers, ...headers } });
  }

  negotiate(query = 'negotiateVersion=1', options = {}) {
    return this.request({ url: `${this.base}/negotiate?${this.query}&${query}`, method: 'POST', ...options });
  }

  poll() {
    return this.request();
  }

  // A poll that is known to have arrived: of two, the other one has been told to go.
  async openPoll() {
    const polls = [this.poll(), this.poll()];
    const outdone = await Promise.race(polls.map(async (poll) => {
      await poll.begun();
      return poll;
    }));
    return polls.find((poll) => poll !== outdone);
  }

  events() {
    return this.request({ headers: { Accept: 'text/event-stream' } });
  }

  post(body) {
    return this.request({ method: 'POST', body });
  }

  delete() {
    return this.request({ method: 'DELETE' });
  }

  upgrade() {
    return upgradeStatus(this.url, this.headers);
  }

  // Posts what must be taken.
  async say(body) {
    const { status, body: text } = await this.post(body).answer();
    assert.equal(status, 200, `POST: ${text}`);
  }

  // Shakes hands, waits until the hub has greeted it, and is itself.
  async greeted(protocol = 'json') {
    await this.say(handshakes[protocol]);
    if (this.stream) await this.stream.until((text) => text.includes('hello') && text.endsWith('\r\n\r\n'), 'hello');
    else await this.pollUntil((text) => text.includes('hello'), 'hello');
    return this;
  }

  // Polls until all that has come is as `enough(text)` wants it, and returns that.
  async pollUntil(enough, what) {
    const parts = [];
    const text = () => Buffer.concat(parts).toString();
    while (!enough(text())) {
      const { status, body } = await this.poll().answer();
      assert.equal(status, 200, `waited for ${what}; got ${text().slice(-300)}`);
      parts.push(body);
    }
    return text();
  }
}
