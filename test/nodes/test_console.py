"""The console in a real browser, on the running simulation; and what it may not do to it."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="CONSOLE NOT TESTED: uvicorn is not installed")

from alt_ros.benchmarks.drill_rig import LONGEST_PAUSE, arm, disarm, reset
from alt_ros.errors import AltError
from alt_ros.nodes.console_parameters import TOKEN_VARIABLE
from alt_ros.nodes.drill_console import DrillConsole
from alt_ros.nodes.graph import Graph, policy_nodes

TOKEN = "a-token-for-tests-only"
TOLD = "console: "
TAKEN = -1
STOPS_WITHIN = 0.2
ATTEMPTS = 3


@dataclass
class Cell:
    """The graph, its operator, and where the console's page is."""

    graph: Graph
    operator: DrillConsole
    bundle: Path

    @property
    def address(self) -> str:
        return self.graph.said("console", TOLD).split()[1]

    def start_console(self) -> None:
        if not self.graph.has_ended("console"):
            return
        self.graph.start(
            "console",
            {"bundle": self.bundle, "port": 0},
            variables={TOKEN_VARIABLE: TOKEN},
            needed=False,
        )
        self.graph.said("console", TOLD)

    def run(self) -> None:
        """Begin an episode, and let the arm get on its way."""
        disarm(self.operator)
        self.operator.flight.begin()
        reset(self.operator)
        arm(self.operator, 10.0)
        self.operator.wait_for("commands", self.moves, 10.0)

    def moves(self) -> bool:
        flight = self.operator.flight
        return flight.last_command(0.0) > time.monotonic() - 0.1 and len(flight.commands) > 10

    def is_state(self, state: str) -> None:
        self.operator.wait_for(
            f"state '{state}'", lambda: self.operator.state.state == state, 10.0
        )

    def post(self, action: str, token: str = "") -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"{self.address}control/{action}",
            method="POST",
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=5.0) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def running(
    ros_environment: dict[str, str],
    small_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cell]:
    from alt_ros.nodes import graph as ros_graph

    config = ros_graph.share() / "config"
    logs = tmp_path_factory.mktemp("logs")
    with Graph(logs, ros_environment, [config / "alt.yaml", config / "simulation.yaml"]) as graph:
        graph.start("sim_bridge")
        graph.start("camera_sync")
        for node, parameters in policy_nodes("alt", small_bundle).items():
            graph.start(node, parameters)
        graph.start("executor")
        with DrillConsole(graph.check) as operator:
            operator.wait_for("the first decision", lambda: operator.flags, 90.0)
            yield Cell(graph, operator, small_bundle)


@pytest.fixture
def cell(running: Cell) -> Cell:
    running.start_console()
    return running


