import { readFileSync } from "node:fs";
import { join } from "node:path";
import { sha256Hex } from "../src/canonical.ts";
import type { Planning, PlanningOutput } from "../src/eco-planning.ts";
import { fakeRegistry } from "./registry-kit.ts";

const FIXTURES = join(import.meta.dir, "fixtures/apt");

/** A recording below test/fixtures/apt. */
export function fixture(name: string): string {
  return readFileSync(join(FIXTURES, name), "utf8");
}

/** Result of a command; the key is its argv joined with spaces. */
export interface Answer {
  stdout?: string;
  stderr?: string;
  status?: number | null;
  outcome?: PlanningOutput["evidence"]["outcome"];
}

export interface FakePlanning extends Planning {
  /** Every argv that was run, joined with spaces, with the configuration it was given. */
  calls: { command: string; config: string | undefined }[];
  temporaries: Map<string, string | Uint8Array>;
}

/** A host made of recorded answers and files. A command without an answer counts as a missing program. */
export function fakePlanning(setup: {
  answers?: Record<string, Answer> | ((command: string, config: string) => Answer | undefined);
  files?: Record<string, string>;
  now?: string;
  os?: string;
}): FakePlanning {
  const { answers = {}, files = {}, now = "2026-11-22T00:00:00Z", os = "debian" } = setup;
  const calls: FakePlanning["calls"] = [];
  const temporaries = new Map<string, string | Uint8Array>();
  const answer = typeof answers === "function" ? answers : (command: string) => answers[command];
  return {
    now: new Date(now),
    env: {},
    host: {
      hostname: "lab",
      machine_id_hash: "0".repeat(64),
      os_id: os,
      os_version: "12",
      architecture: "amd64",
    },
    calls,
    temporaries,
    run(argv, { settings }) {
      const command = argv.join(" ");
      const config = settings("/nonexistent").files?.["apt.conf"];
      calls.push({ command, config });
      const found = answer(command, config ?? "");
      const evidence: PlanningOutput["evidence"] = {
        argv: [...argv],
        status: found?.status ?? (found === undefined ? null : 0),
        outcome:
          found?.outcome ?? (found === undefined ? "missing" : (found.status ?? 0) === 0 ? "ok" : "failed"),
        stdout_sha256: null,
        stderr_sha256: null,
        stdout: null,
        stderr: null,
      };
      return Promise.resolve({ stdout: found?.stdout ?? "", stderr: found?.stderr ?? "", evidence });
    },
    ...fakeRegistry({}),
    readText: (path) => files[path] ?? null,
    list: (path) =>
      Object.keys(files)
        .filter((file) => file.startsWith(`${path}/`))
        .map((file) => file.slice(path.length + 1))
        .filter((file) => !file.includes("/"))
        .sort(),
    hasProgram: () => true,
    digestOf: (path) => {
      const text = files[path];
      return text === undefined ? null : { sha256: sha256Hex(text), size: text.length };
    },
    contentOf: () => Promise.resolve(null),
    temporary(name, data) {
      const path = `/private/${temporaries.size + 1}-${name}`;
      temporaries.set(path, data);
      return path;
    },
  };
}
