// Small geometry for drawing. Measuring is the station's work; this only has to be right to a pixel.

import type { Geometry, Polygon, Position } from "geojson";

const A = 6378137;
const E2 = 6.69437999014e-3;

/** Metres per degree (north, east) at a latitude, on the WGS 84 ellipsoid. */
export function metresPerDegree(lat: number): { north: number; east: number } {
  const phi = (lat * Math.PI) / 180;
  const w = Math.sqrt(1 - E2 * Math.sin(phi) ** 2);
  const meridian = (A * (1 - E2)) / w ** 3;
  const normal = A / w;
  return { north: (meridian * Math.PI) / 180, east: (normal * Math.cos(phi) * Math.PI) / 180 };
}

/** An error ellipse drawn true to scale; the bearing is that of the long axis, clockwise from north. */
export function ellipse(lon: number, lat: number, major: number, minor: number, bearing: number): Polygon {
  const scale = metresPerDegree(lat);
  const beta = (bearing * Math.PI) / 180;
  const ring: Position[] = [];
  const steps = 64;
  for (let i = 0; i <= steps; i++) {
    const theta = ((i % steps) / steps) * 2 * Math.PI;
    const along = major * Math.cos(theta);
    const across = minor * Math.sin(theta);
    const east = along * Math.sin(beta) + across * Math.cos(beta);
    const north = along * Math.cos(beta) - across * Math.sin(beta);
    ring.push([lon + east / scale.east, lat + north / scale.north]);
  }
  return { type: "Polygon", coordinates: [ring] };
}

/** Grows a bounding box; null until something was put in. */
export class Bounds {
  private box: [number, number, number, number] | null = null;

  point(lon: number | null | undefined, lat: number | null | undefined): void {
    if (typeof lon !== "number" || typeof lat !== "number" || !Number.isFinite(lon) || !Number.isFinite(lat)) return;
    this.box = this.box
      ? [Math.min(this.box[0], lon), Math.min(this.box[1], lat), Math.max(this.box[2], lon), Math.max(this.box[3], lat)]
      : [lon, lat, lon, lat];
  }

  geometry(geometry: Geometry | null | undefined): void {
    if (!geometry) return;
    if (geometry.type === "GeometryCollection") geometry.geometries.forEach((part) => this.geometry(part));
    else this.positions(geometry.coordinates);
  }

  private positions(value: unknown): void {
    if (!Array.isArray(value)) return;
    if (typeof value[0] === "number") this.point(value[0], value[1]);
    else value.forEach((part) => this.positions(part));
  }

  get(): [number, number, number, number] | null {
    return this.box;
  }
}

export function centre(geometry: Geometry | null): [number, number] | null {
  const bounds = new Bounds();
  bounds.geometry(geometry);
  const box = bounds.get();
  return box && [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
}

/** Top middle of a shape, where its name does not cover what lies in it. */
export function topMiddle(geometry: Geometry | null): [number, number] | null {
  const bounds = new Bounds();
  bounds.geometry(geometry);
  const box = bounds.get();
  return box && [(box[0] + box[2]) / 2, box[3]];
}
