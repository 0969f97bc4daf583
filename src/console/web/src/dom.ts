// The page's whole "framework": build elements, patch them in place, keep lists keyed.
// Text only ever goes in through textContent and setAttribute, so nothing a server says can become markup.

type Child = Node | string | null | undefined | false;
type Props = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;

/** h("button", { class: "go", onclick: f, disabled: true }, "Go") */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props?: Props | null, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else attr(element, key, value);
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/** Sets or removes an attribute, touching the DOM only when it changes. */
export function attr(element: Element, key: string, value: string | number | boolean | null | undefined): void {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(key)) element.removeAttribute(key);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(key) !== text) element.setAttribute(key, text);
}

/** Sets text only when it changes, so selections survive and screen readers are not told the same thing twice. */
export function text(node: Node, value: string): void {
  if (node.textContent !== value) node.textContent = value;
}

export function show(element: HTMLElement, visible: boolean): void {
  if (element.hidden === visible) element.hidden = !visible;
}

/** A list whose items keep their element (and with it focus, hover and loaded pictures) while their data changes. */
export class Keyed<T, E extends HTMLElement = HTMLElement> {
  private readonly rows = new Map<string, { element: E; update: (item: T) => void }>();

  constructor(
    private readonly container: HTMLElement,
    private readonly key: (item: T) => string,
    private readonly create: (item: T) => { element: E; update: (item: T) => void },
  ) {}

  update(items: readonly T[]): void {
    const wanted = new Map<string, T>();
    for (const item of items) wanted.set(this.key(item), item);
    for (const [key, row] of this.rows) {
      if (!wanted.has(key)) {
        row.element.remove();
        this.rows.delete(key);
      }
    }
    let at: Element | null = this.container.firstElementChild;
    for (const [key, item] of wanted) {
      let row = this.rows.get(key);
      if (!row) {
        row = this.create(item);
        this.rows.set(key, row);
      }
      row.update(item);
      // Moving an element drops its focus, so only those out of place are moved.
      if (row.element === at) at = at.nextElementSibling;
      else this.container.insertBefore(row.element, at);
    }
  }

  get(key: string): E | undefined {
    return this.rows.get(key)?.element;
  }
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon from constant path data, stroked in the current colour. */
export function icon(path: string, size = 18): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("width", String(size));
  svg.setAttribute("height", String(size));
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

export const ICONS = {
  close: "M6 6l12 12M18 6L6 18",
  back: "M15 5l-7 7 7 7",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  follow: "M12 3v4M12 17v4M3 12h4M17 12h4M12 8a4 4 0 100 8 4 4 0 000-8z",
  home: "M4 12l8-8 8 8M6 10v10h12V10",
  play: "M7 4l13 8-13 8z",
  warn: "M12 4L2.5 20h19zM12 10v5M12 17.5v.5",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
  zoom: "M10 4a6 6 0 100 12 6 6 0 000-12zM14.5 14.5L20 20M10 7.5v5M7.5 10h5",
} as const;
