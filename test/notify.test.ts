import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { type Notice, noticeNames, readNotice, writeNotice } from "../src/doc-notice.ts";
import type { RequestState } from "../src/doc-request.ts";
import { channelState, type NotifyWorld, notifyAll, notifyFindings, watchNotices } from "../src/notify.ts";
import { type Channels, mailOf, noticeText, openChannels } from "../src/notify-channels.ts";
import { parsePolicyConfig } from "../src/policy-config.ts";

/*
 * Notices of requests: what is written, what is sent, again and again, and what can't be smuggled into it.
 */

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "aegis-notify-"));
  for (const name of ["notices", "state"]) mkdirSync(join(home, name));
});
afterEach(() => rmSync(home, { recursive: true }));

const START = Date.parse("2026-06-01T12:00:00Z");
const quiet = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };

const notice = (change: Partial<Notice> = {}): Notice => ({
  schema_version: "1.0",
  number: 3,
  revision: 1,
  state: "open",
  at: new Date(START).toISOString(),
  host: "web1",
  user: "agent",
  what: "apt install nginx",
  reason: "web server",
  decision: "require_human",
  approvals: 0,
  approvals_required: 1,
  expires_at: "2026-06-02T12:00:00.000Z",
  by: null,
  why: null,
  ...change,
});
const write = (change: Partial<Notice> = {}) => writeNotice(join(home, "notices"), notice(change));

/** A clock that moves only by sleeping. */
function world(channels: Partial<Channels>): NotifyWorld & { slept: number[] } {
  let at = START + 1000;
  const slept: number[] = [];
  return {
    notices: join(home, "notices"),
    state: join(home, "state"),
    channels: () => ({ webhook: null, mail: null, ...channels }),
    now: () => new Date(at),
    sleep: async (ms) => {
      slept.push(ms);
      at += ms;
      return true;
    },
    slept,
  };
}

const REFUSED: [settings: string, problem: string][] = [
  ['webhook = "http://example.com/x"', "not an https address"],
  ['webhook = "https://user:secret@example.com/x"', "not an https address"],
  ['webhook = "file:///etc/passwd"', "not an https address"],
  ['webhook = "example.com"', "not an https address"],
  ['mail = "-oQ/tmp"', "not a mail address"],
  ['mail = "a@b c"', "not a mail address"],
  ['mail = "a@b\\nBcc: c@d"', "not a mail address"],
  ['mail = ""', "not a mail address"],
  ['webhook_file = "etc/aegis/webhook"', "not an absolute path"],
  ['webhook = "https://example.com"\nwebhook_file = "/etc/aegis/webhook"', "give webhook or webhook_file"],
  ['telegram = "x"', "telegram"],
];
for (const [settings, problem] of REFUSED)
  test(`[notify] ${JSON.stringify(settings)} is refused`, () => {
    expect(() => parsePolicyConfig(`[notify]\n${settings}\n`, "policy.toml")).toThrow(problem);
  });

