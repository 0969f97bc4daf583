// Looks at the page as a person would: headless Chromium, driven over its debugging pipe, so nothing but Debian's
// `chromium` (and `fonts-noto-cjk`) is needed. Prints what the page logged; exits 1 when it logged an error.
//
// node shot.mjs --out page.png [--url http://127.0.0.1:8099/] [--width 1440] [--height 900] [--mobile] [--lang zh|en]
//               [--wait 4000] [--do "JavaScript run in the page, then waited for 1.5 s"]...

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values: o } = parseArgs({
  options: {
    url: { type: "string", default: "http://127.0.0.1:8099/" },
    out: { type: "string", default: "page.png" },
    width: { type: "string", default: "1440" },
    height: { type: "string", default: "900" },
    mobile: { type: "boolean", default: false },
    lang: { type: "string", default: "zh" },
    wait: { type: "string", default: "4000" },
    do: { type: "string", multiple: true, default: [] },
  },
});

const profile = await mkdtemp(join(tmpdir(), "aerie-shot-"));
const chromium = spawn(
  process.env.CHROMIUM ?? "chromium",
  [
    "--headless", "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars", `--lang=${o.lang === "zh" ? "zh-CN" : "en-GB"}`,
    `--accept-lang=${o.lang === "zh" ? "zh-CN" : "en-GB"}`, `--user-data-dir=${profile}`, `--window-size=${o.width},${o.height}`, "--remote-debugging-pipe", "about:blank",
  ],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);
const [, , , toBrowser, fromBrowser] = chromium.stdio;

let next = 0;
let rest = "";
let errors = 0;
const waiting = new Map();
fromBrowser.setEncoding("utf8").on("data", (chunk) => {
  const messages = (rest + chunk).split("\0");
  rest = messages.pop();
  for (const message of messages.map((m) => JSON.parse(m))) {
    if (message.id) {
      const { resolve, reject } = waiting.get(message.id);
      waiting.delete(message.id);
      message.error ? reject(new Error(message.error.message)) : resolve(message.result);
    } else if (message.method === "Log.entryAdded") {
      const { level, text, url } = message.params.entry;
      console.log(`log ${level}: ${text} ${url ?? ""}`);
      // Chromium logs every 4xx answer (a missing picture, a refused patrol); the page says those in words.
      if (level === "error" && !/status of 4\d\d/.test(text)) errors += 1;
    } else if (message.method === "Runtime.consoleAPICalled") {
      console.log(`console ${message.params.type}:`, ...message.params.args.map((a) => a.value ?? a.description));
      if (message.params.type === "error" || message.params.type === "warning") errors += 1;
    } else if (message.method === "Runtime.exceptionThrown") {
      console.log("exception:", message.params.exceptionDetails.exception?.description ?? message.params.exceptionDetails.text);
      errors += 1;
    }
  }
});
let sessionId;
const send = (method, params = {}) =>
  new Promise((resolve, reject) => {
    const id = ++next;
    waiting.set(id, { resolve, reject });
    toBrowser.write(`${JSON.stringify({ id, method, params, ...(sessionId ? { sessionId } : {}) })}\0`);
  });

try {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  sessionId = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`);
  await send("Emulation.setDeviceMetricsOverride", { width: Number(o.width), height: Number(o.height), deviceScaleFactor: o.mobile ? 2 : 1, mobile: o.mobile });
  await send("Page.navigate", { url: o.url });
  await sleep(Number(o.wait));
  for (const expression of o.do) {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, userGesture: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    if (result.value !== undefined) console.log("=>", result.value);
    await sleep(1500);
  }
  const { data } = await send("Page.captureScreenshot", { format: "png" });
  await writeFile(o.out, Buffer.from(data, "base64"));
} finally {
  chromium.kill("SIGKILL");
  await new Promise((resolve) => (chromium.exitCode !== null || chromium.signalCode !== null ? resolve() : chromium.once("exit", resolve)));
  await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }).catch(() => {});
}
process.exitCode = errors > 0 ? 1 : 0;
