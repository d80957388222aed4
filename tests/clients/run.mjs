// Runs the suites over every combination that must work, and counts.
//
//   node run.mjs                 everything
//   node run.mjs --app selfhost  what a service is not needed for, against plain ASP.NET Core SignalR: checks the tests
//   node run.mjs --transport sse only the runs with clients on this transport
//   node run.mjs hub/streams     only the files whose path contains this
//
// The last line is `passed=N failed=N skipped=N`. Needs HUBRING_BIN or a built target/, and HUBRING_SDK_APP for the SDK app server.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { artifacts } from './support/process.mjs';
import { proxyKinds, unlessProxy } from './support/proxy.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));

// Where a run names none, clients are on WebSockets and of Microsoft's newest release, and nothing is in front of the service.
const runs = [
  { folders: ['hub', 'transports', 'transcripts', 'service', 'page', 'proxies'], app: 'reference', connections: 5, shards: 2 },
  { folders: ['hub'], app: 'reference', connections: 1, shards: 1, signalr: 8 },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 4 },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 2, transport: 'sse', signalr: 8 },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 4, transport: 'longpolling', signalr: 8 },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 2, proxy: 'nginx' },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 2, transport: 'sse', proxy: 'nginx' },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 2, transport: 'longpolling', proxy: 'nginx' },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 2, proxy: 'haproxy' },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 2, transport: 'sse', proxy: 'haproxy' },
  { folders: ['hub'], app: 'reference', connections: 5, shards: 2, transport: 'longpolling', proxy: 'haproxy' },
  { folders: ['hub', 'transports', 'transcripts', 'service', 'page'], app: 'sdk', connections: 5, shards: 2 },
  { folders: ['hub'], app: 'sdk', connections: 5, shards: 4, transport: 'sse' },
  { folders: ['hub'], app: 'sdk', connections: 5, shards: 2, transport: 'longpolling' },
].map(complete);
const calibration = [
  { folders: ['hub', 'transports', 'transcripts', 'page'], app: 'selfhost', connections: 0, shards: 0 },
  { folders: ['hub'], app: 'selfhost', connections: 0, shards: 0, transport: 'sse' },
  { folders: ['hub'], app: 'selfhost', connections: 0, shards: 0, transport: 'longpolling' },
].map(complete);

// What does not depend on the app server need not run again with another one.
const withoutApp = /(tokens|negotiate|demo_page|example_page|endpoint|nothing_left|slow_readers)\.test/;

// What sends WebSocket frames by hand says nothing about another transport.
const onWebSockets = /handshake\.test/;

// Files that mostly wait, for time-outs and for processes: they begin first, so that the others run beside them.
const long = /(rolling_restarts|silence|reactions_to_the_service|stateful_reconnect_window|migration_deadline)\.test/;

const concurrency = 3;
// For a whole file as well as for each of its tests: only what hangs takes as long.
const testMs = 240_000;
// Of each failure that is repeated at the end: lines, and characters of a line.
const detailsMax = 24;
const lineMax = 400;

function complete(run) {
  return { transport: 'websockets', signalr: 10, proxy: 'none', ...run };
}

function parse(args) {
  const options = { app: undefined, transport: undefined, words: [] };
  for (let index = 0; index < args.length; index += 1) {
    if (args[index] === '--app') options.app = args[(index += 1)] ?? '';
    else if (args[index] === '--transport') options.transport = args[(index += 1)] ?? '';
    else options.words.push(args[index]);
  }
  return options;
}

function filesOf({ folders, app, transport }, words) {
  return folders
    .flatMap((folder) => readdirSync(path.join(here, folder)).map((name) => path.join(folder, name)))
    .filter((file) => file.endsWith('.test.mjs'))
    .filter((file) => !(app === 'sdk' && withoutApp.test(file)))
    .filter((file) => !(transport !== 'websockets' && onWebSockets.test(file)))
    .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
    .sort((one, other) => long.test(other) - long.test(one));
}

