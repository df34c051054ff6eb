import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { eventually, processes } from "./e2e-running.ts";
import { ask } from "./handover-kit.ts";
import { needs } from "./needs.ts";
import { describeOnSystemd, mustExec } from "./systemd-kit.ts";
import { fromArchive, type People, startPeople } from "./systemd-people.ts";
import { archiveReachable } from "./systemd-root.ts";
import { pick } from "./throwaway-packages.ts";

/*
 * People are told of requests by a webhook and by a real mail server, from the notifier's own unit. While neither is there, nothing
 * waits for them, and the status says so.
 */

const MAIL = "/var/mail/bob";

describeOnSystemd("notices of a hand-over", (suite) => {
  let people: People;
  let port: number;
  const posted: { text: string; notice: { number: number; state: string } }[] = [];
  const serve = (at: number) =>
    Bun.serve({
      hostname: "127.0.0.1",
      port: at,
      async fetch(request) {
        posted.push(JSON.parse(await request.text()));
        return new Response();
      },
    });
  let server: ReturnType<typeof serve> | undefined;
  beforeAll(async () => {
    // A port on which nobody listens yet.
    const free = serve(0);
    port = free.port ?? 0;
    await free.stop(true);
    const notify = `[notify]\nwebhook = "http://127.0.0.1:${port}/hook"\nmail = "bob"\n`;
    people = await startPeople(suite, notify);
    await people.host.repo.publish(pick("hello-aegis=1.0"));
    await people.host.aptUpdate();
  }, 180_000);
  afterAll(async () => {
    await server?.stop(true);
    await people?.host.stop();
  });

  const status = async () => (await people.as("root", ["daemon", "status"])).stdout;
  const notifier = () => processes(people).find(({ argv }) => argv.includes("--notify"));
  const heard = (number: number) =>
    posted.filter(({ notice }) => notice.number === number).map(({ notice }) => notice.state);

  test("neither server is there: a request is approved and run all the same, and the status says what fails", async () => {
    const { number, waiting } = await ask(people, ["apt", "install", "hello-aegis"]);
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    expect(await waiting.exited).toBe(0);
    const said = await eventually(async () => {
      const text = await status();
      return text.includes("webhook: ") && text.includes("mail: ") && text;
    }, 500);
    expect(said).toMatch(/! notify +webhook: \d of \d notices? not sent, 0 of them given up; last, at /);
    expect(said).toMatch(/! notify +mail: .*there is no sendmail on this host/);
    expect(said).toContain("0 failures");
  });

  test("it is nobody's, has no capability, and may start set-group-id programs", () => {
    const { pid = 0, uid } = notifier() ?? {};
    const text = readFileSync(`/proc/${pid}/status`, "utf8");
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(text)?.[1];
    expect(uid).toBeGreaterThan(0);
    expect([field("CapEff"), field("CapPrm"), field("CapAmb")]).toEqual(Array(3).fill("0".repeat(16)));
    expect([field("NoNewPrivs"), field("Seccomp"), field("Groups")?.trim()]).toEqual(["0", "2", ""]);
    process.stderr.write(`${suite}: notifier ${field("VmRSS")}\n`);
    expect(Number.parseInt(field("VmRSS") ?? "", 10)).toBeLessThan(150 * 1024);
  });

  test("the webhook is back: what failed is sent by itself, once, in order", async () => {
    server = serve(port);
    await eventually(() => heard(1).length >= 3, 100);
    expect(heard(1)).toEqual(["open", "approved", "applied"]);
    expect(await status()).toMatch(/✓ notify +webhook: 3 notices sent/);
  });

  needs(archiveReachable(suite), "the distribution's archive").test(
    "mail by postfix, whose sendmail is set-group-id",
    async () => {
      const { host } = people;
      host.write(
        "/root/answers",
        "postfix postfix/main_mailer_type select Local only\npostfix postfix/mailname string throwaway\n",
      );
      await fromArchive(host, "debconf");
      await mustExec(host, ["debconf-set-selections", "/root/answers"]);
      await fromArchive(host, "postfix");
      // The network is the machine's.
      await mustExec(host, ["postconf", "-M#", "smtp/inet"]);
      await host.systemctl("start", "postfix.service");
      await host.systemctl("restart", "aegis-notify.service");
      await host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
      const { number, waiting } = await ask(people, ["apt", "install", "hello-aegis"]);
      const mailed = () => (existsSync(host.path(MAIL)) ? host.read(MAIL) : "");
      await eventually(
        () => mailed().includes(`request ${number}, apt install hello-aegis, of agent: "web server"`),
        200,
      );
      expect(
        (await people.as("alice", ["sign", "reject", `${number}`, "--reason", "no <!channel>\nBcc: x"]))
          .status,
      ).toBe(0);
      expect(await waiting.exited).toBe(3);
      await eventually(() => mailed().includes("was rejected by alice@example"), 200);
      expect(mailed()).toContain(
        `Subject: [aegis] throwaway: request ${number} open: apt install hello-aegis\n`,
      );
      expect(mailed()).not.toMatch(/^Bcc:/m);
      await eventually(() => heard(number).length >= 2, 100);
      expect(posted.at(-1)?.text).toContain("no ‹!channel›");
      // Those that failed before are due again within minutes; nothing failed since.
      expect(await status()).toContain("0 failures");
    },
    180_000,
  );
});
