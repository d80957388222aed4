// Scripts of client actions, random but repeatable: what follows from a seed is always the same.
//
//   script = { seed, cast: [{ name, user, answers }], steps: [step, …] }
//   step   = { kind: 'lanes', lanes: [{ lane, client, together, calls: [call, …] }] }
//          | { kind: 'stop' | 'start' | 'restart' | 'abort' | 'leave' | 'garble', client }
//   call   = { how: 'invoke' | 'send' | 'stream' | 'upload', method, args, … }
//
// A script says what is done, never what must come of it: the original says that. It must not leave that to chance either, so:
// steps follow each other with a fence between them; what runs beside something else in a step commutes with it (no group is
// changed in a step in which messages go to groups, nobody comes or goes while others speak); and every message bears the name of
// its lane, which is what its order is defined for. `{ id: NAME }` among the arguments stands for a connection id.

import { Random } from './random.mjs';

const users = ['ann', 'ann', 'cid', undefined, 'eve'];
const answers = ['value', 'error', 'value', 'nothing', 'value'];
const names = ['A', 'B', 'C', 'D', 'E'];
const groups = ['red', 'blue', 'a group: ümläut/?&'];
const texts = ['', 'hi', 'ümläut 中文 🎉', 'line\nbreak\r\n and \u001e', '{"type":7}\u001e', '\\"\0</script>&+', 'data: x\n\n', 'y'.repeat(70_000)];
const values = [null, true, 0, 42, -7, 1.5, 'text', [], [1, 'two', null], {}, { a: 1, b: { c: [true] } }];

export function scriptOf(seed, length = 40) {
  const random = new Random(seed);
  const cast = names.slice(0, random.between(3, 5)).map((name, index) => ({ name, user: users[index], answers: answers[index] }));
  const online = new Set();
  const steps = [];
  const add = (step) => {
    if (step.kind === 'start') online.add(step.client);
    if (step.kind === 'stop' || step.kind === 'leave') online.delete(step.client);
    steps.push(step);
  };
  for (const { name } of cast) add({ kind: 'start', client: name });
  while (steps.length < length) add(nextStep(random, `${steps.length}`, cast.map(({ name }) => name), [...online]));
  return { seed, cast, steps };
}

// The same without the steps at `dropped`, if it can still be played: nobody speaks, stops or is spoken to by id who is not there.
export function without(script, dropped) {
  const steps = script.steps.filter((_, index) => !dropped.has(index));
  const online = new Set();
  for (const step of steps) {
    if (step.kind === 'start') {
      if (online.has(step.client)) return undefined;
      online.add(step.client);
    } else {
      if (!peopleOf(step).every((name) => online.has(name))) return undefined;
      if (step.kind === 'stop' || step.kind === 'leave') online.delete(step.client);
    }
  }
  return { ...script, steps };
}

// Who acts in a step or is spoken to by id, each once.
export function peopleOf(step) {
  if (step.kind !== 'lanes') return [step.client];
  const named = (arg) => (Array.isArray(arg) ? arg.flatMap(named) : arg?.id ? [arg.id] : []);
  return [...new Set(step.lanes.flatMap(({ client, calls }) => [client, ...calls.flatMap(({ args }) => args.flatMap(named))]))];
}

