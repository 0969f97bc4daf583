// The map. No tiles, no glyphs, no sprites: everything drawn comes from the station, and names are HTML markers.

import maplibregl from "maplibre-gl";
import "maplibre-gl/dist/maplibre-gl.css";
import type { FeatureCollection, Geometry } from "geojson";
import type { GeoJSONSource, StyleSpecification } from "maplibre-gl";
import { attr, h, icon, ICONS, show, text } from "./dom";
import { Bounds, ellipse, topMiddle } from "./geo";
import { clock, dockWord, t } from "./i18n";
import { colour } from "./kinds";
import { activeSortie, change, freshness, model } from "./store";
import type { Case, Patrol } from "./types";

const EMPTY: FeatureCollection = { type: "FeatureCollection", features: [] };
const SOURCES = ["base", "areas", "route", "track", "ellipses", "cases"] as const;
/** How long the long semi-axis is drawn, in pixels, when a case is flown to. */
const ELLIPSE_PX = 44;
type SourceName = (typeof SOURCES)[number];

const STYLE: StyleSpecification = {
  version: 8,
  sources: Object.fromEntries(SOURCES.map((name) => [name, { type: "geojson", data: EMPTY, tolerance: 0.1 }])),
  layers: [
    { id: "ground", type: "background", paint: { "background-color": "#121b24" } },
    {
      id: "base-fill",
      type: "fill",
      source: "base",
      filter: ["==", ["geometry-type"], "Polygon"],
      layout: { "fill-sort-key": ["match", ["get", "kind"], "field", 1, "water", 2, "tree", 3, "road", 4, "building", 5, 0] },
      paint: {
        "fill-color": ["match", ["get", "kind"], "water", "#16384c", "field", "#1a2a24", "tree", "#1f3a2b", "road", "#36434f", "building", "#334554", "#1b2731"],
      },
    },
    {
      id: "base-outline",
      type: "line",
      source: "base",
      minzoom: 14.5,
      filter: ["all", ["==", ["geometry-type"], "Polygon"], ["in", ["get", "kind"], ["literal", ["building", "field", "water"]]]],
      paint: { "line-color": ["match", ["get", "kind"], "building", "#4b6172", "water", "#22506a", "#22352d"], "line-width": 1 },
    },
    {
      id: "base-line",
      type: "line",
      source: "base",
      filter: ["==", ["geometry-type"], "LineString"],
      layout: { "line-cap": "round", "line-join": "round" },
      paint: {
        "line-color": ["match", ["get", "kind"], "water", "#16384c", "road", "#3d4b58", "#2b3844"],
        "line-width": ["interpolate", ["exponential", 2], ["zoom"], 13, 1.2, 16, 5, 19, 36],
      },
    },
    {
      id: "base-point",
      type: "circle",
      source: "base",
      minzoom: 14.5,
      filter: ["==", ["geometry-type"], "Point"],
      paint: { "circle-color": "#29503a", "circle-radius": ["interpolate", ["exponential", 2], ["zoom"], 15, 1.2, 19, 10] },
    },
    { id: "area-fill", type: "fill", source: "areas", paint: { "fill-color": "#8ab4ff", "fill-opacity": 0.06 } },
    { id: "area-line", type: "line", source: "areas", paint: { "line-color": "#8ab4ff", "line-width": 1.6, "line-opacity": 0.75, "line-dasharray": [4, 3] } },
    {
      id: "route",
      type: "line",
      source: "route",
      layout: { "line-join": "round", "line-cap": "butt" },
      paint: { "line-color": "#d8e3ec", "line-width": 1.6, "line-opacity": 0.6, "line-dasharray": [2.5, 2] },
    },
    { id: "track-glow", type: "line", source: "track", layout: { "line-join": "round", "line-cap": "round" }, paint: { "line-color": "#5ec8f2", "line-width": 8, "line-opacity": 0.16 } },
    { id: "track", type: "line", source: "track", layout: { "line-join": "round", "line-cap": "round" }, paint: { "line-color": "#5ec8f2", "line-width": 2.6 } },
    { id: "ellipse-fill", type: "fill", source: "ellipses", paint: { "fill-color": ["get", "colour"], "fill-opacity": 0.22 } },
    { id: "ellipse-line", type: "line", source: "ellipses", paint: { "line-color": ["get", "colour"], "line-width": 1.4, "line-opacity": 0.9 } },
    { id: "case-ring", type: "circle", source: "cases", filter: ["==", ["get", "id"], ""], paint: { "circle-radius": 10, "circle-color": "rgba(0,0,0,0)", "circle-stroke-color": "#ffffff", "circle-stroke-width": 2 } },
    { id: "case-dot", type: "circle", source: "cases", paint: { "circle-radius": 5.5, "circle-color": ["get", "colour"], "circle-stroke-color": "#0d151d", "circle-stroke-width": 1.8 } },
  ],
};

