"""podkeep from Python: a process pod of a class of this program.

    peer_pods.py life|many process NUMBER SIZE

Prints lines "measure peer value", as peer_multiprocessing.py does.
"""
import statistics
import sys
import time

import podkeep
from peer_multiprocessing import CHILD_PSS, CHILD_RSS, LIFE, READY, REAPED, kib


class Hosted(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()


def begin(host):
    return podkeep.Pod(Hosted, host=host).start()


def main(what, host, number, size):
    begin(host).close()  # the guardian
    if what == "many":
        everyone = [begin(host) for _ in range(size)]
        for measure, key in ((CHILD_PSS, "Pss:"), (CHILD_RSS, "Rss:")):
            print(measure, number, statistics.mean(kib(pod.id, key) for pod in everyone))
        for pod in everyone:
            pod.close()
        return
    times = []
    for _ in range(size):
        began = time.monotonic_ns()
        pod = begin(host)
        ready = time.monotonic_ns()
        pod.close()
        ended = time.monotonic_ns()
        times.append((ended - began, ready - began, ended - ready))
    for measure, values in zip((LIFE, READY, REAPED), zip(*times)):
        print(measure, number, statistics.median(values))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
