// What an operator can do: start a patrol, call the drone back. Every outcome ends up in words beside the button.

import { command, setToken } from "./api";
import { askToken, confirm } from "./dialogs";
import { gateWord, reasonWords, t } from "./i18n";
import { activeSortie, change, model, withEntry } from "./store";
import type { Note } from "./store";
import type { Outcome, Patrol, Sortie } from "./types";

/** Sends a command, asking for the token once when the station wants one. */
async function send(path: string): Promise<Outcome> {
  const first = await command(path);
  if (first.kind !== "unauthorised") return first;
  const given = await askToken();
  if (!given) return first;
  setToken(given);
  const second = await command(path);
  if (second.kind === "unauthorised") setToken(null);
  return second;
}

function failing(): string[] {
  return (model.status?.gates ?? [])
    .filter((gate) => gate.passed !== true)
    .map((gate) => `${gateWord(gate.gate)}: ${reasonWords(gate.reason) || (gate.passed === null ? t("unknown_gate") : t("fail"))}`);
}

export async function startPatrol(patrol: Patrol): Promise<void> {
  if (model.notes.get(patrol.id)?.kind === "sending") return;
  const go = await confirm({
    title: t("start_title", patrol.name),
    text: t("start_text"),
    confirm: t("start_confirm"),
    cancel: t("not_now"),
    tone: "go",
    warnings: { intro: t("gates_not_passed"), items: failing() },
  });
  if (!go) return;
  const note = (value: Note) => change({ notes: withEntry(model.notes, patrol.id, value) });
  note({ kind: "sending" });
  note(await send(`patrols/${encodeURIComponent(patrol.id)}/start`));
}

/** Whether the drone has left the ground, so that ending the sortie means flying back. */
export function isFlying(sortie: Sortie): boolean {
  return sortie.state === "airborne" || sortie.state === "paused" || sortie.state === "adopted" || sortie.state === "returning" || sortie.state === "landing";
}

/** Holds the drone where it is, or lets it go on. Needs no question: either is undone by the other. */
export async function pauseOrResume(): Promise<void> {
  const sortie = activeSortie();
  if (!sortie || (model.cancelNote?.sortie === sortie.id && model.cancelNote.note.kind === "sending")) return;
  const order = sortie.state === "paused" ? "resume" : "pause";
  change({ cancelNote: { sortie: sortie.id, note: { kind: "sending" } } });
  const outcome = await send(`sortie/${order}`);
  // Done is seen in the sortie's state; only what went wrong needs words.
  change({ cancelNote: outcome.kind === "accepted" ? null : { sortie: sortie.id, note: outcome } });
}

export async function cancelSortie(): Promise<void> {
  const sortie = activeSortie();
  if (!sortie || (model.cancelNote?.sortie === sortie.id && model.cancelNote.note.kind === "sending")) return;
  const flying = isFlying(sortie);
  const go = await confirm({
    title: t(flying ? "return_title" : "cancel_title"),
    text: t(flying ? "return_text" : "cancel_text", sortie.patrol_name),
    confirm: t(flying ? "return" : "cancel"),
    cancel: t("keep"),
    tone: "warn",
  });
  if (!go) return;
  // Between the question and the answer another sortie may have begun; that one was not asked about.
  if (activeSortie()?.id !== sortie.id) return;
  change({ cancelNote: { sortie: sortie.id, note: { kind: "sending" } } });
  const outcome = await send("sortie/cancel");
  change({ cancelNote: { sortie: sortie.id, note: outcome } });
}
