import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Notice } from "./doc-notice.ts";
import { AegisError, messageOf } from "./errors.ts";
import { fetchText } from "./sys-fetch.ts";
import { killGroup, resolveProgram } from "./sys-spawn.ts";
import { clip, safe } from "./terminal.ts";

/*
 * How a notice reaches people: an address that takes JSON, as chat services have them, and mail through the host's own sendmail.
 */

const SEND_MS = 20_000;
const LAST_WORDS_MS = 1000;
const MAX_ANSWER = 64 * 1024;
/** sendmail(8), as every mail server of Debian provides it. */
const SENDMAIL = "sendmail";

export const CHANNELS = ["webhook", "mail"] as const;
export type Channel = (typeof CHANNELS)[number];

/** Sends one notice, or throws why not. Null for a channel that is not configured. */
export type Channels = Readonly<Record<Channel, ((notice: Notice) => Promise<void>) | null>>;

/** The channels of `[notify]`. */
export function openChannels(
  settings: { webhook: URL | null; mail: string | null },
  sendmail = () => resolveProgram(SENDMAIL),
  limitMs = SEND_MS,
): Channels {
  const { webhook, mail } = settings;
  return {
    webhook: webhook === null ? null : (notice) => post(webhook, notice),
    mail: mail === null ? null : (notice) => sendMail(sendmail(), mail, notice, limitMs),
  };
}

/** One sentence, then what to type: for chat and mail alike. Text from outside is escaped, since it was typed by whoever asks. */
export function noticeText(notice: Notice): string {
  const { number, host, user, what, reason, decision, approvals, approvals_required: needed } = notice;
  const head = `${safe(host)}: request ${number}, ${safe(what)}, of ${safe(user)}`;
  const by = notice.by === null ? "" : ` by ${safe(notice.by)}`;
  const why = notice.why === null ? "" : `: ${safe(clip(notice.why, 500))}`;
  switch (notice.state) {
    case "open":
      return `${head}: "${safe(reason)}". Policy: ${decision}; ${approvals} of ${needed} approvals; until ${notice.expires_at}. On the host: aegis sign show ${number}`;
    case "approved":
      return `${head} is approved. On the host: aegis sign show ${number}`;
    case "applied":
      return `${head} was applied${by}.`;
    case "rejected":
      return `${head} was rejected${by}${why}`;
    case "withdrawn":
      return `${head} was withdrawn${by}${why}`;
    case "expired":
      return `${head} has expired.`;
  }
}

/**
 * The text without what chat services make of it: angle brackets are links and calls to everybody in some, `@channel` and its kin and
 * Markdown's links and pictures in others.
 */
function chatText(notice: Notice): string {
  return noticeText(notice)
    .replaceAll("<", "‹")
    .replaceAll(">", "›")
    .replace(/@(?=(?:all|channel|everyone|group|here|room)\b)/gi, "＠")
    .replaceAll("](", "] (");
}

async function post(webhook: URL, notice: Notice): Promise<void> {
  const { status } = await fetchText(webhook, {
    body: { text: chatText(notice), notice },
    signal: AbortSignal.timeout(SEND_MS),
    maxBytes: MAX_ANSWER,
  });
  // A redirect is not followed: the address would then be somebody else's.
  if (status < 200 || status > 299) throw new AegisError("unavailable", `${webhook.host} answered ${status}`);
}

/** The message, RFC 5322: header lines hold ASCII without line ends, since what stands in them is escaped and cut. */
export function mailOf(to: string, notice: Notice): string {
  const subject = `[aegis] ${notice.host}: request ${notice.number} ${notice.state}: ${notice.what}`;
  const ascii = clip(safe(subject), 150).replace(/[^\x20-\x7e]/g, "?");
  return [
    `To: ${to}`,
    `Subject: ${ascii}`,
    "Auto-Submitted: auto-generated",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: 8bit",
    "",
    noticeText(notice),
    "",
    "This message is a notice. It approves nothing, and answering it does nothing.",
    "",
  ].join("\n");
}

function sendMail(program: string | null, to: string, notice: Notice, limitMs: number): Promise<void> {
  if (program === null)
    return Promise.reject(new AegisError("unavailable", "there is no sendmail on this host"));
  return new Promise((resolve, reject) => {
    // -i: a line with a dot alone doesn't end the message.
    const child = spawn(program, ["-i", "--", to], {
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8" },
      cwd: "/",
      stdio: ["pipe", "ignore", "pipe"],
      detached: true,
    });
    let said = "";
    const fail = (what: string) => {
      const words = safe(clip(said.trim(), 300));
      reject(new AegisError("unavailable", `${program} ${what}${words === "" ? "" : `: ${words}`}`));
    };
    // Not the end of its output: what sendmail leaves behind may hold that open for ever.
    const timer = setTimeout(() => {
      fail(`has not ended after ${limitMs / 1000} s`);
      killGroup(child.pid);
      child.stderr.destroy();
    }, limitMs);
    child.stderr.on("data", (chunk: Buffer) => {
      if (said.length < 500) said += chunk.toString("utf8");
    });
    child.stdin.on("error", () => {});
    child.on("error", (error) => {
      clearTimeout(timer);
      fail(messageOf(error));
    });
    child.on("exit", async (status, signal) => {
      clearTimeout(timer);
      if (status === 0) {
        child.stderr.destroy();
        resolve();
        return;
      }
      // Its last words may still be in the pipe.
      await Promise.race([once(child.stderr, "end"), sleep(LAST_WORDS_MS)]);
      child.stderr.destroy();
      fail(`ended with ${status ?? signal}`);
    });
    child.stdin.end(mailOf(to, notice));
  });
}
