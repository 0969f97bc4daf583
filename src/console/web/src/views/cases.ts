// The right panel: what the machine suspects, newest first, and one case in full.

import { evidenceUrl } from "../api";
import { copy, lightbox } from "../dialogs";
import { attr, h, icon, ICONS, Keyed, show, text } from "../dom";
import { caseStateWord, fullMoment, kindWord, moment, num, pct, shortKindWord, t } from "../i18n";
import { colour } from "../kinds";
import { casesNewestFirst, change, model, stationNow } from "../store";
import type { Case, CaseProperties, LatLon } from "../types";

/** Rows in the list; the map shows all. A list of thousands helps nobody and slows a phone. */
const LISTED = 200;

export function cases() {
  const list = caseList();
  const detail = caseDetail();
  const element = h("div", { class: "panel-body" }, list.element, detail.element);
  let before: string | null = null;

  function update(): void {
    const selected = model.selected === null ? null : (model.cases.get(model.selected) ?? null);
    show(list.element, selected === null);
    show(detail.element, selected !== null);
    list.update();
    detail.update(selected);
    if (model.selected !== before) {
      // The keyboard follows: into the opened case, and back to the row it came from.
      if (selected) detail.focus();
      else if (before !== null) list.focus(before);
      before = model.selected;
    }
  }
  return { element, update };
}

function thumbnail(): { element: HTMLElement; set: (sha: string | undefined, alt: string) => void } {
  const picture = h("img", { loading: "lazy", decoding: "async", alt: "" });
  const none = h("span", { class: "no-picture", title: t("no_evidence") }, icon(ICONS.picture, 22));
  const element = h("span", { class: "thumb" }, picture, none);
  const loaded = (ok: boolean) => {
    show(picture, ok);
    show(none, !ok);
  };
  picture.addEventListener("error", () => loaded(false));
  picture.addEventListener("load", () => loaded(true));
  return {
    element,
    set(sha, alt) {
      if (sha === undefined) return loaded(false);
      attr(picture, "alt", alt);
      const url = evidenceUrl(sha);
      if (picture.getAttribute("src") !== url) {
        show(picture, true);
        show(none, false);
        picture.setAttribute("src", url);
      }
    },
  };
}

function name(p: CaseProperties): string {
  return kindWord(p.kind, p.kind_zh);
}

