"""What serving costs a process that does nothing else: python3 benches/control/cost.py [LIBRARY]"""

import ctypes
import statistics
import sys
import time

library = ctypes.CDLL(sys.argv[1] if len(sys.argv) > 1 else "build/stage/lib/libpodkeep.so.0")


def kilobytes(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":"))


def serve():
    control = ctypes.c_void_p()
    begin = time.perf_counter()
    status = library.podkeep_control_serve(None, ctypes.byref(control))
    took = time.perf_counter() - begin
    assert status == 0, f"status {status}: is it a library without the service?"
    return control, took


before = kilobytes("RssAnon"), kilobytes("VmRSS")
lasting, first = serve()
after = kilobytes("RssAnon"), kilobytes("VmRSS")
later = []
for _ in range(100):
    control, took = serve()
    later.append(took)
    assert library.podkeep_control_free(control) == 0
begin = time.process_time()
time.sleep(10)
idle = time.process_time() - begin
library.podkeep_control_free(lasting)
print(f"serve: the first {first * 1e3:.2f} ms, later ones {statistics.median(later) * 1e3:.2f} ms (median of {len(later)})")
print(f"memory: {after[0] - before[0]} KiB of its own, {after[1] - before[1]} KiB with the library's pages that it uses")
print(f"idle: {idle / 10 * 100:.4f} % of a core, over 10 s")
