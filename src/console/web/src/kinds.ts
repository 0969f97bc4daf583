// One colour a kind, on the map and in the list alike. Chosen to stay apart on the dark map, also for red-green blindness.

const COLOURS: Record<string, string> = {
  new_building: "#f2a154",
  blue_roof: "#6ea8ff",
  heavy_machine: "#f4dc5d",
  earthwork: "#c9976b",
  garbage: "#e57fc0",
  rubble: "#b9b3ad",
  floating_debris: "#4fd6c3",
  burning: "#ff6a5c",
};

export function colour(kind: string): string {
  return Object.hasOwn(COLOURS, kind) ? COLOURS[kind]! : "#c3b5fd";
}
