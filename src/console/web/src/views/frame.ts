// The newest frame, with the time it was taken always beside it.

import { lightbox } from "../dialogs";
import { attr, h, icon, ICONS, show, text } from "../dom";
import { clock, span, t } from "../i18n";
import { activeSortie, freshness, model, stationNow } from "../store";

export function frame() {
  const picture = h("img", { alt: t("frame_alt") });
  const none = h("span", { class: "frame-none" }, icon(ICONS.picture, 28), t("frame_none"));
  const button = h("button", { class: "frame", "aria-label": `${t("frame")}: ${t("enlarge")}`, onclick: () => {
    if (model.frame) lightbox(model.frame.url, t("frame_alt"), words());
  } }, picture, none, h("span", { class: "frame-zoom" }, icon(ICONS.zoom, 16)));
  const taken = h("span", { class: "section-aside" });
  const element = h("section", { class: "card frame-card", "aria-labelledby": "frame-head" }, h("div", { class: "section-head" }, h("h2", { id: "frame-head" }, t("frame")), taken), button);

  function words(): string {
    const at = model.frame?.takenAt ?? null;
    if (at === null) return "";
    const age = (stationNow().getTime() - Date.parse(at)) / 1000;
    return freshness().stale || Number.isNaN(age) ? t("taken", clock(at)) : t("taken_at", clock(at), span(age));
  }

  function update(): void {
    attr(picture, "src", model.frame?.url ?? null);
    show(picture, model.frame !== null);
    show(none, model.frame === null && model.loaded.has("frame"));
    button.disabled = model.frame === null;
    text(taken, words());
    element.classList.toggle("old", freshness().stale || activeSortie() === null);
  }
  return { element, update };
}
