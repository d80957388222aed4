// Plays a script against an app server, each client over the transport and protocol of its world, and returns the transcript:
// [{ step, client, lane, events: [text, …] }, …], the lanes of a step in the order of their names.

import { stuckLane } from './compare.mjs';
import { Player } from './player.mjs';
import { peopleOf } from './script.mjs';
import { patienceMs, within } from '../../support/wait.mjs';

// What the clients of a play speak: the first of them the first, and so on, all over again.
export const worlds = {
  'WebSockets, json': [{ transport: 'websockets', protocol: 'json' }],
  'Server-Sent Events, json': [{ transport: 'sse', protocol: 'json' }],
  'long polling, json': [{ transport: 'longpolling', protocol: 'json' }],
  'WebSockets, messagepack': [{ transport: 'websockets', protocol: 'messagepack' }],
  'long polling, messagepack': [{ transport: 'longpolling', protocol: 'messagepack' }],
  'one of each': [
    { transport: 'longpolling', protocol: 'json' },
    { transport: 'sse', protocol: 'json' },
    { transport: 'websockets', protocol: 'messagepack' },
    { transport: 'longpolling', protocol: 'messagepack' },
    { transport: 'websockets', protocol: 'json' },
  ],
};

// A play that gets stuck ends there, and its transcript says where.
export async function play(script, app, world, hub = 'chat') {
  const players = new Map(script.cast.map((role, index) => [role.name, new Player(app, hub, role, worlds[world][index % worlds[world].length])]));
  const transcript = [];
  try {
    for (const [index, step] of script.steps.entries()) {
      try {
        await perform(step, index, players);
      } finally {
        transcript.push(...take(players, index));
      }
    }
  } catch (error) {
    transcript.push({ step: transcript.at(-1)?.step ?? 0, client: '', lane: stuckLane, events: [error.message] });
  } finally {
    await stopAll(players);
  }
  return named(transcript, players);
}

async function perform(step, index, players) {
  const online = () => [...players.values()].filter((player) => player.isOnline);
  const player = players.get(step.client);
  await {
    lanes: () => Promise.all(step.lanes.map((lane) => performLane(lane, players, online()))),
    start: () => player.start(),
    stop: () => player.stop(),
    restart: async () => {
      await player.stop();
      await player.start();
    },
    abort: () => player.abort(),
    leave: () => player.leave('leave'),
    garble: () => player.garble(),
  }[step.kind]();
  if (step.kind !== 'lanes') return;
  // Each client may live on a server connection of its own: whose carried something has to say that it is through.
  await Promise.all(peopleOf(step).map((name) => players.get(name).fence(`fence.${index}.${name}`, online())));
}

async function performLane({ lane, client, together, calls }, players, online) {
  const player = players.get(client);
  const perform = (call, label) => {
    const args = call.args.map((arg) => resolved(arg, players));
    // The scripts only send to everybody without waiting for an answer.
    return player.call(label, { ...call, args }, () => Promise.all(online.map((each) => each.sees(args[0]))));
  };
  if (together) {
    await Promise.all(calls.map((call, index) => perform(call, `${lane}${index}`)));
  } else {
    for (const call of calls) await perform(call, lane);
  }
}

function resolved(arg, players) {
  if (Array.isArray(arg)) return arg.map((each) => resolved(each, players));
  return arg?.id ? players.get(arg.id).id : arg;
}

// What has been logged since the last step, by client and lane.
function take(players, step) {
  return [...players.values()].flatMap(({ name, log }) => {
    const lanes = new Map();
    for (const { lane, text } of log.items.splice(0)) lanes.set(lane, [...(lanes.get(lane) ?? []), text]);
    return [...lanes.keys()].sort().map((lane) => ({ step, client: name, lane, events: lanes.get(lane) }));
  });
}

// Connection ids are random: each is given the name of its client, and which of its connections it was.
function named(transcript, players) {
  const names = [...players.values()].flatMap(({ name, ids }) => ids.items.map((id, index) => [id, `<${name} ${index + 1}>`]));
  const withNames = (text) => names.reduce((result, [id, name]) => result.replaceAll(id, name), text);
  return transcript.map((entry) => ({ ...entry, events: entry.events.map(withNames) }));
}

async function stopAll(players) {
  const stops = [...players.values()].map((player) => player.stop());
  await within(patienceMs, Promise.allSettled(stops), () => 'the clients did not stop').catch(() => {});
}
