// The smallest script that still shows a difference, as far as it can be found in the time there is.

import { without } from './script.mjs';

const shrinkMs = 60_000;

// `differs(script)` says whether it does. Leaves out everything behind the step `last`, then whole clients, then fewer and fewer steps at once.
export async function shrink(script, last, differs) {
  const deadline = Date.now() + shrinkMs;
  let smallest = script;
  const attempt = async (dropped) => {
    const candidate = without(smallest, dropped);
    if (dropped.size === 0 || !candidate || Date.now() > deadline || !(await differs(candidate))) return false;
    smallest = candidate;
    return true;
  };
  const where = (wanted) => new Set(smallest.steps.flatMap((step, index) => (wanted(step, index) ? [index] : [])));

  await attempt(where((_, index) => index > last));
  for (const { name } of script.cast) await attempt(where((step) => involves(step, name)));
  for (let size = Math.ceil(smallest.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    // From the end, where steps matter that nothing follows on.
    for (let end = smallest.steps.length; end > 0; end -= size) {
      await attempt(where((_, index) => index >= end - size && index < end));
    }
  }
  return smallest;
}

const involves = (step, name) => JSON.stringify(step.lanes ?? step).includes(`"${name}"`);
