// A proxy that carries TCP connections until a test cuts them. Each is cut as the network does it: by a reset, in the middle of
// whatever is on its way. One whose upgrade is not through is spared: Microsoft's client gives up when its one attempt to resume fails.

import { createServer, connect } from 'node:net';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import { negotiate } from './raw.mjs';
import { within } from './wait.mjs';

const stopMs = 2_000;

export class Cutter {
  #pairs = new Set();
  #server;

  // Connections that have been made and cut so far.
  accepted = 0;
  cuts = 0;

  static async start(target) {
    const cutter = new Cutter();
    const { hostname, port } = new URL(target);
    cutter.#server = createServer((near) => cutter.#carry(near, connect(Number(port), hostname)));
    cutter.#server.listen(0, '127.0.0.1');
    await once(cutter.#server, 'listening');
    cutter.url = `http://127.0.0.1:${cutter.#server.address().port}`;
    return cutter;
  }

  // `url` with the proxy in place of the host that it names.
  through(url) {
    const changed = new URL(url);
    changed.host = new URL(this.url).host;
    return changed.toString();
  }

  // Resets connections on both sides: those that are in use, or all.
  cut({ all = false } = {}) {
    for (const pair of this.#pairs) {
      if (!pair.isInUse && !all) continue;
      this.cuts += 1;
      this.#pairs.delete(pair);
      for (const socket of pair) socket.resetAndDestroy();
    }
  }

  // From now on new connections are reset too, until it is let go again.
  hold(isHeld = true) {
    this.isHeld = isHeld;
    if (isHeld) this.cut({ all: true });
  }

  // What is on its way still passes: a client's goodbye, for one.
  async stop() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    await within(stopMs, closed, () => 'open connections').catch(() => this.hold());
    await closed;
  }

  #carry(near, far) {
    const pair = [near, far];
    for (const [from, to] of [pair, [far, near]]) {
      from.setNoDelay(true);
      from.on('error', () => to.destroy());
      from.on('end', () => to.end());
      from.pipe(to, { end: false });
    }
    if (this.isHeld) return pair.forEach((socket) => socket.resetAndDestroy());
    this.accepted += 1;
    // Its request first, and more only once that has been answered.
    near.once('data', () => near.once('data', () => { pair.isInUse = true; }));
    this.#pairs.add(pair);
    near.on('close', () => this.#pairs.delete(pair));
  }
}

// A client of stateful reconnect behind a proxy of its own, which ends with the client.
export async function cuttable(rig, { app = rig.app, ...options } = {}) {
  const cutter = await Cutter.start(rig.service.url);
  const { url, accessToken } = await negotiate(app, '?negotiateVersion=1&useStatefulReconnect=true');
  const client = await rig.client({ app, url: cutter.through(url), accessToken, stateful: true, ...options });
  client.onStopped = () => cutter.stop();
  return { client, cutter };
}

// Whether an SDK app server has printed that it has lost a client.
export function hasLost(app, id) {
  const lines = readFileSync(app.process.logPath, 'utf8').split('\n');
  return lines.some((line) => line.startsWith('{') && line.includes('"disconnected"') && line.includes(id));
}
