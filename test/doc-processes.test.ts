import { afterAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readProcesses, runningProcesses, type SeenProcesses, writeProcesses } from "../src/doc-processes.ts";

const directory = mkdtempSync(join(tmpdir(), "aegis-processes-"));
afterAll(() => rmSync(directory, { recursive: true }));

const BOOT = "8f14e45f-ceea-467f-a9d3-1a2b3c4d5e6f";
const OWNER = process.getuid?.() ?? 0;
const seen: SeenProcesses = {
  schema_version: "1.0",
  seen_at: "2026-11-30T20:00:00.000Z",
  boot_id: BOOT,
  unseen: 0,
  units: [
    {
      unit: "a.service",
      files: ["/usr/bin/a"],
      old: [{ path: "/usr/lib/x.so", processes: [{ pid: 7, start: 70 }] }],
      since: "2026-11-30T19:00:00.000Z",
    },
  ],
  reboot: [],
};

test("written and read, by nobody but root and its group", () => {
  const path = join(directory, "seen.json");
  writeProcesses(seen, path);
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(readProcesses(BOOT, path, OWNER)).toEqual(seen);
});

test("of another boot, it says nothing", () => {
  const path = join(directory, "seen.json");
  writeProcesses(seen, path);
  expect(readProcesses("0f14e45f-ceea-467f-a9d3-1a2b3c4d5e6f", path, OWNER)).toBeNull();
});

test("not believed: somebody else's, one that others can write, a link, none, another format", () => {
  const path = join(directory, "other.json");
  writeProcesses(seen, path);
  expect(readProcesses(BOOT, path, OWNER + 1)).toBeNull();
  const link = join(directory, "link.json");
  symlinkSync(path, link);
  expect(readProcesses(BOOT, link, OWNER)).toBeNull();
  chmodSync(path, 0o660);
  expect(readProcesses(BOOT, path, OWNER)).toBeNull();
  expect(readProcesses(BOOT, join(directory, "none"), OWNER)).toBeNull();
  writeFileSync(path, '{"schema_version":"1.0"}', { mode: 0o640 });
  chmodSync(path, 0o640);
  expect(readProcesses(BOOT, path, OWNER)).toBeNull();
});

const NOW = new Date("2026-11-30T20:20:00.000Z");
const recorded = (boot: string) => (boot === BOOT ? seen : null);

test("who sees all looks, and who doesn't takes what root last saw", () => {
  const all = runningProcesses(BOOT, NOW, { isRoot: true, look: () => ({ units: [], unseen: 0 }), recorded });
  expect(all).toEqual({ units: [], unseen: 0, seen_at: NOW.toISOString() });
  const look = () => ({ units: [], unseen: 5 });
  expect(runningProcesses(BOOT, NOW, { isRoot: true, look, recorded })).toEqual(seen);
  expect(runningProcesses(BOOT, NOW, { isRoot: false, look, recorded })).toEqual(seen);
  const none = { units: [], unseen: 5, seen_at: NOW.toISOString() };
  expect(runningProcesses("", NOW, { isRoot: false, look, recorded })).toEqual(none);
});
