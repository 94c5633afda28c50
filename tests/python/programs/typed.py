"""Never run: what a typed program may write, for mypy --strict. Errors that must be there are marked and checked as such."""

from __future__ import annotations

import logging
import signal
from typing import List, Optional

import podkeep


class Worker(podkeep.Runtime):
    def __init__(self, size: int) -> None:
        self.size = size

    def run_forever(self, ctx: podkeep.Context) -> Optional[int]:
        while not ctx.wait(0.5):
            ctx.heartbeat()
            left: Optional[float] = ctx.time_left
            if left is not None and left < 1:
                return ctx.fail(3, f"{self.size}")
        return 0

    def cancel(self) -> None:
        podkeep.current_context().status("cancelled")

    def teardown(self) -> None:
        pass


class Loop(podkeep.AsyncRuntime):
    async def run_forever(self, ctx: podkeep.Context) -> None:
        await ctx.cancelled_async()

    async def teardown(self) -> None:
        pass


@podkeep.runtime
def ticker(ctx: podkeep.Context, every: float) -> None:
    while not ctx.wait(every):
        pass


class Named(podkeep.Pod):
    pass


def use() -> List[str]:
    with podkeep.Pod(Worker, args=(3,), name="w", grace=5, ready="notify", stack_size=1 << 20) as pod:
        state: podkeep.State = pod.state
        number: Optional[int] = pod.id
        pod.wait_ready(timeout=1.5)
    named: Named = Named(ticker, kwargs={"every": 1.0}).start(wait=False)
    try:
        named.join(timeout=1)
    except podkeep.PodTimeout as error:
        assert error.state is not None
        as_builtin: TimeoutError = error
    except podkeep.PodFailed as error:
        record: podkeep.Failure = error.failure
        return [str(each.phase) for each in record.chain()] + [str(as_builtin), str(number), str(state)]
    podkeep.set_log(logging.getLogger("pods"), logging.DEBUG)
    left: int = podkeep.shutdown(timeout=1)
    return [str(event.to) for event in podkeep.Monitor(pod)] + [str(left)]


def use_processes() -> int:
    with podkeep.Pod(Worker, (3,), host="process", env={"A": "b"}, cwd="/", kill_after=1.0) as pod:
        pod.join(timeout=1)
    try:
        Named.command("redis-server", b"--port", ready="notify", stop_signal=signal.SIGINT).start().close()
    except podkeep.PodFailed as error:
        text: str = error.stderr + error.failure.traceback
        print(text)
    served: podkeep.Pod = podkeep.Pod.command("server", ready_port=8080)
    library: Named = Named.from_library("./libworker.so", "worker", b"args", host="process")
    podkeep.set_program("/usr/bin/podkeep")
    code: int = podkeep.run(Worker, args=(3,), grace=1)
    return code + library.run() + podkeep.run(served)


def use_groups() -> int:
    with podkeep.Group(strategy="rest_for_one", keep_going=True, grace=9.5) as group:
        db: podkeep.Pod = group.add(podkeep.Pod(Worker, (3,), restart="on-failure", max_restarts=3, backoff=0.5, watchdog=9))
        group.add(Named(ticker, restart="always", restart_window=60, backoff_max=9.0), after=[db, "other"], significant=True)
        state: podkeep.State = group.start(wait=False).state
        group.wait_ready(timeout=1)
        group.join()
    failure: Optional[podkeep.Failure] = group.failure
    for event in podkeep.Monitor(group):
        print(event.incarnation, state, failure)
    return db.restarts


def use_control() -> str:
    with podkeep.Control(tls_cert="cert.pem", tls_key="key.pem", tls_client_ca="ca.pem") as control:
        state: podkeep.State = podkeep.query(control.address, "web", timeout=1)
        try:
            podkeep.terminate(control.address, "web")
        except (podkeep.Denied, podkeep.NotFound, podkeep.Unreachable) as error:
            print(error.status)
    podkeep.Control(8080)  # type: ignore[arg-type]
    return str(state)


async def use_async() -> None:
    async with podkeep.Group() as group:
        await group.ready(timeout=1)
        await group.joined()
        await group.closed()
    async with podkeep.Pod(Loop) as pod:
        await pod.ready(timeout=1)
        async for event in podkeep.Monitor(pod):
            if event.failure is not None:
                raise RuntimeError(event.failure.message)
        await pod.joined()
        await pod.closed()


def wrong() -> None:
    podkeep.Group(strategy=1)  # type: ignore[arg-type]
    podkeep.Group().add(Worker)  # type: ignore[arg-type]
    podkeep.Pod(Worker, graze=5)  # type: ignore[call-arg]
    podkeep.Pod(Worker(3))  # type: ignore[arg-type]
    podkeep.Pod(Worker, grace="5")  # type: ignore[arg-type]
    podkeep.Pod.command("true", host="thread")  # type: ignore[call-arg]
    podkeep.Pod.command("true", 1)  # type: ignore[arg-type]
