"""Runs the cases of a folder, this one if CASES does not name another: every function test_* of every test_*.py, each within a limit.

    run.py [WORD...]     only the cases whose "module.name" has one of the words in it

Needs in the environment: STAGE, the installed tree; BUILD, where program.mk put the test libraries.
"""

import ctypes
import importlib
import os
import pathlib
import signal
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
CASES = pathlib.Path(os.environ.get("CASES", HERE)).resolve()
sys.path[:0] = [str(CASES), str(HERE)]
sys.dont_write_bytecode = True

import support  # noqa: E402

LIMIT = 120 * support.SLOW


class TooLate(BaseException):
    """Not an Exception: no case may swallow it."""


def too_late(_signal, _frame):
    raise TooLate


def one(case):
    """"ok", or what is wrong with it."""
    signal.alarm(int(LIMIT))
    try:
        case()
        return "ok"
    except support.Skip as skip:
        return f"skipped: {skip}"
    except TooLate:
        return f"FAILED: did not end within {LIMIT} s"
    except Exception:
        return "FAILED\n" + traceback.format_exc()
    finally:
        signal.alarm(0)
        support.end_all()


def main(words):
    # Orphans of the cases become children of this process: so it can tell how each ended, and that none is left.
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
        sys.exit("this process cannot become a subreaper")
    signal.signal(signal.SIGALRM, too_late)
    passed = failed = skipped = 0
    for path in sorted(CASES.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for name, case in list(vars(module).items()):
            label = f"{path.stem[5:]}.{name[5:]}"
            if not name.startswith("test_") or words and not any(word in label for word in words):
                continue
            begin = time.monotonic()
            said = one(case)
            left = support.strays()
            if left and not said.startswith("FAILED"):
                said = f"FAILED: left behind: {left}"
            print(f"{label}: {said} ({time.monotonic() - begin:.2f} s)", flush=True)
            passed += said == "ok"
            failed += said.startswith("FAILED")
            skipped += said.startswith("skipped")
    if skipped:
        print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
