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
  });
});
