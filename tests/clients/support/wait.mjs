// Waiting for conditions, never for time: a deadline only turns a hang into a failure that says what was missing.

export const patienceMs = 30_000;

// That a condition did not come about in time, which is no outcome that a test may expect.
export class Late extends Error {}

// The value of `promise`, or a failure with the text of `describe()` after `ms`.
export async function within(ms, promise, describe) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Late(describe())), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// Asks again and again until `condition` gives something true; for state that nobody announces.
export async function eventually(what, condition, ms = patienceMs) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Late(`not within ${ms} ms: ${what}`);
    await new Promise((resume) => setTimeout(resume, 20));
  }
}

// Things that arrive one by one, and those who wait for some of them.
export class Inbox {
  items = [];
  #waiting = new Set();

  push(item) {
    this.items.push(item);
    for (const check of this.#waiting) check();
  }

  // Resolves once `enough(items)` is true.
  async until(enough, what, ms = patienceMs) {
    let check;
    const arrived = new Promise((resolve) => {
      check = () => enough(this.items) && resolve();
      this.#waiting.add(check);
      check();
    });
    try {
      await within(ms, arrived, () => `waited for ${what}; got ${summary(this.items)}`);
    } finally {
      this.#waiting.delete(check);
    }
  }
}

function summary(items) {
  const last = items.slice(-20).map((item) => JSON.stringify(item).slice(0, 120));
  return `${items.length} item(s), the last: ${last.join(' ') || 'none'}`;
}
