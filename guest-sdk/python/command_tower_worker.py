"""Work on steps of a Command Tower from outside, in Python. Nothing but the standard library (3.9 or later).

    from command_tower_worker import Cancelled, Fatal, Worker

    def step(task):
        task.progress(50, "half way")
        task.check_cancel()                      # raises Cancelled when the trace was cancelled
        if "name" not in task.params:
            raise Fatal("BAD_PARAMS", "a name is needed")
        return {"hello": task.params["name"]}

    Worker("http://127.0.0.1:8001", "greetings").run(step)

While a step is worked on, a thread of its own tells the tower so, and hears what the outside wants. An end whose answer got lost is told
again, and counts once. A step that raises something else fails, and is tried again.
"""

import json
import os
import socket
import threading
import time
import traceback
import urllib.error
import urllib.request

__all__ = ["Cancelled", "Child", "Fatal", "Lost", "Paused", "Refused", "Released", "Retryable", "Task", "TowerError", "Worker", "work_on"]

_WAIT_SEC = 30.0
_TIMEOUT_SEC = 30.0
_AWAY_SEC = 1.0
_TRIES = 6


class TowerError(Exception):
    """The tower could not be reached, or its answer broke off."""


class Refused(Exception):
    """The tower refused a call."""

    def __init__(self, status, code, detail):
        super().__init__(f"{code}: {detail}")
        self.status, self.code, self.detail = status, code, detail


class Lost(Exception):
    """The attempt is over: nothing that is done for it counts any more."""


class Retryable(Exception):
    """The step failed, and may succeed when it is tried again."""

    def __init__(self, code, message="", after_ms=None):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.after_ms = code, message, after_ms


class Fatal(Exception):
    """The step failed, and will fail however often it is tried."""

    def __init__(self, code, message=""):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Cancelled(Exception):
    """The step stops because it was cancelled."""


class Paused(Exception):
    """The step stops early because it was asked to; the run that goes on is handed `carried`."""

    def __init__(self, carried=None):
        super().__init__("paused")
        self.carried = carried


class Released(Exception):
    """The step is given back unharmed: it runs again elsewhere, and no retry is used up."""


def Child(key, definition, params=None, depends_on=(), run_on=None, priority=None):
    """A child to split off. `run_on`: "SUCCESS" or "FINISHED"."""
    child = {"key": key, "definition": definition, "params": params or {}, "depends_on": list(depends_on)}
    if run_on is not None:
        child["run_on"] = run_on
    if priority is not None:
        child["priority"] = priority
    return child


def _call(method, url, token=None, body=None, timeout=_TIMEOUT_SEC):
    """One call; answers the JSON, or None for an empty answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    if data is not None:
        request.add_header("content-type", "application/json")
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    # No proxy: what stands between a worker and its tower is not for a variable of the environment to say.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as response:
            text = response.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        try:
            problem = json.loads(error.read())
        except ValueError:
            problem = {}
        code, detail = problem.get("code", ""), problem.get("detail", str(error))
        # Without its token known any more, an attempt is as much over as with it.
        if code in ("ATTEMPT_OVER", "BAD_TOKEN"):
            raise Lost(detail) from None
        raise Refused(error.code, code, detail) from None
    except (OSError, ValueError) as error:
        raise TowerError(f"the tower cannot be reached: {error}") from error


class Task:
    """A step, and its four powers: read, split, report, hear what the outside wants."""

    def __init__(self, handed):
        self._attempt, self.step = handed["attempt"], handed["step"]
        self._signal, self._reason, self._lost = "GO_ON", "", threading.Event()
        self._changed = threading.Condition()
        self.params = self.step["params"]

    def __getattr__(self, name):
        # task_id, trace_id, definition, key, actor_type, role, leg, upstream, summary, carried, attempt, retries_left, round_index, …
        try:
            return self.__dict__["step"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def is_fold(self):
        """Whether the children have ended and their results are to be folded."""
        return self.step["leg"] == "AGGREGATE"

    def _tell(self, call, body):
        return _call("POST", f"{self._attempt['url']}/{call}", self._attempt["token"], body)

    def _report(self, **report):
        try:
            self._tell("events", report)
        except (TowerError, Refused):
            pass  # an observation that got lost

    def split(self, children):
        """Splits the task, all or none; the children begin with the step's good end. Answers their ids."""
        return self._tell("split", {"children": list(children)})["task_ids"]

    def progress(self, percent, message=""):
        """Says how far it has come."""
        self._report(event_type="PROGRESS", percent=max(0, min(100, int(percent))), message=str(message))

    def log(self, message, level="INFO", fields=None):
        """Writes a line into the task's log."""
        self._report(event_type="LOG", level=level, message=str(message), fields=fields)

    def partial_output(self, value):
        """Shows a piece of the output to those who watch."""
        self._report(event_type="PARTIAL_OUTPUT", value=value)

    @property
    def signal(self):
        """What the outside wants, as heard last: "GO_ON", "PAUSE" or "CANCEL"."""
        return self._signal

    def check_cancel(self):
        """Raises Cancelled if the step was cancelled, Lost if it is no longer this worker's."""
        if self._lost.is_set():
            raise Lost("the step was given to somebody else")
        if self._signal == "CANCEL":
            raise Cancelled(self._reason)

    def sleep(self, seconds):
        """Waits; wakes early when there is something to hear."""
        with self._changed:
            self._changed.wait_for(lambda: self._signal != "GO_ON" or self._lost.is_set(), timeout=seconds)
        self.check_cancel()

    def results(self):
        """All results that there are to fold, one after another."""
        cursor = ""
        while True:
            page = _call("GET", f"{self._attempt['url']}/results?limit=1000{cursor}", self._attempt["token"])
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = f"&cursor={page['next_cursor']}"

    def _listen(self, done):
        """Hears what the outside wants, which keeps the step as well, until it is done."""
        lease = self._attempt.get("lease_ms")
        wait = _WAIT_SEC if lease is None else min(lease / 3000, _WAIT_SEC)
        while not done.is_set():
            heard = "PAUSE" if self._signal == "PAUSE" else "GO_ON"
            url = f"{self._attempt['url']}/check-cancel?wait={int(wait * 1000)}ms&heard={heard}"
            try:
                answer = _call("GET", url, self._attempt["token"], timeout=wait + _TIMEOUT_SEC)
            except Lost:
                with self._changed:
                    self._lost.set()
                    self._changed.notify_all()
                return
            except (TowerError, Refused):
                done.wait(min(wait, _AWAY_SEC))
                continue
            with self._changed:
                self._signal, self._reason = answer["signal"], answer.get("reason") or ""
                self._changed.notify_all()
            if self._signal == "CANCEL":
                done.wait(min(wait, _AWAY_SEC))


