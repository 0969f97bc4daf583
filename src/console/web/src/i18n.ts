// Words of the page in Chinese and English. The station's own sentences are put into Chinese by reasons.ts; remedies are shown as it says them.
import { inChinese } from "./reasons";

export type Lang = "zh" | "en";

const STORED = "aerie.lang";

function initial(): Lang {
  try {
    const stored = localStorage.getItem(STORED);
    if (stored === "zh" || stored === "en") return stored;
  } catch {
    // Storage may be forbidden; the browser's language decides then.
  }
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

let current: Lang = initial();

export function lang(): Lang {
  return current;
}

export function setLang(next: Lang): void {
  current = next;
  try {
    localStorage.setItem(STORED, next);
  } catch {
    // Not remembered, but still switched.
  }
}

const WORDS = {
  station: ["无人机基站", "drone station"],
  ok: ["运行正常", "All well"],
  degraded: ["降级运行", "Degraded"],
  stale: ["数据已过时", "Out of date"],
  connecting: ["正在连接基站…", "Connecting to the station…"],
  demo: ["演示", "DEMO"],
  demo_note: ["模拟的设备与城镇，不是真实飞行", "Simulated town and hardware; nothing really flies"],
  stale_banner: ["页面数据已过时：最后一次收到基站数据在 {0}前，地图上的位置不是实时位置。", "This page is out of date: last heard from the station {0} ago. Positions on the map are not live."],
  never_banner: ["尚未收到基站数据。", "Nothing heard from the station yet."],
  reconnect_in: ["{0} 秒后重连", "Reconnecting in {0} s"],
  reconnecting: ["正在重连…", "Reconnecting…"],
  connected_silent: ["连接尚在，但基站没有发送新数据", "Connected, but the station sends nothing new"],
  retry_now: ["立即重连", "Reconnect now"],
  lang_switch: ["English", "中文"],
  lang_label: ["切换到英文 / Switch to English", "Switch to Chinese / 切换到中文"],
  skip_map: ["跳到操作面板", "Skip to the controls"],
  map_label: ["地图：基站、无人机、巡查区和疑似线索", "Map: station, drone, patrol areas and suspected cases"],
  map_failed: ["此浏览器无法显示地图（需要 WebGL）。其他功能照常可用。", "This browser cannot show the map (it needs WebGL). Everything else works."],
  ops_tab: ["任务与状态", "Operations"],
  cases_tab: ["疑似线索", "Suspected cases"],
  problems: ["需要处理", "Needs attention"],
  remedy: ["处理办法", "Remedy"],
  sortie: ["当前架次", "Current sortie"],
  last_sortie: ["上一架次", "Last sortie"],
  no_sortie: ["没有正在执行的架次", "No sortie is under way"],
  progress: ["航线进度", "Route"],
  coverage: ["已覆盖", "Covered"],
  frames: ["照片", "Frames"],
  cases: ["线索", "Cases"],
  elapsed: ["用时", "Elapsed"],
  ended: ["结束于", "Ended"],
  return: ["返航", "Return to dock"],
  pause: ["悬停等待", "Hold here"],
  resume: ["继续巡查", "Go on"],
  order_accepted: ["已受理。", "Accepted."],
  return_ing: ["正在返航", "Returning"],
  cancel: ["取消任务", "Cancel sortie"],
  return_title: ["让无人机返航？", "Call the drone back?"],
  return_text: ["“{0}”的巡查将中止，无人机返回机库降落。", "“{0}” ends here and the drone flies back to its dock and lands."],
  cancel_title: ["取消这次任务？", "Cancel this sortie?"],
  cancel_text: ["“{0}”尚未起飞，将不再起飞。", "“{0}” has not taken off and will not."],
  keep: ["继续巡查", "Keep flying"],
  patrols: ["巡查任务", "Patrols"],
  no_patrols: ["还没有配置巡查任务。请在基站配置文件中添加。", "No patrol is configured yet. Add one to the station's configuration."],
  start: ["立即巡查", "Start patrol"],
  starting: ["正在提交…", "Sending…"],
  start_title: ["现在巡查“{0}”？", "Start “{0}” now?"],
  start_text: ["全部放行条件通过后，机库将打开，无人机起飞。请确认机库周围无人。", "Once every gate passes, the dock opens and the drone takes off. Make sure nobody stands near the dock."],
  start_confirm: ["确认起飞巡查", "Start patrol"],
  not_now: ["暂不", "Not now"],
  gates_not_passed: ["以下放行条件当前未通过，起飞可能被拒绝：", "These gates do not pass right now, so the flight may be refused:"],
  accepted: ["已受理，正在检查放行条件。", "Accepted; checking the gates."],
  return_accepted: ["已受理，无人机将返回机库。", "Accepted; the drone is coming back to its dock."],
  refused: ["未放行", "Refused"],
  unauthorised: ["口令不正确或未填写，操作没有执行。", "The token was missing or wrong; nothing was done."],
  unreachable: ["没有收到基站答复，不能确定是否已执行：{0}。请查看当前架次。", "The station did not answer, so it is not certain whether this was done: {0}. Check the current sortie."],
  busy_note: ["有架次正在执行", "A sortie is under way"],
  stale_note: ["数据过时，暂不能起飞", "Out of date: cannot start now"],
  schedule: ["计划", "Schedule"],
  next: ["下次", "Next"],
  waits: ["已到时间，等候放行至 {0}：{1}", "due, and waits until {0}: {1}"],
  on_demand: ["仅手动", "On demand only"],
  last: ["上次", "Last"],
  never: ["从未", "never"],
  vitals: ["设备状态", "Equipment"],
  drone: ["无人机", "Drone"],
  linked: ["链路正常", "Linked"],
  link_lost: ["链路中断", "Link lost"],
  no_vehicle: ["未发现无人机", "No drone heard"],
  armed: ["已解锁", "armed"],
  disarmed: ["已锁定", "disarmed"],
  battery: ["电量", "Battery"],
  satellites: ["{0} 颗卫星", "{0} satellites"],
  height: ["高度", "Height"],
  speed: ["速度 {0} m/s", "{0} m/s over ground"],
  wind: ["风速", "Wind"],
  gust: ["阵风 {0} m/s", "gusts {0} m/s"],
  rain: ["降雨", "Rain"],
  temperature: ["气温 {0} °C", "{0} °C"],
  weather_age: ["{0}前", "{0} ago"],
  dock: ["机库", "Dock"],
  uplink: ["上级平台", "Uplink"],
  up: ["已连接", "Online"],
  down: ["已断开", "Offline"],
  queue: ["待发 {0} · 已送达 {1}", "{0} queued · {1} delivered"],
  unheard: ["其中 {0} 条无人订阅", "{0} of them to no subscriber"],
  perception: ["识别", "Recognition"],
  running: ["运行中", "Running"],
  stopped: ["未运行", "Not running"],
  perception_detail: ["已看 {0} 张 · 待看 {1}", "{0} frames · {1} behind"],
  restarts: ["重启 {0} 次", "{0} restarts"],
  model: ["模型", "Model"],
  updates: ["远程更新", "Updates over the air"],
  update_committed: ["在用 {0}", "{0} is in use"],
  update_own: ["在用：随机自带", "what came with the station is in use"],
  update_candidate: ["{0}：{1}", "{0}: {1}"],
  update_refused: ["{0} 已拒绝：{1}", "{0} was refused: {1}"],
  unknown: ["未知", "Unknown"],
  gates: ["放行条件", "Gates before take-off"],
  gates_sum: ["{0} / {1} 通过", "{0} of {1} pass"],
  gates_none: ["基站尚未报告放行条件。", "The station has not reported its gates yet."],
  gate: ["条件", "Gate"],
  verdict: ["结果", "Verdict"],
  why: ["说明", "Why"],
  pass: ["通过", "Pass"],
  fail: ["不通过", "Fail"],
  unknown_gate: ["未知即不放行", "unknown is not a pass"],
  recent: ["最近架次", "Recent sorties"],
  none_yet: ["还没有架次。", "No sortie yet."],
  frame: ["最新照片", "Newest frame"],
  frame_none: ["还没有照片", "No frame yet"],
  frame_alt: ["无人机最新照片，框为疑似目标", "Newest frame from the drone; boxes mark suspected objects"],
  taken: ["拍摄于 {0}", "Taken {0}"],
  taken_at: ["拍摄于 {0}（{1}前）", "Taken {0} ({1} ago)"],
  enlarge: ["放大", "Enlarge"],
  close: ["关闭", "Close"],
  back: ["返回列表", "Back to the list"],
  no_cases: ["还没有疑似线索。", "No suspected case yet."],
  no_cases_filter: ["所选类别没有线索。", "No case of the chosen kinds."],
  machine_note: ["线索由机器识别，均为疑似，须经人工核实。", "Found by a machine: suspected only, until a person has checked."],
  filter: ["按类别筛选", "Filter by kind"],
  confidence: ["置信度", "Confidence"],
  experimental: ["试验性", "Experimental"],
  experimental_note: ["试验性：模型仅凭生成图像认识此类，误报较多", "Experimental: the model knows this kind from generated pictures alone; expect more false alarms"],
  first_seen: ["首次发现", "First seen"],
  last_seen: ["最近发现", "Last seen"],
  seen_n: ["共 {0} 次", "{0}×"],
  position: ["位置", "Position"],
  lat: ["纬度", "lat"],
  lon: ["经度", "lon"],
  copy: ["复制坐标", "Copy coordinates"],
  copied: ["已复制：{0}", "Copied: {0}"],
  copy_failed: ["无法复制，请手动选择。", "Could not copy; select the text instead."],
  display_only: ["仅供显示", "display only"],
  error95: ["95% 误差椭圆", "95 % error ellipse"],
  ellipse: ["长半轴 {0} m，短半轴 {1} m，长轴方位 {2}°", "semi-axes {0} m and {1} m, long axis towards {2}°"],
  ellipse_none: ["未知", "unknown"],
  code: ["参考编码", "Suggested code"],
  delivery: ["上报", "Delivery"],
  delivered: ["已送达", "Delivered"],
  queued: ["待送达", "Queued"],
  from_sortie: ["架次", "Sortie"],
  case_id: ["线索编号", "Case"],
  evidence: ["证据照片", "Evidence"],
  evidence_alt: ["{0} 的证据照片", "Evidence picture of {0}"],
  no_evidence: ["证据照片暂不可用", "Evidence picture not available"],
  picture_n: ["第 {0} 张，共 {1} 张", "Picture {0} of {1}"],
  fit: ["显示全部", "Show everything"],
  follow: ["跟随无人机", "Follow the drone"],
  last_known: ["最后位置 {0}", "last known {0}"],
  token_title: ["请输入操作口令", "Operator token"],
  token_text: ["基站要求操作口令才能执行此操作。口令只保存在此浏览器标签页中。", "The station needs an operator token for this. It is kept in this browser tab only."],
  token_label: ["口令", "Token"],
  continue: ["继续", "Continue"],
  load_failed: ["读取{0}失败：{1}", "Could not read {0}: {1}"],
  version: ["版本 {0}", "version {0}"],
  not_in_flight: ["飞行中不适用", "not in flight"],
  legend_route: ["计划航线", "Planned"],
  legend_track: ["已飞航迹", "Flown"],
  legend_area: ["巡查区", "Area"],
  legend_ellipse: ["95% 误差", "95 % error"],
} satisfies Record<string, [string, string]>;

export type Word = keyof typeof WORDS;

/** A phrase in the current language, with {0}, {1} filled in. */
export function t(word: Word, ...args: (string | number)[]): string {
  const phrase = WORDS[word][current === "zh" ? 0 : 1];
  return phrase.replace(/\{(\d)\}/g, (_, index: string) => String(args[Number(index)] ?? ""));
}

type Table = Record<string, [string, string]>;

const STATES: Table = {
  planned: ["已计划", "Planned"],
  gating: ["检查放行条件", "Checking gates"],
  dock_opening: ["机库打开中", "Dock opening"],
  arming: ["准备起飞", "Arming"],
  airborne: ["巡查中", "On patrol"],
  paused: ["已暂停（悬停）", "Paused, holding"],
  adopted: ["重启后接管", "Adopted after a restart"],
  returning: ["返航中", "Returning"],
  landing: ["降落中", "Landing"],
  dock_closing: ["机库关闭中", "Dock closing"],
  done: ["已完成", "Done"],
  refused: ["未放行", "Refused"],
  aborted: ["已中止", "Aborted"],
  missed: ["已错过", "Missed"],
  landed_away: ["降落在机场外", "Landed away"],
  lost: ["失去联系", "Lost contact"],
};

const STEPS: Table = {
  planned: ["计划", "Plan"],
  gating: ["放行", "Gate"],
  dock_opening: ["开舱", "Open"],
  arming: ["起飞", "Arm"],
  airborne: ["巡查", "Fly"],
  returning: ["返航", "Back"],
  landing: ["降落", "Land"],
  dock_closing: ["关舱", "Shut"],
  done: ["完成", "Done"],
};

const TRIGGERS: Table = {
  schedule: ["定时", "schedule"],
  page: ["本页", "this page"],
  cli: ["命令行", "command line"],
  mqtt: ["上级平台", "platform"],
  found: ["空中发现", "found in the air"],
  request: ["临时复查", "a request"],
};

const DOCK: Table = {
  closed: ["已关闭", "Closed"],
  opening: ["打开中", "Opening"],
  open: ["已打开", "Open"],
  closing: ["关闭中", "Closing"],
  unknown: ["未知", "Unknown"],
};

// English only for kinds: Chinese names come with each case, because a site may word them its own way.
const KINDS: Record<string, string> = {
  new_building: "Suspected new building",
  blue_roof: "Suspected new steel-roof shed",
  heavy_machine: "Suspected construction work",
  earthwork: "Suspected earthwork",
  garbage: "Suspected exposed garbage",
  rubble: "Suspected rubble heap",
  floating_debris: "Suspected floating debris",
  burning: "Suspected open burning",
};

const KINDS_ZH: Record<string, string> = {
  new_building: "疑似新增建筑",
  blue_roof: "疑似新增彩钢棚",
  heavy_machine: "疑似施工作业",
  earthwork: "疑似占地动土",
  garbage: "疑似暴露垃圾",
  rubble: "疑似建筑垃圾渣土",
  floating_debris: "疑似水面漂浮物",
  burning: "疑似露天焚烧",
};

const CASE_STATES: Table = {
  suspected: ["疑似", "Suspected"],
  confirmed: ["人工已核实", "Confirmed by a person"],
  rejected: ["人工已排除", "Rejected by a person"],
  resolved: ["已办结", "Resolved"],
  gone: ["复查未见", "Not seen again"],
};

const GATES: Table = {
  time: ["时间可信", "Clock"],
  clock: ["时间可信", "Clock"],
  config: ["配置", "Configuration"],
  configuration: ["配置", "Configuration"],
  on_ground: ["停在地面", "On the ground"],
  satellites: ["卫星", "Satellites"],
  dock: ["机库", "Dock"],
  weather: ["天气", "Weather"],
  wind: ["风", "Wind"],
  gust: ["阵风", "Gusts"],
  rain: ["降雨", "Rain"],
  temperature: ["气温", "Temperature"],
  link: ["无人机链路", "Drone link"],
  vehicle: ["无人机", "Drone"],
  vehicle_link: ["无人机链路", "Drone link"],
  battery: ["电量", "Battery"],
  position: ["定位", "Position"],
  gnss: ["卫星定位", "Satellite fix"],
  gps: ["卫星定位", "Satellite fix"],
  health: ["飞控自检", "Autopilot health"],
  preflight: ["飞控自检", "Autopilot checks"],
  mission: ["航线装载", "Mission on board"],
  visibility: ["能见度", "Visibility"],
  cells: ["电芯", "Battery cells"],
  battery_cycles: ["电池循环次数", "Battery cycles"],
  battery_temperature: ["电池温度", "Battery temperature"],
  estimator: ["姿态与定位估计", "Estimator"],
  identification: ["运行识别", "Identification"],
  storage: ["存储空间", "Storage"],
  maintenance: ["检修锁定", "Maintenance"],
  hold: ["人工暂停放飞", "Operator's hold"],
  energy: ["本架次所需电量", "Energy for this flight"],
  airspace: ["空域批准", "Airspace approval"],
  route: ["航线在围栏内", "Route inside the fence"],
  geofence: ["电子围栏", "Geofence"],
  fence: ["电子围栏", "Geofence"],
  failsafe: ["失控保护", "Failsafes"],
  failsafes: ["失控保护", "Failsafes"],
  perception: ["识别", "Recognition"],
  model: ["模型", "Model"],
  idle: ["无其他架次", "No other sortie"],
  window: ["飞行时段", "Flying hours"],
  daylight: ["日照", "Daylight"],
  plan: ["航线", "Route"],
  uplink: ["上级平台", "Uplink"],
};

function look(table: Table, key: string): string {
  const entry = Object.hasOwn(table, key) ? table[key] : undefined;
  // A word this page does not know is shown as the station says it: better raw than hidden.
  return entry ? entry[current === "zh" ? 0 : 1] : key;
}

const STAGES: Table = {
  refreshed: ["已发布，待下载", "offered"],
  fetching: ["下载中", "being fetched"],
  staged: ["已下载，待检验", "fetched, to be probed"],
  probed: ["检验通过", "probed"],
  shadow: ["旁路比对中，不产生线索", "looks along, unheard"],
  trial: ["试用中", "in charge, on trial"],
};

const UPDATED: Table = { model: ["模型", "Model"], rules: ["规则", "Rules"], register: ["许可登记", "Register"] };

export const stageWord = (stage: string) => look(STAGES, stage);
export const updatedWord = (kind: string) => look(UPDATED, kind);
export const stateWord = (state: string) => look(STATES, state);
export const stepWord = (state: string) => look(STEPS, state);
export const triggerWord = (trigger: string) => look(TRIGGERS, trigger);
export const dockWord = (state: string) => look(DOCK, state);
export const caseStateWord = (state: string) => look(CASE_STATES, state);
export const gateWord = (gate: string) => look(GATES, gate);

const MODES: Table = {
  MANUAL: ["手动", "manual"],
  GUIDED: ["引导", "guided"],
  AUTO: ["航线自动", "auto"],
  RETURN: ["返航", "return"],
  LAND: ["降落", "land"],
  HOLD: ["悬停", "hold"],
};

export const modeWord = (mode: string) => look(MODES, mode);

const DAYS: Table = {
  mon: ["周一", "Mon"],
  tue: ["周二", "Tue"],
  wed: ["周三", "Wed"],
  thu: ["周四", "Thu"],
  fri: ["周五", "Fri"],
  sat: ["周六", "Sat"],
  sun: ["周日", "Sun"],
  "no holidays": ["节假日不飞", "no holidays"],
  "holidays only": ["仅节假日", "holidays only"],
};

/** A schedule as the station says it: "09:00 / 15:30 · mon tue · no holidays". */
export const scheduleWords = (schedule: string) => schedule.replace(/no holidays|holidays only|\b(mon|tue|wed|thu|fri|sat|sun)\b/g, (word) => look(DAYS, word));

/** A reason of the station in the current language; where it begins with a gate's identifier, that is said in words. */
export function reasonWords(reason: string | null | undefined): string {
  if (!reason) return "";
  if (current === "zh") return inChinese(reason, (name) => (Object.hasOwn(GATES, name) ? gateWord(name) : null));
  const [, gate, rest] = /^([a-z_]+): ?(.*)$/s.exec(reason) ?? [];
  return gate && rest && Object.hasOwn(GATES, gate) ? `${gateWord(gate)}: ${rest}` : reason;
}

/** The name of a kind; the machine only ever suspects, so the word is always there. */
export function kindWord(kind: string, zh?: string): string {
  if (current === "en") return Object.hasOwn(KINDS, kind) ? KINDS[kind]! : `Suspected: ${kind}`;
  const name = zh || (Object.hasOwn(KINDS_ZH, kind) ? KINDS_ZH[kind]! : kind);
  return name.startsWith("疑似") ? name : `疑似${name}`;
}

/** The same name where the heading above already says "suspected", and room is short. */
export function shortKindWord(kind: string, zh?: string): string {
  const name = kindWord(kind, zh).replace(/^(疑似|Suspected:? )/, "");
  return name.charAt(0).toUpperCase() + name.slice(1);
}

const locale = () => (current === "zh" ? "zh-CN" : "en-GB");

let zone: string | undefined;

/** All times are the station's: whoever looks from elsewhere talks with people there. */
export function setZone(name: string | undefined): void {
  try {
    if (name) new Intl.DateTimeFormat("en", { timeZone: name });
    zone = name || undefined;
  } catch {
    // A zone that this browser does not know: its own time is the best it can show.
    zone = undefined;
  }
}

export const zoneName = () => zone ?? "";

export function clock(when: string | Date | null): string {
  const date = when === null ? null : new Date(when);
  if (!date || Number.isNaN(date.getTime())) return "–";
  return date.toLocaleTimeString(locale(), { hour12: false, timeZone: zone });
}

/** Day and time, short: the day is left out when it is today. */
export function moment(when: string | null, now: Date): string {
  const date = when === null ? null : new Date(when);
  if (!date || Number.isNaN(date.getTime())) return "–";
  const time = date.toLocaleTimeString(locale(), { hour: "2-digit", minute: "2-digit", hour12: false, timeZone: zone });
  const dayOf = (of: Date) => of.toLocaleDateString(locale(), { month: "short", day: "numeric", year: "numeric", timeZone: zone });
  if (dayOf(date) === dayOf(now)) return time;
  const day = date.toLocaleDateString(locale(), { month: "short", day: "numeric", timeZone: zone });
  return `${day} ${time}`;
}

export function fullMoment(when: string | null): string {
  const date = when === null ? null : new Date(when);
  if (!date || Number.isNaN(date.getTime())) return "–";
  return date.toLocaleString(locale(), { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, timeZone: zone });
}

export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const zh = current === "zh";
  if (s < 60) return zh ? `${s} 秒` : `${s} s`;
  if (s < 3600) {
    const rest = String(s % 60).padStart(2, "0");
    return zh ? `${Math.floor(s / 60)} 分 ${rest} 秒` : `${Math.floor(s / 60)} min ${rest} s`;
  }
  if (s < 86400) return zh ? `${Math.floor(s / 3600)} 小时 ${Math.floor((s % 3600) / 60)} 分` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return zh ? `${Math.floor(s / 86400)} 天` : `${Math.floor(s / 86400)} d`;
}

/** A measured number, or a dash: what is not known is never shown as zero. */
export function num(value: number | null | undefined, digits = 0): string {
  return typeof value === "number" && Number.isFinite(value) ? value.toFixed(digits) : "–";
}

export function pct(fraction: number | null | undefined): string {
  // Rounded down, so that 99.6 % covered never reads as all of it.
  return typeof fraction === "number" && Number.isFinite(fraction) ? `${Math.floor(fraction * 100 + 1e-9)}%` : "–";
}
