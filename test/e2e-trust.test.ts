import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Handover, startHandover } from "./handover-kit.ts";
import type { Running } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * The trusted keys of a real host, with the compiled binary: who may change them, what a revocation ends, and the break-glass path.
 */

const KEYS = "/etc/aegis/trusted-keys.toml";

async function submitted(waiting: Running): Promise<number> {
  for (let n = 0; n < 400; n++) {
    const number = /request (\d+) waits for/.exec(waiting.stderr())?.[1];
    if (number !== undefined) return Number(number);
    await Bun.sleep(25);
  }
  throw new Error(`no request: ${waiting.stderr()}${waiting.stdout()}`);
}

describeOnThrowaway("the trusted keys of a host", () => {
  let people: Handover;
  beforeAll(async () => {
    people = await startHandover('[apt]\ninstall = "require_human"\n[approvals]\nrequired = 2\n');
    await people.host.repo.publish(pick("hello-aegis=1.0"));
    await people.host.aptUpdate();
    await people.startDaemon();
  });
  afterAll(() => people.host.stop());

  const trust = async (...args: readonly string[]) => {
    const { status, stdout, stderr } = await people.as("root", ["sign", "trust", ...args, "--json"]);
    expect([args, status, stderr]).toEqual([args, 0, ""]);
    return JSON.parse(stdout);
  };
  const idOf = async (name: string): Promise<string> => {
    const { keys } = await trust("list");
    return keys.find((key: { name: string }) => key.name === name).id;
  };
  const ask = async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const waiting = await people.start("agent", ["apply", "--request", id, "--reason", "web", "--wait"]);
    return { waiting, number: await submitted(waiting) };
  };

  test("members of aegis-admin see them, and only root changes them", async () => {
    const before = people.host.read(KEYS);
    const alice = await people.as("alice", ["sign", "trust"]);
    expect([alice.status, alice.stdout]).toEqual([0, expect.stringContaining("bob@example")]);
    for (const words of [
      ["revoke", await idOf("bob@example"), "--reason", "x"],
      ["expire", await idOf("alice@example")],
    ]) {
      const refused = await people.as("alice", ["sign", "trust", ...words]);
      expect([refused.status, refused.stderr]).toEqual([6, expect.stringContaining("only root may change")]);
    }
    expect(people.host.read(KEYS)).toBe(before);
  });

  test("a revocation names the request whose approval it ends, and that approval counts no more", async () => {
    const { number, waiting } = await ask();
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    const alice = await idOf("alice@example");
    const { ends } = await trust("revoke", alice, "--reason", "laptop lost");
    expect(ends).toContainEqual(expect.objectContaining({ what: "request", id: `${number}` }));
    // With bob's there would be two.
    await people.approve("bob", [`${number}`]);
    await Bun.sleep(500);
    expect(await people.installed("hello-aegis")).toBe(false);
    await people.as("agent", ["sign", "withdraw", `${number}`, "--reason", "again"]);
    await waiting.exited;
    expect(people.host.read(KEYS)).toMatch(/revoked = true {2}# \d{4}-\d\d-\d\d: laptop lost\n/);
  });

  test("a sealed key: used once, logged as that, shown until root has looked at it", async () => {
    const sealed = "/home/alice/sealed";
    await people.as("alice", [
      "sign",
      "keygen",
      "--role",
      "approval",
      "--name",
      "break-glass",
      "--out",
      sealed,
    ]);
    people.host.write(
      "/root/sealed.pub",
      JSON.stringify({ ...JSON.parse(people.host.read(`${sealed}.pub`)), break_glass: true }),
    );
    await trust("add", "/root/sealed.pub");
    const { number, waiting } = await ask();
    await people.approve("bob", [`${number}`]);
    const broken = await people.approve("alice", [`${number}`, "--key", sealed]);
    expect(broken.screen).toContain("this is a break-glass key");
    expect([broken.status, await waiting.exited]).toEqual([0, 0]);
    expect(await people.installed("hello-aegis")).toBe(true);
    const kinds = people.audit().map(({ kind }) => kind);
    expect(kinds[kinds.indexOf("execution_started") - 1]).toBe("break_glass_used");
    const shown = async () => {
      const { stdout } = await people.as("alice", ["daemon", "status", "--json"]);
      const { findings } = JSON.parse(stdout);
      return findings.filter(({ check }: { check: string }) => check === "break-glass");
    };
    const [finding, ...more] = await shown();
    expect([finding.level, more]).toEqual(["warn", []]);
    expect(finding.message).toContain("break-glass approved apt install hello-aegis");
    const execution = /--execution ([0-9a-f-]{36})/.exec(finding.fix)?.[1] ?? "";
    const acknowledge = ["audit", "acknowledge", execution, "--reason", "looked at it"];
    expect((await people.as("alice", acknowledge)).status).toBe(6);
    expect((await people.as("root", acknowledge)).status).toBe(0);
    expect(await shown()).toEqual([]);
    expect((await people.as("root", ["audit", "verify", "--system"])).status).toBe(0);
  });

  test("apply list has the execution for its own account and for others", async () => {
    for (const [who, own] of [
      ["agent", true],
      ["bob", false],
    ] as const) {
      const { stdout } = await people.as(who, ["apply", "list", "--json"]);
      expect(JSON.parse(stdout).executions).toContainEqual(
        expect.objectContaining({ state: "completed", own }),
      );
    }
  });
});
