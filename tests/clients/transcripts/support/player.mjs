// One client of a script: the stock client, and a log of what its server says to it.
//
// The log is taken where the client's hub protocol has read a message, so it has the order of arrival, which promises don't keep. What
// the application gets (results, ends of streams, changes of the connection) is logged beside it.

import { HttpTransportType, HubConnectionBuilder, JsonHubProtocol, LogLevel, MessageType, Subject } from '@microsoft/signalr';
import { MessagePackHubProtocol } from '@microsoft/signalr-protocol-msgpack';
import { Inbox, Late, patienceMs, within } from '../../support/wait.mjs';

const transports = { websockets: HttpTransportType.WebSockets, sse: HttpTransportType.ServerSentEvents, longpolling: HttpTransportType.LongPolling };

// No hub message at all: the hub closes with an error and lets the client come back.
const garbage = { json: '{"type":"foo"}\u001e', messagepack: Uint8Array.of(1, 0xc0).buffer };

export class Player {
  // { lane, text }, emptied after each step.
  log = new Inbox();
  // Texts of fences that have arrived.
  fences = new Inbox();
  // Connection ids, the present one last.
  ids = new Inbox();
  // Changes of the connection: 'closed', 'reconnecting', 'reconnected'.
  changes = new Inbox();
  isOnline = false;
  // What belongs to an invocation id: { lane, take, items, done }.
  #calls = new Map();
  #writing;

  constructor(app, hub, { name, user, answers }, { transport, protocol }) {
    Object.assign(this, { app, name, protocol });
    const url = `${app.url}/${hub}?${new URLSearchParams({ ...(user && { user }), name: `${name} & co` })}`;
    this.connection = new HubConnectionBuilder()
      .withUrl(url, { transport: transports[transport] })
      .withHubProtocol(this.#tapped(protocol === 'json' ? new JsonHubProtocol() : new MessagePackHubProtocol()))
      .withAutomaticReconnect({ nextRetryDelayInMilliseconds: () => 20 })
      .configureLogging(LogLevel.None)
      .build();
    for (const target of ['recv', 'hello']) this.connection.on(target, () => {});
    if (answers === 'value') this.connection.on('question', async () => `${name} says yes`);
    if (answers === 'error') this.connection.on('question', async () => { throw new Error(`${name} will not say`); });
    this.connection.onreconnecting((error) => this.#changed('reconnecting', error));
    this.connection.onreconnected(() => this.#changed('reconnected'));
    this.connection.onclose((error) => this.#changed('closed', error));
  }

  get id() {
    return this.ids.items.at(-1);
  }

  async start() {
    const { length } = this.ids.items;
    this.isLeaving = false;
    await within(patienceMs, this.connection.start(), () => `${this.name}: start() neither succeeded nor failed`);
    await this.#greeted(length + 1);
    this.isOnline = true;
  }

  // Gone, for the app server as well: who asks for it from now on asks nobody.
  async stop() {
    this.isOnline = false;
    this.isLeaving = true;
    await within(patienceMs, this.connection.stop(), () => `${this.name}: stop() did not end`);
    if (this.id) await this.app.event('disconnected', this.id, patienceMs);
  }

  // Stops while a stream of it runs, which has begun and would go on after an hour.
  async leave(lane) {
    const call = this.call(lane, { how: 'stream', method: 'Ticks', args: [3_600_000] });
    await this.log.until((items) => items.some((item) => item.lane === lane), `${this.name} to get the first item`, patienceMs);
    await this.stop();
    await call;
  }

  // Makes the hub end the connection for good.
  async abort() {
    const { id } = this;
    await this.#lost('closed', () => this.connection.send('AbortMe'));
    await this.app.event('disconnected', id, patienceMs);
    await this.start();
  }

  // Breaks the hub protocol, which no stock client does by itself.
  async garble() {
    const { id } = this;
    const { length } = this.ids.items;
    await this.#lost('reconnected', () => this.connection.connection.send(garbage[this.protocol]));
    await this.#greeted(length + 1);
    await this.app.event('disconnected', id, patienceMs);
  }

  // One call of a script, to its end, which is logged whatever it is; that there is none is a failure. `sent` says when a call without an answer has had its effect.
  async call(lane, { how, method, args, take, items, error, streams }, sent = async () => {}) {
    const perform = {
      invoke: () => this.#invoke(lane, method, args),
      send: () => this.connection.send(method, ...args).then(sent).then(() => 'sent'),
      stream: () => this.#stream(lane, method, args, take),
      upload: () => this.#upload(lane, method, args, items, error, streams),
    }[how];
    try {
      const outcome = await within(patienceMs, perform(), () => `${this.name}: no end of ${how} ${method}`);
      this.log.push({ lane: `${lane} outcome`, text: shown(outcome) });
    } catch (failure) {
      if (failure instanceof Late) throw failure;
      this.log.push({ lane: `${lane} outcome`, text: `failed: ${failure.message}` });
    }
  }

  // Everything that its server connection carried before has arrived at all `players`.
  async fence(text, players) {
    await within(patienceMs, this.#invoke('fence', 'Broadcast', [text]), () => `${this.name}: no completion of the fence ${text}`);
    await Promise.all(players.map((player) => player.fences.until((items) => items.includes(text), `${player.name} to get ${text}`, patienceMs)));
  }

  sees(text) {
    return this.log.until((items) => items.some((item) => item.text.includes(text)), `${this.name} to get ${text}`, patienceMs);
  }

  #invoke(lane, method, args, ...uploads) {
    this.#writing = { lane };
    return this.connection.invoke(method, ...args, ...uploads);
  }

  async #stream(lane, method, args, take, ...uploads) {
    const call = { lane, take, items: 0 };
    const completed = new Promise((resolve) => { call.done = resolve; });
    this.#writing = call;
    let count = 0;
    const ended = new Promise((resolve, reject) => {
      const subscription = this.connection.stream(method, ...args, ...uploads).subscribe({
        next: () => {
          count += 1;
          if (count !== take) return;
          subscription.dispose();
          resolve(`gave up after ${take}`);
        },
        error: reject,
        complete: () => resolve(`${count} items`),
      });
    });
    const outcome = await ended;
    // A stream that is given up is completed all the same.
    await completed;
    return outcome;
  }

  #upload(lane, method, args, items, error, streams) {
    const subject = new Subject();
    const outcome = streams ? this.#stream(lane, method, args, undefined, subject) : this.#invoke(lane, method, args, subject);
    for (const item of items) subject.next(item);
    if (error) subject.error(new Error(error));
    else subject.complete();
    return outcome;
  }

  async #lost(change, cause) {
    const { length } = this.changes.items;
    // The connection may end before the request that ended it is answered.
    cause().catch(() => {});
    await this.changes.until((items) => items.slice(length).includes(change), `${this.name} to be ${change}`, patienceMs);
  }

  async #greeted(times) {
    await this.ids.until((items) => items.length >= times, `${this.name} to get hello`, patienceMs);
  }

