// The left panel: what needs attention, the sortie under way, patrols to start, and how the equipment is.

import { cancelSortie, isFlying, pauseOrResume, startPatrol } from "../actions";
import { attr, h, icon, ICONS, Keyed, show, text } from "../dom";
import { clock, dockWord, gateWord, modeWord, moment, num, pct, reasonWords, scheduleWords, span, stageWord, stateWord, stepWord, t, triggerWord, updatedWord } from "../i18n";
import { activeSortie, freshness, model, sortiesNewestFirst, stationNow } from "../store";
import type { Note } from "../store";
import { ENDED } from "../types";
import type { Gate, Patrol, Problem, Sortie, SortieState, UpdateOf } from "../types";

const RECENT = 8;

export function operations() {
  const parts = [problems(), sortieCard(), patrolList(), gates(), vitals(), updates(), recent()];
  const element = h("div", { class: "panel-body" }, ...parts.map((part) => part.element));
  return { element, update: () => parts.forEach((part) => part.update()) };
}

function section(title: string, ...children: (Node | null)[]) {
  const aside = h("span", { class: "section-aside" });
  const id = `s-${Math.random().toString(36).slice(2)}`;
  const element = h("section", { class: "card", "aria-labelledby": id }, h("div", { class: "section-head" }, h("h2", { id }, title), aside), ...children);
  return { element, aside };
}

function problems() {
  const list = h("ul", { class: "problems" });
  const { element } = section(t("problems"), list);
  element.classList.add("attention");
  const rows = new Keyed<Problem>(list, (p) => `${p.part}\n${p.message}`, () => {
    const part = h("span", { class: "problem-part" });
    const message = h("span", { class: "problem-message" });
    const remedy = h("span", { class: "problem-remedy" });
    const row = h("li", null, part, message, remedy);
    return {
      element: row,
      update(p) {
        text(part, p.part);
        text(message, p.message);
        text(remedy, p.remedy ? `${t("remedy")}: ${p.remedy}` : "");
        show(remedy, !!p.remedy);
      },
    };
  });
  function update(): void {
    const loads = [...model.loadErrors].map(([what, why]) => ({ part: "web", message: t("load_failed", what, why), remedy: null }));
    const all = [...(model.status?.problems ?? []), ...loads];
    rows.update(all);
    show(element, all.length > 0);
  }
  return { element, update };
}

const STEPS: SortieState[] = ["planned", "gating", "dock_opening", "arming", "airborne", "returning", "landing", "dock_closing", "done"];