/** A label or symbol in HTML at a place. */
class Pin {
  private readonly marker: maplibregl.Marker;
  private shown = false;

  constructor(private readonly map: maplibregl.Map, readonly element: HTMLElement, anchor: maplibregl.PositionAnchor = "center") {
    this.marker = new maplibregl.Marker({ element, anchor });
  }

  place(lon: number | null | undefined, lat: number | null | undefined): void {
    if (typeof lon !== "number" || typeof lat !== "number" || !Number.isFinite(lon) || !Number.isFinite(lat)) {
      if (this.shown) this.marker.remove();
      this.shown = false;
      return;
    }
    this.marker.setLngLat([lon, lat]);
    if (!this.shown) {
      this.marker.addTo(this.map);
      // The library calls every marker a button named "Map marker"; these are text, and do nothing.
      for (const name of ["role", "aria-label", "tabindex"]) this.element.removeAttribute(name);
    }
    this.shown = true;
  }
}

export class MapView {
  readonly element = h("section", { class: "map" });
  private readonly canvas = h("div", { class: "map-canvas" });
  private readonly buttons = h("div", { class: "map-buttons" });
  private readonly legend = h("div", { class: "map-legend" });
  private readonly failed = h("p", { class: "map-failed", hidden: true });
  private map: maplibregl.Map | null = null;
  private ready = false;
  private framed = false;
  private drawn: Partial<Record<SourceName | "names", unknown>> = {};
  private followButton: HTMLButtonElement | null = null;
  private drone: Pin | null = null;
  private droneLabel = h("span", { class: "pin-label" });
  private dock: Pin | null = null;
  private dockLabel = h("span", { class: "pin-label" });
  private areaNames: Pin[] = [];

  constructor(private readonly insets: () => { left: number; right: number }) {
    this.element.append(this.canvas, this.legend, this.buttons, this.failed);
    try {
      this.start();
    } catch (error) {
      console.warn("the map cannot be shown:", error);
      this.map = null;
      show(this.failed, true);
      show(this.buttons, false);
      show(this.legend, false);
    }
  }

  private start(): void {
    const map = new maplibregl.Map({
      container: this.canvas,
      style: STYLE,
      center: [113, 23],
      zoom: 3,
      maxZoom: 21,
      attributionControl: false,
      // North stays up: an operator reads bearings off this map.
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      maxPitch: 0,
      fadeDuration: 0,
    });
    map.touchZoomRotate.disableRotation();
    map.keyboard.disableRotation();
    map.addControl(new maplibregl.ScaleControl({ maxWidth: 120 }), "bottom-right");
    this.map = map;
    this.drone = new Pin(map, this.droneElement());
    this.dock = new Pin(map, h("div", { class: "pin dock" }, h("span", { class: "dock-mark" }, icon(ICONS.home, 16)), this.dockLabel));
    map.on("load", () => {
      this.ready = true;
      this.update();
    });
    map.on("error", (event) => console.warn("map:", event.error));
    map.on("click", "case-dot", (event) => {
      const id = event.features?.[0]?.properties["id"] as unknown;
      if (typeof id === "string") change({ selected: id, tab: "cases" });
    });
    map.on("mouseenter", "case-dot", () => (map.getCanvas().style.cursor = "pointer"));
    map.on("mouseleave", "case-dot", () => (map.getCanvas().style.cursor = ""));
    // Whoever moves the map by hand does not want it pulled back under the drone.
    map.on("dragstart", () => {
      if (model.follow) change({ follow: false });
    });
    this.relabel();
  }