  #changed(change, error) {
    this.log.push({ lane: 'connection', text: `${change}${error ? `: ${withoutDetail(error.message)}` : ''}` });
    this.changes.push(change);
  }

  // The stock protocol, with all that it reads and writes shown to us.
  #tapped(protocol) {
    return {
      name: protocol.name,
      version: protocol.version,
      transferFormat: protocol.transferFormat,
      parseMessages: (input, logger) => {
        const messages = protocol.parseMessages(input, logger);
        for (const message of messages) this.#read(message);
        return messages;
      },
      writeMessage: (message) => {
        if (this.#writing && (message.type === MessageType.Invocation || message.type === MessageType.StreamInvocation)) {
          this.#calls.set(message.invocationId, this.#writing);
          this.#writing = undefined;
        }
        return protocol.writeMessage(message);
      },
    };
  }

  #read(message) {
    // Both sides say goodbye at once: whether the other one's is still read is left to chance.
    if (this.isLeaving || message.type === MessageType.Ping) return;
    const call = this.#calls.get(message.invocationId) ?? { lane: `unknown call ${message.invocationId}` };
    switch (message.type) {
      case MessageType.Invocation:
        this.#invoked(message);
        break;
      case MessageType.StreamItem:
        // How many more come until the server hears that it is enough is left to chance.
        if (call.take !== undefined && ++call.items > call.take) break;
        this.log.push({ lane: call.lane, text: `item ${shown(message.item)}` });
        break;
      case MessageType.Completion:
        if (call.lane !== 'fence') this.log.push({ lane: call.lane, text: `completion ${message.error === undefined ? shown(message.result) : `error: ${message.error}`}` });
        call.done?.();
        break;
      case MessageType.Close:
        this.log.push({ lane: 'connection', text: `close${message.allowReconnect ? ', may reconnect' : ''}${message.error ? `: ${withoutDetail(message.error)}` : ''}` });
        break;
      default:
        this.log.push({ lane: 'unexpected', text: JSON.stringify(message) });
    }
  }

  #invoked({ target, arguments: args, invocationId }) {
    const [first, text] = args;
    if (target === 'recv' && text.startsWith('fence.')) {
      this.fences.push(text);
    } else if (target === 'recv') {
      // What is addressed to connections travels on theirs, all else on the caller's: between the two there is no order.
      const way = first === 'conn' || first === 'conns' ? ' to connections' : '';
      this.log.push({ lane: `${text.split('.')[0]}${way}`, text: `recv ${first} ${shown(text)}` });
    } else if (target === 'hello') {
      this.log.push({ lane: 'hello', text: `hello ${JSON.stringify({ id: first, user: text, claims: claimsOf(args[2]), query: ownQuery(args[3]) })}` });
      this.ids.push(first);
    } else {
      // `Ask` always asks the same, `AskMe` has the name of its lane in the question: who asks first is left to chance.
      this.log.push({ lane: `asked ${first.split('.')[0]}`, text: `${target} ${shown(args)}${invocationId ? ', wants an answer' : ''}` });
    }
  }
}

// Through the service, the claims that .NET has long names for arrive under both their names, as those of any token do.
function claimsOf(claims) {
  const short = (claim) => claim.replace(/^http:[^=]*\/nameidentifier=/, 'nameid=').replace(/^http:[^=]*\//, '');
  return [...new Set(claims.map(short))].sort();
}

// Each transport has an id of its own there, and the service its own parameters: what the application has put there is the same.
function ownQuery(query) {
  const parts = new URLSearchParams(query ?? '');
  return ['user', 'name'].map((key) => parts.getAll(key));
}

// What is wrong with garbage depends on the hub protocol.
const withoutDetail = (error) => error.replace(/(InvalidDataException:).*/, '$1 …');

// A value on one line. Of long ones the length is enough: a byte that is wrong in the middle would break the hub message.
function shown(value) {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 200 ? `${text.slice(0, 60)}…${text.slice(-20)} (${text.length})` : text;
}
