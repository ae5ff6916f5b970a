"""The page of an audit tells what went wrong and when, in a real browser, from disk alone."""

from __future__ import annotations

import math
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from alt_ros.audit.page import COLUMNS, Frames, write_page
from alt_ros.errors import DataError

SECONDS, COVERED, FLAGGED = 12.0, 3.2, 3.4
STAGES = ["sensor to observation", "encoder", "lookup", "transport", "to the first command"]
VIEWS = ["wrist", "third_person"]
HOSTILE = "</script><img src=x onerror=\"document.title='broken out'\">"


def jpeg(view: int, progress: float, covered: bool = False) -> bytes:
    """Return a picture of a gripper above a cup; what it shows moves with the progress."""
    picture = Image.new("RGB", (96, 96), (14, 13, 12) if covered else (182, 160, 128))
    if not covered:
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, 0, 96, 26 if view else 8), fill=(205, 211, 216))
        pen.ellipse((34 + 10 * view, 52 - 30 * progress * view, 64, 82), fill=(190, 45, 40))
        x = 10 + 38 * progress
        pen.rectangle((x, 0, x + 8, 20 + 36 * progress), fill=(60, 64, 70))
    file = BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()


def nothing() -> dict[str, Any]:
    """Return the audit of a bag in which nothing was found."""
    return {
        "bag": "empty",
        "bundle": "bundle",
        "policy": "diffusion",
        "recorded": None,
        "seconds": 0.0,
        "command": "alt audit empty --bundle bundle",
        "findings": [],
        "summary": [],
        "demonstrations": [],
        "causes": [],
        "views": [],
        "decisions": {key: [] for key in COLUMNS["decisions"]},
        "jumps": [],
        "states": [],
        "commands": {key: [] for key in COLUMNS["commands"]},
        "limits": {},
        "violations": [],
        "seams": [],
        "chunks": {"t": [], "distance_mm": [], "demonstration": [], "copied": []},
        "latency": {"stages": [], "t": [], "ms": [], "p50": [], "p99": [],
                    "total_p50": None, "total_p99": None},
        "pairing": {"t": [], "skew_ms": [], "drops": {}, "intervals": {}},
        "parity": [],
    }  # fmt: skip


def rounded(values: np.ndarray) -> list[Any]:
    return [None if math.isnan(v) else round(float(v), 4) for v in values]


