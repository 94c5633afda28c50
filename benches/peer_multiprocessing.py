"""Python's multiprocessing: a Process whose target says ready over a pipe and waits until that is closed.

    peer_multiprocessing.py life|many spawn|forkserver NUMBER SIZE

Prints lines "measure peer value", with the numbers of processes.h.
"""
import multiprocessing
import statistics
import sys
import time

LIFE, READY, REAPED, _, CHILD_PSS, CHILD_RSS = range(6)


def child(pipe):
    pipe.send("ready")
    pipe.recv()


def begin(how):
    ours, theirs = how.Pipe()
    process = how.Process(target=child, args=(theirs,))
    process.start()
    theirs.close()
    ours.recv()
    return process, ours


def end(process, ours):
    ours.send("cancelled")
    process.join()
    ours.close()


def kib(pid, key):
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(float(line.split()[1]) for line in lines if line.startswith(key))


def main(what, method, number, size):
    how = multiprocessing.get_context(method)
    end(*begin(how))  # the fork server itself, and the resource tracker
    if what == "many":
        everyone = [begin(how) for _ in range(size)]
        for measure, key in ((CHILD_PSS, "Pss:"), (CHILD_RSS, "Rss:")):
            print(measure, number, statistics.mean(kib(process.pid, key) for process, _ in everyone))
        for one in everyone:
            end(*one)
        return
    times = []
    for _ in range(size):
        began = time.monotonic_ns()
        one = begin(how)
        ready = time.monotonic_ns()
        end(*one)
        ended = time.monotonic_ns()
        times.append((ended - began, ready - began, ended - ready))
    for measure, values in zip((LIFE, READY, REAPED), zip(*times)):
        print(measure, number, statistics.median(values))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
