// A stand-in for the station's HTTP API, for working on the page alone: `npm run build && npm run mock`, or `npm run mock`
// beside `npm run dev`. It speaks the station's shapes and sends the station's Content-Security-Policy.
// Its pictures are drawn as SVG; the station sends JPEG.
//
// node mock.mjs [--port 8099] [--scenario idle|flying|refused|degraded|silent|empty] [--token SECRET] [--speed 4]

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "8099" },
    scenario: { type: "string", default: "idle" },
    token: { type: "string" },
    speed: { type: "string", default: "1" },
  },
});
const SPEED = Number(options.speed);
const DIST = fileURLToPath(new URL("dist", import.meta.url));
const CSP = "default-src 'self'; img-src 'self' data: blob:; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; connect-src 'self'";

// --- a town -----------------------------------------------------------------------------------------------------

const ORIGIN = { lat: 23.0316, lon: 112.9162 };
const EAST = 1 / (111320 * Math.cos((ORIGIN.lat * Math.PI) / 180));
const NORTH = 1 / 110760;
const at = (x, y) => [ORIGIN.lon + x * EAST, ORIGIN.lat + y * NORTH];

let seed = 7;
const random = () => ((seed = (seed * 1664525 + 1013904223) % 4294967296) / 4294967296);

const polygon = (kind, points) => ({ type: "Feature", properties: { kind }, geometry: { type: "Polygon", coordinates: [[...points, points[0]].map(([x, y]) => at(x, y))] } });
const box = (kind, x, y, w, h) => polygon(kind, [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]);

function town() {
  const features = [];
  for (let i = -5; i < 5; i++) for (let j = -4; j < 4; j++) if (random() < 0.42) features.push(box("field", i * 110 + 8, j * 100 + 8, 94, 84));
  features.push(polygon("water", [[-560, -150], [-300, -190], [-60, -150], [140, -205], [360, -190], [560, -250], [560, -190], [360, -130], [140, -140], [-60, -95], [-300, -135], [-560, -95]]));
  features.push(polygon("water", [[210, 120], [290, 105], [330, 160], [280, 210], [215, 190]]));
  for (let i = -5; i <= 5; i++) features.push({ type: "Feature", properties: { kind: "road" }, geometry: { type: "LineString", coordinates: [at(i * 110, -400), at(i * 110, 400)] } });
  for (let j = -4; j <= 4; j++) if (j !== -2) features.push({ type: "Feature", properties: { kind: "road" }, geometry: { type: "LineString", coordinates: [at(-560, j * 100), at(560, j * 100)] } });
  for (let i = -5; i < 5; i++) {
    for (let j = -4; j < 4; j++) {
      if (j === -2 || random() < 0.35) continue;
      for (let k = 0; k < 4; k++) features.push(box("building", i * 110 + 12 + random() * 62, j * 100 + 12 + random() * 55, 10 + random() * 20, 8 + random() * 18));
      for (let k = 0; k < 5; k++) features.push({ type: "Feature", properties: { kind: "tree" }, geometry: { type: "Point", coordinates: at(i * 110 + 6 + random() * 98, j * 100 + 6 + random() * 88) } });
    }
  }
  return { type: "FeatureCollection", features };
}

const MAP = options.scenario === "empty" ? { type: "FeatureCollection", features: [] } : town();
const DOCK = { x: -40, y: -30 };
const AREAS = {
  north: { name: "丹灶北片 · 违建巡查", points: [[-330, 20], [-110, 20], [-110, 320], [-330, 320]], schedule: "每日 07:30 / 16:00" },
  river: { name: "河道沿线 · 漂浮物", points: [[100, -230], [430, -270], [440, -120], [110, -110]], schedule: "每 3 日" },
  east: { name: "东侧工业园", points: [[110, 30], [400, 30], [400, 300], [110, 300]], schedule: null },
};

function lawnmower(points) {
  const xs = points.map((p) => p[0]);
  const ys = points.map((p) => p[1]);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const path = [[DOCK.x, DOCK.y]];
  for (let y = y0 + 25, flip = false; y < y1; y += 50, flip = !flip) path.push(...(flip ? [[x1 - 15, y], [x0 + 15, y]] : [[x0 + 15, y], [x1 - 15, y]]));
  path.push([DOCK.x, DOCK.y]);
  return path;
}