function caseList() {
  const count = h("span", { class: "section-aside" });
  const chips = h("div", { class: "chips", role: "group", "aria-label": t("filter") });
  const list = h("ul", { class: "cases" });
  const empty = h("p", { class: "muted" });
  const element = h(
    "section",
    { class: "card", "aria-labelledby": "cases-head" },
    h("div", { class: "section-head" }, h("h2", { id: "cases-head" }, t("cases_tab")), count),
    h("p", { class: "muted machine-note" }, t("machine_note")),
    chips,
    list,
    empty,
  );

  interface Chip { kind: string; name: string; n: number }
  const chipRows = new Keyed<Chip>(chips, (c) => c.kind, (first) => {
    const label = h("span");
    const n = h("span", { class: "chip-n" });
    const dot = h("i", { class: "kind-dot" });
    dot.style.background = colour(first.kind);
    const chip = h("button", { class: "chip", onclick: () => {
      const hidden = new Set(model.hiddenKinds);
      if (!hidden.delete(first.kind)) hidden.add(first.kind);
      change({ hiddenKinds: hidden });
    } }, dot, label, n);
    return {
      element: chip,
      update(c) {
        text(label, c.name);
        text(n, String(c.n));
        attr(chip, "aria-pressed", model.hiddenKinds.has(c.kind) ? "false" : "true");
      },
    };
  });

  const rows = new Keyed<Case>(list, (c) => c.properties.id, (first) => {
    const id = first.properties.id;
    const thumb = thumbnail();
    const kind = h("span", { class: "case-kind" });
    const dot = h("i", { class: "kind-dot" });
    const title = h("span", { class: "case-title" }, dot, kind);
    const badges = h("span", { class: "badges" });
    const state = h("span", { class: "badge" });
    const experimental = h("span", { class: "badge experimental", title: t("experimental_note") }, t("experimental"));
    const delivery = h("span", { class: "badge delivery" });
    const confidence = h("span", { class: "badge" });
    badges.append(state, confidence, experimental, delivery);
    const where = h("span", { class: "case-where" });
    const when = h("span", { class: "case-when" });
    const button = h("button", { class: "case", onclick: () => change({ selected: id, tab: "cases" }) }, thumb.element, h("span", { class: "case-text" }, title, where, when, badges));
    const row = h("li", null, button);
    return {
      element: row,
      update(c) {
        const p = c.properties;
        dot.style.background = colour(p.kind);
        thumb.set(p.evidence[0], "");
        text(kind, name(p));
        text(state, caseStateWord(p.state));
        attr(state, "data-state", p.state);
        show(experimental, p.experimental);
        text(delivery, t(p.delivered ? "delivered" : "queued"));
        attr(delivery, "data-done", p.delivered ? "true" : "false");
        const at = wgs84(c);
        text(confidence, `${t("confidence")} ${pct(p.confidence)}`);
        text(where, at ? `${at.lat.toFixed(6)}, ${at.lon.toFixed(6)}` : "–");
        text(when, `${t("last_seen")} ${moment(p.last_seen, stationNow())} · ${t("seen_n", p.count)}`);
      },
    };
  });

  let drawn: { cases: unknown; hidden: unknown; day: string; loaded: boolean } | null = null;
  function update(): void {
    // The list only changes with its data or at midnight; status comes twice a second.
    const day = stationNow().toDateString();
    const loaded = model.loaded.has("cases");
    if (drawn?.cases === model.cases && drawn.hidden === model.hiddenKinds && drawn.day === day && drawn.loaded === loaded) return;
    drawn = { cases: model.cases, hidden: model.hiddenKinds, day, loaded };
    const all = casesNewestFirst();
    const kinds = new Map<string, Chip>();
    for (const c of all) {
      const chip = kinds.get(c.properties.kind) ?? { kind: c.properties.kind, name: shortKindWord(c.properties.kind, c.properties.kind_zh), n: 0 };
      chip.n += 1;
      kinds.set(chip.kind, chip);
    }
    chipRows.update([...kinds.values()].sort((a, b) => b.n - a.n || a.kind.localeCompare(b.kind)));
    show(chips, kinds.size > 0);
    const shown = all.filter((c) => !model.hiddenKinds.has(c.properties.kind));
    rows.update(shown.slice(0, LISTED));
    text(count, all.length > 0 ? String(all.length) : "");
    text(empty, all.length === 0 ? t("no_cases") : t("no_cases_filter"));
    show(empty, shown.length === 0 && loaded);
  }

  function focus(id: string): void {
    rows.get(id)?.querySelector("button")?.focus();
  }
  return { element, update, focus };
}

function wgs84(c: Case): LatLon | null {
  const given = c.properties.position?.wgs84;
  if (given && Number.isFinite(given.lat) && Number.isFinite(given.lon)) return given;
  const [lon, lat] = c.geometry?.coordinates ?? [];
  return typeof lon === "number" && typeof lat === "number" ? { lat, lon } : null;
}

function caseDetail() {
  const back = h("button", { class: "button quiet small", onclick: () => change({ selected: null }) }, icon(ICONS.back, 16), h("span", null, t("back")));
  const body = h("div", { class: "detail" });
  const element = h("section", { class: "card", "aria-label": t("cases_tab") }, back, body);
  let drawn: Case | null = null;

  function update(selected: Case | null): void {
    if (selected === drawn) return;
    // Redrawn only when the case itself changed, so a selection or a loaded picture is not lost for nothing.
    drawn = selected;
    body.replaceChildren(...(selected ? detail(selected) : []));
  }
  return { element, update, focus: () => back.focus() };
}

