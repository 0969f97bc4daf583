// The bar on top: which station, how it is, and whether this page can be believed right now.

import { attr, h, icon, ICONS, show, text } from "../dom";
import { clock, lang, setLang, setZone, span, t, zoneName } from "../i18n";
import { freshness, model } from "../store";

export function topbar(onLang: () => void, onRetry: () => void) {
  const name = h("strong", { class: "station-name" });
  const sub = h("span", { class: "station-sub" });
  const pill = h("span", { class: "pill", role: "status" });
  const demo = h("span", { class: "pill demo", title: t("demo_note") }, t("demo"));
  const time = h("span", { class: "station-time" });
  const language = h(
    "button",
    {
      class: "button quiet small",
      "aria-label": t("lang_label"),
      onclick: () => {
        setLang(lang() === "zh" ? "en" : "zh");
        onLang();
      },
    },
    t("lang_switch"),
  );
  const bannerText = h("span");
  const bannerWhen = h("span", { class: "banner-when" });
  const retry = h("button", { class: "button small banner-retry", onclick: onRetry }, t("retry_now"));
  const banner = h("div", { class: "banner", hidden: true }, icon(ICONS.warn, 20), h("span", { role: "alert" }, bannerText), bannerWhen, retry);

  const element = h(
    "header",
    { class: "top" },
    h("div", { class: "topbar" },
      h("span", { class: "brand" }, icon("M12 3 20 21 12 17 4 21Z", 20), "aerie"),
      h("span", { class: "station" }, name, sub),
      demo,
      pill,
      h("span", { class: "spacer" }),
      time,
      language,
    ),
    banner,
  );

  function update(): void {
    const status = model.status;
    const fresh = freshness();
    setZone(status?.timezone);
    text(name, status ? status.name || status.station : t("station"));
    text(sub, status ? `${status.station} · ${t("version", status.version)}` : "");
    show(demo, status?.demo === true);
    const tone = !status ? "wait" : fresh.stale ? "stale" : status.state === "ok" ? "ok" : "bad";
    attr(pill, "data-tone", tone);
    text(pill, !status ? t("connecting") : fresh.stale ? t("stale") : status.state === "ok" ? t("ok") : t("degraded"));
    text(time, status && !fresh.stale ? `${clock(status.time)} ${zoneName()}` : "");

    const waiting = model.stream.kind !== "open" && model.stream.kind !== "connecting";
    show(banner, status ? fresh.stale : waiting);
    // The alert is read out once; the seconds count on where no screen reader follows.
    text(bannerText, fresh.age === null ? t("never_banner") : t("stale_banner", span(fresh.age)));
    const stream = model.stream;
    text(
      bannerWhen,
      stream.kind === "waiting" ? t("reconnect_in", Math.max(1, Math.ceil((stream.until - performance.now()) / 1000))) : stream.kind === "connecting" ? t("reconnecting") : t("connected_silent"),
    );
    show(retry, stream.kind === "waiting");
    document.body.classList.toggle("is-stale", fresh.stale);
    document.title = status ? `${status.name || status.station} · aerie` : "aerie";
  }

  return { element, update };
}
