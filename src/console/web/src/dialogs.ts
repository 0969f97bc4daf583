// Modal dialogs (native, so focus and Escape behave) and short messages.

import { h, icon, ICONS, text } from "./dom";
import { t } from "./i18n";

function open(dialog: HTMLDialogElement): Promise<string> {
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    dialog.showModal();
  });
}

export interface Question {
  title: string;
  text: string;
  confirm: string;
  cancel: string;
  tone: "go" | "warn";
  /** Shown as a list of warnings above the buttons. */
  warnings?: { intro: string; items: string[] } | null;
}

export async function confirm(question: Question): Promise<boolean> {
  const yes = h("button", { class: `button ${question.tone}`, value: "yes" }, question.confirm);
  const no = h("button", { class: "button quiet", value: "" }, question.cancel);
  const warnings = question.warnings;
  const form = h(
    "form",
    { method: "dialog", class: "dialog-body" },
    h("h2", { id: "dialog-title" }, question.title),
    h("p", null, question.text),
    warnings && warnings.items.length > 0
      ? h("div", { class: "dialog-warning" }, h("p", null, warnings.intro), h("ul", null, ...warnings.items.map((item) => h("li", null, item))))
      : null,
    h("div", { class: "dialog-actions" }, no, yes),
  );
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, form);
  const answer = open(dialog);
  yes.focus();
  return (await answer) === "yes";
}

/** Asks for the operator's token; null when the operator gives up. */
export async function askToken(): Promise<string | null> {
  const input = h("input", { type: "password", autocomplete: "off", id: "token", required: true, spellcheck: "false" });
  const form = h(
    "form",
    { method: "dialog", class: "dialog-body" },
    h("h2", { id: "dialog-title" }, t("token_title")),
    h("p", null, t("token_text")),
    h("label", { for: "token" }, t("token_label")),
    input,
    h("div", { class: "dialog-actions" },
      h("button", { class: "button quiet", value: "", formnovalidate: true }, t("not_now")),
      // First in tab order is not first in the form: Enter must submit the token, not give up.
      h("button", { class: "button go", value: "yes" }, t("continue")),
    ),
  );
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === input && input.value) {
      event.preventDefault();
      dialog.close("yes");
    }
  });
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, form);
  const answer = open(dialog);
  input.focus();
  return (await answer) === "yes" ? input.value.trim() || null : null;
}

/** A picture as large as the window allows. */
export function lightbox(url: string, alt: string, caption: string): void {
  const close = h("button", { class: "icon-button lightbox-close", "aria-label": t("close"), onclick: () => dialog.close() }, icon(ICONS.close, 22));
  const dialog = h(
    "dialog",
    { class: "lightbox", "aria-label": alt },
    h("figure", null, h("img", { src: url, alt }), h("figcaption", null, caption)),
    close,
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  void open(dialog);
  close.focus();
}

let region: HTMLElement | null = null;
let clearing: number | undefined;

/** A short message at the bottom, also read out by screen readers. */
export function say(message: string): void {
  region ??= document.body.appendChild(h("div", { class: "toast", role: "status", "aria-live": "polite" }));
  text(region, message);
  region.classList.add("shown");
  window.clearTimeout(clearing);
  clearing = window.setTimeout(() => {
    region?.classList.remove("shown");
    if (region) text(region, "");
  }, 3500);
}

/** Copies text, also where the page is served over plain HTTP in a local network and has no clipboard API. */
export async function copy(value: string): Promise<void> {
  let done = false;
  try {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(value);
      done = true;
    }
  } catch {
    // Refused by the browser; the old way may still work.
  }
  if (!done) {
    const area = h("textarea", { class: "offscreen", readonly: true, "aria-hidden": "true" });
    area.value = value;
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    if (before instanceof HTMLElement) before.focus();
  }
  say(done ? t("copied", value) : t("copy_failed"));
}