  private droneElement(): HTMLElement {
    const svg = icon("M12 2.5 19 20.5 12 16.8 5 20.5Z", 34);
    return h("div", { class: "pin drone" }, h("span", { class: "drone-mark" }, svg), this.droneLabel);
  }

  /** Puts the words of the current language on everything that is built once. */
  relabel(): void {
    attr(this.element, "aria-label", t("map_label"));
    text(this.failed, t("map_failed"));
    if (!this.map) return;
    attr(this.map.getCanvas(), "aria-label", t("map_label"));
    const button = (label: string, child: Node, action: () => void) => h("button", { class: "icon-button", "aria-label": label, title: label, onclick: action }, child);
    this.followButton = button(t("follow"), icon(ICONS.follow), () => change({ follow: !model.follow }));
    this.buttons.replaceChildren(
      button("+", icon("M12 5v14M5 12h14"), () => this.map?.zoomIn()),
      button("−", icon("M5 12h14"), () => this.map?.zoomOut()),
      button(t("fit"), icon(ICONS.fit), () => this.fit(true)),
      this.followButton,
    );
    const entry = (shape: string, label: string) => h("span", null, h("i", { class: `swatch ${shape}` }), label);
    this.legend.replaceChildren(
      entry("area", t("legend_area")), entry("route", t("legend_route")), entry("track", t("legend_track")), entry("ellipse", t("legend_ellipse")),
    );
    this.drawn.names = undefined;
  }

  resize(): void {
    this.map?.resize();
    this.map?.setPadding({ top: 0, bottom: 0, ...this.insets() });
  }

  update(): void {
    const map = this.map;
    if (!map || !this.ready) return;
    // The plan of a sortie that is over is no plan any more; its track stays.
    const sortie = activeSortie();
    this.draw("base", model.base, () => model.base ?? EMPTY);
    this.draw("areas", model.patrols, () => collect((model.patrols ?? []).map((patrol) => patrol.area)));
    this.draw("route", JSON.stringify(sortie?.route ?? null), () => collect([sortie?.route ?? null]));
    this.draw("track", model.track, () => collect([model.track && model.track.coordinates.length > 1 ? model.track : null]));
    const shown = [...model.cases.values()].filter((item) => !model.hiddenKinds.has(item.properties.kind) && item.geometry?.type === "Point");
    const changed = { cases: model.cases, hidden: model.hiddenKinds };
    const before = this.drawn.cases as typeof changed | undefined;
    if (before?.cases !== changed.cases || before.hidden !== changed.hidden) {
      this.drawn.cases = changed;
      this.source("cases")?.setData(points(shown));
      this.source("ellipses")?.setData(ellipses(shown));
    }
    map.setFilter("case-ring", ["==", ["get", "id"], model.selected ?? ""]);
    if (this.drawn.names !== model.patrols) {
      this.drawn.names = model.patrols;
      this.nameAreas(model.patrols ?? []);
    }
    this.updateDrone();
    this.updateDock();
    if (this.followButton) attr(this.followButton, "aria-pressed", model.follow ? "true" : "false");
    if (!this.framed && model.patrols && model.status) this.framed = this.fit(false);
  }

  private draw(name: SourceName, identity: unknown, data: () => FeatureCollection): void {
    if (this.drawn[name] === identity) return;
    this.drawn[name] = identity;
    this.source(name)?.setData(data());
  }

  private source(name: SourceName): GeoJSONSource | undefined {
    return this.map?.getSource<GeoJSONSource>(name);
  }

  private nameAreas(patrols: readonly Patrol[]): void {
    for (const pin of this.areaNames) pin.place(null, null);
    this.areaNames = [];
    for (const patrol of patrols) {
      const at = topMiddle(patrol.area);
      if (!at || !this.map) continue;
      const pin = new Pin(this.map, h("div", { class: "area-name" }, patrol.name), "bottom");
      pin.place(at[0], at[1]);
      this.areaNames.push(pin);
    }
  }