function along(path, fraction) {
  const legs = path.slice(1).map((p, i) => Math.hypot(p[0] - path[i][0], p[1] - path[i][1]));
  let left = fraction * legs.reduce((a, b) => a + b, 0);
  for (let i = 0; i < legs.length; i++) {
    if (left <= legs[i] || i === legs.length - 1) {
      const f = Math.min(1, left / legs[i]);
      const [ax, ay] = path[i];
      const [bx, by] = path[i + 1];
      return { x: ax + (bx - ax) * f, y: ay + (by - ay) * f, heading: ((Math.atan2(bx - ax, by - ay) * 180) / Math.PI + 360) % 360 };
    }
    left -= legs[i];
  }
}

// --- what the station knows -------------------------------------------------------------------------------------

const iso = (ms = Date.now()) => new Date(ms).toISOString();
const sha = (n) => n.toString(16).padStart(64, "0");
const KINDS = {
  new_building: "疑似新增建筑", blue_roof: "疑似新增彩钢棚", heavy_machine: "疑似施工作业", earthwork: "疑似违法占地动土",
  garbage: "暴露垃圾", floating_debris: "水面漂浮物", burning: "疑似露天焚烧",
};
const CODES = { new_building: "06001", blue_roof: "06001", heavy_machine: "08016", earthwork: "08016", garbage: "06010", floating_debris: "06025", burning: "06020" };

const cases = [];
function addCase(kind, x, y, minutesAgo, sortie, extra = {}) {
  const n = cases.length + 1;
  const [lon, lat] = at(x, y);
  const position = { wgs84: { lat, lon }, cgcs2000: { lat, lon }, gcj02: { lat: lat - 0.00263, lon: lon + 0.00541 } };
  const feature = {
    type: "Feature",
    geometry: { type: "Point", coordinates: [lon, lat] },
    properties: {
      id: `case-${String(n).padStart(4, "0")}`, kind, kind_zh: KINDS[kind], state: "suspected", confidence: 0.55 + random() * 0.43, experimental: kind === "burning" || kind === "earthwork",
      first_seen: iso(Date.now() - minutesAgo * 60e3 - random() * 3 * 86400e3), last_seen: iso(Date.now() - minutesAgo * 60e3), count: 1 + Math.floor(random() * 6), sortie,
      evidence: n === 5 ? [] : n % 3 === 0 ? [sha(n), sha(n + 500)] : [sha(n)],
      uncertainty: { semi_major_m: 2 + random() * 5, semi_minor_m: 1.2 + random() * 1.5, bearing_deg: Math.floor(random() * 180) },
      position, code: CODES[kind], code_system: "GB/T 47678.5-2026", delivered: minutesAgo > 3, ...extra,
    },
  };
  cases.unshift(feature);
  return feature;
}

const sorties = [];
function addSortie(patrol, state, minutesAgo, extra = {}) {
  const route = { type: "LineString", coordinates: lawnmower(AREAS[patrol].points).map(([x, y]) => at(x, y)) };
  const sortie = {
    id: `s-${String(sorties.length + 1).padStart(4, "0")}`, patrol, patrol_name: AREAS[patrol].name, trigger: "schedule", state, reason: null, planned_at: iso(Date.now() - minutesAgo * 60e3 - 20e3),
    started_at: iso(Date.now() - minutesAgo * 60e3), ended_at: iso(Date.now() - minutesAgo * 60e3 + 540e3), frames: 132, cases: 2, coverage: 0.987, progress: 1, route, operator: null, ...extra,
  };
  sorties.unshift(sortie);
  return sortie;
}

if (options.scenario !== "empty") {
  addSortie("river", "done", 1500, { coverage: 1, frames: 88, cases: 1 });
  addSortie("north", "aborted", 700, { reason: "阵风 11.8 m/s 超过限值 10 m/s，已返航", coverage: 0.41, frames: 55, progress: 0.43 });
  addSortie("east", "refused", 300, { trigger: "page", operator: "li", reason: "weather: 雨量计数据已 95 秒未更新，限值 60 秒", started_at: null, ended_at: iso(Date.now() - 300 * 60e3), frames: 0, cases: 0, coverage: 0, progress: 0 });
  addSortie("north", "done", 95);
  addCase("floating_debris", 300, -170, 1490, "s-0001");
  addCase("garbage", -215, 120, 700, "s-0002");
  addCase("earthwork", 260, 250, 690, "s-0002");
  addCase("new_building", -150, 262, 93, "s-0004", { confidence: 0.996 });
  addCase("burning", 330, 80, 92, "s-0004");
  addCase("blue_roof", -285, 215, 91, "s-0004");
  addCase("blue_roof", -190, 55, 90, "s-0004", { state: "confirmed" });
}

