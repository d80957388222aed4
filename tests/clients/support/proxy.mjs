// nginx and HAProxy in front of the service, from the files in scripts/deploy that operators copy. Of a file only the lines that carry a
// mark are changed, to what an unprivileged process of a test may have: own paths, a free port, the service under test.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';
import { Process, artifacts, freePorts, repository } from './process.mjs';
import { eventually } from './wait.mjs';

// For each proxy: its program, its file, what becomes of each marked line, how it is started on the copy, how it is told to reload.
const kinds = {
  nginx: {
    program: '/usr/sbin/nginx',
    file: 'nginx.conf',
    lines: ({ folder, listen, service }) => ({
      // Without the right to become somebody else, nginx stays who it is.
      'user www-data;': process.getuid() === 0 ? 'user www-data;' : '',
      'pid /run/nginx.pid;': `pid ${folder}/nginx.pid;`,
      'error_log /var/log/nginx/error.log crit;': `error_log ${folder}/error.log crit;`,
      'access_log /var/log/nginx/access.log without_query;': [
        `access_log ${folder}/access.log without_query;`,
        // Debian has built in others. They stay empty: no body is longer than what is kept in memory.
        ...['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`),
      ].join(' '),
      'listen 127.0.0.1:8080;': `listen ${listen};`,
      'server 127.0.0.1:8888;': `server ${service};`,
    }),
    tlsLines: ({ listen, certificate }) => ({
      'listen 443 ssl http2;': `listen ${listen} ssl http2;`,
      'listen [::]:443 ssl http2;': '',
      'server_name signalr.example.com;': 'server_name 127.0.0.1;',
      'ssl_certificate /etc/letsencrypt/live/signalr.example.com/fullchain.pem;': `ssl_certificate ${certificate};`,
      'ssl_certificate_key /etc/letsencrypt/live/signalr.example.com/privkey.pem;': `ssl_certificate_key ${certificate};`,
    }),
    args: (file) => ['-c', file, '-g', 'daemon off;'],
    check: (file) => ['-t', '-q', '-c', file],
    reload: 'SIGHUP',
    // It has closed what was idle by then.
    isLeaving: (worker) => commandOf(worker).includes('is shutting down'),
  },
  haproxy: {
    program: '/usr/sbin/haproxy',
    file: 'haproxy.cfg',
    lines: ({ listen, service }) => ({
      'log /dev/log local0': 'log stdout format raw local0',
      'chroot /var/lib/haproxy': '',
      'user haproxy': '',
      'group haproxy': '',
      'stats socket /run/haproxy/admin.sock mode 660 level admin': '',
      'maxconn 60000': 'maxconn 1000',
      'bind 127.0.0.1:8081': `bind ${listen}`,
      'server hubring 127.0.0.1:8888': `server hubring ${service}`,
    }),
    tlsLines: ({ listen, certificate }) => ({
      'bind :443,[::]:443 ssl crt /etc/haproxy/signalr.example.com.pem alpn h2,http/1.1': `bind ${listen} ssl crt ${certificate} alpn h2,http/1.1`,
    }),
    // With a master, as Debian runs it: a reload needs one.
    args: (file) => ['-W', '-db', '-f', file],
    check: (file) => ['-c', '-q', '-f', file],
    reload: 'SIGUSR2',
    // What is idle may stay, so there is nothing to wait for.
    isLeaving: () => true,
  },
};

export const proxyKinds = Object.keys(kinds);

// Reason to skip a test, for node:test's `skip` option.
export function unlessProxy(kind) {
  const { program } = kinds[kind];
  if (existsSync(program)) return false;
  assert.notEqual(process.env.HUBRING_REQUIRE_PROXIES, '1', `HUBRING_REQUIRE_PROXIES is set, but there is no ${program}`);
  return `no ${program}: install Debian's ${kind}`;
}

export class Proxy {
  // In front of the service that listens at `target`; `secure`: also by TLS, at `secureUrl`.
  static async start(kind, target, { secure = false } = {}) {
    const { program, file, lines, tlsLines, args, check } = kinds[kind];
    mkdirSync(artifacts, { recursive: true });
    const folder = mkdtempSync(path.join(artifacts, `${kind}-`));
    const [port, securePort] = await freePorts(2);
    const original = readFileSync(path.join(repository, 'scripts', 'deploy', file), 'utf8');
    const replacements = {
      ...lines({ folder, listen: `127.0.0.1:${port}`, service: new URL(target).host }),
      ...(secure && tlsLines({ listen: `127.0.0.1:${securePort}`, certificate: certificateIn(folder) })),
    };
    const copy = path.join(folder, file);
    writeFileSync(copy, adapted(original, replacements));
    const checked = spawnSync(program, check(copy), { encoding: 'utf8' });
    assert.equal(checked.status, 0, `${program} does not accept ${file}:\n${checked.stderr}`);

    const proxy = Object.assign(new Proxy(), { kind, folder, url: `http://127.0.0.1:${port}`, secureUrl: `https://127.0.0.1:${securePort}` });
    // Its workers would survive a SIGKILL of their parent.
    proxy.process = new Process(kind, program, args(copy), {}, { lastSignal: 'SIGTERM' });
    await eventually(`${kind} to listen`, async () => {
      assert.ok(!proxy.process.hasEnded, `${kind} has ended\n${proxy.process.tail}`);
      return fetch(`${proxy.url}/nothing`).then((response) => response.status === 404, () => false);
    });
    return proxy;
  }

  // Processes that serve connections, besides the one that was started.
  workers() {
    const children = readFileSync(`/proc/${this.process.pid}/task/${this.process.pid}/children`, 'utf8');
    return children.trim().split(/\s+/).filter(Boolean);
  }

  // Takes up its configuration anew: other workers beside the old ones, which keep their connections.
  async reload() {
    const { reload, isLeaving } = kinds[this.kind];
    const old = this.workers();
    this.process.signal(reload);
    await eventually(`${this.kind} to have new workers in place of the old`, () => {
      const now = this.workers();
      return now.some((worker) => !old.includes(worker)) && now.every((worker) => !old.includes(worker) || isLeaving(worker));
    });
  }

  // All that it has logged.
  log() {
    const files = ['access.log', 'error.log'].map((name) => path.join(this.folder, name)).filter(existsSync);
    return [this.process.logPath, ...files].map((file) => readFileSync(file, 'utf8')).join('');
  }

  stop() {
    return this.process.stop();
  }
}

// What a process calls itself; nothing once it has ended.
function commandOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

// A certificate that nobody trusts, and its key, in one file.
function certificateIn(folder) {
  const [key, certificate, both] = ['key.pem', 'certificate.pem', 'both.pem'].map((name) => path.join(folder, name));
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', certificate], { encoding: 'utf8' });
  assert.equal(made.status, 0, `openssl made no certificate: ${made.error ?? made.stderr}`);
  writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'), { mode: 0o600 });
  return both;
}

// The file with each marked line replaced; those of TLS are comments, and stay so if there is nothing for them. A mark without a replacement
// and a replacement without a mark are mistakes in one of the two places.
function adapted(text, replacements) {
  const left = new Map(Object.entries(replacements));
  const lines = text.split('\n').map((line) => {
    const [, indent, comment, statement, mark] = /^(\s*)(# )?([^#]*?)\s*# \[(path|size|listen|service|tls)\]/.exec(line) ?? [];
    assert.equal(comment !== undefined, mark === 'tls', `a mark in the wrong place: ${line}`);
    if (!mark || (mark === 'tls' && !left.has(statement))) return line;
    assert.ok(left.has(statement), `no replacement for the marked line: ${statement}`);
    const replacement = left.get(statement);
    left.delete(statement);
    return indent + replacement;
  });
  assert.deepEqual([...left.keys()], [], 'lines that are to be replaced and are not there');
  return lines.join('\n');
}
