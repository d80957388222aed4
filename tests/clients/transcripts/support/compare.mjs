// Where two transcripts part, said so that a reader of the log understands it.

const contextMax = 6;

// The lane in which a play that did not get to its end says so.
export const stuckLane = 'stuck';

// Nothing if they are equal and got to their end; two that are stuck in the same way have shown nothing. Otherwise { step, text }: the first difference with the lines around it.
export function difference(expected, actual, names = ['expected', 'actual']) {
  const [left, right] = [linesOf(expected), linesOf(actual)];
  const first = left.findIndex(({ line, isStuck }, index) => isStuck || line !== right[index]?.line);
  const at = first === -1 ? left.length : first;
  if (at === left.length && at === right.length) return undefined;
  const part = (all, from, to) => all.slice(Math.max(0, from), to).map(({ line }) => `    ${line}`).join('\n') || '    (nothing)';
  return {
    step: Math.min(...[left[at], right[at]].flatMap((entry) => (entry ? [entry.step] : []))),
    text: [
      `  the same in both:\n${part(left, at - contextMax, at)}`,
      `  then ${names[0]}:\n${part(left, at, at + contextMax)}`,
      `  but ${names[1]}:\n${part(right, at, at + contextMax)}`,
    ].join('\n'),
  };
}

// One an event.
export function linesOf(transcript) {
  return transcript.flatMap(({ step, client, lane, events }) => events.map((event) => ({ step, isStuck: lane === stuckLane, line: `step ${step} ${client} [${lane}] ${event}` })));
}
