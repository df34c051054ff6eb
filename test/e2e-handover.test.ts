import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { debianPackages, unpackPackages } from "./debian-packages.ts";
import { type Approved, type Handover, type Person, startHandover, submitted } from "./handover-kit.ts";
import { needs } from "./needs.ts";
import type { Running, ThrowawayHost } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * From a plan to an installed package with one command of an agent and one of a person, on a real host with the compiled binary.
 */

const REASON = "web server";

describeOnThrowaway("one command of the agent and one of a person", () => {
  let people: Handover;
  let daemon: Running;
  beforeAll(async () => {
    people = await startHandover();
    await people.host.repo.publish(pick("hello-aegis=1.0"));
    await people.host.aptUpdate();
    daemon = await people.startDaemon();
  });
  afterAll(() => people.host.stop());
  afterEach(async () => {
    await people.host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
    await people.host.repo.publish(pick("hello-aegis=1.0"));
    await people.host.aptUpdate();
  });

  const ask = async (...flags: readonly string[]) => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const args = ["apply", "--request", id, "--reason", REASON, ...flags];
    const waiting = await people.start("agent", [...args, "--wait"]);
    return { id, waiting, number: await submitted(waiting) };
  };
  const summary = async (number: number) =>
    JSON.parse((await people.as("alice", ["sign", "show", `${number}`, "--json"])).stdout).request;
  const refused = async (who: Person, args: readonly string[], says: string, status: number) => {
    const done = await people.as(who, args);
    expect(done.stderr).toContain(says);
    expect(done.status).toBe(status);
  };

  test("asked, planned again, approved, signed, installed, and in the log", async () => {
    const { number, waiting } = await ask();
    const before = await summary(number);
    const inbox = await people.as("alice", ["sign", "inbox"]);
    expect(inbox.stdout).toContain(`"${REASON}" (require_human; expires in 24 h)`);
    const { status, screen } = await people.approve("alice", [`${number}`]);
    expect(screen).toContain(`Asked by    agent (uid 61010)`);
    expect(screen).toContain("Planned again just now: the same change as planned at");
    expect(screen).toContain(`Request ${number} is approved`);
    expect(status).toBe(0);
    expect([await waiting.exited, waiting.stderr()]).toEqual([
      0,
      expect.stringContaining("approved by alice@example; applying"),
    ]);
    expect(waiting.stdout()).toContain("✓ done");
    expect(await people.installed("hello-aegis")).toBe(true);
    const after = await summary(number);
    expect(after).toMatchObject({ state: "applied", end: { by: expect.stringMatching(/^agent@example/) } });
    // What ran is a plan that was seconds old when it was approved.
    expect(after.asked_plan_hash).toBe(before.plan_hash);
    expect(after.plan_hash).not.toBe(before.plan_hash);
    expect(Date.parse(after.planned_at)).toBeGreaterThan(Date.parse(before.planned_at));
    const log = people.audit().slice(-5);
    expect(log.map(({ kind }) => kind)).toEqual([
      "request_submitted",
      "request_approved",
      "execution_started",
      "request_applied",
      "execution_completed",
    ]);
    expect(log[0]?.actor).toBe("uid 61010 (agent)");
    expect(log[2]?.details["approved_by"]).toMatchObject([{ name: "alice@example" }]);
    expect((await people.as("root", ["audit", "verify", "--system"])).status).toBe(0);
  });

  test("rejected: status 3 with the reason, and nothing is run", async () => {
    const { number, waiting } = await ask();
    const no = await people.as("alice", ["sign", "reject", `${number}`, "--reason", "use the proxy"]);
    expect(no.status).toBe(0);
    expect(await waiting.exited).toBe(3);
    expect(waiting.stderr()).toMatch(
      /error \[rejected\] request \d+ was rejected by alice@example .*: use the proxy/,
    );
    await refused("alice", ["sign", "reject", `${number}`, "--reason", "again"], "has ended: rejected", 6);
    expect(await people.installed("hello-aegis")).toBe(false);
  });

  test("approved, signed, then rejected by another person: what was signed doesn't run", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const asked = await people.as("agent", ["apply", "--request", id, "--reason", REASON]);
    const number = /^Request (\d+)/.exec(asked.stdout)?.[1] ?? "";
    expect((await people.approve("alice", [number])).status).toBe(0);
    const signed = await people.as("agent", ["sign", "--request", number, "--json"]);
    const { execution_plan_id } = JSON.parse(signed.stdout).execution_plan;
    const no = await people.as("bob", ["sign", "reject", number, "--reason", "not on a Friday"]);
    expect(no.status).toBe(0);
    await refused("agent", ["apply", execution_plan_id], "has ended: rejected", 6);
    expect(await people.installed("hello-aegis")).toBe(false);
  });

  test("a yes that became a no is no good, though the agent has kept it", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const args = ["apply", "--request", id, "--reason", REASON, "--json"];
    const { number } = JSON.parse((await people.as("agent", args)).stdout).request;
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    const kept = JSON.parse((await people.as("agent", ["sign", "show", `${number}`, "--json"])).stdout);
    for (const [name, document] of [
      ["plan", kept.plan],
      ["policy", kept.policy_result],
      ["approval", kept.approvals[0]],
    ])
      people.host.write(`/tmp/${name}.json`, JSON.stringify(document));
    const no = await people.as("alice", ["sign", "reject", `${number}`, "--reason", "on second thoughts"]);
    expect(no.status).toBe(0);
    const files = ["plan", "policy", "approval"].flatMap((name) => [`--${name}`, `/tmp/${name}.json`]);
    const signed = await people.as("agent", ["sign", ...files, "--json"]);
    expect([signed.status, signed.stderr]).toEqual([0, ""]);
    const ran = await people.as("agent", [
      "apply",
      JSON.parse(signed.stdout).execution_plan.execution_plan_id,
    ]);
    expect([ran.status, ran.stderr]).toEqual([6, expect.stringContaining("has ended: rejected")]);
    expect(await people.installed("hello-aegis")).toBe(false);
  });

  test("withdrawn by the agent alone; then nobody can approve it", async () => {
    const { number, waiting } = await ask();
    await refused("alice", ["sign", "withdraw", `${number}`], "[refused]", 6);
    expect(
      (await people.as("agent", ["sign", "withdraw", `${number}`, "--reason", "not needed"])).status,
    ).toBe(0);
    expect(await waiting.exited).toBe(4);
    expect(waiting.stderr()).toContain("error [request_ended]");
    const late = await people.approve("alice", [`${number}`]);
    expect([late.status, late.screen]).toEqual([6, expect.stringContaining("has ended: withdrawn")]);
  });

  test("the agent is killed while it waits, and goes on by the number", async () => {
    const { id, number, waiting } = await ask();
    waiting.kill("SIGKILL");
    await waiting.exited;
    // The same command again is the same request.
    const again = await people.as("agent", ["apply", "--request", id, "--reason", REASON, "--json"]);
    expect([again.status, JSON.parse(again.stdout).request.number]).toEqual([4, number]);
    await refused(
      "alice",
      ["apply", "--request", `${number}`, "--wait"],
      "is not this account's: agent made it",
      2,
    );
    const resumed = await people.start("agent", ["apply", "--request", `${number}`, "--wait"]);
    await submitted(resumed);
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    expect(await resumed.exited).toBe(0);
    expect(await people.installed("hello-aegis")).toBe(true);
  });

  test("the executor is restarted while the agent waits: the request is kept, and the waiting goes on", async () => {
    const { number, waiting } = await ask();
    daemon.kill();
    await daemon.exited;
    daemon = await people.startDaemon();
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    expect([await waiting.exited, waiting.stderr()]).toEqual([0, expect.stringContaining("still waiting: ")]);
    expect(await people.installed("hello-aegis")).toBe(true);
  });

  test("nobody waits when it is approved: the next call applies it", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const asked = await people.as("agent", ["apply", "--request", id, "--reason", REASON]);
    expect(asked.status).toBe(4);
    expect(asked.stdout).toContain("Approvers   alice@example, bob@example");
    const number = /^Request (\d+)/.exec(asked.stdout)?.[1] ?? "";
    expect((await people.approve("bob", [number])).status).toBe(0);
    const applied = await people.as("agent", ["apply", "--request", number]);
    expect([applied.status, applied.stderr]).toEqual([0, expect.stringContaining("approved by bob@example")]);
    expect(await people.installed("hello-aegis")).toBe(true);
  });

  test("the host has changed: the approver sees what is new, and approves that", async () => {
    const { number, waiting } = await ask();
    await people.host.repo.publish(pick("hello-aegis=1.1"));
    await people.host.aptUpdate();
    const doubtful = await people.approve("alice", [`${number}`], { type: "nonsense" });
    expect(doubtful.status).toBe(6);
    expect(doubtful.screen).toContain("Changed since it was planned at");
    expect(doubtful.screen).toMatch(/Changes that are new:\n +install hello-aegis:all 1\.1/);
    expect(doubtful.screen).toMatch(/Changes that are gone:\n +install hello-aegis:all 1\.0/);
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    expect(await waiting.exited).toBe(0);
    const { stdout } = await people.host.exec(["dpkg-query", "-W", "-f", "${Version}", "hello-aegis"]);
    expect(stdout).toBe("1.1");
  });

  test("an agent without a key sees the run of what somebody else signed", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const args = ["apply", "--request", id, "--reason", REASON, "--wait"];
    const waiting = await people.start("agent", args, { XDG_CONFIG_HOME: "/home/agent/nothing" });
    const number = await submitted(waiting);
    expect(waiting.stderr()).toContain(`whoever signs types aegis sign --request ${number}`);
    await refused("ops", ["sign", "--request", `${number}`], "[approval_required]", 4);
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    const signed = await people.as("ops", ["sign", "--request", `${number}`, "--json"]);
    expect([signed.status, signed.stderr]).toEqual([0, ""]);
    const execution = JSON.parse(signed.stdout).execution_plan.execution_plan_id;
    expect((await people.as("ops", ["apply", execution])).status).toBe(0);
    expect([await waiting.exited, waiting.stdout()]).toEqual([0, expect.stringContaining(execution)]);
    expect(await people.installed("hello-aegis")).toBe(true);
  });

  test("expired: the one who waits is told, though nobody else looks", async () => {
    const { number, waiting } = await ask();
    waiting.kill("SIGKILL");
    await waiting.exited;
    const path = `/var/lib/aegis/requests/${number}.json`;
    const kept = JSON.parse(people.host.read(path));
    kept.request.expires_at = new Date(Date.now() + 4000).toISOString();
    people.host.write(path, JSON.stringify(kept), 0o600);
    const late = await people.as("agent", ["apply", "--request", `${number}`, "--wait"]);
    expect([late.status, late.stderr]).toEqual([4, expect.stringContaining(`request ${number} expired`)]);
    expect((await people.as("alice", ["sign", "inbox"])).stdout).toContain("No request waits.");
  });

  test("what policy denies is never submitted", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    people.host.write("/etc/aegis/policy.toml", '[apt]\ninstall = "deny"\n');
    const before = people.audit().length;
    await refused("agent", ["apply", "--request", id, "--reason", REASON], "[policy_denied]", 3);
    people.host.write("/etc/aegis/policy.toml", "");
    expect(people.audit()).toHaveLength(before);
  });

  test("refused before anything is asked, and without a terminal", async () => {
    const update = await people.plan("apt", "update");
    const asking = (id: string) => ["apply", "--request", id, "--reason", REASON];
    await refused("agent", asking(update), "nobody has to approve", 2);
    const id = await people.plan("apt", "install", "hello-aegis");
    await refused("agent", asking(id).slice(0, 3), "a request needs a reason", 2);
    await refused("agent", [...asking("latest")], "by its path or full id", 2);
    await refused("agent", ["apply", "--request", "999", "--wait"], "there is no request 999", 2);
    const asked = await people.as("agent", [...asking(id), "--json"]);
    const { number } = JSON.parse(asked.stdout).request;
    await refused("alice", ["sign", "approve", `${number}`], "there is no terminal to ask on", 6);
    // Not --confirm, which is for plans.
    await refused("alice", ["sign", "approve", `${number}`], `sign approve ${number} --via <user@host>`, 6);
    await refused("agent", ["sign", "approve", `${number}`], "[invalid_key]", 2);
    await refused(
      "alice",
      ["sign", "approve", `${number}`, "--confirm", "0".repeat(64)],
      "not for a request",
      2,
    );
    // A person's own request, with their own key.
    const theirs = JSON.parse(
      (await people.as("alice", ["plan", "apt", "install", "hello-aegis", "--json"])).stdout,
    );
    const own = await people.as("alice", [...asking(theirs.plan.plan_id), "--json"]);
    const mine = JSON.parse(own.stdout).request.number;
    const self = await people.approve("alice", [`${mine}`]);
    expect([self.status, self.screen]).toEqual([6, expect.stringContaining("can't approve it as well")]);
    await people.as("alice", ["sign", "withdraw", `${mine}`]);
    await people.as("agent", ["sign", "withdraw", `${number}`]);
    expect(await people.installed("hello-aegis")).toBe(false);
  });
});