def _end(step, task):
    """Runs the step; answers the call that tells of its end, and its body."""
    try:
        return "complete", {"output": step(task)}
    except Paused as paused:
        return "pause", {"carried": paused.carried}
    except Cancelled:
        return "cancelled", {}
    except Released:
        return "release", {}
    except Retryable as failure:
        return "fail", {"code": failure.code, "message": failure.message, "after_ms": failure.after_ms}
    except Fatal as failure:
        return "fail", {"code": failure.code, "message": failure.message, "retryable": False}
    except Refused as refused:
        return "fail", {"code": refused.code or "REFUSED", "message": refused.detail, "retryable": False}
    except Lost:
        raise
    except Exception:  # noqa: BLE001: whatever it is, the step has failed, and the worker goes on
        return "fail", {"code": "WORKER_EXCEPTION", "message": traceback.format_exc(limit=-5)}


def work_on(handed, step):
    """Works on one step that came otherwise, such as by POST, and tells the tower how it ended."""
    task, done = Task(handed), threading.Event()
    listener = threading.Thread(target=task._listen, args=(done,), daemon=True)
    listener.start()
    try:
        call, body = _end(step, task)
        for attempt in range(_TRIES):
            try:
                return task._tell(call, body)
            except (TowerError, Refused) as error:
                if isinstance(error, Refused) and error.status < 500 and error.status != 429:
                    if call == "complete":
                        # What was returned is no output that can be kept.
                        call, body = "fail", {"code": error.code or "REFUSED", "message": error.detail, "retryable": False}
                        continue
                    raise
                time.sleep(0.2 * 2**attempt)
    except Lost:
        return None
    finally:
        done.set()
    return None


class Worker:
    """Fetches steps of `worker://queue` and works on them, `concurrency` at a time."""

    def __init__(self, tower, queue, name=None, concurrency=1):
        self.tower, self.queue, self.concurrency = tower.rstrip("/"), queue, max(1, concurrency)
        self.name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._stop = threading.Event()

    def stop(self):
        """Has it fetch no more; what it works on is brought to its end."""
        self._stop.set()

    def run(self, step):
        """Works until `stop` is called. A tower that is away is asked again."""
        threads = [threading.Thread(target=self._work, args=(step,), daemon=True) for _ in range(self.concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            # In pieces, so that an interrupt from the keyboard is heard.
            while thread.is_alive():
                thread.join(0.5)

    def _work(self, step):
        while not self._stop.is_set():
            try:
                body = {"queue": self.queue, "worker": self.name, "wait": f"{int(_WAIT_SEC)}s"}
                handed = _call("POST", f"{self.tower}/api/v1/workers/claim", body=body, timeout=_WAIT_SEC + _TIMEOUT_SEC)
            except (TowerError, Refused) as error:
                if isinstance(error, Refused) and error.status < 500 and error.status != 429:
                    raise
                self._stop.wait(_AWAY_SEC)
                continue
            if handed is not None:
                work_on(handed, step)
