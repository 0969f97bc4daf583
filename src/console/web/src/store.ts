// What the page knows. One mutable model; whoever changes it says so, and views repaint once a frame.

import type { StreamState } from "./api";
import type { BaseMap, Case, Outcome, Patrol, Sortie, Status } from "./types";
import type { LineString } from "geojson";
import { ENDED } from "./types";

/** What came of the last command for a patrol, said beside its button. */
export type Note = { kind: "sending" } | Outcome;

export interface Model {
  status: Status | null;
  /** When the last status came, on both clocks: either may stop while a laptop sleeps, or be set. */
  heardMono: number;
  heardWall: number;
  /** The station's time when the drone was last linked: its position is from then. */
  linkedAt: string | null;
  stream: StreamState;
  sorties: ReadonlyMap<string, Sortie>;
  patrols: readonly Patrol[] | null;
  cases: ReadonlyMap<string, Case>;
  track: LineString | null;
  base: BaseMap | null;
  frame: { url: string; takenAt: string | null } | null;
  notes: ReadonlyMap<string, Note>;
  /** The outcome of the last Return / Cancel, and the sortie it was for. */
  cancelNote: { sortie: string; note: Note } | null;
  selected: string | null;
  hiddenKinds: ReadonlySet<string>;
  follow: boolean;
  /** What has been read at least once: "none" may only be said of these. */
  loaded: ReadonlySet<string>;
  loadErrors: ReadonlyMap<string, string>;
  tab: "ops" | "cases";
}

export const model: Model = {
  status: null,
  heardMono: 0,
  heardWall: 0,
  linkedAt: null,
  stream: { kind: "connecting" },
  sorties: new Map(),
  patrols: null,
  cases: new Map(),
  track: null,
  base: null,
  frame: null,
  notes: new Map(),
  cancelNote: null,
  selected: null,
  hiddenKinds: new Set(),
  follow: false,
  loaded: new Set(),
  loadErrors: new Map(),
  tab: "ops",
};

type Listener = () => void;
let listener: Listener = () => {};
let queued = false;

export function onChange(render: Listener): void {
  listener = render;
}

export function change(patch: Partial<Model>): void {
  Object.assign(model, patch);
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    listener();
  });
}

/** A copy of a map with one entry set, so that views can tell by identity what changed. */
export function withEntry<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  return new Map(map).set(key, value);
}

const DEFAULT_STALE_S = 5;

/** Seconds since the station was last heard, and whether that is too long to call anything on the page live. */
export function freshness(): { age: number | null; stale: boolean } {
  if (!model.status) return { age: null, stale: true };
  const age = Math.max(performance.now() - model.heardMono, Date.now() - model.heardWall, 0) / 1000;
  const limit = model.status.stale_after_s > 0 ? model.status.stale_after_s : DEFAULT_STALE_S;
  return { age, stale: age > limit };
}

/** Now by the station's clock: ages of what it reported must not depend on this computer's clock being right. */
export function stationNow(): Date {
  if (!model.status) return new Date();
  const at = Date.parse(model.status.time);
  return Number.isNaN(at) ? new Date() : new Date(at + performance.now() - model.heardMono);
}

/** The sortie under way, if any. */
export function activeSortie(): Sortie | null {
  const sortie = model.status?.sortie ?? null;
  return sortie && !ENDED.has(sortie.state) ? sortie : null;
}

export function sortiesNewestFirst(): Sortie[] {
  const at = (s: Sortie) => s.started_at ?? s.planned_at ?? "";
  return [...model.sorties.values()].sort((a, b) => at(b).localeCompare(at(a)));
}

export function casesNewestFirst(): Case[] {
  return [...model.cases.values()].sort((a, b) => Date.parse(b.properties.last_seen) - Date.parse(a.properties.last_seen));
}
