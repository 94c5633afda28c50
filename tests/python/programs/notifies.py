"""Speaks sd_notify: a status at once, ready when the file that the first argument names is there."""

import os
import signal
import socket
import sys
import time


def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        address = os.environ["NOTIFY_SOCKET"]
        to.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)


say("STATUS=warming up")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
say("READY=1\nSTATUS=serving")
signal.pause()