describe("what is sent", () => {
  test("whatever an asker types, a mail keeps its header lines, and no character that a terminal obeys", () => {
    const text = fc.oneof(
      fc.string({ maxLength: 200 }),
      fc.constantFrom("x\nBcc: evil@example.com\n\nhello", "\r\n.\r\n", "\u202e<b>"),
    );
    fc.assert(
      fc.property(text, text, text, (what, reason, why) => {
        const mail = mailOf("ops@example.com", notice({ state: "rejected", what, reason, why }));
        const [head = "", ...body] = mail.split("\n\n");
        const names = head.split("\n").map((line) => line.split(":")[0]);
        expect(names).toEqual([
          ...["To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"],
        ]);
        return (
          body.length === 2 &&
          /^[\x20-\x7e\n]*$/.test(head) &&
          !/[\p{C}\p{Zl}\p{Zp}]/u.test(mail.replaceAll("\n", ""))
        );
      }),
    );
  });

  const TEXTS: [state: RequestState, change: Partial<Notice>, text: string][] = [
    [
      "open",
      {},
      'web1: request 3, apt install nginx, of agent: "web server". Policy: require_human; 0 of 1 approvals; until 2026-06-02T12:00:00.000Z. On the host: aegis sign show 3',
    ],
    [
      "approved",
      {},
      "web1: request 3, apt install nginx, of agent is approved. On the host: aegis sign show 3",
    ],
    [
      "rejected",
      { by: "alice", why: "not now" },
      "web1: request 3, apt install nginx, of agent was rejected by alice: not now",
    ],
    ["applied", { by: "agent" }, "web1: request 3, apt install nginx, of agent was applied by agent."],
    ["expired", {}, "web1: request 3, apt install nginx, of agent has expired."],
  ];
  for (const [state, change, text] of TEXTS)
    test(`${state} in words`, () => expect(noticeText(notice({ ...change, state }))).toBe(text));

  test("a webhook gets JSON with a text that calls nobody and links nothing; a redirect and an error count as not sent", async () => {
    const got: unknown[] = [];
    const server = Bun.serve({
      port: 0,
      async fetch(request) {
        const { pathname } = new URL(request.url);
        if (pathname === "/moved") return Response.redirect("/hook");
        if (pathname === "/wrong") return new Response("no", { status: 500 });
        got.push(await request.json());
        return new Response("ok");
      },
    });
    const send = (path: string) =>
      openChannels({ webhook: new URL(path, server.url), mail: null }).webhook?.(
        notice({ reason: "<!channel> @here, @Channel: [approve](https://evil.example) for alice@example" }),
      );
    try {
      await send("/hook");
      expect(got).toMatchObject([
        {
          text: expect.stringContaining(
            '"‹!channel› ＠here, ＠Channel: [approve] (https://evil.example) for alice@example"',
          ),
          notice: { number: 3 },
        },
      ]);
      await expect(send("/moved")).rejects.toThrow("answered 302");
      await expect(send("/wrong")).rejects.toThrow("answered 500");
      expect(got).toHaveLength(1);
    } finally {
      await server.stop(true);
    }
    await expect(send("/hook")).rejects.toThrow();
  });

  test("mail goes through sendmail, which may refuse it", async () => {
    const program = join(home, "sendmail");
    const put = (script: string) => {
      writeFileSync(program, `#!/bin/sh\n${script}\n`);
      chmodSync(program, 0o755);
    };
    const mail = openChannels({ webhook: null, mail: "ops@example.com" }, () => program).mail;
    put(`printf '%s ' "$@" > ${home}/args; cat > ${home}/mail`);
    await mail?.(notice());
    expect(readFileSync(join(home, "args"), "utf8")).toBe("-i -- ops@example.com ");
    expect(readFileSync(join(home, "mail"), "utf8")).toStartWith(
      "To: ops@example.com\nSubject: [aegis] web1: request 3 open: apt install nginx\n",
    );
    put("echo 'queue is full' >&2; exit 75");
    await expect(mail?.(notice())).rejects.toThrow("ended with 75: queue is full");
    const none = openChannels({ webhook: null, mail: "ops@example.com" }, () => null).mail;
    await expect(none?.(notice())).rejects.toThrow("there is no sendmail");
  });

  // postfix's sendmail leaves postdrop behind, which waits with the output open when it may not write.
  test("a sendmail that never ends, or whose child never does, holds nothing up", async () => {
    const program = join(home, "sendmail");
    const send = (script: string) => {
      writeFileSync(program, `#!/bin/sh\n${script}\n`);
      chmodSync(program, 0o755);
      return openChannels({ webhook: null, mail: "ops@example.com" }, () => program, 200).mail?.(notice());
    };
    const left = `sleep 30 & echo $! > ${home}/left`;
    await send(`${left}; exit 0`);
    process.kill(Number(readFileSync(join(home, "left"), "utf8")));
    await expect(send(`${left}; echo 'no disk' >&2; wait`)).rejects.toThrow(
      "has not ended after 0.2 s: no disk",
    );
    await expect(send("exec sleep 30")).rejects.toThrow("has not ended after 0.2 s");
  });
});

