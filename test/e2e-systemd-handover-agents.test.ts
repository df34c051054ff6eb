import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { canonicalJson } from "../src/canonical.ts";
import { eventually, executorProcesses, processes } from "./e2e-running.ts";
import { ask, commandOf, enter, peopleOn } from "./handover-kit.ts";
import type { HostileOutcomes, HostilePlan } from "./hostile-front.ts";
import { ROOT } from "./kit.ts";
import { needs } from "./needs.ts";
import type { Deed } from "./request-client.ts";
import type { SystemdHost } from "./systemd-container.ts";
import { bootSuite, describeOnSystemd, mustExec } from "./systemd-kit.ts";
import { AGENT_UID, fromArchive, type People, startPeople } from "./systemd-people.ts";
import { archiveReachable } from "./systemd-root.ts";
import type { Running } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";

/*
 * Hand-over on a real systemd by other ways than the command line on the host: a compromised front, a crowd that waits, an agent
 * that speaks MCP, and an approver's own machine.
 */

const BUN = "/opt/bun";
const LIES = "/tmp/lies";
const FRONT = "aegis-front";

describeOnSystemd("hand-over by other ways", (suite) => {
  let people: People;
  beforeAll(async () => {
    people = await startPeople(suite);
    await people.host.repo.publish(pick("hello-aegis=1.0", "libapp=1.0"));
    await people.host.aptUpdate();
    people.host.write(BUN, readFileSync(process.execPath), 0o755);
    for (const name of ["hostile-front", "request-client"]) {
      const { outputs } = await Bun.build({ entrypoints: [join(ROOT, `test/${name}.ts`)], target: "bun" });
      people.host.write(`/opt/${name}.js`, (await outputs[0]?.text()) ?? "");
    }
  }, 180_000);
  afterAll(() => people?.host.stop());

  const shown = async (number: number) =>
    JSON.parse((await people.as("alice", ["sign", "show", `${number}`, "--json"])).stdout).request;
  const become = (who: string) => ["setpriv", `--reuid=${who}`, `--regid=${who}`, "--init-groups", "--"];
  const deed = async (one: Deed) => {
    const { stdout, stderr } = await people.host.exec([...become("agent"), BUN, "/opt/request-client.js"], {
      stdin: JSON.stringify([one]),
      cwd: "/",
    });
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout);
  };

  test("a compromised front asks, decides and withdraws in nobody's name", async () => {
    const { number, waiting } = await ask(people, ["apt", "install", "hello-aegis"]);
    const before = await shown(number);
    const id = await people.plan("apt", "install", "libapp");
    const json = async (...args: string[]) =>
      JSON.parse((await people.as("agent", [...args, "--json"])).stdout);
    const { policy_result } = await json("policy", id);
    const store = `/home/agent/.local/share/aegis/plans/${id}.json`;
    const texts = {
      operation_plan: canonicalJson(JSON.parse(people.host.read(store))),
      policy_result: canonicalJson(policy_result),
    };
    const decide = { number, request_hash: "0".repeat(64) };
    const alice = Number((await mustExec(people.host, ["id", "-u", "alice"])).trim());
    const task: HostilePlan = {
      ...{ flood: 70, sockets: LIES, otherTexts: texts },
      calls: {
        "submit as another": { method: "Submit", parameters: { ...texts, reason: "x" }, uid: AGENT_UID },
        "submit as root": { method: "Submit", parameters: { ...texts, reason: "x" }, uid: 0 },
        "submit as itself": { method: "Submit", parameters: { ...texts, reason: "x" }, uid: null },
        approve: { method: "Decide", parameters: { ...decide, approval: "{}" }, uid: alice },
        reject: { method: "Decide", parameters: { ...decide, rejection: "{}" }, uid: alice },
        "withdraw for another": { method: "Withdraw", parameters: { number }, uid: AGENT_UID },
      },
    };
    people.host.write("/opt/hostile.json", JSON.stringify(task));
    await mustExec(people.host, ["install", "-d", "-o", FRONT, "-m", "755", LIES]);
    const hostile = await people.host.spawn(
      [
        ...["setpriv", `--reuid=${FRONT}`, `--regid=${FRONT}`, "--clear-groups", "--"],
        ...[BUN, "/opt/hostile-front.js", "/opt/hostile.json"],
      ],
      { cwd: "/" },
    );
    await eventually(() => hostile.stdout().includes("\n"), 100);
    const outcomes: HostileOutcomes = JSON.parse(hostile.stdout());
    const unproved = (uid: number) =>
      expect.stringMatching(new RegExp(`^timeout: uid ${uid} has not proved .*\\(proof: EACCES\\)$`));
    expect(outcomes).toMatchObject({
      "submit as another": unproved(AGENT_UID),
      "submit as root": unproved(0),
      "submit as itself": expect.stringMatching(/^refused: uid \d+ is the executor's own front/),
      approve: unproved(alice),
      reject: unproved(alice),
      "withdraw for another": unproved(AGENT_UID),
      "list the proofs": "EACCES",
      "make a proof": "EACCES",
      "read the requests": "EACCES",
      "change the states": "EACCES",
      flood: expect.stringContaining("timeout: uid N has not proved"),
    });
    const submit: Deed["given"] = { ...texts, review: null, reason: "web server" };
    for (const [lie, one] of [
      ["reason", { do: "submit", given: submit }],
      ["number", { do: "withdraw", given: { number, reason: null } }],
    ] as const) {
      const came = await deed({ ...one, socket: `${LIES}/${lie}.${AGENT_UID}` });
      expect([lie, came]).toEqual([lie, expect.objectContaining({ code: "refused" })]);
    }
    const lost = await deed({ do: "submit", given: submit, socket: `${LIES}/lost.${AGENT_UID}` });
    expect(lost).not.toHaveProperty("done");
    hostile.kill("SIGKILL");
    expect(await shown(number)).toEqual(before);
    const inbox = JSON.parse((await people.as("alice", ["sign", "inbox", "--json"])).stdout);
    expect(inbox.requests.map((one: { number: number }) => one.number)).toEqual([number]);
    // The real one serves as before.
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    expect([await waiting.exited, await people.installed("hello-aegis")]).toEqual([0, true]);
  }, 180_000);

  test("208 clients wait: no process of root's, little memory, others are served, a 17th of one user is refused", async () => {
    const { number, waiting } = await ask(people, ["apt", "install", "libapp"]);
    const gid = (await mustExec(people.host, ["getent", "group", "aegis-admin"])).split(":")[2] ?? "";
    const call = JSON.stringify({
      ...{ method: "io.aegis.Executor.WatchRequests", parameters: { number }, more: true },
    });
    // One after the other: until it waits, a connection counts towards the limit of those.
    const script = `const { connect } = require("node:net");
      const open = (left) => {
        if (left === 0) return console.log("all there");
        let first = true;
        const socket = connect("/run/aegis/aegisd.sock", () => socket.write(${JSON.stringify(call)} + "\\0"));
        socket.on("data", (data) => {
          const text = String(data);
          if (text.includes('"error"')) return console.log("refused");
          if (text.includes('"approved"')) console.log("told");
          if (first) open(left - 1);
          first = false;
        });
      };
      open(Number(process.argv[2]));`;
    people.host.write("/opt/crowd.js", script);
    const front = () => executorProcesses(people, "front")[0]?.pid ?? 0;
    const rss = (pid: number) =>
      Number(/^VmRSS:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
    const alone = rss(front());
    const as = (uid: number, count: number) =>
      people.host.spawn(
        [
          ...["setpriv", `--reuid=${uid}`, `--regid=${uid}`, `--groups=${gid}`, "--"],
          ...[BUN, "/opt/crowd.js", `${count}`],
        ],
        { cwd: "/" },
      );
    const crowd: Running[] = [];
    for (let n = 0; n < 13; n++) {
      const one = await as(62_000 + n, 16);
      await eventually(() => one.stdout().includes("all there"));
      crowd.push(one);
    }
    const seventeen = await as(62_100, 17);
    await eventually(() => seventeen.stdout().includes("refused"), 50);
    seventeen.kill();
    const ours = () =>
      processes(people).filter(({ argv, name }) => name === "aegis" || argv[0]?.endsWith("/aegis"));
    const root = ours().filter(({ uid, argv }) => uid === 0 && argv.includes("--runner"));
    process.stderr.write(
      `${suite}: front ${alone} kB alone, ${rss(front())} kB with 208 waiting; ${root.length} runners\n`,
    );
    expect(root).toEqual([]);
    expect(rss(front())).toBeLessThan(250 * 1024);
    const started = performance.now();
    expect((await people.as("alice", ["sign", "inbox"])).status).toBe(0);
    expect(performance.now() - started).toBeLessThan(10_000);
    expect((await people.approve("alice", [`${number}`])).status).toBe(0);
    await eventually(() => crowd.every((one) => one.stdout().split("told").length === 17), 100);
    expect([await waiting.exited, await people.installed("libapp")]).toEqual([0, true]);
    for (const one of crowd) one.kill();
    expect((await people.as("root", ["daemon", "status"])).status).toBe(0);
  }, 120_000);

  test("by MCP: planned, asked for, approved by alice, run; the tools can't decide", async () => {
    await people.host.exec(["apt-get", "remove", "-y", "hello-aegis"]);
    const [command = "", ...args] = [...enter(people.host), ...commandOf("agent", ["daemon", "--mcp"])];
    const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
    await client.connect(new StdioClientTransport({ command, args, stderr: "inherit" }));
    try {
      const { tools } = await client.listTools();
      for (const { name } of tools) expect(name).not.toMatch(/approve|reject|sign|trust/);
      const call = async (name: string, given: Record<string, unknown>) => {
        const answer = await client.callTool({ name, arguments: given }, { timeout: 100_000 });
        return answer.structuredContent as { outcome: string; result: never };
      };
      const targets = ["hello-aegis"];
      const planned = await call("plan", { ecosystem: "apt", operation: "install", targets });
      const { plan_id } = (planned.result as { summary: { plan_id: string } }).summary;
      expect((await call("policy", { plan_id })).outcome).toBe("approval_needed");
      const asked = await call("request", { plan_id, reason: "web server" });
      const { number } = (asked.result as { request: { number: number } }).request;
      expect((await call("request_status", { number })).result).toMatchObject({ request: { state: "open" } });
      const waiting = call("request", { plan_id, reason: "web server", wait_minutes: 5 });
      expect((await people.approve("alice", [`${number}`])).status).toBe(0);
      expect((await waiting).outcome).toBe("ok");
      expect(await people.installed("hello-aegis")).toBe(true);
      expect((await call("request_status", { number })).result).toMatchObject({
        request: { state: "applied" },
      });
      expect(JSON.stringify(await call("executions", {}))).toContain("completed");
    } finally {
      await client.close();
    }
  }, 120_000);

  needs(archiveReachable(suite), "the distribution's archive").test(
    "from alice's own machine through ssh: her key is not on the host",
    async () => {
      let laptop: SystemdHost | undefined;
      try {
        laptop = await bootSuite(suite);
        const { host } = people;
        await Promise.all([fromArchive(host, "openssh-server"), fromArchive(laptop, "openssh-client")]);
        await mustExec(laptop, ["install", "-m", "755", "/root/aegis", "/usr/local/bin/aegis"]);
        const alice = peopleOn(laptop);
        const make = ["sign", "keygen", "--role", "approval", "--name", "alice@laptop", "--json"];
        const { public_path } = JSON.parse((await alice.as("alice", make)).stdout);
        host.write("/root/laptop.pub", laptop.read(public_path));
        await mustExec(host, commandOf("root", ["sign", "trust", "add", "/root/laptop.pub"]));
        await mustExec(host, ["rm", "-r", "/home/alice/.config/aegis"]);
        await startSshd(host, laptop);
        await host.exec(["apt-get", "remove", "-y", "libapp"]);
        const { number, waiting } = await ask(people, ["apt", "install", "libapp"]);
        const here = await people.approve("alice", [`${number}`]);
        expect([here.status, here.screen]).toEqual([2, expect.stringContaining("[invalid_key]")]);
        const inbox = await alice.as("alice", ["sign", "inbox", "--via", "web1"]);
        expect([inbox.status, inbox.stderr]).toEqual([0, ""]);
        expect(inbox.stdout).toContain(`aegis sign approve ${number} --via web1`);
        const { status, screen } = await alice.approve("alice", [`${number}`, "--via", "web1"], {
          columns: 80,
        });
        expect(screen).toContain("Everything here is the word of web1");
        expect([status, screen]).toEqual([0, expect.stringContaining(`Request ${number} is approved`)]);
        expect([await waiting.exited, await people.installed("libapp")]).toEqual([0, true]);
        const approved = people.audit().findLast(({ kind }) => kind === "request_approved");
        expect(approved?.actor).toStartWith("alice@laptop");
      } finally {
        await laptop?.stop();
      }
    },
    180_000,
  );

  test("the log verifies, and the status is clean", async () => {
    expect((await people.as("root", ["audit", "verify", "--system"])).status).toBe(0);
    expect((await people.as("root", ["daemon", "status"])).stdout).toContain("0 failures");
  });
});

/** sshd of the host on a free port of the loopback that both share; alice's ssh reaches her account there as `web1`. */
async function startSshd(host: SystemdHost, laptop: SystemdHost): Promise<void> {
  const free = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const { port = 0 } = free;
  await free.stop(true);
  const config = ["Host web1", "HostName 127.0.0.1", `Port ${port}`, "User alice", "BatchMode yes"];
  laptop.write(
    "/home/alice/.ssh/config",
    [...config, "StrictHostKeyChecking accept-new", "LogLevel ERROR", ""].join("\n"),
  );
  await mustExec(laptop, [
    "ssh-keygen",
    "-q",
    "-t",
    "ed25519",
    "-N",
    "",
    "-f",
    "/home/alice/.ssh/id_ed25519",
  ]);
  await mustExec(laptop, [
    "sh",
    "-c",
    "chown -R alice: /home/alice/.ssh; chmod 700 /home/alice/.ssh; chmod 600 /home/alice/.ssh/*",
  ]);
  host.write("/home/alice/.ssh/authorized_keys", laptop.read("/home/alice/.ssh/id_ed25519.pub"), 0o600);
  await mustExec(host, [
    "sh",
    "-c",
    "chown -R alice: /home/alice/.ssh; chmod 700 /home/alice/.ssh; mkdir -p /run/sshd",
  ]);
  const options = [`Port=${port}`, "ListenAddress=127.0.0.1", "PidFile=none"].flatMap((one) => ["-o", one]);
  const sshd = await host.spawn(["/usr/sbin/sshd", "-D", "-e", ...options]);
  await eventually(() => sshd.stderr().includes("Server listening"), 50);
}