describeOnThrowaway("two people must approve", () => {
  let people: Handover;
  let number = 0;
  let waiting: Running;
  beforeAll(async () => {
    people = await startHandover("[approvals]\nrequired = 2\n");
    await people.host.repo.publish(pick("hello-aegis=1.0"));
    await people.host.aptUpdate();
    await people.startDaemon();
    const id = await people.plan("apt", "install", "hello-aegis");
    waiting = await people.start("agent", ["apply", "--request", id, "--reason", REASON, "--wait"]);
    number = await submitted(waiting);
  });
  afterAll(() => people.host.stop());
  const yes = (who: Person): Promise<Approved> => people.approve(who, [`${number}`]);

  test("one is not enough, the same person doesn't count twice, and a change undoes the first", async () => {
    const first = await yes("alice");
    expect(first.screen).toContain(`Request ${number} has 1 of 2 approvals.`);
    const twice = await yes("alice");
    expect([twice.status, twice.screen]).toEqual([6, expect.stringContaining("already approved")]);
    await people.host.repo.publish(pick("hello-aegis=1.1"));
    await people.host.aptUpdate();
    const second = await yes("bob");
    expect(second.screen).toContain("1 earlier approval of that plan won't count for this one");
    expect(second.screen).toContain(`Request ${number} has 1 of 2 approvals.`);
  });

  test("planned again with the same result, the earlier approval stays, and both are in the log", async () => {
    const third = await yes("alice");
    expect(third.screen).toContain("Planned again just now: the same change");
    expect(third.screen).toContain(`Request ${number} is approved`);
    expect(await waiting.exited).toBe(0);
    expect(await people.installed("hello-aegis")).toBe(true);
    const started = people.audit().find(({ kind }) => kind === "execution_started");
    expect(started?.details["approved_by"]).toMatchObject([
      { name: "bob@example" },
      { name: "alice@example" },
    ]);
  });
});