def covered_run(seconds: float = SECONDS) -> dict[str, Any]:
    """Return the audit of a run whose wrist camera is covered at COVERED."""
    random = np.random.default_rng(3)
    t = np.arange(0.2, seconds, 0.05).round(2)
    strange, flag = t >= COVERED, t >= FLAGGED
    wave = 0.012 * np.sin(2 * t) + 0.006 * random.standard_normal(len(t))
    score = 1.1 + 8 * wave + 0.1 * random.standard_normal(len(t))
    similarity = np.where(strange, 0.31, 0.955) + wave
    demonstration = np.where(t < 1.6, 4, np.where(strange, 1, 11))
    command_t = np.arange(1.0, min(seconds, 3.9) if seconds == SECONDS else seconds, 0.01)
    speed = 0.18 * np.abs(np.sin(1.3 * command_t)) * np.clip((3.9 - command_t) / 0.3, 0.1, 1)
    speed[80] = 0.41  # a violation
    acceleration = np.abs(np.gradient(speed, 0.01))
    camera_t = np.arange(0.1, seconds, 1 / 30)
    chunk_t = t[(t < FLAGGED) | (seconds > SECONDS)][::4]
    ms = np.abs(np.array([9, 21, 2.5, 1.2, 6]) * (1 + 0.2 * random.standard_normal((len(t), 5))))
    ms[40] = (9, 88, 2.5, 1.2, 6)
    return nothing() | {
        "bag": "grasp_covered_2026-11-22",
        "bundle": "bundles/cup",
        "policy": "alt",
        "recorded": "2026-11-22T08:00:00+00:00",
        "seconds": seconds,
        "command": "alt audit grasp_covered_2026-11-22 --bundle bundles/cup",
        "findings": [
            {"severity": "error", "kind": "camera", "start": COVERED, "end": seconds,
             "text": "The wrist camera shows nothing: covered or dead."},
            {"severity": "error", "kind": "ood", "start": FLAGGED, "end": seconds,
             "text": "Out of distribution: the wrist view is strange, cause cosine; the executor "
                     "held after 0.05 s."},
            {"severity": "warning", "kind": "limits", "start": 1.8, "end": 1.8,
             "text": "A linear speed of 0.41 m/s was sent, the limit is 0.35 m/s."},
            {"severity": "note", "kind": "latency", "start": 2.2, "end": 2.2,
             "text": "One decision took 107 ms; the encoder 88 ms of it."},
        ],
        "summary": [
            f"{len(t)} decisions, 4 demonstrations recalled, 1 of 300 commands outside a limit.",
            "Every logged observation, embedding and decision was replayed bit for bit.",
        ],
        "demonstrations": [f"cup_{i:02d}" for i in range(14)],
        "causes": ["path_residual@25", "guiding_pose@30", "guiding_motion@10", "cosine"],
        "views": VIEWS,
        "decisions": {
            "t": t.tolist(),
            "similarity": rounded(similarity),
            "score": [1e30 if s and i % 7 == 0 else round(float(v) + 25 * s, 3)
                      for i, (v, s) in enumerate(zip(score, strange, strict=True))],
            "threshold": [2.4] * len(t),
            "flag": flag.astype(int).tolist(),
            "demonstration": demonstration.tolist(),
            "frame": (np.arange(len(t)) % 110 + 2).tolist(),
            "cause": np.where(strange, 3, 0).tolist(),
            "view": np.where(flag, 0, -1).tolist(),
        },
        "jumps": [{"t": 1.6, "from": [4, 30], "to": [11, 31]},
                  {"t": COVERED, "from": [11, 62], "to": [1, 63]}],
        "states": [
            {"t": 0.0, "state": "idle", "reason": "not armed"},
            {"t": 0.7, "state": "armed", "reason": "waits for the first action"},
            {"t": 1.0, "state": "running", "reason": ""},
            {"t": 3.45, "state": "holding", "reason": "out of distribution"},
            {"t": 8.5, "state": "stopped", "reason": "held for 5 s"},
        ],
        "commands": {
            "t": command_t.tolist(),
            "linear_speed": rounded(speed),
            "angular_speed": rounded(2.2 * speed),
            "linear_acceleration": rounded(np.minimum(acceleration, 1.9)),
            "angular_acceleration": rounded(np.minimum(3 * acceleration, 8)),
        },
        "limits": {"linear_speed": 0.35, "angular_speed": 1.5, "linear_acceleration": 2.0,
                   "angular_acceleration": 10.0},
        "violations": [{"t": 1.8, "kind": "linear speed", "value": 0.41, "limit": 0.35}],
        "seams": [{"t": float(x), "velocity_step": abs(0.004 + 0.002 * math.sin(9 * x)),
                   "acceleration_step": None if i == 2 else 0.3 + 0.1 * math.cos(7 * x)}
                  for i, x in enumerate(chunk_t)],
        "chunks": {"t": chunk_t.tolist(),
                   "distance_mm": rounded(np.abs(1.5 * np.sin(chunk_t * 5))),
                   "demonstration": [4] * len(chunk_t),
                   "copied": [int(i % 5 > 0) for i in range(len(chunk_t))]},
        "latency": {"stages": STAGES, "t": t.tolist(), "ms": [rounded(row) for row in ms],
                    "p50": rounded(np.median(ms, axis=0)),
                    "p99": rounded(np.quantile(ms, 0.99, axis=0)),
                    "total_p50": 39.8, "total_p99": 61.2},
        "pairing": {
            "t": t.tolist(), "skew_ms": rounded(np.abs(4 + 3 * np.sin(5 * t))),
            "drops": {"no partner within 20 ms": 7, "pose older than 100 ms": 2},
            "intervals": {
                "wrist": {"t": camera_t.tolist(), "ms": rounded(33.3 + np.sin(camera_t * 40))},
                "third_person": {"t": camera_t[::2].tolist(),
                                 "ms": rounded(66.6 + 3 * np.sin(camera_t[::2] * 9))},
            },
        },
        "parity": [
            {"what": "observations", "logged": 230, "equal": 230, "not_replayed": 0,
             "first_difference": None},
            {"what": "decisions", "logged": 230, "equal": 228, "not_replayed": 1,
             "first_difference": 7.25},
        ],
    }  # fmt: skip