function sortieCard() {
  const { element, aside } = section(t("sortie"));
  const heading = element.querySelector("h2")!;
  const idle = h("p", { class: "muted idle" }, t("no_sortie"));
  const name = h("p", { class: "sortie-name" });
  const state = h("span", { class: "sortie-state" });
  const steps = h("ol", { class: "steps" });
  const marks = STEPS.map((step) => {
    const mark = h("li", null, h("span", { class: "dot" }), h("span", { class: "step-name" }, stepWord(step)));
    steps.append(mark);
    return mark;
  });
  const bar = h("div", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": t("progress") }, h("i"));
  const fill = bar.firstElementChild as HTMLElement;
  const facts = h("dl", { class: "facts" });
  const fact = (label: string) => {
    const value = h("dd");
    facts.append(h("div", null, h("dt", null, label), value));
    return value;
  };
  const coverage = fact(t("coverage"));
  const frames = fact(t("frames"));
  const cases = fact(t("cases"));
  const elapsed = fact(t("elapsed"));
  const reason = h("p", { class: "reason" });
  const button = h("button", { class: "button warn wide", onclick: () => void cancelSortie() });
  const hold = h("button", { class: "button wide", onclick: () => void pauseOrResume() });
  const note = h("p", { class: "note", role: "status" });
  const body = h("div", { class: "sortie" }, h("div", { class: "sortie-head" }, name, state), steps, bar, facts, reason, hold, button, note);
  element.append(idle, body);

  function update(): void {
    const active = activeSortie();
    const sortie = active ?? model.status?.sortie ?? null;
    element.classList.toggle("active", active !== null);
    show(idle, sortie === null);
    text(idle, model.status ? t("no_sortie") : t("connecting"));
    show(body, sortie !== null);
    text(heading, active || !sortie ? t("sortie") : t("last_sortie"));
    text(aside, sortie ? triggerWord(sortie.trigger) + (sortie.operator ? ` · ${sortie.operator}` : "") : "");
    if (!sortie) return;
    text(name, sortie.patrol_name || sortie.patrol);
    text(state, stateWord(sortie.state));
    attr(state, "data-state", sortie.state);
    const at = STEPS.indexOf(sortie.state === "paused" || sortie.state === "adopted" ? "airborne" : sortie.state);
    // A sortie that ended early has no place on the line; its reason says where it stopped.
    show(steps, at >= 0);
    marks.forEach((mark, i) => {
      attr(mark, "data-step", i < at || sortie.state === "done" ? "past" : i === at ? "now" : "next");
      attr(mark, "aria-current", i === at ? "step" : null);
    });
    const done = Math.min(1, Math.max(0, sortie.progress || 0));
    fill.style.width = `${done * 100}%`;
    attr(bar, "aria-valuenow", Math.round(done * 100));
    show(bar, sortie.state !== "refused");
    show(facts, sortie.state !== "refused");
    text(coverage, pct(sortie.coverage));
    text(frames, String(sortie.frames));
    text(cases, String(sortie.cases));
    const from = sortie.started_at ? Date.parse(sortie.started_at) : NaN;
    const to = sortie.ended_at ? Date.parse(sortie.ended_at) : stationNow().getTime();
    text(elapsed, Number.isNaN(from) || (active && freshness().stale) ? "–" : span((to - from) / 1000));
    text(reason, reasonWords(sortie.reason));
    show(reason, !!sortie.reason);
    attr(reason, "data-tone", ENDED.has(sortie.state) && sortie.state !== "done" ? "bad" : "plain");

    const own = model.cancelNote?.sortie === sortie.id ? model.cancelNote.note : null;
    const homeward = sortie.state === "returning" || sortie.state === "landing" || sortie.state === "dock_closing";
    show(button, active !== null);
    show(hold, active !== null && (sortie.state === "airborne" || sortie.state === "paused"));
    text(hold, t(sortie.state === "paused" ? "resume" : "pause"));
    hold.disabled = own?.kind === "sending";
    text(button, homeward ? t("return_ing") : isFlying(sortie) ? t("return") : t("cancel"));
    // Enabled even when the page is stale: calling the drone back is always worth trying.
    button.disabled = homeward || own?.kind === "sending";
    paintNote(note, own, t("return_accepted"));
    // What was promised is happening or over; the state says it now.
    if ((homeward || active === null) && own?.kind === "accepted") show(note, false);
  }
  return { element, update };
}

function paintNote(element: HTMLElement, note: Note | null, accepted: string): void {
  show(element, note !== null);
  if (!note) return;
  let tone = "plain";
  let words = "";
  switch (note.kind) {
    case "sending":
      words = t("starting");
      break;
    case "accepted":
      tone = "good";
      words = accepted;
      break;
    case "refused": {
      tone = "bad";
      const why = [gateWord(note.error), reasonWords(note.reason)].filter((part): part is string => !!part && part !== "refused");
      words = `${t("refused")}: ${[...new Set(why)].join(" – ")}`;
      if (note.remedy) words += `\n${t("remedy")}: ${note.remedy}`;
      break;
    }
    case "unauthorised":
      tone = "bad";
      words = t("unauthorised");
      break;
    case "unreachable":
      tone = "bad";
      words = t("unreachable", note.reason);
      break;
  }
  text(element, words);
  attr(element, "data-tone", tone);
}

function patrolList() {
  const list = h("div", { class: "patrols" });
  const empty = h("p", { class: "muted" }, t("no_patrols"));
  const { element } = section(t("patrols"), list, empty);
  const rows = new Keyed<Patrol>(list, (p) => p.id, (first) => {
    let patrol = first;
    const name = h("h3");
    const when = h("p", { class: "muted patrol-when" });
    const last = h("p", { class: "muted patrol-last" });
    const why = h("span", { class: "why" });
    const button = h("button", { class: "button go", onclick: () => void startPatrol(patrol) }, icon(ICONS.play, 14), h("span", null, t("start")));
    const note = h("p", { class: "note", role: "status" });
    const row = h("article", { class: "patrol" }, name, h("div", { class: "patrol-text" }, when, last), h("div", { class: "patrol-do" }, button, why), note);
    return {
      element: row,
      update(p) {
        patrol = p;
        const now = stationNow();
        text(name, p.name);
        const schedule = p.schedule ? `${t("schedule")} ${scheduleWords(p.schedule)}` : t("on_demand");
        const next = p.waits ? t("waits", moment(p.waits.until, now), reasonWords(p.waits.why) ?? "") : p.next_at ? `${t("next")} ${moment(p.next_at, now)}` : "";
        text(when, next ? `${schedule}\n${next}` : schedule);
        text(last, `${t("last")} ${p.last ? lastWords(p.last, now) : t("never")}`);
        attr(button, "aria-label", `${t("start")}: ${p.name}`);
        const stale = freshness().stale;
        const busy = activeSortie() !== null;
        const own = model.notes.get(p.id) ?? null;
        button.disabled = stale || busy || own?.kind === "sending";
        text(why, own?.kind === "sending" ? "" : stale ? t("stale_note") : busy ? t("busy_note") : "");
        const sortie = own?.kind === "accepted" && own.sortie ? model.sorties.get(own.sortie) : undefined;
        if (sortie) paintSortieNote(note, sortie);
        else paintNote(note, own, t("accepted"));
      },
    };
  });
  function update(): void {
    rows.update(model.patrols ?? []);
    show(empty, model.patrols !== null && model.patrols.length === 0);
  }
  return { element, update };
}

function lastWords(sortie: Sortie, now: Date): string {
  const when = moment(sortie.ended_at ?? sortie.started_at ?? sortie.planned_at, now);
  const words = `${when} ${stateWord(sortie.state)}`;
  return sortie.state === "done" ? `${words} ${pct(sortie.coverage)}` : words;
}

/** What became of the sortie that this page asked for. */
function paintSortieNote(note: HTMLElement, sortie: Sortie): void {
  show(note, true);
  const bad = ["refused", "missed", "aborted", "landed_away", "lost"].includes(sortie.state);
  let words = stateWord(sortie.state);
  if (sortie.state === "done") words += `: ${t("coverage")} ${pct(sortie.coverage)}, ${t("frames")} ${sortie.frames}, ${t("cases")} ${sortie.cases}`;
  else if (sortie.reason) words += `: ${reasonWords(sortie.reason)}`;
  text(note, words);
  attr(note, "data-tone", bad ? "bad" : sortie.state === "done" ? "good" : "plain");
}

/** What they ask for holds on the ground alone; in the air their being shut means nothing. */
const GROUND_GATES = new Set(["on_ground", "dock", "preflight"]);
const beside = (g: Gate) => GROUND_GATES.has(g.gate) && FLYING.has(model.status?.sortie?.state ?? "");
const FLYING = new Set(["arming", "airborne", "paused", "adopted", "returning", "landing"]);

function gates() {
  const body = h("tbody");
  const empty = h("p", { class: "muted" }, t("gates_none"));
  const table = h(
    "table",
    { class: "gates" },
    h("thead", { class: "offscreen" }, h("tr", null, h("th", { scope: "col" }, t("gate")), h("th", { scope: "col" }, t("verdict")), h("th", { scope: "col" }, t("why")))),
    body,
  );
  const { element, aside } = section(t("gates"), table, empty);
  const rows = new Keyed<Gate>(body, (g) => g.gate, () => {
    const name = h("span", { class: "gate-name" });
    const reason = h("span", { class: "gate-reason" });
    const verdict = h("span", { class: "verdict" });
    const row = h("tr", null, h("th", { scope: "row" }, name), h("td", { class: "gate-verdict" }, verdict), h("td", { class: "gate-why" }, reason));
    return {
      element: row,
      update(g) {
        // What passed a minute ago is not known to pass now.
        const passed = freshness().stale || beside(g) ? null : g.passed;
        text(name, gateWord(g.gate));
        text(reason, freshness().stale ? t("stale") : reasonWords(g.reason) || (passed === null ? t("unknown_gate") : ""));
        text(verdict, beside(g) ? t("not_in_flight") : passed === null ? t("unknown") : passed ? t("pass") : t("fail"));
        attr(verdict, "data-passed", String(passed));
      },
    };
  });
  function update(): void {
    const all = model.status?.gates ?? [];
    // Those that hold a flight back come first.
    const rank = (g: Gate) => (beside(g) ? 3 : g.passed === false ? 0 : g.passed === null ? 1 : 2);
    rows.update([...all].sort((a, b) => rank(a) - rank(b)));
    show(table, all.length > 0);
    show(empty, all.length === 0 && model.status !== null);
    text(aside, all.length > 0 && !freshness().stale ? t("gates_sum", all.filter((g) => g.passed === true && !beside(g)).length, all.filter((g) => !beside(g)).length) : "");
  }
  return { element, update };
}

function vitals() {
  const grid = h("div", { class: "tiles" });
  const { element } = section(t("vitals"), grid);
  element.classList.add("live");
  const tile = (label: string) => {
    const value = h("span", { class: "tile-value" });
    const detail = h("span", { class: "tile-detail" });
    const box = h("div", { class: "tile" }, h("span", { class: "tile-label" }, label), value, detail);
    grid.append(box);
    return (words: string, more: string, tone: "plain" | "good" | "bad" | "unknown") => {
      text(value, words);
      text(detail, more);
      attr(box, "data-tone", tone);
    };
  };
  const drone = tile(t("drone"));
  const battery = tile(t("battery"));
  const height = tile(t("height"));
  const wind = tile(t("wind"));
  const rain = tile(t("rain"));
  const dock = tile(t("dock"));
  const uplink = tile(t("uplink"));
  const perception = tile(t("perception"));
  const modelTile = tile(t("model"));

  function update(): void {
    const status = model.status;
    const v = status?.vehicle ?? null;
    const w = status?.weather ?? null;
    const u = status?.uplink ?? null;
    const p = status?.perception ?? null;
    drone(v ? t(v.linked ? "linked" : "link_lost") : status ? t("no_vehicle") : "–", v ? [v.mode && modeWord(v.mode), t(v.armed ? "armed" : "disarmed")].filter(Boolean).join(" · ") : "", v?.linked ? "good" : status ? "bad" : "unknown");
    const level = v?.battery_pct ?? null;
    battery(level === null ? "–" : `${num(level)}%`, v ? t("satellites", num(v.satellites)) : "", level === null ? "unknown" : level < 30 ? "bad" : "plain");
    height(v?.height_m == null ? "–" : `${num(v.height_m)} m`, v ? t("speed", num(v.speed_m_s, 1)) : "", v?.height_m == null ? "unknown" : "plain");
    wind(w?.wind_m_s == null ? "–" : `${num(w.wind_m_s, 1)} m/s`, w ? t("gust", num(w.gust_m_s, 1)) : t("unknown"), w?.wind_m_s == null ? "unknown" : "plain");
    const heard = w?.age_s == null ? "" : ` · ${t("weather_age", span(w.age_s))}`;
    rain(w?.rain_mm_h == null ? "–" : `${num(w.rain_mm_h, 1)} mm/h`, w ? `${t("temperature", num(w.temperature_c))}${heard}` : t("unknown"), w?.rain_mm_h == null ? "unknown" : "plain");
    const d = status?.dock?.state ?? "unknown";
    dock(dockWord(d), "", d === "unknown" ? "unknown" : "plain");
    uplink(u ? t(u.connected ? "up" : "down") : "–", u ? [t("queue", u.queued, u.delivered), u.unheard > 0 && t("unheard", u.unheard)].filter(Boolean).join(" · ") : "", u ? (u.connected ? "good" : "bad") : "unknown");
    const again = p && p.restarts > 0 ? ` · ${t("restarts", p.restarts)}` : "";
    perception(p ? t(p.running ? "running" : "stopped") : "–", p ? `${t("perception_detail", p.frames, p.behind)}${again}` : "", p ? (p.running ? "good" : "bad") : "unknown");
    modelTile(p?.model?.name ?? "–", p?.model?.version ?? "", p?.model ? "plain" : "unknown");
  }
  return { element, update };
}

function updates() {
  const list = h("ul", { class: "updates" });
  const doing = h("p", { class: "muted" });
  const { element } = section(t("updates"), list, doing);
  const rows = new Keyed<UpdateOf>(list, (u) => u.kind, () => {
    const kind = h("span", { class: "recent-name" });
    const detail = h("span", { class: "recent-detail" });
    const row = h("li", null, kind, detail);
    return {
      element: row,
      update(u) {
        text(kind, updatedWord(u.kind));
        const used = u.committed ? t("update_committed", u.committed) : t("update_own");
        const next = u.candidate ? t("update_candidate", u.candidate.release, stageWord(u.candidate.stage)) : "";
        const refused = u.refused ? t("update_refused", u.refused.release, u.refused.reason) : "";
        text(detail, [used, next, refused].filter(Boolean).join(" · "));
      },
    };
  });
  function update(): void {
    const known = model.status?.updates ?? null;
    rows.update(known?.kinds ?? []);
    // What is being done or went wrong is newer than what the last look found.
    const now = [known?.doing, known?.trouble].filter(Boolean);
    text(doing, [...(now.length > 0 ? now : [known?.last_look]), known?.warning].filter(Boolean).join(" · "));
    show(element, !!known && (known.kinds.length > 0 || !!known.trouble || !!known.warning));
  }
  return { element, update };
}

function recent() {
  const list = h("ol", { class: "recent" });
  const empty = h("p", { class: "muted" }, t("none_yet"));
  const { element } = section(t("recent"), list, empty);
  const rows = new Keyed<Sortie>(list, (s) => s.id, () => {
    const when = h("span", { class: "recent-when" });
    const name = h("span", { class: "recent-name" });
    const state = h("span", { class: "sortie-state" });
    const detail = h("span", { class: "recent-detail" });
    const row = h("li", null, when, name, state, detail);
    return {
      element: row,
      update(s) {
        text(when, moment(s.started_at ?? s.planned_at, stationNow()));
        attr(when, "title", clock(s.started_at ?? s.planned_at));
        text(name, s.patrol_name || s.patrol);
        text(state, stateWord(s.state));
        attr(state, "data-state", s.state);
        const flew = s.state !== "refused" && s.state !== "planned" && s.state !== "gating";
        const sums = flew ? `${t("coverage")} ${pct(s.coverage)} · ${t("frames")} ${s.frames} · ${t("cases")} ${s.cases}` : "";
        text(detail, [reasonWords(s.reason), sums, triggerWord(s.trigger)].filter(Boolean).join(" · "));
      },
    };
  });
  function update(): void {
    const all = sortiesNewestFirst().slice(0, RECENT);
    rows.update(all);
    show(empty, all.length === 0 && model.loaded.has("sorties"));
  }
  return { element, update };
}