const GATES = [
  ["clock", true, "与卫星时间相差 0.01 秒"], ["config", true, "配置有效"], ["dock", true, "机库已关闭，限位开关一致"], ["weather", true, "风 3.1 m/s，无雨，12 秒前"],
  ["vehicle_link", true, "心跳 0.4 秒前"], ["battery", true, "96%，本次预计用 38%"], ["position", true, "卫星 17 颗，HDOP 0.7"], ["perception", true, "模型 aerie-default 0.1.0 运行中"], ["disk", true, "剩余 41 GB"],
].map(([gate, passed, reason]) => ({ gate, passed, reason }));

const problems = [];
const gates = structuredClone(GATES);
const set = (gate, passed, reason) => Object.assign(gates.find((g) => g.gate === gate), { passed, reason });
if (options.scenario === "refused" || options.scenario === "degraded") {
  set("weather", false, "阵风 11.8 m/s，限值 10 m/s");
  set("position", null, "无人机尚未报告定位");
}
if (options.scenario === "degraded") {
  problems.push({ part: "uplink", message: "与上级平台的连接已断开 14 分钟，318 条消息在本地排队，没有丢失", remedy: "检查 5G 网络；恢复后自动补发" });
  problems.push({ part: "perception", message: "The recognition process ended with signal 11 and was started again (3 times in the last hour)", remedy: "run `aerie model rollback` if it goes on" });
}

let current = null;
let started = 0;
let path = null;
let cancelled = false;
let flown = [];
let takenAt = null;
const clients = new Set();
const emit = (event, data) => clients.forEach((res) => res.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));

function start(patrol, trigger, progress = 0) {
  current = addSortie(patrol, "planned", 0, { trigger, ended_at: null, frames: 0, cases: 0, coverage: 0, progress: 0, operator: trigger === "page" ? "console" : null });
  path = lawnmower(AREAS[patrol].points);
  flown = [];
  cancelled = false;
  started = Date.now() - (progress > 0 ? (9 + progress * 90) * 1000 / SPEED : 0);
  for (let f = 0; f < progress; f += 0.004) flown.push(path && along(path, f));
  if (progress > 0) current.frames = Math.floor(progress * 130);
  return current;
}

const PHASES = [["planned", 1], ["gating", 2], ["dock_opening", 4], ["arming", 2], ["airborne", 80], ["returning", 10], ["landing", 5], ["dock_closing", 4]];
function step() {
  if (!current || ["done", "refused", "aborted"].includes(current.state)) return;
  let elapsed = ((Date.now() - started) / 1000) * SPEED;
  const before = current.state;
  let state = "done";
  for (const [name, seconds] of PHASES) {
    if (elapsed < seconds) {
      state = name;
      break;
    }
    elapsed -= seconds;
  }
  if (state === "gating" && gates.some((g) => g.passed !== true)) {
    const gate = gates.find((g) => g.passed !== true);
    Object.assign(current, { state: "refused", reason: `${gate.gate}: ${gate.reason}`, ended_at: iso(), started_at: null });
    return emit("sortie", current);
  }
  current.state = state;
  if (state === "airborne" || state === "returning") {
    const seconds = ((Date.now() - started) / 1000) * SPEED - 9;
    current.progress = Math.min(1, seconds / 90);
    flown.push(along(path, current.progress));
    current.coverage = Math.min(0.99, current.progress * 1.06);
    current.frames = Math.floor(current.progress * 130);
    if (random() < 0.15) {
      takenAt = iso();
      emit("frame", { taken_at: takenAt, file: `${current.frames}.jpg` });
    }
    if (random() < 0.012 * SPEED) {
      const p = flown.at(-1);
      current.cases += 1;
      emit("case", addCase(Object.keys(KINDS)[Math.floor(random() * 7)], p.x + random() * 30 - 15, p.y + random() * 30 - 15, 0, current.id));
    }
  }
  if (cancelled && state === "airborne") {
    Object.assign(current, { state: "aborted", reason: "操作员返航", ended_at: iso() });
  }
  if (current.state === "done") current.ended_at = iso();
  if (current.state !== before) emit("sortie", current);
}