  private updateDrone(): void {
    const vehicle = model.status?.vehicle ?? null;
    const pin = this.drone;
    if (!pin) return;
    pin.place(vehicle?.lon, vehicle?.lat);
    if (!vehicle) return;
    const live = !freshness().stale && vehicle.linked;
    pin.element.classList.toggle("last-known", !live);
    const docked = live && !vehicle.armed && activeSortie() === null;
    pin.element.classList.toggle("docked", docked);
    this.dock?.element.classList.toggle("holds-drone", docked);
    pin.element.classList.toggle("no-heading", vehicle.heading_deg === null);
    pin.element.style.setProperty("--heading", `${vehicle.heading_deg ?? 0}deg`);
    // In the dock the two symbols lie on each other, and one name is enough.
    const words = live ? (activeSortie() ? t("drone") : "") : `${t("drone")} · ${t("last_known", clock(model.linkedAt))}`;
    text(this.droneLabel, words);
    show(this.droneLabel, words !== "");
    if (model.follow && live && vehicle.lat !== null && vehicle.lon !== null) this.map?.easeTo({ center: [vehicle.lon, vehicle.lat], duration: 450, easing: (x) => x });
  }

  private updateDock(): void {
    const dock = model.status?.dock ?? null;
    this.dock?.place(dock?.lon, dock?.lat);
    if (!dock) return;
    const state = freshness().stale ? "unknown" : dock.state;
    text(this.dockLabel, `${t("dock")} · ${dockWord(state)}`);
    if (this.dock) attr(this.dock.element, "data-state", state);
  }

  /** Shows all there is; false when there is nothing to show yet. */
  fit(animate: boolean): boolean {
    const bounds = new Bounds();
    for (const patrol of model.patrols ?? []) bounds.geometry(patrol.area);
    for (const item of model.cases.values()) bounds.geometry(item.geometry);
    bounds.geometry(model.status?.sortie?.route);
    bounds.point(model.status?.dock?.lon, model.status?.dock?.lat);
    bounds.point(model.status?.vehicle?.lon, model.status?.vehicle?.lat);
    const box = bounds.get();
    if (!box || !this.map) return false;
    this.resize();
    const room = Math.min(48, this.canvas.clientWidth / 10);
    this.map.fitBounds(box, { padding: room, maxZoom: 18, animate: animate && !reducedMotion() });
    return true;
  }

  flyTo(item: Case): void {
    const [lon, lat] = item.geometry.coordinates;
    if (!this.map || typeof lon !== "number" || typeof lat !== "number") return;
    // Close enough that the error ellipse is seen as one, and not so close that nothing around it is.
    const major = Math.max(item.properties.uncertainty?.semi_major_m ?? 5, 0.5);
    const perPixelAtZoom0 = 78271.5 * Math.cos((lat * Math.PI) / 180);
    const zoom = Math.min(20, Math.max(16.5, Math.log2((perPixelAtZoom0 * ELLIPSE_PX) / major)));
    const place = { center: [lon, lat] as [number, number], zoom, padding: { top: 0, bottom: 0, ...this.insets() } };
    if (reducedMotion()) this.map.jumpTo(place);
    else this.map.flyTo({ ...place, duration: 1200 });
  }
}

function reducedMotion(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function collect(geometries: (Geometry | null)[]): FeatureCollection {
  return { type: "FeatureCollection", features: geometries.filter((g) => g !== null).map((geometry) => ({ type: "Feature", properties: {}, geometry })) };
}

function points(cases: Case[]): FeatureCollection {
  return {
    type: "FeatureCollection",
    features: cases.map((item) => ({ type: "Feature", geometry: item.geometry, properties: { id: item.properties.id, colour: colour(item.properties.kind) } })),
  };
}

function ellipses(cases: Case[]): FeatureCollection {
  return {
    type: "FeatureCollection",
    features: cases.flatMap((item) => {
      const error = item.properties.uncertainty;
      const [lon, lat] = item.geometry.coordinates;
      if (!error || lon === undefined || lat === undefined) return [];
      return [{ type: "Feature" as const, properties: { colour: colour(item.properties.kind) }, geometry: ellipse(lon, lat, error.semi_major_m, error.semi_minor_m, error.bearing_deg) }];
    }),
  };
}
