import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Handover, handoverOn } from "./handover-kit.ts";
import type { SystemdHost } from "./systemd-container.ts";
import { bootSuite, describeOnSystemd, install } from "./systemd-kit.ts";
import { pick } from "./throwaway-packages.ts";

/* A hand-over under the real units: the front without privileges, the runner per call, and a restart of both while somebody waits. */

describeOnSystemd("hand-over", (suite) => {
  let host: SystemdHost;
  let people: Handover;
  beforeAll(async () => {
    host = await bootSuite(suite);
    await install(host);
    people = await handoverOn(host, "");
    await install(host);
    await host.repo.publish(pick("hello-aegis=1.0"));
    await host.aptUpdate();
  }, 180_000);
  afterAll(() => host?.stop());

  test("one command of the agent, one of alice, and the front restarted in between", async () => {
    const id = await people.plan("apt", "install", "hello-aegis");
    const waiting = await people.start("agent", [
      "apply",
      "--request",
      id,
      "--reason",
      "web server",
      "--wait",
    ]);
    for (let n = 0; n < 400 && !waiting.stderr().includes("request 1 waits"); n++) await Bun.sleep(25);
    await host.systemctl("restart", "aegisd.service");
    expect((await people.as("bob", ["sign", "inbox"])).stdout).toContain('"web server"');
    const { status, screen } = await people.approve("alice", ["1"], { columns: 80 });
    expect([status, screen]).toEqual([0, expect.stringContaining("Request 1 is approved")]);
    expect([await waiting.exited, waiting.stderr()]).toEqual([
      0,
      expect.stringContaining("approved by alice@example"),
    ]);
    expect(await people.installed("hello-aegis")).toBe(true);
    expect(people.audit().map(({ kind }) => kind)).toEqual(
      expect.arrayContaining([
        "request_submitted",
        "request_approved",
        "request_applied",
        "execution_completed",
      ]),
    );
    const state = host.path("/run/aegis/proof");
    expect([...new Bun.Glob("*").scanSync(state)]).toEqual([]);
  }, 120_000);
});
