import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { brokenInvariants, executorProcesses, kill } from "./e2e-running.ts";
import { ask, type Person } from "./handover-kit.ts";
import { needs } from "./needs.ts";
import { describeOnSystemd, mustExec } from "./systemd-kit.ts";
import { AGENT_UID, type People, startPeople } from "./systemd-people.ts";
import { archiveReachable } from "./systemd-root.ts";
import { pick } from "./throwaway-packages.ts";

/*
 * A hand-over on a real systemd: an agent asks, a person decides. What is refused, what survives the death of every process and of the
 * host, and Debian's own nginx by one command of each.
 */

/** Three hours and a bit. */
const LUNCH_MS = 3 * 3_600_000 + 60_000;

/** Whether nobody listens on port 80, which containers share with the machine. */
function httpIsFree(): boolean {
  try {
    Bun.listen({ hostname: "0.0.0.0", port: 80, socket: { data() {} } }).stop(true);
    return true;
  } catch {
    return false;
  }
}

describeOnSystemd("hand-over", (suite) => {
  let people: People;
  beforeAll(async () => {
    people = await startPeople(suite);
    await people.host.repo.publish(pick("hello-aegis=1.0", "libapp=1.0"));
    await people.host.aptUpdate();
  }, 180_000);
  afterAll(() => people?.host.stop());
  afterEach(async () => {
    await people.host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
  });

  const hello = () => ask(people, ["apt", "install", "hello-aegis"]);
  const installed = () => people.installed("hello-aegis");
  const refused = async (who: Person, args: readonly string[], says: string, status: number) => {
    const done = await people.as(who, args);
    expect([done.status, done.stderr]).toEqual([status, expect.stringContaining(says)]);
  };
  const kinds = (number: number) =>
    people
      .audit()
      .filter(({ details }) => details["request"] === number)
      .map(({ kind }) => kind);
  /** Changes a request's file as root could; the runner reads it anew each time. */
  const change = (number: number, deed: (request: Record<string, unknown>) => void) => {
    const path = `/var/lib/aegis/requests/${number}.json`;
    const kept = JSON.parse(people.host.read(path));
    deed(kept.request);
    people.host.write(path, JSON.stringify(kept), 0o600);
  };

  test("what policy denies is never kept, and nobody outside the group gets as far as the socket", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const before = people.audit().length;
    people.host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "deny"\n');
    await refused("agent", ["apply", "--request", id, "--reason", "x"], "[policy_denied]", 3);
    people.host.write("/etc/aegis/policy.toml", "");
    await mustExec(people.host, ["useradd", "--create-home", "mallory"]);
    const outside = await people.host.exec([
      ...["setpriv", "--reuid=mallory", "--regid=mallory", "--init-groups"],
      ...["env", "HOME=/home/mallory", "aegis", "sign", "inbox"],
    ]);
    expect([outside.status, outside.stderr]).toEqual([8, expect.stringContaining("aegis-admin")]);
    expect(people.audit()).toHaveLength(before);
    expect(readdirSync(people.host.path("/var/lib/aegis/requests"))).toEqual([]);
  });

  test("rejected: the agent's command ends with the reason and status 3", async () => {
    const { number, waiting } = await hello();
    expect(
      (await people.as("alice", ["sign", "reject", `${number}`, "--reason", "use the proxy"])).status,
    ).toBe(0);
    expect([await waiting.exited, waiting.stderr()]).toEqual([
      3,
      expect.stringMatching(/\[rejected\] request \d+ was rejected by alice@example .*: use the proxy/),
    ]);
    await refused("alice", ["sign", "reject", `${number}`, "--reason", "again"], "has ended: rejected", 6);
    expect(kinds(number)).toEqual(["request_submitted", "request_rejected"]);
    expect(await installed()).toBe(false);
  });

  test("withdrawn by the agent alone", async () => {
    const { number, waiting } = await hello();
    await refused("alice", ["sign", "withdraw", `${number}`], "[refused]", 6);
    expect((await people.as("agent", ["sign", "withdraw", `${number}`])).status).toBe(0);
    expect(await waiting.exited).toBe(4);
    const late = await people.approve("alice", [`${number}`]);
    expect([late.status, late.screen]).toEqual([6, expect.stringContaining("has ended: withdrawn")]);
    expect(kinds(number)).toEqual(["request_submitted", "request_denied", "request_withdrawn"]);
  });

  test("expired: whoever waits is told", async () => {
    const { number, waiting } = await hello();
    waiting.kill("SIGKILL");
    await waiting.exited;
    change(number, (request) => {
      request["expires_at"] = new Date(Date.now() + 3000).toISOString();
    });
    await refused("agent", ["apply", "--request", `${number}`, "--wait"], `request ${number} expired`, 4);
    const late = await people.approve("alice", [`${number}`]);
    expect([late.status, late.screen]).toEqual([6, expect.stringContaining("has ended: expired")]);
    expect(kinds(number)).toEqual(["request_submitted", "request_expired"]);
    expect(await installed()).toBe(false);
  });

  test("two must approve: one is not enough, and nobody counts twice", async () => {
    people.host.write("/etc/aegis/policy.toml", "[approvals]\nrequired = 2\n");
    const { number, waiting } = await hello();
    const first = await people.approve("alice", [`${number}`]);
    expect([first.status, first.screen]).toEqual([0, expect.stringContaining("has 1 of 2 approvals")]);
    const twice = await people.approve("alice", [`${number}`]);
    expect([twice.status, twice.screen]).toEqual([6, expect.stringContaining("already approved")]);
    expect(await installed()).toBe(false);
    const second = await people.approve("bob", [`${number}`]);
    expect([second.status, second.screen]).toEqual([0, expect.stringContaining("is approved")]);
    expect([await waiting.exited, await installed()]).toEqual([0, true]);
    people.host.write("/etc/aegis/policy.toml", "");
    expect(kinds(number)).toEqual([
      ...["request_submitted", "request_approved", "request_denied", "request_approved", "request_applied"],
    ]);
  });

  test("away for three hours, then yes: what is approved and run is a plan of now", async () => {
    const { number, waiting } = await hello();
    // As if all of it had been three hours ago: the plan that was asked for can't be run any more.
    const earlier = (request: Record<string, unknown>, ...names: string[]) => {
      for (const name of names)
        request[name] = new Date(Date.parse(String(request[name])) - LUNCH_MS).toISOString();
    };
    change(number, (request) => earlier(request, "submitted_at", "expires_at", "planned_at"));
    const before = JSON.parse((await people.as("alice", ["sign", "show", `${number}`, "--json"])).stdout);
    const { status, screen } = await people.approve("alice", [`${number}`]);
    expect([status, screen]).toEqual([0, expect.stringContaining("Planned again just now: the same change")]);
    expect([await waiting.exited, await installed()]).toEqual([0, true]);
    const after = JSON.parse((await people.as("alice", ["sign", "show", `${number}`, "--json"])).stdout);
    expect(after.request.plan_hash).not.toBe(before.request.plan_hash);
    const took = Date.parse(after.request.planned_at) - Date.parse(before.request.planned_at);
    expect(took).toBeGreaterThan(LUNCH_MS);
  });

  test("the front restarted while somebody waits: the command goes on by itself", async () => {
    const { number, waiting } = await hello();
    await people.host.systemctl("restart", "aegisd.service");
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    expect([await waiting.exited, await installed()]).toEqual([0, true]);
  });

  test("the requester's connection is lost with its process; by the number it goes on", async () => {
    const { number, waiting } = await hello();
    waiting.kill("SIGKILL");
    await waiting.exited;
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    await refused("alice", ["apply", "--request", `${number}`, "--wait"], "is not this account's", 2);
    const resumed = await people.as("agent", ["apply", "--request", `${number}`, "--wait"]);
    expect([resumed.status, await installed()]).toEqual([0, true]);
  });

  test("runners killed again and again while one asks: what was acknowledged is there, once", async () => {
    const id = await people.plan("apt", "install", "libapp");
    const before = people.audit().filter(({ kind }) => kind === "request_submitted").length;
    const numbers: number[] = [];
    let asking = true;
    let killed = 0;
    const killer = (async () => {
      for (let n = 0; asking; n = (n + 7) % 40) {
        await Bun.sleep(20 + n);
        const victims = executorProcesses(people, "runner");
        kill(victims);
        killed += victims.length;
      }
    })();
    for (let n = 0; n < 8; n++) {
      const asked = await people.as("agent", ["apply", "--request", id, "--reason", "x", "--json"]);
      if (asked.status === 4) numbers.push(JSON.parse(asked.stdout).request.number);
    }
    asking = false;
    await killer;
    const last = await people.as("agent", ["apply", "--request", id, "--reason", "x", "--json"]);
    numbers.push(JSON.parse(last.stdout).request.number);
    expect(killed).toBeGreaterThan(3);
    expect(new Set(numbers).size).toBe(1);
    expect((await people.as("agent", ["sign", "withdraw", `${numbers[0]}`])).status).toBe(0);
    const made = people.audit().filter(({ kind }) => kind === "request_submitted").length;
    expect(made - before).toBe(1);
    // A killed runner's pipe is removed by a later call, once it is old.
    expect(readdirSync(people.host.path("/run/aegis/proof")).length).toBeLessThanOrEqual(killed);
  }, 120_000);

  test.each(["an orderly reboot", "a power failure"])(
    "open requests survive %s",
    async (how) => {
      const { number, waiting } = await hello();
      const second = await ask(people, ["apt", "install", "libapp"]);
      const before = people.host.leader();
      if (how === "a power failure") await people.host.powerCycle();
      else {
        await people.host.beginReboot();
        await people.host.booted(before);
      }
      await waiting.exited;
      const inbox = await people.as("alice", ["sign", "inbox"]);
      expect([inbox.status, inbox.stdout]).toEqual([
        0,
        expect.stringMatching(new RegExp(`^${second.number} +agent .* apt install libapp$`, "m")),
      ]);
      // The plan is of the boot before; the approver's is of this one.
      expect((await people.approve("alice", [`${number}`])).status).toBe(0);
      const resumed = await people.as("agent", ["apply", "--request", `${number}`, "--wait"]);
      expect([resumed.status, await installed()]).toEqual([0, true]);
      expect((await people.as("agent", ["sign", "withdraw", `${second.number}`])).status).toBe(0);
    },
    120_000,
  );

  needs(
    archiveReachable(suite) && httpIsFree(),
    "the distribution's archive, and port 80 of this machine",
  ).test(
    "nginx from the archive, by one command of the agent and one of alice",
    async () => {
      people.host.addDebian();
      await people.host.aptUpdate();
      const { number, waiting } = await ask(people, ["apt", "install", "nginx"]);
      const { status, screen } = await people.approve("alice", [`${number}`], { columns: 80 });
      // Nothing else of the head is on the screen by then.
      expect(screen.slice(screen.indexOf("Planned again"))).toContain(
        `agent (uid ${AGENT_UID}), in request ${number}\n`,
      );
      expect([status, screen]).toEqual([0, expect.stringContaining(`Request ${number} is approved`)]);
      expect([await waiting.exited, waiting.stderr()]).toEqual([
        0,
        expect.stringContaining("approved by alice@example; applying"),
      ]);
      expect((await people.host.systemctl("is-active", "nginx.service")).trim()).toBe("active");
      expect(await (await fetch("http://127.0.0.1/")).text()).toContain("Welcome to nginx!");
      expect(kinds(number)).toEqual(["request_submitted", "request_approved", "request_applied"]);
      const started = people.audit().findLast(({ kind }) => kind === "execution_started");
      expect(started).toMatchObject({
        actor: expect.stringMatching(/^agent@example/),
        details: { approved_by: [{ name: "alice@example" }] },
      });
    },
    180_000,
  );

  test("the log verifies, the status is clean, and nothing is left over", async () => {
    expect((await people.as("root", ["audit", "verify", "--system"])).status).toBe(0);
    const status = await people.as("root", ["daemon", "status", "--json"]);
    const { findings } = JSON.parse(status.stdout) as { findings: { level: string; message: string }[] };
    // The monitor's first look may have been before the executor was started: that one sentence, and no other.
    const early = /^the monitor found at \S+ \S+: executor: it is installed but not running$/;
    const told = findings.filter(({ level, message }) => level !== "ok" && !early.test(message));
    expect([status.status, told]).toEqual([0, []]);
    const aegis = (args: readonly string[]) => people.as("root", args);
    expect(await brokenInvariants({ ...people, aegis })).toEqual([]);
    expect(existsSync(people.host.path("/run/aegis/proof"))).toBe(true);
    expect(readdirSync(people.host.path("/run/aegis/proof"))).toEqual([]);
  });
});
