import { afterAll, beforeAll, expect, test } from "bun:test";
import { identify } from "../src/sys-process.ts";
import { installStateWorker } from "./kit.ts";
import { startHost, type ThrowawayHost } from "./throwaway.ts";
import { describeOnThrowaway } from "./throwaway-suite.ts";

const ID = "aaaaaaaa-0000-4000-8000-000000000000";

describeOnThrowaway("whether the apt of a marked run is at work, by the record of its process", () => {
  let host: ThrowawayHost;
  let worker: string[];
  let living: { pid: number; start: number; boot: string };

  beforeAll(async () => {
    host = await startHost();
    worker = await installStateWorker(host);
    await host.exec([...worker, "prepare"]);
    const { pid, insidePid } = await host.spawn(["sleep", "1000"]);
    living = { ...identify(pid), pid: insidePid };
    const result = {
      schema_version: "1.0",
      execution_plan_id: ID,
      plan_id: ID,
      argv: ["apt-get", "update"],
      state: "running",
      exit_status: null,
      code: null,
      message: null,
      actor: null,
      turn_at: null,
      started_at: "2026-01-02T03:04:05Z",
      ended_at: null,
      submitted_by_uid: 0,
      not_as_planned: [],
      changed_besides: [],
      inverse: null,
    };
    const marker = { result, transaction: [], before: {}, actor: "x" };
    host.write("/var/lib/aegis/lock/current.json", JSON.stringify(marker));
  });
  afterAll(() => host.stop());

  const CASES: [what: string, record: () => unknown, atWork: boolean][] = [
    ["of an earlier boot", () => ({ ...living, boot: "00000000-0000-4000-8000-000000000000" }), false],
    ["without a boot, as older versions wrote it", () => ({ pid: living.pid, start: living.start }), false],
    ["of an earlier process", () => ({ ...living, start: living.start - 1 }), false],
    ["no record", () => null, false],
    ["of a living process", () => living, true],
  ];
  for (const [what, record, atWork] of CASES) {
    test(what, async () => {
      host.write(`/var/lib/aegis/runs/${ID}/process.json`, JSON.stringify(record()));
      const { stdout } = await host.exec([...worker, "atWork"]);
      expect(JSON.parse(stdout)).toBe(atWork);
    });
  }
});
