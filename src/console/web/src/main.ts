// Wires the page: the event stream into the model, the model onto the map and the panels.

import "./style.css";
import { isFlying } from "./actions";
import { HttpError, newestFrame, read, setToken, Stream, token } from "./api";
import { askToken } from "./dialogs";
import { attr, h } from "./dom";
import { lang, t } from "./i18n";
import { MapView } from "./map";
import { change, freshness, model, onChange, withEntry } from "./store";
import { ENDED } from "./types";
import type { BaseMap, Case, Cases, Patrol, Sortie, Status } from "./types";
import type { LineString } from "geojson";
import { cases } from "./views/cases";
import { frame } from "./views/frame";
import { operations } from "./views/operations";
import { topbar } from "./views/topbar";

/** Between these, the track is carried on from the live position. */
const TRACK_EVERY_MS = 15_000;
const FRAME_EVERY_MS = 700;

const app = document.getElementById("app")!;
const map = new MapView(insets);
let views: { update: () => void }[] = [];
let left: HTMLElement;
let right: HTMLElement;

/** How much of the map lies under the panels, so that what it centres on is seen. */
function insets(): { left: number; right: number } {
  const floating = matchMedia("(min-width: 861px)").matches;
  return floating && left && right ? { left: left.offsetWidth + 12, right: right.offsetWidth + 12 } : { left: 0, right: 0 };
}

/** Builds all that carries words; called again when the language changes. The map stays as it is. */
function build(): void {
  document.documentElement.lang = lang() === "zh" ? "zh-CN" : "en";
  const top = topbar(
    () => {
      build();
      map.relabel();
      render();
    },
    () => stream.retryNow(),
  );
  const ops = operations();
  const newest = frame();
  const list = cases();
  left = h("aside", { class: "panel left", id: "controls", tabindex: "-1", "aria-label": t("ops_tab") }, ops.element);
  right = h("aside", { class: "panel right", "aria-label": t("cases_tab") }, newest.element, list.element);
  const tab = (which: "ops" | "cases", label: string) => h("button", { class: "tab", "data-tab": which, onclick: () => change({ tab: which }) }, label);
  const tabs = h("nav", { class: "tabs", "aria-label": `${t("ops_tab")} / ${t("cases_tab")}` }, tab("ops", t("ops_tab")), tab("cases", t("cases_tab")));
  const skip = h("a", { class: "skip", href: "#controls" }, t("skip_map"));
  app.replaceChildren(skip, top.element, map.element, tabs, left, right);
  const tabView = {
    update(): void {
      attr(app, "data-tab", model.tab);
      attr(app, "data-detail", model.selected !== null && model.cases.has(model.selected));
      for (const button of tabs.querySelectorAll("button")) attr(button, "aria-pressed", button.dataset["tab"] === model.tab ? "true" : "false");
    },
  };
  views = [top, ops, newest, list, tabView, { update: () => map.update() }];
}

let flownTo: string | null = null;

function render(): void {
  for (const view of views) view.update();
  if (model.selected !== flownTo) {
    flownTo = model.selected;
    const chosen = model.selected ? model.cases.get(model.selected) : undefined;
    if (chosen) map.flyTo(chosen);
  }
}

/** Reads one resource into the model; a failure is shown, and gone again when it works. */
async function load<T>(path: string, put: (value: T) => void): Promise<void> {
  let failure: string | null = null;
  try {
    put(await read<T>(path));
    if (!model.loaded.has(path)) change({ loaded: new Set([...model.loaded, path]) });
  } catch (error) {
    // While nothing is heard at all the banner says so; one line for each resource would only repeat it.
    if (!(error instanceof HttpError)) return;
    failure = error.message;
  }
  if (failure === (model.loadErrors.get(path) ?? null)) return;
  const errors = new Map(model.loadErrors);
  if (failure === null) errors.delete(path);
  else errors.set(path, failure);
  change({ loadErrors: errors });
}

function takeStatus(status: Status): void {
  const before = model.status;
  // A repeated timestamp is an old message told again, not news.
  const news = status.time !== before?.time;
  change({ status, ...(news ? { heardMono: performance.now(), heardWall: Date.now() } : {}) });
  if (news && status.vehicle?.linked) change({ linkedAt: status.time });
  if (status.sortie) takeSortie(status.sortie);
  if (before && before.sortie?.id !== status.sortie?.id) {
    change({ track: null });
    void loadTrack();
  } else if (news) carryTrackOn(status);
}