// One line a step, to be read by people.
export function print({ seed, cast, steps }) {
  const callText = ({ how, method, args, ...more }) => {
    const extra = Object.keys(more).length > 0 ? ` ${JSON.stringify(more)}` : '';
    return `${how} ${method}(${args.map((arg) => shortened(JSON.stringify(arg))).join(', ')})${extra}`;
  };
  const laneText = ({ lane, client, together, calls }) => `${lane}: ${client} ${calls.map(callText).join(together ? ' & ' : ' ; ')}`;
  const people = cast.map(({ name, user, answers: says }) => `${name}${user ? ` (${user})` : ''} answers ${says}`);
  return [
    `script of seed ${seed}: ${people.join(', ')}`,
    ...steps.map((step) => (step.kind === 'lanes' ? step.lanes.map(laneText).join(' || ') : `${step.kind} ${step.client}`)).map((text) => `  ${text}`),
  ].join('\n');
}

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 40)}…${text.length}` : text);

function nextStep(random, number, everybody, online) {
  const away = everybody.filter((name) => !online.includes(name));
  if (online.length < 2 || (away.length > 0 && random.chance(10))) return { kind: 'start', client: random.pick(away) };
  if (random.chance(12)) return { kind: random.pick(['stop', 'restart', 'abort', 'leave', 'garble']), client: random.pick(online) };
  const maker = new CallMaker(random, online);
  const lane = (client, index, count, together = false) => maker.lane(`${number}${String.fromCharCode(97 + index)}`, client, count, together);
  const lanes = random.weighted([
    [5, () => [lane(random.pick(online), 0, 1)]],
    [3, () => [lane(random.pick(online), 0, random.between(2, 4))]],
    [4, () => random.some(online, random.between(2, 4)).map((client, index) => lane(client, index, random.between(1, 3)))],
    // Not more than the hub runs at a time, so that none waits for another.
    [3, () => [lane(random.pick(online), 0, random.between(2, 8), true)]],
  ])();
  return { kind: 'lanes', lanes };
}

// Makes the calls of one step, which decides once whether it changes groups or sends to them.
class CallMaker {
  constructor(random, online) {
    this.random = random;
    this.online = online;
    this.makers = [
      [8, this.answered],
      [3, this.failing],
      [6, this.sending],
      [3, this.streaming],
      [2, this.asking],
      [6, random.chance(40) ? this.joining : this.groupSending],
    ];
  }

  // Calls one after the other, or `together`: then each is a lane of its own, because their order is not defined.
  lane(lane, client, count, together) {
    const label = (index) => (together ? `${lane}${index}.` : `${lane}.${index}`);
    const calls = Array.from({ length: count }, (_, index) => this.random.weighted(this.makers).call(this, label(index), client));
    return { lane, client, together, calls };
  }

  answered() {
    const { random } = this;
    return random.pick([
      () => ({ how: 'invoke', method: 'Echo', args: [random.pick(texts)] }),
      () => ({ how: 'invoke', method: 'Echo', args: [random.pick(texts)] }),
      () => ({ how: 'invoke', method: 'EchoAny', args: [random.pick(values)] }),
      () => ({ how: 'invoke', method: 'Big', args: [random.pick([0, 1, 4000, 33_000, 200_000])] }),
      () => ({ how: 'invoke', method: 'Slow', args: [random.between(0, 5)] }),
      () => ({ how: 'invoke', method: 'Nothing', args: [] }),
    ])();
  }

  failing() {
    return this.random.pick([
      { how: 'invoke', method: 'Fail', args: [] },
      { how: 'invoke', method: 'Crash', args: [] },
      { how: 'invoke', method: 'NoSuchMethod', args: ['x'] },
      { how: 'invoke', method: 'Echo', args: [] },
      { how: 'invoke', method: 'Nothing', args: [1, 2] },
      { how: 'stream', method: 'NoSuchStream', args: [] },
      // A method that is no stream, asked for as one, and the other way round.
      { how: 'stream', method: 'Echo', args: ['x'] },
      { how: 'invoke', method: 'Count', args: [3] },
    ]);
  }

  sending(label, client) {
    const { random, online } = this;
    const someone = { id: random.pick(online) };
    const several = random.some(online, random.between(0, 3)).map((id) => ({ id }));
    const user = random.pick(['ann', 'cid', 'eve', 'nobody']);
    return random.pick([
      { how: 'send', method: 'Broadcast', args: [label] },
      { how: 'invoke', method: 'Broadcast', args: [label] },
      { how: 'invoke', method: 'Others', args: [label] },
      { how: 'invoke', method: 'Caller', args: [label] },
      { how: 'invoke', method: 'AllExcept', args: [several, label] },
      { how: 'invoke', method: 'ToConn', args: [someone, label] },
      { how: 'invoke', method: 'ToConn', args: [{ id: client }, label] },
      { how: 'invoke', method: 'Clients', args: [several, label] },
      { how: 'invoke', method: 'ToUser', args: [user, label] },
      { how: 'invoke', method: 'Users', args: [[user, 'cid', 'nobody'].filter((name, index, all) => all.indexOf(name) === index), label] },
      { how: 'invoke', method: 'Flood', args: [random.between(2, 60), label] },
    ]);
  }

  groupSending(label) {
    const { random, online } = this;
    const group = random.pick(groups);
    const several = random.some(online, random.between(0, 2)).map((id) => ({ id }));
    return random.pick([
      { how: 'invoke', method: 'ToGroup', args: [group, label] },
      { how: 'invoke', method: 'ToGroupExcept', args: [group, label] },
      { how: 'invoke', method: 'OthersInGroup', args: [group, label] },
      // One group only: whether a member of two gets a send to both once or twice is not defined.
      { how: 'invoke', method: 'Groups', args: [[group], label] },
      { how: 'invoke', method: 'GroupsExcept', args: [random.some(groups, 2), several, label] },
    ]);
  }

  joining() {
    return { how: 'invoke', method: this.random.pick(['Join', 'Join', 'Join', 'Leave']), args: [this.random.pick(groups)] };
  }

  streaming(label) {
    const { random } = this;
    return random.pick([
      () => ({ how: 'stream', method: 'Count', args: [random.pick([0, 1, 7, 120])] }),
      () => ({ how: 'stream', method: 'Ticks', args: [1], take: random.between(1, 6) }),
      () => ({ how: 'upload', method: 'Sum', args: [], items: Array.from({ length: random.between(0, 30) }, (_, index) => index) }),
      () => ({ how: 'upload', method: 'Upper', streams: true, args: [], items: Array.from({ length: random.between(0, 5) }, (_, index) => `${label} ${index} ä`) }),
      () => ({ how: 'upload', method: 'Sum', args: [], items: [1, 2], error: 'no more numbers' }),
    ])();
  }

  asking(label) {
    return this.random.pick([
      { how: 'invoke', method: 'Ask', args: [{ id: this.random.pick(this.online) }] },
      { how: 'invoke', method: 'AskMe', args: [label] },
    ]);
  }
}
