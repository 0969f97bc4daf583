#!/usr/bin/env python3
"""What an idle station costs: processor, memory, writing. Runs it beside simulated hardware and reads /proc.

    scripts/idle.py target/release/aerie [SECONDS]        600 by default; prints JSON

The station is aerie-station beside it, as systemd runs it; or `aerie run` where that is not there.
"""
import json, os, pathlib, shutil, signal, socket, subprocess, sys, tempfile, time

program = os.path.abspath(sys.argv[1])
alone = program + "-station"
run = [alone] if os.path.exists(alone) else [program, "run"]
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 600.0
tick, here = os.sysconf("SC_CLK_TCK"), pathlib.Path(tempfile.mkdtemp(prefix="aerie-idle-"))

def proc(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    io = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    kb = lambda key: int(status[key].split()[0]) if key in status else None
    return {"cpu_s": (int(stat[11]) + int(stat[12])) / tick, "rss_kb": kb("VmRSS"), "anon_kb": kb("RssAnon"), "peak_kb": kb("VmHWM"),
            "written": int(io["write_bytes"]) - int(io["cancelled_write_bytes"])}

def children(pid):
    return [int(c) for task in pathlib.Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]

# systemd's side of the line: when does the station say that it is ready?
ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ear.bind(str(here / "notify"))
ear.settimeout(120)
simulation = subprocess.Popen([program, "sim", "--out", here / "sim", "--speed", "1"], stdout=subprocess.PIPE, text=True)
try:
    while "Ctrl-C" not in simulation.stdout.readline():
        assert simulation.poll() is None, "the simulation ended"
    started = time.monotonic()
    with open(here / "log", "w") as log:
        station = subprocess.Popen([*run, "--config", here / "sim/config.toml"], stderr=log,
                                   env={**os.environ, "NOTIFY_SOCKET": str(here / "notify"), "WATCHDOG_USEC": "20000000"})
    try:
        assert ear.recv(1000).startswith(b"READY=1"), "the first word was another"
        ready = time.monotonic() - started
        ready_cpu = proc(station.pid)["cpu_s"]
        while b"perception ready" not in (here / "log").read_bytes():
            assert station.poll() is None and time.monotonic() - started < 120, (here / "log").read_text()
            time.sleep(0.02)
        seeing = time.monotonic() - started
        time.sleep(30)
        first, t0 = proc(station.pid), time.monotonic()
        kids = children(station.pid)
        kids_first = [proc(k) for k in kids]
        time.sleep(seconds)
        last, took = proc(station.pid), time.monotonic() - t0
        kids_last = [proc(k) for k in kids]
        written = last["written"] - first["written"] + sum(b["written"] - a["written"] for a, b in zip(kids_first, kids_last))
        print(json.dumps({
            "station": os.path.basename(run[0]), "seconds": round(took), "start_to_ready_s": round(ready, 2), "start_to_ready_cpu_s": ready_cpu,
            "start_to_model_loaded_s": round(seeing, 2),
            "station_cpu_percent": round(100 * (last["cpu_s"] - first["cpu_s"]) / took, 2),
            "perception_cpu_percent": round(100 * sum(b["cpu_s"] - a["cpu_s"] for a, b in zip(kids_first, kids_last)) / took, 2),
            "station_rss_mb": round(last["rss_kb"] / 1024, 1), "station_rss_of_its_own_mb": round((last["anon_kb"] or 0) / 1024, 1),
            "station_peak_mb": round(last["peak_kb"] / 1024, 1), "perception_rss_mb": [round(k["rss_kb"] / 1024, 1) for k in kids_last],
            "written_bytes": written, "written_mb_a_day": round(written / took * 86400 / 1e6, 2),
            "machine_load": os.getloadavg()[0]}, indent=1))
    finally:
        station.terminate()
        station.wait(20)
finally:
    simulation.send_signal(signal.SIGINT)
    simulation.wait(20)
    shutil.rmtree(here)
