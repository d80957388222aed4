// Microsoft's JavaScript client, of either release, with what it received kept in an inbox.

import assert from 'node:assert/strict';
import * as signalr10 from '@microsoft/signalr';
import * as messagepack10 from '@microsoft/signalr-protocol-msgpack';
import * as signalr8 from 'signalr8';
import * as messagepack8 from 'signalr8-msgpack';
import { Inbox, within, patienceMs } from './wait.mjs';

const { HubConnectionState, HttpTransportType, LogLevel } = signalr10;

const releases = { 8: { ...signalr8, ...messagepack8 }, 10: { ...signalr10, ...messagepack10 } };

// The names of the environment for what the library calls otherwise.
const transportTypes = {
  any: undefined,
  websockets: HttpTransportType.WebSockets,
  sse: HttpTransportType.ServerSentEvents,
  longpolling: HttpTransportType.LongPolling,
};

export class Client {
  // Every recv(kind, text), in order of arrival.
  inbox = new Inbox();
  // Every hello(id, user, claims, query): one for each time the connection came up.
  hellos = new Inbox();
  // Every change of the connection: 'reconnecting', 'reconnected', 'closed', with the error if there was one.
  changes = new Inbox();

  // `query` is what the application puts behind the hub's address; `url` replaces app and hub together. The transport
  // 'any' is what applications have: the client tries what it is offered. `http` holds more options of its HTTP connection.
  constructor(app, { hub = 'chat', protocol = 'json', transport = 'websockets', signalr = 10, user, query = {}, url, reconnect = false, stateful = false, accessToken, answer, http = {} } = {}) {
    const { HubConnectionBuilder, MessagePackHubProtocol } = releases[signalr];
    assert.ok(transport in transportTypes, `no such transport: ${transport}`);
    const parts = new URLSearchParams(user === undefined ? query : { user, ...query }).toString();
    const address = url ?? `${app.url}/${hub}${parts && `?${parts}`}`;
    const builder = new HubConnectionBuilder()
      .withUrl(address, { transport: transportTypes[transport], ...(accessToken && { accessTokenFactory: () => accessToken }), ...http })
      .configureLogging(LogLevel.None);
    if (protocol === 'messagepack') builder.withHubProtocol(new MessagePackHubProtocol());
    if (reconnect) builder.withAutomaticReconnect({ nextRetryDelayInMilliseconds: ({ elapsedMilliseconds }) => (elapsedMilliseconds < 40_000 ? 100 : null) });
    if (stateful) builder.withStatefulReconnect();
    this.connection = builder.build();
    this.connection.on('recv', (kind, text) => this.inbox.push({ kind, text }));
    this.connection.on('hello', (id, userId, claims, queryString) => this.hellos.push({ id, user: userId, claims, query: queryString }));
    if (answer) this.connection.on('question', answer);
    this.connection.onreconnecting((error) => this.changes.push({ change: 'reconnecting', error: error?.message }));
    this.connection.onreconnected((id) => this.changes.push({ change: 'reconnected', id }));
    this.connection.onclose((error) => this.changes.push({ change: 'closed', error: error?.message }));
  }

  async start() {
    await within(patienceMs, this.connection.start(), () => 'start() neither succeeded nor failed');
    await this.hellos.until((items) => items.length > 0, 'hello');
  }

  async stop() {
    await this.connection.stop();
    await this.onStopped?.();
  }

  // What the library calls the transport it is on: WebSocket, ServerSentEvents, LongPolling.
  get transport() {
    return this.connection.connection.transport.constructor.name.replace(/Transport$/, '');
  }

  // Leaves without a word, as the network or a closed page does it.
  cut() {
    const { transport } = this.connection.connection;
    if (transport._webSocket) transport._webSocket.terminate();
    else if (transport._eventSource) transport._eventSource.close();
    else {
      transport._running = false;
      transport._pollAbort.abort();
    }
  }

  get isConnected() {
    return this.connection.state === HubConnectionState.Connected;
  }

  // What the hub said about the present connection.
  get hello() {
    return this.hellos.items.at(-1);
  }

  get id() {
    return this.hello.id;
  }

  invoke(method, ...args) {
    return within(patienceMs, this.connection.invoke(method, ...args), () => `no completion of ${method}`);
  }

  send(method, ...args) {
    return this.connection.send(method, ...args);
  }

  // Items of a stream, to its end.
  collect(method, ...args) {
    const items = [];
    const done = new Promise((resolve, reject) => {
      this.connection.stream(method, ...args).subscribe({ next: (item) => items.push(item), error: reject, complete: () => resolve(items) });
    });
    return within(patienceMs, done, () => `stream ${method} did not end; ${items.length} item(s) came`);
  }

  // Resolves when recv(kind, text) has arrived.
  receives(kind, text) {
    return this.inbox.until((items) => items.some((item) => item.kind === kind && item.text === text), `recv(${kind}, ${String(text).slice(0, 60)})`);
  }

  texts(kind) {
    return this.inbox.items.filter((item) => item.kind === kind).map((item) => item.text);
  }

  has(change, ms) {
    return this.changes.until((items) => items.some((item) => item.change === change), `the client to be ${change}`, ms);
  }

  // Back for the `times`th time, its hello included: `hello` and `id` are those of the new connection.
  async reconnected(times = 1, ms = 40_000) {
    await this.changes.until((items) => items.filter((item) => item.change === 'reconnected').length >= times, `reconnect ${times}`, ms);
    await this.hellos.until((items) => items.length > times, 'hello after the reconnect');
  }
}

let fences = 0;

// After this, whatever `sender` caused before has arrived at `receivers` or never will: messages of one server connection to one
// client keep their order, and all that a hub method sends travels on the server connection of its caller.
export async function fence(sender, receivers) {
  const text = `fence ${++fences}`;
  await sender.invoke('Broadcast', text);
  await Promise.all(receivers.map((receiver) => receiver.receives('all', text)));
}
