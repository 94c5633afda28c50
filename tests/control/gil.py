"""A Python host whose pod holds the interpreter's lock on demand. Lines as of host.c: address, hold (answered when it begins, and when it
has ended: with the next line, which goes to the one who holds it), end."""

import ctypes
import os
import sys
import threading

import podkeep
from podkeep import _abi

libc = ctypes.PyDLL(None)  # its calls keep the lock
asked, held = threading.Event(), threading.Event()


class Holder(podkeep.Runtime):
    def run_forever(self, ctx):
        while not ctx.wait(0.01):
            if asked.is_set():
                asked.clear()
                os.write(1, b"OK holding\n")
                assert libc.read(0, ctypes.create_string_buffer(64), 64) > 0
                held.set()


pod = podkeep.Pod(Holder, name="holder")
pod.start()
pod.wait_ready()
control = ctypes.c_void_p()
assert _abi.lib.podkeep_control_serve(None, ctypes.byref(control)) == 0, _abi.last_error()
address = ctypes.c_char_p()
assert _abi.lib.podkeep_control_address(control, ctypes.byref(address)) == 0
for line in sys.stdin:
    words = line.split()
    if words[:1] == ["address"]:
        print("OK", address.value.decode(), flush=True)
    elif words[:1] == ["hold"]:
        asked.set()
        held.wait()
        print("OK held", flush=True)
    elif words[:1] == ["end"]:
        break
pod.close()
assert _abi.lib.podkeep_control_free(control) == 0
print("OK ended", flush=True)
