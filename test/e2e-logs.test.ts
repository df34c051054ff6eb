import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Chain, startChain } from "./e2e-kit.ts";
import { atGate, eventually, executorProcesses, gated, kill, openGate, submit } from "./e2e-running.ts";
import type { Running } from "./throwaway.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

/*
 * What an administrator reads in the executor's own log, in the order of a day: a run that goes well, one that is refused, a
 * flood of nonsense, a crash and its end. As few lines as tell it, and no secret in any.
 */

describeOnThrowaway("the executor's own log", () => {
  let chain: Chain;
  let daemon: Running;
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.repo.publish([...["crashes"].map(gated), ...pick("hello-aegis=1.0", "bystander=1.0")]);
    await chain.host.aptUpdate();
    daemon = await chain.startDaemon({ AEGIS_LOG_FORMAT: "json" });
  });
  afterAll(() => chain.stop());

  const lines = (): Record<string, unknown>[] =>
    daemon
      .stderr()
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  /** The lines that `action` leads to: what, whose, why. Each is one JSON object, as all are. */
  const during = async (action: () => Promise<unknown>, until: () => boolean = () => true) => {
    const before = lines().length;
    await action();
    await eventually(until);
    return lines().slice(before);
  };

  test("a run that goes well is two lines, with whose it is", async () => {
    const { path, execution } = await chain.signed("apt", "install", "hello-aegis");
    const id = execution.execution_plan_id;
    expect(await during(() => chain.apply(path, "alice"))).toMatchObject([
      {
        level: "info",
        message: "execution started",
        execution: id,
        uid: 61001,
        actor: expect.stringContaining("ops@"),
      },
      { level: "info", message: "execution completed", execution: id, exit_status: 0, state: "completed" },
    ]);
  });

  test("status, watching and a version asked for are none", async () => {
    expect(
      await during(async () => {
        await chain.aegis(["daemon", "status"]);
        await chain.aegis(["apply", "--watch", crypto.randomUUID()]);
      }),
    ).toEqual([]);
  });

  test("a refused plan is one line with its code, whoever refused it", async () => {
    const planned = await chain.signed("apt", "install", "bystander");
    await chain.host.aptInstall("bystander");
    const id = planned.execution.execution_plan_id;
    expect(await during(() => chain.apply(planned.path, "alice"))).toMatchObject([
      { level: "warn", message: "execution denied", execution: id, uid: 61001, code: "drift" },
    ]);
    const refused = await during(
      () => chain.submit("{}"),
      () => lines().some(({ message }) => message === "refused requests"),
    );
    expect(refused).toMatchObject([
      { level: "warn", message: "refused requests", count: 1, codes: "invalid_document 1", uids: "0" },
    ]);
  });

  test("a crash and its end: what died, what became of the execution", async () => {
    const { path, execution } = await chain.signed("apt", "install", "crashes");
    const id = execution.execution_plan_id;
    const found = await during(
      async () => {
        const client = await submit(chain, path);
        await atGate(chain, "crashes");
        kill(executorProcesses(chain, "runner").filter(({ argv }) => argv.includes("--runner")));
        await eventually(() => lines().some(({ message }) => String(message).includes("waiting for it")));
        openGate(chain, "crashes");
        expect(await client.exited).toBe(7);
      },
      () => lines().some(({ message }) => message === "execution interrupted"),
    );
    const told = found.map(({ level, message, execution }) => [level, message, execution]);
    expect(told).toContainEqual(["info", "execution started", id]);
    expect(told).toContainEqual(["error", "a runner died", undefined]);
    expect(told).toContainEqual(["warn", "execution interrupted", id]);
    expect(told.length).toBeLessThanOrEqual(6);
  });

  test("no secret was in any line", () => {
    const secrets = ["/root/keys/sign", "/home/alice/keys/approve"].map(
      (path): string => JSON.parse(chain.host.read(path)).secret_key_hex,
    );
    expect(secrets.every((secret) => /^[0-9a-f]{64}$/.test(secret))).toBe(true);
    for (const secret of secrets) expect(daemon.stderr()).not.toContain(secret);
  });
});