function status() {
  const p = flown.at(-1) ?? { ...DOCK, heading: 0 };
  const flying = current && ["airborne", "returning", "landing"].includes(current.state);
  const [lon, lat] = flying ? at(p.x, p.y) : at(DOCK.x, DOCK.y);
  const [dlon, dlat] = at(DOCK.x, DOCK.y);
  const down = options.scenario === "degraded";
  return {
    station: "danzao-01", name: "丹灶一号基站", version: "0.1.0", time: iso(), state: problems.length ? "degraded" : "ok", demo: true, problems,
    dock: { lat: dlat, lon: dlon, state: current?.state === "dock_opening" ? "opening" : current?.state === "dock_closing" ? "closing" : flying ? "open" : "closed" },
    vehicle: { linked: true, armed: !!flying, mode: flying ? (current.state === "airborne" ? "AUTO" : "RTL") : "LOITER", lat, lon, height_m: flying ? 80.2 : 0.1, heading_deg: p.heading, speed_m_s: flying ? 9.8 : 0, battery_pct: flying ? 96 - current.progress * 40 : 96, satellites: down ? null : 17 },
    weather: { wind_m_s: 3.1, gust_m_s: down || options.scenario === "refused" ? 11.8 : 5.2, rain_mm_h: 0, temperature_c: 24.6, age_s: 12 },
    sortie: current, uplink: { connected: !down, queued: down ? 318 : 0, delivered: 1204 },
    perception: { running: true, restarts: down ? 3 : 0, frames: current?.frames ?? 0, behind: flying ? 1 : 0, model: { name: "aerie-default", version: "0.1.0" } },
    updates: options.scenario === "empty" ? null : { kinds: [{ kind: "model", committed: "aerie-town 1.3", candidate: { release: "aerie-town 1.4", stage: "shadow", since: iso() }, refused: { release: "aerie-town 1.2", stage: "staged", reason: "golden pictures: 2 of 9 boxes were found", at: iso() } }], doing: "shadow: 41 of 200 frames", trouble: null },
    gates: options.scenario === "empty" ? [] : gates, stale_after_s: 5,
  };
}

const patrols = () =>
  options.scenario === "empty" ? [] : Object.entries(AREAS).map(([id, a]) => ({
    id, name: a.name, area: { type: "Polygon", coordinates: [[...a.points, a.points[0]].map(([x, y]) => at(x, y))] }, schedule: a.schedule, next_at: a.schedule ? iso(Date.now() + 3 * 3600e3) : null, waits: null,
    last: sorties.find((s) => s.patrol === id && s !== current) ?? null,
  }));

// --- pictures ---------------------------------------------------------------------------------------------------

function picture(n, label) {
  seed = n * 977 + 13;
  const parts = [`<rect width="1200" height="800" fill="#6f7f5f"/>`];
  for (let i = 0; i < 14; i++) parts.push(`<rect x="${random() * 1200}" y="${random() * 800}" width="${120 + random() * 240}" height="${90 + random() * 180}" fill="hsl(${80 + random() * 40} ${15 + random() * 20}% ${32 + random() * 16}%)"/>`);
  parts.push(`<rect x="0" y="${200 + random() * 300}" width="1200" height="64" fill="#8b8d8c"/><rect x="${300 + random() * 500}" y="0" width="58" height="800" fill="#8b8d8c"/>`);
  for (let i = 0; i < 9; i++) {
    const [x, y, w, h] = [random() * 1100, random() * 700, 70 + random() * 90, 60 + random() * 70];
    parts.push(`<rect x="${x + 10}" y="${y + 12}" width="${w}" height="${h}" fill="#00000055"/><rect x="${x}" y="${y}" width="${w}" height="${h}" fill="hsl(${20 + random() * 30} 25% ${55 + random() * 20}%)"/>`);
  }
  for (let i = 0; i < 30; i++) parts.push(`<circle cx="${random() * 1200}" cy="${random() * 800}" r="${10 + random() * 16}" fill="hsl(110 30% ${22 + random() * 10}%)"/>`);
  const [x, y] = [440 + random() * 160, 300 + random() * 120];
  parts.push(`<rect x="${x + 14}" y="${y + 14}" width="190" height="130" fill="#00000066"/><rect x="${x}" y="${y}" width="190" height="130" fill="#3f7fd0"/>`);
  parts.push(`<rect x="${x - 12}" y="${y - 12}" width="214" height="154" fill="none" stroke="#ffd23f" stroke-width="5"/><rect x="${x - 12}" y="${y - 46}" width="240" height="34" fill="#ffd23f"/><text x="${x - 4}" y="${y - 20}" font-family="sans-serif" font-size="24" fill="#111">${label}</text>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 800" width="1200" height="800">${parts.join("")}</svg>`;
}

// --- HTTP -------------------------------------------------------------------------------------------------------

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".txt": "text/plain; charset=utf-8" };

