"""Runs every test against each app server, and counts: see `run`."""

import argparse
import faulthandler
import importlib
import logging
import os
import sys
import threading
import time
import traceback

from support.process import ARTIFACTS
from support.rig import APPS, BEHIND_SERVICE, Rig
from support.suite import TESTS

# Only what hangs takes as long.
TEST_SECONDS = 90
# In this order: the last looks at what the others have left.
MODULES = ['hub', 'connections', 'service', 'shortcomings', 'afterwards']


def main():
    arguments = parse()
    log_to_file()
    for module in MODULES:
        importlib.import_module(f'tests.{module}')
    tests = [test for test in TESTS if not arguments.words or any(word in test.name for word in arguments.words)]
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    for app in [arguments.app] if arguments.app else BEHIND_SERVICE:
        chosen = [test for test in tests if app in test.apps]
        if app != 'reference' and not os.environ.get('HUBRING_SDK_APP'):
            print(f'\n== SKIPPED: {len(chosen)} test(s) of the Python clients, because HUBRING_SDK_APP is not set (see tests/README.md)')
            counts['skipped'] += len(chosen)
        elif chosen:
            run_with(app, chosen, counts)
    print(' '.join(f'{word}={count}' for word, count in counts.items()), flush=True)
    # Not even a test that hangs keeps the process.
    os._exit(0 if counts['failed'] == 0 else 1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--app', choices=APPS)
    parser.add_argument('words', nargs='*', help='only the tests whose name contains one of them')
    return parser.parse_args()


def log_to_file():
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    path = ARTIFACTS / f'python-{os.getpid()}-clients.log'
    logging.basicConfig(filename=path, level=logging.INFO, format='%(asctime)s %(name)s %(levelname)s %(message)s')
    # A library's thread that fails says so here, and the test says what came of it.
    threading.excepthook = lambda failure: logging.error('a thread failed', exc_info=(failure.exc_type, failure.exc_value, failure.exc_traceback))


def run_with(app, tests, counts):
    print(f'\n== {app}: {len(tests)} test(s) of the Python clients')
    started = time.monotonic()
    try:
        rig = Rig(app)
    except Exception:
        counts['failed'] += 1
        print(f'FAILED to start\n{traceback.format_exc()}')
        return
    for test in tests:
        outcome, details = run_test(test, rig)
        counts[outcome] += 1
        print(f'{"FAILED" if outcome == "failed" else outcome} {test.name} ({details})', flush=True)
    rig.stop()
    print(f'== took {time.monotonic() - started:.0f} s')


def run_test(test, rig):
    """The outcome and what there is to say about it. On a thread, because a library that hangs cannot be stopped."""
    started = time.monotonic()
    failures = []
    body = threading.Thread(target=attempt, args=(failures, lambda: test.run(rig)), daemon=True)
    body.start()
    body.join(TEST_SECONDS)
    if body.is_alive():
        faulthandler.dump_traceback(all_threads=True)
        failures.append(f'hangs: it was at\n{"".join(traceback.format_stack(sys._current_frames()[body.ident]))}')
    attempt(failures, rig.end_test)
    if not failures:
        attempt(failures, rig.assert_at_rest)
    if failures:
        return 'failed', '\n'.join(failures)
    return 'passed', f'{(time.monotonic() - started) * 1000:.0f} ms'


def attempt(failures, action):
    try:
        action()
    except BaseException:
        failures.append(traceback.format_exc())


main()
