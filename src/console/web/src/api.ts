// Talking to the station: reads, commands, and the event stream with its backoff.

import type { Outcome } from "./types";

const BASE = "api/v1";
const TOKEN = "aerie.token";
const READ_LIMIT_MS = 15_000;
const COMMAND_LIMIT_MS = 30_000;

export function token(): string | null {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch {
    return null;
  }
}

export function setToken(value: string | null): void {
  try {
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  } catch {
    // Without storage the operator is asked again; nothing else is lost.
  }
}

function headers(extra: Record<string, string> = {}): Record<string, string> {
  const bearer = token();
  return bearer ? { ...extra, Authorization: `Bearer ${bearer}` } : extra;
}

export class HttpError extends Error {
  constructor(readonly status: number) {
    super(`HTTP ${status}`);
  }
}

export async function read<T>(path: string): Promise<T> {
  const response = await fetch(`${BASE}/${path}`, { headers: headers({ Accept: "application/json" }), cache: "no-store", signal: AbortSignal.timeout(READ_LIMIT_MS) });
  if (!response.ok) throw new HttpError(response.status);
  return (await response.json()) as T;
}

export function evidenceUrl(sha256: string): string {
  return `${BASE}/evidence/${encodeURIComponent(sha256)}`;
}

/** The newest frame and when it was taken; null when there is none yet. */
export async function newestFrame(): Promise<{ picture: Blob; takenAt: string | null } | null> {
  const response = await fetch(`${BASE}/frame/latest`, { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(READ_LIMIT_MS) });
  if (response.status === 404 || response.status === 204) return null;
  if (!response.ok) throw new HttpError(response.status);
  return { picture: await response.blob(), takenAt: response.headers.get("X-Aerie-Taken-At") };
}

/** Sends a command. Never throws: what came of it is always an outcome that can be said in words. */
export async function command(path: string): Promise<Outcome> {
  let response: Response;
  try {
    response = await fetch(`${BASE}/${path}`, {
      method: "POST",
      headers: headers({ "Content-Type": "application/json", "X-Aerie-Console": "1" }),
      body: "{}",
      signal: AbortSignal.timeout(COMMAND_LIMIT_MS),
    });
  } catch (error) {
    return { kind: "unreachable", reason: error instanceof Error ? error.message : String(error) };
  }
  if (response.status === 401) return { kind: "unauthorised" };
  const body = (await response.json().catch(() => null)) as Record<string, unknown> | null;
  const field = (key: string) => (typeof body?.[key] === "string" ? (body[key] as string) : null);
  if (response.ok) {
    const sortie = body?.["sortie"];
    const id = typeof sortie === "object" && sortie !== null ? (sortie as { id?: unknown }).id : sortie;
    return { kind: "accepted", sortie: typeof id === "string" ? id : null };
  }
  return { kind: "refused", error: field("error") ?? `HTTP ${response.status}`, reason: field("reason"), remedy: field("remedy") };
}

export type StreamState = { kind: "connecting" } | { kind: "open" } | { kind: "waiting"; until: number; status: number | null };

const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000] as const;
/** The station speaks twice a second; a stream silent this long is dead even if TCP has not noticed. */
const SILENCE_MS = 10_000;
/** A stream must have lived this long for its end to count as a first failure again. */
const SETTLED_MS = 5000;

/**
 * Server-Sent Events over fetch rather than EventSource: the token can go along, a silent stream can be dropped,
 * and the page knows exactly when the next try is.
 */
export class Stream {
  private failures = 0;
  private abort: AbortController | null = null;
  private timer: number | undefined;
  private stopped = false;

  constructor(
    private readonly onEvent: (event: string, data: unknown) => void,
    private readonly onState: (state: StreamState) => void,
  ) {}

  start(): void {
    void this.connect();
  }

  /** Tries at once instead of waiting out the backoff. */
  retryNow(): void {
    if (this.timer === undefined) return;
    window.clearTimeout(this.timer);
    void this.connect();
  }

  private async connect(): Promise<void> {
    this.timer = undefined;
    if (this.stopped) return;
    this.onState({ kind: "connecting" });
    const abort = new AbortController();
    this.abort = abort;
    let silence = window.setTimeout(() => abort.abort(), SILENCE_MS);
    let openedAt = Infinity;
    let status: number | null = null;
    try {
      const response = await fetch(`${BASE}/events`, { headers: headers({ Accept: "text/event-stream" }), cache: "no-store", signal: abort.signal });
      if (!response.ok || !response.body) throw new HttpError(response.status);
      openedAt = performance.now();
      this.onState({ kind: "open" });
      const parser = new EventParser(this.onEvent);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        window.clearTimeout(silence);
        silence = window.setTimeout(() => abort.abort(), SILENCE_MS);
        parser.push(value);
      }
    } catch (error) {
      // Whatever ended it, the answer is the same: wait, then try again.
      if (error instanceof HttpError) status = error.status;
    }
    window.clearTimeout(silence);
    abort.abort();
    if (performance.now() - openedAt > SETTLED_MS) this.failures = 0;
    const base = BACKOFF_MS[Math.min(this.failures, BACKOFF_MS.length - 1)]!;
    this.failures += 1;
    // Jitter, so that the pages of a whole control room do not all come back at the same instant.
    const wait = base * (0.75 + Math.random() / 2);
    this.onState({ kind: "waiting", until: performance.now() + wait, status });
    this.timer = window.setTimeout(() => void this.connect(), wait);
  }

  stop(): void {
    this.stopped = true;
    window.clearTimeout(this.timer);
    this.abort?.abort();
  }
}

/** An event may not grow past this; a station never sends one near it. */
const EVENT_LIMIT = 4_000_000;

/** Pure: text in whatever pieces the network cuts it, events out. */
export class EventParser {
  private rest = "";
  private name = "";
  private data: string[] = [];

  constructor(private readonly emit: (event: string, data: unknown) => void) {}

  push(chunk: string): void {
    this.rest += chunk;
    if (this.rest.length > EVENT_LIMIT) throw new Error("an event is larger than the page accepts");
    // A lone CR at the very end may be the first half of a CRLF: leave it for the next piece.
    const lines = this.rest.split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) this.line(line);
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length > 0) this.dispatch();
      this.name = "";
      this.data = [];
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.name = value;
    else if (field === "data") this.data.push(value);
  }

  private dispatch(): void {
    let parsed: unknown;
    try {
      parsed = JSON.parse(this.data.join("\n"));
    } catch {
      console.warn("an event that is not JSON was left out:", this.name);
      return;
    }
    this.emit(this.name || "message", parsed);
  }
}