function detail(c: Case): HTMLElement[] {
  const p = c.properties;
  const title = name(p);
  const dot = h("i", { class: "kind-dot" });
  dot.style.background = colour(p.kind);
  return [
    h("h2", { class: "detail-title" }, dot, title),
    h("p", { class: "badges" },
      h("span", { class: "badge", "data-state": p.state }, caseStateWord(p.state)),
      p.experimental ? h("span", { class: "badge experimental" }, t("experimental")) : null,
      h("span", { class: "badge delivery", "data-done": p.delivered ? "true" : "false" }, t(p.delivered ? "delivered" : "queued")),
    ),
    gallery(p, title),
    p.experimental ? h("p", { class: "muted" }, t("experimental_note")) : h("p", { class: "muted" }, t("machine_note")),
    h("h3", null, t("position")),
    positions(c),
    h("dl", { class: "rows" },
      row(t("error95"), p.uncertainty ? t("ellipse", num(p.uncertainty.semi_major_m, 1), num(p.uncertainty.semi_minor_m, 1), num(p.uncertainty.bearing_deg)) : t("ellipse_none")),
      row(t("confidence"), pct(p.confidence)),
      row(t("first_seen"), fullMoment(p.first_seen)),
      row(t("last_seen"), `${fullMoment(p.last_seen)} · ${t("seen_n", p.count)}`),
      p.code ? row(t("code"), p.code_system ? `${p.code} (${p.code_system})` : p.code) : null,
      row(t("case_id"), p.id),
      p.sortie ? row(t("from_sortie"), p.sortie) : null,
    ),
  ];
}

function row(label: string, value: string): HTMLElement {
  return h("div", null, h("dt", null, label), h("dd", null, value));
}

function gallery(p: CaseProperties, title: string): HTMLElement {
  if (p.evidence.length === 0) return h("p", { class: "muted evidence-none" }, icon(ICONS.picture, 28), t("no_evidence"));
  const alt = t("evidence_alt", title);
  let at = 0;
  const picture = h("img", { alt });
  const failed = h("span", { class: "frame-none", hidden: true }, icon(ICONS.picture, 28), t("no_evidence"));
  const caption = () => [title, t("last_seen") + " " + fullMoment(p.last_seen), p.evidence.length > 1 ? t("picture_n", at + 1, p.evidence.length) : ""].filter(Boolean).join(" · ");
  const large = h("button", { class: "frame evidence", "aria-label": `${alt}: ${t("enlarge")}`, onclick: () => lightbox(evidenceUrl(p.evidence[at]!), alt, caption()) }, picture, failed, h("span", { class: "frame-zoom" }, icon(ICONS.zoom, 16)));
  picture.addEventListener("error", () => {
    show(picture, false);
    show(failed, true);
  });
  picture.addEventListener("load", () => {
    show(picture, true);
    show(failed, false);
  });
  const strip = h("div", { class: "strip" });
  const choose = (i: number) => {
    at = i;
    attr(picture, "src", evidenceUrl(p.evidence[i]!));
    [...strip.children].forEach((child, k) => attr(child, "aria-pressed", k === i ? "true" : "false"));
  };
  if (p.evidence.length > 1) {
    p.evidence.forEach((sha, i) =>
      strip.append(h("button", { class: "strip-item", "aria-label": t("picture_n", i + 1, p.evidence.length), onclick: () => choose(i) }, h("img", { src: evidenceUrl(sha), alt: "", loading: "lazy" }))),
    );
  }
  choose(0);
  return h("div", { class: "gallery" }, large, p.evidence.length > 1 ? strip : null);
}

function positions(c: Case): HTMLElement {
  const table = h("div", { class: "positions" });
  const add = (datum: string, at: LatLon | null | undefined, displayOnly: boolean) => {
    if (!at || !Number.isFinite(at.lat) || !Number.isFinite(at.lon)) return;
    const value = `${at.lat.toFixed(7)}, ${at.lon.toFixed(7)}`;
    table.append(
      h("div", { class: displayOnly ? "position display-only" : "position" },
        h("span", { class: "datum" }, datum, displayOnly ? h("em", null, t("display_only")) : null),
        h("code", null, value),
        h("button", { class: "icon-button small", "aria-label": `${t("copy")}: ${datum}`, title: t("copy"), onclick: () => void copy(value) }, icon(ICONS.copy, 16)),
      ),
    );
  };
  add("WGS 84", wgs84(c), false);
  add("CGCS2000", c.properties.position?.cgcs2000, false);
  // GCJ-02 is an offset for showing on Chinese web maps; measuring with it is wrong by hundreds of metres.
  add("GCJ-02", c.properties.position?.gcj02, true);
  return table;
}