function carryTrackOn(status: Status): void {
  const vehicle = status.vehicle;
  const flying = status.sortie !== null && isFlying(status.sortie);
  if (!model.track || !flying || !vehicle?.linked || vehicle.lon === null || vehicle.lat === null) return;
  change({ track: { type: "LineString", coordinates: [...model.track.coordinates, [vehicle.lon, vehicle.lat]] } });
}

function takeSortie(sortie: Sortie): void {
  const before = model.sorties.get(sortie.id);
  change({ sorties: withEntry(model.sorties, sortie.id, sortie) });
  // A sortie that just began or ended changes its patrol's "last" and "next".
  if (before?.state !== sortie.state && (ENDED.has(sortie.state) || !before)) void loadPatrols();
}

const loadPatrols = () => load<Patrol[]>("patrols", (patrols) => change({ patrols }));
const loadTrack = () => load<LineString | null>("track", (track) => change({ track }));

/** Cases that came as events while the list was being read; they are newer than the list. */
let arrived: Case[] = [];

function takeCases(found: Cases): void {
  change({ cases: new Map([...found.features, ...arrived].map((item) => [item.properties.id, item])) });
}

async function loadAll(): Promise<void> {
  arrived = [];
  await Promise.all([
    load<Status>("status", takeStatus),
    load<Sortie[]>("sorties", (list) => change({ sorties: new Map(list.map((sortie) => [sortie.id, sortie])) })),
    loadPatrols(),
    loadTrack(),
    load<Cases>("cases", takeCases),
    load<BaseMap>("map", (base) => change({ base })),
    loadFrame(),
  ]);
  arrived = [];
}

let frameBusy = false;
let frameAgain = false;

/** One request at a time; what comes meanwhile is one more request after it, so a slow line only skips frames. */
async function loadFrame(): Promise<void> {
  if (frameBusy) {
    frameAgain = true;
    return;
  }
  frameBusy = true;
  try {
    const newest = await newestFrame();
    if (!newest) change({ frame: null, loaded: new Set([...model.loaded, "frame"]) });
    else {
      const old = model.frame?.url;
      change({ frame: { url: URL.createObjectURL(newest.picture), takenAt: newest.takenAt } });
      // An enlarged picture may still show the old one; it is decoded by now and no longer needs its URL.
      if (old) window.setTimeout(() => URL.revokeObjectURL(old), 1000);
    }
  } catch {
    // The next frame event tries again, and the time beside the picture says how old it is.
  }
  window.setTimeout(() => {
    frameBusy = false;
    if (frameAgain) {
      frameAgain = false;
      void loadFrame();
    }
  }, FRAME_EVERY_MS);
}

let asked = false;

const stream = new Stream(
  (event, data) => {
    switch (event) {
      case "status":
        return takeStatus(data as Status);
      case "sortie":
        return takeSortie(data as Sortie);
      case "case": {
        const item = data as Case;
        arrived.push(item);
        return change({ cases: withEntry(model.cases, item.properties.id, item) });
      }
      case "frame":
        return void loadFrame();
    }
  },
  (state) => {
    change({ stream: state });
    // Whatever was missed while disconnected is read anew.
    if (state.kind === "open") void loadAll();
    if (state.kind === "waiting" && state.status === 401 && !asked && !token()) {
      asked = true;
      void askToken().then((given) => {
        setToken(given);
        stream.retryNow();
      });
    }
  },
);

build();
onChange(render);
render();
map.resize();
stream.start();

// Ages count on, and data grows stale, without any event.
window.setInterval(() => change({}), 1000);
window.setInterval(() => {
  const state = model.status?.sortie?.state;
  if (state && !ENDED.has(state) && !freshness().stale) void loadTrack();
}, TRACK_EVERY_MS);
window.addEventListener("resize", () => map.resize());
// Coming back from sleep, a phone should not sit out a long backoff.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") stream.retryNow();
});
window.addEventListener("online", () => stream.retryNow());
