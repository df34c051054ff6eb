import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Chain, startChain } from "./e2e-kit.ts";
import { pick } from "./throwaway-packages.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

describeOnThrowaway("one package from intent to audit", () => {
  let chain: Chain;
  beforeAll(async () => {
    chain = await startChain();
    await chain.host.repo.publish(pick("hello-aegis=1.0"));
    await chain.host.aptUpdate();
    await chain.startDaemon();
  });
  afterAll(() => chain.stop());

  test("is installed, audited, and never run again (PEER 10)", async () => {
    const { execution, path } = await chain.signed("apt", "install", "hello-aegis");
    const first = await chain.apply(path, "alice");
    expect(first.stderr).not.toContain("error");
    expect(first.status).toBe(0);
    expect(await chain.dpkgStatus("hello-aegis")).toBe("install ok installed");
    const again = await chain.apply(path, "alice");
    expect(again.status).toBe(6);
    expect(again.stderr).toContain("[replay]");
    const kinds = chain.audit().map((event) => [event["kind"], event["execution_id"]]);
    const id = execution.execution_plan_id;
    expect(kinds).toEqual([
      ["execution_started", id],
      ["execution_completed", id],
      ["execution_denied", id],
    ]);
    expect((await chain.aegis(["audit", "verify", "--path", "/var/log/aegis"])).status).toBe(0);

    // Who asked, who approved, what it was: in the start and the end, and in what people are shown.
    const names = { approved_by: [{ name: "alice@example", key_id: expect.any(String) }] };
    const what = { operation: "apt install hello-aegis", packages: { install: ["hello-aegis 1.0"] } };
    for (const event of chain.audit().slice(0, 2))
      expect(event["details"]).toMatchObject({ ...names, ...what });
    expect(chain.audit()[2]?.["details"]).toMatchObject(what);
    const shown = (await chain.aegis(["audit", "show", "--system"], { user: "alice" })).stdout
      .trimEnd()
      .split("\n");
    expect(shown).toHaveLength(4);
    for (const line of shown.slice(1)) expect(line).toMatch(/ ops@example \(key .*install hello-aegis 1\.0/);
    for (const line of shown.slice(1, 3)) expect(line).toContain(" alice@example (key ");
    const { document } = await chain.json(["daemon", "status", "--socket", "/run/aegis/aegisd.sock"]);
    expect(document).toMatchObject({
      recent: [
        {
          execution_id: id,
          command: "apt-get install -y hello-aegis=1.0",
          actor: expect.stringMatching(/^ops@example/),
        },
      ],
    });
    const result = JSON.parse(chain.host.read(`/var/lib/aegis/results/${id}.json`));
    expect(Date.parse(result.turn_at)).toBeLessThanOrEqual(Date.parse(result.started_at));
    expect(first.stdout).toMatch(/ s to check it and plan again, .* s to run it/);
  });
});