describe("sending", () => {
  test("each notice goes to each channel once, in order", async () => {
    const sent: string[] = [];
    const to =
      (channel: string) =>
      async ({ number, revision }: Notice) =>
        void sent.push(`${channel} ${number}-${revision}`);
    const there = world({ webhook: to("webhook"), mail: to("mail") });
    for (const one of [{ number: 10 }, { number: 2, revision: 2 }, { number: 2 }]) write(one);
    await notifyAll(there, quiet);
    await notifyAll(there, quiet);
    expect(sent.filter((one) => one.startsWith("mail"))).toEqual(["mail 2-1", "mail 2-2", "mail 10-1"]);
    expect(sent).toHaveLength(6);
  });

  test("what fails is tried again, less and less often, and given up after a day; the other channel isn't held up", async () => {
    let tries = 0;
    const mailed: number[] = [];
    const fails = () => {
      tries++;
      return Promise.reject(new Error("connection refused"));
    };
    const there = world({ webhook: fails, mail: async ({ number }) => void mailed.push(number) });
    write();
    await notifyAll(there, quiet);
    expect(mailed).toEqual([3]);
    expect(there.slept.slice(0, 6)).toEqual([5000, 15_000, 45_000, 135_000, 405_000, 600_000]);
    expect(tries).toBeLessThan(160);
    const [finding, other] = notifyFindings(join(home, "state"));
    expect(finding).toMatchObject({
      level: "warn",
      message: expect.stringContaining("1 of 1 notice not sent, 1 of them given up; last"),
    });
    expect(other).toMatchObject({ level: "ok", message: "mail: 1 notice sent" });
    await notifyAll(there, quiet);
    // And at the end of each.
    expect(there.slept.length).toBe(tries - 1 + 2);
  });

  test("what comes while something is sent is sent before the end", async () => {
    const sent: number[] = [];
    write({ number: 1 });
    const webhook = async ({ number }: Notice) => {
      sent.push(number);
      if (number < 3) write({ number: number + 1 });
    };
    await notifyAll(world({ webhook }), quiet);
    expect(sent).toEqual([1, 2, 3]);
  });

  test("what comes while the notifier is about to end is sent too", async () => {
    const sent: number[] = [];
    const there = world({ webhook: async ({ number }) => void sent.push(number) });
    write({ number: 1 });
    let ends = 0;
    const sleep = async () => {
      if (++ends > 1) return true;
      write({ number: 2 });
      return false;
    };
    await notifyAll({ ...there, sleep }, quiet);
    expect([sent, ends]).toEqual([[1, 2], 2]);
  });

  // Seen on a real host: a notice's temporary name woke the notifier, which then missed the notice itself.
  test("a change between two sleeps ends the next one at once", async () => {
    const { sleep, stop } = watchNotices(join(home, "notices"));
    try {
      const written = once(watch(join(home, "notices")), "change");
      write({ number: 1 });
      await written;
      expect(await sleep(3_600_000)).toBe(false);
      while (!(await sleep(100)));
      const waits = sleep(3_600_000);
      write({ number: 2 });
      expect(await waits).toBe(false);
    } finally {
      stop();
    }
  });

  test("a channel that fails holds the other one up for one try", async () => {
    const order: string[] = [];
    for (const number of [1, 2, 3]) write({ number });
    const fails = ({ number }: Notice) => {
      order.push(`webhook ${number}`);
      if (number === 1) write({ number: 4 });
      return Promise.reject(new Error("no answer"));
    };
    const mail = async ({ number }: Notice) => void order.push(`mail ${number}`);
    await notifyAll(world({ webhook: fails, mail }), quiet);
    expect(order.indexOf("mail 4")).toBeLessThan(order.indexOf("webhook 3"));
  });

  test("a mended setting counts at the next try", async () => {
    const sent: number[] = [];
    const there = world({ webhook: () => Promise.reject(new Error("the wrong address")) });
    write();
    const sleep = (ms: number) => {
      there.channels = () => ({ webhook: async ({ number }) => void sent.push(number), mail: null });
      return there.sleep(ms);
    };
    await notifyAll({ ...there, sleep, channels: () => there.channels() }, quiet);
    expect([sent, there.slept]).toEqual([[3], [5000, 2000]]);
  });

  test("a failure that passes is not remembered as one", async () => {
    let tries = 0;
    const there = world({
      webhook: () => (++tries < 3 ? Promise.reject(new Error("no")) : Promise.resolve()),
    });
    write();
    await notifyAll(there, quiet);
    expect(channelState(join(home, "state"), "webhook")?.notices).toMatchObject({
      "3-1.json": { attempts: 3, problem: null },
    });
  });

  test("a channel that is new gets what is new, not the past", async () => {
    const sent: number[] = [];
    write({ number: 1, at: new Date(START - 3_600_000).toISOString() });
    write({ number: 2 });
    await notifyAll(world({ webhook: async ({ number }) => void sent.push(number) }), quiet);
    expect(sent).toEqual([2]);
  });

  test("files that are no notices are passed over", async () => {
    const sent: number[] = [];
    for (const [name, text] of [
      ["1-1.json", "{"],
      ["2-1.json", JSON.stringify({ ...notice(), extra: 1 })],
      ["x.json", "{}"],
      ["3-1.json.tmp", ""],
    ])
      writeFileSync(join(home, "notices", name ?? ""), text ?? "");
    write({ number: 4 });
    await notifyAll(world({ mail: async ({ number }) => void sent.push(number) }), quiet);
    expect(sent).toEqual([4]);
    expect(readNotice(join(home, "notices"), "1-1.json")).toHaveProperty("problem");
  });

  test("a damaged state stops the notifier, with what to do", async () => {
    writeFileSync(join(home, "state/webhook.json"), "{}");
    write();
    await expect(notifyAll(world({ webhook: async () => {} }), quiet)).rejects.toMatchObject({
      code: "io",
      hint: expect.stringContaining("rm "),
    });
  });

  test("the newest 500 notices are kept", () => {
    for (let number = 1; number <= 503; number++) write({ number });
    const names = noticeNames(join(home, "notices"));
    expect([names.length, names[0], names.at(-1)]).toEqual([500, "4-1.json", "503-1.json"]);
  });
});