const server = createServer(async (req, res) => {
  const url = new URL(req.url, "http://localhost");
  res.setHeader("Content-Security-Policy", CSP);
  const json = (body, code = 200) => res.writeHead(code, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  if (!url.pathname.startsWith("/api/v1/")) {
    const file = normalize(url.pathname === "/" ? "/index.html" : url.pathname);
    try {
      const body = await readFile(join(DIST, file));
      return res.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" }).end(body);
    } catch {
      return res.writeHead(404).end("not found; run npm run build first");
    }
  }
  const route = url.pathname.slice("/api/v1/".length);
  if (req.method === "POST") {
    if (req.headers["x-aerie-console"] !== "1") return json({ error: "forbidden", reason: "missing X-Aerie-Console", remedy: null }, 403);
    if (options.token && req.headers.authorization !== `Bearer ${options.token}`) return json({ error: "unauthorised" }, 401);
    if (route === "sortie/cancel") {
      cancelled = true;
      return json({ command: "c-2", sortie: current?.id ?? null }, 202);
    }
    const id = /^patrols\/([^/]+)\/start$/.exec(route)?.[1];
    if (!id || !AREAS[id]) return json({ error: "unknown_patrol", reason: "no such patrol", remedy: null }, 404);
    const gate = gates.find((g) => g.passed === false);
    if (gate && options.scenario === "refused") return json({ error: gate.gate, reason: gate.reason, remedy: "等阵风低于 10 m/s 后再试" }, 409);
    return json({ command: "c-1", sortie: start(id, "page").id }, 202);
  }
  if (route === "status") return json(status());
  if (route === "sorties") return json(sorties);
  if (route === "patrols") return json(patrols());
  if (route === "cases") return json({ type: "FeatureCollection", features: cases });
  if (route === "map") return json(MAP);
  if (route === "track") return json({ type: "LineString", coordinates: flown.map((p) => at(p.x, p.y)) });
  if (route.startsWith("evidence/")) {
    const n = parseInt(route.slice("evidence/".length), 16);
    // One picture is missing on purpose.
    if (n === 2) return res.writeHead(404).end();
    return res.writeHead(200, { "Content-Type": "image/svg+xml" }).end(picture(n, "suspected 0.9"));
  }
  if (route === "frame/latest") {
    if (!takenAt) return res.writeHead(204).end();
    return res.writeHead(200, { "Content-Type": "image/svg+xml", "X-Aerie-Taken-At": takenAt }).end(picture((current?.frames ?? 0) + 1000, "blue_roof 0.83"));
  }
  if (route === "events") {
    res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    res.write(`event: status\ndata: ${JSON.stringify(status())}\n\n`);
    clients.add(res);
    return req.on("close", () => clients.delete(res));
  }
  return json({ error: "not_found" }, 404);
});

if (options.scenario === "flying" || options.scenario === "silent") {
  start("north", "page", 0.55);
  takenAt = iso();
}
const begun = Date.now();
setInterval(() => {
  step();
  // "silent": the stream stays open but nothing new comes, as behind a dead link.
  if (options.scenario === "silent" && Date.now() - begun > 6000) return;
  emit("status", status());
}, 500);
server.listen(Number(options.port), "127.0.0.1", () => console.log(`http://127.0.0.1:${options.port}/  scenario ${options.scenario}`));