describeOnThrowaway("from another machine, through ssh", () => {
  const server = debianPackages("openssh-server");
  const { test: sshTest } = needs(server !== null, "Debian's openssh-server");
  let people: Handover;
  beforeAll(async () => {
    people = await startHandover();
    await people.host.repo.publish(pick("hello-aegis=1.0"));
    await people.host.aptUpdate();
    await people.startDaemon();
    if (server !== null) await startSshd(people.host, server);
  }, 120_000);
  afterAll(() => people.host.stop());

  sshTest("bob's key approves on bob's side; on the host alice's account decides", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const waiting = await people.start("agent", ["apply", "--request", id, "--reason", REASON, "--wait"]);
    const number = await submitted(waiting);
    const inbox = await people.as("bob", ["sign", "inbox", "--via", "web1"]);
    expect([inbox.status, inbox.stderr]).toEqual([0, ""]);
    expect(inbox.stdout).toContain(`aegis sign approve ${number} --via web1`);
    const { status, screen } = await people.approve("bob", [`${number}`, "--via", "web1"], { columns: 80 });
    expect(screen).toContain("Everything here is the word of web1");
    expect(screen).toContain(`Request ${number} is approved`);
    expect(status).toBe(0);
    expect(await waiting.exited).toBe(0);
    expect(await people.installed("hello-aegis")).toBe(true);
    const approved = people.audit().find(({ kind }) => kind === "request_approved");
    expect(approved).toMatchObject({ actor: expect.stringMatching(/^bob@example/), details: { uid: 61001 } });
  });

  sshTest("rejected from there; a host that isn't reached is named", async () => {
    await people.host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
    const id = await people.plan("apt", "install", "hello-aegis");
    const asked = await people.as("agent", ["apply", "--request", id, "--reason", REASON, "--json"]);
    const number = String(JSON.parse(asked.stdout).request.number);
    const no = await people.as("bob", ["sign", "reject", number, "--reason", "not today", "--via", "web1"]);
    expect([no.status, no.stderr]).toEqual([0, ""]);
    const ended = await people.as("agent", ["apply", "--request", number, "--wait"]);
    expect([ended.status, ended.stderr]).toEqual([3, expect.stringContaining("not today")]);
    const gone = await people.as("bob", ["sign", "show", "999", "--via", "web1"]);
    expect([gone.status, gone.stderr]).toEqual([
      2,
      expect.stringContaining("web1 says: there is no request 999"),
    ]);
    const nowhere = await people.as("bob", ["sign", "inbox", "--via", "nowhere"]);
    expect([nowhere.status, nowhere.stderr]).toEqual([
      8,
      expect.stringContaining("ssh to nowhere gave no answer"),
    ]);
  });
});

