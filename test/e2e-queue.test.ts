import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { canonicalJson } from "../src/canonical.ts";
import { type Chain, startChain } from "./e2e-kit.ts";
import {
  AEGIS,
  atGate,
  brokenInvariants,
  eventually,
  executorProcesses,
  gated,
  kill,
  kindsOf,
  openGate,
  plain,
  processes,
  resultOf,
  submit,
} from "./e2e-running.ts";
import type { Running } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";
import { call, RawClient, REFUSED, startRunner } from "./varlink-kit.ts";

const COUNT = 20;
/** More clients of one user than may watch at a time. */
const REJOINING = 11;
const NO_APPROVAL = '[apt]\ninstall = "allow"\n';

describeOnThrowaway("the queue", () => {
  let chain: Chain;
  let daemon: Running;
  beforeAll(async () => {
    chain = await startChain();
    const gates = ["first-in-queue", "secretive", "left-alone", "front-dies", "in-the-way"].map(gated);
    const others = pick("hello-aegis=1.0", "postinst-fails=1.0", "libapp=1.0", "bystander=1.0");
    await chain.host.repo.publish([
      ...gates,
      ...plain("queued", COUNT + 1),
      ...plain("rejoin", REJOINING),
      ...["crowded-out", "told-by-file"].map((name) => ({ name, version: "1.0" })),
      ...others,
    ]);
    await chain.host.aptUpdate();
    daemon = await chain.startDaemon();
    await chain.host.exec(["useradd", "--create-home", "--groups", "aegis-admin", "carol"]);
  });
  afterAll(() => chain.stop());

  const without = (approvals: boolean) =>
    chain.host.write("/etc/aegis/policy.toml", approvals ? "" : NO_APPROVAL);
  const startedIds = () =>
    chain
      .audit()
      .filter(({ kind }) => kind === "execution_started")
      .map((event) => event["execution_id"]);

  /** Replays that the front turned away by itself, as it reported them. */
  const refusedByFront = () =>
    chain
      .audit()
      .filter(({ kind }) => kind === "requests_refused")
      .flatMap(({ details }) => (details as { refusals: { code: string; count: number }[] }).refusals)
      .reduce((sum, { code, count }) => sum + (code === "replay" ? count : 0), 0);

  test("bob, who is no administrator, is told so", async () => {
    without(false);
    const { path } = await chain.signed("apt", "install", "hello-aegis");
    const refused = await chain.apply(path, "bob");
    expect(refused.status).toBe(8);
    expect(refused.stderr).toContain("you may not talk to the executor");
    expect(refused.stderr).toContain("aegis-admin");
    expect(await chain.dpkgStatus("hello-aegis")).toBe("");
  });

  test(`PEER 13: ${COUNT} plans at once by one user all run, one after the other, in order of arrival`, async () => {
    const first = await chain.signed("apt", "install", "first-in-queue");
    const paths: string[] = [];
    for (let n = 0; n < COUNT; n++) paths.push((await chain.signed("apt", "install", `queued${n}`)).path);
    const clients = [await submit(chain, first.path)];
    await atGate(chain, "first-in-queue");
    clients.push(...(await Promise.all(paths.map((path) => submit(chain, path)))));
    let waiting: string[] = [];
    while (waiting.length < COUNT) {
      const { document } = await chain.json(["daemon", "status"], "root");
      waiting = (document as { queued: string[] }).queued;
      await Bun.sleep(100);
    }
    openGate(chain, "first-in-queue");
    expect(await Promise.all(clients.map((client) => client.exited))).toEqual(Array(COUNT + 1).fill(0));
    expect(startedIds().slice(-COUNT)).toEqual(waiting);
    // One after the other: each end comes before the next start.
    const kinds = chain
      .audit()
      .filter(({ kind }) => String(kind).startsWith("execution_"))
      .map(({ kind }) => kind);
    expect(kinds).toEqual(
      Array(COUNT + 1)
        .fill(["execution_started", "execution_completed"])
        .flat(),
    );
    // Everybody was told a place. Two that come in the same moment may hear the same.
    const places = clients.slice(1).map((client) => /waiting: (\d+) before/.exec(client.stderr())?.[1]);
    expect(places.map(Number).every((place) => place >= 1)).toBe(true);
    expect(new Set(places).size).toBeGreaterThan(COUNT / 2);
    expect(await chain.dpkgStatus(`queued${COUNT - 1}`)).toBe("install ok installed");
    expect(await brokenInvariants(chain)).toEqual([]);
  }, 120_000);

  test(`PEER 10: one plan ${COUNT} times at once runs once`, async () => {
    const { execution, path } = await chain.signed("apt", "install", `queued${COUNT}`);
    const refusedBefore = refusedByFront();
    const clients = await Promise.all(Array.from({ length: COUNT }, () => submit(chain, path)));
    const statuses = await Promise.all(clients.map((client) => client.exited));
    expect(statuses.sort()).toEqual([0, ...Array(COUNT - 1).fill(6)]);
    const kinds = kindsOf(chain, execution.execution_plan_id);
    expect(kinds.filter((kind) => kind !== "execution_denied")).toEqual([
      "execution_started",
      "execution_completed",
    ]);
    // Who comes when the plan has been used already may meet the front, which counts and reports a little later.
    await eventually(
      () =>
        kindsOf(chain, execution.execution_plan_id).length - 2 + refusedByFront() - refusedBefore >=
        COUNT - 1,
    );
    const denied = kindsOf(chain, execution.execution_plan_id).length - 2;
    expect(denied + refusedByFront() - refusedBefore).toBe(COUNT - 1);
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("a large plan that waits does not keep the memory that reading it took", async () => {
    without(false);
    const first = await chain.signed("apt", "install", "in-the-way");
    const small = await chain.signed("apt", "update");
    const padded = chain.edit(await chain.plan("apt", "update"), {
      provenance_evidence: Array.from({ length: 20_000 }, (_, n) => ({
        kind: "padding",
        subject: `${n}`,
        verified: true,
        key: null,
        detail: "",
      })),
      sbom_evidence: Array.from({ length: 20_000 }, (_, n) => ({ purl: `p${n}`, sha256: null })),
    });
    const large = await chain.sign(padded);
    const runners = () => executorProcesses(chain, "runner").map(({ pid }) => pid);
    const clients = [await submit(chain, first.path)];
    await atGate(chain, "in-the-way");
    /** The runner of a plan that waits now, and its own memory in kB. */
    const waiting = async (path: string, place: number) => {
      const others = runners();
      const client = await submit(chain, path);
      clients.push(client);
      await eventually(() => client.stderr().includes(`waiting: ${place} before`));
      const [pid] = runners().filter((one) => !others.includes(one));
      return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
    };
    const [one, other] = [await waiting(small.path, 1), await waiting(large.path, 2)];
    // The text of 2 MB in a few copies, and what the allocator has not given back. With the tree it was 140 MB.
    expect(other - one).toBeLessThan(60_000);
    openGate(chain, "in-the-way");
    expect(await Promise.all(clients.map((client) => client.exited))).toEqual([0, 0, 9]);
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("one approval in several execution plans at once allows one run", async () => {
    without(true);
    const planned = await chain.plan("apt", "install", "hello-aegis");
    const { result } = await chain.policy(planned.plan.plan_id);
    expect(result.decision).toBe("require_human");
    const { execution, path } = await chain.sign(planned);
    const others = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const id = crypto.randomUUID();
        return chain.forge({ ...execution, execution_plan_id: id }, id);
      }),
    );
    const clients = await Promise.all([path, ...others].map((file) => submit(chain, file, "root")));
    const statuses = await Promise.all(clients.map((client) => client.exited));
    expect(statuses.sort()).toEqual([0, 6, 6, 6, 6, 6]);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
    expect(await brokenInvariants(chain)).toEqual([]);
    without(false);
  });

  test("what is said during a run is for its owner and root; how it goes is for every administrator", async () => {
    const { execution, path } = await chain.signed("apt", "install", "secretive");
    const id = execution.execution_plan_id;
    const alice = await submit(chain, path, "alice");
    await atGate(chain, "secretive");
    const carol = ["setpriv", "--reuid=carol", "--regid=carol", "--init-groups", "env", "HOME=/home/carol"];
    const watch = [AEGIS, "apply", "--watch", id];
    const watchers = {
      root: await chain.host.spawn(watch),
      carol: await chain.host.spawn([...carol, ...watch]),
    };
    const said = "said by secretive";
    await eventually(() => watchers.root.stderr().includes(said) && alice.stderr().includes(said));
    await eventually(() => /\d+% /.test(watchers.carol.stderr()));
    openGate(chain, "secretive");
    for (const it of [alice, watchers.root, watchers.carol]) expect(await it.exited).toBe(0);
    expect(watchers.carol.stderr()).not.toContain(said);
    expect(watchers.carol.stdout()).toContain("done");
    const mode = (await chain.host.exec(["stat", "-c", "%U:%G %a", `/var/lib/aegis/results/${id}.json`]))
      .stdout;
    expect(mode.trim()).toBe("root:aegis-admin 640");
    const output = await chain.host.exec(["cat", `/var/lib/aegis/runs/${id}/stdout`], { user: "alice" });
    expect(output.status).not.toBe(0);
  });

  test("who watches and leaves takes no place at the runner with them", async () => {
    const { execution, path } = await chain.signed("apt", "install", "left-alone");
    const alice = await submit(chain, path, "alice");
    await atGate(chain, "left-alone");
    const watchers = await Promise.all(
      [1, 2, 3].map(() => chain.host.spawn([AEGIS, "apply", "--watch", execution.execution_plan_id])),
    );
    await eventually(() => executorProcesses(chain, "runner").length === 4);
    kill(processes(chain).filter(({ argv }) => argv.includes("--watch")));
    await Promise.all(watchers.map((one) => one.exited));
    await eventually(() => executorProcesses(chain, "runner").length === 1);
    openGate(chain, "left-alone");
    expect(await alice.exited).toBe(0);
  });

  test("the front dies while many wait: those who find no place to watch from hear the outcome too", async () => {
    const first = await chain.signed("apt", "install", "front-dies");
    const paths: string[] = [];
    for (let n = 0; n < REJOINING; n++) paths.push((await chain.signed("apt", "install", `rejoin${n}`)).path);
    const clients = [await submit(chain, first.path)];
    await atGate(chain, "front-dies");
    clients.push(...(await Promise.all(paths.map((path) => submit(chain, path)))));
    await eventually(() => clients.every((client) => /waiting|% /.test(client.stderr())));
    kill(executorProcesses(chain, "front"));
    const told = (words: string) => clients.filter((client) => client.stderr().includes(words)).length;
    await eventually(() => told("connection lost") === clients.length);
    await eventually(() => told("too many clients are watching") > 0);
    openGate(chain, "front-dies");
    expect(await Promise.all(clients.map((client) => client.exited))).toEqual(Array(REJOINING + 1).fill(0));
    expect(clients.filter((client) => client.stdout().includes("done")).length).toBe(clients.length);
    expect(await brokenInvariants(chain)).toEqual([]);
  }, 120_000);

  test("whoever watches and leaves, again and again, keeps nobody out", async () => {
    const { path } = await chain.signed("apt", "install", "crowded-out");
    let watched = 0;
    const leaving = Array.from({ length: 6 }, async () => {
      for (; watched < 400; watched++) {
        const it = new RawClient(chain.host.path("/run/aegis/aegisd.sock"));
        it.send(call("Watch", { execution_id: crypto.randomUUID() }, { more: true }));
        await Bun.sleep(10);
        it.socket.destroy();
      }
    });
    await eventually(() => watched > 30);
    const alice = await submit(chain, path);
    expect((await chain.aegis(["daemon", "status"], { user: "alice" })).status).toBe(0);
    expect(await alice.exited).toBe(0);
    await Promise.all(leaving);
    expect(daemon.stderr()).not.toContain("too many requests at once");
  });

  test("the front is gone for good, or for a while: the outcome comes in its file", async () => {
    const { execution, path } = await chain.signed("apt", "install", "told-by-file");
    expect((await chain.apply(path)).status).toBe(0);
    const taken = execution.execution_plan_id;
    const outcome = (id: string) =>
      canonicalJson({ ...resultOf(chain, taken), execution_plan_id: id, ended_at: null });
    const write = (id: string, owner: string) => {
      chain.host.write(`/var/lib/aegis/results/${id}.json`, outcome(id), 0o640);
      return chain.host.exec(["chown", owner, `/var/lib/aegis/results/${id}.json`]);
    };
    /** A front that answers its first call and is gone then. */
    const goingFront = async (name: string, reply: object) => {
      const at = chain.host.path(`/run/${name}.sock`);
      const front = await startRunner(at, (_, send) => {
        send(reply);
        setTimeout(front.close, 200);
      });
      await chain.host.exec(["chmod", "666", `/run/${name}.sock`]);
      return ["--socket", `/run/${name}.sock`];
    };
    const started = { parameters: { event: { execution_id: taken, kind: "started" } }, continues: true };
    const busy = { error: REFUSED, parameters: { code: "busy", message: "m", hint: "", details: {} } };
    const [first, second] = [crypto.randomUUID(), crypto.randomUUID()];
    const start = async (words: string[], socket: string[]) =>
      chain.host.spawn([AEGIS, "apply", ...words, ...socket], { user: "alice" });
    const clients = [
      await start([path], await goingFront("gone", started)),
      await start(["--watch", first], await goingFront("full", busy)),
      await start(["--watch", second], await goingFront("handed", busy)),
    ];
    await eventually(() =>
      clients.slice(1).every((it) => it.stderr().includes("too many clients are watching")),
    );
    // The file is root's alone for a moment, until it is handed to its group.
    await write(second, "root:root");
    await Bun.sleep(1100);
    await write(second, "root:aegis-admin");
    // After this time it asks for a place again, and nobody is there.
    await Bun.sleep(15_500);
    await write(first, "root:aegis-admin");
    expect(await Promise.all(clients.map((client) => client.exited))).toEqual([0, 0, 0]);
    for (const id of [first, second]) await chain.host.exec(["rm", `/var/lib/aegis/results/${id}.json`]);
  });

  test("an outcome that is not root's own is not believed", async () => {
    const { execution, path } = await chain.signed("apt", "install", "libapp");
    expect((await chain.apply(path, "alice")).status).toBe(0);
    const id = execution.execution_plan_id;
    const file = `/var/lib/aegis/results/${id}.json`;
    await chain.host.exec(["chown", "bob", file]);
    const watched = await chain.aegis(["apply", "--watch", id], { user: "alice" });
    expect([watched.status, watched.stderr]).toEqual([
      6,
      expect.stringContaining("only the executor can write"),
    ]);
    await chain.host.exec(["chown", "root", file]);
    expect((await chain.aegis(["apply", "--watch", id], { user: "alice" })).status).toBe(0);
  });

  test("PEER 12: a package manager that fails is a failure for the caller", async () => {
    const { execution, path } = await chain.signed("apt", "install", "postinst-fails");
    const { status, document } = await chain.json(["apply", path]);
    expect([status, document]).toMatchObject([7, { ok: false, state: "failed", exit_status: 100 }]);
    expect(resultOf(chain, execution.execution_plan_id)?.message).toContain("postinst-fails");
    await chain.host.exec(["dpkg", "--purge", "postinst-fails"]);
    expect(await brokenInvariants(chain)).toEqual([]);
  });

  test("an older copy of the record of used plans does not bring a used one back", async () => {
    const spent = chain.host.path("/var/lib/aegis/spent/spent.ndjson");
    const older = readFileSync(spent);
    const used = await chain.signed("apt", "install", "bystander");
    expect((await chain.apply(used.path)).status).toBe(0);
    chain.host.write("/var/lib/aegis/spent/spent.ndjson", older, 0o600);
    expect((await chain.apply(used.path)).status).toBe(6);
    // Nor once another run has been written into that copy.
    await chain.host.exec(["dpkg", "--purge", "bystander", "hello-aegis"]);
    const next = await chain.signed("apt", "install", "hello-aegis");
    expect((await chain.apply(next.path)).status).toBe(0);
    expect((await chain.apply(used.path)).status).toBe(6);
    expect(await chain.dpkgStatus("bystander")).toBe("");
  });
});
