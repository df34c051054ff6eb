import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { canonicalJson } from "../src/canonical.ts";
import type { ExecutionPlan } from "../src/doc.ts";
import type { Attempts, Task } from "./compromised-front.ts";
import { brokenInvariants, eventually, kindsOf, plain, resultOf } from "./e2e-running.ts";
import { ROOT } from "./kit.ts";
import type { Came, Deed } from "./request-client.ts";
import { describeOnSystemd, type Production, ranTwice, startProduction } from "./systemd-kit.ts";
import { pick } from "./throwaway-packages.ts";

/*
 * A compromised front, played: another program in the place of aegisd.service, as its user and in its sandbox. Whatever
 * it sends and touches, it runs nothing that is not signed, approved and new, and nothing of root's.
 */

const HOME = "/opt/attacker";
const DROP_IN = "/run/systemd/system/aegisd.service.d/attacker.conf";

describeOnSystemd("a compromised front", (suite) => {
  let chain: Production;
  let attempts: Attempts;
  let ordered: ExecutionPlan[];
  let lied: { execution: ExecutionPlan; path: string };
  beforeAll(async () => {
    chain = await startProduction(suite);
    const { host } = chain;
    await host.repo.publish([...pick("hello-aegis=1.0", "libapp=1.0"), ...plain("quick", 9)]);
    await host.aptUpdate();
    const signed = (name: string) => chain.signed("apt", "install", name);
    const used = await signed("hello-aegis");
    expect((await chain.apply(used.path, "alice")).status).toBe(0);

    const names = ["libapp", ...Array.from({ length: 8 }, (_, n) => `quick${n}`)];
    const all = await Promise.all(names.map(signed));
    const of = (name: string) => {
      const found = all[names.indexOf(name)];
      if (found === undefined) throw new Error(name);
      return found;
    };
    const good = of("quick0").execution;
    const other = of("libapp").execution;
    const unapproved = { ...of("quick1").execution, approvals: [] };
    const abroad = of("quick2").execution;
    const plan = { ...abroad.operation_plan, host: { ...abroad.operation_plan.host, hostname: "elsewhere" } };
    const longer = {
      ...of("quick3").execution,
      expires_at: new Date(Date.now() + 9e8).toISOString(),
    };
    const forged = async (execution: object) => host.read(await chain.forge(execution));
    const text = (execution: object) => canonicalJson(execution);
    const plans = {
      unsigned: text({ ...good, signature: { ...good.signature, signature: `${"A".repeat(86)}==` } }),
      "without a signature": text((({ signature: _, ...rest }) => rest)(good)),
      "by a key nobody trusts": text({ ...good, signature: { ...good.signature, key_id: "mallory" } }),
      "another argv": text({ ...good, argv: [...good.argv, "libapp"] }),
      "another plan inside": text({ ...good, operation_plan: other.operation_plan }),
      "spelled otherwise": ` ${text(good)}`,
      "used before": text(used.execution),
      "the same under a new id": await forged({ ...used.execution, execution_plan_id: crypto.randomUUID() }),
      "signed, but not approved": await forged(unapproved),
      "signed, for another host": await forged({ ...abroad, operation_plan: plan }),
      "signed, for too long": await forged(longer),
    };
    ordered = ["quick4", "quick5", "quick6"].map((name) => of(name).execution);
    lied = of("quick7");
    const task: Task = {
      plans: { ...plans, ...Object.fromEntries(ordered.map((one, n) => [`in order ${n}`, text(one)])) },
      ordered: ordered.map((_, n) => `in order ${n}`),
      victim: Number((await host.systemctl("show", "-P", "MainPID", "systemd-journald.service")).trim()),
      port: Number(new URL(host.repo.url).port),
    };

    const built = await Bun.build({ entrypoints: [join(ROOT, "test/compromised-front.ts")], target: "bun" });
    host.write(`${HOME}/front.js`, (await built.outputs[0]?.text()) ?? "");
    host.write(`${HOME}/bun`, readFileSync(process.execPath), 0o755);
    host.write(`${HOME}/task.json`, JSON.stringify(task));
    const words = [`${HOME}/bun`, `${HOME}/front.js`, `${HOME}/task.json`].join(" ");
    const output = `StandardOutput=file:${HOME}/attempts.json`;
    host.write(DROP_IN, `[Service]\nExecStart=\nExecStart=${words}\nExecPaths=${HOME}\n${output}\n`);
    await host.systemctl("daemon-reload");
    await host.systemctl("restart", "aegisd.service");
    attempts = await eventually(() => {
      const said = host.read(`${HOME}/attempts.json`);
      return said.endsWith("\n") && JSON.parse(said);
    }, 200);
  }, 120_000);
  afterAll(() => chain?.stop());

  test.each([
    "read the log",
    "add to the log",
    "hold the log's lock",
    "list the locks",
    "hold the run lock",
    "jump the queue",
    "forget what was used",
    "write a result",
    "plant a package",
    "trust its own key",
    "loosen the policy",
    "replace the program",
    "remove the runner's socket",
    "make a socket of its own",
    "write a unit",
    "read root's home",
    "read the reviewer's key",
    "signal root's process",
    "become root",
    "start a program",
    "ask systemd",
    "speak on D-Bus",
    "fill the disk",
    "use the network",
  ])("can't %s", (name) => {
    expect(attempts[name]).toMatch(/^(?:EACCES|EPERM|EROFS|ENOENT|ECONNREFUSED)$/);
  });

  test("can't see root's processes", () => expect(attempts["see root's process"]).toBe("ENOENT"));

  test.each([
    ["unsigned", "signature_invalid"],
    ["without a signature", "invalid_document"],
    ["by a key nobody trusts", "key_untrusted"],
    ["another argv", "signature_invalid"],
    ["another plan inside", "signature_invalid"],
    ["spelled otherwise", "not_canonical"],
    ["used before", "replay"],
    ["the same under a new id", "replay"],
    ["signed, but not approved", "approval_required"],
    ["signed, for another host", "wrong_host"],
    ["signed, for too long", "expired"],
    ["send noise", "io.aegis.Executor.Refused"],
    ["call what is not there", "org.varlink.service.MethodNotFound"],
  ])("can't have a plan run: %s", (name, code) => expect(attempts[name]).toBe(code));

  test("can't ask in anybody's name, nor answer who calls", () => {
    expect(attempts["withdraw in root's name"]).toMatch(/^timeout (?:EACCES|EROFS)$/);
    expect(attempts["withdraw in its own name"]).toBe("refused");
    const denied = chain.audit().filter(({ kind }) => kind === "request_denied");
    expect(denied.map(({ details }) => (details as { code: string }).code)).toEqual(["timeout", "refused"]);
  });

  test("what it hands over runs in the order in which it came, in the name of who signed it", () => {
    const started = chain.audit().filter(({ kind }) => kind === "execution_started");
    const ids = ordered.map((execution) => execution.execution_plan_id);
    expect(started.map((event) => event["execution_id"]).slice(1)).toEqual(ids);
    for (const { actor } of started) expect(actor).toStartWith("ops@example");
    for (const [n, id] of ids.entries()) {
      expect(attempts[`in order ${n}`]).toBe("completed");
      expect(resultOf(chain, id)?.state).toBe("completed");
    }
  });

  test("its reports cost a bounded number of lines", () => {
    const reports = chain.audit().filter(({ kind }) => kind === "requests_refused");
    expect(reports.length).toBeLessThanOrEqual(7);
    expect(JSON.stringify(reports)).not.toContain("xxxx");
  });

  test("its word that a plan was run is not believed by the client", async () => {
    const { status, stdout, stderr } = await chain.apply(lied.path, "alice");
    expect([status, stdout, stderr]).toEqual([8, "", expect.stringContaining("has no outcome")]);
    expect(await chain.dpkgStatus("quick7")).not.toBe("install ok installed");
  });

  test("when it is gone, all is as before, and what it lied about can be run", async () => {
    await chain.host.exec(["rm", DROP_IN]);
    await chain.host.systemctl("daemon-reload");
    await chain.host.systemctl("restart", "aegisd.service");
    expect((await chain.apply(lied.path, "alice")).status).toBe(0);
    expect(kindsOf(chain, lied.execution.execution_plan_id)).toEqual([
      "execution_started",
      "execution_completed",
    ]);
    for (const n of [0, 1, 2, 3]) expect(await chain.dpkgStatus(`quick${n}`)).not.toContain("installed");
    expect([...(await brokenInvariants(chain)), ...ranTwice(chain)]).toEqual([]);
  });

  test("requests work under the units: who asks is known, who waits is told, and only the runner writes", async () => {
    const { host } = chain;
    const built = await Bun.build({ entrypoints: [join(ROOT, "test/request-client.ts")], target: "bun" });
    host.write(`${HOME}/client.js`, (await built.outputs[0]?.text()) ?? "");
    const deeds = async (user: "alice" | "root", ...list: Deed[]): Promise<Came[]> => {
      const { stdout, stderr } = await host.exec([`${HOME}/bun`, `${HOME}/client.js`], {
        user,
        stdin: JSON.stringify(list),
      });
      const lines = stdout.trimEnd().split("\n");
      if (lines.length !== list.length) throw new Error(`${stdout}${stderr}`);
      return lines.map((line) => JSON.parse(line));
    };
    const { plan, plan_hash } = await chain.plan("apt", "install", "quick8");
    const { result } = await chain.policy(plan.plan_id);
    const texts = { operation_plan: canonicalJson(plan), policy_result: canonicalJson(result), review: null };
    const [asked] = await deeds("alice", { do: "submit", given: { ...texts, reason: "web server" } });
    expect(asked).toMatchObject({ done: { number: 1, user: "alice", state: "open", plan_hash } });
    const waiting = deeds("alice", { do: "watch", given: { number: 1, revision: 1 } });
    await Bun.sleep(1000);
    // Nobody waits in a process of root's.
    const runners = await host.systemctl("list-units", "--plain", "--no-legend", "aegis-runner@*");
    expect(runners.trim()).toBe("");
    const [withdrawn] = await deeds("root", { do: "withdraw", given: { number: 1, reason: "no longer" } });
    expect(withdrawn).toMatchObject({ done: { state: "withdrawn", end: { uid: 0, reason: "no longer" } } });
    expect(await waiting).toEqual([{ done: { number: 1, revision: 2, state: "withdrawn" } }]);
    const { stdout } = await host.exec([
      ...[
        "stat",
        "-c",
        "%a %U %n",
        "/var/lib/aegis/requests",
        "/run/aegis/proof",
        "/run/aegis/requests.state",
      ],
    ]);
    expect(stdout).toBe(
      "700 root /var/lib/aegis/requests\n710 root /run/aegis/proof\n644 root /run/aegis/requests.state\n",
    );
    expect((await chain.aegis(["audit", "verify", "--system"])).status).toBe(0);
  });
});
