// The shapes of the station's HTTP API. The station is the authority; these only name what the page reads.

import type { Feature, FeatureCollection, Geometry, LineString, Point } from "geojson";

export type SortieState =
  | "planned" | "gating" | "dock_opening" | "arming" | "airborne" | "paused" | "adopted" | "returning" | "landing" | "dock_closing"
  | "done" | "refused" | "missed" | "aborted" | "landed_away" | "lost";

export interface Sortie {
  id: string;
  patrol: string;
  patrol_name: string;
  trigger: string;
  state: SortieState;
  reason: string | null;
  planned_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  frames: number;
  cases: number;
  coverage: number;
  progress: number;
  route: LineString | null;
  operator: string | null;
}

export interface Problem {
  part: string;
  message: string;
  remedy: string | null;
}

export interface Gate {
  gate: string;
  /** null: not known, which is never a pass. */
  passed: boolean | null;
  reason: string | null;
}

export interface Vehicle {
  linked: boolean;
  armed: boolean;
  mode: string | null;
  lat: number | null;
  lon: number | null;
  height_m: number | null;
  heading_deg: number | null;
  speed_m_s: number | null;
  battery_pct: number | null;
  satellites: number | null;
}

export interface Weather {
  wind_m_s: number | null;
  gust_m_s: number | null;
  rain_mm_h: number | null;
  temperature_c: number | null;
  age_s: number | null;
}

export interface Dock {
  lat: number;
  lon: number;
  state: "closed" | "opening" | "open" | "closing" | "unknown";
}

export interface UpdateOf {
  kind: "model" | "rules" | "register";
  committed: string | null;
  candidate: { release: string; stage: string; since: string } | null;
  refused: { release: string; stage: string | null; reason: string; at: string } | null;
}

export interface Updates {
  kinds: UpdateOf[];
  doing: string | null;
  trouble: string | null;
  /** What the repository assigns to this station; what is amiss with its server. */
  last_look: string | null;
  warning: string | null;
}

export interface Status {
  station: string;
  name: string;
  version: string;
  time: string;
  timezone?: string;
  state: "ok" | "degraded";
  demo: boolean;
  problems: Problem[];
  dock: Dock | null;
  vehicle: Vehicle | null;
  weather: Weather | null;
  sortie: Sortie | null;
  uplink: { connected: boolean; queued: number; delivered: number; unheard: number } | null;
  perception: {
    running: boolean;
    restarts: number;
    frames: number;
    behind: number;
    model: { name: string; version: string } | null;
  } | null;
  updates: Updates | null;
  gates: Gate[];
  stale_after_s: number;
}

export interface Patrol {
  id: string;
  name: string;
  area: Geometry | null;
  schedule: string | null;
  next_at: string | null;
  /** It is due and cannot start yet. */
  waits: { until: string; why: string } | null;
  last: Sortie | null;
}

export interface LatLon {
  lat: number;
  lon: number;
}

export interface CaseProperties {
  id: string;
  kind: string;
  kind_zh: string;
  state: string;
  confidence: number;
  experimental: boolean;
  first_seen: string;
  last_seen: string;
  count: number;
  sortie: string | null;
  evidence: string[];
  uncertainty: { semi_major_m: number; semi_minor_m: number; bearing_deg: number } | null;
  position: { wgs84?: LatLon; cgcs2000?: LatLon; gcj02?: LatLon } | null;
  code: string | null;
  code_system: string | null;
  delivered: boolean;
}

export type Case = Feature<Point, CaseProperties>;
export type Cases = FeatureCollection<Point, CaseProperties>;
export type BaseMap = FeatureCollection<Geometry, { kind?: string }>;

/** What a POST answered, whatever it was. */
export type Outcome =
  | { kind: "accepted"; sortie: string | null }
  | { kind: "refused"; error: string; reason: string | null; remedy: string | null }
  | { kind: "unauthorised" }
  | { kind: "unreachable"; reason: string };

export const ENDED: ReadonlySet<SortieState> = new Set(["done", "refused", "missed", "aborted", "landed_away", "lost"]);