def covered_frames(seconds: float = SECONDS, count: int = 60) -> Frames:
    times = np.linspace(0.0, seconds, count + 1).round(3)
    live = [
        [jpeg(0, min(t / 4, 1), covered=t >= COVERED), jpeg(1, min(t / 4, 1))]
        for t in np.minimum(times, SECONDS)
    ]
    recalled = {
        (demonstration, frame): [jpeg(view, frame / 110) for view in (0, 1)]
        for demonstration in (4, 11, 1)
        for frame in range(0, 112, 8)
    }
    return Frames(live_t=times.tolist(), live=live, recalled=recalled)


class Opened(SimpleNamespace):
    """A page with what it said and asked for."""

    page: Any
    complaints: list[str]
    requests: list[str]

    def time(self) -> float:
        self.settle()
        return float(self.page.locator("#slider").evaluate("slider => slider.valueAsNumber"))

    def settle(self) -> None:
        """Wait until what is due has been drawn."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def pictures(self) -> list[str]:
        """Return live and recalled picture of each view."""
        self.settle()
        return self.page.locator("#pictures img").evaluate_all("all => all.map(i => i.src)")

    def said(self) -> str:
        self.settle()
        return self.page.locator("#moment").inner_text()


@pytest.fixture
def opened(browser, tmp_path):
    contexts = []

    def open_page(audit, frames, **options) -> Opened:
        path = tmp_path / "audit" / "page.html"
        write_page(path, audit, frames)
        context = browser.new_context(viewport={"width": 1400, "height": 950}, **options)
        contexts.append(context)
        page = context.new_page()
        found = Opened(page=page, complaints=[], requests=[])
        page.on("console", lambda message: found.complaints.append(message.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("request", lambda request: found.requests.append(request.url))
        page.goto(path.as_uri())
        found.settle()
        return found

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def run(opened):
    return opened(covered_run(), covered_frames())


EMPTY = Frames(live_t=[], live=[], recalled={})
BLANK_CHARTS = """all => all.filter(canvas => {
    const pen = canvas.getContext('2d');
    const plot = [62, 0, canvas.width - 62, canvas.height - 22];  // without axes' numbers
    const pixels = new Uint32Array(pen.getImageData(...plot).data.buffer);
    return new Set(pixels).size < 4;
}).map(canvas => canvas.getAttribute('aria-label'))"""


def test_the_page_opens_from_disk_and_asks_nobody_for_anything(run, tmp_path):
    assert run.complaints == []
    assert {url.split(":")[0] for url in run.requests} <= {"file", "data"}
    assert len([url for url in run.requests if url.startswith("file")]) == 1
    run.page.screenshot(path=tmp_path / "page.png", full_page=True)
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.size[0] == 1400


def test_it_opens_at_the_worst_finding(run):
    assert run.time() == COVERED
    assert run.page.locator("#findings h2").inner_text() == "2 errors, 1 warning, 1 note"
    assert run.page.locator(".finding[aria-current]").count() >= 1


def test_each_finding_leads_to_its_moment(run):
    for number, finding in enumerate(covered_run()["findings"]):
        run.page.locator(".finding").nth(number).click()
        assert run.time() == finding["start"]
        assert run.page.locator(".finding .what").nth(number).inner_text() == finding["text"]


def test_scrubbing_shows_what_was_seen_and_recalled(run):
    run.page.keyboard.press("Home")
    before = run.pictures()
    chart = run.page.locator(".plot").first
    box = chart.bounding_box()
    run.page.mouse.move(box["x"] + 100, box["y"] + 40)
    run.page.mouse.down()
    run.page.mouse.move(box["x"] + box["width"] - 100, box["y"] + 40)
    run.page.mouse.up()
    after = run.pictures()
    assert len(before) == len(after) == 4
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "Out of distribution: wrist looks strange" in run.said()
    assert "cup_01, frame" in run.said()
    assert "held for 5 s" in run.said()


def test_before_the_failure_the_monitor_finds_the_scene_familiar(run):
    run.page.keyboard.press("Home")
    for _ in range(2):
        run.page.keyboard.press("Shift+ArrowRight")
    assert run.time() == 2.0
    said = run.said()
    assert "Familiar to the monitor" in said
    assert "cup_11, frame" in said
    assert "running" in said


def test_the_keyboard_steps_jumps_and_plays(run):
    times = covered_run()["decisions"]["t"]
    run.page.keyboard.press("Home")
    assert run.time() == 0.0
    for expected in times[:3]:
        run.page.keyboard.press("ArrowRight")
        assert run.time() == expected
    run.page.keyboard.press("ArrowLeft")
    assert run.time() == times[1]
    run.page.keyboard.press("n")
    assert run.time() == 1.8
    run.page.keyboard.press("n")
    assert run.time() == 2.2
    run.page.keyboard.press("p")
    assert run.time() == 1.8
    run.page.keyboard.press("Space")
    run.page.wait_for_function("() => document.getElementById('slider').valueAsNumber > 1.9")
    run.page.keyboard.press("Space")
    stopped = run.time()
    run.page.wait_for_timeout(150)
    assert run.time() == stopped < SECONDS
    run.page.keyboard.press("End")
    assert run.time() == SECONDS


def test_wheel_and_double_click_change_what_the_charts_show(run):
    run.page.keyboard.press("Home")
    window = run.page.locator(".window")
    strip = run.page.locator("#strip").bounding_box()
    run.settle()
    whole = window.bounding_box()["width"]
    run.page.mouse.move(strip["x"] + strip["width"] / 2, strip["y"] + 40)
    run.page.mouse.wheel(0, -200)
    run.page.mouse.wheel(0, -200)
    run.page.wait_for_function(
        f"() => document.querySelector('.window').offsetWidth < {0.9 * whole}"
    )
    run.page.mouse.dblclick(strip["x"] + strip["width"] / 2, strip["y"] + 40)
    run.page.wait_for_function(
        f"() => document.querySelector('.window').offsetWidth > {0.99 * whole}"
    )


def test_shift_and_drag_zoom_into_a_chart_and_the_window_can_be_dragged(run):
    window = run.page.locator(".window")
    run.settle()
    whole = window.bounding_box()
    box = run.page.locator(".plot").first.bounding_box()
    run.page.keyboard.down("Shift")
    run.page.mouse.move(box["x"] + 200, box["y"] + 40)
    run.page.mouse.down()
    run.page.mouse.move(box["x"] + 300, box["y"] + 40)
    assert run.page.locator(".chosen").first.is_visible()
    run.page.mouse.up()
    run.page.keyboard.up("Shift")
    run.settle()
    zoomed = window.bounding_box()
    assert zoomed["width"] == pytest.approx(whole["width"] * 100 / (box["width"] - 82), abs=3)
    assert run.time() == COVERED  # zooming is no scrubbing
    middle = (zoomed["x"] + zoomed["width"] / 2, zoomed["y"] + 7)
    run.page.mouse.move(*middle)
    run.page.mouse.down()
    run.page.mouse.move(middle[0] + 150, middle[1])
    run.page.mouse.up()
    run.settle()
    dragged = window.bounding_box()
    assert dragged["x"] == pytest.approx(zoomed["x"] + 150, abs=3)
    assert dragged["width"] == pytest.approx(zoomed["width"], abs=1)


def test_the_wheel_on_a_chart_scrolls_the_page_and_with_ctrl_zooms(run):
    window = run.page.locator(".window")
    whole = window.bounding_box()["width"]
    box = run.page.locator(".plot").first.bounding_box()
    run.page.mouse.move(box["x"] + 300, box["y"] + 40)
    run.page.keyboard.down("Control")
    run.page.mouse.wheel(0, -200)
    run.page.wait_for_function(
        f"() => document.querySelector('.window').offsetWidth < {0.9 * whole}"
    )
    run.page.keyboard.up("Control")
    assert run.page.evaluate("() => scrollY") == 0
    zoomed = window.bounding_box()["width"]
    run.page.mouse.wheel(0, 200)
    run.page.wait_for_function("() => scrollY > 100")
    assert window.bounding_box()["width"] == zoomed


def test_the_browser_refuses_what_comes_from_outside(run):
    run.page.evaluate(
        """() => new Promise(done => {
            const image = document.body.appendChild(new Image());
            image.onerror = done;
            image.src = 'http://127.0.0.1:9/picture.png';
        })"""
    )
    run.page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<p onclick=\"x=1\">')")
    run.page.locator("body > p").dispatch_event("click")
    assert len(run.complaints) == 2
    assert all("Content Security Policy" in complaint for complaint in run.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn(opened, scheme):
    run = opened(covered_run(), covered_frames(), color_scheme=scheme)
    charts = run.page.locator("canvas")
    assert charts.count() == 1 + 3 + 4 + 2 + 1 + 3  # the strip, then section by section
    assert charts.evaluate_all(BLANK_CHARTS) == []


def test_the_probe_for_blank_charts_sees_one(run):
    run.page.evaluate("() => { const c = document.querySelector('.plot canvas'); c.width = 900; }")
    assert run.page.locator("canvas").evaluate_all(BLANK_CHARTS) == ["Similarity over time"]


def test_text_from_the_bag_stays_text(opened):
    audit = covered_run()
    audit |= {"bag": HOSTILE, "policy": HOSTILE, "summary": [HOSTILE], "views": [HOSTILE, "b"]}
    audit |= {"demonstrations": [HOSTILE] * 14, "causes": [HOSTILE] * 4, "command": HOSTILE}
    audit["findings"][0]["text"] = audit["states"][3]["reason"] = HOSTILE
    audit["parity"][0]["what"] = audit["violations"][0]["kind"] = HOSTILE
    audit["pairing"]["drops"] = {HOSTILE: 3}
    audit["pairing"]["intervals"] = {HOSTILE: audit["pairing"]["intervals"]["wrist"]}
    audit["latency"]["stages"] = [HOSTILE] * 5
    run = opened(audit, covered_frames())
    run.page.keyboard.press("End")
    run.settle()
    assert run.complaints == []
    assert run.page.title() == f"Audit of {HOSTILE}"
    assert run.page.locator("img[src=x]").count() == 0
    assert run.page.locator(".finding .what").first.inner_text() == HOSTILE
    assert HOSTILE in run.said()


def test_a_bag_with_nothing_in_it_opens(opened):
    run = opened(nothing(), EMPTY)
    for key in ("ArrowRight", "ArrowLeft", "n", "p", "End", "Home", "+", "0"):
        run.page.keyboard.press(key)
    run.settle()
    assert run.complaints == []
    assert "could be judged" in run.page.locator("#findings h2").inner_text()
    assert "not judged: monitor, commands" in run.page.locator("#summary").inner_text()


def test_a_run_without_findings_says_so_in_green(opened):
    run = opened(covered_run() | {"findings": [], "seams": [], "parity": []}, covered_frames())
    heading = run.page.locator("#findings h2")
    assert "Nothing went wrong in what was judged" in heading.inner_text()
    assert run.time() == 0.0
    red, green, blue = heading.evaluate(
        "h => getComputedStyle(h).color.match(/\\d+/g).map(Number)"
    )
    assert green > max(red, blue)
    assert "not judged: parity" in run.page.locator("#summary").inner_text()


def test_what_has_ended_is_told_as_ended(run):
    run.page.keyboard.press("End")
    assert "Speed\nnone since 3.89 s" in run.said()
    run.page.keyboard.press("Home")
    assert "No decision of the monitor yet" in run.said()


def test_columns_may_be_missing(opened):
    audit = covered_run()
    for key in ("similarity", "score", "threshold", "demonstration", "frame", "cause", "view"):
        audit["decisions"][key] = []
    audit["limits"] = {"linear_speed": None}
    run = opened(audit, EMPTY)
    assert run.complaints == []
    assert "no picture" in run.said()


def test_an_hour_opens_and_scrubs(opened):
    hour = 3600.0
    audit = covered_run(hour)
    assert len(audit["decisions"]["t"]) > 71_000
    assert len(audit["commands"]["t"]) > 359_000
    few = covered_frames(hour, 40)
    frames = Frames(
        np.linspace(0.0, hour, 2000).tolist(), (list(few.live) * 50)[:2000], few.recalled
    )
    run = opened(audit, frames)
    assert run.complaints == []
    assert run.time() == COVERED
    run.page.keyboard.press("0")
    run.settle()
    assert run.page.locator("canvas").evaluate_all(BLANK_CHARTS) == []
    first = run.pictures()
    for _ in range(3):
        run.page.keyboard.press("Shift+ArrowRight")
    assert run.time() == COVERED + 3
    assert run.pictures() != first
    run.page.keyboard.press("End")
    assert run.time() == hour
    assert run.page.locator("#time").inner_text() == "60:00.00"


def test_it_fits_a_tablet(opened):
    run = opened(covered_run(), covered_frames())
    run.page.set_viewport_size({"width": 800, "height": 1100})
    run.settle()
    assert run.page.evaluate("() => document.documentElement.scrollWidth") <= 800
    assert run.page.locator("canvas").evaluate_all(BLANK_CHARTS) == []


def test_columns_of_unequal_length_are_refused(tmp_path):
    audit = covered_run()
    audit["decisions"]["score"].pop()
    with pytest.raises(DataError, match=r"decisions: 236 values of 'score' are needed.* got 235"):
        write_page(tmp_path / "page.html", audit, covered_frames())
    assert list(tmp_path.iterdir()) == []


def test_times_that_fall_are_refused(tmp_path):
    audit = covered_run()
    audit["commands"]["t"][5] = 0.0
    with pytest.raises(DataError, match="commands: finite times that do not fall"):
        write_page(tmp_path / "page.html", audit, covered_frames())


def test_what_is_missing_or_not_finite_is_refused(tmp_path):
    audit = covered_run()
    with pytest.raises(DataError, match="finite numbers in JSON's types"):
        write_page(tmp_path / "page.html", audit | {"seconds": math.nan}, covered_frames())
    del audit["jumps"]
    with pytest.raises(DataError, match="the key 'jumps' is needed"):
        write_page(tmp_path / "page.html", audit, covered_frames())


def test_pictures_must_be_jpeg_and_one_for_each_view(tmp_path):
    with pytest.raises(DataError, match="bytes of JPEG files"):
        Frames(live_t=[0.0], live=[[b"\x89PNG"]], recalled={})
    with pytest.raises(DataError, match="2 times for 1 frames"):
        Frames(live_t=[0.0, 1.0], live=[[b""]], recalled={})
    with pytest.raises(DataError, match="each of the 2 views is needed, got 1"):
        write_page(
            tmp_path / "page.html", covered_run(), Frames(live_t=[0.0], live=[[b""]], recalled={})
        )
