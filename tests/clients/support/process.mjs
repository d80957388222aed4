// Child processes: started on free ports, logged to tests/artifacts/, stopped by their id.

import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { Inbox, patienceMs, within } from './wait.mjs';

export const repository = fileURLToPath(new URL('../../../', import.meta.url));
export const artifacts = path.join(repository, 'tests', 'artifacts');

// The kernel ends a child whose parent has gone, so not even a runner that is killed leaves one behind.
const setpriv = '/usr/bin/setpriv';
const dieWithParent = (signal) => (existsSync(setpriv) ? [setpriv, '--pdeathsig', signal.replace('SIG', ''), '--'] : []);

// An app server on .NET takes two seconds of processor time to start, which is more than a minute where thirty others want the processor.
const startMs = 120_000;
const stopMs = 30_000;
const running = new Set();
let started = 0;

process.on('exit', () => {
  for (const child of running) child.signal(child.lastSignal);
});

export class Process {
  // Standard output, line by line.
  lines = new Inbox();
  #child;
  #tail = [];

  // `name` goes into the log's file name; `environment` is added to ours. `lastSignal` is what it gets when its runner has gone: one
  // with children of its own has to have the time to end them.
  constructor(name, command, args, environment = {}, { lastSignal = 'SIGKILL' } = {}) {
    const [program, ...rest] = [...dieWithParent(lastSignal), command, ...args];
    this.name = name;
    this.lastSignal = lastSignal;
    this.#child = spawn(program, rest, { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.ended = once(this.#child, 'exit').then(([code, signal]) => {
      running.delete(this);
      return { code, signal };
    });
    this.ended.catch(() => running.delete(this));
    this.#log();
    running.add(this);
  }

  get hasEnded() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get pid() {
    return this.#child.pid;
  }

  // The last lines of both streams: what to show when the process did not do its job.
  get tail() {
    return `--- ${this.name}, log ${this.logPath}\n${this.#tail.join('')}`;
  }

  signal(name) {
    if (!this.hasEnded) process.kill(this.pid, name);
  }

  // Hangs it: its connections stay open and nobody answers on them.
  pause() {
    this.signal('SIGSTOP');
  }

  resume() {
    this.signal('SIGCONT');
  }

  async kill() {
    this.signal('SIGKILL');
    return this.ended;
  }

  // Asks politely; whoever does not go in time is killed and reported.
  async stop() {
    this.signal('SIGTERM');
    try {
      return await within(stopMs, this.ended, () => `${this.name} did not end on SIGTERM\n${this.tail}`);
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  // The first line of standard output that matches.
  async line(pattern, ms = patienceMs) {
    const find = () => this.lines.items.find((line) => pattern.test(line));
    const gone = this.ended.then(({ code, signal }) => { throw new Error(`${this.name} ended (${signal ?? code})`); });
    try {
      await Promise.race([this.lines.until(find, `a line like ${pattern}`, ms), gone]);
    } catch (error) {
      throw new Error(`${error.message}\n${this.tail}`);
    }
    return find().trim();
  }

  // Waits until GET `url` answers 200.
  async healthy(url, ms = startMs) {
    const deadline = Date.now() + ms;
    while (!this.hasEnded) {
      const response = await fetch(url).catch(() => undefined);
      await response?.arrayBuffer();
      if (response?.status === 200) return;
      if (Date.now() > deadline) throw new Error(`${url} answers ${response?.status ?? 'nothing'} after ${ms} ms\n${this.tail}`);
      await new Promise((resume) => setTimeout(resume, 20));
    }
    throw new Error(`${this.name} ended before ${url} answered 200\n${this.tail}`);
  }

  #log() {
    mkdirSync(artifacts, { recursive: true });
    const suite = path.basename(process.argv[1] ?? 'repl', '.test.mjs');
    this.logPath = path.join(artifacts, `${suite}-${process.pid}-${++started}-${this.name}.log`);
    const file = createWriteStream(this.logPath);
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.pipe(file, { end: false });
      stream.on('data', (chunk) => {
        this.#tail.push(chunk.toString());
        if (this.#tail.length > 40) this.#tail.shift();
      });
    }
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.lines.push(line));
    // Children of its own may say something after its end.
    this.#child.once('close', () => file.end());
  }
}

// Below the range from which the kernel takes the ports of outgoing connections, so that nobody gets the port of a process while it is
// restarted.
const portMin = 15_000;
const portMax = 32_000;

// Ports on which nobody listens.
export async function freePorts(count) {
  const ports = new Set();
  while (ports.size < count) {
    const port = portMin + Math.floor(Math.random() * (portMax - portMin));
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

async function isFree(port) {
  const server = createServer();
  const free = await new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => resolve(true));
  });
  if (free) await new Promise((closed) => server.close(closed));
  return free;
}