// The runs that the options choose, each with its files. What chooses nothing is a mistake: all would seem to be well.
function choose({ app, transport, words }) {
  const all = [...runs, ...calibration];
  const check = (option, value, key) => {
    const known = [...new Set(all.map((run) => run[key]))];
    if (value !== undefined && !known.includes(value)) misused(`${option} ${value}: there are ${known.join(', ')}`);
  };
  check('--app', app, 'app');
  check('--transport', transport, 'transport');
  const chosen = all
    .filter((run) => (app ? run.app === app : run.app !== 'selfhost'))
    .filter((run) => !transport || run.transport === transport)
    .map((run) => ({ run, files: filesOf(run, words) }))
    .filter(({ files }) => files.length > 0);
  const idle = words.filter((word) => !chosen.some(({ files }) => files.some((file) => file.includes(word))));
  const folders = [...new Set(all.flatMap((run) => run.folders))];
  if (idle.length > 0) misused(`no file is chosen by ${idle.join(' ')}: there are ${folders.map((folder) => `${folder}/*.test.mjs`).join(', ')}, not all of them in each run`);
  return chosen;
}

function misused(why) {
  console.error(why);
  process.exit(2);
}

async function runOnce(run, files) {
  const name = `${run.app}-${run.connections}-${run.shards}-${run.transport}-${run.signalr}-${run.proxy}`;
  const report = path.join(artifacts, `${name}.tap`);
  console.log(`\n== ${run.app}, ${run.connections} server connection(s), ${run.shards} shard(s), ${run.transport}, client ${run.signalr}, proxy ${run.proxy}: ${files.length} file(s)`);
  const started = Date.now();
  const child = spawn(process.execPath, [
    '--test', `--test-concurrency=${concurrency}`, `--test-timeout=${testMs}`,
    '--test-reporter=spec', '--test-reporter-destination=stdout', '--test-reporter=tap', `--test-reporter-destination=${report}`,
    ...files,
  ], {
    cwd: here,
    stdio: 'inherit',
    env: {
      ...process.env,
      HUBRING_TEST_APP: run.app,
      HUBRING_TEST_CONNECTIONS: `${run.connections}`,
      HUBRING_TEST_SHARDS: `${run.shards}`,
      HUBRING_TEST_TRANSPORT: run.transport,
      HUBRING_TEST_SIGNALR: `${run.signalr}`,
      HUBRING_TEST_PROXY: run.proxy,
    },
  });
  await once(child, 'exit');
  console.log(`== took ${Math.round((Date.now() - started) / 1000)} s`);
  const text = readFileSync(report, 'utf8');
  return { ...countsOf(text, child.exitCode), failures: failuresOf(text).map((failure) => `${name}: ${failure}`) };
}

// From the summary that the TAP reporter writes at the end; without one the run itself has failed.
function countsOf(text, exitCode) {
  const count = (word) => Number(new RegExp(`^# ${word} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  const failed = count('fail') + count('cancelled');
  return { passed: count('pass'), failed: failed === 0 && exitCode !== 0 ? 1 : failed, skipped: count('skipped') };
}

// What failed, and how it says so. A test that failed only because one inside it did says nothing new.
function failuresOf(text) {
  const reports = text.matchAll(/^( *)not ok \d+ - (.*)\n\1  ---\n([^]*?)\n\1  \.\.\.$/gm);
  return [...reports]
    .filter(([, , , details]) => !details.includes("failureType: 'subtestsFailed'"))
    .map(([, , name, details]) => [name, ...details.split('\n').map((line) => `   ${line.slice(0, lineMax)}`).slice(0, detailsMax)].join('\n'));
}

const chosen = choose(parse(process.argv.slice(2)));
// Before any run, so that none is in vain where a proxy must be there and is not.
const missing = Object.fromEntries(proxyKinds.map((kind) => [kind, unlessProxy(kind)]));

rmSync(artifacts, { recursive: true, force: true });
mkdirSync(artifacts, { recursive: true });

const total = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
for (const { run, files } of chosen) {
  if (run.app !== 'reference' && !process.env.HUBRING_SDK_APP) {
    console.log(`\n== SKIPPED: ${files.length} file(s) with the SDK app server, because HUBRING_SDK_APP is not set (see tests/README.md)`);
    continue;
  }
  if (missing[run.proxy]) {
    console.log(`\n== SKIPPED: ${files.length} file(s) behind ${run.proxy}: ${missing[run.proxy]}`);
    continue;
  }
  const counts = await runOnce(run, files);
  for (const key of Object.keys(total)) total[key] += counts[key];
  failures.push(...counts.failures);
}
// Once more and together, behind the many lines of what passed.
for (const failure of failures) console.log(`\n== FAILED ${failure}`);
console.log(`passed=${total.passed} failed=${total.failed} skipped=${total.skipped}`);
process.exitCode = total.failed === 0 ? 0 : 1;
