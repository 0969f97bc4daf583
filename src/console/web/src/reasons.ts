// The station's own sentences in Chinese. `reasons.json` has them as it says them, with {} where it fills something in; a test of
// the gates (src/patrol/gates/tests.rs) fails when a gate says what is not there.
import PHRASES from "./reasons.json";

/** What stands in the places of `pattern`, or null when `reason` is another sentence. */
function filled(reason: string, pattern: string): string[] | null {
  const [first = "", ...rest] = pattern.split("{}");
  if (!reason.startsWith(first)) return null;
  let at = first.length;
  const found: string[] = [];
  for (const [index, part] of rest.entries()) {
    const last = index === rest.length - 1;
    const next = last ? reason.length - part.length : reason.indexOf(part, at);
    if (next < at || !reason.startsWith(part, next)) return null;
    found.push(reason.slice(at, next));
    at = next + part.length;
  }
  return at === reason.length ? found : null;
}

function sentence(reason: string): string | null {
  for (const [pattern, chinese] of PHRASES as [string, string][]) {
    const found = filled(reason, pattern);
    if (found) return chinese.replace(/\{(\d)\}/g, (_, index: string) => inChinese(found[Number(index)] ?? ""));
  }
  return null;
}

/** A reason in Chinese; what is not known stays as the station says it. */
export function inChinese(reason: string, gate: (name: string) => string | null = () => null): string {
  const whole = sentence(reason);
  if (whole !== null) return whole;
  const parts = reason.split("; ");
  if (parts.length > 1) return parts.map((part) => inChinese(part, gate)).join("；");
  const [, name, rest] = /^([a-z_]+): ?(.*)$/s.exec(reason) ?? [];
  const word = name && rest ? gate(name) : null;
  return word && rest ? `${word}：${inChinese(rest, gate)}` : reason;
}