@pytest.fixture
def open_page(cell: Cell, browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the page with the token, and have it fail the test for any error of the browser."""
    contexts, troubles = [], []

    def open_it(token: str = TOKEN, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(PRESSED_AT)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(cell.address + (f"#token={token}" if token else ""))
        page.wait_for_selector("html[data-connected=yes]")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


def text(page: Any, name: str) -> str:
    return page.locator(f"[data-test={name}]").inner_text()


def wait_for_state(page: Any, state: str) -> None:
    page.wait_for_function(
        "state => document.querySelector('[data-test=state]')"
        ".textContent.toLowerCase().includes(state)",
        arg=state,
    )


def drawn(page: Any, name: str) -> str:
    """Wait for a picture, and return what it is of."""
    canvas = page.wait_for_selector(f"[data-test={name}][data-stamp]")
    blank = canvas.evaluate(
        "c => !c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        ".some((v, k) => k % 4 < 3 && v > 40)"
    )
    assert not blank
    return canvas.get_attribute("data-stamp")


PRESSED_AT = """
for (const kind of ["pointerdown", "keydown"])
  window.addEventListener(kind, () => { window.pressedAt ??= Date.now(); }, true);
"""


def stop_within(cell: Cell, page: Any, press: Callable[[], None]) -> float:
    """Press stop while the arm moves; return after which time the last command came, s.

    Counted from the press as the page gets it. Once more where the machine stood still.
    """
    for _ in range(ATTEMPTS):
        cell.run()
        page.evaluate("() => { window.pressedAt = undefined; }")
        press()
        cell.is_state("stopped")
        time.sleep(0.5)
        ago = time.time() - page.evaluate("() => window.pressedAt") / 1e3
        pressed = time.monotonic() - ago
        late = cell.operator.flight.last_command(pressed) - pressed
        if late < STOPS_WITHIN:
            break
    return late


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_operator_sees_stops_and_arms_anew(cell, open_page, tmp_path):
    page = open_page()
    assert "token" not in page.url
    cell.run()
    wait_for_state(page, "running")
    first = drawn(page, "live-wrist")
    drawn(page, "live-third_person")
    drawn(page, "recalled-wrist")
    drawn(page, "recalled-third_person")
    assert text(page, "demonstration")
    page.wait_for_function(
        "first => document.querySelector('[data-test=live-wrist]').dataset.stamp !== first",
        arg=first,
    )
    page.wait_for_function("() => document.querySelector('[data-test=chart]').dataset.points > 20")
    page.screenshot(path=tmp_path / "running.png")

    stop = page.locator("[data-test=stop]")
    assert stop_within(cell, page, stop.click) < STOPS_WITHIN
    wait_for_state(page, "stopped")
    assert "confirmed" in text(page, "stop-status").lower()
    assert "stopped by the operator" in text(page, "reason")
    page.screenshot(path=tmp_path / "stopped.png")

    page.click("[data-test=arm]")
    cell.is_state("running")
    wait_for_state(page, "running")
    cell.operator.wait_for("commands", cell.moves, 10.0)
    page.click("[data-test=hold]")
    cell.is_state("holding")
    wait_for_state(page, "holding")
    assert "held by the operator" in text(page, "reason")
    assert not cell.operator.flight.audit.violations


@pytest.mark.timeout(120)
def test_space_stops_and_needs_no_token(cell, open_page):
    page = open_page(token="")
    page.focus("[data-test=hold]")
    assert stop_within(cell, page, lambda: page.keyboard.press("Space")) < STOPS_WITHIN
    assert cell.operator.state.reason == "stopped by the operator"


@pytest.mark.timeout(120)
def test_without_the_token_the_arm_is_not_armed_and_the_attempt_is_logged(cell, open_page):
    page = open_page(token="")
    disarm(cell.operator)
    status, answer = cell.post("arm")
    assert (status, answer["success"]) == (403, False)
    assert cell.post("arm", "another token of mine")[0] == 403
    page.wait_for_selector("[data-test=events]:has-text('arm refused')")
    assert cell.operator.state.state == "idle"
    log = cell.graph._log("console").read_text()
    assert "arm refused to 127.0.0.1: it needs the control token" in log
    assert "arm refused to 127.0.0.1: the control token is wrong" in log


@pytest.mark.timeout(120)
def test_a_wrong_token_is_told_on_the_page(cell, open_page):
    page = open_page(token="not-the-right-token-at-all")
    disarm(cell.operator)
    wait_for_state(page, "idle")
    page.click("[data-test=arm]")
    page.wait_for_selector("[data-test=message]:has-text('token is wrong')")
    assert cell.operator.state.state == "idle"


@pytest.mark.timeout(120)
def test_what_the_executor_refuses_is_told_with_its_reason(cell):
    disarm(cell.operator)
    status, answer = cell.post("hold", TOKEN)
    assert (status, answer["success"]) == (200, False)
    assert answer["message"] == "nothing to hold: the state is idle"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("then", ["stop", "give up"])
def test_an_arm_that_comes_late_is_taken_back(cell, then):
    """An executor that stood still finds an arm and a stop before it, in any order."""
    disarm(cell.operator)
    reset(cell.operator)
    executor = cell.graph.process("executor")
    with ThreadPoolExecutor() as asking:
        executor.send_signal(signal.SIGSTOP)
        asked = [asking.submit(cell.post, "arm", TOKEN)]
        if then == "stop":
            time.sleep(0.1)
            asked.append(asking.submit(cell.post, "stop"))
            time.sleep(0.1)
        else:
            assert asked[0].result()[0] == 504
        executor.send_signal(signal.SIGCONT)
        answers = [future.result() for future in asked]
    time.sleep(2.0)
    # Idle where the executor has refused: the pose that it knows may be old by then.
    assert cell.operator.state.state in ("stopped", "idle"), answers


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_without_the_console_the_arm_goes_on(cell, open_page, how):
    """A console that died, or stands still, changes no command; the page says so."""
    page = open_page()
    cell.run()
    process, flight = cell.graph.process("console"), cell.operator.flight
    process.send_signal(how)
    gone = time.monotonic()
    time.sleep(2.5)
    states = [seen.state for seen in flight.states if seen.arrival > gone]
    arrivals = [seen.arrival for seen in flight.commands if seen.arrival > gone - 0.5]
    if how != signal.SIGSTOP:
        page.wait_for_selector("html[data-connected=no]")
        assert "the arm goes on without this page" in text(page, "connection")
    process.kill()
    process.wait()
    cell.graph.stop("console")
    assert states == []
    assert arrivals[-1] - gone > 2.0
    assert max(b - a for a, b in itertools.pairwise(arrivals)) < LONGEST_PAUSE
    assert flight.audit.violations == []
    cell.start_console()


@pytest.mark.timeout(120)
def test_a_page_finds_the_console_again(cell, open_page):
    context = open_page()
    port = int(cell.address.rsplit(":", 1)[1].split("/")[0])
    cell.graph.stop("console")
    context.wait_for_selector("html[data-connected=no]")
    cell.graph.start(
        "console",
        {"bundle": cell.bundle, "port": port},
        variables={TOKEN_VARIABLE: TOKEN},
        needed=False,
    )
    context.wait_for_selector("html[data-connected=yes]", timeout=30_000)
    drawn(context, "live-wrist")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_the_command_says_where_the_page_is_and_ends_with_ctrl_c(ros_environment, tmp_path, token):
    elsewhere = str(int(ros_environment["ROS_DOMAIN_ID"]) % 90 + 1)  # where no executor is
    process = subprocess.Popen(
        [Path(sys.executable).with_name("alt"), "console", "--port", "0", "--domain", elsewhere],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=ros_environment | ({TOKEN_VARIABLE: token} if token else {}),
        # A shell's background jobs ignore it, and what they start too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    try:
        said = next(line for line in process.stderr if line.startswith(TOLD))
        address, _, fragment = said.split()[1].partition("#")
        # Who gave the token knows it; a new one is told.
        assert fragment.startswith("token=") is not bool(token)
        with urllib.request.urlopen(address, timeout=5.0) as response:
            assert b"<title>alt console</title>" in response.read()
        request = urllib.request.Request(f"{address}control/stop", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            urllib.request.urlopen(request, timeout=5.0)
        with refused.value:
            assert json.load(refused.value)["message"] == "stop: the executor is not there"
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20.0)
        assert process.returncode == 130
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("parameters", "variables", "said"),
    [
        ({"port": TAKEN}, {}, "cannot listen at 127.0.0.1 port"),
        ({"store": "/no/such/store"}, {}, "'/no/such/store' must be a store with the views"),
        ({}, {TOKEN_VARIABLE: "short"}, "the control token must have 16 ASCII characters"),
    ],
)
def test_what_cannot_be_is_one_line(make_graph, parameters, variables, said):
    graph = make_graph(sim=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if parameters.get("port") == TAKEN:
            parameters = {"port": taken.getsockname()[1]}
        graph.start("console", parameters, variables=variables)
        graph.process("console").wait(30.0)
    with pytest.raises(AltError, match=said) as ended:
        graph.check()
    assert "Traceback" not in str(ended.value)
