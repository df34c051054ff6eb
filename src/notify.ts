import { watch } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseJson } from "./canonical.ts";
import { timestamp } from "./doc-fields.ts";
import { noticeNames, readNotice } from "./doc-notice.ts";
import { AegisError, messageOf } from "./errors.ts";
import { type Finding, ok, warn } from "./finding.ts";
import type { Log } from "./log.ts";
import { CHANNELS, type Channel, type Channels, openChannels } from "./notify-channels.ts";
import { SYSTEM } from "./paths.ts";
import { loadPolicyConfig, WebhookAddress } from "./policy-config.ts";
import { readFileLimited, writeFileAtomic } from "./sys-files.ts";
import { plural } from "./terminal.ts";

/*
 * `aegis daemon --notify`: sends what the runner noted to the channels that the policy file names, each notice once to each. What
 * fails is tried again, less and less often, and given up when it is a day old. Nothing waits for this process.
 */

const FIRST_RETRY_MS = 5000;
const LAST_RETRY_MS = 10 * 60_000;
/** Older notices are news to nobody. */
const GIVE_UP_MS = 24 * 60 * 60_000;
/** How far a channel that was never used looks back: to the request that started this process. */
const LOOK_BACK_MS = 15 * 60_000;
const LINGER_MS = 2000;
const MAX_STATE = 4 * 1024 * 1024;

const Delivery = v.strictObject({
  attempts: v.number(),
  /** Null when it was sent. */
  problem: v.nullable(v.string()),
  given_up: v.boolean(),
  last_tried: timestamp,
});
/** What one channel has sent, by the notices' names; nothing from before `since`. */
const ChannelState = v.strictObject({ since: timestamp, notices: v.record(v.string(), Delivery) });
type ChannelState = v.InferOutput<typeof ChannelState>;

/** Where the notifier reads and remembers, and its means. */
export interface NotifyWorld {
  notices: string;
  state: string;
  /** Asked again before each round, so that a mended setting counts at once. */
  channels(): Channels;
  now(): Date;
  /** Waits, or less long if a notice came since it last returned; false then. */
  sleep(ms: number): Promise<boolean>;
}

/**
 * Sends everything there is, and returns when each notice was sent to each channel or given up.
 * @throws AegisError `io` if the state can't be kept
 */
export async function notifyAll(world: NotifyWorld, log: Log): Promise<void> {
  for (;;) {
    const channels = world.channels();
    const waits = await Promise.all(CHANNELS.map((channel) => pass(channel, channels[channel], world, log)));
    const next = Math.min(...waits);
    if (next === 0) continue;
    if (Number.isFinite(next)) await world.sleep(next);
    // What comes while this process ends starts no other one.
    else if (await world.sleep(LINGER_MS)) return;
  }
}

/**
 * The service: the notices of this host to the channels of its policy file. Not as root: an account of its own reads them.
 * @throws AegisError `usage` for root, `invalid_config`, `io`
 */
export async function runNotifier(log: Log): Promise<void> {
  if (process.getuid?.() === 0)
    throw new AegisError("usage", "the notifier doesn't run as root", "It is started by aegis-notify.path.");
  const channels = () => {
    const { notify } = loadPolicyConfig({}, { system: true }).config;
    const { webhook = readAddress(notify.webhook_file), mail = null } = notify;
    return openChannels({ webhook: webhook === null ? null : new URL(webhook), mail });
  };
  const now = () => new Date();
  const { sleep, stop } = watchNotices(SYSTEM.notices);
  try {
    await notifyAll({ notices: SYSTEM.notices, state: SYSTEM.notifierState, channels, now, sleep }, log);
  } finally {
    stop();
  }
}

function readAddress(file: string | undefined): string | null {
  if (file === undefined) return null;
  const text = readFileLimited(file, 4096).toString("utf8").trim();
  const { success } = v.safeParse(WebhookAddress, text);
  if (success) return text;
  const hint = `Write one https address into ${file}, on one line.`;
  throw new AegisError(
    "invalid_config",
    `${file} doesn't hold an address that notices can be posted to`,
    hint,
  );
}

/** Sleeps that changes of a directory end; also changes between two sleeps, since a notice is made under another name first. */
export function watchNotices(directory: string): Pick<NotifyWorld, "sleep"> & { stop(): void } {
  let changed = false;
  let wake = () => {};
  const watcher = watch(directory, () => {
    changed = true;
    wake();
  });
  return {
    stop: () => watcher.close(),
    sleep: async (ms) => {
      if (!changed) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, ms);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      const asLongAsAsked = !changed;
      changed = false;
      return asLongAsAsked;
    },
  };
}

