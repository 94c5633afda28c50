"""A pod that other programs reach by an address, and a program that ends it:

    python control.py serve [ADDRESS]     counts until somebody ends it; prints the address
    python control.py end ADDRESS         from another shell

Without an address it is a private socket of the process. `podkeep terminate ADDRESS counter` ends it, too.
"""

from __future__ import annotations

import sys
from typing import Optional

import podkeep


@podkeep.runtime
def counter(ctx: podkeep.Context) -> None:
    count = 0
    while not ctx.wait(1.0):
        count += 1
        ctx.status(f"at {count}")
    print(f"counted to {count}", flush=True)


def serve(address: Optional[str]) -> None:
    with podkeep.Control(address) as control, podkeep.Pod(counter) as pod:
        print(control.address, flush=True)
        pod.join()


def end(address: str) -> None:
    try:
        print("counter is", podkeep.query(address, "counter", timeout=5.0))
        podkeep.terminate(address, "counter", timeout=10.0)
    except podkeep.Error as error:
        sys.exit(f"{error.status}: {error}")
    print("counter has ended")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"] and len(sys.argv) <= 3:
        serve(sys.argv[2] if len(sys.argv) == 3 else None)
    elif sys.argv[1:2] == ["end"] and len(sys.argv) == 3:
        end(sys.argv[2])
    else:
        sys.exit(__doc__)