/** sshd inside the host on a free port; bob's ssh reaches alice's account there as `web1`. */
async function startSshd(host: ThrowawayHost, server: string): Promise<Running> {
  await unpackPackages(host, server);
  const port = freePort();
  host.write(
    "/home/bob/.ssh/config",
    [
      ...["Host web1", "HostName 127.0.0.1", `Port ${port}`, "User alice"],
      ...["StrictHostKeyChecking accept-new", "ForwardAgent yes", "BatchMode yes", "LogLevel ERROR"],
      ...["Host nowhere", "HostName 127.0.0.1", "Port 1", "BatchMode yes", ""],
    ].join("\n"),
  );
  const set = `
    getent passwd sshd >/dev/null || echo sshd:x:61099:65534::/run/sshd:/usr/sbin/nologin >> /etc/passwd
    install -d -m 0755 /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/throwaway
    ssh-keygen -q -t ed25519 -N '' -f /home/bob/.ssh/id_ed25519
    install -d -m 0700 -o alice -g alice /home/alice/.ssh
    install -m 0600 -o alice -g alice /home/bob/.ssh/id_ed25519.pub /home/alice/.ssh/authorized_keys
    chown -R bob:bob /home/bob/.ssh; chmod 0700 /home/bob/.ssh`;
  const { status, stderr } = await host.exec(["sh", "-ec", set]);
  if (status !== 0) throw new Error(stderr);
  const options = ["HostKey=/etc/ssh/throwaway", "UsePAM=no", "ListenAddress=127.0.0.1", "PidFile=none"];
  const flags = options.flatMap((option) => ["-o", option]);
  const sshd = await host.spawn([
    "/usr/sbin/sshd",
    "-D",
    "-e",
    "-f",
    "/dev/null",
    "-p",
    String(port),
    ...flags,
  ]);
  for (let n = 0; n < 200 && !sshd.stderr().includes("Server listening"); n++) await Bun.sleep(25);
  return sshd;
}

function freePort(): number {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const { port = 0 } = server;
  server.stop(true);
  return port;
}