/**
 * Tries what is due on one channel, as far as the first failure: the other channel may have something new by then. Returns the time
 * until the next try in milliseconds, or infinity. It is 0 after any try, since that takes time in which notices come, and systemd
 * starts no second notifier for them.
 */
async function pass(
  channel: Channel,
  send: Channels[Channel],
  world: NotifyWorld,
  log: Log,
): Promise<number> {
  if (send === null) return Number.POSITIVE_INFINITY;
  const path = join(world.state, `${channel}.json`);
  const since = new Date(world.now().getTime() - LOOK_BACK_MS).toISOString();
  let state = channelState(world.state, channel) ?? { since, notices: {} };
  let next = Number.POSITIVE_INFINITY;
  const names = noticeNames(world.notices);
  for (const name of names) {
    const notice = readNotice(world.notices, name);
    if ("problem" in notice || notice.at < state.since) continue;
    const before = state.notices[name];
    if (before !== undefined && (before.problem === null || before.given_up)) continue;
    const now = world.now();
    const due =
      before === undefined ? 0 : Date.parse(before.last_tried) + retryMs(before.attempts) - now.getTime();
    if (due > 0) {
      next = Math.min(next, due);
      continue;
    }
    next = 0;
    const problem = await send(notice).then(
      () => null,
      (error: unknown) => messageOf(error).slice(0, 500),
    );
    const attempts = (before?.attempts ?? 0) + 1;
    const given_up = problem !== null && now.getTime() - Date.parse(notice.at) > GIVE_UP_MS;
    const delivery = { attempts, problem, given_up, last_tried: now.toISOString() };
    state = forget({ ...state, notices: { ...state.notices, [name]: delivery } }, names);
    writeFileAtomic(path, `${JSON.stringify(state)}\n`, 0o644);
    const facts = { channel, request: notice.number, state: notice.state, attempts };
    if (problem === null) log.info("sent", facts);
    else {
      log.warn(given_up ? "given up" : "not sent", { ...facts, problem });
      break;
    }
  }
  return next;
}

function retryMs(attempts: number): number {
  return Math.min(FIRST_RETRY_MS * 3 ** (attempts - 1), LAST_RETRY_MS);
}

/** Drops what the runner has removed. */
function forget(state: ChannelState, names: readonly string[]): ChannelState {
  const there = new Set(names);
  return {
    ...state,
    notices: Object.fromEntries(Object.entries(state.notices).filter(([name]) => there.has(name))),
  };
}

/**
 * What a channel has sent and failed to send; null if it was never used.
 * @throws AegisError `io` for a file that can't be read or is not one of ours
 */
export function channelState(directory: string, channel: Channel): ChannelState | null {
  const path = join(directory, `${channel}.json`);
  try {
    return v.parse(ChannelState, parseJson(readFileLimited(path, MAX_STATE).toString("utf8")));
  } catch (error) {
    if (error instanceof AegisError && error.code === "not_found") return null;
    const hint = `As root: rm ${path}. Notices of the last minutes are then sent again.`;
    throw new AegisError("io", `${path} can't be used: ${messageOf(error)}`, hint);
  }
}

/** How each channel that was ever used does. @throws AegisError `io` */
export function notifyFindings(directory: string = SYSTEM.notifierState): Finding[] {
  return CHANNELS.flatMap((channel) => {
    const state = channelState(directory, channel);
    if (state === null) return [];
    const deliveries = Object.values(state.notices);
    const failing = deliveries.filter(({ problem }) => problem !== null);
    const latest = failing.toSorted((a, b) => b.last_tried.localeCompare(a.last_tried))[0];
    if (latest === undefined)
      return [ok("notify", `${channel}: ${plural(deliveries.length, "notice")} sent`)];
    const lost = failing.filter(({ given_up }) => given_up).length;
    const what = `${channel}: ${failing.length} of ${plural(deliveries.length, "notice")} not sent, ${lost} of them given up`;
    return [
      warn(
        "notify",
        `${what}; last, at ${latest.last_tried}: ${latest.problem}`,
        "Check [notify] in the policy file. After a mail server was installed: systemctl restart aegis-notify.service",
      ),
    ];
  });
}
